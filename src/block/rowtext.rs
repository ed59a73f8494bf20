//! What a row says: its text and its attributes, the same for the index, the head and a scan.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use super::RawField;
use crate::model::schema::SPAN_COLUMNS;
use crate::model::{Table, json};

/// The searchable side of rows of `logs` or `spans`: over the columns of a batch in memory or stored schema.
///
/// *Text* is [`Texts`]. *Pairs* are attributes: the `attributes` map, the promoted span attributes and
/// `exception.type` under their OpenTelemetry names, and the leaves of a log body that is a JSON object.
#[derive(Debug)]
pub struct RowText<'a> {
    table: Table,
    texts: Texts<'a>,
    attributes: Pairs<'a>,
    promoted: Vec<(&'static str, Promoted<'a>)>,
    raw: Vec<(RawField, Promoted<'a>)>,
}

/// The text of rows, which is what tokens are made of: a log's body; of a span, one a line, its name, status message, and
/// the types and messages of its exceptions.
#[derive(Debug)]
pub struct Texts<'a> {
    /// `logs`: body; `spans`: name and status message.
    lines: Vec<&'a StringArray>,
    /// `spans` only.
    exceptions: Option<Exceptions<'a>>,
}

#[derive(Debug)]
enum Promoted<'a> {
    Text(&'a StringArray),
    Number(&'a Int32Array),
}

/// The keys and values of a map column of text.
#[derive(Debug)]
pub struct Pairs<'a> {
    map: &'a MapArray,
    keys: &'a StringArray,
    values: &'a StringArray,
}

#[derive(Debug)]
struct Exceptions<'a> {
    offsets: &'a [i32],
    attributes: Pairs<'a>,
}

impl<'a> Pairs<'a> {
    /// Looks at a column; `None` if it is no map of text.
    pub fn new(column: &'a ArrayRef) -> Option<Self> {
        let map = column.as_map_opt()?;
        Some(Self {
            map,
            keys: map.keys().as_string_opt()?,
            values: map.values().as_string_opt()?,
        })
    }

    /// Key and value of each entry of a row that has a value.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (offsets, keys, values) = (self.map.value_offsets(), self.keys, self.values);
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        entries
            .filter(|entry| values.is_valid(*entry))
            .map(|entry| (keys.value(entry), values.value(entry)))
    }

    fn for_each(&self, row: usize, pair: &mut dyn FnMut(&str, &str)) {
        self.of_row(row).for_each(|(key, value)| pair(key, value));
    }
}

fn missing(table: Table, name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("no text in column {name} of {}", table.name()))
}

impl<'a> Texts<'a> {
    /// Columns a batch must have.
    pub fn columns(table: Table) -> &'static [&'static str] {
        match table {
            Table::Spans => &["name", "status_message", "events"],
            _ => &["body"],
        }
    }

    /// Looks at a batch. Errors when the table is not searchable or a column is missing or of another type.
    pub fn new(table: Table, batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| missing(table, name));
        let text = |name: &'static str| column(name).and_then(|column| column.as_string_opt().ok_or_else(|| missing(table, name)));
        match table {
            Table::Logs => Ok(Self {
                lines: vec![text("body")?],
                exceptions: None,
            }),
            Table::Spans => {
                let no_events = || missing(table, "events");
                let events = column("events")?.as_list_opt::<i32>().ok_or_else(no_events)?;
                let fields: &StructArray = events.values().as_struct_opt().ok_or_else(no_events)?;
                let attributes = fields.column_by_name("attributes").and_then(Pairs::new).ok_or_else(no_events)?;
                Ok(Self {
                    lines: vec![text("name")?, text("status_message")?],
                    exceptions: Some(Exceptions {
                        offsets: events.value_offsets(),
                        attributes,
                    }),
                })
            }
            _ => Err(missing(table, "body")),
        }
    }

    /// The column that is the text, where one column is.
    pub fn column(&self) -> Option<&'a StringArray> {
        match self.lines[..] {
            [body] => Some(body),
            _ => None,
        }
    }

    /// The text of a row, in `scratch` where it is put together; `None` of a log without a body.
    pub fn of_row<'b>(&'b self, row: usize, scratch: &'b mut String) -> Option<&'b str> {
        if let Some(body) = self.column() {
            return body.is_valid(row).then(|| body.value(row));
        }
        scratch.clear();
        let mut line = |text: &str| {
            if !text.is_empty() {
                if !scratch.is_empty() {
                    scratch.push('\n');
                }
                scratch.push_str(text);
            }
        };
        for column in &self.lines {
            if column.is_valid(row) {
                line(column.value(row));
            }
        }
        if let Some(exceptions) = &self.exceptions {
            for event in exceptions.offsets[row] as usize..exceptions.offsets[row + 1] as usize {
                exceptions.attributes.for_each(event, &mut |key, value| {
                    if key == "exception.type" || key == "exception.message" {
                        line(value);
                    }
                });
            }
        }
        Some(scratch)
    }
}

