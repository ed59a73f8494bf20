//! Evaluates a filter over rows: unflushed ones, and those of blocks that no index answers for.
//!
//! Works on columns under a mask: a conjunction narrows it from the cheapest condition to the dearest, so that text is
//! cut into tokens, and JSON is parsed, only where nothing cheaper has decided. Conditions on resource and scope are
//! decided once a context.

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};

use super::conditions::{Key, Phrase, ValueTest};
use super::filter::{Filter, Leaf, Map};
use super::{Error, Result};
use crate::block::{Pairs, Texts};
use crate::model::schema::is_context_column;
use crate::model::{Column, Context, Rows, Table, TimeRange, json};

/// Where at least one row in so many is to be tested, one search goes through the texts of all.
const ALL_TEXTS_ABOVE_ONE_IN: usize = 4;

/// Rows to be tested: in memory, or as a block's scan gives them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk<'a> {
    Memory(&'a Rows),
    Stored(Table, &'a RecordBatch),
}

impl<'a> Chunk<'a> {
    fn table(&self) -> Table {
        match self {
            Chunk::Memory(rows) => rows.table(),
            Chunk::Stored(table, _) => *table,
        }
    }

    fn n_rows(&self) -> usize {
        match self {
            Chunk::Memory(rows) => rows.len(),
            Chunk::Stored(_, batch) => batch.num_rows(),
        }
    }

    fn column(&self, name: &str) -> Result<Column<'a>> {
        let found = match self {
            Chunk::Memory(rows) => rows.column(name),
            Chunk::Stored(_, batch) => batch.column_by_name(name).map(Column::PerRow),
        };
        found.ok_or_else(|| Error::internal(format!("column {name} was not read")))
    }

    fn texts(&self) -> Result<Texts<'a>> {
        let (table, batch) = match *self {
            Chunk::Memory(rows) => (rows.table(), rows.batch()),
            Chunk::Stored(table, batch) => (table, batch),
        };
        Ok(Texts::new(table, batch)?)
    }

    fn array(&self, name: &str) -> Result<&'a ArrayRef> {
        match self.column(name)? {
            Column::PerRow(array) => Ok(array),
            Column::PerContext { .. } => Err(Error::internal(format!("column {name} is one of contexts"))),
        }
    }
}

/// The rows of `chunk` that match.
pub(super) fn matches(filter: &Filter, chunk: Chunk<'_>) -> Result<BooleanBuffer> {
    within(filter, chunk, &BooleanBuffer::new_set(chunk.n_rows()))
}

/// The rows among `mask` that match.
pub(super) fn within(filter: &Filter, chunk: Chunk<'_>, mask: &BooleanBuffer) -> Result<BooleanBuffer> {
    match filter {
        Filter::All => Ok(mask.clone()),
        Filter::None => Ok(BooleanBuffer::new_unset(mask.len())),
        Filter::And(parts) => {
            let mut left = mask.clone();
            for part in by_cost(parts) {
                if left.count_set_bits() == 0 {
                    break;
                }
                left = within(part, chunk, &left)?;
            }
            Ok(left)
        }
        Filter::Or(parts) => {
            let mut found = BooleanBuffer::new_unset(mask.len());
            let mut left = mask.clone();
            for part in by_cost(parts) {
                if left.count_set_bits() == 0 {
                    break;
                }
                let more = within(part, chunk, &left)?;
                left = &left & &!&more;
                found = &found | &more;
            }
            Ok(found)
        }
        Filter::Not(inner) => Ok(mask & &!&within(inner, chunk, mask)?),
        Filter::Leaf(leaf) => leaf_within(leaf, chunk, mask),
    }
}

/// Cheapest first.
fn by_cost(parts: &[Filter]) -> Vec<&Filter> {
    fn cost(filter: &Filter) -> u32 {
        match filter {
            Filter::All | Filter::None => 0,
            Filter::And(parts) | Filter::Or(parts) => parts.iter().map(cost).sum(),
            Filter::Not(inner) => cost(inner),
            Filter::Leaf(leaf) => match leaf.as_ref() {
                Leaf::Numbers(..) => 1,
                Leaf::Column(..) => 2,
                Leaf::Value { keys, .. } if keys.is_empty() => 2,
                Leaf::InMap { .. } => 5,
                Leaf::Body { .. } => 8,
                Leaf::Phrase(_) => 10,
                Leaf::WholeText(_) => 8,
                Leaf::Value { .. } => 20,
            },
        }
    }
    let mut ordered: Vec<&Filter> = parts.iter().collect();
    ordered.sort_by_key(|part| cost(part));
    ordered
}

/// The rows among `mask` that lie in a range of time.
pub(super) fn in_range(rows: &Rows, range: &TimeRange) -> BooleanBuffer {
    if *range == TimeRange::ALL {
        return BooleanBuffer::new_set(rows.len());
    }
    let times = rows.times().values();
    BooleanBuffer::collect_bool(rows.len(), |row| range.contains(times[row]))
}

