mod deletes;
mod expiry;
mod hidden;
mod late;
mod looking;
mod sealing;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::policy::made_nanos;
use super::*;
use crate::catalog::NodeId;
use crate::model::{ManualClock, Table};
use crate::storage::dated::DatedStore;
use crate::storage::faulty::{Fault, FaultyStore};
use crate::storage::paths::{BlockPath, Part, Tier};
use crate::storage::{BucketStore, Key};

const HOUR: i64 = 3_600 * SECOND_NANOS;
const MINUTE: i64 = 60 * SECOND_NANOS;
const DAY: i64 = 24 * HOUR;
/// Of the queries in whose time blocks are replaced.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
const REPORT_TIMEOUT: Duration = Duration::from_secs(3_600);
const LAKE_SWAP_GRACE: i64 = 31 * SECOND_NANOS;
/// 2026-11-22T05:00:00Z
const START: i64 = 1_795_323_600 * SECOND_NANOS;

/// Stands in for Parquet: a block's rows are numbers, one a line.
#[derive(Debug)]
struct Lines;

fn read_lines(bytes: &[u8]) -> Vec<u64> {
    std::str::from_utf8(bytes)
        .expect("text")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

fn built(table: Table, level: Level, partition_nanos: i64, rows: &[u64], now_nanos: i64) -> BuiltBlock {
    let parquet = Bytes::from(rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    let index = table.is_hourly().then(|| Bytes::from(format!("index of {} rows", rows.len())));
    let time = |row: Option<&u64>| partition_nanos + row.copied().unwrap_or_default() as i64;
    BuiltBlock {
        meta: BlockMeta {
            id: BlockId::new(now_nanos),
            partition_nanos,
            n_rows: rows.len() as u64,
            parquet_bytes: parquet.len() as u64,
            parquet_crc32c: crc32c::crc32c(&parquet),
            index_bytes: index.as_ref().map_or(0, |index| index.len() as u64),
            index_crc32c: index.as_ref().map_or(0, |index| crc32c::crc32c(index)),
            index_tail_bytes: 0,
            memory_bytes: 100 * rows.len() as u64,
            ..BlockMeta::example(table, level, (time(rows.iter().min()), time(rows.iter().max())))
        },
        parquet,
        index,
    }
}

impl Merge for Lines {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>> {
        let table = inputs[0].meta.table;
        assert!(
            inputs
                .iter()
                .all(|input| (input.meta.table, input.meta.partition_nanos) == (table, partition_nanos))
        );
        let mut rows: Vec<u64> = inputs.iter().flat_map(|input| read_lines(&input.parquet)).collect();
        rows.sort_unstable();
        Ok(Some(built(table, level, partition_nanos, &rows, now_nanos)))
    }

    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        let meta = &looking.meta;
        let path = block_path(meta).data();
        let parquet = looking.cache.map(&path, meta.parquet_bytes, Some(meta.parquet_crc32c));
        let rows = read_lines(&looking.runtime.block_on(parquet).map_err(|error| error.to_string())?);
        let means = |erasure: &Arc<Erasure>| rows.iter().any(|row| row % divisor(erasure) == 0);
        Ok(erasures.iter().map(means).collect())
    }

    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)> {
        let (mut left, mut gone, mut by_delete) = (read_lines(&input.parquet), Vec::new(), Vec::new());
        for erasure in erasures {
            let n_gone = gone.len();
            gone.extend(left.extract_if(.., |row| *row % divisor(erasure) == 0));
            by_delete.push((gone.len() - n_gone) as u64);
        }
        Ok((without(&input.meta, &gone, &left, now_nanos), by_delete, Lost::default()))
    }

    /// Rows are of two services, `odd` and `even`.
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        let is_expired = |service: &str| {
            let mut context = crate::model::ContextBuilder::new();
            context.attribute("service.name", crate::model::Value::Str(service));
            keeping.is_expired(input.meta.table, &context.build(), age_days)
        };
        let expired = [is_expired("even"), is_expired("odd")];
        let (gone, left): (Vec<u64>, Vec<u64>) = read_lines(&input.parquet).into_iter().partition(|row| expired[(*row % 2) as usize]);
        Ok(without(&input.meta, &gone, &left, now_nanos))
    }
}

