//! How many rows match, in all and by the values of fields.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;

use super::answer::{Facet, FacetValue};
use super::blocks::{Blocks, Matcher, visit};
use super::coverage::ProblemKind;
use super::fields::Field;
use super::job::Job;
use super::limits::Stop;
use super::values::{Reader, columns};
use super::{Error, Result, terms};
use crate::block::Block;

/// Fields of one question.
pub(super) const MAX_FIELDS: usize = 50;

/// Rows that match.
pub(super) async fn count(job: &mut Job, blocks: &Blocks) -> Result<u64> {
    let of_head: usize = job.over_head(|_, _, found| Ok(found.count_set_bits())).await?.into_iter().sum();
    let of_blocks: u64 = job
        .over_blocks(blocks, |block, filter, range, stop| {
            Matcher::new(block, filter, stop)?.count(block.rows_in(range)?)
        })
        .await
        .into_iter()
        .sum();
    job.coverage.rows_matched_at_least += of_blocks;
    Ok(of_head as u64 + of_blocks)
}

/// Values (`None` = the row has none) and rows; rows of groups beyond the bound.
type Groups = Vec<(Vec<Option<String>>, u64)>;

/// Rows by group: the key is each value's presence, length and text.
#[derive(Debug, Default)]
struct Tally {
    counts: HashMap<Box<[u8]>, u64>,
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
        } else if self.counts.len() < self.max_groups {
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
    /// The first values of all fields together.
    Group,
    /// Each value of each field by itself, under the field's number.
    Each,
}

/// Reads a field, with its number.
type Numbered<'a> = (u8, Reader<'a>);

impl Enter {
    fn enter(self, readers: &[Numbered<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
        match self {
            Enter::Group => enter_group(readers, row, key, tally),
            Enter::Each => enter_each(readers, row, key, tally),
        }
    }
}

fn enter_group(readers: &[Numbered<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
    key.clear();
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

/// Fields whose values the index of a block does not count; those of the others are entered.
fn left_to_read<'a>(fields: &'a [Field], block: &Block, found: &BooleanBuffer, rows: &Range<u32>, stop: &Stop, tally: &mut Tally) -> Vec<(u8, &'a Field)> {
    let mut left = Vec::new();
    let mut key = Vec::new();
    for (number, field) in (0u8..).zip(fields) {
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

async fn tally(job: &mut Job, blocks: &Blocks, fields: Vec<Field>, max_groups: usize, enter: Enter) -> Result<Tally> {
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
            for row in found.set_indices() {
                enter.enter(&readers, row, &mut key, &mut tally);
            }
            Ok(tally)
        })
        .await?;
    let of_blocks = job
        .over_blocks(blocks, move |block, filter, range, stop| {
            let rows = block.rows_in(range)?;
            let found = Matcher::new(block, filter, stop)?.all(rows.clone())?;
            let mut tally = Tally::new(max_groups);
            tally.matched = found.count_set_bits() as u64;
            let left = match enter {
                Enter::Group => (0u8..).zip(fields.iter()).collect(),
                Enter::Each => left_to_read(&fields, block, &found, &rows, stop, &mut tally),
            };
            if left.is_empty() {
                return Ok(tally);
            }
            let mut wanted: Vec<&'static str> = left.iter().flat_map(|(_, field)| columns(table, field)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let mut key = Vec::new();
            visit(block, &found, rows, &wanted, stop, &mut |batch, mask| {
                let readers = left
                    .iter()
                    .map(|(number, field)| Ok((*number, Reader::of_stored(batch, table, field)?)))
                    .collect::<Result<Vec<_>>>()?;
                for row in mask.set_indices() {
                    enter.enter(&readers, row, &mut key, &mut tally);
                }
                Ok(())
            })?;
            Ok(tally)
        })
        .await;
    let mut sum = Tally::new(max_groups);
    parts.into_iter().chain(of_blocks).for_each(|part| sum.merge(part));
    job.coverage.rows_matched_at_least += sum.matched;
    if sum.beyond > 0 {
        let message = format!("more than {max_groups} different groups; the rows of further ones are counted together");
        job.coverage.note(ProblemKind::Limit, "groups", message);
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

/// The `limit` groups with most rows, and the rows of all others.
pub(super) async fn count_by(job: &mut Job, blocks: &Blocks, fields: &[String], limit: usize, max_groups: usize) -> Result<(Groups, u64)> {
    check_fields(fields)?;
    let fields = fields.iter().map(|name| Field::resolve(job.table, name)).collect();
    let tally = tally(job, blocks, fields, max_groups, Enter::Group).await?;
    let mut groups: Groups = tally.counts.iter().map(|(key, rows)| (values_of(key), *rows)).collect();
    groups.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let other = groups.iter().skip(limit).map(|(_, rows)| rows).sum::<u64>() + tally.beyond;
    groups.truncate(limit);
    Ok((groups, other))
}

/// The `limit` values of each field that most rows have.
pub(super) async fn facets(job: &mut Job, blocks: &Blocks, names: &[String], limit: usize, max_groups: usize) -> Result<Vec<Facet>> {
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
