use std::path::Path;

use super::*;
use crate::block;
use crate::catalog::Catalog;
use crate::ingest::{self, Parts, Source};
use crate::model::{ManualClock, Signal};
use crate::storage::faulty::FaultyStore;
use crate::storage::{BucketStore, Cache, Store};
use crate::wal;

/// 2026-11-22T05:00:00Z
const START: i64 = 1_795_323_600_000_000_000;

/// Keeps each fact as it is.
#[derive(Debug)]
struct Keep(Ingest);

#[async_trait]
impl Facts for Keep {
    fn prefixes(&self) -> Vec<&'static str> {
        vec!["fact/"]
    }
    async fn learn(&self, key: &str, value: &Bytes) {
        self.0.put_state_relaxed(key, value.clone());
    }
}

async fn open(dir: &Path, store: &Arc<dyn Store>) -> Ingest {
    let cache = Cache::open(store.clone(), &dir.join("cache"), 64 << 20).expect("a cache");
    let node = NodeId::load_or_create(dir).expect("a node");
    let parts = Parts {
        config: ingest::Config::default(),
        wal: wal::Config::default(),
        block: block::Settings::default(),
        data_dir: dir.to_path_buf(),
        catalog: Arc::new(Catalog::open(store.clone(), node).await.expect("a catalog")),
        store: store.clone(),
        cache,
        clock: Arc::new(ManualClock::new(START)),
        finder: Arc::new(crate::query::SearchLanguage),
        rules: Arc::new(ingest::NoRules),
    };
    Ingest::open(parts).await.expect("opens")
}

fn memory() -> Arc<dyn Store> {
    Arc::new(BucketStore::in_memory(""))
}

/// One look that beats; with a lease of 0, every other node seems silent.
async fn look(ingest: &Ingest, lease_seconds: u64) {
    let config = Config {
        lease_seconds,
        ..Config::default()
    };
    let peers = Peers::new(config, ingest.clone(), Arc::new(Keep(ingest.clone())), "alert/");
    peers.try_look(true).await.expect("looks");
}

async fn put(ingest: &Ingest, key: &str, value: &'static str) {
    ingest.put_state(key, Some(Bytes::from_static(value.as_bytes()))).await.expect("put");
}

fn all(documents: Vec<(String, Bytes)>) -> Vec<(String, String)> {
    let text = |value: Bytes| String::from_utf8(value.to_vec()).expect("text");
    documents.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(key, value)| (key.to_string(), value.to_string())).to_vec()
}

#[tokio::test]
async fn the_lead_goes_with_its_documents_once_its_node_is_silent() {
    let store = memory();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    put(&two, "alert/stale", "of an earlier life").await;
    look(&one, 3600).await;
    assert!(one.duty().borrow().is_ours, "the first takes it");
    put(&one, "alert/a", "fires").await;
    assert!(one.may_tell().await);
    look(&two, 3600).await;
    let duty = two.duty().borrow().clone();
    assert!(!duty.is_ours && duty.leader.as_ref() == Some(one.inner.catalog.node()) && duty.lag > Duration::ZERO);
    assert_eq!(all(two.leader_states("alert/")), pairs([("alert/a", "fires")]), "the leader's are shown");
    assert!(!two.may_tell().await);

    // the leader is silent: its documents are this node's, and what was left here is not
    look(&two, 0).await;
    assert!(two.duty().borrow().is_ours && two.may_tell().await);
    assert_eq!(all(two.states("alert/")), pairs([("alert/a", "fires")]));
    // the old leader was only asleep: it tells nobody anything, and hears of it
    put(&one, "alert/a", "fires anew").await;
    assert!(!one.may_tell().await);
    look(&one, 3600).await;
    assert!(!one.duty().borrow().is_ours);
    assert_eq!(all(two.states("alert/")), pairs([("alert/a", "fires")]));
    // in order of the log, a restart finds what was taken over, not what was there before
    drop(two);
    let two = open(dirs[1].path(), &store).await;
    assert_eq!(all(two.states("alert/")), pairs([("alert/a", "fires")]));
    let peers = Peers::new(Config::default(), two.clone(), Arc::new(Keep(two.clone())), "alert/");
    assert!(two.duty().borrow().is_ours, "it led, and leads on");
    drop(peers);
}