/// Its multiples are meant.
fn divisor(erasure: &Erasure) -> u64 {
    let text = format!("{:?}", erasure.test);
    text.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

fn without(meta: &BlockMeta, gone: &[u64], left: &[u64], now_nanos: i64) -> Rewritten {
    let block = (!left.is_empty()).then(|| Box::new(built(meta.table, meta.level, meta.partition_nanos, left, now_nanos)));
    match gone.is_empty() {
        true => Rewritten::Clean,
        false => Rewritten::Without(gone.len() as u64, block),
    }
}

#[derive(Debug)]
struct NoLosses;

#[async_trait::async_trait]
impl Losses for NoLosses {
    async fn note(&self, _: &BlockId, _: &Lost) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Debug)]
struct NoLogGroups;

impl LogGroups for NoLogGroups {
    fn retention_days(&self) -> Vec<(String, u32)> {
        vec![]
    }
}

/// Means the multiples of a number; only [`Lines`] asks.
#[derive(Debug)]
struct Multiples(#[expect(dead_code, reason = "it is read from the debug text")] u64);

impl crate::ingest::RowTest for Multiples {
    fn in_rows(&self, _: &crate::model::Rows, _: &crate::model::TimeRange) -> Result<BooleanBuffer, String> {
        Err("only lines are looked at".into())
    }
    fn in_block(&self, _: &Block, _: &crate::model::TimeRange) -> Result<BooleanBuffer, String> {
        Err("only lines are looked at".into())
    }
}

#[derive(Debug)]
struct Numbers;

impl Finder for Numbers {
    fn compile(&self, _: Table, query: &str, _: i64) -> Result<Arc<dyn crate::ingest::RowTest>, String> {
        Ok(Arc::new(Multiples(query.parse().map_err(|_| "no number".to_string())?)))
    }
}

/// A store, a clock, and what was flushed.
struct World {
    inner: Arc<dyn Store>,
    faulty: Arc<FaultyStore>,
    clock: Arc<ManualClock>,
    config: Config,
    retention: RetentionConfig,
    lake_visible_at_once: bool,
    caches: tempfile::TempDir,
    rows: Vec<u64>,
    /// Rows that a delete means, which may be gone or not.
    doomed: std::collections::BTreeSet<u64>,
}

impl World {
    fn new(config: Config) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let inner: Arc<dyn Store> = DatedStore::new(Arc::new(BucketStore::in_memory("")), clock.clone());
        Self {
            faulty: FaultyStore::new(Arc::clone(&inner)),
            inner,
            clock,
            config,
            retention: RetentionConfig::default(),
            lake_visible_at_once: false,
            caches: tempfile::tempdir().expect("a directory"),
            rows: Vec::new(),
            doomed: Default::default(),
        }
    }

    /// A maintainer as a fresh process would have it.
    async fn maintainer(&self, node: u8) -> Maintainer {
        Maintainer::with_merge(self.parts(node).await, Arc::new(Lines))
    }

    async fn parts(&self, node: u8) -> Parts {
        let store: Arc<dyn Store> = self.faulty.clone();
        let node = NodeId::parse(&format!("{node:026}")).expect("legal");
        Parts {
            config: self.config.clone(),
            retention: self.retention.clone(),
            log_groups: Arc::new(NoLogGroups),
            lake_visible_at_once: self.lake_visible_at_once,
            query_timeout: QUERY_TIMEOUT,
            report_timeout: REPORT_TIMEOUT,
            block: block::Settings::default(),
            catalog: Arc::new(Catalog::open(Arc::clone(&store), node).await.expect("opens")),
            cache: Cache::open(Arc::clone(&store), &self.caches.path().join("cache"), 1 << 20).expect("opens"),
            store,
            quarantine: Arc::default(),
            finder: Arc::new(Numbers),
            losses: Arc::new(NoLosses),
            clock: self.clock.clone(),
        }
    }

    /// Flushes `n_rows` new rows as one block, straight into the store.
    async fn flush(&mut self, maintainer: &Maintainer, table: Table, partition_nanos: i64, n_rows: usize) {
        let first = self.rows.len() as u64;
        let rows: Vec<u64> = (first..first + n_rows as u64).collect();
        self.rows.extend(&rows);
        let level = if self.lake_visible_at_once { Level::Sealed } else { Level::L0 };
        let built = built(table, level, partition_nanos, &rows, self.clock.now_nanos());
        let path = block_path(&built.meta);
        if let Some(index) = built.index {
            self.inner.put(&path.index(), index).await.expect("put");
        }
        self.inner.put(&path.data(), built.parquet).await.expect("put");
        let mut commit = Commit::new(CommitKind::Flush, self.clock.now_nanos());
        commit.adds.push(built.meta);
        loop {
            // faults may hit this one too
            match maintainer.catalog.commit(commit.clone()).await {
                Ok(_) => return,
                Err(error) => assert!(error.retry_helps(), "{error}"),
            }
        }
    }

    /// Orders the multiples of `n` to be deleted.
    async fn order(&mut self, maintainer: &Maintainer, table: Table, n: u64) -> CommitId {
        let mut commit = Commit::new(CommitKind::Delete, self.clock.now_nanos());
        let query = loop {
            if let Ok(query) = maintainer.catalog.put_query(&n.to_string()).await {
                break query;
            }
        };
        commit.delete = Some(catalog::DeleteOrder {
            table,
            start_nanos: i64::MIN,
            end_nanos: i64::MAX,
            query,
            lsn: 0,
        });
        let id = commit.id.clone();
        while let Err(error) = maintainer.catalog.commit(commit.clone()).await {
            assert!(error.retry_helps(), "{error}");
        }
        self.doomed.extend(self.rows.iter().filter(|row| **row % n == 0));
        id
    }

    fn without_doomed(&self, rows: Vec<u64>) -> Vec<u64> {
        rows.into_iter().filter(|row| !self.doomed.contains(row)).collect()
    }

    /// All rows as our own reader sees them, sorted.
    async fn rows_of(&self, snapshot: &Snapshot) -> Vec<u64> {
        let mut rows = Vec::new();
        for meta in snapshot.all_blocks() {
            let path = block_path(meta);
            rows.extend(read_lines(&self.inner.get(&path.data()).await.expect("a live block is there")));
            if meta.has_index() {
                self.inner.get(&path.index()).await.expect("its index is there");
            }
        }
        rows.sort_unstable();
        rows
    }

    /// Rows as a foreign reader sees them: whatever lies in the lake.
    async fn rows_in_the_lake(&self) -> Vec<u64> {
        let mut rows = Vec::new();
        for (key, path) in self.block_objects().await {
            if path == (Tier::Lake, Part::Data) {
                rows.extend(read_lines(&self.inner.get(&key).await.expect("there")));
            }
        }
        rows.sort_unstable();
        rows
    }

    async fn block_objects(&self) -> Vec<(Key, (Tier, Part))> {
        let listed = self.inner.list("", None).await.expect("lists");
        let blocks = listed
            .into_iter()
            .filter_map(|object| BlockPath::parse(&object.key).map(|(path, part)| (object.key, (path.tier, part))));
        blocks.collect()
    }

    async fn check(&self, maintainer: &Maintainer) {
        let snapshot = maintainer.catalog.refresh().await.expect("reads");
        let rows = self.rows_of(&snapshot).await;
        assert!(rows.is_sorted_by(|a, b| a < b), "no row is doubled: {rows:?}");
        assert_eq!(self.without_doomed(rows), self.without_doomed(self.rows.clone()), "no row is lost");
        if !self.doomed.is_empty() {
            // a block without deleted rows stands beside the old one for some seconds
            return;
        }
        let lake = self.rows_in_the_lake().await;
        assert!(lake.is_sorted_by(|a, b| a < b), "a foreign reader sees no row twice: {lake:?}");
    }

    /// Every object is named by a live block and the other way round.
    async fn check_nothing_is_left_behind(&self, maintainer: &Maintainer) {
        let snapshot = maintainer.catalog.snapshot();
        let mut live: Vec<Key> = Vec::new();
        for meta in snapshot.all_blocks() {
            live.push(block_path(meta).data());
            live.extend(meta.has_index().then(|| block_path(meta).index()));
        }
        live.sort();
        let there: Vec<Key> = self.block_objects().await.into_iter().map(|(key, _)| key).collect();
        assert_eq!(there, live);
        assert!(snapshot.intents().is_empty());
    }
}

