//! An object's bytes, wherever they are: all here, or fetched as they are read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::partial::Partial;
use super::{Error, ErrorKind, Result, demand};

/// An object that is read by ranges. Cheap to clone.
///
/// Reading what is not here yet waits for the store, on the thread that reads: not for threads that drive futures, unless
/// they are workers of a tokio runtime of several threads, which then hand their other futures on. [`super::on_behalf_of`] says who
/// waits.
#[derive(Clone, Debug)]
pub struct Object(Held);

#[derive(Clone, Debug)]
enum Held {
    Whole(Bytes),
    Partial(Arc<Partial>),
}

impl From<Bytes> for Object {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Whole(bytes))
    }
}

impl Object {
    pub(super) fn partial(partial: Arc<Partial>) -> Self {
        Self(Held::Partial(partial))
    }

    /// Its length.
    pub fn n_bytes(&self) -> u64 {
        match &self.0 {
            Held::Whole(bytes) => bytes.len() as u64,
            Held::Partial(partial) => partial.n_bytes(),
        }
    }

    /// All its bytes, if they were here from the start: then no read ever waits.
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Held::Whole(bytes) => Some(bytes),
            Held::Partial(_) => None,
        }
    }

    /// The bytes of a range, fetched if need be, without a copy.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.n_bytes() {
            let why = format!("it has {} bytes, not {} to {}", self.n_bytes(), range.start, range.end);
            return Err(Error::new(ErrorKind::Corrupt, "read", "an object", why));
        }
        match &self.0 {
            Held::Whole(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Held::Partial(partial) => partial.read(range),
        }
    }

    /// Fetches what is missing of some ranges, together: fewer requests than reading one after the other would take.
    pub fn want(&self, ranges: &[Range<u64>]) -> Result<()> {
        match &self.0 {
            Held::Whole(_) => Ok(()),
            Held::Partial(partial) => partial.want(ranges),
        }
    }

    /// What its bytes (up to its tail) must be: before this is known only the tail of an object that is partly here can be
    /// read. An error if they do not cover just that.
    pub fn check_with(&self, checksums: &Checksums) -> Result<()> {
        match &self.0 {
            Held::Whole(_) => Ok(()),
            Held::Partial(partial) => partial.check_with(checksums),
        }
    }
}

/// CRC32Cs of pieces of equal length (the last may be shorter) of the first `n_bytes` bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    chunk_bytes: u32,
    n_bytes: u64,
    crc32c: Arc<[u32]>,
}

impl Checksums {
    /// Those of all of `bytes`.
    pub fn of(bytes: &[u8], chunk_bytes: u32) -> Self {
        Self {
            chunk_bytes: chunk_bytes.max(1),
            n_bytes: bytes.len() as u64,
            crc32c: bytes.chunks(chunk_bytes.max(1) as usize).map(crc32c::crc32c).collect(),
        }
    }

    /// From what was kept of them; `None` if they are not as many as there are pieces.
    pub fn try_new(n_bytes: u64, chunk_bytes: u32, crc32c: Vec<u32>) -> Option<Self> {
        let n_chunks = n_bytes.checked_div(u64::from(chunk_bytes)).map(|_| n_bytes.div_ceil(u64::from(chunk_bytes)))?;
        (crc32c.len() as u64 == n_chunks).then(|| Self {
            chunk_bytes,
            n_bytes,
            crc32c: crc32c.into(),
        })
    }

    /// Bytes that they cover.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
    /// One for each piece.
    pub fn crc32c(&self) -> &[u32] {
        &self.crc32c
    }
    /// The first piece that is not what it should be; also if there are fewer bytes than there should be.
    pub fn first_wrong(&self, bytes: &[u8]) -> Option<usize> {
        let Some(covered) = bytes.get(..usize::try_from(self.n_bytes).unwrap_or(usize::MAX)) else {
            return Some(bytes.len() / self.chunk_bytes as usize);
        };
        covered
            .chunks(self.chunk_bytes as usize)
            .map(crc32c::crc32c)
            .zip(self.crc32c.iter())
            .position(|(found, expected)| found != *expected)
    }

    pub(super) fn n_chunks(&self) -> u32 {
        u32::try_from(self.crc32c.len()).unwrap_or(u32::MAX)
    }
    pub(super) fn chunk_bytes(&self) -> u64 {
        u64::from(self.chunk_bytes)
    }
    /// Where a piece lies.
    pub(super) fn range_of(&self, chunk: u32) -> Range<u64> {
        let start = u64::from(chunk) * self.chunk_bytes();
        start..(start + self.chunk_bytes()).min(self.n_bytes)
    }
    /// The pieces that a range (cut to what is covered) touches.
    pub(super) fn chunks_of(&self, range: &Range<u64>) -> Range<u32> {
        let end = range.end.min(self.n_bytes);
        if range.start >= end {
            return 0..0;
        }
        let number = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
        number(range.start / self.chunk_bytes())..number(end.div_ceil(self.chunk_bytes()))
    }
    pub(super) fn is_right(&self, chunk: u32, bytes: &[u8]) -> bool {
        self.crc32c.get(chunk as usize) == Some(&crc32c::crc32c(bytes))
    }
}

/// Notes the failure for whoever this thread works for, and gives it as an I/O error for the library that reads.
pub fn failed_read(error: Error) -> std::io::Error {
    let words = error.to_string();
    demand::has_failed(error);
    std::io::Error::other(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_what_they_say() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let sums = Checksums::of(&bytes, 300);
        assert_eq!((sums.n_chunks(), sums.range_of(3)), (4, 900..1_000));
        assert_eq!(sums.chunks_of(&(299..301)), 0..2);
        assert_eq!(sums.chunks_of(&(999..5_000)), 3..4);
        assert_eq!(sums.chunks_of(&(1_000..5_000)), 0..0);
        assert_eq!(sums.first_wrong(&bytes), None);
        let mut wrong = bytes.clone();
        wrong[600] ^= 1;
        assert_eq!(sums.first_wrong(&wrong), Some(2));
        assert_eq!(sums.first_wrong(&bytes[..700]), Some(2));
        assert_eq!(Checksums::try_new(1_000, 300, sums.crc32c().to_vec()), Some(sums.clone()));
        assert_eq!(Checksums::try_new(1_201, 300, sums.crc32c().to_vec()), None);
        assert_eq!(Checksums::try_new(1_000, 0, vec![]), None);
        assert_eq!(Checksums::of(&[], 300), Checksums::try_new(0, 300, vec![]).expect("nothing"));
    }
}
