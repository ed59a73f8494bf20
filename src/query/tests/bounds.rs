//! Bounds of what is kept open and of what an answer holds, at and past them; and reads that fail, are slow or come damaged.

use super::*;
use crate::storage::faulty::{FaultyStore, ReadFault};

/// `n` log records of one trace, from `first` on; each with its own service if `is_wide`.
fn of_trace(trace: u8, first: i64, n: i64, is_wide: bool) -> Rows {
    let mut builder = LogsBuilder::default();
    for at in first..first + n {
        let mut context = ContextBuilder::new();
        let service = if is_wide { format!("service-{at}") } else { "one".into() };
        context.attribute("service.name", Value::Str(&service));
        let context = builder.context(context.build());
        builder.attribute("test.id", Value::Int(at));
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + at * 1_000,
                body: Some(&format!("line {at}")),
                trace_id: TraceId::from_bytes(&[trace; 16]),
                ..LogRecord::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1 + first)
}

fn all(limit: usize) -> SearchRequest {
    SearchRequest {
        table: Table::Logs,
        query: parse("*", Table::Logs).expect("a query"),
        range: TimeRange::ALL,
        limit,
        cursor: None,
        order: Order::NewestFirst,
    }
}

#[tokio::test]
async fn blocks_kept_open_are_bounded_by_number_and_by_memory_and_every_answer_is_whole() {
    for (config, n_blocks, n_open) in [
        (
            Config {
                max_open_blocks: 3,
                ..Config::default()
            },
            3,
            3,
        ),
        (
            Config {
                max_open_blocks: 3,
                ..Config::default()
            },
            4,
            3,
        ),
        (
            Config {
                max_open_blocks: 1,
                ..Config::default()
            },
            4,
            1,
        ),
        // one is kept whatever it takes
        (
            Config {
                open_block_bytes: 1,
                ..Config::default()
            },
            4,
            1,
        ),
        (
            Config {
                open_block_bytes: 128 << 20,
                ..Config::default()
            },
            4,
            4,
        ),
    ] {
        let bounds = (config.max_open_blocks, config.open_block_bytes);
        let lake = Lake::with_config(config).await;
        for block in 0..n_blocks {
            lake.block(&of_trace(1, block * 10, 10, false), block % 2 == 0).await;
        }
        let wanted: Vec<String> = (0..n_blocks * 10).rev().map(|id| id.to_string()).collect();
        for _ in 0..2 {
            assert_eq!(lake.find(Table::Logs, "*").await, wanted, "{bounds:?}");
            assert_eq!(lake.engine.blocks().n_open(), n_open, "{bounds:?}");
        }
    }
}

#[tokio::test]
async fn blocks_kept_open_fill_their_memory_and_no_more() {
    let lake = Lake::new().await;
    let bytes_of = |lake: &Lake| lake.engine.blocks().open_bytes();
    for block in 0..3 {
        lake.block(&of_trace(1, block * 10, 10, false), true).await;
    }
    lake.find(Table::Logs, "*").await;
    let of_three = bytes_of(&lake);
    for (open_block_bytes, n_open) in [(of_three, 3), (of_three - 1, 2)] {
        let config = Config {
            open_block_bytes,
            ..Config::default()
        };
        let lake = Lake::with_config(config).await;
        for block in 0..3 {
            lake.block(&of_trace(1, block * 10, 10, false), true).await;
        }
        assert_eq!(lake.find(Table::Logs, "*").await.len(), 30);
        assert_eq!(lake.engine.blocks().n_open(), n_open, "{open_block_bytes}");
        assert!(bytes_of(&lake) <= open_block_bytes);
    }
}