fn levels(snapshot: &Snapshot, table: Table) -> (usize, usize) {
    let l0 = snapshot.blocks(table).iter().filter(|meta| meta.level == Level::L0).count();
    (l0, snapshot.blocks(table).len() - l0)
}

/// Start of the oldest partition of which rows are not in the lake yet; `None` when all are.
fn lake_behind_nanos(snapshot: &Snapshot) -> Option<i64> {
    let waiting = snapshot.all_blocks().filter(|meta| meta.level == Level::L0);
    waiting.map(|meta| meta.partition_nanos).min()
}

#[tokio::test]
async fn rows_expire_by_their_tables_days() {
    let mut world = World::new(Config::default());
    world.retention.tables = [(Table::Logs, 2)].into();
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 10).await;
    world.flush(&maintainer, Table::Spans, START, 10).await;
    world.clock.set(START + 2 * DAY);
    assert_eq!(maintainer.run_once().await.blocks_expired, 0);
    world.clock.set(START + 2 * DAY + HOUR);
    assert_eq!(maintainer.run_once().await.blocks_expired, 1);
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!((snapshot.blocks(Table::Logs).len(), snapshot.blocks(Table::Spans).len()), (0, 1));
    world.clock.advance(2 * HOUR);
    maintainer.run_once().await;
    world.check_nothing_is_left_behind(&maintainer).await;
}