#[tokio::test]
async fn a_state_that_changes_while_it_is_taken_over_is_not_lost() {
    let store = memory();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    look(&one, 3600).await;
    put(&one, "alert/a", "fires").await;
    assert!(one.may_tell().await);
    let before = two.catalog().refresh().await.expect("reads");
    put(&one, "alert/a", "was told").await;
    assert!(one.may_tell().await);
    let peers = Peers::new(Config::default(), two.clone(), Arc::new(Keep(two.clone())), "alert/");
    peers.take_lead(&before, before.leader()).await.expect_err("what it read is old");
    assert_eq!(two.catalog().snapshot().leader(), Some(one.inner.catalog.node()));
    look(&two, 0).await;
    assert_eq!(all(two.states("alert/")), pairs([("alert/a", "was told")]));
}

#[tokio::test]
async fn an_empty_disk_knows_what_gone_nodes_knew_and_their_states_are_given_up() {
    let store = memory();
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    for (n, dir) in dirs[..2].iter().enumerate() {
        let gone = open(dir.path(), &store).await;
        look(&gone, 0).await;
        put(&gone, &format!("fact/{n}"), "is so").await;
        put(&gone, "private", "of one node").await;
        gone.ledger().accepted("otlp", Signal::Logs, 10);
        gone.drain(Duration::from_secs(60)).await;
    }
    let new = open(dirs[2].path(), &store).await;
    new.ledger().accepted("otlp", Signal::Logs, 1);
    look(&new, 3600).await;
    assert_eq!(all(new.states("")), pairs([("fact/0", "is so"), ("fact/1", "is so")]));
    assert_eq!(ingest::add_up(new.nodes().into_iter().map(|node| node.sums))[0].2.accepted, 21, "of all nodes");
    let snapshot = new.view().snapshot;
    let kept: Vec<&NodeId> = snapshot
        .nodes()
        .iter()
        .filter(|(_, state)| state.state.is_some())
        .map(|(node, _)| node)
        .collect();
    assert_eq!(kept, [new.inner.catalog.node()], "one state says it all");
    // a node that was thought gone comes back with its disk: nothing is counted twice, and it learns the rest again
    let back = open(dirs[0].path(), &store).await;
    assert_eq!(back.ledger().sums()[0].2.accepted, 10);
    look(&back, 3600).await;
    assert_eq!(all(back.states("fact/")), pairs([("fact/0", "is so"), ("fact/1", "is so")]));
    assert_eq!(
        ingest::add_up(back.nodes().into_iter().map(|node| node.sums))[0].2.accepted,
        20,
        "the new one has not flushed"
    );
    put(&back, "fact/2", "too").await;
    assert!(!back.may_tell().await);
    let snapshot = back.view().snapshot;
    assert!(snapshot.state(back.inner.catalog.node()).is_some(), "it keeps a state again");
}