/// Tests the rows of a mask one by one.
fn select(mask: &BooleanBuffer, mut test: impl FnMut(usize) -> bool) -> BooleanBuffer {
    let mut out = arrow::array::BooleanBufferBuilder::new(mask.len());
    out.append_n(mask.len(), false);
    for row in mask.set_indices() {
        if test(row) {
            out.set_bit(row, true);
        }
    }
    out.finish()
}

fn leaf_within(leaf: &Leaf, chunk: Chunk<'_>, mask: &BooleanBuffer) -> Result<BooleanBuffer> {
    match leaf {
        Leaf::Phrase(phrase) => {
            let (texts, mut scratch) = (chunk.texts()?, String::new());
            if let Some(found) = phrase_in_column(phrase, &texts, mask) {
                return Ok(found);
            }
            Ok(select(mask, |row| texts.of_row(row, &mut scratch).is_some_and(|text| phrase.is_in(text))))
        }
        Leaf::WholeText(test) => {
            let (texts, mut scratch) = (chunk.texts()?, String::new());
            Ok(select(mask, |row| texts.of_row(row, &mut scratch).is_some_and(|text| test.passes(text))))
        }
        Leaf::Column(name, test) => match chunk.column(name)? {
            Column::PerRow(array) => column_within(array, &|value| test.passes(value), mask),
            per_context => Ok(context_column_within(&per_context, test, mask)),
        },
        Leaf::Numbers(name, ranges) => {
            let array = chunk.array(name)?;
            let inside = |number: i64| ranges.iter().any(|range| range.contains(&number));
            let valid = |row: usize| array.is_valid(row);
            Ok(match array.data_type() {
                DataType::Int64 => {
                    let numbers = array.as_primitive::<Int64Type>().values();
                    select(mask, |row| valid(row) && inside(numbers[row]))
                }
                DataType::Int32 => {
                    let numbers = array.as_primitive::<Int32Type>().values();
                    select(mask, |row| valid(row) && inside(i64::from(numbers[row])))
                }
                DataType::Timestamp(..) => {
                    let numbers = array.as_primitive::<TimestampMicrosecondType>().values();
                    select(mask, |row| valid(row) && inside(numbers[row]))
                }
                // flags are no numbers
                _ => BooleanBuffer::new_unset(mask.len()),
            })
        }
        Leaf::Value { column, keys, test } => value_within(*column, keys, test, chunk, mask),
        Leaf::Body { test, .. } => column_within(chunk.array("body")?, &|value| test.passes(value), mask),
        Leaf::InMap { map, name, column } => in_map_within(*map, name, *column, chunk, mask),
    }
}

/// The rows among a mask of many whose text holds a phrase, where the text is one column: rows without the phrase's longest
/// word are ruled out by one search through the whole column. `None` where that does not help.
fn phrase_in_column(phrase: &Phrase, texts: &Texts<'_>, mask: &BooleanBuffer) -> Option<BooleanBuffer> {
    let column = texts.column()?;
    if mask.count_set_bits() * ALL_TEXTS_ABOVE_ONE_IN < mask.len() {
        return None;
    }
    let mut out = arrow::array::BooleanBufferBuilder::new(mask.len());
    out.append_n(mask.len(), false);
    let knows = phrase.may_be_in(column.value_data(), column.value_offsets(), &mut |row| {
        if mask.value(row) && column.is_valid(row) && phrase.is_sought_in(column.value(row)) {
            out.set_bit(row, true);
        }
    });
    knows.then(|| out.finish())
}

fn column_within(array: &ArrayRef, passes: &dyn Fn(&str) -> bool, mask: &BooleanBuffer) -> Result<BooleanBuffer> {
    let valid = |row: usize| array.is_valid(row);
    let mut buffer = itoa::Buffer::new();
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            select(mask, |row| valid(row) && passes(values.value(row)))
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>();
            select(mask, |row| valid(row) && passes(buffer.format(values.value(row))))
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            select(mask, |row| valid(row) && passes(buffer.format(values.value(row))))
        }
        DataType::Boolean => {
            let values = array.as_boolean();
            select(mask, |row| valid(row) && passes(if values.value(row) { "true" } else { "false" }))
        }
        other => return Err(Error::internal(format!("a column of {other} has no text"))),
    })
}

fn context_column_within(column: &Column<'_>, test: &ValueTest, mask: &BooleanBuffer) -> BooleanBuffer {
    let Column::PerContext { values, ordinals } = column else {
        return BooleanBuffer::new_unset(mask.len());
    };
    let passes: Vec<bool> = values.iter().map(|value| value.is_some_and(|value| test.passes(value))).collect();
    by_context(&passes, ordinals, mask)
}

fn by_context(passes: &[bool], ordinals: &Int32Array, mask: &BooleanBuffer) -> BooleanBuffer {
    if passes.iter().all(|pass| *pass) {
        return mask.clone();
    }
    if !passes.iter().any(|pass| *pass) {
        return BooleanBuffer::new_unset(mask.len());
    }
    let ordinals = ordinals.values();
    select(mask, |row| passes[ordinals[row] as usize])
}

