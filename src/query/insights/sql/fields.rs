//! Fields of events as columns: of which types they are, and their values.
//!
//! SQL wants one type for a column, and JSON has one for each value. So all events are looked through first ([`Kinds`]): a field whose
//! values are all whole numbers is `BIGINT`, all numbers `DOUBLE`, all flags `BOOLEAN`; any other is text, in which numbers and flags
//! stand as they are written. A text that reads as a number counts as one among numbers, as it does in Logs Insights QL; where all are
//! texts, the field is text. Events that come in meanwhile and fit no more are noticed ([`Misfits`]), and all is read again.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::super::record::{self, Named};
use super::super::run::Scope;
use super::super::value::{Number, Value, is_long};
use super::super::{Event, discover};
use crate::model::{EventId, TimeRange};

/// Arguments of [`FieldsFunction`] that it has for each event.
const OF_EVENT: usize = 7;

/// What values a field has been seen with, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(u8);

impl Seen {
    const WHOLE: u8 = 1;
    const DOUBLE: u8 = 2;
    const FLAG: u8 = 4;
    const TEXT: u8 = 8;
    const NUMBER_AS_TEXT: u8 = 16;
    const DOUBLE_AS_TEXT: u8 = 32;

    fn of(value: &Value) -> Seen {
        Seen(match value {
            Value::Null => 0,
            Value::Whole(_) => Self::WHOLE,
            Value::Double(_) => Self::DOUBLE,
            Value::Flag(_) => Self::FLAG,
            // no column of numbers has room for it
            Value::Text(text) if is_long(text) => Self::TEXT,
            Value::Text(text) => match Number::read(text) {
                Some(Number::Whole(_)) => Self::NUMBER_AS_TEXT,
                Some(Number::Double(_)) => Self::DOUBLE_AS_TEXT,
                None => Self::TEXT,
            },
            Value::Time(_) | Value::List(_) | Value::Map(_) => Self::TEXT,
        })
    }

    pub(super) fn and(self, other: Seen) -> Seen {
        Seen(self.0 | other.0)
    }

    pub(super) fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// The type of a column of all these.
    pub(super) fn data_type(self) -> DataType {
        let has = |bits: u8| self.0 & bits != 0;
        let numbers = Self::WHOLE | Self::DOUBLE;
        if self.0 == Self::FLAG {
            DataType::Boolean
        } else if !has(numbers) || has(Self::FLAG | Self::TEXT) {
            DataType::Utf8
        } else if has(Self::DOUBLE | Self::DOUBLE_AS_TEXT) {
            DataType::Float64
        } else {
            DataType::Int64
        }
    }
}

/// The kinds of values of the fields of some events.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    pub(super) seen: HashMap<Arc<str>, Seen>,
}

impl Kinds {
    pub(super) fn add(&mut self, event: &Event, is_wanted: &dyn Fn(&str) -> bool, named: Option<&Named>) {
        let mut found = discover::fields(event, is_wanted);
        for name in named.iter().flat_map(|named| &named.names) {
            // fields of the message hide them
            if !found.iter().any(|(other, _)| other == name) {
                found.push((Arc::clone(name), record::field(event, name)));
            }
        }
        for (name, value) in found {
            let seen = Seen::of(&value);
            match self.seen.get_mut(&name) {
                Some(known) => *known = known.and(seen),
                None => {
                    self.seen.insert(name, seen);
                }
            }
        }
    }

    pub(super) fn absorb(&mut self, other: Kinds) {
        for (name, seen) in other.seen {
            let known = self.seen.entry(name).or_default();
            *known = known.and(seen);
        }
    }

    pub(super) fn of(&self, name: &str) -> Seen {
        self.seen.get(name).copied().unwrap_or_default()
    }
}

/// Whether a value was met that its column has no place for.
pub(super) type Misfits = Arc<AtomicBool>;

