//! A merge by streams and postings is a merge by rows and text, and holds few of them.

use proptest::prelude::*;
use tantivy::postings::Postings;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, InvertedIndexReader, TERMINATED};

use super::super::compact::{merge, merge_rows, rewrite};
use super::super::tests::search::log;
use super::super::tests::{Log, log_rows, open, scan_all, small, span_rows};
use super::super::{BlockMeta, HiddenRows, Level, build, verify};
use super::*;
use crate::model::{ContextBuilder, MetricsBuilder, Point, PointKind, Rows, SeriesKey, Table, Value, from_stored};
use crate::storage::{Cache, LocalStore};

fn block(rows: &Rows, hidden: impl IntoIterator<Item = u32>) -> Arc<Block> {
    let built = build(rows.table(), 0, Level::L0, std::slice::from_ref(rows), &small(), 0).expect("a block");
    let meta = BlockMeta {
        hidden: HiddenRows::default().with(hidden),
        ..built.meta
    };
    Arc::new(Block::open(Arc::new(meta), built.parquet, built.index).expect("it opens"))
}

/// Each term with its rows, and their positions.
type Terms = Vec<(String, Vec<(u32, Vec<u32>)>)>;

fn terms_of(reader: &InvertedIndexReader, option: IndexRecordOption) -> Terms {
    let mut stream = reader.terms().stream().expect("terms");
    let mut terms = Vec::new();
    while stream.advance() {
        let mut postings = reader.read_postings_from_terminfo(stream.value(), option).expect("postings");
        let mut rows = Vec::new();
        while postings.doc() != TERMINATED {
            let mut positions = Vec::new();
            if option == IndexRecordOption::WithFreqsAndPositions {
                postings.positions(&mut positions);
            }
            rows.push((postings.doc(), positions));
            postings.advance();
        }
        assert_eq!(rows.len(), stream.value().doc_freq as usize);
        terms.push((String::from_utf8_lossy(stream.key()).into_owned(), rows));
    }
    terms
}

/// What two blocks have in common if they are the same.
fn check_same(a: &BuiltBlock, b: &BuiltBlock) {
    let without = |built: &BuiltBlock| BlockMeta {
        id: crate::block::BlockId::new(0),
        parquet_crc32c: 0,
        index_bytes: 0,
        index_crc32c: 0,
        index_tail_bytes: 0,
        // as rows were gathered: more or less spare room
        memory_bytes: 0,
        ..built.meta.clone()
    };
    let (meta_a, meta_b) = (without(a), without(b));
    assert_eq!(
        format!(
            "{:?}",
            BlockMeta {
                id: meta_b.id.clone(),
                ..meta_a
            }
        ),
        format!("{meta_b:?}")
    );
    assert!(a.parquet == b.parquet, "the Parquet objects differ");
    assert_eq!(verify(&Arc::new(a.meta.clone()), &a.parquet, a.index.as_ref()), Vec::<String>::new());
    if !a.meta.table.is_searchable() {
        return assert!(a.index.is_none() && b.index.is_none());
    }
    let (a, b) = (open(a), open(b));
    let (a, b) = (a.index().expect("an index"), b.index().expect("an index"));
    assert_eq!(a.contexts(), b.contexts());
    assert_eq!(
        terms_of(a.readers().0, IndexRecordOption::WithFreqsAndPositions),
        terms_of(b.readers().0, IndexRecordOption::WithFreqsAndPositions)
    );
    assert_eq!(
        terms_of(a.readers().1, IndexRecordOption::Basic),
        terms_of(b.readers().1, IndexRecordOption::Basic)
    );
}

