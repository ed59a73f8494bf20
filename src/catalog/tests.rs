use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::log::CHECKPOINT_EVERY;
use super::record::{FORMAT_VERSION, Record};
use super::*;
use crate::block::BlockId;
use crate::model::{Clock, SystemClock, Table, TimeRange};
use crate::storage::faulty::{Fault, FaultyStore, ReadFault};
use crate::storage::paths::CatalogPath;
use crate::storage::{BucketStore, Key, Store};

mod damage;

const HOUR: i64 = 3_600_000_000_000;

fn node(n: u8) -> NodeId {
    NodeId::parse(&format!("{n:026}")).expect("legal")
}

fn block(table: Table, min_time_nanos: i64, max_time_nanos: i64) -> BlockMeta {
    BlockMeta {
        index_bytes: 1,
        ..BlockMeta::example(table, Level::L0, (min_time_nanos, max_time_nanos))
    }
}

fn adding(blocks: Vec<BlockMeta>) -> Commit {
    Commit {
        adds: blocks,
        ..Commit::new(CommitKind::Flush, 0)
    }
}

fn is_conflict(result: &Result<Arc<Snapshot>>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}

fn removing(ids: Vec<BlockId>) -> Commit {
    Commit {
        removes: ids,
        ..Commit::new(CommitKind::Retention, 0)
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(BucketStore::in_memory("lake"))
}

async fn open(store: &Arc<dyn Store>, n: u8) -> Catalog {
    Catalog::open(Arc::clone(store), node(n)).await.expect("opens")
}

/// The log as it lies in the store, read without the catalog's own code.
async fn raw_log(store: &dyn Store) -> Vec<Record> {
    let mut records = Vec::new();
    for object in store.list(CatalogPath::LOG_PREFIX, None).await.expect("lists") {
        records.push(serde_json::from_slice(&store.get(&object.key).await.expect("reads")).expect("a record"));
    }
    records
}

#[tokio::test]
async fn a_commit_is_seen_by_this_node_at_once_and_by_others_on_refresh() {
    let store = memory();
    let (one, two) = (open(&store, 1).await, open(&store, 2).await);
    let old = one.snapshot();
    let (a, b) = (block(Table::Logs, 10, 20), block(Table::Logs, 5, 30));
    let mut commit = adding(vec![a.clone(), b.clone(), block(Table::Spans, 1, 2)]);
    commit.wal = Some(WalRange { from: 1, to: 7 });
    commit.state = Some(one.put_state(Bytes::from_static(b"{}")).await.expect("put"));
    let new = one.commit(commit).await.expect("commits");
    assert_eq!((old.seq(), old.all_blocks().count()), (0, 0), "a snapshot never changes");
    assert_eq!(new.blocks(Table::Logs).iter().map(|meta| &meta.id).collect::<Vec<_>>(), [&b.id, &a.id]);
    assert_eq!((new.seq(), new.flushed_lsn(&node(1)), new.flushed_lsn(&node(2))), (1, 7, 0));
    assert_eq!(two.snapshot().seq(), 0);
    assert_eq!(two.refresh().await.expect("reads"), new);
    assert_eq!(one.read_state().await.expect("reads")[0].1, "{}");
    assert_eq!(two.read_state().await.expect("reads"), []);
}

#[tokio::test]
async fn what_contradicts_is_refused_whole() {
    let store = memory();
    let (one, two) = (open(&store, 1).await, open(&store, 2).await);
    let a = block(Table::Logs, 1, 2);
    let mut flush = adding(vec![a.clone()]);
    flush.wal = Some(WalRange { from: 1, to: 5 });
    one.commit(flush).await.expect("commits");
    // unknown to two as yet: it looks, and then agrees
    two.commit(removing(vec![a.id.clone()])).await.expect("commits");
    let with_wal = |from, to| Commit {
        wal: Some(WalRange { from, to }),
        ..adding(vec![block(Table::Logs, 1, 2)])
    };
    let b = block(Table::Logs, 1, 2);
    one.commit(adding(vec![b.clone()])).await.expect("commits");
    for (commit, what) in [
        (removing(vec![a.id.clone()]), "not live"),
        (removing(vec![b.id.clone(), b.id.clone()]), "removed twice"),
        (adding(vec![b.clone()]), "exists"),
        (adding(vec![block(Table::Logs, 1, 2); 2]), "exists"),
        (with_wal(5, 9), "do not follow 5"),
        (with_wal(9, 8), "do not follow 5"),
    ] {
        let error = one.commit(commit).await.expect_err("contradicts");
        assert!(matches!(error, Error::Conflict { .. }) && error.to_string().contains(what), "{error}");
        assert!(!error.retry_helps());
    }
    assert_eq!(raw_log(&*store).await.len(), 3);
    one.commit(with_wal(7, 9))
        .await
        .expect("a hole in the WAL is no contradiction: it was quarantined");
    assert_eq!(open(&store, 1).await.snapshot(), one.snapshot());
}

#[tokio::test]
async fn a_lost_answer_neither_loses_nor_doubles_a_commit() {
    for fault in [Fault::Before, Fault::After] {
        let inner = memory();
        let faulty = FaultyStore::new(Arc::clone(&inner));
        let store: Arc<dyn Store> = faulty.clone();
        let one = open(&store, 1).await;
        let commit = adding(vec![block(Table::Logs, 1, 2)]);
        // the answer is lost, and reading back works
        faulty.choose(move |_| Some(fault));
        let first = one.commit(commit.clone()).await;
        assert_eq!(first.is_ok(), fault == Fault::After);
        faulty.heal();
        let again = one.commit(commit.clone()).await.expect("commits");
        assert_eq!((again.seq(), again.all_blocks().count()), (1, 1));

        // the answer is lost, and nothing can be read; another node commits before we come again
        let second = adding(vec![block(Table::Logs, 3, 4)]);
        if fault == Fault::After {
            let seq = CatalogPath::Log(2).key();
            inner
                .put_if_absent(
                    &seq,
                    serde_json::to_vec(&Record {
                        v: 1,
                        seq: 2,
                        node: node(1),
                        incarnation: None,
                        commit: second.clone(),
                    })
                    .expect("json")
                    .into(),
                )
                .await
                .expect("put");
        }
        open(&inner, 2).await.commit(adding(vec![block(Table::Logs, 5, 6)])).await.expect("commits");
        if fault == Fault::After {
            one.refresh().await.expect("reads");
        }
        let snapshot = one.commit(second).await.expect("commits");
        assert_eq!((snapshot.seq(), snapshot.all_blocks().count()), (3, 3), "{fault:?}");
        assert_eq!(raw_log(&*inner).await.len(), 3);
    }
}

#[tokio::test]
async fn many_nodes_at_once_lose_nothing() {
    let store = memory();
    let tasks: Vec<_> = (0..4u8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let catalog = Arc::new(open(&store, n).await);
                let commits = (0..10).map(|_| catalog.commit(adding(vec![block(Table::Logs, 1, 2)])));
                futures::future::try_join_all(commits).await.expect("commits");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("ends");
    }
    let snapshot = open(&store, 9).await.snapshot();
    assert_eq!((snapshot.seq(), snapshot.all_blocks().count()), (40, 40));
    assert_eq!(store.list(CatalogPath::CHECKPOINT_PREFIX, None).await.expect("lists").len(), 2);
}

#[tokio::test]
async fn the_log_alone_gives_what_checkpoint_and_log_give() {
    let store = memory();
    let one = open(&store, 1).await;
    let mut ids = Vec::new();
    for n in 0..i64::try_from(CHECKPOINT_EVERY).expect("small") * 2 + 3 {
        let meta = block(Table::ALL[n as usize % 9], n, n + 1);
        ids.push(meta.id.clone());
        let mut commit = adding(vec![meta]);
        commit.at_nanos = n * HOUR;
        if n % 3 == 0 {
            commit.removes.push(ids.remove(0));
        }
        if n == 0 {
            commit.removes.clear();
        }
        one.commit(commit).await.expect("commits");
    }
    let checkpoints = store.list(CatalogPath::CHECKPOINT_PREFIX, None).await.expect("lists");
    assert_eq!(checkpoints.len(), 2);
    assert_eq!(open(&store, 2).await.snapshot(), one.snapshot());
    // a damaged one is not believed; the older ones and the log have it all
    store.put(&checkpoints[1].key, Bytes::from_static(b"{\"v\":1,")).await.expect("put");
    assert_eq!(open(&store, 2).await.snapshot(), one.snapshot());
    for checkpoint in checkpoints {
        store.delete(&checkpoint.key).await.expect("deleted");
    }
    assert_eq!(open(&store, 2).await.snapshot(), one.snapshot());
    assert_eq!(
        store.list(CatalogPath::CHECKPOINT_PREFIX, None).await.expect("lists").len(),
        1,
        "a long replay is not done twice"
    );
    let oldest = one.snapshot().removed().iter().map(|removed| removed.at_nanos).min();
    let newest = one.snapshot().removed().iter().map(|removed| removed.at_nanos).max();
    assert!(newest.unwrap_or(0) - oldest.unwrap_or(0) <= live::REMOVED_KEPT_NANOS);
}

#[tokio::test]
async fn gaps_damage_and_newer_formats_are_errors() {
    let store = memory();
    let one = open(&store, 1).await;
    for _ in 0..3 {
        one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
    }
    let key = CatalogPath::Log(2).key();
    let good = store.get(&key).await.expect("reads");
    let reopened = async || Catalog::open(Arc::clone(&store), node(1)).await.map(drop);
    store.delete(&CatalogPath::copy_of_record(2).key()).await.expect("deleted");
    store.delete(&key).await.expect("deleted");
    assert!(matches!(reopened().await, Err(Error::Corrupt { key: at, .. }) if at == key));
    for bad in [&b"{"[..], b"{\"v\":1}", &store.get(&CatalogPath::Log(1).key()).await.expect("reads")] {
        store.put(&key, Bytes::copy_from_slice(bad)).await.expect("put");
        assert!(matches!(reopened().await, Err(Error::Corrupt { key: at, .. }) if at == key));
    }
    store.put(&key, Bytes::from_static(b"{\"v\":5,\"anything\":[]}")).await.expect("put");
    assert!(matches!(reopened().await, Err(Error::Newer { found: 5, .. })));
    store.put(&key, good).await.expect("put");
    reopened().await.expect("opens");
}

#[tokio::test]
async fn an_intent_keeps_its_inputs_until_it_ends_and_ends_once() {
    let store = memory();
    let (one, two) = (open(&store, 1).await, open(&store, 2).await);
    let (a, b, sealed) = (block(Table::Logs, 1, 2), block(Table::Logs, 1, 2), block(Table::Logs, 1, 2));
    one.commit(adding(vec![a.clone(), b.clone()])).await.expect("commits");
    let intend = |inputs: Vec<&BlockMeta>| Commit {
        intent: Some(Intent {
            outputs: vec![block_path(&sealed).data()],
            inputs: inputs.into_iter().map(|meta| meta.id.clone()).collect(),
        }),
        ..Commit::new(CommitKind::Intent, 5)
    };
    let end = |id: &CommitId| Commit {
        ends: Some(id.clone()),
        ..Commit::new(CommitKind::Intent, 6)
    };
    let withdraw = |id: &CommitId| Commit {
        withdraws: Some(id.clone()),
        ..Commit::new(CommitKind::Intent, 6)
    };
    let first = intend(vec![&a]);
    one.commit(first.clone()).await.expect("commits");
    assert!(matches!(two.commit(intend(vec![&a, &b])).await, Err(Error::Conflict { .. })), "claimed");
    two.commit(intend(vec![&b])).await.expect("commits");
    assert_eq!(open(&store, 3).await.snapshot().intents().len(), 2);
    let seal = Commit {
        adds: vec![sealed.clone()],
        removes: vec![a.id.clone()],
        ..end(&first.id)
    };
    assert!(
        matches!(two.commit(end(&first.id)).await, Err(Error::Conflict { .. })),
        "neither done nor withdrawn"
    );
    two.commit(withdraw(&first.id)).await.expect("given up by another");
    assert!(matches!(one.commit(seal).await, Err(Error::Conflict { .. })), "too late");
    assert!(
        matches!(one.commit(intend(vec![&a])).await, Err(Error::Conflict { .. })),
        "claimed until it has ended"
    );
    two.commit(end(&first.id)).await.expect("ends");
    assert!(matches!(two.commit(end(&first.id)).await, Err(Error::Conflict { .. })), "ended already");
    assert!(matches!(two.commit(withdraw(&first.id)).await, Err(Error::Conflict { .. })), "ended already");
    let second = intend(vec![&a]);
    one.commit(second.clone()).await.expect("free again");
    let snapshot = one
        .commit(Commit {
            adds: vec![sealed],
            removes: vec![a.id],
            ..end(&second.id)
        })
        .await
        .expect("commits");
    assert_eq!((snapshot.intents().len(), snapshot.blocks(Table::Logs).len()), (1, 2));
    assert_eq!(open(&store, 3).await.snapshot(), snapshot);
}

#[tokio::test]
async fn an_unreachable_store_is_an_error_that_says_a_retry_helps() {
    let faulty = FaultyStore::new(memory());
    let store: Arc<dyn Store> = faulty.clone();
    let one = open(&store, 1).await;
    faulty.stop_after(0);
    let commit = adding(vec![block(Table::Logs, 1, 2)]);
    assert!(one.commit(commit.clone()).await.expect_err("down").retry_helps());
    assert!(Catalog::open(store, node(1)).await.expect_err("down").retry_helps());
    faulty.heal();
    assert_eq!(one.commit(commit).await.expect("commits").seq(), 1);
}

#[tokio::test]
async fn orphans_are_old_ours_and_unnamed() {
    let store = memory();
    let one = open(&store, 1).await;
    let (live, removed, orphan) = (block(Table::Logs, 1, 2), block(Table::Logs, 1, 2), block(Table::MetricPoints, 1, 2));
    for meta in [&live, &removed, &orphan] {
        store.put(&block_path(meta).data(), Bytes::from_static(b"x")).await.expect("put");
        store.put(&block_path(meta).index(), Bytes::from_static(b"x")).await.expect("put");
    }
    for foreign in [
        "logs/dt=2026-11-22/hour=05/part-0001.parquet",
        "other/file",
        "metric_points/dt=2026-11-22/abc.parquet",
    ] {
        store.put(&Key::parse(foreign).expect("legal"), Bytes::from_static(b"x")).await.expect("put");
    }
    let (old_state, state) = (one.put_state(Bytes::new()).await.expect("put"), one.put_state(Bytes::new()).await.expect("put"));
    let old_copy = document::copy_of(&old_state).expect("it has one");
    one.commit(Commit {
        state: Some(state),
        ..adding(vec![live, removed.clone()])
    })
    .await
    .expect("commits");
    one.commit(removing(vec![removed.id])).await.expect("commits");
    let now = SystemClock.now_nanos();
    assert_eq!(one.orphans(now).await.expect("lists"), [], "nothing young is an orphan");
    let found = one.orphans(now + ORPHAN_AGE_NANOS + HOUR).await.expect("lists");
    let found: BTreeSet<_> = found.into_iter().map(|object| object.key).collect();
    assert_eq!(
        found,
        BTreeSet::from([block_path(&orphan).data(), block_path(&orphan).index(), old_copy, old_state])
    );
}

#[tokio::test]
async fn parts_of_a_state_are_the_nodes_own_until_another_forgets_them() {
    let store = memory();
    let (one, two) = (open(&store, 1).await, open(&store, 2).await);
    let mut keys = Vec::new();
    for text in ["a", "b", "c", "d"] {
        keys.push(one.put_state(Bytes::from(text)).await.expect("put"));
    }
    let state = |state: &Key, parts: &[&Key]| Commit {
        state: Some(state.clone()),
        state_parts: parts.iter().map(|key| (*key).clone()).collect(),
        ..Commit::new(CommitKind::State, 1)
    };
    let [a, b, c, d] = &keys[..] else { unreachable!("there are four") };
    assert!(is_conflict(&one.commit(state(b, &[a])).await), "a is nobody's");
    one.commit(state(a, &[])).await.expect("commits");
    let in_parts = state(b, &[a]);
    assert_eq!((in_parts.version(), state(a, &[]).version()), (FORMAT_VERSION, 1));
    one.commit(in_parts).await.expect("commits");
    two.refresh().await.expect("reads");
    assert!(is_conflict(&two.commit(state(c, &[a])).await), "a is the other's");
    let only_parts = Commit { state: None, ..state(c, &[a]) };
    assert!(is_conflict(&one.commit(only_parts).await), "no change to them is said");
    // one that says nothing of it changes nothing of it
    one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
    let snapshot = one.commit(state(c, &[a, b])).await.expect("commits");
    let states = |snapshot: &Snapshot| snapshot.nodes()[&node(1)].states().cloned().collect::<Vec<_>>();
    assert_eq!((states(&snapshot), snapshot.state(&node(1))), (vec![a.clone(), b.clone(), c.clone()], Some(c)));
    let texts: Vec<Bytes> = one.read_state().await.expect("reads").into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    let later = SystemClock.now_nanos() + ORPHAN_AGE_NANOS + HOUR;
    let orphans = async || {
        one.orphans(later)
            .await
            .expect("lists")
            .into_iter()
            .map(|object| object.key)
            .collect::<BTreeSet<_>>()
    };
    let with_copy = |key: &Key| [key.clone(), document::copy_of(key).expect("it has one")];
    assert_eq!(orphans().await, BTreeSet::from(with_copy(d)), "what is named stays");
    for damaged in [a, b] {
        store.put(damaged, Bytes::from_static(b"?")).await.expect("put");
    }
    assert_eq!(Catalog::flaws(&*store, Some(&snapshot)).await.expect("looked at").len(), 2);
    // a checkpoint says the same, and an older program does not take the changes for all
    one.leave_checkpoint().await;
    let checkpoint = store.get(&CatalogPath::Checkpoint(snapshot.seq()).key()).await.expect("there");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&checkpoint).expect("JSON")["v"], FORMAT_VERSION);
    assert_eq!(open(&store, 3).await.snapshot(), snapshot);

    let forgets = Commit {
        forgets: vec![Forgotten {
            node: node(1),
            state: c.clone(),
        }],
        ..Commit::new(CommitKind::State, 2)
    };
    two.commit(forgets).await.expect("forgotten");
    assert!(is_conflict(&one.commit(state(d, &[a])).await), "a sweep may have taken it");
    assert_eq!(states(&one.snapshot()), []);
    assert_eq!(orphans().await.len(), 8);
}

