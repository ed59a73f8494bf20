//! The name that CloudWatch's clients know a log event by.
//!
//! It is made of what never changes about a row: its time, its `ingest_id`, and a digest of both with its group and stream. So
//! it is the same at every poll, in memory, in a block, after a merge and after a restart. Two nodes may give the same
//! `ingest_id`; that they do so for the same nanosecond of one stream is not to be expected.
//!
//! | form | is |
//! |---|---|
//! | [`Display`](std::fmt::Display) | 56 decimal digits: 20 of the time, 20 of the `ingest_id`, 16 of the digest; in order of time, then arrival |
//! | [`EventId::pointer`] | the same bytes in base64 without padding, 32 characters: `@ptr` of Logs Insights |

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::Xxh3;

/// Digests have 16 decimal digits.
const DIGESTS: u64 = 10_000_000_000_000_000;

/// Names one log event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Time of the event.
    pub time_unix_nano: i64,
    /// Of its row.
    pub ingest_id: i64,
    digest: u64,
}

impl EventId {
    /// The name of a row of a stream.
    pub fn new(time_unix_nano: i64, ingest_id: i64, log_group: &str, log_stream: &str) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&time_unix_nano.to_be_bytes());
        hash.update(&ingest_id.to_be_bytes());
        hash.update(log_group.as_bytes());
        hash.update(&[0]);
        hash.update(log_stream.as_bytes());
        Self {
            time_unix_nano,
            ingest_id,
            digest: hash.digest() % DIGESTS,
        }
    }

    /// Whether a lake gave it to an event of this stream.
    pub fn is_of(&self, log_group: &str, log_stream: &str) -> bool {
        *self == EventId::new(self.time_unix_nano, self.ingest_id, log_group, log_stream)
    }

    /// `@ptr`.
    pub fn pointer(&self) -> String {
        let mut bytes = [0u8; 24];
        bytes[..8].copy_from_slice(&ordered(self.time_unix_nano).to_be_bytes());
        bytes[8..16].copy_from_slice(&ordered(self.ingest_id).to_be_bytes());
        bytes[16..].copy_from_slice(&self.digest.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads either form; `None` for what is neither. Whether there is such an event is for the rows to say.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, ingest_id, digest) = match text.len() {
            56 if text.bytes().all(|b| b.is_ascii_digit()) => (text[..20].parse().ok()?, text[20..40].parse().ok()?, text[40..].parse().ok()?),
            32 => {
                let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
                let part = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
                (part(0)?, part(8)?, part(16)?)
            }
            _ => return None,
        };
        (digest < DIGESTS).then_some(Self {
            time_unix_nano: ordered_back(time),
            ingest_id: ordered_back(ingest_id),
            digest,
        })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}{:020}{:016}", ordered(self.time_unix_nano), ordered(self.ingest_id), self.digest)
    }
}

/// The same order without a sign.
fn ordered(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

fn ordered_back(value: u64) -> i64 {
    (value ^ (1 << 63)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_and_the_digits_sort_like_time_and_arrival() {
        let ids: Vec<EventId> = [
            (i64::MIN, 0),
            (-1, 5),
            (0, 0),
            (1_795_323_600_000_000_000, 7),
            (1_795_323_600_000_000_000, 8),
            (i64::MAX, i64::MAX),
        ]
        .map(|(time, id)| EventId::new(time, id, "g", "s"))
        .to_vec();
        let written: Vec<String> = ids.iter().map(EventId::to_string).collect();
        assert!(written.is_sorted() && written.iter().all(|text| text.len() == 56 && text.bytes().all(|b| b.is_ascii_digit())));
        for (id, text) in ids.iter().zip(&written) {
            assert_eq!(EventId::parse(text), Some(*id));
            assert_eq!(EventId::parse(&id.pointer()), Some(*id));
            assert_eq!(id.pointer().len(), 32);
        }
    }

    #[test]
    fn another_stream_gives_another_name_and_no_text_panics() {
        assert_ne!(EventId::new(1, 2, "g", "s"), EventId::new(1, 2, "g", "t"));
        assert_ne!(EventId::new(1, 2, "g", "s"), EventId::new(1, 2, "gs", ""));
        for bad in ["", "1", &"9".repeat(56), &"é".repeat(28), &"_".repeat(32), &"!".repeat(32), &"1".repeat(55)] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }
}