#[tokio::test]
async fn with_everything_in_the_lake_files_stay_few_and_the_old_ones_go_at_once() {
    let mut world = World::new(Config {
        merge_at_blocks: 4,
        ..Config::default()
    });
    world.lake_visible_at_once = true;
    let maintainer = world.maintainer(1).await;
    for _ in 0..4 {
        world.flush(&maintainer, Table::Logs, START, 10).await;
    }
    assert_eq!(maintainer.run_once().await.blocks_made, 1);
    // a query that began just before may run until then, and finds its blocks
    world.clock.advance(LAKE_SWAP_GRACE - 1);
    assert_eq!(maintainer.run_once().await.objects_deleted, 0);
    world.clock.advance(1);
    assert_eq!(maintainer.run_once().await.objects_deleted, 8);
    world.check_nothing_is_left_behind(&maintainer).await;
    world.flush(&maintainer, Table::Logs, START, 40).await;
    world.clock.set(START + 80 * MINUTE);
    assert_eq!(maintainer.run_once().await.blocks_replaced, 2, "what is over gets one file");
    assert_eq!(maintainer.run_once().await.blocks_replaced, 0);
    world.clock.advance(LAKE_SWAP_GRACE);
    maintainer.run_once().await;
    world.check(&maintainer).await;
}

/// A report reads for longer than a query may.
#[tokio::test]
async fn a_block_that_is_still_read_stays_until_the_report_ends_or_may_run_no_longer() {
    for ends in [true, false] {
        let mut world = World::new(Config {
            merge_at_blocks: 4,
            ..Config::default()
        });
        world.lake_visible_at_once = true;
        let maintainer = world.maintainer(1).await;
        for _ in 0..4 {
            world.flush(&maintainer, Table::Logs, START, 10).await;
        }
        let report = maintainer.catalog.snapshot();
        assert_eq!(maintainer.run_once().await.blocks_made, 1);
        world.clock.advance(5 * LAKE_SWAP_GRACE);
        assert_eq!(maintainer.run_once().await.objects_deleted, 0, "they are read");
        assert!(maintainer.is_something_leaving_the_lake());
        match ends {
            true => drop(report),
            false => world.clock.advance(REPORT_TIMEOUT.as_nanos() as i64),
        }
        assert_eq!(maintainer.run_once().await.objects_deleted, 8);
        world.check_nothing_is_left_behind(&maintainer).await;
    }
}

#[tokio::test]
async fn a_damaged_index_is_made_anew_and_damaged_rows_are_reported() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 10).await;
    world.flush(&maintainer, Table::Spans, START, 10).await;
    let snapshot = maintainer.catalog.snapshot();
    world
        .inner
        .put(&block_path(&snapshot.blocks(Table::Logs)[0]).index(), Bytes::from_static(b"x"))
        .await
        .expect("put");
    world
        .inner
        .put(&block_path(&snapshot.blocks(Table::Spans)[0]).data(), Bytes::from_static(b"9\n9\n9\n"))
        .await
        .expect("put");
    world.clock.set(START + 2 * HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_made, report.problems.len()), (1, 1), "{report:?}");
    assert!(report.problems[0].starts_with("seal:"), "{report:?}");
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Spans), (1, 0), "damaged rows are not thrown away");
}

