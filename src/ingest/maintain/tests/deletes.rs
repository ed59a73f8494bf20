//! Deletes by query, block by block.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn a_delete_takes_the_rows_that_were_there_from_every_block_and_no_later_ones() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    for _ in 0..3 {
        world.flush(&maintainer, Table::Logs, START, 10).await;
    }
    world.clock.set(START + 80 * MINUTE);
    maintainer.run_once().await;
    world.flush(&maintainer, Table::Logs, START + HOUR, 5).await;
    let ids = [world.order(&maintainer, Table::Logs, 3).await, world.order(&maintainer, Table::Logs, 5).await];
    world.flush(&maintainer, Table::Logs, START + HOUR, 10).await;
    let snapshot = maintainer.catalog.snapshot();
    let mut merge = Commit::new(CommitKind::Merge, 0);
    merge.removes = snapshot.blocks(Table::Logs).iter().map(|meta| meta.id.clone()).collect();
    merge.adds = vec![built(Table::Logs, Level::L0, START, &[1], START).meta];
    let refused = maintainer.catalog.commit(merge).await.expect_err("it would mix rows");
    assert!(refused.to_string().contains("has yet to look"), "{refused}");
    // nobody reads the blocks any more
    drop(snapshot);

    let report = maintainer.run_once().await;
    assert_eq!((report.rows_erased, report.problems), (16, vec![]));
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!(world.rows_of(&snapshot).await, world.without_doomed(world.rows.clone()));
    assert!(snapshot.block(Table::Logs, &snapshot.blocks(Table::Logs)[0].id).is_some());
    assert!(ids.iter().all(|id| snapshot.deletes()[id].ended_at_nanos.is_some()));
    assert_eq!(snapshot.gone()[&Table::Logs].deleted, 16);
    assert_eq!(
        Catalog::read(&*world.inner).await.expect("reads").gone(),
        snapshot.gone(),
        "the log alone says the same"
    );
    // foreign readers look at files: the old one goes within seconds
    world.clock.advance(LAKE_SWAP_GRACE);
    assert!(maintainer.is_something_leaving_the_lake());
    maintainer.run_once().await;
    assert!(!maintainer.is_something_leaving_the_lake());
    assert_eq!(world.rows_in_the_lake().await, world.without_doomed((0..30).collect()));
    world.clock.advance(30 * HOUR);
    maintainer.run_once().await;
    world.clock.advance(30 * HOUR);
    maintainer.run_once().await;
    world.check_nothing_is_left_behind(&maintainer).await;
}

/// Stops the store after each number of writes in turn while a delete is worked on, and goes on with a fresh process.
#[tokio::test]
async fn a_crash_in_mid_delete_loses_nothing_else_and_the_delete_goes_on() {
    for n_writes in 0.. {
        let mut world = World::new(Config::default());
        let maintainer = world.maintainer(1).await;
        world.flush(&maintainer, Table::Logs, START, 6).await;
        world.clock.set(START + 80 * MINUTE);
        maintainer.run_once().await;
        // one is replaced, one is clean, one has nothing left
        world.flush(&maintainer, Table::Logs, START + HOUR, 1).await;
        world.flush(&maintainer, Table::Logs, START + HOUR, 3).await;
        world.flush(&maintainer, Table::Logs, START + HOUR, 8).await;
        let id = world.order(&maintainer, Table::Logs, 6).await;
        world.faulty.stop_after(n_writes);
        maintainer.run_once().await;
        world.clock.advance(LAKE_SWAP_GRACE);
        maintainer.run_once().await;
        let has_crashed = world.faulty.has_stopped();
        world.faulty.heal();

        let restarted = world.maintainer(1).await;
        world.check(&restarted).await;
        for _ in 0..3 {
            assert_eq!(restarted.run_once().await.problems, Vec::<String>::new());
            world.check(&restarted).await;
            world.clock.advance(LAKE_SWAP_GRACE);
        }
        let snapshot = restarted.catalog.snapshot();
        assert_eq!(
            world.rows_of(&snapshot).await,
            world.without_doomed(world.rows.clone()),
            "after {n_writes} writes"
        );
        assert_eq!(world.rows_in_the_lake().await, [1, 2, 3, 4, 5], "after {n_writes} writes");
        let delete = &snapshot.deletes()[&id];
        assert_eq!(
            (delete.n_rows, delete.n_blocks, delete.ended_at_nanos.is_some()),
            (3, 4, true),
            "after {n_writes} writes"
        );
        assert!(snapshot.intents().is_empty());
        if !has_crashed {
            assert!(n_writes > 9, "{n_writes}");
            break;
        }
    }
}

/// Counts the reads of an object from now on.
pub(super) fn count_reads(world: &World, key: &Key) -> Arc<AtomicUsize> {
    let n_reads = Arc::new(AtomicUsize::new(0));
    let (counted, key) = (n_reads.clone(), key.to_string());
    world.faulty.choose_reads(move |read| {
        counted.fetch_add(usize::from(read == key), Ordering::SeqCst);
        None
    });
    n_reads
}

