//! What the index of one block answers in what time: `cargo bench --bench text_search [-- RECORDS]`. Best of seven, warm.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;
use std::time::Instant;

use tracelake::block::{Block, IndexQuery, Level, RawField, Settings, build, tokenizer};
use tracelake::model::{Table, TimeRange};

mod support;

fn best<T>(mut run: impl FnMut() -> T) -> (T, f64) {
    let mut fastest = f64::MAX;
    let mut last = None;
    for _ in 0..7 {
        let start = Instant::now();
        last = Some(run());
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
    }
    (last.expect("seven runs"), fastest)
}

fn main() {
    let n = support::records(500_000);
    let parts = support::shop_logs(n, 7);
    let built = build(Table::Logs, 0, Level::L0, &parts, &Settings::default(), 0).expect("a block");
    drop(parts);
    let open = || Block::open(Arc::new(built.meta.clone()), built.parquet.clone(), built.index.clone()).expect("a block");
    let (block, milliseconds) = best(open);
    println!("{n} log records; open {milliseconds:.2} ms, {} KiB of heap", block.memory_bytes() / 1024);
    let index = block.index().expect("an index");
    let all = 0..block.n_rows();
    let token = |text: &str| IndexQuery::Token(text.into());
    let pair = |key: &str, value: &str| IndexQuery::KeyValue {
        key: key.into(),
        value: value.into(),
    };
    let queries = [
        ("rare term", token("insufficient")),
        ("common term", token("completed")),
        ("and of two", IndexQuery::And(vec![token("request"), token("put")])),
        ("and not", IndexQuery::And(vec![token("request"), IndexQuery::Not(Box::new(token("get")))])),
        ("phrase", IndexQuery::Phrase(tokenizer::tokens("connection reset by peer"))),
        ("prefix", IndexQuery::TokenPattern("telesc*".into())),
        ("infix", IndexQuery::TokenPattern("*mplet*".into())),
        ("attribute", pair("http.response.status_code", "404")),
        ("attribute exists", IndexQuery::KeyExists("http.route".into())),
        (
            "numeric range",
            IndexQuery::KeyMatching {
                key: "db.rows".into(),
                test: Arc::new(|value| value.parse::<f64>().is_ok_and(|rows| rows >= 2500.0)),
            },
        ),
        ("one context of 60", IndexQuery::Contexts(vec![3])),
        ("30 contexts of 60", IndexQuery::Contexts((0..30).collect())),
    ];
    println!("| query | hits | count ms | bitmap ms | first 100 ms |");
    for (name, query) in &queries {
        let (hits, count) = best(|| index.count(query, all.clone()).expect("a count"));
        let (_, bitmap) = best(|| index.bitmap(query, all.clone()).expect("a bitmap"));
        let (_, first) = best(|| index.first(query, all.clone(), 100).expect("rows"));
        println!("| {name} | {hits} | {count:.3} | {bitmap:.3} | {first:.3} |");
    }

    let some = block.read(&[block.n_rows() / 3], &["trace_id", "time_unix_nano"]).expect("a row");
    let trace_id = arrow::util::display::array_value_to_string(some.column(0), 0).expect("text");
    let by_trace = IndexQuery::Term {
        field: RawField::TraceId,
        value: trace_id,
    };
    let (rows, milliseconds) = best(|| {
        let rows = index.first(&by_trace, all.clone(), 1000).expect("rows");
        block.read(&rows, &[]).expect("rows").num_rows()
    });
    println!("trace by id, all columns: {rows} rows in {milliseconds:.2} ms");
    let list = ["time_unix_nano", "service_name", "severity_number", "body"];
    for k in [1, 10, 100, 1000] {
        let scattered: Vec<u32> = (0..k).map(|i| i * (block.n_rows() / k)).collect();
        let adjacent: Vec<u32> = (0..k).map(|i| block.n_rows() / 2 + i).collect();
        let (_, s_all) = best(|| block.read(&scattered, &[]).expect("rows"));
        let (_, s_list) = best(|| block.read(&scattered, &list).expect("rows"));
        let (_, a_all) = best(|| block.read(&adjacent, &[]).expect("rows"));
        let (_, a_list) = best(|| block.read(&adjacent, &list).expect("rows"));
        println!("read {k}: scattered all {s_all:.2} / list {s_list:.2} ms, adjacent all {a_all:.2} / list {a_list:.2} ms");
    }
    let middle = (built.meta.min_time_nanos + built.meta.max_time_nanos) / 2 + 123;
    let (rows, milliseconds) = best(|| block.rows_in(&TimeRange::new(middle, middle + 60_000_000_007)).expect("rows"));
    println!("rows of a minute: {} found in {milliseconds:.3} ms", rows.len());
    let (values, milliseconds) = best(|| index.key_values("http.response.status_code").expect("values"));
    println!("values of an attribute: {} in {milliseconds:.3} ms", values.len());
}
