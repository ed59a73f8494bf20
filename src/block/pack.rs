//! Tantivy's files and our own tables become one object: see [`bundle`](super::bundle) for the layout.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;
use tantivy::{Directory, Index};

use super::bundle::{Bundle, Contents, Hot, MAGIC, Part, Recorded, Seconds, Tail, VERSION, extension};
use super::directory::ScratchDirectory;
use super::index::open_segment;
use super::terms::{context_prefix, field_term};
use super::{Error, RawField, Result, dictionary, tokenizer};
use crate::model::{Context, TimeRange};
use crate::storage::{Checksums, Scratch, ScratchFile};

/// Length of a chunk: the least that is fetched of an object that is not here. (Little in tests, so that small objects have several.)
const CHUNK_BYTES: u32 = if cfg!(test) { 256 } else { 64 << 10 };
/// The terms of no more contexts than this lie in the tail.
const MAX_HOT_CONTEXTS: usize = 2_000;
/// The longest end of a Parquet object that a bundle holds.
const MAX_FOOT_BYTES: usize = 8 << 20;

/// What a bundle is made of besides tantivy's files.
pub(super) struct Own<'a> {
    pub n_rows: u64,
    pub times: TimeRange,
    pub contexts: &'a [Arc<Context>],
    pub seconds: &'a Seconds,
    pub parquet: &'a Bytes,
}

/// A bundle just made.
pub(super) struct Packed {
    pub bytes: Bytes,
    pub tail_bytes: u64,
}

/// Parts, one behind the other.
struct Parts {
    out: ScratchFile,
    n_bytes: u64,
    parts: Vec<Part>,
}

impl Parts {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Scratch)?;
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }

    fn push(&mut self, name: impl Into<String>, bytes: &[u8]) -> Result<()> {
        self.parts.push(Part {
            name: name.into(),
            offset: self.n_bytes,
            length: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        });
        self.write(bytes)
    }

    fn read_back<T>(&mut self, read: impl FnOnce(&Bytes) -> T) -> Result<T> {
        self.out.read_back(read).map_err(Error::Scratch)
    }
}

/// Packs an index that was written to `raw`, whose files go one by one. `own.times` is (first, last), both inclusive.
pub(super) fn pack(index: &Index, raw: &ScratchDirectory, own: &Own<'_>, scratch: &Scratch) -> Result<Packed> {
    let mut names: Vec<PathBuf> = index.directory().list_managed_files().into_iter().collect();
    names.push(PathBuf::from("meta.json"));
    names.sort();
    names.dedup();
    names.retain(|name| extension(name) != "store");
    let rank = |name: &PathBuf| match extension(name) {
        "pos" => 0,
        "idx" => 1,
        "term" => 2,
        _ => 3,
    };
    names.sort_by_key(rank);
    let mut parts = Parts {
        out: scratch.file(raw.n_bytes() * 9 / 8).map_err(Error::Scratch)?,
        n_bytes: 0,
        parts: Vec::new(),
    };
    parts.write(MAGIC)?;
    parts.write(&VERSION.to_le_bytes())?;
    let mut start = None;
    for name in &names {
        if rank(name) == 3 {
            start.get_or_insert(parts.n_bytes);
        }
        let text = name.to_string_lossy().into_owned();
        // through the index' own directory the footers that opening checks would be missing
        if extension(name) == "json" {
            parts.push(text, &index.directory().atomic_read(name).map_err(Error::index)?)?;
        } else if let Some(bytes) = raw.take(name) {
            // it may be large, and goes as soon as it is copied
            parts.push(text, &bytes)?;
        }
    }
    let start = start.unwrap_or(parts.n_bytes);
    let contexts: Vec<&Context> = own.contexts.iter().map(AsRef::as_ref).collect();
    let json = serde_json::to_vec(&contexts).map_err(Error::index)?;
    parts.push("contexts", &zstd::bulk::compress(&json, 3).map_err(Error::index)?)?;
    parts.push("seconds", &own.seconds.to_bytes())?;
    let mut contents = Contents {
        n_rows: own.n_rows,
        min_time_nanos: own.times.start_nanos,
        max_time_nanos: own.times.end_nanos,
        tokenizer_version: tokenizer::VERSION,
        contexts_bytes: json.len() as u64,
        parts: Vec::new(),
        tail: None,
    };
    let hot = push_hot(&mut parts, &contents, own.contexts.len())?;
    let foot = foot_of(own.parquet)?;
    parts.push("foot", &zstd::bulk::compress(foot, 3).map_err(Error::index)?)?;
    let index_sums = parts.read_back(|bytes| Checksums::of(&bytes[..start as usize], CHUNK_BYTES))?;
    let parquet_sums = Checksums::of(own.parquet, CHUNK_BYTES);
    let sums = index_sums.crc32c().iter().chain(parquet_sums.crc32c());
    parts.push("chunks", &sums.flat_map(|crc32c| crc32c.to_le_bytes()).collect::<Vec<u8>>())?;
    contents.tail = Some(Tail {
        start,
        chunk_bytes: CHUNK_BYTES,
        parquet_bytes: own.parquet.len() as u64,
        foot_bytes: foot.len() as u64,
        hot,
    });
    contents.parts = std::mem::take(&mut parts.parts);
    let table = serde_json::to_vec(&contents).map_err(Error::index)?;
    let offset = parts.n_bytes;
    parts.write(&table)?;
    parts.write(&offset.to_le_bytes())?;
    parts.write(&(table.len() as u32).to_le_bytes())?;
    parts.write(&crc32c::crc32c(&table).to_le_bytes())?;
    parts.write(MAGIC)?;
    Ok(Packed {
        tail_bytes: parts.n_bytes - start,
        bytes: parts.out.finish().map_err(Error::Scratch)?,
    })
}

