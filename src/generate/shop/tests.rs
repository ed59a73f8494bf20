use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, AsArray};

use super::*;
use crate::decode::{Context, Kind, decode};
use crate::model::{Batch, Table};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_795_000_000 * SECOND;

/// The shop from its opening, second by second.
fn run_for(seed: u64, seconds: i64) -> Telemetry {
    let mut shop = Shop::new(Options { seed, ..Options::default() }, START);
    let mut all = Telemetry::default();
    for second in 1..=seconds {
        let part = shop.advance(START + second * SECOND);
        all.logs.extend(part.logs);
        all.traces.extend(part.traces);
        all.metrics.extend(part.metrics);
        all.segments.extend(part.segments);
        for (stream, events) in part.events {
            all.events.entry(stream).or_default().extend(events);
        }
    }
    all
}

/// What the server makes of it: all rows, correlated.
fn received(telemetry: &Telemetry) -> Vec<Batch> {
    let context = Context {
        received_at_nanos: START + 300 * SECOND,
        retention_days: 0,
    };
    let mut bodies: Vec<(Kind, Vec<u8>)> = Vec::new();
    // in one request a signal: thousands of small ones take their time in a debug build
    let logs = ExportLogsServiceRequest {
        resource_logs: telemetry.logs.iter().flat_map(|request| request.resource_logs.clone()).collect(),
    };
    let traces = ExportTraceServiceRequest {
        resource_spans: telemetry.traces.iter().flat_map(|request| request.resource_spans.clone()).collect(),
    };
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: telemetry.metrics.iter().flat_map(|request| request.resource_metrics.clone()).collect(),
    };
    bodies.push((Kind::OtlpLogs, logs.encode_to_vec()));
    bodies.push((Kind::OtlpTraces, traces.encode_to_vec()));
    bodies.push((Kind::OtlpMetrics, metrics.encode_to_vec()));
    for ((group, stream), events) in &telemetry.events {
        let mut events = events.clone();
        events.sort_by_key(|(millis, _)| *millis);
        for events in events.chunks(MAX_EVENTS) {
            let events: Vec<_> = events.iter().map(|(t, m)| serde_json::json!({"timestamp": t, "message": m})).collect();
            let body = serde_json::json!({"logGroupName": group, "logStreamName": stream, "logEvents": events});
            bodies.push((Kind::PutLogEvents, body.to_string().into_bytes()));
        }
    }
    let documents = serde_json::to_vec(&telemetry.segments).expect("JSON");
    bodies.push((Kind::XraySegments, documents));
    let decoded = bodies.into_iter().map(|(kind, body)| {
        let decoded = decode(kind, &body, &context).expect("decodes");
        assert_eq!(decoded.rejected, [], "{kind:?}");
        crate::correlate::correlate(decoded.batch)
    });
    decoded.collect()
}

/// Text of a column over all rows of a table, with the service.
fn column(batches: &[Batch], table: Table, name: &str) -> Vec<(String, Option<String>)> {
    let mut out = Vec::new();
    for rows in batches.iter().flat_map(|batch| &batch.rows).filter(|rows| rows.table() == table) {
        let stored = rows.to_batch(None).expect("stored");
        let services = stored.column_by_name("service_name").expect("a column").clone();
        let values = arrow::compute::cast(stored.column_by_name(name).expect("a column"), &arrow::datatypes::DataType::Utf8).expect("text");
        let (services, values) = (services.as_string::<i32>(), values.as_string::<i32>());
        for row in 0..stored.num_rows() {
            let service = if services.is_valid(row) { services.value(row) } else { "" };
            out.push((service.to_string(), values.is_valid(row).then(|| values.value(row).to_string())));
        }
    }
    out
}

#[test]
fn a_seed_always_gives_the_same_shop() {
    assert_eq!(run_for(7, 20), run_for(7, 20));
    assert_ne!(run_for(7, 5), run_for(8, 5));
}

