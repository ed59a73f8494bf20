//! How far each source has come: searchable up to, in Parquet up to, in the lake up to.
//!
//! A source is a receiver, a signal, and the service or log group that its records name. Times are event times. Everything
//! acknowledged is searchable, so a source is *searchable* up to its newest record. It is *in Parquet* up to a time if every
//! acknowledged record of it with that time or an earlier one is in a committed block: just before its oldest unflushed record, or its
//! newest record if none waits. *In the lake* likewise, where sealed blocks count alone; a waiting block that does not say which
//! services it holds counts for all.
//!
//! In memory, stored with each flush, counted again from the log after a crash. At most `max_sources` are told apart;
//! records of further ones count for one source called [`OTHERS`]. A million records cost about a millisecond.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::metrics;
use crate::block::Level;
use crate::catalog::Snapshot;
use crate::model::{Batch, Rows, Table};

/// The service of records whose source found no place of its own.
pub(super) const OTHERS: &str = "(others)";

/// Who sends: receiver, signal, and what the records call themselves; empty where they do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// `otlp`, `awslogs`, `xray`, `self`.
    pub receiver: String,
    /// `logs`, `traces`, `metrics`.
    pub signal: String,
    /// `service.name`.
    pub service: String,
    /// The log group, if it came through CloudWatch Logs' protocol or names one.
    pub log_group: String,
}

impl Source {
    fn hash(receiver: &str, signal: &str, service: &str, log_group: &str) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for part in [receiver, signal, service, log_group] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.digest()
    }
}

/// How far one source has come, for the status.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Who.
    #[serde(flatten)]
    pub source: Source,
    /// Records acknowledged.
    pub records: u64,
    /// When the last one was, nanoseconds since the epoch.
    #[serde(serialize_with = "as_text")]
    pub last_received_unix_nano: Option<i64>,
    /// Its newest record.
    #[serde(serialize_with = "as_text")]
    pub searchable_up_to_unix_nano: Option<i64>,
    /// See the module's page; `None`: nothing is.
    #[serde(serialize_with = "as_text")]
    pub parquet_up_to_unix_nano: Option<i64>,
    /// See the module's page.
    #[serde(serialize_with = "as_text")]
    pub lake_up_to_unix_nano: Option<i64>,
}

fn as_text<S: serde::Serializer>(nanos: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match nanos {
        Some(nanos) => serializer.collect_str(nanos),
        None => serializer.serialize_none(),
    }
}

/// What is kept of one source. First and last event times, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    source: Source,
    records: u64,
    received_nanos: i64,
    newest_nanos: i64,
    /// Of rows since the last cut.
    active: Option<(i64, i64)>,
    /// Of rows that were cut and that no record names yet.
    flushing: Option<(i64, i64)>,
    /// Newest in a committed block.
    in_parquet_nanos: Option<i64>,
}

/// As stored with a flush.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Stored {
    #[serde(flatten)]
    source: Source,
    records: u64,
    received_nanos: i64,
    newest_nanos: i64,
}

