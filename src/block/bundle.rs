//! The index object: tantivy's files and our own tables in one file.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `TLX1`, then the version (1) as u32 |
//! | … | the parts, one behind the other |
//! | … | the table of contents: JSON of [`Contents`] |
//! | 20 | its offset u64, its length u32, its CRC32C u32, `TLX1` |
//!
//! Numbers are little endian. Parts are tantivy's files, verbatim (without `.store`, in which nothing is stored), and
//!
//! | part | holds |
//! |---|---|
//! | `contexts` | zstd of JSON, one context an element |
//! | `seconds` | u32 each: see [`Seconds`] |
//! | `hot` | what opening reads of the parts that are not in the tail, copied: the contents say from where |
//! | `foot` | zstd of the end of the Parquet object: its offset index and footer |
//! | `chunks` | CRC32Cs, u32 each: of the chunks of the bundle up to its tail, then of those of the Parquet object |
//!
//! The parts that opening reads stand last: they, the table of contents and what follows it are the *tail*. One read of it
//! opens the bundle and tells all that is needed to read both objects by ranges; the catalog knows its length
//! ([`BlockMeta::index_tail_bytes`](super::BlockMeta::index_tail_bytes)). Bundles made before there were tails lack the last three
//! parts and [`Contents::tail`]: they are read whole. The version is the same, since neither disturbs the other's reader.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, OwnedBytes, WatchCallback, WatchHandle, WritePtr};
use tantivy_common::HasLen;

use super::{Error, Result};
use crate::model::Context;
use crate::model::schema::RESOURCE_COLUMNS;
use crate::storage::{Checksums, Object, failed_read};

pub(super) const MAGIC: &[u8; 4] = b"TLX1";
pub(super) const VERSION: u32 = 1;
const TRAILER_BYTES: usize = 20;
/// An end of a Parquet object is no larger than this; a bundle that says otherwise is damaged.
const MAX_FOOT_BYTES: u64 = 1 << 30;
/// Contexts of one block take no more than this as JSON; a bundle that says otherwise is damaged.
const MAX_CONTEXTS_BYTES: u64 = 1 << 30;
/// Blocks that span more seconds have no [`Seconds`] table; an hour needs 3,601.
const MAX_SECONDS: i64 = 200_000;

/// What a bundle is of, and what is in it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Contents {
    /// Rows, equal to those of the Parquet file.
    pub n_rows: u64,
    /// First event time in them.
    pub min_time_nanos: i64,
    /// Last event time in them.
    pub max_time_nanos: i64,
    /// Tokenizer of the terms.
    pub tokenizer_version: u32,
    /// Length of the contexts before compression.
    pub contexts_bytes: u64,
    pub parts: Vec<Part>,
    /// What reading by ranges needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Part {
    pub name: String,
    pub offset: u64,
    pub length: u64,
    pub crc32c: u32,
}

/// The tail of a bundle.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Tail {
    /// Where it begins.
    pub start: u64,
    /// Length of a chunk.
    pub chunk_bytes: u32,
    /// Length of the Parquet object.
    pub parquet_bytes: u64,
    /// Length of the end of the Parquet object that the bundle holds, before compression.
    pub foot_bytes: u64,
    pub hot: Vec<Hot>,
}

/// A copy in the part `hot`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Hot {
    /// The part it is of.
    pub part: String,
    /// Where it begins in that part.
    pub start: u64,
    pub length: u64,
    /// Where it begins in `hot`.
    pub at: u64,
}

/// The row at each second of a block that is sorted newest first.
///
/// `starts[i]` rows have a time at or after second `first_second + i`; so the rows within that second are
/// `starts[i + 1] .. starts[i]`. Empty for blocks that span too much.
#[derive(Clone, Debug, Default)]
pub(super) struct Seconds {
    first_second: i64,
    starts: Vec<u32>,
}

pub(super) const SECOND: i64 = 1_000_000_000;

