//! Rows that expire in blocks that stay.

use super::*;

pub(super) fn keeps(service: &str, days: u32) -> RetentionRule {
    RetentionRule {
        table: None,
        log_group: None,
        service: Some(service.into()),
        days,
    }
}

#[tokio::test]
async fn rows_of_a_service_expire_from_blocks_that_stay() {
    let mut world = World::new(Config::default());
    world.retention.days = 10;
    world.retention.rules = vec![keeps("odd", 2)];
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 10).await;
    world.clock.set(START + 80 * MINUTE);
    assert_eq!(maintainer.run_once().await.blocks_made, 1);
    world.clock.set(START + 2 * DAY);
    assert_eq!(maintainer.run_once().await.rows_expired, 0, "kept for so many days");
    world.clock.advance(MINUTE);
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_expired, report.blocks_expired, report.problems), (5, 0, vec![]));
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!(world.rows_of(&snapshot).await, [0, 2, 4, 6, 8]);
    assert_eq!(levels(&snapshot, Table::Logs), (0, 1));
    assert_eq!(snapshot.gone()[&Table::Logs].expired, 5);
    world.clock.advance(LAKE_SWAP_GRACE);
    maintainer.run_once().await;
    assert_eq!(world.rows_in_the_lake().await, [0, 2, 4, 6, 8], "foreign readers see the rest once");
    world.clock.advance(2 * DAY);
    assert_eq!(maintainer.run_once().await, Report::default(), "it is looked at once");
    world.clock.set(START + 10 * DAY + MINUTE);
    assert_eq!(maintainer.run_once().await.blocks_expired, 1);
    assert_eq!(maintainer.catalog.snapshot().gone()[&Table::Logs].expired, 10);
}

/// Stops the store after each number of writes in turn while rows expire, and goes on with a fresh process.
#[tokio::test]
async fn a_crash_while_rows_expire_loses_nothing_else() {
    for n_writes in 0.. {
        let mut world = World::new(Config::default());
        world.retention.rules = vec![keeps("odd", 2)];
        world.retention.tables = [(Table::Spans, 1)].into();
        let maintainer = world.maintainer(1).await;
        world.flush(&maintainer, Table::Logs, START, 6).await;
        world.flush(&maintainer, Table::Spans, START, 1).await;
        world.clock.set(START + 80 * MINUTE);
        maintainer.run_once().await;
        world.clock.set(START + 3 * DAY);
        world.faulty.stop_after(n_writes);
        maintainer.run_once().await;
        world.clock.advance(2 * HOUR);
        maintainer.run_once().await;
        let has_crashed = world.faulty.has_stopped();
        world.faulty.heal();
        let restarted = world.maintainer(1).await;
        let rows = world.rows_of(&restarted.catalog.snapshot()).await;
        assert!(
            rows.is_sorted_by(|a, b| a < b) && [0, 2, 4].iter().all(|row| rows.contains(row)),
            "{rows:?} after {n_writes} writes"
        );
        for _ in 0..3 {
            assert_eq!(restarted.run_once().await.problems, Vec::<String>::new());
            world.clock.advance(2 * HOUR);
        }
        let snapshot = restarted.catalog.snapshot();
        assert_eq!(
            (world.rows_of(&snapshot).await, world.rows_in_the_lake().await),
            (vec![0, 2, 4], vec![0, 2, 4]),
            "after {n_writes} writes"
        );
        assert_eq!((snapshot.gone()[&Table::Logs].expired, snapshot.gone()[&Table::Spans].expired), (3, 1));
        assert!(snapshot.intents().is_empty());
        if !has_crashed {
            assert!(n_writes > 7, "{n_writes}");
            break;
        }
    }
}

#[tokio::test]
async fn a_damaged_block_whose_rows_expire_is_not_fetched_in_every_round() {
    let mut world = World::new(Config::default());
    world.retention.rules = vec![keeps("odd", 2)];
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 6).await;
    world.clock.set(START + 80 * MINUTE);
    maintainer.run_once().await;
    let damaged = maintainer.catalog.snapshot().blocks(Table::Logs)[0].clone();
    let path = block_path(&damaged).data();
    let whole = world.inner.get(&path).await.expect("there");
    world.inner.put(&path, Bytes::from_static(b"9\n9\n9\n9\n9\n9\n")).await.expect("put");
    maintainer.cache.forget(&path).await;
    world.clock.set(START + 3 * DAY);
    assert_eq!(maintainer.run_once().await.problems.len(), 1);
    let n_reads = deletes::count_reads(&world, &path);
    assert_eq!(maintainer.run_once().await.problems, Vec::<String>::new());
    assert_eq!(n_reads.load(std::sync::atomic::Ordering::SeqCst), 0);
    world.inner.put(&path, whole).await.expect("put");
    world.clock.advance(HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.rows_expired, report.problems), (3, vec![]));
    assert_eq!(maintainer.quarantine.blocks(), []);
}
