//! A block opened for reading.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, make_array, new_null_array};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::build::panic_text;
use super::columns::{ROWS_KEY, is_sorted_by_time, rows_checksum};
use super::pages::{BlockPages, CachedGroups, PageCache};
use super::ranges::{ParquetFoot, ParquetObject, Wanted};
use super::words::{BlockTokens, TokenCache};
use super::{BlockIndex, BlockMeta, Error, Result};
use crate::model::TimeRange;
use crate::storage::{Demand, Object, on_behalf_of};

/// Rows of a batch that a read or scan decodes at a time.
const BATCH_ROWS: usize = 8 * 1024;

/// A read of more rows than this does not leave its pages in the page cache: it is more of a scan.
const MOST_CACHED_ROWS: usize = 2 * 1024;

/// Of an object that is not here, a scan has about so much fetched at a time.
const SCANNED_AT_ONCE_BYTES: u64 = 16 << 20;

/// An opened block: immutable, cheap to clone, shared by threads.
#[derive(Clone, Debug)]
pub struct Block {
    meta: Arc<BlockMeta>,
    index: Option<BlockIndex>,
    inner: Arc<Inner>,
    pages: Option<BlockPages>,
    /// Who reads.
    demand: Option<Arc<Demand>>,
}

#[derive(Debug)]
struct Inner {
    parquet: ParquetObject,
    footer: ArrowReaderMetadata,
    /// First row of each row group, and the number of all rows.
    group_starts: Vec<u32>,
    memory_bytes: usize,
}

impl Block {
    /// Opens a block over its objects (held as long as the block lives; mapped files by `Bytes::from_owner`). Checks both
    /// footers, and that both tell of the same rows as `meta`.
    ///
    /// An index that is damaged, or not of these rows, is [`Error::Index`](Error::Index): open again with `None`.
    pub fn open(meta: Arc<BlockMeta>, parquet: Bytes, index: Option<Bytes>) -> Result<Block> {
        let index = index.map(|index| BlockIndex::open(&meta, index)).transpose()?;
        Block::over(meta, parquet.into(), index)
    }

    /// [`Self::open`] over objects that need not be here, and with an index that is open. Where the index holds the end of the
    /// Parquet object, nothing is read of that.
    pub fn over(meta: Arc<BlockMeta>, parquet: Object, index: Option<BlockIndex>) -> Result<Block> {
        if parquet.n_bytes() != meta.parquet_bytes && parquet.whole().is_none() {
            return Err(Error::parquet(&meta.id, "it is of another length than the catalog says"));
        }
        let parquet = ParquetObject(parquet);
        let foot = match (&index, parquet.0.whole()) {
            (Some(index), None) => index.parquet_foot()?,
            _ => None,
        };
        let footer = guard(&meta, None, || {
            let options = ArrowReaderOptions::new()
                .with_skip_arrow_metadata(true)
                .with_offset_index_policy(PageIndexPolicy::Optional)
                .with_column_index_policy(PageIndexPolicy::Skip);
            let loaded = match foot {
                Some(foot) => ArrowReaderMetadata::load(&ParquetFoot::new(parquet.clone(), foot), options),
                None => ArrowReaderMetadata::load(&parquet, options),
            };
            loaded.map_err(|e| Error::parquet(&meta.id, e))
        })?;
        let file = footer.metadata().file_metadata();
        let said = file.key_value_metadata().into_iter().flatten().find(|pair| pair.key == ROWS_KEY);
        let expected = rows_checksum(meta.n_rows, meta.min_time_nanos, meta.max_time_nanos);
        if said.and_then(|pair| pair.value.as_deref()) != Some(expected.as_str()) {
            return Err(Error::parquet(&meta.id, "it holds other rows than the catalog says"));
        }
        let mut group_starts = vec![0u32];
        for group in footer.metadata().row_groups() {
            let last = group_starts[group_starts.len() - 1];
            let next = u32::try_from(group.num_rows()).ok().and_then(|rows| last.checked_add(rows));
            group_starts.push(next.ok_or_else(|| Error::parquet(&meta.id, "a row group has no sensible number of rows"))?);
        }
        if u64::from(group_starts[group_starts.len() - 1]) != meta.n_rows {
            return Err(Error::parquet(&meta.id, "its row groups hold other rows than the catalog says"));
        }
        let memory_bytes = footer.metadata().memory_size() + index.as_ref().map_or(0, BlockIndex::memory_bytes) + 1024;
        Ok(Block {
            meta,
            index,
            inner: Arc::new(Inner {
                parquet,
                footer,
                group_starts,
                memory_bytes,
            }),
            pages: None,
            demand: None,
        })
    }

