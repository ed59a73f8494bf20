//! What was known of the names in a request's records when it came, kept in its frame.
//!
//! Which trace a request ID or a span ID belongs to is remembered from requests that came before, bounded, and forgotten with the
//! process ([`correlate::book`](crate::correlate::book)); a replay begins with nothing remembered, and requests that were taken side
//! by side come back one after the other. So that it makes the same rows all the same (a delete by trace ID, for one, is worked on
//! rows that came back), a frame holds what its records were told, as it holds [`super::rules`].
//!
//! Layout of such a frame: bit 6 of `flags` is set; the payload is the length of what was known (u32, little-endian), that
//! ([`Known::to_bytes`]), and what the payload would be without.

use bytes::Bytes;

use crate::correlate::link::Known;
use crate::wal::Frame;

/// Set in a frame's flags when what was known stands first.
const HAS_KNOWN: u8 = 0x40;

/// Puts what is known into a frame, as the last of all.
pub(super) fn write(frame: &mut Frame, known: &Known) {
    if known.is_empty() {
        return;
    }
    let known = known.to_bytes();
    let mut payload = Vec::with_capacity(4 + known.len() + frame.payload.len());
    payload.extend_from_slice(&(known.len() as u32).to_le_bytes());
    payload.extend_from_slice(&known);
    payload.extend_from_slice(&frame.payload);
    frame.flags |= HAS_KNOWN;
    frame.payload = payload.into();
}

/// Takes what was known out of a frame's flags and payload; gives these as they were before. `None` if it is damaged.
pub(super) fn take(flags: u8, payload: &Bytes) -> Option<(Known, u8, Bytes)> {
    if flags & HAS_KNOWN == 0 {
        return Some((Known::default(), flags, payload.clone()));
    }
    let length = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let end = length.checked_add(4).filter(|end| *end <= payload.len())?;
    let known = Known::from_bytes(&payload[4..end])?;
    Some((known, flags & !HAS_KNOWN, payload.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::book::Key;
    use crate::correlate::named::RequestId;
    use crate::model::{SpanId, TraceId};

    #[test]
    fn a_frame_gives_back_what_was_known_and_no_bytes_panic() {
        let frame = Frame {
            kind: 7,
            flags: 0x81,
            source: 0,
            received_at_nanos: 5,
            payload: Bytes::from_static(b"rules and body"),
        };
        let mut nothing = frame.clone();
        write(&mut nothing, &Known::default());
        assert_eq!((nothing.flags, &nothing.payload), (0x81, &frame.payload));
        assert_eq!(take(0x81, &nothing.payload), Some((Known::default(), 0x81, frame.payload.clone())));
        let trace = TraceId::from_bytes(&[3; 16]).expect("an ID");
        let keys = [
            Key::Request(RequestId::from_bytes([1; 16])),
            Key::Span(SpanId::from_bytes(&[2; 8]).expect("an ID")),
        ];
        let known = Known::new(keys.map(|key| (key, Some(trace))));
        let mut with = frame.clone();
        write(&mut with, &known);
        assert_eq!(with.flags, 0xc1);
        assert_eq!(take(with.flags, &with.payload), Some((known, 0x81, frame.payload.clone())));
        let damaged_before = 4 + 33 + 25;
        for end in 0..damaged_before {
            assert_eq!(take(with.flags, &with.payload.slice(..end)), None, "{end}");
        }
        assert_eq!(take(HAS_KNOWN, &Bytes::from_static(&[255; 8])), None);
        assert_eq!(take(HAS_KNOWN, &Bytes::from_static(&[1, 0, 0, 0, 9])), None, "a kind that there is not");
    }
}
