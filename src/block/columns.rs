//! The Parquet object: how each column is encoded, and writing it chunk by chunk.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use super::{Error, Level, Result, Settings};
use crate::model::schema::{CONTEXT_COLUMN, SCHEMA_VERSION, is_context_column};
use crate::model::{Context, Table, context_values};
use crate::storage::ScratchFile;

/// Key of the checksum that both objects of a block carry: `rows:min:max`.
pub(super) const ROWS_KEY: &str = "tracelake.rows";

/// The checksum of [`ROWS_KEY`].
pub(super) fn rows_checksum(n_rows: u64, min_time_nanos: i64, max_time_nanos: i64) -> String {
    format!("{n_rows}:{min_time_nanos}:{max_time_nanos}")
}

/// The columns by which a table's rows are sorted, and whether descending.
pub(super) fn sort_order(table: Table) -> Vec<(&'static str, bool)> {
    if is_sorted_by_time(table) {
        vec![(table.time_column(), true), ("ingest_id", true)]
    } else {
        vec![("metric_name", false), ("series_id", false), (table.time_column(), false), ("ingest_id", false)]
    }
}

/// Whether rows stand newest first; points of metrics stand by name, series and time.
pub(super) fn is_sorted_by_time(table: Table) -> bool {
    !matches!(
        table,
        Table::MetricPoints | Table::MetricHistograms | Table::MetricExpHistograms | Table::MetricSummaries
    )
}

fn properties(table: Table, level: Level, settings: &Settings, descriptor: &SchemaDescriptor, metadata: Vec<KeyValue>) -> Result<WriterProperties> {
    let texts = ZstdLevel::try_new(settings.zstd_level_of(level)).map_err(|e| Error::Build(e.to_string()))?;
    let others = match level {
        // a higher level takes little off them, and time that clients wait for
        Level::L0 => ZstdLevel::default(),
        Level::Sealed => texts,
    };
    let sorting = sort_order(table)
        .into_iter()
        .filter_map(|(column, descending)| {
            let index = descriptor.columns().iter().position(|leaf| leaf.path().parts() == [column])?;
            Some(SortingColumn {
                column_idx: index as i32,
                descending,
                nulls_first: false,
            })
        })
        .collect();
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(others))
        .set_max_row_group_row_count(Some(settings.row_group_rows))
        .set_data_page_row_count_limit(settings.page_rows)
        .set_write_batch_size(settings.page_rows.min(1024))
        .set_dictionary_page_size_limit(settings.dictionary_page_bytes)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(Some(sorting))
        .set_key_value_metadata(Some(metadata));
    for leaf in descriptor.columns() {
        let path: ColumnPath = leaf.path().clone();
        let parts = path.parts();
        let name = parts.last().map(String::as_str).unwrap_or_default();
        let nested = parts.len() > 1;
        match name {
            // values that rise or fall slowly; differences pack into few bits
            "time"
            | "time_unix_nano"
            | "observed_time"
            | "start_time"
            | "start_time_unix_nano"
            | "end_time"
            | "ingest_id"
            | "series_id"
            | "duration_nano"
            | "window_start"
            | "window_end" => {
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            // near unique: a dictionary would only be filled and given up
            "body" | "xray_document" => {
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_compression(path.clone(), Compression::ZSTD(texts));
            }
            // and the digits of random numbers get larger at a higher level, which takes them for text: 3.8 B a record, not 3.4
            "trace_id" | "span_id" | "parent_span_id" => {
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_compression(path.clone(), Compression::ZSTD(ZstdLevel::default()));
            }
            "value" | "sum" | "min" | "max" if !nested && leaf.physical_type() == parquet::basic::Type::DOUBLE => {
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT);
            }
            _ => {}
        }
        let statistics = match name {
            _ if nested => EnabledStatistics::None,
            "body" | "status_message" | "trace_state" | "description" | "link" | "reason" => EnabledStatistics::None,
            // those by which foreign readers skip pages; page bounds of the others tell nothing
            "time"
            | "time_unix_nano"
            | "start_time"
            | "start_time_unix_nano"
            | "service_name"
            | "severity_number"
            | "status_code"
            | "metric_name"
            | "series_id"
            | "duration_nano"
            | "http_response_status_code" => EnabledStatistics::Page,
            _ => EnabledStatistics::Chunk,
        };
        builder = builder.set_column_statistics_enabled(path.clone(), statistics);
        let wrong_one_in = match name {
            "trace_id" if !nested => 100.0,
            // spans have them in the index; for logs that would be about 5 B a record, this is half a byte, and leaves few row groups to look through
            "span_id" if !nested && table == Table::Logs => 20.0,
            _ => continue,
        };
        // sized for a row group of different ids, then folded to what came
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), 1.0 / wrong_one_in)
            .set_column_bloom_filter_max_ndv(path, settings.row_group_rows as u64);
    }
    Ok(builder.build())
}

