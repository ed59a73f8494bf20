//! Maps of attributes as SQL shows them.
//!
//! Attributes that have a column of their own are stored in that alone ([`crate::model::schema::RESOURCE_COLUMNS`],
//! [`crate::model::schema::SPAN_COLUMNS`]). Who writes `attributes['http.route']` knows nothing of that, and would be told that no span has
//! one. So where a statement reads a map, the columns of the attributes that belong in it are read too, and are in it, before the others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Schema};
use arrow::error::ArrowError;

use crate::model::schema::{RESOURCE_COLUMNS, SPAN_COLUMNS};
use crate::model::{Table, conform, string_map_builder};

/// The attributes that a map column of a table lacks, and the columns that have them.
pub(super) fn promoted(table: Table, map: &str) -> &'static [(&'static str, &'static str)] {
    match (table, map) {
        (Table::Logs | Table::Spans, "resource_attributes") => &RESOURCE_COLUMNS,
        (Table::Spans, "attributes") => &SPAN_COLUMNS,
        (Table::MetricSeries, "resource_attributes") => &RESOURCE_COLUMNS[..1],
        _ => &[],
    }
}

/// A map that is to be made whole: its place in a batch, and names and places of what it lacks.
#[derive(Clone, Debug)]
struct Lacking {
    map: usize,
    promoted: Vec<(&'static str, usize)>,
}

/// What is read for the columns that a statement asks for.
#[derive(Clone, Debug)]
pub(super) struct WholeMaps {
    lacking: Vec<Lacking>,
    /// Columns that were asked for; what is read beyond them is for the maps.
    n_columns: usize,
}

impl WholeMaps {
    /// Adds to `wanted`, numbers of columns in `schema`, those that maps among them lack.
    pub(super) fn complete(table: Table, schema: &Schema, wanted: &mut Vec<usize>) -> Self {
        let n_columns = wanted.len();
        let mut lacking = Vec::new();
        for map in 0..n_columns {
            let of_map = promoted(table, schema.field(wanted[map]).name());
            if of_map.is_empty() {
                continue;
            }
            let promoted = of_map.iter().filter_map(|(attribute, column)| {
                let number = schema.index_of(column).ok()?;
                let place = wanted.iter().position(|known| *known == number).unwrap_or_else(|| {
                    wanted.push(number);
                    wanted.len() - 1
                });
                Some((*attribute, place))
            });
            let promoted = promoted.collect();
            lacking.push(Lacking { map, promoted });
        }
        Self { lacking, n_columns }
    }

    /// The columns that were asked for, their maps whole.
    pub(super) fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = batch.columns()[..self.n_columns].to_vec();
        for lacking in &self.lacking {
            let values = lacking.promoted.iter().map(|(name, place)| Ok((*name, Values::new(batch.column(*place))?)));
            let values = values.collect::<Result<Vec<_>, ArrowError>>()?;
            columns[lacking.map] = whole(batch.column(lacking.map), &values)?;
        }
        Ok(columns)
    }
}

/// A column that is an attribute.
enum Values<'a> {
    Text(&'a StringArray),
    Number(&'a Int32Array),
}

impl<'a> Values<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, ArrowError> {
        let text = column.as_string_opt().map(Values::Text);
        text.or_else(|| column.as_primitive_opt::<Int32Type>().map(Values::Number))
            .ok_or_else(|| ArrowError::SchemaError("a column of an attribute is text or a whole number".into()))
    }

    fn is_empty(&self) -> bool {
        match self {
            Values::Text(column) => column.null_count() == column.len(),
            Values::Number(column) => column.null_count() == column.len(),
        }
    }

    fn of_row<'b>(&'b self, row: usize, digits: &'b mut itoa::Buffer) -> Option<&'b str> {
        match self {
            Values::Text(column) => column.is_valid(row).then(|| column.value(row)),
            Values::Number(column) => column.is_valid(row).then(|| digits.format(column.value(row))),
        }
    }
}

