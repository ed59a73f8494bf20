//! What deletes read of real blocks: as little as tells which rows they mean.

use std::collections::BTreeMap;

use super::*;
use crate::storage::faulty::ReadFault;

const ROWS_OF_STREAM: usize = 40;

async fn maintainer(world: &World) -> Maintainer {
    Maintainer::new(Parts {
        finder: Arc::new(crate::query::SearchLanguage),
        ..world.parts(1).await
    })
}

/// Flushes a block with rows of these log streams.
async fn flush_streams(world: &World, maintainer: &Maintainer, flush: i64, streams: &[&str]) -> Arc<BlockMeta> {
    let mut builder = crate::model::LogsBuilder::default();
    for stream in streams {
        let mut context = crate::model::ContextBuilder::new();
        for (key, value) in [("aws.log.group.names", "g"), ("aws.log.stream.names", *stream)] {
            context.attribute(key, crate::model::Value::Str(value));
        }
        let context = builder.context(context.build());
        for row in 0..ROWS_OF_STREAM {
            // words of many kinds: the objects are to be larger than what is read of them
            let body: String = (0..60)
                .map(|word| format!("{:x} ", xxhash_rust::xxh3::xxh3_64(format!("{flush} {stream} {row} {word}").as_bytes())))
                .collect();
            let record = crate::model::LogRecord {
                time_unix_nano: START + row as i64,
                body: Some(&body),
                body_type: 1,
                ..crate::model::LogRecord::default()
            };
            builder.push(context, &record);
        }
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(flush << 20);
    let built = block::build(Table::Logs, START, Level::L0, &[rows], &block::Settings::default(), world.clock.now_nanos()).expect("builds");
    let (path, meta) = (block_path(&built.meta), built.meta.clone());
    world.inner.put(&path.data(), built.parquet).await.expect("put");
    world.inner.put(&path.index(), built.index.expect("logs have one")).await.expect("put");
    let mut commit = Commit::new(CommitKind::Flush, world.clock.now_nanos());
    commit.adds.push(built.meta);
    maintainer.catalog.commit(commit).await.expect("commits");
    Arc::new(meta)
}

async fn order_stream(world: &World, maintainer: &Maintainer, stream: &str) -> CommitId {
    let mut commit = Commit::new(CommitKind::Delete, world.clock.now_nanos());
    let query = crate::query::Query::equals("@log_group", "g").and(crate::query::Query::equals("@log_stream", stream));
    commit.delete = Some(catalog::DeleteOrder {
        table: Table::Logs,
        start_nanos: i64::MIN,
        end_nanos: i64::MAX,
        query: maintainer.catalog.put_query(&query.to_string()).await.expect("put"),
        lsn: 0,
    });
    let id = commit.id.clone();
    maintainer.catalog.commit(commit).await.expect("ordered");
    id
}

/// Reads by key, from now on; reads of some fail.
fn watch(world: &World, fails: impl Fn(&str) -> bool + Send + 'static) -> Arc<Mutex<BTreeMap<String, usize>>> {
    let reads = Arc::new(Mutex::new(BTreeMap::new()));
    let noted = reads.clone();
    world.faulty.choose_reads(move |key| {
        *noted.lock().entry(key.to_string()).or_default() += 1;
        fails(key).then_some(ReadFault::Fails)
    });
    reads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_deletes_read_the_end_of_each_index_once_and_whole_only_the_block_that_has_their_rows() {
    let world = World::new(Config::default());
    let maintainer = maintainer(&world).await;
    let clean = [
        flush_streams(&world, &maintainer, 1, &["a", "b"]).await,
        flush_streams(&world, &maintainer, 2, &["b", "c"]).await,
    ];
    let concerned = flush_streams(&world, &maintainer, 3, &["x", "a", "y", "z"]).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(order_stream(&world, &maintainer, &format!("empty{n}")).await);
    }
    let of_rows = [order_stream(&world, &maintainer, "x").await, order_stream(&world, &maintainer, "y").await];
    let reads = watch(&world, |_| false);
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_erased, report.problems), (2 * ROWS_OF_STREAM as u64, vec![]));

    let reads = reads.lock().clone();
    let of = |key: Key| reads.get(key.as_str()).copied().unwrap_or_default();
    for meta in &clean {
        let path = block_path(meta);
        assert_eq!((of(path.index()), of(path.data())), (1, 0), "{reads:?}");
    }
    assert_eq!(of(block_path(&concerned).data()), 1, "looked at, and then read whole: {reads:?}");
    let whole: u64 = clean.iter().map(|meta| meta.parquet_bytes + meta.index_bytes).sum();
    let tails: u64 = clean.iter().map(|meta| meta.index_tail_bytes).sum();
    assert!(tails * 2 < whole, "{tails} of {whole} bytes are in the tails");

    let snapshot = maintainer.catalog.snapshot();
    assert!(
        snapshot
            .deletes()
            .values()
            .all(|delete| delete.ended_at_nanos.is_some() && delete.n_blocks == 3)
    );
    for id in &of_rows {
        assert_eq!(snapshot.deletes()[id].n_rows, ROWS_OF_STREAM as u64, "each is told of its own");
    }
    assert_eq!(snapshot.gone()[&Table::Logs].deleted, 2 * ROWS_OF_STREAM as u64);
    let left: u64 = snapshot.blocks(Table::Logs).iter().map(|meta| meta.n_rows).sum();
    assert_eq!((snapshot.blocks(Table::Logs).len(), left), (3, 6 * ROWS_OF_STREAM as u64));
    assert_eq!(snapshot.removed().len(), 1, "the block is written once for both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_whose_query_cannot_be_read_waits_alone() {
    let world = World::new(Config::default());
    let maintainer = maintainer(&world).await;
    flush_streams(&world, &maintainer, 1, &["a", "x", "y", "z"]).await;
    let waits = order_stream(&world, &maintainer, "a").await;
    let others = [order_stream(&world, &maintainer, "x").await, order_stream(&world, &maintainer, "z").await];
    let query = maintainer.catalog.snapshot().deletes()[&waits].order.query.clone();
    watch(&world, move |key| key == query.as_str());
    // what takes the block's place is still the first one's to look at
    for n_rows in [2 * ROWS_OF_STREAM as u64, 0] {
        let report = maintainer.run_once().await;
        assert_eq!((report.rows_erased, report.problems.len()), (n_rows, 1), "{report:?}");
    }
    let snapshot = maintainer.catalog.snapshot();
    assert!(others.iter().all(|id| snapshot.deletes()[id].ended_at_nanos.is_some()));
    assert_eq!(snapshot.deletes()[&waits].todo, [snapshot.blocks(Table::Logs)[0].id.clone()].into());
    world.faulty.heal();
    assert_eq!(maintainer.run_once().await.rows_erased, ROWS_OF_STREAM as u64);
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!(
        (snapshot.deletes()[&waits].ended_at_nanos.is_some(), snapshot.blocks(Table::Logs)[0].n_rows),
        (true, ROWS_OF_STREAM as u64)
    );
}