#[tokio::test]
async fn pruning_gives_every_block_that_overlaps() {
    let mut rng = SmallRng::seed_from_u64(7);
    let one = open(&memory(), 1).await;
    let blocks: Vec<_> = (0..50)
        .map(|_| {
            let min = rng.random_range(0..100);
            block(Table::Logs, min, min + rng.random_range(0..30))
        })
        .collect();
    let snapshot = one.commit(adding(blocks.clone())).await.expect("commits");
    for _ in 0..500 {
        let start = rng.random_range(-10..140);
        let range = TimeRange::new(start, start + rng.random_range(0..40));
        let found = snapshot.prune(Table::Logs, range);
        assert!(found.is_sorted_by(|a, b| a.max_time_nanos >= b.max_time_nanos));
        let found: BTreeSet<_> = found.iter().map(|meta| meta.id.clone()).collect();
        let expected: BTreeSet<_> = blocks.iter().filter(|meta| meta.overlaps(&range)).map(|meta| meta.id.clone()).collect();
        assert_eq!(found, expected, "{range:?}");
        assert!(snapshot.prune(Table::Spans, range).is_empty());
    }
    assert_eq!(snapshot.prune(Table::Logs, TimeRange::ALL).len(), 50);
}

#[tokio::test]
async fn hidden_rows_are_the_blocks_own_and_outlive_a_checkpoint() {
    let store = memory();
    let catalog = open(&store, 1).await;
    let mut a = block(Table::Spans, 1, 2);
    a.n_rows = 10;
    let before = catalog.commit(adding(vec![a.clone()])).await.expect("commits");
    let hiding = |rows: &[u32]| Commit {
        hides: vec![Hide {
            block: a.id.clone(),
            rows: rows.to_vec(),
        }],
        ..Commit::new(CommitKind::Flush, 0)
    };
    catalog.commit(hiding(&[7, 2])).await.expect("hidden");
    let after = catalog.commit(hiding(&[2, 3])).await.expect("hidden");
    let hidden = |snapshot: &Snapshot| snapshot.blocks(Table::Spans)[0].hidden.as_slice().to_vec();
    assert_eq!((hidden(&before), hidden(&after)), (vec![], vec![2, 3, 7]), "a snapshot never changes");
    assert!(matches!(catalog.commit(hiding(&[10])).await, Err(Error::Conflict { .. })));
    for _ in 0..CHECKPOINT_EVERY {
        catalog.commit(Commit::new(CommitKind::State, 0)).await.expect("commits");
    }
    assert_eq!(hidden(&open(&store, 2).await.snapshot()), [2, 3, 7]);
    catalog.commit(removing(vec![a.id.clone()])).await.expect("removed");
    assert!(matches!(catalog.commit(hiding(&[1])).await, Err(Error::Conflict { .. })));
}