#[test]
fn every_service_is_seen_and_one_trace_crosses_all_protocols() {
    let batches = received(&run_for(42, 40));
    let all: BTreeSet<&str> = SERVICES.iter().map(|service| service.name).collect();
    for table in [Table::Logs, Table::Spans] {
        let traces = column(&batches, table, "trace_id");
        let seen: BTreeSet<&str> = traces.iter().map(|(service, _)| service.as_str()).collect();
        assert!(all.is_subset(&seen), "{table:?}: {seen:?}");
        let mut services: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (service, trace) in &traces {
            if let Some(trace) = trace {
                services.entry(trace).or_default().insert(service);
            }
        }
        let widest = services.values().map(BTreeSet::len).max();
        assert!(widest >= Some(6), "{table:?}: one trace in {widest:?} services");
    }
    // every CloudWatch line of payment and inventory names its trace, in one spelling or the other
    for (service, trace) in column(&batches, Table::Logs, "trace_id") {
        assert!(trace.is_some() || !["payment", "inventory"].contains(&service.as_str()), "{service}");
    }
}

#[test]
fn the_incident_makes_errors_in_payment_and_slow_orders_and_then_ends() {
    let telemetry = run_for(42, 120);
    let batches = received(&telemetry);
    let mut errors = HashMap::new();
    let times = column(&batches, Table::Logs, "time_unix_nano");
    for ((service, severity), (_, time)) in column(&batches, Table::Logs, "severity_number").into_iter().zip(times) {
        let is_error = severity.and_then(|number| number.parse().ok()).is_some_and(|number: i32| number >= 17);
        let second = (time.and_then(|time| time.parse::<i64>().ok()).unwrap_or_default() - START) / SECOND;
        if is_error && service == "payment" {
            *errors.entry(second / 60).or_insert(0) += 1;
        }
    }
    assert!(errors.get(&0).copied().unwrap_or(0) < 10, "{errors:?}");
    assert!(errors.get(&1).copied().unwrap_or(0) > 40, "{errors:?}");
    let durations = column(&batches, Table::Spans, "duration_nano");
    let names = column(&batches, Table::Spans, "name");
    let slow = durations.iter().zip(&names).filter(|((service, nanos), (_, name))| {
        let nanos: i64 = nanos.as_deref().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        service == "checkout" && name.as_deref() == Some("POST /v1/orders") && nanos > SECOND
    });
    assert!(slow.count() > 20);
    let shop = Shop::new(Options::default(), START);
    assert_eq!([59, 60, 299, 300].map(|s| shop.is_incident(START + s * SECOND)), [false, true, true, false]);
}

#[test]
fn spans_have_their_parents_and_metrics_come_in_all_kinds() {
    let telemetry = run_for(42, 45);
    let batches = received(&telemetry);
    let ids: BTreeSet<String> = column(&batches, Table::Spans, "span_id").into_iter().filter_map(|(_, id)| id).collect();
    let parents = column(&batches, Table::Spans, "parent_span_id");
    let (known, missing): (Vec<_>, Vec<_>) = parents
        .iter()
        .filter_map(|(_, parent)| parent.as_ref())
        .partition(|parent| ids.contains(*parent));
    // a parent that still runs at the end of the time has not been sent
    assert!(known.len() > 50 * missing.len(), "{} known, {} missing", known.len(), missing.len());
    let tables: BTreeSet<Table> = batches.iter().flat_map(|batch| batch.rows.iter().map(crate::model::Rows::table)).collect();
    for table in [Table::MetricPoints, Table::MetricHistograms, Table::MetricExpHistograms, Table::MetricSummaries] {
        assert!(tables.contains(&table), "{table:?}");
    }
    assert!(telemetry.n_records() > 4_000, "{}", telemetry.n_records());
}

#[test]
fn lambda_lines_stand_between_start_and_report() {
    let telemetry = run_for(42, 30);
    let lines: Vec<&String> = telemetry
        .events
        .iter()
        .filter(|((group, _), _)| group == "/aws/lambda/shipping")
        .flat_map(|(_, events)| events.iter().map(|(_, message)| message))
        .collect();
    for start in ["START RequestId: ", "[INFO]\t", "END RequestId: ", "REPORT RequestId: "] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start}");
    }
    assert!(lines.iter().any(|line| line.contains("\nXRAY TraceId: 1-")));
}
