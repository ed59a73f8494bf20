//! How many rows match over time, by severity (spans: by status).

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};

use super::answer::Bucket;
use super::blocks::Blocks;
use super::filter::Filter;
use super::job::Job;
use super::limits::Stop;
use super::matcher::{Matcher, visit};
use super::{Error, Result};
use crate::block::{Block, IndexQuery, RawField};
use crate::model::{STATUS_CODES, Table, TimeRange, severity};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Most buckets of one histogram.
pub(super) const MAX_BUCKETS: usize = 2_000;
/// Up to so many matching rows of a block are read one by one; above, the index counts them. (Few in tests, so
/// that small blocks go both ways.)
const READ_UP_TO: u64 = if cfg!(test) { 100 } else { 20_000 };

/// Series of `logs`.
pub(super) const LOG_SERIES: [&str; 7] = ["UNSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// Names of the series of a table.
pub(super) fn series(table: Table) -> &'static [&'static str] {
    match table {
        Table::Spans => &STATUS_CODES,
        _ => &LOG_SERIES,
    }
}

fn column(table: Table) -> &'static str {
    match table {
        Table::Spans => "status_code",
        _ => "severity_number",
    }
}

/// Equal buckets over a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    pub(super) width: i64,
    first: i64,
    pub(super) count: usize,
}

impl Buckets {
    /// At most `wanted` buckets of a round width that cover a (closed) range.
    pub(super) fn over(range: &TimeRange, wanted: usize) -> Self {
        let wanted = wanted.clamp(1, MAX_BUCKETS) as i128;
        let last = range.end_nanos.saturating_sub(1).max(range.start_nanos);
        let fits = |width: i64| i128::from(last.div_euclid(width)) - i128::from(range.start_nanos.div_euclid(width)) < wanted;
        // a start below a boundary may need one bucket more than the length says, and one bucket may never fit; then the
        // widest must do
        let width = widths().find(|width| fits(*width)).unwrap_or(i64::MAX);
        let first = range.start_nanos.div_euclid(width);
        let count = (i128::from(last.div_euclid(width)) - i128::from(first) + 1).clamp(1, MAX_BUCKETS as i128) as usize;
        Self { width, first, count }
    }

    pub(super) fn of(&self, time: i64) -> usize {
        let bucket = time.div_euclid(self.width).saturating_sub(self.first);
        usize::try_from(bucket).unwrap_or_default().min(self.count - 1)
    }

    pub(super) fn start(&self, bucket: usize) -> i64 {
        (self.first.saturating_add(bucket as i64)).saturating_mul(self.width)
    }

    fn range(&self, bucket: usize) -> TimeRange {
        TimeRange::new(self.start(bucket), self.start(bucket + 1))
    }
}

/// Widths that people count in, ascending.
fn widths() -> impl Iterator<Item = i64> {
    let below_a_second = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10i64.pow(power)));
    let seconds = [1, 2, 5, 10, 15, 30].map(|n| n * SECOND);
    let minutes = [1, 2, 5, 10, 15, 30].map(|n| n * MINUTE);
    let hours = [1, 2, 3, 6, 12].map(|n| n * HOUR);
    let days = [1, 2, 7, 14, 30, 90, 365, 3_650, 36_500].map(|n| n * DAY);
    below_a_second.chain(seconds).chain(minutes).chain(hours).chain(days)
}

/// Counts by bucket and series, in that order.
type Counts = Vec<Vec<u64>>;