#[tokio::test]
async fn of_a_state_in_parts_only_the_new_ones_are_read_and_what_is_removed_is_no_more() {
    let faulty = FaultyStore::new(memory());
    let store: Arc<dyn Store> = faulty.clone();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    look(&one, 3600).await;
    let peers = Peers::new(Config::default(), two.clone(), Arc::new(Keep(two.clone())), "alert/");
    for n in 0..100 {
        one.put_state_relaxed(&format!("fact/{n}"), Bytes::from_static(b"is so"));
    }
    put(&one, "alert/a", "fires").await;
    put(&one, "alert/b", "fires").await;
    assert!(one.may_tell().await);
    peers.try_look(true).await.expect("looks");
    let base = one.view().snapshot.state(one.inner.catalog.node()).expect("a state").clone();
    // the first part is read no more
    let read = Arc::new(Mutex::new(0));
    let (counts, first) = (read.clone(), base.clone());
    faulty.choose_reads(move |key| {
        *counts.lock() += u32::from(key == first.as_str());
        None
    });
    for (n, value) in ["a", "b", "c"].into_iter().enumerate() {
        put(&one, &format!("fact/{n}"), value).await;
        one.put_state("alert/a", None).await.expect("put");
        put(&one, "alert/b", value).await;
        assert!(one.may_tell().await);
        peers.try_look(false).await.expect("looks");
        let states: Vec<Key> = one.view().snapshot.nodes()[one.inner.catalog.node()].states().cloned().collect();
        assert!(states.len() > 1 && states[0] == base);
        assert_eq!(all(two.leader_states("alert/")), pairs([("alert/b", value)]));
        assert_eq!(all(two.states(&format!("fact/{n}")))[0].1, value);
    }
    assert_eq!((two.states("fact/").len(), *read.lock()), (100, 0));
    // who takes the lead reads all of it
    look(&two, 0).await;
    assert_eq!(all(two.states("alert/")), pairs([("alert/b", "c")]));
}

#[tokio::test]
async fn lost_frames_of_one_node_are_told_by_all_until_any_is_told_that_they_are_known() {
    let store = memory();
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let (log, _) = wal::Wal::open(&dirs[0].path().join("wal"), &wal::Config::default(), 0).expect("a log");
    for lsn in 1..=5 {
        // a kind that nobody knows; a document between them
        let mut frame = wal::Frame {
            kind: 99,
            flags: 0,
            source: 0,
            received_at_nanos: START,
            payload: Bytes::from_static(b"of a newer program"),
        };
        if lsn % 2 == 0 {
            frame = ingest::accept::state_frame("fact/a", Some(b"is so"), START);
        }
        log.append(frame).await.expect("taken");
    }
    log.close().await;
    drop(log);
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    let node = one.inner.catalog.node().clone();
    let ids = |ingest: &Ingest| ingest.view().lost.iter().map(ingest::LostFrames::id).collect::<Vec<_>>();
    let of_one = |ids: &[&str]| ids.iter().map(|id| format!("{node}:{id}")).collect::<Vec<_>>();
    assert_eq!(ids(&one), ["1-1", "3-3", "5-5"]);
    one.flush().await;
    look(&two, 3600).await;
    assert_eq!(ids(&two), of_one(&["1-1", "3-3", "5-5"]));
    // on the other node, which survives a crash of it; the node itself hears of it
    assert_eq!(two.acknowledge_lost_frames("1-1").await.expect("taken"), None, "it is another's");
    let known = two.acknowledge_lost_frames(&of_one(&["1-1"])[0]).await.expect("taken").expect("known");
    assert_eq!((known.node.as_ref(), known.first_lsn), (Some(&node), 1));
    drop(two);
    let two = open(dirs[1].path(), &store).await;
    assert_eq!(ids(&two), of_one(&["3-3", "5-5"]));
    two.flush().await;
    look(&one, 3600).await;
    assert_eq!(ids(&one), ["3-3", "5-5"]);
    // on the node itself, under either name; the other one hears of it
    one.acknowledge_lost_frames(&of_one(&["3-3"])[0]).await.expect("taken").expect("known");
    one.flush().await;
    look(&two, 3600).await;
    assert_eq!((ids(&one), ids(&two)), (vec!["5-5".to_string()], of_one(&["5-5"])));
    // the node is gone for good, and its state forgotten: a third one learns of it from the second
    one.drain(Duration::from_secs(60)).await;
    drop(one);
    look(&two, 0).await;
    two.flush().await;
    assert_eq!(two.view().snapshot.state(&node), None);
    // it comes back all the same: that it says nothing acknowledges nothing, and what it forgot it hears from the other
    let one = open(dirs[0].path(), &store).await;
    assert_eq!(ids(&one), [""; 0]);
    put(&one, "fact/b", "is so").await;
    one.flush().await;
    look(&two, 3600).await;
    look(&one, 3600).await;
    assert_eq!((ids(&one), ids(&two)), (vec!["5-5".to_string()], of_one(&["5-5"])));
    one.drain(Duration::from_secs(60)).await;
    drop(one);
    look(&two, 0).await;
    two.flush().await;
    let three = open(dirs[2].path(), &store).await;
    look(&three, 3600).await;
    assert_eq!(ids(&three), of_one(&["5-5"]));
    three.acknowledge_lost_frames(&of_one(&["5-5"])[0]).await.expect("taken").expect("known");
    three.flush().await;
    look(&two, 3600).await;
    assert_eq!((ids(&two), ids(&three)), (vec![], vec![]));
}

