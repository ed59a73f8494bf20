//! A Parquet object that need not be here: as the library reads it, and which bytes of it some rows and columns need.

use std::io::{self, Read};
use std::ops::Range;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::{Block, Error, Result};
use crate::storage::{Object, failed_read};

/// A Parquet object, wherever its bytes are.
#[derive(Clone, Debug)]
pub(super) struct ParquetObject(pub(super) Object);

impl ParquetObject {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.0.read(range).map_err(failed_read)
    }
}

impl Length for ParquetObject {
    fn len(&self) -> u64 {
        self.0.n_bytes()
    }
}

impl ChunkReader for ParquetObject {
    type T = ParquetRead;

    fn get_read(&self, start: u64) -> ParquetResult<ParquetRead> {
        match self.0.whole() {
            Some(bytes) => Ok(ParquetRead::Here(bytes.get_read(start)?)),
            None => Ok(ParquetRead::Far(self.clone(), start)),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self.0.whole() {
            Some(bytes) => bytes.get_bytes(start, length),
            None => Ok(self.read(start..start.saturating_add(length as u64))?),
        }
    }
}

/// Reads on from some byte.
pub(super) enum ParquetRead {
    Here(Reader<Bytes>),
    Far(ParquetObject, u64),
}

impl Read for ParquetRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ParquetRead::Here(bytes) => bytes.read(buffer),
            ParquetRead::Far(object, at) => {
                let end = object.len().min(*at + buffer.len() as u64);
                let bytes = object.read((*at).min(end)..end)?;
                buffer[..bytes.len()].copy_from_slice(&bytes);
                *at += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }
}

/// A Parquet object whose end is known from elsewhere.
pub(super) struct ParquetFoot {
    object: ParquetObject,
    foot: Bytes,
    foot_start: u64,
}

impl ParquetFoot {
    pub(super) fn new(object: ParquetObject, foot: Bytes) -> Self {
        Self {
            foot_start: object.len().saturating_sub(foot.len() as u64),
            object,
            foot,
        }
    }
}

impl Length for ParquetFoot {
    fn len(&self) -> u64 {
        self.object.len()
    }
}

impl ChunkReader for ParquetFoot {
    type T = ParquetRead;

    fn get_read(&self, start: u64) -> ParquetResult<ParquetRead> {
        match start.checked_sub(self.foot_start) {
            Some(at) if at <= self.foot.len() as u64 => Ok(ParquetRead::Here(self.foot.slice(at as usize..).reader())),
            _ => self.object.get_read(start),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match start.checked_sub(self.foot_start) {
            Some(at) => self.foot.get_bytes(at, length),
            None => self.object.get_bytes(start, length),
        }
    }
}

/// Rows of a row group, by their numbers in the block.
pub(super) enum Wanted<'a> {
    /// These, ascending.
    Rows(&'a [u32]),
    /// Those in a range.
    All(&'a Range<u32>),
}

impl Wanted<'_> {
    /// Whether any of them lies in a page.
    fn is_in(&self, page: &Range<u32>) -> bool {
        match self {
            Wanted::Rows(rows) => rows.get(rows.partition_point(|row| *row < page.start)).is_some_and(|row| *row < page.end),
            Wanted::All(range) => range.start < page.end && page.start < range.end,
        }
    }
}

impl Block {
    /// Has the pages of some rows of some row groups fetched together, with the dictionaries they need.
    pub(super) fn want_pages<'a>(&self, groups: impl Iterator<Item = (usize, Wanted<'a>)>, projection: &ProjectionMask) -> Result<()> {
        let ranges = self.ranges_of(groups, |leaf, _| projection.leaf_included(leaf))?;
        self.parquet().0.want(&ranges).map_err(|error| Error::parquet_unread(&self.meta().id, error))
    }

    /// Bytes of the Parquet object that reading some rows (ascending) of some columns takes: the pages they stand on, with the
    /// dictionaries those need. None named = all columns.
    pub fn bytes_of_rows(&self, rows: &[u32], columns: &[&str]) -> u64 {
        let groups = self.by_group(rows).into_iter().map(|(group, rows)| (group, Wanted::Rows(rows)));
        let is_named = |_, column: &ColumnChunkMetaData| {
            let name = column.column_path().parts().first();
            columns.is_empty() || name.is_some_and(|name| columns.contains(&name.as_str()))
        };
        match self.ranges_of(groups, is_named) {
            Ok(ranges) => ranges.iter().map(|range| range.end - range.start).sum(),
            Err(_) => self.bytes_of(rows.len(), columns),
        }
    }

    /// Where the pages lie that hold some rows of some row groups, of the columns that are included.
    fn ranges_of<'a>(
        &self,
        groups: impl Iterator<Item = (usize, Wanted<'a>)>,
        is_included: impl Fn(usize, &ColumnChunkMetaData) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        let metadata = self.footer().metadata();
        let mut ranges = Vec::new();
        for (group, wanted) in groups {
            let first_row = self.group_starts()[group];
            let columns = metadata.row_group(group).columns();
            for (leaf, column) in columns.iter().enumerate().filter(|(leaf, column)| is_included(*leaf, column)) {
                let (start, length) = column.byte_range();
                let located = metadata.offset_index().and_then(|groups| groups.get(group)?.get(leaf));
                let pages = located.map_or(&[][..], |leaf| leaf.page_locations());
                let Some(first) = pages.first() else {
                    ranges.push(start..start.saturating_add(length));
                    continue;
                };
                let before = ranges.len();
                for (number, page) in pages.iter().enumerate() {
                    let row = |page: &parquet::file::page_index::offset_index::PageLocation| {
                        first_row.saturating_add(u32::try_from(page.first_row_index).unwrap_or(u32::MAX))
                    };
                    let rows = row(page)..pages.get(number + 1).map_or(u32::MAX, row);
                    if wanted.is_in(&rows) {
                        ranges.push(self.page_range(page.offset, page.compressed_page_size)?);
                    }
                }
                // what stands before the first page is the dictionary of all
                let first = self.page_range(first.offset, 0)?.start;
                if ranges.len() > before && first > start {
                    ranges.push(start..first);
                }
            }
        }
        Ok(ranges)
    }

    fn page_range(&self, offset: i64, length: i32) -> Result<Range<u64>> {
        let (start, length) = (u64::try_from(offset), u64::try_from(length));
        match (start, length) {
            (Ok(start), Ok(length)) => Ok(start..start.saturating_add(length)),
            _ => Err(self.damaged("its page index is not one")),
        }
    }
}
