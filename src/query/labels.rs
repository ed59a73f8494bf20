//! The value that each row of a block has of a field, as the block's index tells it: rows are counted by service, severity
//! or status without reading one of them.
//!
//! A context stands for all rows under it, and postings say which those are; a severity or status is a term. Each
//! becomes a number a row, and counting is a walk over numbers. Fields of other kinds, and blocks without index, are
//! left to be read ([`super::values`]); both ways give the same counts.

use std::collections::HashMap;
use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::fields::Field;
use super::values::cut;
use crate::block::{Block, BlockIndex, RawField};
use crate::model::schema::is_context_column;
use crate::model::severity;

/// Different values of a field, and combinations of values of all fields, beyond which rows are read instead.
const MAX_VALUES: usize = 1 << 16;
/// Where fewer than one row in so many is counted, reading them is cheaper than labelling all.
const READ_BELOW_ONE_IN: usize = 4_096;

/// The value that each row has of one field.
#[derive(Debug)]
struct Labels {
    values: Vec<Option<String>>,
    /// Numbers into `values`, by row from the first of the range that was labelled.
    of_rows: Vec<u16>,
}

/// Values while they are gathered.
#[derive(Debug, Default)]
struct Values {
    numbers: HashMap<Option<String>, u16>,
    values: Vec<Option<String>>,
}

impl Values {
    fn number(&mut self, value: Option<&str>) -> Option<u16> {
        let value = value.map(|text| cut(text).to_string());
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u16::try_from(self.values.len()).ok()?;
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        Some(number)
    }
}

/// Where an index has a field's values.
enum Kept {
    /// Under the contexts: the column's name.
    Contexts(&'static str),
    /// As terms; a term's value, and that of rows without one.
    Terms(RawField, fn(&str) -> &str),
}

fn kept(field: &Field) -> Option<Kept> {
    match field {
        Field::Severity => Some(Kept::Terms(RawField::Severity, |number| {
            number.parse().map_or(severity::class(0), severity::class)
        })),
        field => match field.column()? {
            column if is_context_column(column) => Some(Kept::Contexts(column)),
            "status_code" => Some(Kept::Terms(RawField::StatusCode, |code| code)),
            _ => None,
        },
    }
}

fn label(index: &BlockIndex, kept: &Kept, rows: &Range<u32>) -> Option<Labels> {
    let mut values = Values::default();
    let mut of_rows = vec![0u16; rows.len()];
    let mut write = |found: &[u32], number: u16| {
        for row in found {
            of_rows[(row - rows.start) as usize] = number;
        }
    };
    match kept {
        Kept::Contexts(column) => {
            let contexts = index.contexts().iter().map(|context| values.number(context.column(column)));
            let numbers = contexts.collect::<Option<Vec<u16>>>()?;
            // a context that is not of this block would be damage
            let labelled = index.each_context_row(rows.clone(), &mut |context, found| write(found, numbers[context as usize]));
            labelled.ok()?;
        }
        Kept::Terms(field, value) => {
            values.number(Some("UNSET"))?;
            let mut too_many = false;
            let labelled = index.each_term_row(*field, rows.clone(), &mut |term, found| match values.number(Some(value(term))) {
                Some(number) => write(found, number),
                None => too_many = true,
            });
            labelled.ok().filter(|()| !too_many)?;
        }
    }
    Some(Labels {
        values: values.values,
        of_rows,
    })
}

/// Takes the number of a piece, the values of the fields, and how many rows of the piece have them.
pub(super) type TakeGroup<'a> = dyn FnMut(usize, &[Option<&str>], u64) + 'a;

/// Counts rows by the values of fields, piece by piece: calls `group(piece, values, rows)` for each combination that occurs.
/// `found` has a bit for each row of the block; without it, every row of the pieces counts, if none is hidden. `false`, before
/// anything was called, where the rows must be read or found.
pub(super) fn count(block: &Block, fields: &[&Field], pieces: &[Range<u32>], found: Option<&BooleanBuffer>, group: &mut TakeGroup<'_>) -> bool {
    let Some(index) = block.index() else { return false };
    if found.is_none() && !block.meta().hidden.is_empty() {
        return false;
    }
    let Some(kept) = fields.iter().map(|field| kept(field)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    // newest first, so ascending from the last piece's beginning
    let (start, end) = pieces
        .iter()
        .filter(|piece| !piece.is_empty())
        .fold((u32::MAX, 0), |(start, end), piece| (start.min(piece.start), end.max(piece.end)));
    if start >= end {
        return true;
    }
    let all = 0..block.n_rows();
    if let (None, [Kept::Contexts(column)], Some(piece)) = (found, kept.as_slice(), pieces.iter().position(|piece| *piece == all)) {
        return count_contexts(index, column, &mut |value, rows| group(piece, &[value], rows));
    }
    if let Some(found) = found
        && found.slice(start as usize, (end - start) as usize).count_set_bits() * READ_BELOW_ONE_IN < (end - start) as usize
    {
        return false;
    }
    let Some(labels) = kept.iter().map(|kept| label(index, kept, &(start..end))).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let combinations = labels.iter().try_fold(1usize, |product, labels| product.checked_mul(labels.values.len()));
    let Some(combinations) = combinations.filter(|n| *n <= MAX_VALUES) else {
        return false;
    };
    let mut counts = vec![0u64; combinations];
    let mut occurring: Vec<usize> = Vec::new();
    let mut values: Vec<Option<&str>> = Vec::with_capacity(labels.len());
    for (piece, rows) in pieces.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let mut add = |row: usize| {
            let row = row + (rows.start - start) as usize;
            let combination = labels
                .iter()
                .fold(0, |number, labels| number * labels.values.len() + usize::from(labels.of_rows[row]));
            if counts[combination] == 0 {
                occurring.push(combination);
            }
            counts[combination] += 1;
        };
        match found {
            None => (0..rows.len()).for_each(&mut add),
            Some(found) => found.slice(rows.start as usize, rows.len()).set_indices().for_each(&mut add),
        }
        for combination in occurring.drain(..) {
            values.clear();
            let mut rest = combination;
            for labels in labels.iter().rev() {
                values.push(labels.values[rest % labels.values.len()].as_deref());
                rest /= labels.values.len();
            }
            values.reverse();
            group(piece, &values, std::mem::take(&mut counts[combination]));
        }
    }
    true
}

/// All rows of a block by a context's column, without reading postings.
fn count_contexts(index: &BlockIndex, column: &str, group: &mut dyn FnMut(Option<&str>, u64)) -> bool {
    let Ok(counts) = index.context_counts() else { return false };
    for (context, rows) in index.contexts().iter().zip(counts).filter(|(_, rows)| *rows > 0) {
        group(context.column(column).map(cut), rows);
    }
    true
}
