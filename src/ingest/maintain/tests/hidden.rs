//! Rows that are hidden while their block is replaced.

use super::*;

/// Hides a row of an input once the new block is made of it, as a flush does that comes at this moment.
#[derive(Debug)]
struct HidingMerge {
    inner: BlockMerge,
    catalog: Arc<Catalog>,
    times: std::sync::atomic::AtomicU32,
}

impl Merge for HidingMerge {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>> {
        let first = inputs[0].meta.id.clone();
        let built = self.inner.merge(inputs, level, partition_nanos, now_nanos);
        let row = self.times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut commit = Commit::new(CommitKind::Flush, now_nanos);
        commit.hides = vec![catalog::Hide { block: first, rows: vec![row] }];
        tokio::runtime::Handle::current().block_on(self.catalog.commit(commit)).expect("hidden");
        built
    }
    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        self.inner.look(looking, erasures)
    }
    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)> {
        self.inner.erase(input, erasures, now_nanos)
    }
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        self.inner.expire(input, keeping, age_days, now_nanos)
    }
}

/// Flushes spans, each with its number and whether it is in progress, a minute after another; hides what it says.
async fn flush_spans(world: &World, catalog: &Catalog, spans: &[(u8, bool)], flush: u8, hides: Vec<catalog::Hide>) {
    let mut builder = crate::model::SpansBuilder::default();
    let context = builder.context(crate::model::ContextBuilder::new().build());
    for (row, (number, in_progress)) in spans.iter().enumerate() {
        let start_time_unix_nano = START + row as i64 * MINUTE;
        let record = crate::model::SpanRecord {
            start_time_unix_nano,
            end_time_unix_nano: (!in_progress).then_some(start_time_unix_nano + 1),
            trace_id: crate::model::TraceId::from_bytes(&[7; 16]).expect("an ID"),
            span_id: crate::model::SpanId::from_bytes(&[*number; 8]).expect("an ID"),
            parent_span_id: None,
            trace_state: None,
            trace_flags: None,
            name: "n",
            kind: "SERVER",
            status_code: "UNSET",
            status_message: None,
            in_progress: *in_progress,
            dropped_attributes_count: 0,
        };
        builder.push(context, &record);
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(i64::from(flush) << 20);
    let level = if world.lake_visible_at_once { Level::Sealed } else { Level::L0 };
    let built = block::build(Table::Spans, START, level, &[rows], &block::Settings::default(), world.clock.now_nanos()).expect("builds");
    let path = block_path(&built.meta);
    world.inner.put(&path.data(), built.parquet).await.expect("put");
    world.inner.put(&path.index(), built.index.expect("spans have one")).await.expect("put");
    let mut commit = Commit::new(CommitKind::Flush, world.clock.now_nanos());
    commit.adds.push(built.meta);
    commit.hides = hides;
    catalog.commit(commit).await.expect("commits");
}

/// The numbers of spans as a foreign reader counts them, and how many of them are in progress.
async fn spans_in_the_lake(world: &World, snapshot: &Snapshot) -> (usize, usize) {
    use arrow::array::AsArray as _;
    let known = |id: &str| {
        let removed = snapshot.removed().iter().map(|removed| &removed.meta);
        snapshot.all_blocks().chain(removed).find(|meta| meta.id.as_str() == id).cloned()
    };
    let (mut all, mut in_progress) = (0, 0);
    for object in world.inner.list("spans/", None).await.expect("lists") {
        let Some((path, Part::Data)) = BlockPath::parse(&object.key) else { continue };
        let parquet = world.inner.get(&object.key).await.expect("there");
        let block = Block::open(known(&path.block_id).expect("known"), parquet, None).expect("opens");
        for batch in block.scan(0..block.n_rows(), &["in_progress"]).expect("scans") {
            let batch = batch.expect("reads");
            all += batch.num_rows();
            in_progress += batch.column(0).as_boolean().true_count();
        }
    }
    (all, in_progress)
}

/// What a flush hides, of the one block there is.
fn hiding(catalog: &Catalog, numbers: &[u32]) -> Vec<catalog::Hide> {
    let block = catalog.snapshot().blocks(Table::Spans)[0].id.clone();
    let rows = numbers.to_vec();
    vec![catalog::Hide { block, rows }]
}

#[tokio::test]
async fn a_span_completed_after_its_hour_was_sealed_is_one_row_to_foreign_readers() {
    let world = World::new(Config {
        late_seal_seconds: 3_600,
        ..Config::default()
    });
    let parts = world.parts(1).await;
    let catalog = parts.catalog.clone();
    let maintainer = Maintainer::new(parts);
    flush_spans(&world, &catalog, &[(1, true), (2, true), (3, false)], 0, vec![]).await;
    world.clock.set(START + 80 * MINUTE);
    assert_eq!(maintainer.run_once().await.blocks_made, 1);
    assert_eq!(spans_in_the_lake(&world, &catalog.snapshot()).await, (3, 2));
    // row 2 is that of the earliest span: blocks are newest first
    flush_spans(&world, &catalog, &[(1, false)], 1, hiding(&catalog, &[2])).await;
    assert_eq!(
        maintainer.run_once().await,
        Report::default(),
        "late rows wait, and the row they replace stands for them"
    );
    assert_eq!(spans_in_the_lake(&world, &catalog.snapshot()).await, (3, 2));
    world.clock.advance(HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems), (2, 1, vec![]));
    world.clock.advance(LAKE_SWAP_GRACE);
    maintainer.run_once().await;
    let snapshot = catalog.snapshot();
    assert_eq!(spans_in_the_lake(&world, &snapshot).await, (3, 1));
    assert!(snapshot.all_blocks().all(|meta| meta.hidden.is_empty()));
    world.clock.advance(DAY);
    assert_eq!(maintainer.run_once().await.blocks_made, 0, "nothing is left to do");
}