#[test]
fn tables_are_indexed_by_their_place() {
    for (n, table) in Table::ALL.into_iter().enumerate() {
        assert_eq!(table as usize, n);
    }
}

/// Two nodes commit, retry, give up, restart and follow each other over a store that loses calls and answers; in the
/// end each commit that was reported is in the log once, none that was refused is, and every way of reading the log
/// gives the same blocks as a plain fold over it.
async fn two_nodes_over_a_faulty_store(seed: u64, n_steps: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let inner = memory();
    let faulty = FaultyStore::new(Arc::clone(&inner));
    let store: Arc<dyn Store> = faulty.clone();
    let mut nodes = [open(&store, 0).await, open(&store, 1).await];
    let mut lsn = [0u64; 2];
    let (mut done, mut refused, mut given_up) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut faults = SmallRng::seed_from_u64(seed ^ 0xfa17);
    faulty.choose(move |_| match faults.random_range(0..10) {
        0..=1 => Some(Fault::Before),
        2..=3 => Some(Fault::After),
        _ => None,
    });
    let mut read_faults = SmallRng::seed_from_u64(seed ^ 0xdead);
    faulty.choose_reads(move |_| match read_faults.random_range(0..30) {
        0 => Some(ReadFault::Fails),
        1 => Some(ReadFault::Slow),
        2 => Some(ReadFault::Torn),
        3 => Some(ReadFault::Flipped),
        _ => None,
    });
    let may_come_again = |error: &Error| error.retry_helps() || matches!(error, Error::Corrupt { .. });
    for step in 0..n_steps {
        let n = rng.random_range(0..2usize);
        match rng.random_range(0..10) {
            0 => drop(nodes[n].refresh().await.map_err(|error| assert!(may_come_again(&error), "{error}"))),
            1 => {
                nodes[n] = loop {
                    match Catalog::open(Arc::clone(&store), node(n as u8)).await {
                        Ok(catalog) => break catalog,
                        Err(error) => assert!(may_come_again(&error), "{error}"),
                    }
                }
            }
            _ => {
                let snapshot = nodes[n].snapshot();
                let mut commit = Commit::new(CommitKind::Merge, step as i64);
                commit.adds = (0..rng.random_range(0..3))
                    .map(|_| block(*Table::ALL.choose(&mut rng).expect("some"), 1, rng.random_range(1..100)))
                    .collect();
                if rng.random_bool(0.5) {
                    let live: Vec<_> = snapshot.all_blocks().map(|meta| meta.id.clone()).collect();
                    let n_removed = rng.random_range(0..=live.len().min(3));
                    commit.removes = live.choose_multiple(&mut rng, n_removed).cloned().collect();
                }
                if rng.random_bool(0.5) {
                    // one behind now and then: a second flush of the same rows
                    let from = (lsn[n] + 1).saturating_sub(u64::from(rng.random_bool(0.1))).max(1);
                    commit.wal = Some(WalRange { from, to: from + 2 });
                }
                let tries = rng.random_range(1..4);
                for one_try in 0..tries {
                    match nodes[n].commit(commit.clone()).await {
                        Ok(snapshot) => {
                            assert!(commit.adds.iter().all(|meta| snapshot.block(meta.table, &meta.id).is_some()) || one_try > 0);
                            done.insert(commit.id.clone());
                            break;
                        }
                        Err(Error::Conflict { .. }) => {
                            refused.insert(commit.id.clone());
                            break;
                        }
                        Err(error) => {
                            assert!(may_come_again(&error), "{error}");
                            if one_try + 1 == tries {
                                given_up.insert(commit.id.clone());
                            }
                        }
                    }
                }
                lsn[n] = lsn[n].max(nodes[n].snapshot().flushed_lsn(&node(n as u8)));
            }
        }
    }
    faulty.heal();

    let records = raw_log(&*inner).await;
    let mut in_log = BTreeSet::new();
    let mut blocks = BTreeMap::new();
    let mut flushed = BTreeMap::new();
    for (place, record) in records.into_iter().enumerate() {
        assert_eq!(record.seq, place as u64 + 1, "no gap");
        assert!(in_log.insert(record.commit.id.clone()), "no commit twice");
        for id in &record.commit.removes {
            assert!(blocks.remove(id).is_some(), "only live blocks are removed");
        }
        for meta in record.commit.adds {
            assert!(blocks.insert(meta.id.clone(), meta).is_none(), "no block twice");
        }
        if let Some(wal) = record.commit.wal {
            let before = flushed.insert(record.node, wal.to);
            assert!(wal.from > before.unwrap_or(0), "no row twice");
        }
    }
    assert!(done.is_subset(&in_log), "what was reported is there");
    assert!(refused.is_disjoint(&in_log), "what was refused is not");
    assert!(in_log.difference(&done).all(|id| given_up.contains(id)), "nothing else is");

    let fresh = open(&store, 7).await.snapshot();
    assert_eq!(
        fresh.all_blocks().map(|meta| (meta.id.clone(), (**meta).clone())).collect::<BTreeMap<_, _>>(),
        blocks
    );
    for n in 0..2 {
        assert_eq!(fresh.flushed_lsn(&node(n)), flushed.get(&node(n)).copied().unwrap_or(0));
        assert_eq!(nodes[n as usize].refresh().await.expect("reads"), fresh);
    }
    for checkpoint in inner.list(CatalogPath::CHECKPOINT_PREFIX, None).await.expect("lists") {
        inner.delete(&checkpoint.key).await.expect("deleted");
    }
    assert_eq!(open(&inner, 7).await.snapshot(), fresh, "the log alone says the same");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_of_two_nodes_over_a_faulty_store_is_one_log(seed: u64, n_steps in 1usize..60) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(two_nodes_over_a_faulty_store(seed, n_steps));
    }
}

