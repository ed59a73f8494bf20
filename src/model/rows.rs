//! Rows of one table in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::schema::{CONTEXT_COLUMN, is_context_column, memory_schema};
use super::{Context, Table, TimeRange};

/// Rows of one table: Arrow columns in [`memory_schema`] and, for `logs` and `spans`, the contexts they point to.
///
/// Rows may stand in any order of time. Cheap to clone. [`Rows::to_batch`] gives the columns as stored.
#[derive(Clone, Debug)]
pub struct Rows {
    table: Table,
    batch: RecordBatch,
    contexts: Arc<[Arc<Context>]>,
}

/// One request's rows, of one or more tables, as a decoder read them; `ingest_id` is zero until the WAL has them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// At most one entry a table.
    pub rows: Vec<Rows>,
}

impl Batch {
    /// Rows over all tables.
    pub fn n_rows(&self) -> usize {
        self.rows.iter().map(Rows::len).sum()
    }
    /// Whether no table has a row.
    pub fn is_empty(&self) -> bool {
        self.n_rows() == 0
    }
    /// Approximate bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.rows.iter().map(Rows::memory_bytes).sum()
    }
}

/// A text column, where it lies.
#[derive(Clone, Debug)]
pub enum Column<'a> {
    /// One value a row.
    PerRow(&'a ArrayRef),
    /// One value a context; row `i` has `values[ordinals[i]]`.
    PerContext {
        /// By context number.
        values: Vec<Option<&'a str>>,
        /// By row.
        ordinals: &'a Int32Array,
    },
}