impl<'a> RowText<'a> {
    /// Columns a batch must have, for a projected read that is then verified.
    pub fn columns(table: Table) -> Vec<&'static str> {
        match table {
            Table::Logs => vec!["trace_id", "severity_number", "event_name", "body", "attributes"],
            Table::Spans => [
                "trace_id",
                "span_id",
                "name",
                "kind",
                "status_code",
                "status_message",
                "exception_type",
                "attributes",
                "events",
            ]
            .into_iter()
            .chain(SPAN_COLUMNS.iter().map(|(_, column)| *column))
            .collect(),
            _ => vec![],
        }
    }

    /// Looks at a batch. Errors when the table is not searchable or a column is missing or of another type.
    pub fn new(table: Table, batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let texts = Texts::new(table, batch)?;
        let missing = |name: &str| missing(table, name);
        let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let value = |name: &'static str| {
            let column = column(name)?;
            let text = column.as_string_opt().map(Promoted::Text);
            text.or_else(|| column.as_primitive_opt::<Int32Type>().map(Promoted::Number))
                .ok_or_else(|| missing(name))
        };
        let mut promoted = Vec::new();
        if table == Table::Spans {
            for (attribute, column) in SPAN_COLUMNS.into_iter().chain([("exception.type", "exception_type")]) {
                promoted.push((attribute, value(column)?));
            }
        }
        let raw = RawField::ALL
            .into_iter()
            .filter(|field| field.is_in(table))
            .map(|field| Ok((field, value(field.name())?)))
            .collect::<Result<_, ArrowError>>()?;
        Ok(Self {
            table,
            texts,
            attributes: column("attributes").and_then(|column| Pairs::new(column).ok_or_else(|| missing("attributes")))?,
            promoted,
            raw,
        })
    }

    /// The column that is the text, where one column is.
    pub(super) fn text_column(&self) -> Option<&'a StringArray> {
        self.texts.column()
    }

    /// The text of a row, in `scratch` where it is put together; empty without any.
    pub fn text<'b>(&'b self, row: usize, scratch: &'b mut String) -> &'b str {
        self.texts.of_row(row, scratch).unwrap_or_default()
    }

    /// Calls `pair(key, value)` for each attribute of a row. A key may come several times.
    pub fn for_each_pair(&self, row: usize, pair: &mut dyn FnMut(&str, &str)) {
        self.attributes.for_each(row, pair);
        let mut digits = itoa::Buffer::new();
        for (attribute, column) in &self.promoted {
            if let Some(value) = column.value(row, &mut digits) {
                pair(attribute, value);
            }
        }
        if let (Table::Logs, [body]) = (self.table, &self.texts.lines[..])
            && body.is_valid(row)
        {
            json::for_each_leaf(body.value(row), pair);
        }
    }

    /// Calls `value(field, value)` for each of the [`RawField`]s that a row has.
    pub fn for_each_field(&self, row: usize, value: &mut dyn FnMut(RawField, &str)) {
        let mut digits = itoa::Buffer::new();
        for (field, column) in &self.raw {
            if let Some(text) = column.value(row, &mut digits) {
                value(*field, text);
            }
        }
    }
}

impl Promoted<'_> {
    fn value<'b>(&'b self, row: usize, digits: &'b mut itoa::Buffer) -> Option<&'b str> {
        match self {
            Promoted::Text(column) => column.is_valid(row).then(|| column.value(row)),
            Promoted::Number(column) => column.is_valid(row).then(|| digits.format(column.value(row))),
        }
    }
}