fn check(blocks: &[Arc<Block>]) {
    let of: Vec<&Block> = blocks.iter().map(AsRef::as_ref).collect();
    assert!(can_merge(of[0].meta().table, &of, &small()));
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(Arc::new(LocalStore::open(folder.path()).expect("a store")), &folder.path().join("cache"), 0).expect("a cache");
    let merged = merge(blocks, Level::Sealed, 0, &small(), &cache.scratch(), 0).expect("merged");
    let rebuilt = merge_rows(&of, Level::Sealed, 0, &small(), 0).expect("built");
    match (&merged, &rebuilt) {
        (Some(merged), Some(rebuilt)) => check_same(merged, rebuilt),
        (None, None) => {}
        _ => panic!("one has rows and one has none"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 128 }))]
    #[test]
    fn merged_by_postings_is_merged_by_rows(
        blocks in proptest::collection::vec((proptest::collection::vec(log(), 1..80), proptest::collection::vec(any::<prop::sample::Index>(), 0..6)), 1..5)
    ) {
        let blocks: Vec<Arc<Block>> = blocks
            .iter()
            .zip((1..).step_by(1_000))
            .map(|((logs, hidden), first_id)| block(&log_rows(logs, first_id), hidden.iter().map(|row| row.index(logs.len()) as u32)))
            .collect();
        check(&blocks);
    }
}

/// A point of metrics: metric, worker and service, time, what kind.
type APoint = (u8, u8, i64, u8);

fn a_point() -> impl Strategy<Value = APoint> {
    (0..4u8, 0..6u8, 0..40i64, 0..5u8)
}

/// Rows of each table of metrics that the points have rows of.
fn metric_rows(points: &[APoint], first_ingest_id: i64) -> Vec<Rows> {
    let mut builder = MetricsBuilder::default();
    for (metric, worker, time, kind) in points {
        let mut context = ContextBuilder::new();
        context.attribute("service.name", Value::Str(&format!("service {worker}")));
        builder.attribute("worker", Value::Int(i64::from(*worker)));
        let key = SeriesKey {
            name: ["requests", "größe", "a", ""][usize::from(*metric)],
            metric_type: "gauge",
            unit: "",
            description: "",
            temporality: None,
            is_monotonic: None,
        };
        builder.series(&context.build(), &key, *time);
        builder.exemplar(*time, Some(1.5), None, None, None);
        let value = f64::from(*kind);
        let kind = match kind {
            0 => PointKind::Double(value),
            1 => PointKind::Int(*time),
            2 => PointKind::Histogram {
                count: 3,
                sum: Some(value),
                min: None,
                max: None,
                bounds: &[value],
                bucket_counts: &[1, 2],
            },
            3 => PointKind::ExpHistogram {
                count: 4,
                sum: None,
                min: None,
                max: None,
                scale: -3,
                zero_count: 1,
                zero_threshold: value,
                positive_offset: 2,
                positive_counts: &[4, 5],
                negative_offset: 0,
                negative_counts: &[],
            },
            _ => PointKind::Summary {
                count: 1,
                sum: Some(value),
                quantiles: &[(0.5, value)],
            },
        };
        builder.point(&Point {
            time_unix_nano: *time,
            start_time_unix_nano: None,
            flags: 1,
            kind,
        });
    }
    let batch = builder.finish().expect("metrics");
    batch.into_iter().map(|rows| rows.with_ingest_ids(first_ingest_id)).collect()
}

/// What a merge of blocks without an index must make: a block of all rows, sorted anew, of series the first row alone.
fn made_in_memory(blocks: &[Arc<Block>]) -> Option<BuiltBlock> {
    let table = blocks[0].meta().table;
    let mut all: Vec<Rows> = Vec::new();
    let mut first: HashMap<i64, (i64, usize, u32)> = HashMap::new();
    for (number, block) in blocks.iter().enumerate() {
        let rows = from_stored(table, &scan_all(block, 0..block.n_rows())).expect("rows");
        let visible = (0..block.n_rows()).filter(|row| !block.meta().hidden.contains(*row));
        let visible = arrow::array::UInt32Array::from_iter_values(visible);
        if table == Table::MetricSeries {
            let ids = rows
                .batch()
                .column_by_name("series_id")
                .expect("a column")
                .as_primitive::<arrow::datatypes::Int64Type>();
            for row in visible.values() {
                let here = (rows.times().value(*row as usize), number, *row);
                first.entry(ids.value(*row as usize)).and_modify(|best| *best = here.min(*best)).or_insert(here);
            }
        }
        all.push(rows);
        if table != Table::MetricSeries {
            let rows = all.pop().expect("just put").take(&visible).expect("rows");
            all.push(rows);
        }
    }
    if table == Table::MetricSeries {
        for (number, rows) in all.iter_mut().enumerate() {
            let stays = |row: &u32| first.values().any(|(_, of, first)| (*of, *first) == (number, *row));
            let kept = arrow::array::UInt32Array::from_iter_values((0..rows.len() as u32).filter(stays));
            *rows = rows.take(&kept).expect("rows");
        }
    }
    (all.iter().any(|rows| !rows.is_empty())).then(|| build(table, 0, Level::Sealed, &all, &small(), 0).expect("a block"))
}