#[tokio::test]
async fn a_damaged_block_keeps_no_other_out_of_the_lake_and_is_tried_again() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    for _ in 0..3 {
        world.flush(&maintainer, Table::Logs, START, 10).await;
    }
    let damaged = maintainer.catalog.snapshot().blocks(Table::Logs)[1].clone();
    let path = block_path(&damaged).data();
    let whole = world.inner.get(&path).await.expect("an object");
    world.inner.put(&path, Bytes::from_static(b"9\n9\n9\n")).await.expect("put");
    world.clock.set(START + 2 * HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems.len()), (2, 1, 1), "{report:?}");
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (1, 1));
    let told = maintainer.quarantine.blocks();
    assert_eq!((told.len(), &told[0].block, told[0].rows), (1, &damaged.id, 10), "{told:?}");
    let report = maintainer.run_once().await;
    assert_eq!(
        (report.blocks_replaced, report.problems.len()),
        (0, 0),
        "it is not read again and again: {report:?}"
    );
    world.inner.put(&path, whole).await.expect("put");
    // its hour is in the lake already: it waits as late rows do
    world.clock.advance(25 * HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems.len()), (1, 1, 0), "{report:?}");
    assert_eq!(maintainer.quarantine.blocks(), []);
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (0, 2));
    world.check(&maintainer).await;
}

#[tokio::test]
async fn blocks_whose_indexes_are_gone_are_merged_within_the_memory_of_their_rows() {
    let mut world = World::new(Config {
        max_merge_memory_bytes: 2_500,
        ..Config::default()
    });
    let maintainer = world.maintainer(1).await;
    for n_rows in [10, 10, 10, 10, 10, 30] {
        world.flush(&maintainer, Table::Logs, START, n_rows).await;
    }
    for meta in maintainer.catalog.snapshot().blocks(Table::Logs) {
        world.inner.put(&block_path(meta).index(), Bytes::from_static(b"x")).await.expect("put");
    }
    world.clock.set(START + 2 * HOUR);
    while maintainer.run_once().await.blocks_replaced > 0 {}
    let snapshot = maintainer.catalog.snapshot();
    assert_eq!(levels(&snapshot, Table::Logs).0, 0, "all are sealed");
    let mut sizes: Vec<_> = snapshot.blocks(Table::Logs).iter().map(|meta| meta.n_rows).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 20, 20, 30]);
    world.check(&maintainer).await;
}

#[tokio::test]
async fn the_sweep_takes_orphans_once_a_day_and_nothing_young() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    world.flush(&maintainer, Table::Logs, START, 10).await;
    let orphan = block_path(&built(Table::Logs, Level::Sealed, START, &[1], START).meta).data();
    world.inner.put(&orphan, Bytes::from_static(b"1\n")).await.expect("put");
    assert_eq!(maintainer.run_once().await.orphans_deleted, 0);
    world.clock.set(START + 23 * HOUR);
    assert_eq!(maintainer.run_once().await.orphans_deleted, 0);
    world.clock.set(START + 25 * HOUR);
    assert_eq!(maintainer.run_once().await.orphans_deleted, 1);
    world.check(&maintainer).await;
}