impl Seconds {
    /// From the times of all rows, newest first, and how many rows have each.
    pub(super) fn new(times: impl Iterator<Item = (i64, u32)>, min_nanos: i64, max_nanos: i64) -> Self {
        let (first_second, last_second) = (min_nanos.div_euclid(SECOND), max_nanos.div_euclid(SECOND));
        if last_second - first_second >= MAX_SECONDS {
            return Self::default();
        }
        let mut starts = vec![0u32; (last_second - first_second + 2) as usize];
        for (time, n_rows) in times {
            let index = (time.div_euclid(SECOND) - first_second) as usize;
            if let Some(count) = starts.get_mut(index) {
                *count += n_rows;
            }
        }
        // counts a second become counts from a second on
        for i in (0..starts.len() - 1).rev() {
            starts[i] += starts[i + 1];
        }
        Self { first_second, starts }
    }

    /// Rows within which the first row older than `nanos` lies (or right behind which, if all in it are younger).
    pub(super) fn around(&self, nanos: i64, n_rows: u32) -> Range<u32> {
        if self.starts.is_empty() {
            return 0..n_rows;
        }
        let second = nanos.div_euclid(SECOND);
        let at = |second: i64| -> u32 {
            match usize::try_from(second.saturating_sub(self.first_second)) {
                Ok(index) => self.starts.get(index).copied().unwrap_or(0),
                Err(_) => n_rows,
            }
        };
        let behind = at(second);
        if nanos.rem_euclid(SECOND) == 0 {
            return behind..behind;
        }
        at(second.saturating_add(1))..behind
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.first_second.to_le_bytes().to_vec();
        self.starts.iter().for_each(|start| out.extend_from_slice(&start.to_le_bytes()));
        out
    }

    fn from_bytes(bytes: &[u8], n_rows: u64) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (starts, []) = rest.as_chunks::<4>() else { return None };
        let starts: Vec<u32> = starts.iter().map(|start| u32::from_le_bytes(*start)).collect();
        let falls = starts.is_sorted_by(|a, b| a >= b) && starts.first().is_none_or(|first| u64::from(*first) == n_rows);
        falls.then_some(Self {
            first_second: i64::from_le_bytes(*first),
            starts,
        })
    }
}

pub(super) fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// Reads of parts, by the part's name, while they are recorded.
pub(super) type Recorded = Arc<Mutex<HashMap<PathBuf, Vec<Range<u64>>>>>;

/// A bundle's bytes as a read-only directory.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    data: Object,
    /// The same, where all of it is here.
    whole: Option<OwnedBytes>,
    contents: Arc<Contents>,
    files: Arc<HashMap<PathBuf, Range<u64>>>,
    recorded: Option<Recorded>,
}

/// `Bytes`, promised to stay where they are.
pub(super) struct Pinned(pub(super) Bytes);

impl std::ops::Deref for Pinned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[expect(unsafe_code, reason = "tantivy takes bytes only from owners with this marker, and Bytes lacks it")]
// SAFETY: the bytes behind a `Bytes` are on the heap, static, or in an owner that is boxed: moving the handle never moves
// them, and `Pinned` gives out no mutable access.
unsafe impl tantivy_common::StableDeref for Pinned {}

/// A file of a bundle that need not be here, as tantivy reads it.
#[derive(Debug)]
struct File {
    data: Object,
    /// Where it lies.
    range: Range<u64>,
    /// Ranges of it, and where copies of them lie in the tail.
    hot: Vec<(Range<u64>, u64)>,
    /// Where to note what is read, and its name.
    recorded: Option<(Recorded, PathBuf)>,
}

impl HasLen for File {
    fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }
}

impl FileHandle for File {
    fn read_bytes(&self, range: Range<usize>) -> std::io::Result<OwnedBytes> {
        let range = range.start as u64..range.end as u64;
        if range.is_empty() {
            return Ok(OwnedBytes::empty());
        }
        if let Some((recorded, name)) = &self.recorded {
            recorded.lock().entry(name.clone()).or_default().push(range.clone());
        }
        if range.end > self.range.end - self.range.start {
            return Err(std::io::Error::other("a read behind the end of a part"));
        }
        let copy = self.hot.iter().find(|(hot, _)| hot.start <= range.start && range.end <= hot.end);
        let start = match copy {
            Some((hot, at)) => at + (range.start - hot.start),
            None => self.range.start + range.start,
        };
        let bytes = self.data.read(start..start + (range.end - range.start)).map_err(failed_read)?;
        Ok(OwnedBytes::new(Pinned(bytes)))
    }
}