    /// The same block, read on behalf of a question.
    pub fn read_for(mut self, demand: &Arc<Demand>) -> Block {
        self.index = self.index.map(|index| index.read_for(demand));
        self.demand = Some(demand.clone());
        self
    }

    /// The same block, whose reads of few rows look for pages in `cache` and leave them there.
    pub fn with_page_cache(mut self, cache: &Arc<PageCache>) -> Block {
        self.pages = Some(BlockPages::new(cache.clone(), &self.meta.id));
        self
    }

    /// The same block, which keeps its tokens in `cache` once a question looked through all of them.
    pub fn with_token_cache(mut self, cache: &Arc<TokenCache>) -> Block {
        let place = BlockTokens::new(cache, &self.meta.id);
        self.index = self.index.map(|index| index.with_tokens_in(place));
        self
    }

    /// The same block as another snapshot knows it, which may hide other rows.
    pub fn seen_as(&self, meta: &Arc<BlockMeta>) -> Block {
        debug_assert_eq!(meta.id, self.meta.id, "another block");
        Block {
            index: self.index.as_ref().map(|index| index.hiding(&meta.hidden)),
            meta: Arc::clone(meta),
            inner: Arc::clone(&self.inner),
            pages: self.pages.clone(),
            demand: self.demand.clone(),
        }
    }