fn check_metrics(blocks: &[Arc<Block>]) {
    let of: Vec<&Block> = blocks.iter().map(AsRef::as_ref).collect();
    assert!(can_merge(of[0].meta().table, &of, &small()));
    let merged = merge(blocks, Level::Sealed, 0, &small(), &Scratch::memory(), 0).expect("merged");
    match (&merged, &made_in_memory(blocks)) {
        (Some(merged), Some(expected)) => check_same(merged, expected),
        (None, None) => {}
        (merged, _) => panic!("one has rows and one has none: {:?}", merged.as_ref().map(|merged| &merged.meta)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 12 } else { 64 }))]
    #[test]
    fn blocks_of_metrics_are_merged_as_if_their_rows_were_sorted_anew(
        blocks in proptest::collection::vec(
            (proptest::collection::vec(a_point(), 1..60), proptest::collection::vec(any::<prop::sample::Index>(), 0..6)), 1..5)
    ) {
        let mut tables: HashMap<Table, Vec<Arc<Block>>> = HashMap::new();
        for ((points, hidden), first_id) in blocks.iter().zip((1..).step_by(1_000)) {
            for rows in metric_rows(points, first_id) {
                let hidden = hidden.iter().map(|row| row.index(rows.len()) as u32);
                tables.entry(rows.table()).or_default().push(block(&rows, hidden));
            }
        }
        tables.values().for_each(|blocks| check_metrics(blocks));
    }
}

#[test]
fn a_merge_holds_batches_however_many_rows_there_are() {
    for table in [Table::MetricPoints, Table::MetricExemplars, Table::Logs] {
        let n_blocks = 6;
        let most_held = |n_rows: i64| {
            let blocks: Vec<Arc<Block>> = (0..n_blocks)
                .map(|number| {
                    let points: Vec<APoint> = (0..n_rows).map(|i| ((i % 3) as u8, (i % 5) as u8, number + i * n_blocks, 0)).collect();
                    let rows = match table {
                        Table::Logs => log_rows(&(0..n_rows).map(|i| Log::at(number + i * n_blocks)).collect::<Vec<_>>(), number * 100_000),
                        _ => {
                            let mut tables = metric_rows(&points, number * 100_000).into_iter();
                            tables.find(|rows| rows.table() == table).expect("rows of it")
                        }
                    };
                    block(&rows, [])
                })
                .collect();
            let n_rows = blocks[0].n_rows();
            // of the first half of a block, one row in 64 stays: those that go are read and not held
            let sparse = BooleanBuffer::from_iter((0..n_rows).map(|row| row < n_rows / 2 && row % 64 != 0));
            let inputs: Vec<Input<'_>> = blocks
                .iter()
                .map(|block| Input {
                    block,
                    dropped: Some(sparse.clone()),
                })
                .collect();
            let merge = Merge::new(&inputs).expect("it begins").expect("rows");
            let row_bytes = blocks[0].meta().rows_memory_bytes() / u64::from(n_rows) + 1;
            let mut n_given = 0;
            // five rows of each at a time
            let fed = merge.feed(&small(), 5 * n_blocks as u64 * row_bytes, |chunk| {
                n_given += chunk.num_rows();
                Ok(())
            });
            let stay = sparse.len() - sparse.count_set_bits();
            assert_eq!(n_given, stay * n_blocks as usize, "of {table:?}");
            fed.expect("fed").most_rows_held
        };
        let of_all = n_blocks as usize * 600;
        // a chunk, and of each block what the chunk touches and a batch more
        let bound = 2 * small().chunk_rows + n_blocks as usize * 2 * 6;
        for n_rows in [60, 600] {
            let held = most_held(n_rows);
            assert!(held <= bound && bound < of_all / 30, "{held} rows of {table:?} held, of {n_rows} a block");
        }
    }
}