impl Bundle {
    /// Reads the table of contents and checks the parts that opening needs. Of a bundle that is only partly here, this reads the
    /// tail alone, and tells it what the rest must be.
    pub(super) fn open(data: Object) -> Result<Self> {
        let n = data.n_bytes();
        if n < 8 + TRAILER_BYTES as u64 {
            return Err(Error::index("not a bundle"));
        }
        let trailer_at = n - TRAILER_BYTES as u64;
        let trailer = data.read(trailer_at..n).map_err(Error::index)?;
        let number = |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        if &trailer[TRAILER_BYTES - 4..] != MAGIC {
            return Err(Error::index("not a bundle"));
        }
        let offset = u64::from(number(0)) | (u64::from(number(4)) << 32);
        let (length, crc) = (u64::from(number(8)), number(12));
        if offset.checked_add(length) != Some(trailer_at) {
            return Err(Error::index("the table of contents is not where the trailer says"));
        }
        let table = data.read(offset..trailer_at).map_err(Error::index)?;
        if crc32c::crc32c(&table) != crc {
            return Err(Error::index("the table of contents has a wrong checksum"));
        }
        let contents: Contents = serde_json::from_slice(&table).map_err(Error::index)?;
        let is_off = |tail: &Tail| tail.start > offset || tail.foot_bytes > tail.parquet_bytes.min(MAX_FOOT_BYTES);
        if contents.tail.as_ref().is_some_and(is_off) {
            return Err(Error::index("its tail is not where it says"));
        }
        let bundle = Self::of_parts(data, contents, offset)?;
        for part in &bundle.contents.parts {
            if !["pos", "idx", "term"].contains(&extension(Path::new(&part.name))) {
                bundle.check(part)?;
            }
        }
        if let Some((own, _)) = bundle.checksums()? {
            bundle.data.check_with(&own).map_err(Error::index)?;
        }
        // of a bundle that is partly here, the head is a chunk like any other
        let version = match bundle.data.whole() {
            Some(bytes) if &bytes[..4] == MAGIC => u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            Some(_) => return Err(Error::index("not a bundle")),
            None => VERSION,
        };
        if version != VERSION {
            return Err(Error::index(format!("version {version} is not known here")));
        }
        Ok(bundle)
    }

    /// A bundle of known contents, whose parts end before `end`.
    pub(super) fn of_parts(data: Object, contents: Contents, end: u64) -> Result<Self> {
        let mut files = HashMap::new();
        for part in &contents.parts {
            let part_end = part.offset.checked_add(part.length).filter(|part_end| *part_end <= end);
            let Some(part_end) = part_end else {
                return Err(Error::index(format!("part {} ends beyond the file", part.name)));
            };
            files.insert(PathBuf::from(&part.name), part.offset..part_end);
        }
        Ok(Self {
            whole: data.whole().map(|bytes| OwnedBytes::new(Pinned(bytes.clone()))),
            data,
            contents: Arc::new(contents),
            files: Arc::new(files),
            recorded: None,
        })
    }

    /// The same, which notes what is read of its parts.
    pub(super) fn recording(mut self, recorded: &Recorded) -> Self {
        self.whole = None;
        self.recorded = Some(recorded.clone());
        self
    }

    fn check(&self, part: &Part) -> Result<()> {
        if crc32c::crc32c(&self.part(&part.name)?) != part.crc32c {
            return Err(Error::index(format!("part {} has a wrong checksum", part.name)));
        }
        Ok(())
    }