    /// What the catalog says of it.
    pub fn meta(&self) -> &Arc<BlockMeta> {
        &self.meta
    }
    /// The rows of a range that are not hidden, as bits over all rows.
    pub fn visible(&self, rows: Range<u32>) -> BooleanBuffer {
        self.meta.hidden.visible(rows, self.n_rows())
    }
    /// Rows, hidden ones too.
    pub fn n_rows(&self) -> u32 {
        self.inner.group_starts[self.inner.group_starts.len() - 1]
    }
    /// The Parquet object.
    pub(super) fn parquet(&self) -> &ParquetObject {
        &self.inner.parquet
    }
    /// Whether all of the Parquet object is here: then reading rows waits for nothing.
    pub fn is_here(&self) -> bool {
        self.inner.parquet.0.whole().is_some()
    }
    /// First row of each row group, and the number of all rows.
    pub(super) fn group_starts(&self) -> &[u32] {
        &self.inner.group_starts
    }
    /// What the Parquet object says of itself.
    pub(super) fn footer(&self) -> &ArrowReaderMetadata {
        &self.inner.footer
    }
    /// The row group that a row lies in.
    pub fn group_of(&self, row: u32) -> usize {
        self.inner.group_starts.partition_point(|start| *start <= row).saturating_sub(1)
    }
    /// Its index, if it was opened with one.
    pub fn index(&self) -> Option<&BlockIndex> {
        self.index.as_ref()
    }
    /// Bytes of heap that stay taken while it is open (the objects themselves not counted).
    pub fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes
    }

    /// Rows inside `range`, exactly, for tables sorted by time; all rows for the metric point tables.
    pub fn rows_in(&self, range: &TimeRange) -> Result<Range<u32>> {
        let meta = self.meta();
        let all = 0..self.n_rows();
        if !meta.overlaps(range) {
            return Ok(0..0);
        }
        if !is_sorted_by_time(meta.table) || (range.start_nanos <= meta.min_time_nanos && meta.max_time_nanos < range.end_nanos) {
            return Ok(all);
        }
        let start = if meta.max_time_nanos < range.end_nanos {
            0
        } else {
            self.first_older(range.end_nanos)?
        };
        let end = if range.start_nanos <= meta.min_time_nanos {
            all.end
        } else {
            self.first_older(range.start_nanos)?
        };
        Ok(start..end.max(start))
    }

    /// The first row with a time before `nanos`.
    fn first_older(&self, nanos: i64) -> Result<u32> {
        let column = self.meta().table.time_column();
        let near = match self.index() {
            Some(index) => index.rows_around(nanos),
            None => self.groups_around(nanos, column),
        };
        let mut first = near.start;
        for times in self.scan(near, &[column])? {
            let times = times?;
            let times = times.column(0).as_primitive::<Int64Type>().values();
            let younger = times.partition_point(|time| *time >= nanos);
            first += younger as u32;
            if younger < times.len() {
                break;
            }
        }
        Ok(first)
    }

    /// [`BlockIndex::rows_around`], from what the footer knows: all groups but those that are younger as a whole.
    fn groups_around(&self, nanos: i64, time_column: &str) -> Range<u32> {
        let groups = self.inner.footer.metadata().row_groups();
        let leaf = |group: &RowGroupMetaData| {
            let column = group.columns().iter().find(|leaf| leaf.column_path().parts() == [time_column])?;
            match column.statistics()? {
                Statistics::Int64(bounds) => bounds.min_opt().copied(),
                _ => None,
            }
        };
        let younger = groups.iter().take_while(|group| leaf(group).is_some_and(|min| min >= nanos)).count();
        self.inner.group_starts[younger]..self.n_rows()
    }

    /// The rows with these numbers (ascending, each once), in that order: columns as stored, in the order of `columns`;
    /// none named = all. Each row group costs its own pages, however few rows are wanted of it: rows of several are best shared
    /// among threads, by [`group_of`](Self::group_of).
    pub fn read(&self, rows: &[u32], columns: &[&str]) -> Result<RecordBatch> {
        let schema = self.project(columns)?;
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        if !rows.is_sorted_by(|a, b| a < b) || rows[rows.len() - 1] >= self.n_rows() {
            return Err(Error::parquet(&self.meta().id, "rows asked for are not in it, or not in order"));
        }
        let batches = self.read_groups(&self.by_group(rows), &schema)?;
        let batch = match &batches[..] {
            [one] => one.clone(),
            many => concat_batches(&schema, many)?,
        };
        if batch.num_rows() != rows.len() {
            return Err(self.damaged("it has fewer rows than it says"));
        }
        Ok(batch)
    }

    /// Has what a [`read`](Self::read) of these rows and columns needs fetched at once, if it is not here.
    pub fn want(&self, rows: &[u32], columns: &[&str]) -> Result<()> {
        let (schema, groups) = (self.project(columns)?, self.by_group(rows));
        self.guard(|| self.want_groups(&groups, &schema))
    }

    /// Rows (ascending) by row group. Only row groups with hits: a selection over the whole file would read the dictionaries of
    /// every earlier one.
    pub(super) fn by_group<'r>(&self, rows: &'r [u32]) -> Vec<(usize, &'r [u32])> {
        let mut groups: Vec<(usize, &[u32])> = Vec::new();
        let mut rest = rows;
        for (group, bounds) in self.inner.group_starts.windows(2).enumerate() {
            let (inside, behind) = rest.split_at(rest.partition_point(|row| *row < bounds[1]));
            if !inside.is_empty() {
                groups.push((group, inside));
            }
            rest = behind;
        }
        groups
    }

    fn want_groups(&self, groups: &[(usize, &[u32])], schema: &Schema) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        let numbers: Vec<usize> = groups.iter().map(|(group, _)| *group).collect();
        let projection = self.projection(schema, &numbers);
        let rows = groups.iter().map(|(group, rows)| (*group, Wanted::Rows(rows)));
        self.want_pages(rows, &projection)
    }

    /// Has what a scan of rows needs fetched, and more behind it if it is much: scans come piece after piece.
    fn want_scan(&self, rows: &Range<u32>, schema: &Schema, groups: &[usize]) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut rows = rows.clone();
        let mut groups = groups.to_vec();
        if rows.len() >= MOST_CACHED_ROWS {
            let of_piece = self.bytes_of(rows.len(), &names).max(1);
            let ahead = rows.len() as u64 * SCANNED_AT_ONCE_BYTES / of_piece;
            rows.end = rows
                .end
                .max(rows.start.saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX)).min(self.n_rows()));
            let last = self.group_of(rows.end - 1);
            groups.extend(groups.last().map_or(0, |last| last + 1)..=last);
        }
        let projection = self.projection(schema, &groups);
        self.want_pages(groups.into_iter().map(|group| (group, Wanted::All(&rows))), &projection)
    }

    /// Rows of some row groups, ascending.
    fn read_groups(&self, groups: &[(usize, &[u32])], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let (mut local, mut base) = (Vec::new(), 0);
        for (group, rows) in groups {
            let bounds = &self.inner.group_starts[*group..=*group + 1];
            local.extend(rows.iter().map(|row| row - bounds[0] + base));
            base += bounds[1] - bounds[0];
        }
        let selection = selection(&local, base as usize);
        self.guard(|| {
            self.want_groups(groups, schema)?;
            let groups: Vec<usize> = groups.iter().map(|(group, _)| *group).collect();
            let batch_rows = local.len().min(BATCH_ROWS);
            let reader = match &self.pages {
                Some(pages) if local.len() <= MOST_CACHED_ROWS => self.cached_reader(schema, &groups, selection, batch_rows, pages)?,
                _ => self.reader(schema, groups, Some(selection), batch_rows)?,
            };
            reader
                .map(|batch| batch.map_err(|e| self.damaged(e)).and_then(|batch| self.conform(schema, &batch)))
                .collect()
        })
    }

    /// Rows of a range in batches of a few thousand, in row order; hidden ones too, so that places stay what they are.
    pub fn scan(&self, rows: Range<u32>, columns: &[&str]) -> Result<Scan> {
        self.scan_by(rows, columns, BATCH_ROWS)
    }

    /// [`scan`](Self::scan) in batches of so many rows.
    pub(super) fn scan_by(&self, rows: Range<u32>, columns: &[&str], batch_rows: usize) -> Result<Scan> {
        let schema = self.project(columns)?;
        let rows = rows.start.min(self.n_rows())..rows.end.min(self.n_rows());
        let mut scan = Scan {
            block: self.clone(),
            schema,
            reader: None,
            rows_left: rows.len(),
        };
        if rows.is_empty() {
            return Ok(scan);
        }
        let bounds = self.inner.group_starts.windows(2).enumerate();
        let groups: Vec<usize> = bounds
            .filter(|(_, bounds)| bounds[0] < rows.end && rows.start < bounds[1])
            .map(|(group, _)| group)
            .collect();
        let base = groups.first().map_or(0, |group| self.inner.group_starts[*group]);
        let end = groups.last().map_or(0, |group| self.inner.group_starts[*group + 1]);
        let local = (rows.start - base) as usize..(rows.end - base) as usize;
        let whole = base == rows.start && end == rows.end;
        let selection = (!whole).then(|| RowSelection::from_consecutive_ranges(std::iter::once(local), (end - base) as usize));
        let reader = self.guard(|| {
            self.want_scan(&rows, &scan.schema, &groups)?;
            self.reader(&scan.schema, groups, selection, batch_rows)
        });
        scan.reader = Some(reader?);
        Ok(scan)
    }

    /// Estimate of the bytes that reading `n_rows` rows of `columns` (none = all) takes from the Parquet object.
    pub fn bytes_of(&self, n_rows: usize, columns: &[&str]) -> u64 {
        let wanted = |name: Option<&String>| columns.is_empty() || name.is_some_and(|name| columns.contains(&name.as_str()));
        let groups = self.inner.footer.metadata().row_groups();
        let leaves = groups.iter().flat_map(|group| group.columns());
        let bytes: u64 = leaves
            .filter(|leaf| wanted(leaf.column_path().parts().first()))
            .map(|leaf| u64::try_from(leaf.compressed_size()).unwrap_or_default())
            .sum();
        let all = u128::from(self.n_rows().max(1));
        (u128::from(bytes) * (n_rows as u128).min(all)).div_ceil(all) as u64
    }

    /// The stored schema with these columns, in this order.
    /// Rows of the row groups that may have one of some values in a column of text, by the Parquet file's bloom filters; `None` if one of
    /// them has none. Where it gives rows, one row group in twenty may be there without the value.
    pub fn may_have(&self, column: &str, values: &[&str]) -> Result<Option<Vec<Range<u32>>>> {
        let metadata = self.inner.footer.metadata();
        let leaf = metadata
            .file_metadata()
            .schema_descr()
            .columns()
            .iter()
            .position(|leaf| leaf.path().parts() == [column]);
        let Some(leaf) = leaf else { return Ok(None) };
        self.guard(|| {
            let mut ranges: Vec<Range<u32>> = Vec::new();
            for (group, rows) in metadata.row_groups().iter().zip(self.group_starts().windows(2)) {
                let filter = Sbbf::read_from_column_chunk(group.column(leaf), &self.inner.parquet).map_err(|e| self.damaged(e))?;
                let Some(filter) = filter else { return Ok(None) };
                if !values.iter().any(|value| filter.check(*value)) {
                    continue;
                }
                match ranges.last_mut() {
                    Some(last) if last.end == rows[0] => last.end = rows[1],
                    _ => ranges.push(rows[0]..rows[1]),
                }
            }
            Ok(Some(ranges))
        })
    }

    fn project(&self, columns: &[&str]) -> Result<SchemaRef> {
        let table = self.meta().table;
        if columns.is_empty() {
            return Ok(table.schema());
        }
        let schema = table.schema();
        let fields = columns.iter().map(|column| {
            let field = schema.fields().iter().find(|field| field.name() == column);
            field.cloned().ok_or_else(|| Error::NoColumn {
                table: table.name(),
                column: column.to_string(),
            })
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    }

    fn reader(&self, schema: &Schema, groups: Vec<usize>, selection: Option<RowSelection>, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.inner.parquet.clone(), self.inner.footer.clone())
            .with_projection(self.projection(schema, &groups))
            .with_row_groups(groups)
            .with_batch_size(batch_rows);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        builder.build().map_err(|e| self.damaged(e))
    }

    /// [`Self::reader`] through the page cache.
    fn cached_reader(
        &self,
        schema: &Schema,
        groups: &[usize],
        selection: RowSelection,
        batch_rows: usize,
        pages: &BlockPages,
    ) -> Result<ParquetRecordBatchReader> {
        let Some(cached) = CachedGroups::try_new(self, pages, groups) else {
            return self.reader(schema, groups.to_vec(), Some(selection), batch_rows);
        };
        let projection = self.projection(schema, groups);
        let levels = parquet_to_arrow_field_levels(self.inner.footer.parquet_schema(), projection, Some(self.inner.footer.schema().fields()));
        levels
            .and_then(|levels| ParquetRecordBatchReader::try_new_with_row_groups(&levels, &cached, batch_rows, Some(selection)))
            .map_err(|e| self.damaged(e))
    }

    /// The columns of the file that a read of `schema` must decode.
    fn projection(&self, schema: &Schema, groups: &[usize]) -> ProjectionMask {
        let descriptor = self.inner.footer.parquet_schema();
        let roots = descriptor.root_schema().get_fields().iter().enumerate();
        let mut wanted: Vec<usize> = roots.filter(|(_, root)| schema.fields().find(root.name()).is_some()).map(|(i, _)| i).collect();
        if wanted.is_empty() && !schema.fields().is_empty() {
            // the file is too old to have any of them
            wanted.push(0);
        }
        // a column without values there need not be decoded: `conform` makes one; but some column must count the rows
        let has_values = |root: &usize| !self.is_null_in(*root, groups);
        if wanted.iter().any(has_values) {
            wanted.retain(has_values);
        } else {
            wanted.truncate(1);
        }
        ProjectionMask::roots(descriptor, wanted)
    }

    /// Whether the footer says that a top-level column has no value in any of these row groups.
    fn is_null_in(&self, root: usize, groups: &[usize]) -> bool {
        let footer = self.inner.footer.metadata();
        let descriptor = self.inner.footer.parquet_schema();
        let mut leaves = (0..descriptor.num_columns()).filter(|leaf| descriptor.get_column_root_idx(*leaf) == root);
        // nested columns have no such counts
        let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return false };
        descriptor.column(leaf).path().parts().len() == 1
            && groups.iter().all(|group| {
                let group = footer.row_group(*group);
                let nulls = group.column(leaf).statistics().and_then(Statistics::null_count_opt);
                nulls.is_some_and(|nulls| u64::try_from(group.num_rows()) == Ok(nulls))
            })
    }

    /// A batch from the file in the types and order of `schema`; a column that is null there, or that the file is too old to
    /// have, is null.
    fn conform(&self, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| match batch.column_by_name(field.name()) {
                Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
                Some(column) => retype(column, field.data_type()).map_err(|e| self.damaged(e)),
                None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
                None => Err(self.damaged(format!("it has no column {}", field.name()))),
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| self.damaged(e))
    }

    fn guard<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        guard(self.meta(), self.demand.as_ref(), read)
    }

    pub(super) fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::parquet(&self.meta().id, reason)
    }
}