impl Rows {
    /// Rows of `table` in its [`memory_schema`]. Errors when the schema differs or a context number has no context.
    pub fn try_new(table: Table, batch: RecordBatch, contexts: Arc<[Arc<Context>]>) -> Result<Self, ArrowError> {
        if batch.schema().fields() != memory_schema(table).fields() {
            return Err(ArrowError::SchemaError(format!("rows of {} do not have its memory schema", table.name())));
        }
        if table.is_searchable() {
            let ordinals = batch.column(batch.num_columns() - 1).as_primitive::<Int32Type>();
            if ordinals
                .values()
                .iter()
                .any(|ordinal| usize::try_from(*ordinal).map_or(true, |o| o >= contexts.len()))
            {
                return Err(ArrowError::InvalidArgumentError("a row names a context that is not there".into()));
            }
        }
        Ok(Self { table, batch, contexts })
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.table
    }
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }
    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }
    /// The row-level columns, in [`memory_schema`].
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }
    /// The contexts by number; empty for tables that have none.
    pub fn contexts(&self) -> &Arc<[Arc<Context>]> {
        &self.contexts
    }

    /// The context number of each row; `None` for tables that have none.
    pub fn ordinals(&self) -> Option<&Int32Array> {
        self.batch.column_by_name(CONTEXT_COLUMN).map(|column| column.as_primitive::<Int32Type>())
    }

    /// The context of a row, if its table has them.
    pub fn context(&self, row: usize) -> Option<&Arc<Context>> {
        self.contexts.get(self.ordinals()?.value(row) as usize)
    }

    /// A column by its stored name, except `resource_attributes` (ask the contexts).
    pub fn column(&self, name: &str) -> Option<Column<'_>> {
        if let Some(column) = self.batch.column_by_name(name) {
            return Some(Column::PerRow(column));
        }
        if !self.table.is_searchable() || !is_context_column(name) || name == "resource_attributes" {
            return None;
        }
        let values = self.contexts.iter().map(|context| context.column(name)).collect();
        Some(Column::PerContext {
            values,
            ordinals: self.ordinals()?,
        })
    }

    /// The services of rows that name theirs each; none where contexts have them.
    pub fn services(&self) -> Option<&StringArray> {
        match self.column("service_name") {
            Some(Column::PerRow(column)) => column.as_string_opt(),
            _ => None,
        }
    }

    /// Exact event times, nanoseconds.
    pub fn times(&self) -> &Int64Array {
        // every memory schema has the table's time column as INT64: `try_new` checked it
        self.batch
            .column_by_name(self.table.time_column())
            .expect("the schema has its time column")
            .as_primitive::<Int64Type>()
    }

    /// What the log numbered the rows with; zeros before it has.
    pub fn ingest_ids(&self) -> &Int64Array {
        self.batch
            .column_by_name("ingest_id")
            .expect("every memory schema has ingest_id")
            .as_primitive::<Int64Type>()
    }

    /// First and last event time, both inclusive; `None` without rows.
    pub fn time_bounds(&self) -> Option<(i64, i64)> {
        let times = self.times();
        Some((times.values().iter().copied().min()?, times.values().iter().copied().max()?))
    }

    /// Whether any row lies in `range`.
    pub fn overlaps(&self, range: &TimeRange) -> bool {
        self.time_bounds().is_some_and(|(min, max)| range.overlaps(min, max))
    }

    /// Approximate bytes of memory held, contexts left out (they are shared).
    pub fn memory_bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Approximate bytes of memory of the contexts, which other rows may share.
    pub fn context_bytes(&self) -> usize {
        let contexts = self.contexts.iter();
        contexts.map(|context| context.memory_bytes() + size_of::<Arc<Context>>()).sum()
    }

    /// The same rows without the spare room that builders leave, in columns that nobody else holds.
    pub fn compacted(self) -> Rows {
        let Rows { table, batch, contexts } = self;
        let (schema, mut columns, n_rows) = batch.into_parts();
        for column in &mut columns {
            column.shrink_to_fit();
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(n_rows));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options).expect("the same columns");
        Rows { table, batch, contexts }
    }

    /// The same rows with `ingest_id` = `first`, `first + 1`, ….
    pub fn with_ingest_ids(&self, first: i64) -> Rows {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + self.len() as i64));
        self.with_column("ingest_id", ids)
    }

    /// The same rows with one row-level column replaced. Panics if the column is not in the memory schema or its type
    /// or length differ: that is a mistake of the caller, not of input.
    pub fn with_column(&self, name: &str, column: ArrayRef) -> Rows {
        let index = self.batch.schema().index_of(name).expect("the column is in the memory schema");
        let mut columns = self.batch.columns().to_vec();
        columns[index] = column;
        let batch = RecordBatch::try_new(self.batch.schema(), columns).expect("the replacement has the column's type and length");
        Rows {
            table: self.table,
            batch,
            contexts: self.contexts.clone(),
        }
    }

    /// The rows at `indices` (INT32 or INT64 row numbers), in that order.
    pub fn take(&self, indices: &dyn Array) -> Result<Rows, ArrowError> {
        let columns = self
            .batch
            .columns()
            .iter()
            .map(|column| take(column, indices, None))
            .collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(self.batch.schema(), columns)?;
        Ok(Rows {
            table: self.table,
            batch,
            contexts: self.contexts.clone(),
        })
    }

    /// Rows `offset .. offset + length`, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Rows {
        Rows {
            table: self.table,
            batch: self.batch.slice(offset, length),
            contexts: self.contexts.clone(),
        }
    }

    /// All rows of `parts` (of one table) in order; equal contexts become one. Errors only on arithmetic overflow of a
    /// column (2 GiB of text).
    pub fn concat(table: Table, parts: &[Rows]) -> Result<Rows, ArrowError> {
        let schema = memory_schema(table);
        if !table.is_searchable() {
            return Rows::try_new(table, concat_batches(&schema, parts.iter().map(|part| &part.batch))?, Arc::from([]));
        }
        let (contexts, ordinals) = unify_contexts(parts);
        let context_column = schema.fields().len() - 1;
        let batches: Vec<RecordBatch> = parts
            .iter()
            .zip(ordinals)
            .map(|(part, ordinals)| {
                let mut columns = part.batch.columns().to_vec();
                columns[context_column] = Arc::new(ordinals);
                RecordBatch::try_new(schema.clone(), columns)
            })
            .collect::<Result<_, _>>()?;
        Rows::try_new(table, concat_batches(&schema, &batches)?, contexts)
    }

    /// The columns as stored, all of them or those named by `projection` (indices into [`Table::schema`]).
    pub fn to_batch(&self, projection: Option<&[usize]>) -> Result<RecordBatch, ArrowError> {
        let schema = self.table.schema();
        let wanted: Vec<usize> = projection.map_or_else(|| (0..schema.fields().len()).collect(), <[usize]>::to_vec);
        let fields: Vec<_> = wanted.iter().map(|i| schema.fields()[*i].clone()).collect();
        let columns = fields.iter().map(|field| self.stored_column(field)).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }

    fn stored_column(&self, field: &Field) -> Result<ArrayRef, ArrowError> {
        if let Some(column) = self.batch.column_by_name(field.name()) {
            return Ok(column.clone());
        }
        let ordinals = self.ordinals().ok_or_else(|| ArrowError::SchemaError(format!("no column {}", field.name())))?;
        take(&context_values(field, &self.contexts)?, ordinals, None)
    }
}