/// Opens what is packed so far, notes what that reads of the parts that are not in the tail, and copies it to the part `hot`.
fn push_hot(parts: &mut Parts, contents: &Contents, n_contexts: usize) -> Result<Vec<Hot>> {
    let contents = Contents {
        parts: parts.parts.clone(),
        ..contents.clone()
    };
    let (copies, hot) = parts.read_back(|bytes| hot_of(bytes, contents, n_contexts))??;
    parts.push("hot", &copies)?;
    Ok(hot)
}

/// See [`push_hot`]: the copies, and where they are from.
fn hot_of(bytes: &Bytes, contents: Contents, n_contexts: usize) -> Result<(Vec<u8>, Vec<Hot>)> {
    let recorded = Recorded::default();
    let parts = contents.parts.clone();
    let bundle = Bundle::of_parts(bytes.clone().into(), contents, bytes.len() as u64)?.recording(&recorded);
    let opened = open_segment(bundle)?;
    // the terms that count and label rows: nearly every question asks for some
    let labels = [context_prefix(), field_term(RawField::Severity, "").text];
    for prefix in labels.iter().filter(|_| n_contexts <= MAX_HOT_CONTEXTS) {
        dictionary::with_prefix(&opened.terms, prefix)?;
    }
    let mut copies = Vec::new();
    let mut hot = Vec::new();
    for part in parts.iter().filter(|part| ["pos", "idx", "term"].contains(&extension(part.name.as_ref()))) {
        let reads = recorded.lock().remove(&PathBuf::from(&part.name)).unwrap_or_default();
        for range in merged(reads) {
            let at = (part.offset + range.start) as usize..(part.offset + range.end) as usize;
            hot.push(Hot {
                part: part.name.clone(),
                start: range.start,
                length: range.end - range.start,
                at: copies.len() as u64,
            });
            copies.extend_from_slice(&bytes[at]);
        }
    }
    Ok((copies, hot))
}

/// The same ranges, in order, none of which touches another.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// The end of a Parquet object, from its first offset index on; empty if that is too much.
fn foot_of(parquet: &Bytes) -> Result<&[u8]> {
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_offset_index_policy(PageIndexPolicy::Skip)
        .with_column_index_policy(PageIndexPolicy::Skip);
    let footer = ArrowReaderMetadata::load(parquet, options).map_err(|error| Error::Build(error.to_string()))?;
    let leaves = footer.metadata().row_groups().iter().flat_map(|group| group.columns());
    let first = leaves.filter_map(|leaf| leaf.offset_index_offset()).min();
    let foot = first.and_then(|first| parquet.get(usize::try_from(first).ok()?..));
    Ok(foot.filter(|foot| foot.len() <= MAX_FOOT_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(merged(vec![5..9, 0..2, 2..3, 6..7, 20..21]), [0..3, 5..9, 20..21]);
    }
}