#[test]
fn rows_that_are_not_in_order_are_told() {
    let [late, early] = [(0, 1, 20, 0), (0, 1, 10, 0)].map(|point| {
        let mut tables = metric_rows(&[point], 1).into_iter();
        tables.find(|rows| rows.table() == Table::MetricSeries).expect("its series")
    });
    let checksum = rows_checksum(2, 10, 20);
    let file = Scratch::memory().file(0).expect("a file");
    let mut writer = ColumnsWriter::try_new(Table::MetricSeries, Level::L0, &[], &small(), checksum, file).expect("a writer");
    [&early, &late].iter().for_each(|rows| writer.write(rows.batch()).expect("written"));
    let parquet = writer.finish().expect("a file");
    let meta = BlockMeta {
        n_rows: 2,
        min_time_nanos: 10,
        max_time_nanos: 20,
        parquet_bytes: parquet.len() as u64,
        parquet_crc32c: crc32c::crc32c(&parquet),
        ..BlockMeta::example(Table::MetricSeries, Level::L0, (10, 20))
    };
    let block = Arc::new(Block::open(Arc::new(meta), parquet, None).expect("it opens"));
    let error = merge(&[block], Level::Sealed, 0, &small(), &Scratch::memory(), 0).expect_err("it is damaged");
    assert!(matches!(&error, Error::Parquet { reason, .. } if reason.contains("not in order")), "{error:?}");
}

#[test]
fn spans_in_progress_are_replaced_alike() {
    let blocks = [
        block(&span_rows(170, 1), [3, 5]),
        block(&span_rows(90, 1_000), []),
        block(&span_rows(40, 5_000), [0]),
    ];
    check(&blocks);
    check(&blocks[1..]);
    check(&[block(&span_rows(1, 1), [0])]);
}

#[test]
fn a_rewrite_leaves_out_what_is_dropped_and_what_is_hidden() {
    let whole = block(&span_rows(150, 1), [7]);
    let dropped = BooleanBuffer::from_iter((0..150).map(|row| row % 3 == 0));
    let built = rewrite(&whole, &dropped, &small(), &Scratch::memory(), 0).expect("written").expect("rows");
    assert_eq!(built.meta.n_rows, 99);
    let before = scan_all(&whole, 0..150);
    let stays: BooleanArray = (0..150).map(|row| Some(row % 3 != 0 && row != 7)).collect();
    let expected = filter_record_batch(&before, &stays).expect("rows");
    assert_eq!(scan_all(&open(&built), 0..99), expected);
    assert_eq!(
        verify(&Arc::new(built.meta.clone()), &built.parquet, built.index.as_ref()),
        Vec::<String>::new()
    );
    assert!(
        rewrite(&whole, &BooleanBuffer::new_set(150), &small(), &Scratch::memory(), 0)
            .expect("written")
            .is_none()
    );
}

#[test]
fn a_damaged_index_is_an_error_or_goes_unused_and_every_row_stays() {
    let built = build(Table::Spans, 0, Level::L0, &[span_rows(60, 1)], &small(), 0).expect("a block");
    let index = built.index.clone().expect("an index");
    // objects are checked before they are merged: this is what gets by
    for at in (100..index.len() * 3 / 4).step_by(97) {
        let mut damaged = index.to_vec();
        damaged[at..at + 8].fill(0xff);
        let Ok(damaged) = Block::open(Arc::new(built.meta.clone()), built.parquet.clone(), Some(damaged.into())) else {
            continue;
        };
        let merged = merge(&[Arc::new(damaged)], Level::Sealed, 0, &small(), &Scratch::memory(), 0)
            .expect("merged")
            .expect("rows");
        assert_eq!(merged.meta.n_rows, 60);
    }
}