fn merged(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Tells of rows how many of them each sender has, with their first and last time: service, log group, (first, last, how many). A
/// sender may come several times.
pub(super) fn each_sender(rows: &Rows, mut tell: impl FnMut(&str, &str, (i64, i64, u64))) {
    let times = rows.times().values();
    let Some(ordinals) = rows.ordinals() else {
        return each_service(rows, |service, span| tell(service, "", span));
    };
    let mut spans: Vec<Option<(i64, i64, u64)>> = vec![None; rows.contexts().len()];
    for (ordinal, time) in ordinals.values().iter().zip(times) {
        let span = spans[*ordinal as usize].get_or_insert((*time, *time, 0));
        *span = (span.0.min(*time), span.1.max(*time), span.2 + 1);
    }
    for (context, span) in rows.contexts().iter().zip(spans) {
        let Some(span) = span else { continue };
        tell(
            context.service_name().unwrap_or_default(),
            context.column("aws_log_group").unwrap_or_default(),
            span,
        );
    }
}

/// Of rows that name their service each.
fn each_service(rows: &Rows, mut tell: impl FnMut(&str, (i64, i64, u64))) {
    let services = rows.services();
    let service_of = |row: usize| {
        services
            .filter(|column| arrow::array::Array::is_valid(column, row))
            .map_or("", |column| column.value(row))
    };
    let times = rows.times().values();
    let mut row = 0;
    while row < times.len() {
        let service = service_of(row);
        let (mut span, first) = ((times[row], times[row], 0), row);
        while row < times.len() && service_of(row) == service {
            span = (span.0.min(times[row]), span.1.max(times[row]), (row - first + 1) as u64);
            row += 1;
        }
        tell(service, span);
    }
}

/// All sources of this node.
#[derive(Debug)]
pub(super) struct Watermarks {
    max_sources: usize,
    marks: Mutex<HashMap<u64, Mark>>,
}

impl Watermarks {
    pub(super) fn new(max_sources: usize) -> Self {
        Self {
            max_sources,
            marks: Mutex::default(),
        }
    }

    /// A batch has become searchable.
    pub(super) fn observe(&self, receiver: &str, batch: &Batch, received_nanos: i64) {
        for rows in batch.rows.iter().filter(|rows| rows.table().holds_records() && !rows.is_empty()) {
            self.observe_rows(receiver, rows.table().signal().name(), rows, received_nanos);
        }
    }

    fn observe_rows(&self, receiver: &str, signal: &str, rows: &Rows, received_nanos: i64) {
        let mut marks = self.marks.lock();
        each_sender(rows, |service, log_group, span| {
            self.enter(&mut marks, (receiver, signal, service, log_group), span, received_nanos);
        });
    }

    fn enter(
        &self,
        marks: &mut HashMap<u64, Mark>,
        (receiver, signal, service, log_group): (&str, &str, &str, &str),
        (min, max, n): (i64, i64, u64),
        received_nanos: i64,
    ) {
        let mut hash = Source::hash(receiver, signal, service, log_group);
        let mut names = (service, log_group);
        if !marks.contains_key(&hash) && marks.len() >= self.max_sources {
            names = (OTHERS, "");
            hash = Source::hash(receiver, signal, OTHERS, "");
        }
        let mark = marks.entry(hash).or_insert_with(|| Mark {
            source: Source {
                receiver: receiver.into(),
                signal: signal.into(),
                service: names.0.into(),
                log_group: names.1.into(),
            },
            records: 0,
            received_nanos,
            newest_nanos: max,
            active: None,
            flushing: None,
            in_parquet_nanos: None,
        });
        mark.records += n;
        mark.received_nanos = mark.received_nanos.max(received_nanos);
        mark.newest_nanos = mark.newest_nanos.max(max);
        mark.active = merged(mark.active, Some((min, max)));
    }

    /// A flush begins with all that is there.
    pub(super) fn cut(&self) {
        for mark in self.marks.lock().values_mut() {
            mark.flushing = merged(mark.flushing, mark.active.take());
        }
    }

    /// A catalog record names all that was cut.
    pub(super) fn committed(&self) {
        for mark in self.marks.lock().values_mut() {
            if let Some((_, max)) = mark.flushing.take() {
                mark.in_parquet_nanos = mark.in_parquet_nanos.max(Some(max));
            }
        }
    }

    /// As it will be once all that was cut is committed; what came since is told by the log.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let marks = self.marks.lock();
        let stored: Vec<Stored> = marks
            .values()
            .filter_map(|mark| {
                let newest_nanos = mark.in_parquet_nanos.max(mark.flushing.map(|(_, max)| max))?;
                Some(Stored {
                    source: mark.source.clone(),
                    records: mark.records,
                    received_nanos: mark.received_nanos,
                    newest_nanos,
                })
            })
            .collect();
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Takes up what an earlier life, or another node, stored. A source that is known keeps its records.
    pub(super) fn restore(&self, json: &[u8]) -> Result<(), serde_json::Error> {
        let stored: Vec<Stored> = serde_json::from_slice(json)?;
        let mut marks = self.marks.lock();
        for one in stored {
            let is_full = marks.len() >= self.max_sources;
            let source = &one.source;
            let hash = Source::hash(&source.receiver, &source.signal, &source.service, &source.log_group);
            match marks.get_mut(&hash) {
                Some(mark) => {
                    mark.received_nanos = mark.received_nanos.max(one.received_nanos);
                    mark.newest_nanos = mark.newest_nanos.max(one.newest_nanos);
                    mark.in_parquet_nanos = mark.in_parquet_nanos.max(Some(one.newest_nanos));
                }
                None if is_full => {}
                None => {
                    let mark = Mark {
                        source: one.source,
                        records: one.records,
                        received_nanos: one.received_nanos,
                        newest_nanos: one.newest_nanos,
                        active: None,
                        flushing: None,
                        in_parquet_nanos: Some(one.newest_nanos),
                    };
                    marks.insert(hash, mark);
                }
            }
        }
        Ok(())
    }

    /// How far each has come, by name; `snapshot` says what waits to be sealed.
    pub(super) fn progress(&self, snapshot: &Snapshot) -> Vec<Progress> {
        let waiting = Waiting::of(snapshot);
        let mut all: Vec<Progress> = self.marks.lock().values().map(|mark| mark.progress(&waiting)).collect();
        all.sort_by(|a, b| a.source.cmp(&b.source));
        all
    }

    /// Says it to the metrics: of each receiver and signal, the newest searchable record, and the time up to which all its
    /// sources are in Parquet and in the lake.
    pub(super) fn publish_metrics(&self, snapshot: &Snapshot) {
        let waiting = Waiting::of(snapshot);
        let mut groups: HashMap<(String, String), [Option<i64>; 3]> = HashMap::new();
        for mark in self.marks.lock().values() {
            let progress = mark.progress(&waiting);
            let [searchable, parquet, lake] = groups.entry((progress.source.receiver, progress.source.signal)).or_default();
            *searchable = (*searchable).max(progress.searchable_up_to_unix_nano);
            // a source that is wholly there holds nobody back, however old its last record is
            for (sum, up_to) in [(parquet, progress.parquet_up_to_unix_nano), (lake, progress.lake_up_to_unix_nano)] {
                if up_to != progress.searchable_up_to_unix_nano {
                    *sum = Some(sum.unwrap_or(i64::MAX).min(up_to.unwrap_or(0)));
                }
            }
        }
        for ((receiver, signal), [searchable, parquet, lake]) in groups {
            let newest = searchable.unwrap_or(0);
            metrics::watermark(&receiver, &signal, "searchable", newest);
            metrics::watermark(&receiver, &signal, "parquet", parquet.unwrap_or(newest));
            metrics::watermark(&receiver, &signal, "lake", lake.unwrap_or(newest));
        }
    }
}

impl Mark {
    fn progress(&self, waiting: &Waiting) -> Progress {
        let parquet = match merged(self.active, self.flushing) {
            Some((oldest, _)) => Some(oldest.saturating_sub(1)),
            None => self.in_parquet_nanos,
        };
        let lake = match (parquet, waiting.oldest(&self.source)) {
            (Some(parquet), Some(oldest)) => Some(parquet.min(oldest.saturating_sub(1))),
            (parquet, _) => parquet,
        };
        Progress {
            source: self.source.clone(),
            records: self.records,
            last_received_unix_nano: Some(self.received_nanos),
            searchable_up_to_unix_nano: Some(self.newest_nanos),
            parquet_up_to_unix_nano: parquet,
            lake_up_to_unix_nano: lake,
        }
    }
}

/// The oldest rows that wait to be sealed, by signal and service.
#[derive(Debug, Default)]
struct Waiting {
    /// In blocks that say which services they hold.
    by_service: HashMap<(&'static str, String), i64>,
    /// In others.
    of_any: HashMap<&'static str, i64>,
}

impl Waiting {
    fn of(snapshot: &Snapshot) -> Self {
        let mut waiting = Waiting::default();
        for meta in snapshot.all_blocks().filter(|meta| meta.level == Level::L0) {
            let signal = match meta.table {
                Table::Logs => "logs",
                Table::Spans => "traces",
                Table::MetricPoints | Table::MetricHistograms | Table::MetricExpHistograms | Table::MetricSummaries => "metrics",
                _ => continue,
            };
            let note = |oldest: &mut i64| *oldest = (*oldest).min(meta.min_time_nanos);
            match &meta.services {
                Some(services) => {
                    for service in services {
                        note(waiting.by_service.entry((signal, service.clone())).or_insert(i64::MAX));
                    }
                }
                None => note(waiting.of_any.entry(signal).or_insert(i64::MAX)),
            }
        }
        waiting
    }

    fn oldest(&self, source: &Source) -> Option<i64> {
        let signal = ["logs", "traces", "metrics"].into_iter().find(|signal| *signal == source.signal)?;
        let of_any = self.of_any.get(signal).copied();
        let of_service = match source.service.as_str() {
            // rows without a service, or of any: every block may hold one
            "" | OTHERS => self.by_service.iter().filter(|((s, _), _)| *s == signal).map(|(_, oldest)| *oldest).min(),
            service => self.by_service.get(&(signal, service.to_string())).copied(),
        };
        [of_any, of_service].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Value};

    fn logs(services: &[(&str, i64)]) -> Batch {
        let mut builder = LogsBuilder::with_capacity(services.len());
        for (service, time_unix_nano) in services {
            let mut context = ContextBuilder::new();
            context.attribute("service.name", Value::Str(service));
            let context = builder.context(context.build());
            let record = LogRecord {
                time_unix_nano: *time_unix_nano,
                body: Some("x"),
                ..LogRecord::default()
            };
            builder.push(context, &record);
        }
        Batch {
            rows: vec![builder.finish().expect("rows")],
        }
    }

    fn of(watermarks: &Watermarks, service: &str) -> (u64, Option<i64>, Option<i64>) {
        let all = watermarks.progress(&Snapshot::default());
        let one = all.iter().find(|progress| progress.source.service == service).expect("there");
        (one.records, one.searchable_up_to_unix_nano, one.parquet_up_to_unix_nano)
    }

    #[test]
    fn in_parquet_is_what_no_older_record_waits_for() {
        let watermarks = Watermarks::new(10);
        watermarks.observe("otlp", &logs(&[("a", 100), ("b", 50), ("a", 200)]), 1);
        assert_eq!(of(&watermarks, "a"), (2, Some(200), Some(99)));
        watermarks.cut();
        // comes while the flush runs, and late: it holds the source back until it is flushed too
        watermarks.observe("otlp", &logs(&[("a", 150)]), 2);
        assert_eq!(of(&watermarks, "a"), (3, Some(200), Some(99)));
        watermarks.committed();
        assert_eq!(of(&watermarks, "a"), (3, Some(200), Some(149)));
        assert_eq!(of(&watermarks, "b"), (1, Some(50), Some(50)));
        // a flush that fails keeps what it had cut
        watermarks.cut();
        watermarks.observe("otlp", &logs(&[("a", 300)]), 3);
        watermarks.cut();
        assert_eq!(of(&watermarks, "a").2, Some(149));
        watermarks.committed();
        assert_eq!(of(&watermarks, "a").2, Some(300));
    }

    #[test]
    fn what_a_flush_stores_is_what_it_brings_to_parquet() {
        let watermarks = Watermarks::new(10);
        watermarks.observe("otlp", &logs(&[("a", 100)]), 1);
        watermarks.cut();
        watermarks.observe("otlp", &logs(&[("a", 300), ("new", 1)]), 2);
        let later = Watermarks::new(10);
        later.restore(&watermarks.to_json()).expect("our own JSON");
        assert_eq!(of(&later, "a").1, Some(100));
        assert_eq!(later.progress(&Snapshot::default()).len(), 1, "the log tells of the other");
        // replay says the rest again
        later.observe("otlp", &logs(&[("a", 300)]), 3);
        assert_eq!(of(&later, "a").2, Some(299));
        assert!(later.restore(b"?").is_err());
    }

    #[test]
    fn sources_are_bounded() {
        let watermarks = Watermarks::new(2);
        let many: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        let batch: Vec<(&str, i64)> = many.iter().map(|name| (name.as_str(), 7)).collect();
        watermarks.observe("otlp", &logs(&batch), 1);
        assert_eq!(watermarks.progress(&Snapshot::default()).len(), 3);
        assert_eq!(of(&watermarks, OTHERS).0, 48);
    }
}
