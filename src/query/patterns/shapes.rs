//! Rows counted by the ID of their template.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};

use super::{MAX_SERVICES, MAX_SHAPES};
use crate::block::Block;
use crate::model::{Column, Rows, TimeRange, severity};
use crate::pattern::{Miner, PatternId, template_of};
use crate::query::blocks::Blocks;
use crate::query::filter::Filter;
use crate::query::histogram::{Buckets, LOG_SERIES};
use crate::query::job::Job;
use crate::query::limits::Stop;
use crate::query::matcher::{Matcher, rows_at_once, visit};
use crate::query::typed::{numbers, text_at, texts};
use crate::query::{DEFAULT_MAX_BODY, Error, Result};

/// Columns that count.
const COUNTED: [&str; 4] = ["time_unix_nano", "pattern_id", "severity_number", "service_name"];
/// Of rows without an ID, what it is made of is read instead.
const UNNAMED: [&str; 4] = ["time_unix_nano", "body", "severity_number", "service_name"];
/// Columns of a sample.
const SAMPLED: [&str; 6] = ["time_unix_nano", "ingest_id", "body", "trace_id", "severity_number", "service_name"];

/// A row of a template.
#[derive(Clone, Debug)]
pub(super) struct SampleRow {
    pub(super) time: i64,
    pub(super) ingest_id: i64,
    pub(super) template: String,
    pub(super) body: String,
    pub(super) trace_id: Option<String>,
    pub(super) service: Option<String>,
    pub(super) severity: i32,
}

impl SampleRow {
    /// The newest comes last.
    pub(super) fn place(&self) -> (i64, i64) {
        (self.time, self.ingest_id)
    }
}

/// Rows of one template.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first: i64,
    pub(super) last: i64,
    /// OpenTelemetry's number.
    pub(super) worst: i32,
    /// By the classes of [`LOG_SERIES`].
    pub(super) severities: [u64; LOG_SERIES.len()],
    /// Rows by bin, those bins that have some.
    pub(super) bins: Vec<(u32, u64)>,
    pub(super) services: Vec<(String, u64)>,
    /// The newest row.
    pub(super) sample: Option<SampleRow>,
}

/// What a row adds.
struct Row<'a> {
    time: i64,
    severity: i32,
    service: Option<&'a str>,
}

impl Seen {
    fn new() -> Self {
        Self {
            count: 0,
            first: i64::MAX,
            last: i64::MIN,
            worst: 0,
            severities: [0; LOG_SERIES.len()],
            bins: Vec::new(),
            services: Vec::new(),
            sample: None,
        }
    }

    fn add(&mut self, row: &Row<'_>, bins: Option<&Buckets>) {
        self.count += 1;
        self.first = self.first.min(row.time);
        self.last = self.last.max(row.time);
        self.worst = self.worst.max(row.severity);
        self.severities[severity::class_index(row.severity).map_or(0, |class| class + 1)] += 1;
        if let Some(bins) = bins {
            self.add_bin(bins.of(row.time) as u32, 1);
        }
        if let Some(service) = row.service {
            self.add_service(service, 1);
        }
    }

    fn add_bin(&mut self, bin: u32, rows: u64) {
        // rows come in order of time, as a rule
        match self.bins.iter_mut().rev().find(|(known, _)| *known == bin) {
            Some((_, count)) => *count += rows,
            None => self.bins.push((bin, rows)),
        }
    }

    fn add_service(&mut self, service: &str, rows: u64) {
        let has_room = self.services.len() < MAX_SERVICES;
        match self.services.iter_mut().find(|(known, _)| known == service) {
            Some((_, count)) => *count += rows,
            None if has_room => self.services.push((service.to_string(), rows)),
            None => {}
        }
    }

    fn merge(&mut self, other: Seen) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.worst = self.worst.max(other.worst);
        self.severities.iter_mut().zip(other.severities).for_each(|(sum, rows)| *sum += rows);
        other.bins.into_iter().for_each(|(bin, rows)| self.add_bin(bin, rows));
        other.services.iter().for_each(|(service, rows)| self.add_service(service, *rows));
        let is_newer = |ours: &SampleRow| other.sample.as_ref().is_some_and(|sample| sample.place() > ours.place());
        if self.sample.as_ref().is_none_or(is_newer) {
            self.sample = other.sample;
        }
    }
}