#[tokio::test]
async fn a_store_that_is_away_keeps_nobody_from_telling() {
    let faulty = FaultyStore::new(memory());
    let dir = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = faulty.clone();
    let ingest = open(dir.path(), &store).await;
    look(&ingest, 3600).await;
    put(&ingest, "alert/a", "fires").await;
    faulty.stop_after(-1);
    assert!(ingest.may_tell().await);
    faulty.heal();
    assert!(ingest.may_tell().await);
}

#[tokio::test]
async fn while_others_live_rows_are_flushed_early() {
    let store = memory();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    two.catalog().end_heartbeat(two.catalog().node()).await.expect("as if it were not there");
    look(&one, 3600).await;
    assert_eq!(one.flush_age_seconds(), ingest::Config::default().flush_age_seconds);
    look(&two, 3600).await;
    look(&one, 3600).await;
    assert_eq!((one.flush_age_seconds(), two.flush_age_seconds()), (10, 10));
    two.drain(Duration::from_secs(60)).await;
    look(&one, 3600).await;
    assert_eq!(one.flush_age_seconds(), ingest::Config::default().flush_age_seconds, "alone again");
}

/// When no delete waits for a node's log, as the other sees it.
async fn away(asked: &Ingest, node: &NodeId) -> Option<Away> {
    let snapshot = asked.catalog().refresh().await.expect("reads");
    snapshot.nodes()[node].away
}

#[tokio::test]
async fn a_node_that_was_given_up_and_lives_says_so_before_a_delete_ends_without_it() {
    let store = memory();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (open(dirs[0].path(), &store).await, open(dirs[1].path(), &store).await);
    let node = two.inner.catalog.node().clone();
    // `one` knows no lease yet: any silence is enough
    one.give_up(node.as_str()).await.expect("given up");
    assert!(matches!(away(&one, &node).await, Some(Away::GivenUp { missed: 0, .. })));
    for is_beat_due in [true, false] {
        let peers = Peers::new(Config::default(), two.clone(), Arc::new(Keep(two.clone())), "alert/");
        peers.try_look(is_beat_due).await.expect("looks");
        assert_eq!(away(&one, &node).await, None, "it lives");
        let mut commit = Commit::new(CommitKind::State, START);
        commit.gives_up = Some(node.clone());
        one.catalog().commit(commit).await.expect("given up");
    }
    look(&two, 3600).await;
    let seq = one.catalog().refresh().await.expect("reads").seq();
    look(&two, 3600).await;
    assert_eq!(one.catalog().refresh().await.expect("reads").seq(), seq, "once is enough");
}

#[tokio::test]
async fn a_node_that_starts_is_not_given_up() {
    let store = memory();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(dirs[0].path(), &store).await;
    look(&one, 3600).await;
    // it replays its log, and has not looked at others yet
    let two = open(dirs[1].path(), &store).await;
    let refused = one.give_up(two.inner.catalog.node().as_str()).await.expect_err("it lives");
    assert!(refused.to_string().contains("lives"), "{refused}");
}

#[test]
fn settings_are_checked() {
    assert_eq!(Config::default().problems(), Vec::<String>::new());
    let bad = Config {
        lease_seconds: 2,
        adopt: Some("node-1".into()),
        ..Config::default()
    };
    assert_eq!(bad.problems().len(), 2);
}
