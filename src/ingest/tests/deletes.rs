//! Deletes by query over several nodes, some of which are away.

use super::lives::live;
use super::*;
use crate::model::TimeRange;

async fn order(ingest: &Ingest, query: &str) -> Result<crate::catalog::CommitId, DeleteError> {
    let request = DeleteRequest {
        table: Table::Logs,
        query: query.into(),
        range: TimeRange::ALL,
    };
    ingest.delete(&request).await
}

/// The texts of all blocks, as another reader of the store finds them.
async fn flushed(store: &dyn Store) -> Vec<String> {
    let snapshot = Catalog::read(store).await.expect("reads");
    let mut rows = Vec::new();
    for meta in snapshot.blocks(Table::Logs) {
        rows.extend(block_rows(store, meta).await);
    }
    texts(&rows, "body")
}

fn has_ended(ingest: &Ingest, id: &crate::catalog::CommitId) -> bool {
    ingest.catalog().snapshot().deletes()[id].ended_at_nanos.is_some()
}

#[tokio::test]
async fn a_delete_waits_for_no_node_that_stopped_in_order_and_takes_nothing_that_comes_later() {
    let (store, clock) = (memory(), clock());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(dirs[0].path(), store.clone(), clock.clone()).await;
    let two = live(dirs[1].path(), store.clone(), clock.clone()).await.expect("starts");
    send(&two, "alice before", START).await;
    two.drain(Duration::from_secs(60)).await;
    assert!(matches!(two.put_state("k", None).await, Err(Refused::Draining)));
    drop(two);
    one.catalog().refresh().await.expect("reads");
    let id = order(&one, "alice").await.expect("ordered");
    let node = NodeId::load_or_create(dirs[1].path()).expect("a node");
    let snapshot = one.catalog().snapshot();
    assert_eq!(snapshot.nodes_behind(&snapshot.deletes()[&id]).count(), 0);
    assert_eq!(snapshot.deletes()[&id].todo.len(), 1, "the block is still to be looked at");
    // it begins again while the delete is under way, and is waited for until it says that its log has nothing
    clock.advance(SECOND);
    let two = live(dirs[1].path(), store.clone(), clock.clone()).await.expect("starts");
    let snapshot = one.catalog().refresh().await.expect("reads");
    assert_eq!(snapshot.nodes_behind(&snapshot.deletes()[&id]).collect::<Vec<_>>(), [&node]);
    clock.advance(SECOND);
    send(&two, "alice after", START).await;
    two.flush().await;
    let snapshot = one.catalog().refresh().await.expect("reads");
    assert_eq!(snapshot.nodes_behind(&snapshot.deletes()[&id]).count(), 0);
    assert!(flushed(&*store).await.contains(&"alice after".to_string()));
}

#[tokio::test]
async fn a_node_that_was_given_up_brings_nothing_back_that_a_delete_took() {
    let (store, clock) = (memory(), clock());
    let [first, second, copied] = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(first.path(), store.clone(), clock.clone()).await;
    let two = live(second.path(), store.clone(), clock.clone()).await.expect("starts");
    send(&two, "bob", START).await;
    two.flush().await;
    send(&two, "alice", START).await;
    one.catalog().refresh().await.expect("reads");
    let id = order(&one, "alice").await.expect("ordered");
    let block = one.catalog().snapshot().blocks(Table::Logs)[0].id.clone();
    let mut looked = crate::catalog::Commit::new(crate::catalog::CommitKind::Delete, START);
    looked.erased = vec![crate::catalog::Erased {
        delete: id.clone(),
        rows: 0,
        clean: vec![block],
    }];
    one.catalog().commit(looked).await.expect("clean");
    assert!(!has_ended(&one, &id), "two has not flushed");
    // a look that beats
    let name = two.catalog().node().to_string();
    assert!(matches!(one.give_up(one.catalog().node().as_str()).await, Err(NotGivenUp::Itself(_))));
    assert!(matches!(one.give_up("nobody").await, Err(NotGivenUp::Unknown(_))));
    two.catalog().beat(START).await.expect("beats");
    one.inner.known.lock().lease = Duration::from_secs(3600);
    let alive = one.give_up(&name).await.expect_err("its heartbeat is fresh");
    assert!(matches!(alive, NotGivenUp::Alive { .. }) && !has_ended(&one, &id), "{alive}");
    one.inner.known.lock().lease = Duration::ZERO;
    let given_up = one.give_up(&name).await.expect("silent");
    assert!(has_ended(&one, &id) && !given_up.had_left && given_up.flushed_lsn == 1, "{given_up:?}");

    // it lived after all, and had not seen the store: it finds out with its next flush
    copy(second.path(), copied.path());
    let told = tokio::spawn({
        let two = two.clone();
        async move { two.superseded().await }
    });
    two.flush().await;
    let told = told.await.expect("told");
    assert!(told.contains("tracelake node forget") && told.contains("log positions 2 to 2"), "{told}");
    two.drain(Duration::from_secs(5)).await;
    drop(two);
    // nor does a restart bring the row back, whatever of the folder it has
    for dir in [second.path(), copied.path()] {
        let refused = live(dir, store.clone(), clock.clone()).await.expect_err("its log may hold what was deleted");
        assert!(
            matches!(refused, Error::NotTheNode(_)) && refused.to_string().contains("folder wal"),
            "{refused}"
        );
    }
    // without it, it begins
    std::fs::rename(second.path().join("wal"), second.path().join("moved")).expect("moved away");
    let two = live(second.path(), store.clone(), clock.clone()).await.expect("starts");
    send(&two, "carol", START).await;
    two.flush().await;
    assert_eq!(flushed(&*store).await, ["bob", "carol"]);
}

