//! How many rows match: in all, by the values of fields, and by time.
//!
//! Rows of a block stand newest first, so a bucket of time is a range of rows; and which service or severity a row has, the
//! index knows ([`labels`]). Only fields that it does not know are read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;

use super::answer::{Facet, FacetValue};
use super::blocks::Blocks;
use super::coverage::ProblemKind;
use super::fields::Field;
use super::filter::Filter;
use super::job::Job;
use super::limits::Stop;
use super::matcher::{Matcher, visit};
use super::values::{Reader, columns};
use super::{Error, Result, labels, terms};
use crate::block::Block;
use crate::model::TimeRange;

/// Fields of one question.
pub(super) const MAX_FIELDS: usize = 50;
/// Buckets of time of one question.
pub(super) const MAX_BUCKETS: usize = 10_000;

/// Bytes of the groups of one question; a few blocks at a time have as many each.
const MAX_KEY_BYTES: usize = 32 << 20;

/// Rows that match.
pub(super) async fn count(job: &mut Job, blocks: &Arc<Blocks>) -> Result<u64> {
    let of_head: usize = job.over_head(|_, _, found| Ok(found.count_set_bits())).await?.into_iter().sum();
    let mut of_blocks = 0;
    job.over_blocks(
        blocks,
        |block, filter, range, stop| Matcher::new(block, filter, stop)?.count(block.rows_in(range)?),
        |rows: u64| of_blocks += rows,
    )
    .await;
    job.coverage.rows_matched_at_least += of_blocks;
    Ok(of_head as u64 + of_blocks)
}

/// Bucket of time (where rows are counted by time), values (`None` = the row has none) and rows.
pub(super) type Group = (Option<i64>, Vec<Option<String>>, u64);

/// Groups, and what stands outside them.
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    /// Rows of groups that are not listed.
    pub(super) other: u64,
}

/// Rows by group: the key is the bucket's beginning, if there are buckets, then each value's presence, length and text.
#[derive(Debug, Default)]
struct Tally {
    counts: HashMap<Box<[u8]>, u64>,
    /// Of the keys.
    bytes: usize,
    beyond: u64,
    max_groups: usize,
    matched: u64,
}

impl Tally {
    fn new(max_groups: usize) -> Self {
        Self { max_groups, ..Self::default() }
    }

    fn add(&mut self, key: &[u8], rows: u64) {
        if let Some(count) = self.counts.get_mut(key) {
            *count += rows;
        } else if self.counts.len() < self.max_groups && self.bytes + key.len() <= MAX_KEY_BYTES {
            self.bytes += key.len();
            self.counts.insert(key.into(), rows);
        } else {
            self.beyond += rows;
        }
    }

    fn merge(&mut self, other: Tally) {
        self.beyond += other.beyond;
        self.matched += other.matched;
        for (key, rows) in other.counts {
            self.add(&key, rows);
        }
    }
}

fn push_value(key: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None => key.push(0),
        Some(text) => {
            key.push(1);
            key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        }
    }
}

fn values_of(mut key: &[u8]) -> Vec<Option<String>> {
    let mut out = Vec::new();
    while let Some((present, rest)) = key.split_first() {
        key = rest;
        if *present == 0 {
            out.push(None);
            continue;
        }
        let Some((length, rest)) = key.split_first_chunk::<4>() else { break };
        let (text, rest) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
        out.push(Some(String::from_utf8_lossy(text).into_owned()));
        key = rest;
    }
    out
}

/// How the rows of one batch enter a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enter {
    /// The first values of all fields together, and the bucket of this width, if one is given.
    Group(Option<i64>),
    /// Each value of each field by itself, under the field's number.
    Each,
}

/// Reads a field, with its number.
type Numbered<'a> = (u8, Reader<'a>);

