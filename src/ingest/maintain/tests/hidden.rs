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
    fn erase(&self, input: Input, erasure: &Erasure, now_nanos: i64) -> block::Result<Rewritten> {
        self.inner.erase(input, erasure, now_nanos)
    }
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        self.inner.expire(input, keeping, age_days, now_nanos)
    }
}

#[tokio::test]
async fn rows_hidden_while_their_block_is_merged_stay_hidden_in_the_new_one() {
    let world = World::new(Config::default());
    let store: Arc<dyn Store> = world.faulty.clone();
    let node = NodeId::parse(&format!("{:026}", 1)).expect("legal");
    let catalog = Arc::new(Catalog::open(Arc::clone(&store), node).await.expect("opens"));
    let parts = Parts {
        config: Config::default(),
        retention: RetentionConfig::default(),
        log_groups: Arc::new(NoLogGroups),
        lake_visible_at_once: false,
        block: block::Settings::default(),
        catalog: catalog.clone(),
        cache: Cache::open(Arc::clone(&store), &world.caches.path().join("cache"), 1 << 20).expect("opens"),
        store,
        finder: Arc::new(Numbers),
        clock: world.clock.clone(),
    };
    let merge = HidingMerge {
        inner: BlockMerge(block::Settings::default()),
        catalog: catalog.clone(),
        times: Default::default(),
    };
    let maintainer = Maintainer::with_merge(parts, Arc::new(merge));
    for flush in 0..2u8 {
        let mut builder = crate::model::SpansBuilder::default();
        let context = builder.context(crate::model::ContextBuilder::new().build());
        for row in 0..5u8 {
            let record = crate::model::SpanRecord {
                start_time_unix_nano: START + i64::from(row) * MINUTE,
                end_time_unix_nano: None,
                trace_id: crate::model::TraceId::from_bytes(&[7; 16]).expect("an ID"),
                span_id: crate::model::SpanId::from_bytes(&[1 + flush * 10 + row; 8]).expect("an ID"),
                parent_span_id: None,
                trace_state: None,
                trace_flags: None,
                name: "n",
                kind: "SERVER",
                status_code: "UNSET",
                status_message: None,
                in_progress: true,
                dropped_attributes_count: 0,
            };
            builder.push(context, &record);
        }
        let rows = builder.finish().expect("rows").with_ingest_ids(i64::from(flush) << 20);
        let built = block::build(Table::Spans, START, Level::L0, &[rows], &block::Settings::default(), world.clock.now_nanos()).expect("builds");
        let path = block_path(&built.meta);
        world.inner.put(&path.data(), built.parquet).await.expect("put");
        world.inner.put(&path.index(), built.index.expect("spans have one")).await.expect("put");
        let mut commit = Commit::new(CommitKind::Flush, world.clock.now_nanos());
        commit.adds.push(built.meta);
        catalog.commit(commit).await.expect("commits");
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