#[tokio::test]
async fn who_left_commits_nothing_more_and_a_checkpoint_tells_who_is_away() {
    let store = memory();
    let (one, two, three) = (open(&store, 1).await, open(&store, 2).await, open(&store, 3).await);
    for catalog in [&one, &three] {
        catalog.commit(Commit::new(CommitKind::State, 1)).await.expect("commits");
    }
    let leaving = Commit {
        leaves: true,
        ..Commit::new(CommitKind::State, 2)
    };
    two.commit(leaving.clone()).await.expect("left");
    two.commit(leaving).await.expect("as happened");
    let error = two.commit(Commit::new(CommitKind::State, 3)).await.expect_err("it left");
    assert!(matches!(error, Error::Left { .. }) && !error.retry_helps(), "{error}");
    let given_up = Commit {
        gives_up: Some(node(3)),
        ..Commit::new(CommitKind::State, 4)
    };
    let snapshot = one.commit(given_up).await.expect("given up");
    one.leave_checkpoint().await;
    let again = open(&store, 1).await.snapshot();
    assert_eq!(again, snapshot);
    let away = |n| again.nodes()[&node(n)].away;
    let expected = Away::GivenUp { at_nanos: 4, missed: 0 };
    assert_eq!((away(1), away(2), away(3)), (None, Some(Away::Left { at_nanos: 2 }), Some(expected)));
}