/// Whether a resource has a value that passes under one of the names, its promoted columns included.
pub(super) fn context_passes(context: &Context, column: Option<&str>, keys: &[Key], test: &ValueTest) -> bool {
    column
        .filter(|column| is_context_column(column))
        .and_then(|column| context.column(column))
        .is_some_and(|value| test.passes_itself_or_inside(value))
        || context
            .resource_attributes()
            .iter()
            .any(|(name, value)| keys.iter().any(|key| key.passes(name, value, test)))
}

/// Whether a resource has a value of just this name, or in the column that is it.
pub(super) fn context_has(context: &Context, name: &str, column: Option<&str>) -> bool {
    column.is_some_and(|column| context.column(column).is_some()) || context.resource_attributes().iter().any(|(other, _)| other == name)
}

fn in_map_within(map: Map, name: &str, column: Option<&'static str>, chunk: Chunk<'_>, mask: &BooleanBuffer) -> Result<BooleanBuffer> {
    if let (Map::ResourceAttributes, Chunk::Memory(rows)) = (map, chunk) {
        let passes: Vec<bool> = rows.contexts().iter().map(|context| context_has(context, name, column)).collect();
        return Ok(match rows.ordinals() {
            Some(ordinals) => by_context(&passes, ordinals, mask),
            None => BooleanBuffer::new_unset(mask.len()),
        });
    }
    let column = column.map(|column| chunk.array(column)).transpose()?;
    let pairs = pairs(chunk.array(map.name())?)?;
    let has = |row: usize| column.is_some_and(|column| column.is_valid(row)) || pairs.of_row(row).any(|(other, _)| other == name);
    Ok(select(mask, has))
}

/// What the resource says, then the row's column, its attributes, and last its JSON body.
fn value_within(column: Option<&'static str>, keys: &[Key], test: &ValueTest, chunk: Chunk<'_>, mask: &BooleanBuffer) -> Result<BooleanBuffer> {
    let mut found = match chunk {
        Chunk::Memory(rows) => {
            let passes: Vec<bool> = rows.contexts().iter().map(|context| context_passes(context, column, keys, test)).collect();
            match rows.ordinals() {
                Some(ordinals) => by_context(&passes, ordinals, mask),
                None => BooleanBuffer::new_unset(mask.len()),
            }
        }
        Chunk::Stored(..) => match column.filter(|column| is_context_column(column)) {
            Some(column) => column_within(chunk.array(column)?, &|value| test.passes_itself_or_inside(value), mask)?,
            None => BooleanBuffer::new_unset(mask.len()),
        },
    };
    let mut left = mask & &!&found;
    let mut add = |more: BooleanBuffer, left: &mut BooleanBuffer| {
        *left = &*left & &!&more;
        found = &found | &more;
    };
    if let Some(column) = column.filter(|column| !is_context_column(column)) {
        // a column that is indexed by itself is one text; the others are attributes like any
        let is_one_text = Leaf::raw_field(chunk.table(), column).is_some();
        let passes = |value: &str| {
            if is_one_text {
                test.passes(value)
            } else {
                test.passes_itself_or_inside(value)
            }
        };
        add(column_within(chunk.array(column)?, &passes, &left)?, &mut left);
    }
    if keys.is_empty() {
        return Ok(found);
    }
    let any_passes = |pairs: &Pairs<'_>, row: usize| pairs.of_row(row).any(|(name, value)| keys.iter().any(|key| key.passes(name, value, test)));
    if let Chunk::Stored(..) = chunk {
        let resource = pairs(chunk.array("resource_attributes")?)?;
        add(select(&left, |row| any_passes(&resource, row)), &mut left);
    }
    let attributes = pairs(chunk.array("attributes")?)?;
    add(select(&left, |row| any_passes(&attributes, row)), &mut left);
    if chunk.table() == Table::Logs {
        let bodies = strings(chunk.array("body")?)?;
        add(
            select(&left, |row| bodies.is_valid(row) && body_passes(bodies.value(row), keys, test)),
            &mut left,
        );
    }
    Ok(found)
}

fn body_passes(body: &str, keys: &[Key], test: &ValueTest) -> bool {
    if !json::looks_like_object(body) || !keys.iter().any(|key| key.may_be_in(body)) {
        return false;
    }
    let mut found = false;
    // leaves before a place where the text turns out malformed count, as they do in the index
    json::for_each_leaf(body, &mut |name, value| {
        found = found || keys.iter().any(|key| key.passes(name, value, test));
    });
    found
}

fn pairs(array: &ArrayRef) -> Result<Pairs<'_>> {
    Pairs::new(array).ok_or_else(|| Error::internal("attributes are not a map"))
}

fn strings(array: &ArrayRef) -> Result<&StringArray> {
    array.as_string_opt::<i32>().ok_or_else(|| Error::internal("a text column is not text"))
}