    /// Checksums of the bundle up to its tail, and of the Parquet object; `None` of a bundle without them.
    pub(super) fn checksums(&self) -> Result<Option<(Checksums, Checksums)>> {
        let Some(tail) = &self.contents.tail else { return Ok(None) };
        let wrong = || Error::index("its checksums are not as many as there are chunks");
        let bytes = self.part("chunks")?;
        let (words, []) = bytes.as_chunks::<4>() else { return Err(wrong()) };
        let mut own: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let n_own = tail
            .start
            .checked_div(u64::from(tail.chunk_bytes))
            .map(|_| tail.start.div_ceil(u64::from(tail.chunk_bytes)));
        let n_own = n_own.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= own.len()).ok_or_else(wrong)?;
        let of_parquet = own.split_off(n_own);
        let own = Checksums::try_new(tail.start, tail.chunk_bytes, own).ok_or_else(wrong)?;
        let of_parquet = Checksums::try_new(tail.parquet_bytes, tail.chunk_bytes, of_parquet).ok_or_else(wrong)?;
        Ok(Some((own, of_parquet)))
    }

    /// The end of the Parquet object, if the bundle holds it.
    pub(super) fn foot(&self) -> Result<Option<Bytes>> {
        let Some(tail) = self.contents.tail.as_ref().filter(|tail| tail.foot_bytes > 0) else {
            return Ok(None);
        };
        let foot = zstd::bulk::decompress(&self.part("foot")?, tail.foot_bytes as usize).map_err(Error::index)?;
        Ok((foot.len() as u64 == tail.foot_bytes).then(|| foot.into()))
    }

    /// What is wrong with the tail, as far as both objects, whole, can tell.
    pub(super) fn flaws_of_tail(&self, index: &[u8], parquet: &[u8], tail_bytes: u64) -> Result<Vec<String>> {
        let mut flaws = Vec::new();
        let Some(tail) = &self.contents.tail else {
            if tail_bytes > 0 {
                flaws.push("index: it has no tail, the catalog says it has".into());
            }
            return Ok(flaws);
        };
        if tail_bytes != index.len() as u64 - tail.start {
            flaws.push(format!(
                "index: its tail is {} bytes, the catalog says {tail_bytes}",
                index.len() as u64 - tail.start
            ));
        }
        if let Some((own, of_parquet)) = self.checksums()? {
            if own.first_wrong(index).is_some() {
                flaws.push("index: a chunk is not what its checksum says".into());
            }
            if of_parquet.n_bytes() != parquet.len() as u64 || of_parquet.first_wrong(parquet).is_some() {
                flaws.push("index: its checksums are of another Parquet object".into());
            }
        }
        if self.foot()?.is_some_and(|foot| !parquet.ends_with(&foot)) {
            flaws.push("index: it holds the end of another Parquet object".into());
        }
        let copies = self.part("hot")?;
        for hot in &tail.hot {
            let part = self.part(&hot.part)?;
            let of = |bytes: &Bytes, start: u64| bytes.get(start as usize..start.saturating_add(hot.length) as usize).map(<[u8]>::to_vec);
            if of(&copies, hot.at).is_none_or(|copy| of(&part, hot.start).is_none_or(|original| copy != original)) {
                flaws.push(format!("index: its copy of a range of {} is another", hot.part));
            }
        }
        Ok(flaws)
    }

    /// What it says of itself.
    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Reads the contexts.
    pub(super) fn contexts(&self) -> Result<Vec<Arc<Context>>> {
        if self.contents.contexts_bytes > MAX_CONTEXTS_BYTES {
            return Err(Error::index("its contexts are too many"));
        }
        let packed = self.part("contexts")?;
        let json = zstd::bulk::decompress(&packed, self.contents.contexts_bytes as usize).map_err(Error::index)?;
        let mut values: Vec<serde_json::Value> = serde_json::from_slice(&json).map_err(Error::index)?;
        values
            .iter_mut()
            .map(|value| {
                // a context written before a column was added ends before it
                if let Some(columns) = value.get_mut("columns").and_then(serde_json::Value::as_array_mut) {
                    columns.resize(RESOURCE_COLUMNS.len(), serde_json::Value::Null);
                }
                let context: Context = serde_json::from_value(value.take()).map_err(Error::index)?;
                Ok(Arc::new(context.rehashed()))
            })
            .collect()
    }

    /// Reads the row at each second.
    pub(super) fn seconds(&self) -> Result<Seconds> {
        Seconds::from_bytes(&self.part("seconds")?, self.contents.n_rows).ok_or_else(|| Error::index("its seconds are not in order"))
    }

    fn part(&self, name: &str) -> Result<Bytes> {
        let range = self.files.get(Path::new(name)).cloned();
        let range = range.ok_or_else(|| Error::index(format!("part {name} is missing")))?;
        self.data.read(range).map_err(Error::index)
    }

    fn find(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let found = self.files.get_key_value(path).or_else(|| {
            // nobody reads the store, but tantivy looks at the footer of its file: any other file's will do
            (extension(path) == "store")
                .then(|| self.files.get_key_value(&path.with_extension("fast")))
                .flatten()
        });
        let (name, range) = found.ok_or_else(|| OpenReadError::FileDoesNotExist(path.into()))?;
        if let Some(whole) = &self.whole {
            return Ok(Arc::new(whole.slice(range.start as usize..range.end as usize)));
        }
        let copies_at = self.files.get(Path::new("hot")).map_or(0, |hot| hot.start);
        let tail = self.contents.tail.iter().flat_map(|tail| &tail.hot);
        let of_it = tail.filter(|hot| Path::new(&hot.part) == name);
        Ok(Arc::new(File {
            data: self.data.clone(),
            range: range.clone(),
            hot: of_it.map(|hot| (hot.start..hot.start.saturating_add(hot.length), copies_at + hot.at)).collect(),
            recorded: self.recorded.clone().map(|recorded| (recorded, name.clone())),
        }))
    }
}