/// Writes rows, given in memory schema and in order, as one Parquet file.
pub(super) struct ColumnsWriter {
    table: Table,
    schema: SchemaRef,
    /// Of each context column, its values by context number.
    context_columns: Vec<(usize, ArrayRef)>,
    writer: ArrowWriter<ScratchFile>,
}

impl ColumnsWriter {
    /// A writer of rows under `contexts`, to `file`; `rows_checksum` goes into the footer.
    pub(super) fn try_new(
        table: Table,
        level: Level,
        contexts: &[Arc<Context>],
        settings: &Settings,
        rows_checksum: String,
        file: ScratchFile,
    ) -> Result<Self> {
        let stored = table.schema();
        let mut fields: Vec<Arc<Field>> = Vec::with_capacity(stored.fields().len());
        let mut context_columns = Vec::new();
        for (index, field) in stored.fields().iter().enumerate() {
            let mut written = field.clone();
            if table.is_searchable() && is_context_column(field.name()) {
                context_columns.push((index, context_values(field, contexts)?));
                if *field.data_type() == DataType::Utf8 {
                    // the same strings in the file, but no copy of one for each row on the way there
                    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                    written = Arc::new(field.as_ref().clone().with_data_type(dictionary));
                }
            }
            fields.push(written);
        }
        let schema = Arc::new(Schema::new(fields));
        let build = |e: parquet::errors::ParquetError| Error::Build(e.to_string());
        let descriptor = parquet::arrow::ArrowSchemaConverter::new().convert(&schema).map_err(build)?;
        let order = sort_order(table)
            .iter()
            .map(|(column, descending)| format!("{column} {}", if *descending { "desc" } else { "asc" }))
            .collect::<Vec<_>>()
            .join(", ");
        let metadata = [
            ("tracelake.table", table.name().to_string()),
            ("tracelake.schema_version", SCHEMA_VERSION.to_string()),
            ("tracelake.tokenizer_version", super::tokenizer::VERSION.to_string()),
            ("tracelake.sort_order", order),
            (ROWS_KEY, rows_checksum),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_string(), value)).collect();
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table, level, settings, &descriptor, metadata)?)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(build)?;
        Ok(Self {
            table,
            schema,
            context_columns,
            writer,
        })
    }

    /// Appends a chunk.
    pub(super) fn write(&mut self, chunk: &RecordBatch) -> Result<()> {
        let stored = self.table.schema();
        let ordinals: Option<&Int32Array> = chunk.column_by_name(CONTEXT_COLUMN).map(|column| column.as_primitive::<Int32Type>());
        let mut context_columns = self.context_columns.iter().peekable();
        let mut columns = Vec::with_capacity(stored.fields().len());
        for (index, field) in stored.fields().iter().enumerate() {
            let from_context = context_columns.next_if(|(at, _)| *at == index);
            columns.push(match (from_context, ordinals) {
                (Some((_, values)), Some(ordinals)) if values.data_type() == &DataType::Utf8 => {
                    Arc::new(DictionaryArray::<Int32Type>::try_new(ordinals.clone(), values.clone())?) as ArrayRef
                }
                (Some((_, values)), Some(ordinals)) => take(values, ordinals, None)?,
                _ => chunk
                    .column_by_name(field.name())
                    .ok_or_else(|| ArrowError::SchemaError(format!("no column {}", field.name())))?
                    .clone(),
            });
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.writer.write(&batch).map_err(|e| Error::Build(e.to_string()))
    }

    /// The finished file.
    pub(super) fn finish(self) -> Result<Bytes> {
        let file = self.writer.into_inner().map_err(|e| Error::Build(e.to_string()))?;
        file.finish().map_err(Error::Scratch)
    }
}