/// Batches of a scan, in row order.
pub struct Scan {
    block: Block,
    schema: SchemaRef,
    reader: Option<ParquetRecordBatchReader>,
    rows_left: usize,
}

impl Scan {
    /// Schema of its batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("rows_left", &self.rows_left).finish_non_exhaustive()
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let (block, schema) = (&self.block, &self.schema);
        let next = block.guard(|| match reader.next() {
            Some(batch) => block.conform(schema, &batch.map_err(|e| block.damaged(e))?).map(Some),
            None => Ok(None),
        });
        let rows = next.as_ref().map_or(0, |batch| batch.as_ref().map_or(0, RecordBatch::num_rows));
        if rows == 0 || rows > self.rows_left {
            self.reader = None;
            let missing = self.rows_left > 0 && next.is_ok();
            return if missing {
                Some(Err(block.damaged("it has other rows than it says")))
            } else {
                next.transpose()
            };
        }
        self.rows_left -= rows;
        next.transpose()
    }
}

/// Few rows as ranges, many as bits.
fn selection(rows: &[u32], n_rows: usize) -> RowSelection {
    if rows.len().saturating_mul(64) < n_rows {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for row in rows {
            let row = *row as usize;
            match ranges.last_mut() {
                Some(range) if range.end == row => range.end += 1,
                _ => ranges.push(row..row + 1),
            }
        }
        return RowSelection::from_consecutive_ranges(ranges.into_iter(), n_rows);
    }
    let mut words = vec![0u64; n_rows.div_ceil(64)];
    for row in rows {
        words[*row as usize / 64] |= 1 << (row % 64);
    }
    RowSelection::from_boolean_buffer(BooleanBuffer::new(Buffer::from_vec(words), 0, n_rows))
}