enum Builder {
    Whole(Int64Builder),
    Double(Float64Builder),
    Flag(BooleanBuilder),
    Text(StringBuilder),
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Builder::Whole(Int64Builder::new()),
            DataType::Float64 => Builder::Double(Float64Builder::new()),
            DataType::Boolean => Builder::Flag(BooleanBuilder::new()),
            _ => Builder::Text(StringBuilder::new()),
        }
    }

    /// `false`: it has no place for the value.
    fn push(&mut self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Builder::Whole(builder), Some(value)) => match value {
                Value::Whole(_) | Value::Text(_) if value.whole().is_some() => builder.append_option(value.whole()),
                _ => return false,
            },
            (Builder::Double(builder), Some(value)) => match value {
                Value::Whole(_) | Value::Double(_) | Value::Text(_) if value.as_f64().is_some() => builder.append_option(value.as_f64()),
                _ => return false,
            },
            (Builder::Flag(builder), Some(value)) => match value {
                Value::Flag(flag) => builder.append_value(*flag),
                _ => return false,
            },
            (Builder::Text(builder), Some(value)) => match value {
                Value::Text(text) => builder.append_value(text),
                Value::Flag(flag) => builder.append_value(if *flag { "true" } else { "false" }),
                other => builder.append_value(other.to_string()),
            },
            (Builder::Whole(builder), None) => builder.append_null(),
            (Builder::Double(builder), None) => builder.append_null(),
            (Builder::Flag(builder), None) => builder.append_null(),
            (Builder::Text(builder), None) => builder.append_null(),
        }
        true
    }

    fn finish(self) -> ArrayRef {
        match self {
            Builder::Whole(mut builder) => Arc::new(builder.finish()),
            Builder::Double(mut builder) => Arc::new(builder.finish()),
            Builder::Flag(mut builder) => Arc::new(builder.finish()),
            Builder::Text(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Two functions are the same if they are about the same fields, in the same statement.
macro_rules! same_by_identity {
    ($function:ident) => {
        impl PartialEq for $function {
            fn eq(&self, other: &Self) -> bool {
                self.identity == other.identity
            }
        }
        impl Eq for $function {}
        impl Hash for $function {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.identity.hash(state);
            }
        }
    };
}

/// Which rows are events of a table: those of a scope, in a range of time.
#[derive(Clone, Debug)]
pub(super) struct Belongs {
    pub(super) scope: Arc<dyn Scope>,
    pub(super) range: TimeRange,
}

impl Belongs {
    /// Of `(log group, log stream, observed time, event time)`.
    fn mask(&self, arguments: &[ColumnarValue], n_rows: usize) -> Result<BooleanArray> {
        let (groups, streams) = (texts(arguments, 0, n_rows)?, texts(arguments, 1, n_rows)?);
        let (observed, times) = (arguments[2].to_array(n_rows)?, arguments[3].to_array(n_rows)?);
        let (Some(observed), Some(times)) = (observed.as_primitive_opt::<TimestampMicrosecondType>(), times.as_primitive_opt::<Int64Type>()) else {
            return exec_err!("an event's times are none");
        };
        // most rows are of few streams
        let mut known: HashMap<(&str, &str), Option<bool>> = HashMap::new();
        let mut mask = BooleanBuilder::with_capacity(n_rows);
        for row in 0..n_rows {
            let (Some(group), Some(stream)) = (text(&groups, row), text(&streams, row)) else {
                mask.append_value(false);
                continue;
            };
            let of_all = *known.entry((group, stream)).or_insert_with(|| self.scope.has(group, stream));
            let shows = of_all.unwrap_or_else(|| {
                let ingestion_millis = match observed.is_valid(row) {
                    true => observed.value(row).div_euclid(1_000),
                    false => times.value(row).div_euclid(1_000_000),
                };
                self.scope.shows(group, stream, ingestion_millis)
            });
            mask.append_value(shows && (self.range.start_nanos..self.range.end_nanos).contains(&times.value(row)));
        }
        Ok(mask.finish())
    }
}

/// `(log group, log stream, observed time, event time, body, trace ID, span ID, columns of what is named of records …)` → the fields of the
/// event, as a structure. Rows that do not
/// belong to the table have none: filters are asked of them too, in no order.
#[derive(Debug)]
pub(super) struct FieldsFunction {
    signature: Signature,
    fields: Fields,
    named: Option<Arc<Named>>,
    belongs: Belongs,
    misfits: Misfits,
    identity: String,
}

same_by_identity!(FieldsFunction);

impl FieldsFunction {
    pub(super) fn new(table: &str, fields: Fields, named: Option<Arc<Named>>, belongs: Belongs, misfits: Misfits) -> Self {
        let n_columns = named.as_ref().map_or(0, |named| named.columns.len());
        Self {
            signature: Signature::any(OF_EVENT + n_columns, Volatility::Immutable),
            named,
            identity: format!("{table}\0{fields:?}"),
            fields,
            belongs,
            misfits,
        }
    }
}

/// A text of each row.
fn texts(arguments: &[ColumnarValue], number: usize, n_rows: usize) -> Result<StringArray> {
    match arguments.get(number) {
        Some(argument) => match argument.to_array(n_rows)?.as_string_opt::<i32>() {
            Some(texts) => Ok(texts.clone()),
            None => exec_err!("an event's text is none"),
        },
        None => exec_err!("an event has no such text"),
    }
}

fn text(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

impl ScalarUDFImpl for FieldsFunction {
    fn name(&self) -> &str {
        "insights_fields"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = arguments.number_rows;
        let texts = |number: usize| texts(&arguments.args, number, n_rows);
        let (groups, bodies, trace_ids, span_ids) = (texts(0)?, texts(4)?, texts(5)?, texts(6)?);
        let belongs = self.belongs.mask(&arguments.args, n_rows)?;
        let places: HashMap<&str, usize> = self.fields.iter().enumerate().map(|(place, field)| (field.name().as_str(), place)).collect();
        let mut builders: Vec<Builder> = self.fields.iter().map(|field| Builder::new(field.data_type())).collect();
        let mut values: Vec<Option<Value>> = vec![None; builders.len()];
        let columns = self.named.iter().flat_map(|named| &named.columns).zip(arguments.args.iter().skip(OF_EVENT));
        let columns = columns.map(|(name, column)| Ok((*name, column.to_array(n_rows)?)));
        let columns: HashMap<&str, ArrayRef> = columns.collect::<Result<_>>()?;
        let records = self.named.as_deref().map(|named| named.records(|name| columns.get(name)));
        let records = records.transpose().map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (mut group_name, mut group): (&str, Arc<str>) = ("", "".into());
        for row in 0..n_rows {
            if !belongs.value(row) {
                builders.iter_mut().for_each(|builder| {
                    builder.push(None);
                });
                continue;
            }
            let of = text(&groups, row).unwrap_or_default();
            if of != group_name {
                (group_name, group) = (of, of.into());
            }
            let event = Event {
                group: group.clone(),
                message: text(&bodies, row).unwrap_or_default().into(),
                trace_id: text(&trace_ids, row).map(str::to_string),
                span_id: text(&span_ids, row).map(str::to_string),
                record: records.as_ref().map(|records| Box::new(records.of_row(row))),
                ..Event::default()
            };
            for (name, value) in discover::fields(&event, &|name| places.contains_key(name)) {
                // of a name that stands twice, the first counts
                if let Some(place) = places.get(&*name).map(|place| &mut values[*place])
                    && place.is_none()
                {
                    *place = Some(value).filter(|value| !value.is_null());
                }
            }
            for name in self.named.iter().flat_map(|named| &named.names) {
                if let Some(place) = places.get(&**name).map(|place| &mut values[*place])
                    && place.is_none()
                {
                    *place = Some(record::field(&event, name)).filter(|value| !value.is_null());
                }
            }
            for (builder, value) in builders.iter_mut().zip(&mut values) {
                if !builder.push(value.take().as_ref()) {
                    builder.push(None);
                    self.misfits.store(true, Ordering::Relaxed);
                }
            }
        }
        let columns: Vec<ArrayRef> = builders.into_iter().map(Builder::finish).collect();
        if columns.is_empty() {
            return exec_err!("no fields were asked for");
        }
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(self.fields.clone(), columns, None)?)))
    }
}