#[tokio::test]
async fn a_node_that_was_given_up_too_early_goes_on_with_its_log() {
    let (store, clock) = (memory(), clock());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(dirs[0].path(), store.clone(), clock.clone()).await;
    let two = live(dirs[1].path(), store.clone(), clock.clone()).await.expect("starts");
    send(&two, "alice", START).await;
    send(&two, "bob", START).await;
    one.catalog().refresh().await.expect("reads");
    one.give_up(two.catalog().node().as_str()).await.expect("silent");
    two.flush().await;
    assert_eq!(flushed(&*store).await, ["alice", "bob"]);
    assert!(two.status().problems.is_empty());
    let snapshot = one.catalog().refresh().await.expect("reads");
    assert_eq!(snapshot.nodes()[two.catalog().node()].away, None);
}

#[tokio::test]
async fn a_delete_that_is_learnt_of_late_takes_nothing_that_came_after_its_order() {
    let (store, clock) = (memory(), clock());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let faulty = FaultyStore::new(store.clone());
    let one = open(dirs[0].path(), store.clone(), clock.clone()).await;
    let two = open(dirs[1].path(), faulty.clone(), clock.clone()).await;
    one.catalog().refresh().await.expect("reads");
    send(&two, "alice before", START).await;
    faulty.stop_after(0);
    let flush = tokio::spawn({
        let two = two.clone();
        async move { two.flush().await }
    });
    while two.status().problems.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    clock.advance(600 * SECOND);
    let id = order(&one, "alice").await.expect("ordered");
    clock.advance(600 * SECOND);
    send(&two, "alice after", START).await;
    send(&two, "bob", START).await;
    faulty.heal();
    flush.await.expect("flushed");
    two.flush().await;
    one.catalog().refresh().await.expect("reads");
    assert!(has_ended(&one, &id));
    assert_eq!(flushed(&*store).await, ["alice after", "bob"]);
}

#[tokio::test]
async fn a_replay_that_flushes_on_the_way_takes_nothing_that_came_after_the_order_of_a_delete() {
    let (store, clock) = (memory(), clock());
    let [first, second, copied] = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(first.path(), store.clone(), clock.clone()).await;
    let two = open(second.path(), store.clone(), clock.clone()).await;
    one.catalog().refresh().await.expect("reads");
    send(&two, "bob", START).await;
    clock.advance(SECOND);
    send(&two, "alice before", START).await;
    clock.advance(SECOND);
    let id = order(&one, "alice").await.expect("ordered");
    clock.advance(SECOND);
    send(&two, "alice after", START).await;
    copy(second.path(), copied.path());
    let every_frame = Config {
        flush_bytes: 1,
        ..Config::default()
    };
    let two = open_with(every_frame, copied.path(), store.clone(), clock.clone()).await;
    two.flush().await;
    one.catalog().refresh().await.expect("reads");
    assert!(has_ended(&one, &id));
    assert_eq!(flushed(&*store).await, ["alice after", "bob"]);
}

#[tokio::test]
async fn so_many_deletes_are_under_way_and_no_more() {
    let (store, clock) = (memory(), clock());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let one = open(dirs[0].path(), store.clone(), clock.clone()).await;
    let two = open(dirs[1].path(), store.clone(), clock.clone()).await;
    one.catalog().refresh().await.expect("reads");
    for _ in 0..3 {
        order(&one, "alice").await.expect("ordered");
    }
    let refused = order(&one, "alice").await.expect_err("one more");
    assert!(matches!(refused, DeleteError::TooMany(3)), "{refused}");
    two.drain(Duration::from_secs(60)).await;
    one.catalog().refresh().await.expect("reads");
    order(&one, "alice").await.expect("the others have ended");
}
