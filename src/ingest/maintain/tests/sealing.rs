//! When hours are sealed, and what is merged with what.

use super::*;

#[tokio::test]
async fn an_hour_is_sealed_when_it_is_over_and_quiet() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    for _ in 0..3 {
        world.clock.advance(15 * MINUTE);
        world.flush(&maintainer, Table::Logs, START, 10).await;
    }
    let sealed_at = async |minutes: i64| {
        world.clock.set(START + minutes * MINUTE);
        let report = maintainer.run_once().await;
        assert_eq!(report.problems, Vec::<String>::new());
        world.check(&maintainer).await;
        levels(&maintainer.catalog.snapshot(), Table::Logs)
    };
    assert_eq!(sealed_at(59).await, (3, 0), "the hour runs");
    assert_eq!(lake_behind_nanos(&maintainer.catalog.snapshot()), Some(START));
    assert_eq!(sealed_at(74).await, (3, 0), "rows may still come");
    let before = maintainer.catalog.snapshot();
    assert_eq!(sealed_at(75).await, (0, 1));
    assert_eq!(lake_behind_nanos(&maintainer.catalog.snapshot()), None);
    // a reader of the old snapshot finds its objects for an hour, and then they go
    assert_eq!(world.rows_of(&before).await, world.rows);
    assert_eq!(sealed_at(75 + 59).await, (0, 1));
    assert_eq!(world.rows_of(&before).await, world.rows);
    // as long as it is held, they stay for the longest report
    drop(before);
    assert_eq!(sealed_at(75 + 60).await, (0, 1));
    world.check_nothing_is_left_behind(&maintainer).await;
}

#[tokio::test]
async fn an_hour_that_is_not_quiet_waits_and_late_rows_make_one_further_file_a_day() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Spans, START, 10).await;
    world.clock.set(START + 74 * MINUTE);
    world.flush(&maintainer, Table::Spans, START, 10).await;
    world.clock.set(START + 75 * MINUTE);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Spans), (2, 0), "a block came a minute ago");
    world.clock.set(START + 79 * MINUTE);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Spans), (0, 1));
    for hours in [3, 9, 20] {
        world.clock.set(START + hours * HOUR);
        world.flush(&maintainer, Table::Spans, START, 5).await;
        world.clock.advance(30 * MINUTE);
        maintainer.run_once().await;
    }
    assert_eq!(
        levels(&maintainer.catalog.snapshot(), Table::Spans),
        (3, 1),
        "late rows wait for more of their kind"
    );
    world.clock.set(START + 27 * HOUR);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Spans), (0, 2));
    world.check(&maintainer).await;
}

#[tokio::test]
async fn tables_kept_by_day_are_sealed_hour_by_hour() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    let day = START.div_euclid(DAY) * DAY;
    for minutes in [10, 50, 70] {
        world.clock.set(START + minutes * MINUTE);
        world.flush(&maintainer, Table::MetricPoints, day, 10).await;
    }
    world.clock.set(START + 75 * MINUTE);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::MetricPoints), (1, 1));
    world.clock.set(START + 135 * MINUTE);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::MetricPoints), (0, 2));
    world.check(&maintainer).await;
}

#[tokio::test]
async fn a_running_hour_is_merged_by_like_sizes_and_no_row_more_than_twice_before_the_seal() {
    let mut world = World::new(Config {
        max_block_rows: 10_000,
        ..Config::default()
    });
    let maintainer = world.maintainer(1).await;
    let mut rows_written = 0;
    for n in 0..48 {
        world.clock.advance(MINUTE);
        world.flush(&maintainer, Table::Logs, START, 10).await;
        let before = maintainer.catalog.snapshot();
        let report = maintainer.run_once().await;
        let after = maintainer.catalog.snapshot();
        let made = after.all_blocks().filter(|meta| before.block(Table::Logs, &meta.id).is_none());
        rows_written += made.map(|meta| meta.n_rows).sum::<u64>();
        assert_eq!(report.blocks_replaced, if n % 8 == 7 { 8 } else { 0 }, "after {n}");
    }
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (6, 0));
    assert_eq!(rows_written, 480, "each row once more");
    world.clock.set(START + 80 * MINUTE);
    maintainer.run_once().await;
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (0, 1));
    world.check(&maintainer).await;
}

/// Numbers of rows of the blocks that are left of six, after their hour: of 20, 30, 30, 30, 30 and 90 bytes.
async fn sizes_within(max_block_bytes: u64) -> Vec<u64> {
    let mut world = World::new(Config {
        max_block_bytes,
        ..Config::default()
    });
    let maintainer = world.maintainer(1).await;
    for n_rows in [10, 10, 10, 10, 10, 30] {
        world.flush(&maintainer, Table::Logs, START, n_rows).await;
    }
    let before = maintainer.catalog.snapshot();
    assert_eq!(before.all_blocks().map(|meta| meta.parquet_bytes).sum::<u64>(), 230);
    world.clock.set(START + 2 * HOUR);
    maintainer.run_once().await;
    let snapshot = maintainer.catalog.snapshot();
    let came_so = |meta: &BlockMeta| {
        before
            .all_blocks()
            .any(|old| (old.n_rows, old.min_time_nanos) == (meta.n_rows, meta.min_time_nanos))
    };
    assert!(snapshot.all_blocks().all(|meta| meta.parquet_bytes <= max_block_bytes || came_so(meta)));
    world.check(&maintainer).await;
    let mut sizes: Vec<_> = snapshot.all_blocks().map(|meta| meta.n_rows).collect();
    sizes.sort_unstable();
    sizes
}

#[tokio::test]
async fn blocks_are_filled_up_to_their_bytes_and_no_further() {
    // two of 30 bytes are at the bound, and past it
    assert_eq!(sizes_within(60).await, [10, 20, 20, 30]);
    assert_eq!(sizes_within(59).await, [10, 10, 10, 20, 30]);
    // all together, and one byte too few
    assert_eq!(sizes_within(230).await, [80]);
    assert!(sizes_within(229).await.len() > 1);
    assert_eq!(sizes_within(1).await, [10, 10, 10, 10, 10, 30]);
}

/// Blocks of ten rows and one of thirty become blocks of twenty, and the one stays alone.
async fn fills_blocks_of_twenty_rows(table: Table, config: Config) {
    let mut world = World::new(config);
    let maintainer = world.maintainer(1).await;
    let partition_nanos = START - START.rem_euclid(table.partition_width_nanos());
    for n_rows in [10, 10, 10, 10, 10, 30] {
        world.flush(&maintainer, table, partition_nanos, n_rows).await;
    }
    world.clock.set(START + 2 * HOUR);
    maintainer.run_once().await;
    let snapshot = maintainer.catalog.snapshot();
    let mut sizes: Vec<_> = snapshot.blocks(table).iter().map(|meta| meta.n_rows).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 20, 20, 30], "none above the bound, unless it came so");
    assert_eq!(levels(&snapshot, table), (0, 4));
    assert_eq!(maintainer.run_once().await.blocks_replaced, 0, "and that is the end of it");
    world.check(&maintainer).await;
}

#[tokio::test]
async fn blocks_are_filled_up_to_their_bound() {
    fills_blocks_of_twenty_rows(
        Table::Logs,
        Config {
            max_block_rows: 25,
            ..Config::default()
        },
    )
    .await;
}

#[tokio::test]
async fn what_a_merge_remembers_of_series_is_bounded_however_well_they_compress() {
    fills_blocks_of_twenty_rows(
        Table::MetricSeries,
        Config {
            max_merge_memory_bytes: 25 * 64,
            ..Config::default()
        },
    )
    .await;
}