/// Rows by template.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub(super) known: HashMap<i64, Seen>,
    pub(super) matched: u64,
    /// Rows of templates that found no room.
    pub(super) beyond: u64,
    /// Rows without a text.
    pub(super) without: u64,
}

impl Shapes {
    /// Counts a row; whether it is the first of its template here.
    fn add(&mut self, id: i64, row: &Row<'_>, bins: Option<&Buckets>) -> bool {
        let has_room = self.known.len() < MAX_SHAPES;
        match self.known.entry(id) {
            Entry::Occupied(mut seen) => {
                seen.get_mut().add(row, bins);
                false
            }
            Entry::Vacant(place) if has_room => {
                place.insert(Seen::new()).add(row, bins);
                true
            }
            Entry::Vacant(_) => {
                self.beyond += 1;
                false
            }
        }
    }

    fn merge(&mut self, other: Shapes) {
        self.matched += other.matched;
        self.beyond += other.beyond;
        self.without += other.without;
        for (id, seen) in other.known {
            let has_room = self.known.len() < MAX_SHAPES;
            match self.known.entry(id) {
                Entry::Occupied(mut known) => known.get_mut().merge(seen),
                Entry::Vacant(place) if has_room => {
                    place.insert(seen);
                }
                Entry::Vacant(_) => self.beyond += seen.count,
            }
        }
    }

    /// Leaves out templates of which no row could be read.
    fn settle(&mut self) {
        let beyond = &mut self.beyond;
        self.known.retain(|_, seen| {
            if seen.sample.is_none() {
                *beyond += seen.count;
            }
            seen.sample.is_some()
        });
    }
}

/// Gathers the rows of a job; by bins, if such are given.
pub(super) async fn gather(job: &mut Job, blocks: &Arc<Blocks>, bins: Option<Buckets>) -> Result<Shapes> {
    let parts = job.over_head(move |_, rows, found| of_head(rows, found, bins.as_ref())).await?;
    let mut all = Shapes::default();
    parts.into_iter().for_each(|part| all.merge(part));
    let mut of_blocks = 0;
    job.over_blocks(
        blocks,
        move |block, filter, range, stop| of_block(block, filter, range, stop, bins.as_ref()),
        |part: Shapes| {
            of_blocks += part.matched;
            all.merge(part);
        },
    )
    .await;
    job.coverage.rows_matched_at_least += of_blocks;
    all.settle();
    Ok(all)
}

fn cut(body: &str) -> String {
    body[..body.floor_char_boundary(DEFAULT_MAX_BODY)].to_string()
}

/// Rows in memory, text and all.
fn of_head(rows: &Rows, found: &BooleanBuffer, bins: Option<&Buckets>) -> Result<Shapes> {
    let batch = rows.batch();
    let (bodies, trace_ids) = (texts(batch, "body")?, texts(batch, "trace_id")?);
    let (ids, severities) = (numbers::<Int64Type>(batch, "pattern_id")?, numbers::<Int32Type>(batch, "severity_number")?);
    let (times, ingest_ids) = (rows.times().values(), rows.ingest_ids().values());
    let Some(Column::PerContext { values, ordinals }) = rows.column("service_name") else {
        return Err(Error::internal("column service_name was not read"));
    };
    let service = |row: usize| values[ordinals.value(row) as usize];
    let mut miner = Miner::default();
    let mut shapes = Shapes::default();
    let mut newest: HashMap<i64, usize> = HashMap::new();
    for row in found.set_indices() {
        shapes.matched += 1;
        let id = match ids.is_valid(row) {
            true => Some(ids.value(row)),
            false => text_at(bodies, row).and_then(|body| miner.id(body)).map(PatternId::get),
        };
        let Some(id) = id else {
            shapes.without += 1;
            continue;
        };
        let added = Row {
            time: times[row],
            severity: severities.value(row),
            service: service(row),
        };
        shapes.add(id, &added, bins);
        let newest = newest.entry(id).or_insert(row);
        if (times[row], ingest_ids[row]) > (times[*newest], ingest_ids[*newest]) {
            *newest = row;
        }
    }
    for (id, seen) in &mut shapes.known {
        let Some(row) = newest.get(id).copied() else { continue };
        let body = text_at(bodies, row).unwrap_or_default();
        seen.sample = Some(SampleRow {
            time: times[row],
            ingest_id: ingest_ids[row],
            template: template_of(body).unwrap_or_default(),
            body: cut(body),
            trace_id: text_at(trace_ids, row).map(str::to_string),
            service: service(row).map(str::to_string),
            severity: severities.value(row),
        });
    }
    Ok(shapes)
}

