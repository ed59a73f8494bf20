//! Rules that add rows to requests, and change over time: metric filters.
//!
//! What a request's bytes become is pure ([`crate::decode`]), and a replay rests on that. Rules are not part of those bytes, and may
//! be others by the time of the replay. So the log keeps, in the frame of each request that any rule is for, the rules as they were:
//! what is made of a frame depends on that frame alone, and a replay after `kill -9` makes the same rows, with the same ingest IDs,
//! once. (A number of a version instead would need every version that a frame may still name, kept in step with the cut of the log;
//! rows made before the append would have to be kept beside the body, in a second form.) A rule takes a few hundred bytes.
//!
//! Layout of such a frame: bit 7 of `flags` is set; the payload is the length of the rules (u32, little-endian), the rules, the body.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::decode::Decoded;
use crate::model::Batch;
use crate::wal::Frame;

/// Set in a frame's flags when rules stand before the body; the bits below are the body's encoding.
const HAS_RULES: u8 = 0x80;

/// The rules of now, and those of earlier.
pub trait RuleBook: Send + Sync + Debug {
    /// Those that are for these rows; `None` when there are none.
    fn in_effect(&self, batch: &Batch) -> Option<Arc<dyn Rules>>;
    /// Reads [`Rules::bytes`] back, however old. The error is for our own log.
    fn read(&self, bytes: &[u8]) -> Result<Arc<dyn Rules>, String>;
}

/// Rules as they are at one time.
pub trait Rules: Send + Sync + Debug {
    /// All that they say.
    fn bytes(&self) -> &Bytes;
    /// Adds what they make of a request's rows, in which trace IDs have been found. Pure: the same rules make the same of the same rows.
    fn apply(&self, decoded: Decoded) -> Decoded;
}

/// No rules at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRules;

impl RuleBook for NoRules {
    fn in_effect(&self, _batch: &Batch) -> Option<Arc<dyn Rules>> {
        None
    }
    fn read(&self, _bytes: &[u8]) -> Result<Arc<dyn Rules>, String> {
        Err("this server knows no rules".into())
    }
}

/// Puts rules into a frame.
pub(super) fn write(frame: &mut Frame, rules: &dyn Rules) {
    let rules = rules.bytes();
    let mut payload = Vec::with_capacity(4 + rules.len() + frame.payload.len());
    payload.extend_from_slice(&(rules.len() as u32).to_le_bytes());
    payload.extend_from_slice(rules);
    payload.extend_from_slice(&frame.payload);
    frame.flags |= HAS_RULES;
    frame.payload = payload.into();
}

/// What a frame's flags and payload hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The rules' bytes, if there are any.
    pub(super) rules: Option<Bytes>,
    /// The number of the body's encoding.
    pub(super) encoding: u8,
    /// The body.
    pub(super) body: Bytes,
}

/// Takes a frame of a request apart; `None` if it is damaged.
pub(super) fn parts(flags: u8, payload: &Bytes) -> Option<Parts> {
    let encoding = flags & !HAS_RULES;
    if flags == encoding {
        return Some(Parts {
            rules: None,
            encoding,
            body: payload.clone(),
        });
    }
    let length = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let end = length.checked_add(4).filter(|end| *end <= payload.len())?;
    Some(Parts {
        rules: Some(payload.slice(4..end)),
        encoding,
        body: payload.slice(end..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Some3(Bytes);

    impl Rules for Some3 {
        fn bytes(&self) -> &Bytes {
            &self.0
        }
        fn apply(&self, decoded: Decoded) -> Decoded {
            decoded
        }
    }

    #[test]
    fn a_frame_gives_its_rules_and_its_body_back_and_no_bytes_panic() {
        let mut frame = Frame {
            kind: 7,
            flags: 1,
            source: 0,
            received_at_nanos: 5,
            payload: Bytes::from_static(b"body"),
        };
        let without = parts(frame.flags, &frame.payload).expect("whole");
        assert_eq!((without.rules, without.encoding, &without.body[..]), (None, 1, &b"body"[..]));
        write(&mut frame, &Some3(Bytes::from_static(b"abc")));
        let with = parts(frame.flags, &frame.payload).expect("whole");
        assert_eq!((with.rules.as_deref(), with.encoding, &with.body[..]), (Some(&b"abc"[..]), 1, &b"body"[..]));
        for end in 0..7 {
            assert_eq!(parts(frame.flags, &frame.payload.slice(..end)), None, "{end}");
        }
        assert_eq!(parts(HAS_RULES, &Bytes::from_static(&[255; 8])), None);
    }
}
