//! The bytes of a segment file, version 1. Integers are little-endian; every frame starts at a multiple of 8.
//!
//! A file is called `<first LSN, 20 digits>.wal`; `*.spare` are files made ahead and hold nothing.
//!
//! Header, 64 bytes:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `TLAKEWAL` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | CRC32C of bytes 16..64 |
//! | 16 | 8 | LSN of the first frame |
//! | 24 | 8 | node |
//! | 32 | 1 | 1 if the file was used before, so that old bytes may follow the last frame; else zeros do |
//! | 33 | 31 | zero |
//!
//! Frames, back to back:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | length of the payload, n |
//! | 4 | 4 | CRC32C of bytes 8..32+n |
//! | 8 | 8 | LSN, one more than that of the frame before |
//! | 16 | 1 | kind |
//! | 17 | 1 | flags |
//! | 18 | 2 | source |
//! | 20 | 4 | zero |
//! | 24 | 8 | received at, nanoseconds since the epoch |
//! | 32 | n | payload |
//! | 32+n | 0–7 | zeros up to the next multiple of 8 |
//!
//! The frames end where the next bytes are not a whole frame with the next LSN: LSNs only grow, so what an earlier use of
//! the file left behind cannot be taken for one. A segment holds no LSN at or above the first of the segment after it;
//! such frames belong to a group that failed here and was written again there.

use std::path::Path;

use super::{Frame, Lsn};

/// What a segment begins with.
pub const MAGIC: [u8; 8] = *b"TLAKEWAL";
/// The version written and read here.
pub const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 32;
/// How the name of a segment ends.
pub(super) const SEGMENT_SUFFIX: &str = ".wal";
/// How the name of a file made ahead ends.
pub(super) const SPARE_SUFFIX: &str = ".spare";

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u32,
    /// LSN of the first frame.
    pub first_lsn: Lsn,
    /// The node that wrote it.
    pub node: u64,
    /// Old bytes may follow the last frame.
    pub reused: bool,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.node.to_le_bytes());
        bytes[32] = u8::from(self.reused);
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if the bytes are no whole header of any version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let whole = bytes[..8] == MAGIC && u32_at(bytes, 12)? == crc32c::crc32c(&bytes[16..]);
        whole.then_some(Self {
            version: u32_at(bytes, 8)?,
            first_lsn: u64_at(bytes, 16)?,
            node: u64_at(bytes, 24)?,
            reused: bytes[32] != 0,
        })
    }
}

/// Name of the segment whose first frame is `first_lsn`.
pub(super) fn file_name(first_lsn: Lsn) -> String {
    format!("{first_lsn:020}{SEGMENT_SUFFIX}")
}

/// First LSN of the segment of this name; None if it is not a segment's name.
pub(super) fn first_lsn_of(path: &Path) -> Option<Lsn> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SEGMENT_SUFFIX)?;
    let is_ours = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    // 0 is before the first frame; the upper half cannot be reached and would overflow sums
    digits.parse().ok().filter(|lsn| is_ours && (1..=Lsn::MAX / 2).contains(lsn))
}

/// Bytes that a frame of this payload takes in a segment.
pub(super) fn frame_bytes(payload_bytes: usize) -> u64 {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(8) as u64
}

/// Puts a frame at the end of `out`. The payload is at most `MAX_PAYLOAD_BYTES`, which `append` has checked.
pub(super) fn encode_frame(lsn: Lsn, frame: &Frame, out: &mut Vec<u8>) {
    let start = out.len();
    let payload_bytes = u32::try_from(frame.payload.len()).expect("append refuses payloads above 128 MiB");
    out.extend_from_slice(&payload_bytes.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(&[frame.kind, frame.flags]);
    out.extend_from_slice(&frame.source.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&frame.received_at_nanos.to_le_bytes());
    out.extend_from_slice(&frame.payload);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
}

/// A whole frame as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameAt<'a> {
    pub lsn: Lsn,
    pub kind: u8,
    pub flags: u8,
    pub source: u16,
    pub received_at_nanos: i64,
    pub payload: &'a [u8],
    /// Where the next frame starts.
    pub end: usize,
}

/// Reads the frame at `at`; None if there is none that is whole.
pub(super) fn frame_at(bytes: &[u8], at: usize) -> Option<FrameAt<'_>> {
    let rest = bytes.get(at..)?;
    let payload_bytes = u32_at(rest, 0)? as usize;
    let checked = rest.get(8..)?.get(..FRAME_HEADER_BYTES - 8 + payload_bytes)?;
    let lsn = u64_at(rest, 8)?;
    if lsn == 0 || crc32c::crc32c(checked) != u32_at(rest, 4)? {
        return None;
    }
    Some(FrameAt {
        lsn,
        kind: rest[16],
        flags: rest[17],
        source: u16::from_le_bytes([rest[18], rest[19]]),
        received_at_nanos: u64_at(rest, 24)?.cast_signed(),
        payload: &rest[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes],
        // the file may end inside the last frame's padding
        end: bytes.len().min(at + (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(8)),
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_comes_back_and_any_changed_byte_is_noticed() {
        let header = Header {
            version: VERSION,
            first_lsn: 77,
            node: 5,
            reused: true,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for at in (0..8).chain(12..HEADER_BYTES) {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Header::decode(&changed), None, "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[..63]), None);
    }

    #[test]
    fn names_sort_as_numbers_and_foreign_names_are_not_ours() {
        assert_eq!(first_lsn_of(Path::new("x").join(file_name(12)).as_path()), Some(12));
        assert!(file_name(9) < file_name(10));
        for name in ["12.wal", "+0000000000000000012.wal", "lock", "00000000000000000012.spare"] {
            assert_eq!(first_lsn_of(Path::new(name)), None);
        }
    }

    proptest! {
        #[test]
        fn frames_come_back(payload in prop::collection::vec(any::<u8>(), 0..200), kind: u8, flags: u8, source: u16, at: i64, lsn in 1u64..) {
            let frame = Frame { kind, flags, source, received_at_nanos: at, payload: Bytes::from(payload.clone()) };
            let mut bytes = vec![0; 8];
            encode_frame(lsn, &frame, &mut bytes);
            let read = frame_at(&bytes, 8).unwrap();
            prop_assert_eq!(read.end as u64, 8 + frame_bytes(payload.len()));
            prop_assert_eq!((read.lsn, read.kind, read.flags, read.source, read.received_at_nanos), (lsn, kind, flags, source, at));
            prop_assert_eq!(read.payload, payload);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..250) {
            let _ = frame_at(&bytes, at);
            let _ = Header::decode(&bytes);
        }
    }
}
