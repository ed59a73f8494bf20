//! How many rows match, in all and by the values of fields.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer::{Facet, FacetValue};
use super::blocks::{Blocks, Matcher, visit};
use super::coverage::ProblemKind;
use super::fields::Field;
use super::job::Job;
use super::values::{Reader, columns};
use super::{Error, Result};

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
type Enter = fn(readers: &[Reader<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally);

/// Enters the first values of all fields together.
fn enter_group(readers: &[Reader<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
    key.clear();
    for reader in readers {
        push_value(key, reader.first(row).as_deref());
    }
    tally.add(key, 1);
}

/// Enters each value of each field by itself, under the field's number.
fn enter_each(readers: &[Reader<'_>], row: usize, key: &mut Vec<u8>, tally: &mut Tally) {
    for (number, reader) in readers.iter().enumerate() {
        let mut has_value = false;
        reader.each(row, &mut |value| {
            has_value = true;
            key.clear();
            key.push(number as u8);
            push_value(key, Some(value));
            tally.add(key, 1);
        });
        if !has_value {
            tally.add(&[number as u8, 0], 1);
        }
    }
}

async fn tally(job: &mut Job, blocks: &Blocks, fields: Vec<Field>, max_groups: usize, enter: Enter) -> Result<Tally> {
    let fields: Arc<[Field]> = fields.into();
    let table = job.table;
    let of_head = fields.clone();
    let parts = job
        .over_head(move |_, rows, found| {
            let mut tally = Tally::new(max_groups);
            let readers = of_head.iter().map(|field| Reader::of_rows(rows, field)).collect::<Result<Vec<_>>>()?;
            let mut key = Vec::new();
            for row in found.set_indices() {
                enter(&readers, row, &mut key, &mut tally);
            }
            Ok(tally)
        })
        .await?;
    let of_blocks = job
        .over_blocks(blocks, move |block, filter, range, stop| {
            let rows = block.rows_in(range)?;
            let found = Matcher::new(block, filter, stop)?.all(rows.clone())?;
            let mut wanted: Vec<&'static str> = fields.iter().flat_map(|field| columns(table, field)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let mut tally = Tally::new(max_groups);
            tally.matched = found.count_set_bits() as u64;
            let mut key = Vec::new();
            visit(block, &found, rows, &wanted, stop, &mut |batch, mask| {
                let readers = fields.iter().map(|field| Reader::of_stored(batch, table, field)).collect::<Result<Vec<_>>>()?;
                for row in mask.set_indices() {
                    enter(&readers, row, &mut key, &mut tally);
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
    let tally = tally(job, blocks, fields, max_groups, enter_group).await?;
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
    let tally = tally(job, blocks, fields, max_groups, enter_each).await?;
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