/// `(log group, log stream, observed time, event time)` → whether the row belongs to the table.
#[derive(Debug)]
pub(super) struct BelongsFunction {
    signature: Signature,
    belongs: Belongs,
    identity: String,
}

same_by_identity!(BelongsFunction);

impl BelongsFunction {
    pub(super) fn new(table: &str, belongs: Belongs) -> Self {
        Self {
            signature: Signature::any(4, Volatility::Immutable),
            belongs,
            identity: table.to_string(),
        }
    }
}

impl ScalarUDFImpl for BelongsFunction {
    fn name(&self) -> &str {
        "insights_belongs"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.belongs.mask(&arguments.args, arguments.number_rows)?)))
    }
}

/// `(event time, ingest ID, log group, log stream)` → `@ptr`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PointerFunction {
    signature: Signature,
}

impl PointerFunction {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(4, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for PointerFunction {
    fn name(&self) -> &str {
        "insights_pointer"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = arguments.number_rows;
        let (times, ids) = (arguments.args[0].to_array(n_rows)?, arguments.args[1].to_array(n_rows)?);
        let (groups, streams) = (texts(&arguments.args, 2, n_rows)?, texts(&arguments.args, 3, n_rows)?);
        let (Some(times), Some(ids)) = (times.as_primitive_opt::<Int64Type>(), ids.as_primitive_opt::<Int64Type>()) else {
            return exec_err!("an event's place is none");
        };
        let pointer = |row: usize| {
            let id = EventId::new(times.value(row), ids.value(row), text(&groups, row)?, text(&streams, row)?);
            Some(id.pointer().to_string())
        };
        let pointers: StringArray = (0..n_rows).map(pointer).collect();
        Ok(ColumnarValue::Array(Arc::new(pointers)))
    }
}

/// The fields of a structure, all of which may be missing.
pub(super) fn structure(columns: &[(Arc<str>, DataType)]) -> Fields {
    columns.iter().map(|(name, data_type)| Field::new(&**name, data_type.clone(), true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_the_type_of_all_its_values() {
        let text = |text: &str| Value::text(text);
        for (values, expected) in [
            (vec![Value::Whole(1), Value::Null, text("2")], DataType::Int64),
            (vec![Value::Whole(1), text("2.5")], DataType::Float64),
            (vec![Value::Whole(1), Value::Double(0.5)], DataType::Float64),
            (vec![text("007"), text("8")], DataType::Utf8),
            (vec![Value::Whole(7), text("x")], DataType::Utf8),
            (vec![Value::Flag(true), Value::Flag(false)], DataType::Boolean),
            (vec![Value::Flag(true), Value::Whole(1)], DataType::Utf8),
            (vec![], DataType::Utf8),
        ] {
            let seen = values.iter().fold(Seen::default(), |seen, value| seen.and(Seen::of(value)));
            assert_eq!(seen.data_type(), expected, "{values:?}");
            let mut builder = Builder::new(&expected);
            assert!(
                values.iter().all(|value| builder.push(Some(value).filter(|value| !value.is_null()))),
                "{values:?}"
            );
        }
        assert!(!Builder::new(&DataType::Int64).push(Some(&Value::Double(0.5))));
        assert!(!Builder::new(&DataType::Boolean).push(Some(&text("true"))));
    }
}