/// The parts of an index object and the bytes of each: `pos` positions, `idx` postings, `term` terms, and small ones.
pub fn index_parts(index: &Bytes) -> Result<Vec<(String, u64)>> {
    let bundle = Bundle::open(index.clone().into())?;
    let name = |part: &Part| match extension(Path::new(&part.name)) {
        "" => part.name.clone(),
        extension => extension.to_string(),
    };
    Ok(bundle.contents.parts.iter().map(|part| (name(part), part.length)).collect())
}

fn read_only() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "a block never changes")
}

impl Directory for Bundle {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.find(path)
    }
    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError {
            io_error: Arc::new(read_only()),
            filepath: path.into(),
        })
    }
    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.files.contains_key(path))
    }
    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(read_only(), path.into()))
    }
    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let file = self.find(path)?;
        let bytes = file
            .read_bytes(0..file.len())
            .map_err(|error| OpenReadError::wrap_io_error(error, path.into()))?;
        Ok(bytes.as_slice().to_vec())
    }
    fn atomic_write(&self, _: &Path, _: &[u8]) -> std::io::Result<()> {
        Err(read_only())
    }
    fn sync_directory(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }
    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn seconds_lead_to_the_first_older_row(mut times in proptest::collection::vec(-5 * SECOND..5 * SECOND, 1..50), probe in -7 * SECOND..7 * SECOND) {
            times.sort_unstable_by(|a, b| b.cmp(a));
            let n = times.len() as u32;
            let seconds = Seconds::new(times.iter().map(|time| (*time, 1)), times[times.len() - 1], times[0]);
            let seconds = Seconds::from_bytes(&seconds.to_bytes(), u64::from(n)).expect("what was written");
            for probe in [probe, probe.div_euclid(SECOND) * SECOND] {
                let expected = times.partition_point(|t| *t >= probe) as u32;
                let found = seconds.around(probe, n);
                assert!(found.start <= expected && expected <= found.end, "{found:?} has not {expected}");
                if probe.rem_euclid(SECOND) == 0 {
                    assert_eq!(found, expected..expected);
                }
            }
        }
    }
}