/// Stops the store after each number of writes in turn, as a crash would, and goes on with a fresh process.
#[tokio::test]
async fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    for lake_visible_at_once in [false, true] {
        let mut n_crashes = 0;
        for n_writes in 0.. {
            let mut world = World::new(Config {
                merge_at_blocks: 3,
                ..Config::default()
            });
            world.lake_visible_at_once = lake_visible_at_once;
            let maintainer = world.maintainer(1).await;
            let day = START.div_euclid(DAY) * DAY;
            for _ in 0..3 {
                world.flush(&maintainer, Table::Logs, START, 3).await;
                world.flush(&maintainer, Table::Logs, START + HOUR, 3).await;
                world.flush(&maintainer, Table::MetricPoints, day, 3).await;
            }
            world.faulty.stop_after(n_writes);
            // the hour is sealed, the next one is merged; then what was replaced is deleted
            for minutes in [80, 145] {
                world.clock.set(START + minutes * MINUTE);
                maintainer.run_once().await;
            }
            let has_crashed = world.faulty.has_stopped();
            n_crashes += usize::from(has_crashed);
            world.faulty.heal();
            let check_lake = !lake_visible_at_once;
            let restarted = world.maintainer(1).await;
            let snapshot = restarted.catalog.snapshot();
            assert_eq!(world.rows_of(&snapshot).await, world.rows, "after {n_writes} writes");
            for _ in 0..2 {
                assert!(restarted.run_once().await.problems.is_empty());
                if check_lake {
                    world.check(&restarted).await;
                }
            }
            world.clock.advance(4 * HOUR);
            restarted.run_once().await;
            world.clock.advance(4 * HOUR);
            restarted.run_once().await;
            world.check(&restarted).await;
            let left: Vec<_> = restarted
                .catalog
                .snapshot()
                .all_blocks()
                .filter(|meta| meta.level == Level::L0)
                .cloned()
                .collect();
            assert!(left.is_empty(), "everything gets into the lake: {left:?}");
            let objects = world.block_objects().await;
            let stray = objects.iter().filter(|(_, (tier, _))| *tier == Tier::Lake).count();
            let named: usize = restarted.catalog.snapshot().all_blocks().map(|meta| 1 + usize::from(meta.has_index())).sum();
            assert_eq!(stray, named, "nothing stray stays in the lake after {n_writes} writes");
            if !has_crashed {
                break;
            }
        }
        assert!(n_crashes > 15, "{n_crashes}");
    }
}

/// Two nodes maintain one store that loses calls and answers, while rows keep coming.
async fn two_maintainers_over_a_faulty_store(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut world = World::new(Config {
        merge_at_blocks: 3,
        ..Config::default()
    });
    // rows of one service expire after a day, which the end of the test brings
    let expires = rng.random_bool(0.5);
    if expires {
        world.retention.rules = vec![expiry::keeps("odd", 1)];
    }
    let mut maintainers = [world.maintainer(1).await, world.maintainer(2).await];
    let mut faults = SmallRng::seed_from_u64(seed ^ 0xfa17);
    world.faulty.choose(move |_| match faults.random_range(0..20) {
        0 => Some(Fault::Before),
        1 => Some(Fault::After),
        2 => Some(Fault::Slow),
        _ => None,
    });
    world.faulty.list_without_last(rng.random_range(0..6));
    for _ in 0..30 {
        let n = rng.random_range(0..2usize);
        world.clock.advance(rng.random_range(0..20) * MINUTE);
        match rng.random_range(0..10) {
            0..=3 => {
                let hour = world.clock.now_nanos().div_euclid(HOUR) * HOUR - rng.random_range(0..2) * HOUR;
                let maintainer = &maintainers[n];
                world.flush(maintainer, Table::Logs, hour, rng.random_range(1..20)).await;
            }
            4..=6 => drop(maintainers[n].run_once().await),
            7 => {
                let by = rng.random_range(2..9);
                world.order(&maintainers[n], Table::Logs, by).await;
            }
            8 => {
                let (one, two) = (&maintainers[0], &maintainers[1]);
                futures::join!(one.run_once(), two.run_once());
            }
            _ => maintainers[n] = world.maintainer(n as u8 + 1).await,
        }
        world.check(&maintainers[n]).await;
    }
    world.faulty.heal();
    let n_deleted = world.doomed.len();
    if expires {
        world.doomed.extend(world.rows.iter().filter(|row| *row % 2 == 1));
    }
    for _ in 0..4 {
        world.clock.advance(30 * HOUR);
        for maintainer in &maintainers {
            maintainer.run_once().await;
        }
    }
    world.check(&maintainers[0]).await;
    assert_eq!(lake_behind_nanos(&maintainers[0].catalog.snapshot()), None);
    let snapshot = maintainers[0].catalog.refresh().await.expect("reads");
    assert!(snapshot.intents().is_empty());
    assert!(snapshot.deletes().values().all(|delete| delete.todo.is_empty()));
    let left = world.without_doomed(world.rows.clone());
    assert_eq!(world.rows_of(&snapshot).await, left);
    assert_eq!(world.rows_in_the_lake().await, left);
    let gone = snapshot.gone().get(&Table::Logs).copied().unwrap_or_default();
    // what a delete means may have expired before its turn came
    assert!(gone.deleted as usize <= n_deleted, "{gone:?}");
    assert_eq!((gone.deleted + gone.expired) as usize, world.rows.len() - left.len());
}

