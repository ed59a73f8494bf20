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
//! `contexts` (zstd of JSON, one context an element) and `seconds` (u32 each: see [`Seconds`]). The parts that opening
//! reads stand last, so that one read of the tail opens a bundle.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, OwnedBytes, RamDirectory, WatchCallback, WatchHandle, WritePtr};
use tantivy::{Directory, Index};

use super::{Error, Result};
use crate::model::schema::RESOURCE_COLUMNS;
use crate::model::{Context, TimeRange};

const MAGIC: &[u8; 4] = b"TLX1";
const VERSION: u32 = 1;
const TRAILER_BYTES: usize = 20;
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
    parts: Vec<Part>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Part {
    name: String,
    offset: u64,
    length: u64,
    crc32c: u32,
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

const SECOND: i64 = 1_000_000_000;

impl Seconds {
    /// From the times of all rows, newest first.
    pub(super) fn new(times: impl ExactSizeIterator<Item = i64>, min_nanos: i64, max_nanos: i64) -> Self {
        let (first_second, last_second) = (min_nanos.div_euclid(SECOND), max_nanos.div_euclid(SECOND));
        if last_second - first_second >= MAX_SECONDS {
            return Self::default();
        }
        let mut starts = vec![0u32; (last_second - first_second + 2) as usize];
        for time in times {
            let index = (time.div_euclid(SECOND) - first_second) as usize;
            if let Some(count) = starts.get_mut(index) {
                *count += 1;
            }
        }
        // counts a second become counts from a second on
        for i in (0..starts.len() - 1).rev() {
            starts[i] += starts[i + 1];
        }
        Self { first_second, starts }
    }

    /// Rows within which the first row older than `nanos` lies (or right behind which, if all in it are younger).
    pub(super) fn around(&self, nanos: i64, n_rows: u32) -> std::ops::Range<u32> {
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

    fn to_bytes(&self) -> Vec<u8> {
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

/// What a bundle is made of besides tantivy's files.
pub(super) struct Own<'a> {
    pub n_rows: u64,
    pub times: TimeRange,
    pub contexts: &'a [Arc<Context>],
    pub seconds: &'a Seconds,
}

/// Packs an index that was written to `raw`. `own.times` is (first, last), both inclusive.
pub(super) fn pack(index: &Index, raw: &RamDirectory, own: &Own<'_>) -> Result<Bytes> {
    let mut names: Vec<PathBuf> = index.directory().list_managed_files().into_iter().collect();
    names.push(PathBuf::from("meta.json"));
    names.sort();
    names.dedup();
    names.retain(|name| extension(name) != "store");
    names.sort_by_key(|name| match extension(name) {
        "pos" => 0,
        "idx" => 1,
        "term" => 2,
        _ => 3,
    });
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let mut parts = Vec::new();
    let mut part = |out: &mut Vec<u8>, name: String, bytes: &[u8]| {
        parts.push(Part {
            name,
            offset: out.len() as u64,
            length: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        });
        out.extend_from_slice(bytes);
    };
    for name in names {
        let text = name.to_string_lossy().into_owned();
        // through the index' own directory the footers that opening checks would be missing
        if extension(&name) == "json" {
            part(&mut out, text, &index.directory().atomic_read(&name).map_err(Error::index)?);
        } else if let Ok(handle) = raw.get_file_handle(&name) {
            part(&mut out, text, &handle.read_bytes(0..handle.len()).map_err(Error::index)?);
        }
    }
    let contexts: Vec<&Context> = own.contexts.iter().map(AsRef::as_ref).collect();
    let json = serde_json::to_vec(&contexts).map_err(Error::index)?;
    part(&mut out, "contexts".into(), &zstd::bulk::compress(&json, 3).map_err(Error::index)?);
    part(&mut out, "seconds".into(), &own.seconds.to_bytes());
    let contents = Contents {
        n_rows: own.n_rows,
        min_time_nanos: own.times.start_nanos,
        max_time_nanos: own.times.end_nanos,
        tokenizer_version: super::tokenizer::VERSION,
        contexts_bytes: json.len() as u64,
        parts,
    };
    let table = serde_json::to_vec(&contents).map_err(Error::index)?;
    let offset = out.len() as u64;
    out.extend_from_slice(&table);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
    out.extend_from_slice(MAGIC);
    Ok(out.into())
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// A bundle's bytes as a read-only directory.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    data: OwnedBytes,
    contents: Arc<Contents>,
    files: Arc<HashMap<PathBuf, std::ops::Range<usize>>>,
}

/// `Bytes`, promised to stay where they are.
struct Pinned(Bytes);

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

impl Bundle {
    /// Reads the table of contents and checks the parts that opening needs.
    pub(super) fn open(data: Bytes) -> Result<Self> {
        let n = data.len();
        if n < 8 + TRAILER_BYTES || &data[..4] != MAGIC || &data[n - 4..] != MAGIC {
            return Err(Error::index("not a bundle"));
        }
        let number = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        let version = number(4);
        if version != VERSION {
            return Err(Error::index(format!("version {version} is not known here")));
        }
        let trailer = n - TRAILER_BYTES;
        let offset = u64::from(number(trailer)) | (u64::from(number(trailer + 4)) << 32);
        let (length, crc) = (u64::from(number(trailer + 8)), number(trailer + 12));
        if offset.checked_add(length) != Some(trailer as u64) {
            return Err(Error::index("the table of contents is not where the trailer says"));
        }
        let table = &data[offset as usize..trailer];
        if crc32c::crc32c(table) != crc {
            return Err(Error::index("the table of contents has a wrong checksum"));
        }
        let contents: Contents = serde_json::from_slice(table).map_err(Error::index)?;
        let mut files = HashMap::new();
        for part in &contents.parts {
            let end = part.offset.checked_add(part.length).filter(|end| *end <= offset);
            let Some(end) = end else {
                return Err(Error::index(format!("part {} ends beyond the file", part.name)));
            };
            files.insert(PathBuf::from(&part.name), part.offset as usize..end as usize);
        }
        let bundle = Self {
            data: OwnedBytes::new(Pinned(data)),
            contents: Arc::new(contents),
            files: Arc::new(files),
        };
        for part in &bundle.contents.parts {
            if !["pos", "idx", "term"].contains(&extension(Path::new(&part.name))) {
                bundle.check(part)?;
            }
        }
        Ok(bundle)
    }

    fn check(&self, part: &Part) -> Result<()> {
        let range = self.files.get(Path::new(&part.name)).cloned().unwrap_or_default();
        if crc32c::crc32c(&self.data[range]) != part.crc32c {
            return Err(Error::index(format!("part {} has a wrong checksum", part.name)));
        }
        Ok(())
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
        let json = zstd::bulk::decompress(packed, self.contents.contexts_bytes as usize).map_err(Error::index)?;
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
        Seconds::from_bytes(self.part("seconds")?, self.contents.n_rows).ok_or_else(|| Error::index("its seconds are not in order"))
    }

    fn part(&self, name: &str) -> Result<&[u8]> {
        let range = self.files.get(Path::new(name)).cloned();
        let range = range.ok_or_else(|| Error::index(format!("part {name} is missing")))?;
        Ok(&self.data[range])
    }

    fn find(&self, path: &Path) -> Result<OwnedBytes, OpenReadError> {
        let found = self.files.get(path).or_else(|| {
            // nobody reads the store, but tantivy looks at the footer of its file: any other file's will do
            (extension(path) == "store").then(|| self.files.get(&path.with_extension("fast"))).flatten()
        });
        let range = found.ok_or_else(|| OpenReadError::FileDoesNotExist(path.into()))?;
        Ok(self.data.slice(range.clone()))
    }
}

/// The parts of an index object and the bytes of each: `pos` positions, `idx` postings, `term` terms, and small ones.
pub fn index_parts(index: &Bytes) -> Result<Vec<(String, u64)>> {
    let bundle = Bundle::open(index.clone())?;
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
        Ok(Arc::new(self.find(path)?))
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
        Ok(self.find(path)?.as_slice().to_vec())
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
            let seconds = Seconds::new(times.iter().copied(), times[times.len() - 1], times[0]);
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