#[tokio::test]
async fn a_block_that_cannot_be_read_keeps_its_delete_open_and_no_other_block() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 4).await;
    let damaged = maintainer.catalog.snapshot().blocks(Table::Logs)[0].clone();
    world.flush(&maintainer, Table::Logs, START, 4).await;
    let whole = world.inner.get(&block_path(&damaged).data()).await.expect("there");
    world
        .inner
        .put(&block_path(&damaged).data(), Bytes::from_static(b"9\n9\n9\n9\n"))
        .await
        .expect("put");
    let id = world.order(&maintainer, Table::Logs, 2).await;
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_erased, report.problems.len()), (2, 1), "{report:?}");
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!(snapshot.deletes()[&id].todo, [damaged.id.clone()].into());
    let told = maintainer.quarantine.blocks();
    assert_eq!((told.len(), &told[0].block), (1, &damaged.id), "{told:?}");
    // until its hour is over it is not fetched again, damaged or not
    let n_reads = count_reads(&world, &block_path(&damaged).data());
    for _ in 0..3 {
        let report = maintainer.run_once().await;
        assert_eq!((report.rows_erased, report.problems), (0, vec![]));
    }
    assert_eq!(n_reads.load(Ordering::SeqCst), 0);
    world.clock.advance(HOUR);
    maintainer.run_once().await;
    assert!(n_reads.load(Ordering::SeqCst) > 0, "it is tried again");
    world.inner.put(&block_path(&damaged).data(), whole).await.expect("put");
    world.clock.advance(HOUR);
    assert_eq!(maintainer.run_once().await.rows_erased, 2);
    assert_eq!(maintainer.quarantine.blocks(), []);
    assert!(maintainer.catalog.snapshot().deletes()[&id].ended_at_nanos.is_some());
}

/// Gives an order while the first blocks are merged, and notes what is done.
#[derive(Debug)]
struct Interrupted {
    order: Mutex<Option<(Arc<Catalog>, Commit)>>,
    done: Mutex<Vec<&'static str>>,
}

impl Merge for Interrupted {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>> {
        self.done.lock().push("merge");
        let order = self.order.lock().take();
        if let Some((catalog, commit)) = order {
            tokio::runtime::Handle::current().block_on(catalog.commit(commit)).expect("ordered");
        }
        Lines.merge(inputs, level, partition_nanos, now_nanos)
    }
    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        Lines.look(looking, erasures)
    }
    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)> {
        self.done.lock().push("erase");
        Lines.erase(input, erasures, now_nanos)
    }
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        Lines.expire(input, keeping, age_days, now_nanos)
    }
}

#[tokio::test]
async fn a_delete_that_comes_while_blocks_are_swapped_does_not_wait_for_all_of_them() {
    let mut world = World::new(Config::default());
    let first = world.maintainer(1).await;
    for hour in 0..3 {
        for _ in 0..2 {
            world.flush(&first, Table::Logs, START + hour * HOUR, 6).await;
        }
    }
    world.clock.set(START + 5 * HOUR);
    let parts = world.parts(1).await;
    let mut commit = Commit::new(CommitKind::Delete, world.clock.now_nanos());
    commit.delete = Some(catalog::DeleteOrder {
        table: Table::Logs,
        start_nanos: i64::MIN,
        end_nanos: i64::MAX,
        query: parts.catalog.put_query("3").await.expect("put"),
        lsn: 0,
    });
    let interrupted = Arc::new(Interrupted {
        order: Mutex::new(Some((parts.catalog.clone(), commit))),
        done: Mutex::default(),
    });
    let maintainer = Maintainer::with_merge(parts, interrupted.clone());
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_erased, report.problems.clone()), (12, vec![]), "{report:?}");
    // the merge that was under way is overtaken; the others wait, since their hours have new blocks
    assert_eq!(*interrupted.done.lock(), [vec!["merge"], vec!["erase"; 6]].concat());
    world.clock.advance(HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems.len()), (6, 3, 0), "{report:?}");
    world.doomed.extend(world.rows.iter().filter(|row| **row % 3 == 0));
    let snapshot = maintainer.catalog.snapshot();
    assert!(snapshot.deletes().values().all(|delete| delete.ended_at_nanos.is_some()));
    assert_eq!(world.rows_of(&snapshot).await, world.without_doomed(world.rows.clone()));
}

/// Notes how many deletes each rewrite asks.
#[derive(Debug, Default)]
struct Counted(Mutex<Vec<usize>>);

impl Merge for Counted {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>> {
        Lines.merge(inputs, level, partition_nanos, now_nanos)
    }
    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        Lines.look(looking, erasures)
    }
    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)> {
        self.0.lock().push(erasures.len());
        Lines.erase(input, erasures, now_nanos)
    }
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        Lines.expire(input, keeping, age_days, now_nanos)
    }
}

#[tokio::test]
async fn a_rewrite_asks_only_deletes_that_mean_something_and_counts_each_ones_rows() {
    let mut world = World::new(Config::default());
    let counted = Arc::new(Counted::default());
    let maintainer = Maintainer::with_merge(world.parts(1).await, counted.clone());
    // 0 is a multiple of all
    world.flush(&maintainer, Table::Spans, START, 1).await;
    world.flush(&maintainer, Table::Logs, START, 6).await;
    let mut expected = Vec::new();
    for (n, n_rows) in [(7, 0), (3, 2), (50, 0), (4, 1)] {
        expected.push((world.order(&maintainer, Table::Logs, n).await, n_rows));
    }
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_erased, report.problems), (3, vec![]));
    assert_eq!(*counted.0.lock(), [2]);
    let snapshot = maintainer.catalog.snapshot();
    for (id, n_rows) in expected {
        let delete = &snapshot.deletes()[&id];
        assert_eq!((delete.n_rows, delete.ended_at_nanos), (n_rows, Some(START)));
    }
}