/// Counts the job's rows.
pub(super) async fn histogram(job: &mut Job, blocks: &Arc<Blocks>, buckets: Buckets) -> Result<Vec<Bucket>> {
    let n_series = series(job.table).len();
    let table = job.table;
    let empty = vec![vec![0u64; n_series]; buckets.count];
    let mut total = empty.clone();
    let mut add = |counts: Counts| {
        for (sum, counts) in total.iter_mut().zip(counts) {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    };
    let start = empty.clone();
    let parts = job
        .over_head(move |_, rows, found| {
            let mut counts = start.clone();
            count_rows(table, rows.batch(), found, &buckets, &mut counts)?;
            Ok(counts)
        })
        .await?;
    parts.into_iter().for_each(&mut add);
    let mut matched = 0;
    job.over_blocks(
        blocks,
        move |block, filter, range, stop| count_block(block, filter, range, stop, &buckets, empty.clone()),
        |counts: Counts| {
            matched += counts.iter().flatten().sum::<u64>();
            add(counts);
        },
    )
    .await;
    job.coverage.rows_matched_at_least += matched;
    Ok(total
        .into_iter()
        .enumerate()
        .map(|(bucket, counts)| Bucket {
            start_unix_nano: buckets.start(bucket),
            counts,
        })
        .collect())
}

fn count_rows(table: Table, batch: &RecordBatch, found: &BooleanBuffer, buckets: &Buckets, counts: &mut Counts) -> Result<()> {
    let named = |name: &str| batch.column_by_name(name).ok_or_else(|| Error::internal(format!("column {name} was not read")));
    let times = named(table.time_column())?.as_primitive::<Int64Type>().values();
    let column = named(column(table))?;
    if table == Table::Spans {
        let codes = column.as_string::<i32>();
        for row in found.set_indices() {
            let series = STATUS_CODES.iter().position(|code| *code == codes.value(row)).unwrap_or_default();
            counts[buckets.of(times[row])][series] += 1;
        }
    } else {
        let numbers = column.as_primitive::<Int32Type>().values();
        for row in found.set_indices() {
            let series = severity::class_index(numbers[row]).map_or(0, |class| class + 1);
            counts[buckets.of(times[row])][series] += 1;
        }
    }
    Ok(())
}

fn count_block(block: &Block, filter: &Filter, range: &TimeRange, stop: &Stop, buckets: &Buckets, mut counts: Counts) -> Result<Counts> {
    let table = block.meta().table;
    let rows = block.rows_in(range)?;
    let matcher = Matcher::new(block, filter, stop)?;
    let found = matcher.all(rows.clone())?;
    let n_found = found.count_set_bits() as u64;
    if n_found == 0 {
        return Ok(counts);
    }
    if n_found > READ_UP_TO
        && let Some(by_series) = series_of_index(block, rows.clone())?
    {
        let (first, last) = (buckets.of(block.meta().min_time_nanos), buckets.of(block.meta().max_time_nanos));
        for (bucket, counts) in counts.iter_mut().enumerate().take(last + 1).skip(first) {
            let inside = block.rows_in(&buckets.range(bucket).intersect(range))?;
            let (start, length) = (inside.start as usize, inside.len());
            let here = found.slice(start, length);
            let all = here.count_set_bits() as u64;
            let mut known = 0;
            for (series, bits) in &by_series {
                let count = (&here & &bits.slice(start, length)).count_set_bits() as u64;
                counts[*series] += count;
                known += count;
            }
            counts[0] += all.saturating_sub(known);
        }
        return Ok(counts);
    }
    let columns = [table.time_column(), column(table)];
    visit(block, &found, rows, &columns, stop, &mut |batch, mask| {
        count_rows(table, batch, mask, buckets, &mut counts)
    })?;
    Ok(counts)
}

/// The rows of each series but the first (which is the rest), from the index.
fn series_of_index(block: &Block, rows: std::ops::Range<u32>) -> Result<Option<Vec<(usize, BooleanBuffer)>>> {
    let Some(index) = block.index() else { return Ok(None) };
    let field = match block.meta().table {
        Table::Spans => RawField::StatusCode,
        _ => RawField::Severity,
    };
    let mut terms: Vec<(usize, Vec<IndexQuery>)> = (1..series(block.meta().table).len()).map(|series| (series, Vec::new())).collect();
    for (value, _) in index.term_values(field)? {
        let series = match field {
            RawField::StatusCode => STATUS_CODES.iter().position(|code| *code == value),
            _ => value.parse().ok().and_then(severity::class_index).map(|class| class + 1),
        };
        if let Some((_, terms)) = terms.iter_mut().find(|(number, _)| Some(*number) == series) {
            terms.push(IndexQuery::Term { field, value });
        }
    }
    let mut out = Vec::new();
    for (series, any) in terms.into_iter().filter(|(_, any)| !any.is_empty()) {
        out.push((series, index.bitmap(&IndexQuery::Or(any), rows.clone())?));
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_round_and_no_more_than_asked_for() {
        for (start, end, wanted, width, count) in [
            (0, HOUR, 60, MINUTE, 60),
            (1, HOUR + 1, 60, 2 * MINUTE, 31),
            (0, 1, 60, 1, 1),
            (-DAY, DAY, 2, DAY, 2),
            (0, 0, 10, 1, 1),
            (5 * SECOND, 65 * SECOND, 10, 10 * SECOND, 7),
        ] {
            let buckets = Buckets::over(&TimeRange::new(start, end), wanted);
            assert_eq!((buckets.width, buckets.count), (width, count), "{start}..{end} in {wanted}");
            assert!(buckets.start(0) <= start && buckets.start(buckets.count) >= end);
        }
        let all = Buckets::over(&TimeRange::ALL, 1);
        assert!(all.count <= 3);
    }
}
