//! A merge by streams and postings is a merge by rows and text.

use proptest::prelude::*;
use tantivy::postings::Postings;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, InvertedIndexReader, TERMINATED};

use super::super::compact::{merge, merge_rows, rewrite};
use super::super::tests::search::log;
use super::super::tests::{log_rows, open, scan_all, small, span_rows};
use super::super::{BlockMeta, HiddenRows, Level, build, verify};
use super::*;
use crate::model::{Rows, Table};
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
    let stays: arrow::array::BooleanArray = (0..150).map(|row| Some(row % 3 != 0 && row != 7)).collect();
    let expected = arrow::compute::filter_record_batch(&before, &stays).expect("rows");
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