#[tokio::test]
async fn with_everything_in_the_lake_hidden_rows_go_once_their_block_is_not_new() {
    let mut world = World::new(Config::default());
    world.lake_visible_at_once = true;
    let parts = world.parts(1).await;
    let catalog = parts.catalog.clone();
    let maintainer = Maintainer::new(parts);
    flush_spans(&world, &catalog, &[(1, true), (2, false)], 0, vec![]).await;
    flush_spans(&world, &catalog, &[(1, false)], 1, hiding(&catalog, &[1])).await;
    assert_eq!(maintainer.run_once().await, Report::default());
    assert_eq!(spans_in_the_lake(&world, &catalog.snapshot()).await, (3, 1));
    // the hour is still running
    world.clock.advance(5 * MINUTE);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems), (1, 1, vec![]));
    world.clock.advance(LAKE_SWAP_GRACE);
    maintainer.run_once().await;
    assert_eq!(spans_in_the_lake(&world, &catalog.snapshot()).await, (2, 0));

    // a block of which nothing is left goes as soon
    flush_spans(&world, &catalog, &[(8, true)], 2, vec![]).await;
    let only = catalog
        .snapshot()
        .blocks(Table::Spans)
        .iter()
        .find(|meta| meta.n_in_progress > 0)
        .expect("there")
        .id
        .clone();
    flush_spans(&world, &catalog, &[(8, false)], 3, vec![catalog::Hide { block: only, rows: vec![0] }]).await;
    world.clock.advance(5 * MINUTE);
    assert_eq!(maintainer.run_once().await.blocks_replaced, 1);
    world.clock.advance(LAKE_SWAP_GRACE);
    maintainer.run_once().await;
    assert_eq!(spans_in_the_lake(&world, &catalog.snapshot()).await, (3, 0));
}

#[tokio::test]
async fn rows_hidden_while_their_block_is_merged_stay_hidden_in_the_new_one() {
    let world = World::new(Config::default());
    let parts = world.parts(1).await;
    let catalog = parts.catalog.clone();
    let merge = HidingMerge {
        inner: BlockMerge {
            settings: block::Settings::default(),
            scratch: Scratch::memory(),
        },
        catalog: catalog.clone(),
        times: Default::default(),
    };
    let maintainer = Maintainer::with_merge(parts, Arc::new(merge));
    for flush in 0..2u8 {
        let spans: Vec<(u8, bool)> = (0..5).map(|row| (1 + flush * 10 + row, true)).collect();
        flush_spans(&world, &catalog, &spans, flush, vec![]).await;
    }
    // a row that was hidden before is not read at all
    let mut commit = Commit::new(CommitKind::Flush, world.clock.now_nanos());
    let last = catalog.snapshot().blocks(Table::Spans)[1].id.clone();
    commit.hides = vec![catalog::Hide { block: last, rows: vec![4] }];
    catalog.commit(commit).await.expect("hidden");
    world.clock.set(START + 2 * HOUR);
    let report = maintainer.run_once().await;
    assert_eq!((report.blocks_replaced, report.blocks_made, report.problems), (2, 1, vec![]));
    let snapshot = catalog.snapshot();
    let [meta] = snapshot.blocks(Table::Spans) else {
        panic!("one block: {snapshot:?}")
    };
    assert_eq!((meta.n_rows, meta.hidden.len(), meta.n_visible_rows()), (9, 1, 8));
    assert!(snapshot.intents().is_empty());
    assert_eq!(
        Catalog::read(&*world.inner).await.expect("reads").blocks(Table::Spans),
        snapshot.blocks(Table::Spans)
    );
    // who does not know what is hidden may not replace it
    let mut ignorant = Commit::new(CommitKind::Merge, 0);
    (ignorant.removes, ignorant.adds) = (vec![meta.id.clone()], vec![built(Table::Spans, Level::Sealed, START, &[1], START).meta]);
    let refused = catalog.commit(ignorant).await.expect_err("rows would come back");
    assert!(refused.to_string().contains("hidden meanwhile"), "{refused}");
}