#[tokio::test]
async fn two_nodes_and_faults_lose_and_double_nothing() {
    for seed in 0..30 {
        two_maintainers_over_a_faulty_store(seed).await;
    }
}

#[test]
fn a_blocks_name_says_when_it_was_made() {
    assert_eq!(made_nanos(&BlockId::new(START + 7 * SECOND_NANOS)), START + 7 * SECOND_NANOS);
}

#[test]
fn settings_read_as_written() {
    let text = "days = 400\nrules = [{ log_group = '/aws/*', days = 7 }]\n[tables]\nlogs = 30\nmetric_points = 40";
    let config: RetentionConfig = toml::from_str(text).expect("valid");
    assert_eq!(config.tables, [(Table::Logs, 30), (Table::MetricPoints, 40)].into());
    assert_eq!((config.days, config.rules.len(), config.problems()), (400, 1, vec![]));
    assert_eq!(
        toml::from_str::<RetentionConfig>(&toml::to_string(&config).expect("toml")).expect("valid"),
        config
    );
}

/// The stand-in above proves the steps; this proves that they fit real blocks.
#[tokio::test]
async fn real_blocks_are_sealed_with_their_index() {
    let world = World::new(Config::default());
    let store: Arc<dyn Store> = world.faulty.clone();
    let node = NodeId::parse(&format!("{:026}", 1)).expect("legal");
    let maintainer = Maintainer::new(Parts {
        config: Config::default(),
        retention: RetentionConfig::default(),
        log_groups: Arc::new(NoLogGroups),
        lake_visible_at_once: false,
        query_timeout: QUERY_TIMEOUT,
        report_timeout: REPORT_TIMEOUT,
        block: block::Settings::default(),
        catalog: Arc::new(Catalog::open(Arc::clone(&store), node).await.expect("opens")),
        cache: Cache::open(Arc::clone(&store), &world.caches.path().join("cache"), 1 << 20).expect("opens"),
        store,
        quarantine: Arc::default(),
        finder: Arc::new(Numbers),
        losses: Arc::new(NoLosses),
        clock: world.clock.clone(),
    });
    for flush in 0..3i64 {
        let mut builder = crate::model::LogsBuilder::default();
        let context = builder.context(crate::model::ContextBuilder::new().build());
        for row in 0..5 {
            let body = format!("row {row} of flush {flush}");
            let record = crate::model::LogRecord {
                time_unix_nano: START + row * MINUTE + flush,
                body: Some(&body),
                body_type: 1,
                ..crate::model::LogRecord::default()
            };
            builder.push(context, &record);
        }
        let rows = builder.finish().expect("rows").with_ingest_ids(flush << 20);
        let built = block::build(Table::Logs, START, Level::L0, &[rows], &block::Settings::default(), world.clock.now_nanos()).expect("builds");
        let path = block_path(&built.meta);
        world.inner.put(&path.data(), built.parquet).await.expect("put");
        // one index is lost: it is made anew
        if flush != 1 {
            world.inner.put(&path.index(), built.index.expect("logs have one")).await.expect("put");
        }
        let mut commit = Commit::new(CommitKind::Flush, world.clock.now_nanos());
        commit.adds.push(built.meta);
        maintainer.catalog.commit(commit).await.expect("commits");
    }
    world.clock.set(START + 2 * HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems), (3, 1, vec![]));
    let snapshot = maintainer.catalog.snapshot();
    let [meta] = snapshot.blocks(Table::Logs) else {
        panic!("one block: {snapshot:?}")
    };
    assert_eq!((meta.level, meta.n_rows), (Level::Sealed, 15));
    let input = maintainer.read(meta).await.expect("reads");
    let sealed = Block::open(Arc::clone(meta), input.parquet, input.index).expect("opens");
    assert!(sealed.index().is_some());
    assert_eq!(sealed.n_rows(), 15);
}
