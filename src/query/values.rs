//! The values that fields of a row have, for counting by them.
//!
//! A promoted field's value is its column; severities are their class. An attribute may have several values in one row
//! (on the record, on the resource, as leaves of a JSON body): facets count each, groups take the first.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};

use super::fields::Field;
use super::{Error, Result};
use crate::block::Texts;
use crate::model::{Column, Rows, Table, json, severity};

/// Values longer than this are cut, so that groups stay small.
const MAX_VALUE_BYTES: usize = 512;

/// Reads the values of one field from the rows of one batch.
pub(super) enum Reader<'a> {
    PerRow {
        array: &'a ArrayRef,
        is_severity: bool,
    },
    PerContext {
        values: Vec<Option<&'a str>>,
        ordinals: &'a [i32],
    },
    Attribute {
        key: &'a str,
        attributes: &'a MapArray,
        /// Of the rows, or of the contexts and the numbers of the rows' contexts.
        resource: Option<&'a MapArray>,
        contexts: Option<(Vec<Option<&'a str>>, &'a [i32])>,
        bodies: Option<&'a ArrayRef>,
    },
}

/// The stored columns that a field's values are read from.
pub(super) fn columns(table: Table, field: &Field) -> Vec<&'static str> {
    match field {
        Field::Text => vec![Texts::columns(table)[0]],
        Field::Attribute(_) if table == Table::Logs => vec!["attributes", "resource_attributes", "body"],
        Field::Attribute(_) => vec!["attributes", "resource_attributes"],
        field => field.column().into_iter().collect(),
    }
}

fn missing(name: &str) -> Error {
    Error::internal(format!("column {name} was not read"))
}

fn map(array: &ArrayRef) -> Result<&MapArray> {
    array.as_map_opt().ok_or_else(|| Error::internal("attributes are not a map"))
}

impl<'a> Reader<'a> {
    pub(super) fn of_rows(rows: &'a Rows, field: &'a Field) -> Result<Self> {
        let name = match field {
            Field::Attribute(key) => {
                let named = |name: &str| rows.batch().column_by_name(name).ok_or_else(|| missing(name));
                let values = rows.contexts().iter().map(|context| context.attribute(key)).collect();
                let ordinals = rows.ordinals().map(|ordinals| ordinals.values().as_ref());
                return Ok(Reader::Attribute {
                    key,
                    attributes: map(named("attributes")?)?,
                    resource: None,
                    contexts: ordinals.map(|ordinals| (values, ordinals)),
                    bodies: rows.batch().column_by_name("body"),
                });
            }
            Field::Text => Texts::columns(rows.table())[0],
            field => field.column().unwrap_or_default(),
        };
        Ok(match rows.column(name).ok_or_else(|| missing(name))? {
            Column::PerRow(array) => Reader::PerRow {
                array,
                is_severity: *field == Field::Severity,
            },
            Column::PerContext { values, ordinals } => Reader::PerContext {
                values,
                ordinals: ordinals.values(),
            },
        })
    }

    pub(super) fn of_stored(batch: &'a RecordBatch, table: Table, field: &'a Field) -> Result<Self> {
        let named = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        if let Field::Attribute(key) = field {
            return Ok(Reader::Attribute {
                key,
                attributes: map(named("attributes")?)?,
                resource: Some(map(named("resource_attributes")?)?),
                contexts: None,
                bodies: batch.column_by_name("body"),
            });
        }
        let name = columns(table, field).first().copied().unwrap_or_default();
        Ok(Reader::PerRow {
            array: named(name)?,
            is_severity: *field == Field::Severity,
        })
    }

    /// Calls `value` for each different value of a row.
    pub(super) fn each(&self, row: usize, value: &mut dyn FnMut(&str)) {
        match self {
            Reader::PerRow { array, is_severity } => {
                if let Some(text) = text_at(array, row, *is_severity) {
                    value(cut(&text));
                }
            }
            Reader::PerContext { values, ordinals } => {
                if let Some(text) = values[ordinals[row] as usize] {
                    value(cut(text));
                }
            }
            Reader::Attribute {
                key,
                attributes,
                resource,
                contexts,
                bodies,
            } => {
                let mut seen: Vec<String> = Vec::new();
                let mut found = |text: &str| {
                    let text = cut(text);
                    if !seen.iter().any(|s| s == text) {
                        seen.push(text.to_string());
                        value(text);
                    }
                };
                entries(attributes, row, key, &mut found);
                if let Some(resource) = resource {
                    entries(resource, row, key, &mut found);
                }
                if let Some((values, ordinals)) = contexts
                    && let Some(text) = values[ordinals[row] as usize]
                {
                    found(text);
                }
                let body = bodies.and_then(|bodies| bodies.as_string_opt::<i32>()).filter(|bodies| bodies.is_valid(row));
                if let Some(body) = body {
                    json::for_each_leaf(body.value(row), &mut |name, text| {
                        if name == *key {
                            found(text);
                        }
                    });
                }
            }
        }
    }

    /// The first value of a row.
    pub(super) fn first(&self, row: usize) -> Option<String> {
        let mut first = None;
        self.each(row, &mut |value| {
            first.get_or_insert_with(|| value.to_string());
        });
        first
    }
}

pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_VALUE_BYTES)]
}

fn entries(map: &MapArray, row: usize, key: &str, found: &mut dyn FnMut(&str)) {
    let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
    let offsets = map.value_offsets();
    for entry in offsets[row] as usize..offsets[row + 1] as usize {
        if keys.value(entry) == key && values.is_valid(entry) {
            found(values.value(entry));
        }
    }
}

fn text_at(array: &ArrayRef, row: usize, is_severity: bool) -> Option<Cow<'_, str>> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Int32 if is_severity => severity::class(array.as_primitive::<Int32Type>().value(row)).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string().into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string().into(),
        DataType::Boolean => array.as_boolean().value(row).to_string().into(),
        DataType::Timestamp(..) => array
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
            .saturating_mul(1_000)
            .to_string()
            .into(),
        _ => return None,
    })
}