/// The map with what stands in columns. A name that the map has too (its value is of another type than the column's) is left as it is.
fn whole(column: &ArrayRef, promoted: &[(&str, Values<'_>)]) -> Result<ArrayRef, ArrowError> {
    let promoted: Vec<_> = promoted.iter().filter(|(_, values)| !values.is_empty()).collect();
    if promoted.is_empty() {
        return Ok(Arc::clone(column));
    }
    let no_map = || ArrowError::SchemaError("attributes are a map of texts".into());
    let map: &MapArray = column.as_map_opt().ok_or_else(no_map)?;
    let keys: &StringArray = map.keys().as_string_opt().ok_or_else(no_map)?;
    let values: &StringArray = map.values().as_string_opt().ok_or_else(no_map)?;
    let mut out = string_map_builder();
    let mut digits = itoa::Buffer::new();
    for row in 0..map.len() {
        let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
        for (name, of_column) in &promoted {
            let Some(value) = of_column.of_row(row, &mut digits) else { continue };
            if !entries.clone().any(|entry| keys.value(entry) == *name) {
                out.keys().append_value(name);
                out.values().append_value(value);
            }
        }
        for entry in entries {
            out.keys().append_value(keys.value(entry));
            out.values().append_option(values.is_valid(entry).then(|| values.value(entry)));
        }
        out.append(true)?;
    }
    conform(&out.finish(), column.data_type())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContextBuilder, SpanId, SpanRecord, SpansBuilder, TraceId, Value};

    #[test]
    fn a_map_has_what_stands_in_columns_and_no_name_twice() {
        let mut builder = SpansBuilder::default();
        let mut context = ContextBuilder::new();
        context.attribute("service.name", Value::Str("api")).attribute("zone", Value::Str("b"));
        let context = builder.context(context.build());
        let span = SpanRecord {
            start_time_unix_nano: 1,
            end_time_unix_nano: Some(2),
            trace_id: TraceId::from_bytes(&[1; 16]).expect("an ID"),
            span_id: SpanId::from_bytes(&[2; 8]).expect("an ID"),
            parent_span_id: None,
            trace_state: None,
            trace_flags: None,
            name: "GET",
            kind: "SERVER",
            status_code: "UNSET",
            status_message: None,
            in_progress: false,
            dropped_attributes_count: 0,
        };
        builder.attribute("http.route", Value::Str("/pay"));
        builder.attribute("http.response.status_code", Value::Int(502));
        builder.attribute("http.method", Value::Str("GET"));
        builder.push(context, &span);
        // not of the column's type, so it stays in the map
        builder.attribute("http.route", Value::Int(7));
        builder.push(context, &span);
        let stored = builder.finish().and_then(|rows| rows.to_batch(None)).expect("rows");
        let schema = stored.schema();
        let number = |name: &str| schema.index_of(name).expect("a column");
        let mut wanted = vec![number("name"), number("resource_attributes"), number("attributes"), number("http_route")];
        let maps = WholeMaps::complete(Table::Spans, &schema, &mut wanted);
        let columns = maps.columns(&stored.project(&wanted).expect("columns")).expect("maps");
        assert_eq!(columns.len(), 4);
        let entries = |column: usize, row: usize| -> Vec<(String, String)> {
            let row = columns[column].as_map().value(row);
            let (keys, values) = (row.column(0).as_string::<i32>(), row.column(1).as_string::<i32>());
            let text = |value: Option<&str>| value.unwrap_or_default().to_string();
            keys.iter().zip(values).map(|(key, value)| (text(key), text(value))).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<Vec<_>>();
        assert_eq!(entries(1, 0), pairs(&[("service.name", "api"), ("zone", "b")]));
        let first = [
            ("http.request.method", "GET"),
            ("http.route", "/pay"),
            ("http.response.status_code", "502"),
            ("http.method", "GET"),
        ];
        assert_eq!(entries(2, 0), pairs(&first));
        assert_eq!(entries(2, 1), pairs(&[("http.route", "7")]));
        assert_eq!(columns[2].data_type(), schema.field_with_name("attributes").expect("a column").data_type());
    }
}