/// The values of a context column, one a context, in the stored type of `field`.
pub fn context_values(field: &Field, contexts: &[Arc<Context>]) -> Result<ArrayRef, ArrowError> {
    if field.name() != "resource_attributes" {
        return Ok(Arc::new(contexts.iter().map(|context| context.column(field.name())).collect::<StringArray>()));
    }
    let mut map = string_map_builder();
    for context in contexts {
        for (key, value) in context.resource_attributes() {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        map.append(true)?;
    }
    conform(&map.finish(), field.data_type())
}

/// A builder of `MAP<string, string>` columns; pass what it gives through [`conform`] to set the field IDs.
pub(crate) fn string_map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames {
        entry: "key_value".into(),
        key: "key".into(),
        value: "value".into(),
    };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

/// Gives a nested array the exact type of its schema (field names, nullability and field IDs), without copying values.
pub(crate) fn conform(array: &dyn Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    fn retype(data: arrow::array::ArrayData, data_type: &DataType) -> Result<arrow::array::ArrayData, ArrowError> {
        let children: Vec<&DataType> = match data_type {
            DataType::List(child) | DataType::Map(child, _) => vec![child.data_type()],
            DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
            _ => vec![],
        };
        let child_data = data
            .child_data()
            .iter()
            .cloned()
            .zip(children)
            .map(|(child, child_type)| retype(child, child_type))
            .collect::<Result<Vec<_>, _>>()?;
        data.into_builder().data_type(data_type.clone()).child_data(child_data).build()
    }
    Ok(arrow::array::make_array(retype(array.to_data(), data_type)?))
}

/// One list of contexts for many parts, and each part's context column rewritten to it.
pub fn unify_contexts(parts: &[Rows]) -> (Arc<[Arc<Context>]>, Vec<Int32Array>) {
    let mut contexts: Vec<Arc<Context>> = Vec::new();
    let mut numbers: HashMap<u128, i32> = HashMap::new();
    let ordinals = parts
        .iter()
        .map(|part| {
            let renumbered: Vec<i32> = part
                .contexts
                .iter()
                .map(|context| {
                    *numbers.entry(context.hash()).or_insert_with(|| {
                        contexts.push(context.clone());
                        contexts.len() as i32 - 1
                    })
                })
                .collect();
            match part.ordinals() {
                Some(ordinals) => Int32Array::from_iter_values(ordinals.values().iter().map(|ordinal| renumbered[*ordinal as usize])),
                None => Int32Array::from_iter_values([]),
            }
        })
        .collect();
    (contexts.into(), ordinals)
}

/// A batch in the stored schema of `table` (read back from Parquet, say) as rows with contexts.
pub fn from_stored(table: Table, stored: &RecordBatch) -> Result<Rows, ArrowError> {
    let schema: SchemaRef = memory_schema(table);
    if !table.is_searchable() {
        let columns = schema
            .fields()
            .iter()
            .map(|field| match stored.column_by_name(field.name()) {
                // one that came later
                None if field.is_nullable() => Ok(arrow::array::new_null_array(field.data_type(), stored.num_rows())),
                _ => named(stored, field.name()).and_then(|column| conform(column, field.data_type())),
            })
            .collect::<Result<_, _>>()?;
        return Rows::try_new(table, RecordBatch::try_new(schema, columns)?, Arc::from([]));
    }
    let text: Vec<(&str, &StringArray)> = table
        .schema()
        .fields()
        .iter()
        .filter(|field| is_context_column(field.name()) && field.name() != "resource_attributes")
        .map(|field| {
            super::schema::RESOURCE_COLUMNS
                .iter()
                .map(|(_, c)| *c)
                .chain(super::schema::SCOPE_COLUMNS)
                .find(|c| c == field.name())
        })
        .map(|name| name.ok_or_else(|| ArrowError::SchemaError("an unknown context column".into())))
        .map(|name| name.and_then(|name| Ok((name, named(stored, name)?.as_string::<i32>()))))
        .collect::<Result<_, _>>()?;
    let attributes = named(stored, "resource_attributes")?.as_map();
    let (keys, values) = (attributes.keys().as_string::<i32>(), attributes.values().as_string::<i32>());
    let mut contexts: Vec<Arc<Context>> = Vec::new();
    let mut numbers: HashMap<u128, i32> = HashMap::new();
    let mut ordinals = Vec::with_capacity(stored.num_rows());
    // neighbours mostly share a context: remember the raw text of the last few by a cheap hash
    let mut recent: HashMap<u64, i32> = HashMap::new();
    for row in 0..stored.num_rows() {
        let span = attributes.value_offsets()[row] as usize..attributes.value_offsets()[row + 1] as usize;
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        let mut feed = |value: Option<&str>| {
            hasher.update(&value.map_or(u64::MAX, |v| v.len() as u64).to_le_bytes());
            hasher.update(value.unwrap_or_default().as_bytes());
        };
        for (_, column) in &text {
            feed(column.is_valid(row).then(|| column.value(row)));
        }
        for entry in span.clone() {
            feed(Some(keys.value(entry)));
            feed(values.is_valid(entry).then(|| values.value(entry)));
        }
        let raw = hasher.digest();
        let ordinal = *recent.entry(raw).or_insert_with(|| {
            let mut builder = super::ContextBuilder::new();
            for entry in span {
                if values.is_valid(entry) {
                    builder.attribute(keys.value(entry), super::Value::Str(values.value(entry)));
                }
            }
            let (mut scope, mut version) = ("", "");
            for (name, column) in &text {
                let Some(value) = column.is_valid(row).then(|| column.value(row)) else {
                    continue;
                };
                match *name {
                    "scope_name" => scope = value,
                    "scope_version" => version = value,
                    column => {
                        if let Some((attribute, _)) = super::schema::RESOURCE_COLUMNS.iter().find(|(_, c)| *c == column) {
                            builder.attribute(attribute, super::Value::Str(value));
                        }
                    }
                }
            }
            let context = builder.scope(scope, version).build();
            *numbers.entry(context.hash()).or_insert_with(|| {
                contexts.push(context);
                contexts.len() as i32 - 1
            })
        });
        ordinals.push(ordinal);
    }
    let last = schema.fields().len() - 1;
    let mut columns = schema.fields()[..last]
        .iter()
        .map(|field| named(stored, field.name()).and_then(|column| conform(column, field.data_type())))
        .collect::<Result<Vec<_>, _>>()?;
    columns.push(Arc::new(Int32Array::from(ordinals)));
    Rows::try_new(table, RecordBatch::try_new(schema, columns)?, contexts.into())
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
}
