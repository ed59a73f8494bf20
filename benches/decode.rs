//! What decoding costs: `cargo bench --bench decode`.
//!
//! Seeded OTLP log requests are decoded into columns, and beside it, in the same run, by prost into its structs alone,
//! which is what a first program would begin with. Then what finding trace IDs costs, in each record by itself and by the requests and
//! spans that records name. Log patterns are told by themselves: what their IDs cost of a record.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::time::Instant;

use arrow::array::AsArray;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use tracelake::correlate::book::Book;
use tracelake::correlate::correlate;
use tracelake::correlate::link::{self, Known};
use tracelake::decode::{Context, Kind, decode};
use tracelake::generate::load;
use tracelake::pattern::Miner;

const ROUNDS: usize = 5;

fn main() {
    let options = load::Options {
        records: 200_000,
        ..load::Options::default()
    };
    let bodies = load::build(&options, 1_700_000_000_000_000_000).expect("bodies");
    let n: u64 = bodies.iter().map(|body| body.n_records).sum();
    let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
    println!("{n} records, {:.0} B each as protobuf; best of {ROUNDS}", bytes as f64 / n as f64);

    let context = Context {
        received_at_nanos: 1_700_000_000_000_000_000,
        retention_days: 0,
    };
    let raw = best(|| {
        for body in &bodies {
            std::hint::black_box(ExportLogsServiceRequest::decode(body.bytes.clone()).expect("our own bytes"));
        }
    });
    let columns = best(|| {
        for body in &bodies {
            std::hint::black_box(decode(Kind::OtlpLogs, &body.bytes, &context).expect("our own bytes"));
        }
    });
    let batches: Vec<_> = bodies
        .iter()
        .map(|body| decode(Kind::OtlpLogs, &body.bytes, &context).expect("our own bytes").batch)
        .collect();
    let correlated = best(|| {
        for batch in &batches {
            std::hint::black_box(correlate(batch.clone()));
        }
    });
    let names: Vec<_> = batches.iter().map(link::names).collect();
    let named = best(|| {
        for batch in &batches {
            std::hint::black_box(link::names(batch));
        }
    });
    let linked = best(|| {
        let book = Book::new(100_000);
        for (batch, names) in batches.iter().zip(&names) {
            let known = Known::new(book.traces_of(names.wanted(batch)));
            let (batch, found) = link::link(batch.clone(), names, &known);
            book.learn(&found.told);
            std::hint::black_box(batch);
        }
    });
    let text_columns: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.rows)
        .map(|rows| rows.batch().column_by_name("body").expect("a column of logs").clone())
        .collect();
    let texts: Vec<&str> = text_columns.iter().flat_map(|column| column.as_string::<i32>().iter().flatten()).collect();
    let text_bytes: usize = texts.iter().map(|text| text.len()).sum();
    let mut miner = Miner::default();
    let patterns = best(|| {
        for text in &texts {
            std::hint::black_box(miner.id(text));
        }
    });
    let line = |name: &str, seconds: f64| {
        println!(
            "{name:<28} {:>6.2} s a million, {:>9.0} records/s",
            seconds * 1e6 / n as f64,
            n as f64 / seconds
        )
    };
    line("prost structs alone", raw);
    line("decode into columns", columns);
    line("correlate", correlated);
    line("names in records", named);
    line("link by names, with a book", linked);
    line("pattern IDs, of correlate", patterns);
    let per_text = patterns * 1e9 / texts.len() as f64;
    println!("a pattern ID: {per_text:.0} ns a text of {:.0} B", text_bytes as f64 / texts.len() as f64);
    println!("ratio of decode into columns to prost structs alone: {:.2}", columns / raw);
}

/// Seconds of the fastest of [`ROUNDS`] runs.
fn best(mut run: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