/// Rows of a block: the newest come first.
fn of_block(block: &Block, filter: &Filter, range: &TimeRange, stop: &Stop, bins: Option<&Buckets>) -> Result<Shapes> {
    let rows = block.rows_in(range)?;
    let found = Matcher::new(block, filter, stop)?.all(rows.clone())?;
    let mut shapes = Shapes::default();
    if found.count_set_bits() == 0 {
        return Ok(shapes);
    }
    let n_rows = block.meta().n_rows as usize;
    let mut unnamed = BooleanBufferBuilder::new(n_rows);
    unnamed.append_n(n_rows, false);
    let mut n_unnamed = 0;
    // where the first row of each template stands
    let mut samples: Vec<(u32, i64)> = Vec::new();
    let mut places = found.set_indices();
    visit(block, &found, rows.clone(), &COUNTED, stop, &mut |batch, mask| {
        let (times, ids) = (numbers::<Int64Type>(batch, "time_unix_nano")?, numbers::<Int64Type>(batch, "pattern_id")?);
        let (severities, services) = (numbers::<Int32Type>(batch, "severity_number")?, texts(batch, "service_name")?);
        for (row, number) in mask.set_indices().zip(&mut places) {
            if ids.is_null(row) {
                unnamed.set_bit(number, true);
                n_unnamed += 1;
                continue;
            }
            shapes.matched += 1;
            let added = Row {
                time: times.value(row),
                severity: severities.value(row),
                service: text_at(services, row),
            };
            if shapes.add(ids.value(row), &added, bins) {
                samples.push((number as u32, ids.value(row)));
            }
        }
        Ok(())
    })?;
    if n_unnamed > 0 {
        let unnamed = unnamed.finish();
        let mut miner = Miner::default();
        let mut places = unnamed.set_indices();
        visit(block, &unnamed, rows, &UNNAMED, stop, &mut |batch, mask| {
            let (times, bodies) = (numbers::<Int64Type>(batch, "time_unix_nano")?, texts(batch, "body")?);
            let (severities, services) = (numbers::<Int32Type>(batch, "severity_number")?, texts(batch, "service_name")?);
            for (row, number) in mask.set_indices().zip(&mut places) {
                shapes.matched += 1;
                let Some(id) = text_at(bodies, row).and_then(|body| miner.id(body)) else {
                    shapes.without += 1;
                    continue;
                };
                let added = Row {
                    time: times.value(row),
                    severity: severities.value(row),
                    service: text_at(services, row),
                };
                if shapes.add(id.get(), &added, bins) {
                    samples.push((number as u32, id.get()));
                }
            }
            Ok(())
        })?;
    }
    read_samples(block, samples, stop, &mut shapes)?;
    Ok(shapes)
}

fn read_samples(block: &Block, mut samples: Vec<(u32, i64)>, stop: &Stop, shapes: &mut Shapes) -> Result<()> {
    samples.sort_unstable();
    for samples in samples.chunks(rows_at_once(block, &SAMPLED)) {
        if stop.is_over() {
            break;
        }
        let places: Vec<u32> = samples.iter().map(|(number, _)| *number).collect();
        stop.has_read(block.bytes_of_rows(&places, &SAMPLED));
        let batch = block.read(&places, &SAMPLED)?;
        let (times, ingest_ids) = (numbers::<Int64Type>(&batch, "time_unix_nano")?, numbers::<Int64Type>(&batch, "ingest_id")?);
        let (bodies, trace_ids) = (texts(&batch, "body")?, texts(&batch, "trace_id")?);
        let (severities, services) = (numbers::<Int32Type>(&batch, "severity_number")?, texts(&batch, "service_name")?);
        for (row, (_, id)) in samples.iter().enumerate() {
            let Some(seen) = shapes.known.get_mut(id) else { continue };
            let body = text_at(bodies, row).unwrap_or_default();
            seen.sample = Some(SampleRow {
                time: times.value(row),
                ingest_id: ingest_ids.value(row),
                template: template_of(body).unwrap_or_default(),
                body: cut(body),
                trace_id: text_at(trace_ids, row).map(str::to_string),
                service: text_at(services, row).map(str::to_string),
                severity: severities.value(row),
            });
        }
    }
    Ok(())
}