/// Runs what reads bytes that may be damaged or far away: decoders panic on some damage, and that is an error like any other.
pub(super) fn guard<T>(meta: &BlockMeta, demand: Option<&Arc<Demand>>, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, failure) = on_behalf_of(demand, || {
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(Error::parquet(&meta.id, panic_text(&panic))))
    });
    // why a read failed, in the words of the store and not of those that stand between
    done.map_err(|error| failure.map_or(error, |failure| Error::parquet_unread(&meta.id, failure)))
}

/// The same array under names and field IDs of another type.
fn retype(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    fn go(data: arrow::array::ArrayData, data_type: &DataType) -> Result<arrow::array::ArrayData, ArrowError> {
        let children: Vec<DataType> = match data_type {
            DataType::List(child) | DataType::Map(child, _) => vec![child.data_type().clone()],
            DataType::Struct(fields) => fields.iter().map(|field| field.data_type().clone()).collect(),
            _ => vec![],
        };
        let child_data = data.child_data().iter().cloned().zip(children);
        let child_data = child_data.map(|(child, child_type)| go(child, &child_type)).collect::<Result<Vec<_>, _>>()?;
        data.into_builder().data_type(data_type.clone()).child_data(child_data).build()
    }
    Ok(make_array(go(array.to_data(), data_type)?))
}

#[cfg(test)]
mod tests;