impl Enter {
    fn enter(self, readers: &[Numbered<'_>], times: &[i64], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
        match self {
            Enter::Group(width) => enter_group(readers, width.map(|width| bucket(times[row], width)), row, key, tally),
            Enter::Each => enter_each(readers, row, key, tally),
        }
    }

    fn width(self) -> Option<i64> {
        match self {
            Enter::Group(width) => width,
            Enter::Each => None,
        }
    }
}

/// The beginning of the bucket that a time lies in.
fn bucket(time: i64, width: i64) -> i64 {
    time.div_euclid(width).saturating_mul(width)
}

fn push_start(key: &mut Vec<u8>, start: Option<i64>) {
    if let Some(start) = start {
        key.extend_from_slice(&start.to_le_bytes());
    }
}

fn enter_group(readers: &[Numbered<'_>], start: Option<i64>, row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
    key.clear();
    push_start(key, start);
    for (_, reader) in readers {
        push_value(key, reader.first(row).as_deref());
    }
    tally.add(key, 1);
}

fn enter_each(readers: &[Numbered<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
    for (number, reader) in readers {
        let mut has_value = false;
        reader.each(row, &mut |value| {
            has_value = true;
            enter_value(*number, Some(value), 1, key, tally);
        });
        if !has_value {
            enter_value(*number, None, 1, key, tally);
        }
    }
}

/// Enters rows that have a value of a field, or none.
fn enter_value(number: u8, value: Option<&str>, rows: u64, key: &mut Vec<u8>, tally: &mut Tally) {
    key.clear();
    key.push(number);
    push_value(key, value);
    tally.add(key, rows);
}

/// The buckets that a block has rows in, each with those rows, of `range`.
fn pieces(block: &Block, range: &TimeRange, width: i64) -> Result<Vec<(i64, Range<u32>)>> {
    let meta = block.meta();
    let first = bucket(meta.min_time_nanos.max(range.start_nanos), width);
    let last = bucket(meta.max_time_nanos.min(range.end_nanos.saturating_sub(1)), width);
    let mut pieces = Vec::new();
    let mut start = first;
    while start <= last {
        let end = start.saturating_add(width);
        let rows = block.rows_in(&TimeRange::new(start, end).intersect(range))?;
        if !rows.is_empty() {
            pieces.push((start, rows));
        }
        if end == i64::MAX {
            break;
        }
        start = end;
    }
    Ok(pieces)
}

/// Counts a block's rows by groups from its index; `false` where they must be read.
fn group_by_index(fields: &[Field], block: &Block, range: &TimeRange, width: Option<i64>, found: Option<&BooleanBuffer>, tally: &mut Tally) -> Result<bool> {
    if block.index().is_none() {
        return Ok(false);
    }
    let pieces: Vec<(Option<i64>, Range<u32>)> = match width {
        None => vec![(None, block.rows_in(range)?)],
        Some(width) => pieces(block, range, width)?.into_iter().map(|(start, rows)| (Some(start), rows)).collect(),
    };
    let (starts, pieces): (Vec<Option<i64>>, Vec<Range<u32>>) = pieces.into_iter().unzip();
    let fields: Vec<&Field> = fields.iter().collect();
    let mut key = Vec::new();
    Ok(labels::count(block, &fields, &pieces, found, &mut |piece, values, rows| {
        key.clear();
        push_start(&mut key, starts[piece]);
        values.iter().for_each(|value| push_value(&mut key, *value));
        tally.add(&key, rows);
    }))
}

/// Fields whose values the index of a block does not count; those of the others are entered.
fn left_to_read<'a>(fields: &'a [Field], block: &Block, found: &BooleanBuffer, rows: &Range<u32>, stop: &Stop, tally: &mut Tally) -> Vec<(u8, &'a Field)> {
    let mut left = Vec::new();
    let mut key = Vec::new();
    let whole = rows.clone();
    for (number, field) in (0u8..).zip(fields) {
        let by_label = labels::count(block, &[field], std::slice::from_ref(&whole), Some(found), &mut |_, values, rows| {
            enter_value(number, values[0], rows, &mut key, tally);
        });
        if by_label {
            continue;
        }
        let counts = match field {
            Field::Attribute(name) => terms::counts(block, name, found, rows, stop),
            _ => None,
        };
        let Some(counts) = counts else {
            left.push((number, field));
            continue;
        };
        for (value, rows) in counts.values {
            enter_value(number, Some(&value), rows, &mut key, tally);
        }
        if counts.missing > 0 {
            enter_value(number, None, counts.missing, &mut key, tally);
        }
    }
    left
}

async fn tally(job: &mut Job, blocks: &Arc<Blocks>, fields: Vec<Field>, max_groups: usize, enter: Enter) -> Result<Tally> {
    let fields: Arc<[Field]> = fields.into();
    let table = job.table;
    let of_head = fields.clone();
    let parts = job
        .over_head(move |_, rows, found| {
            let mut tally = Tally::new(max_groups);
            let readers = (0u8..)
                .zip(of_head.iter())
                .map(|(number, field)| Ok((number, Reader::of_rows(rows, field)?)))
                .collect::<Result<Vec<_>>>()?;
            let mut key = Vec::new();
            let times = rows.times().values();
            for row in found.set_indices() {
                enter.enter(&readers, times, row, &mut key, &mut tally);
            }
            Ok(tally)
        })
        .await?;
    let mut sum = Tally::new(max_groups);
    parts.into_iter().for_each(|part| sum.merge(part));
    let of_block = move |block: &Block, filter: &Filter, range: &TimeRange, stop: &Stop| {
        let rows = block.rows_in(range)?;
        let mut tally = Tally::new(max_groups);
        let every_row = matches!(filter, Filter::All) && block.meta().hidden.is_empty();
        if let (true, Enter::Group(width)) = (every_row, enter)
            && group_by_index(&fields, block, range, width, None, &mut tally)?
        {
            tally.matched = rows.len() as u64;
            return Ok(tally);
        }
        let found = Matcher::new(block, filter, stop)?.all(rows.clone())?;
        tally.matched = found.count_set_bits() as u64;
        if tally.matched == 0 {
            return Ok(tally);
        }
        let left = match enter {
            Enter::Group(width) => {
                if !every_row && group_by_index(&fields, block, range, width, Some(&found), &mut tally)? {
                    return Ok(tally);
                }
                (0u8..).zip(fields.iter()).collect()
            }
            Enter::Each => {
                let left = left_to_read(&fields, block, &found, &rows, stop, &mut tally);
                if left.is_empty() {
                    return Ok(tally);
                }
                left
            }
        };
        let mut wanted: Vec<&'static str> = left.iter().flat_map(|(_, field)| columns(table, field)).collect();
        wanted.extend(enter.width().map(|_| table.time_column()));
        wanted.sort_unstable();
        wanted.dedup();
        let mut key = Vec::new();
        visit(block, &found, rows, &wanted, stop, &mut |batch, mask| {
            let readers = left
                .iter()
                .map(|(number, field)| Ok((*number, Reader::of_stored(batch, table, field)?)))
                .collect::<Result<Vec<_>>>()?;
            let times = match enter.width() {
                Some(_) => batch
                    .column_by_name(table.time_column())
                    .and_then(|times| times.as_primitive_opt::<Int64Type>()),
                None => None,
            };
            let times = times.map_or(&[][..], |times| times.values());
            if enter.width().is_some() && times.len() != batch.num_rows() {
                return Err(Error::internal("times were not read"));
            }
            for row in mask.set_indices() {
                enter.enter(&readers, times, row, &mut key, &mut tally);
            }
            Ok(())
        })?;
        Ok(tally)
    };
    job.over_blocks(blocks, of_block, |part| sum.merge(part)).await;
    job.coverage.rows_matched_at_least += sum.matched;
    if sum.beyond > 0 {
        // a group that found no room in one block may have rows in another: those alone would be too few
        let message = format!("more than {max_groups} different groups, or more text than fits: counts are lower bounds, and the rest is counted together");
        job.coverage.incomplete(ProblemKind::Limit, "groups", message);
    }
    Ok(sum)
}

fn check_fields(fields: &[String]) -> Result<()> {
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(Error::BadRequest {
            message: format!("name 1 to {MAX_FIELDS} fields, not {}", fields.len()),
            hint: None,
        });
    }
    Ok(())
}

/// Refuses widths that make too many buckets of the (closed) range.
fn check_buckets(range: &TimeRange, width: i64) -> Result<()> {
    let last = range.end_nanos.saturating_sub(1).max(range.start_nanos);
    let n_buckets = match width {
        1.. => i128::from(last.div_euclid(width)) - i128::from(range.start_nanos.div_euclid(width)) + 1,
        _ => i128::MAX,
    };
    if n_buckets > MAX_BUCKETS as i128 {
        return Err(Error::BadRequest {
            message: format!("buckets of {width} ns over this range are more than {MAX_BUCKETS}"),
            hint: Some("ask for wider buckets or a shorter range".into()),
        });
    }
    Ok(())
}

/// The `limit` groups with most rows, and the rows of all others; by time too, in buckets of `width` nanoseconds (multiples
/// of it since 1970), if that is given.
pub(super) async fn count_by(job: &mut Job, blocks: &Arc<Blocks>, fields: &[String], width: Option<i64>, limit: usize, max_groups: usize) -> Result<Groups> {
    if let Some(width) = width {
        job.close_range();
        check_buckets(&job.range, width)?;
    }
    // by time alone there need be none
    if width.is_none() || !fields.is_empty() {
        check_fields(fields)?;
    }
    let fields = fields.iter().map(|name| Field::resolve(job.table, name)).collect();
    let tally = tally(job, blocks, fields, max_groups, Enter::Group(width)).await?;
    let group = |(key, rows): (&[u8], &u64)| match (width, key.split_first_chunk::<8>()) {
        (Some(_), Some((start, values))) => (Some(i64::from_le_bytes(*start)), values_of(values), *rows),
        _ => (None, values_of(key), *rows),
    };
    let mut groups: Vec<Group> = tally.counts.iter().map(|(key, rows)| group((key, rows))).collect();
    groups.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| (a.0, &a.1).cmp(&(b.0, &b.1))));
    let other = groups.iter().skip(limit).map(|(_, _, rows)| rows).sum::<u64>() + tally.beyond;
    groups.truncate(limit);
    // by time: what was cut off had fewest rows, what is left reads in order
    groups.sort_by_key(|(start, _, _)| *start);
    Ok(Groups { groups, other })
}