#[tokio::test]
async fn log_records_of_a_trace_end_at_their_bound_and_say_so() {
    let config = Config {
        max_trace_logs: 3,
        ..Config::default()
    };
    let lake = Lake::with_config(config).await;
    lake.block(&of_trace(3, 0, 3, false), true).await;
    lake.block(&of_trace(4, 10, 2, false), false).await;
    lake.head(vec![of_trace(4, 20, 2, false)]);
    let trace = async |id: u8| {
        let id = TraceId::from_bytes(&[id; 16]).expect("an ID");
        lake.engine.trace(id).await.expect("an answer").expect("a trace")
    };
    let at = trace(3).await;
    assert_eq!((at.logs.len(), at.coverage.complete), (3, true), "{:?}", at.coverage);
    let past = trace(4).await;
    assert_eq!((past.logs.len(), past.coverage.complete), (3, false), "{:?}", past.coverage);
    let problem = &past.coverage.problems[0];
    assert_eq!((problem.kind, problem.what.as_str()), (ProblemKind::Limit, "log records of a trace"));
    assert!(problem.message.contains("newest 3"), "{}", problem.message);
}

#[tokio::test]
async fn a_promoted_column_takes_as_many_values_as_there_are_rows() {
    let lake = Lake::new().await;
    const N: i64 = 3_000;
    let meta = lake.block(&of_trace(1, 0, N, true), true).await;
    assert_eq!(meta.services, None, "too many to be listed: the block is looked into");
    lake.block(&of_trace(1, N, N, true), false).await;
    lake.head(vec![of_trace(1, 2 * N, N, true)]);
    for id in [0, N - 1, N, 2 * N - 1, 2 * N, 3 * N - 1] {
        assert_eq!(lake.find(Table::Logs, &format!("service:=\"service-{id}\"")).await, [id.to_string()]);
    }
    assert_eq!(lake.find(Table::Logs, "service:=\"service-9000\"").await, Vec::<String>::new());
    let request = SqlRequest {
        query: "SELECT count(DISTINCT service_name) AS n, count(*) AS rows FROM logs".into(),
        limit: 10,
    };
    let answer = lake.engine.sql(&request).await.expect("an answer");
    assert_eq!(answer.rows, [["9000", "9000"]]);
}

/// Every n-th read of a block's objects goes wrong: an answer is whole, or says that it is not; it never has a row that is not there, and what
/// went wrong on the way is forgotten once the store is well.
#[tokio::test]
async fn reads_that_fail_are_slow_or_come_damaged_cost_no_row_in_silence() {
    let faulty = FaultyStore::new(Arc::new(BucketStore::in_memory("")));
    let anew = async || Lake::over(faulty.clone(), tempfile::tempdir().expect("a temporary folder"), Config::default()).await;
    let maker = anew().await;
    for block in 0..4 {
        maker.block(&of_trace(1, block * 500, 500, false), block != 2).await;
    }
    let whole: Vec<String> = (0..2_000).rev().map(|id| id.to_string()).collect();
    for fault in [ReadFault::Fails, ReadFault::Slow, ReadFault::Torn, ReadFault::Flipped] {
        let mut n_incomplete = 0;
        for every in 1..=5 {
            let lake = anew().await;
            let mut reads = 0;
            faulty.choose_reads(move |key| {
                let of_block = key.ends_with(".parquet") || key.ends_with(".idx");
                reads += usize::from(of_block);
                (of_block && reads % every == 0).then_some(fault)
            });
            let answer = lake.engine.search(&all(10_000)).await.expect("an answer");
            let ids: Vec<String> = answer.hits.iter().map(id_of).collect();
            let mut of_whole = whole.iter();
            assert!(
                ids.iter().all(|id| of_whole.any(|of| of == id)),
                "{fault:?} each {every}: a row twice, or none of ours"
            );
            if answer.coverage.complete {
                assert_eq!(ids, whole, "{fault:?} each {every}");
            } else {
                n_incomplete += 1;
                assert!(
                    !answer.coverage.problems.is_empty() && fault != ReadFault::Slow,
                    "{fault:?} each {every}: {:?}",
                    answer.coverage
                );
            }
            faulty.heal();
            let healed = lake.engine.search(&all(10_000)).await.expect("an answer");
            assert!(healed.coverage.complete, "{fault:?} each {every}: {:?}", healed.coverage);
            assert_eq!(healed.hits.iter().map(id_of).collect::<Vec<_>>(), whole, "{fault:?} each {every}");
        }
        assert_eq!(n_incomplete > 0, fault != ReadFault::Slow, "{fault:?}: the faults reach the answer");
    }
}