/// The `limit` values of each field that most rows have.
pub(super) async fn facets(job: &mut Job, blocks: &Arc<Blocks>, names: &[String], limit: usize, max_groups: usize) -> Result<Vec<Facet>> {
    check_fields(names)?;
    let fields = names.iter().map(|name| Field::resolve(job.table, name)).collect();
    let tally = tally(job, blocks, fields, max_groups, Enter::Each).await?;
    let mut facets: Vec<Facet> = names
        .iter()
        .map(|name| Facet {
            field: name.clone(),
            values: Vec::new(),
            missing: 0,
            truncated: tally.beyond > 0,
        })
        .collect();
    for (key, rows) in &tally.counts {
        let Some((facet, value)) = key.split_first().and_then(|(number, value)| Some((facets.get_mut(*number as usize)?, value))) else {
            continue;
        };
        match values_of(value).into_iter().next().flatten() {
            Some(value) => facet.values.push(FacetValue { value, count: *rows }),
            None => facet.missing += rows,
        }
    }
    for facet in &mut facets {
        facet.values.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        facet.truncated |= facet.values.len() > limit;
        facet.values.truncate(limit);
    }
    Ok(facets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_bounded_in_groups_and_in_their_text() {
        let mut few = Tally::new(2);
        for key in [&b"a"[..], b"b", b"c", b"a", b"c"] {
            few.add(key, 1);
        }
        assert_eq!((few.counts.len(), few.counts[&b"a"[..]], few.beyond), (2, 2, 2));
        let mut long = Tally::new(usize::MAX);
        let key = vec![0; MAX_KEY_BYTES / 4];
        for n in 0..6u8 {
            long.add(&[&key[..], &[n]].concat(), 1);
        }
        assert_eq!((long.counts.len(), long.beyond), (3, 3));
        let mut sum = Tally::new(usize::MAX);
        sum.merge(long);
        sum.merge(few);
        assert_eq!((sum.counts.len(), sum.beyond), (5, 5));
    }
}
