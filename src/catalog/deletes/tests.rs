use super::*;
use crate::block::{BlockMeta, Level};
use crate::catalog::live::Live;
use crate::catalog::record::Record;
use crate::catalog::{Begin, CommitKind, DeleteOrder, Erased, Join, WalRange};
use crate::model::Table;
use crate::storage::Key;

fn node(n: u8) -> NodeId {
    NodeId::parse(&format!("{n:026}")).expect("legal")
}

fn block(time_nanos: i64) -> BlockMeta {
    BlockMeta {
        n_rows: 10,
        ..BlockMeta::example(Table::Logs, Level::L0, (time_nanos, time_nanos))
    }
}

/// A log in memory.
#[derive(Default)]
struct Log(Live);

impl Log {
    fn commit(&mut self, n: u8, commit: Commit) -> Result<Arc<Snapshot>, String> {
        self.0.apply(Record {
            v: commit.version(),
            seq: self.0.seq() + 1,
            node: node(n),
            incarnation: None,
            commit,
        })?;
        Ok(self.0.snapshot())
    }

    fn flush(&mut self, n: u8, wal: (u64, u64), adds: &[BlockMeta]) -> Result<Arc<Snapshot>, String> {
        let mut commit = Commit::new(CommitKind::Flush, 5);
        commit.adds = adds.to_vec();
        commit.wal = Some(WalRange { from: wal.0, to: wal.1 });
        self.commit(n, commit)
    }

    fn order(&mut self, n: u8, lsn: u64) -> CommitId {
        let mut commit = Commit::new(CommitKind::Delete, 7);
        commit.delete = Some(DeleteOrder {
            table: Table::Logs,
            start_nanos: 0,
            end_nanos: 100,
            query: Key::parse("_catalog/state/q.json").expect("a key"),
            lsn,
        });
        let id = commit.id.clone();
        self.commit(n, commit).expect("an order");
        id
    }

    fn replace(&mut self, id: &CommitId, old: &BlockMeta, new: Option<&BlockMeta>) -> Result<Arc<Snapshot>, String> {
        let mut commit = Commit::new(CommitKind::Delete, 8);
        commit.removes = vec![old.id.clone()];
        commit.adds = new.cloned().into_iter().collect();
        commit.erased = vec![Erased {
            delete: id.clone(),
            rows: 3,
            clean: vec![],
        }];
        self.commit(1, commit)
    }

    fn clean(&mut self, id: &CommitId, of: &BlockMeta) -> Result<Arc<Snapshot>, String> {
        let mut commit = Commit::new(CommitKind::Delete, 9);
        commit.erased = vec![Erased {
            delete: id.clone(),
            rows: 0,
            clean: vec![of.id.clone()],
        }];
        self.commit(1, commit)
    }
}

#[test]
fn a_node_that_does_not_know_of_a_delete_cannot_flush_and_ends_it_once_it_has() {
    let mut log = Log::default();
    log.flush(2, (1, 3), &[]).expect("flushed");
    let id = log.order(1, 0);
    let error = log.flush(2, (4, 9), &[block(1)]).expect_err("unknown to it");
    assert!(error.contains("is not known"), "{error}");
    let behind = |snapshot: &Snapshot| snapshot.nodes_behind(&snapshot.deletes()[&id]).cloned().collect::<Vec<_>>();
    assert_eq!(behind(&log.0.snapshot()), [node(2)]);
    let mut join = Commit::new(CommitKind::Delete, 8);
    join.joins = vec![Join { delete: id.clone(), lsn: 6 }];
    let snapshot = log.commit(2, join.clone()).expect("joined");
    assert_eq!((behind(&snapshot), snapshot.deletes()[&id].ended_at_nanos), (vec![node(2)], None));
    join.id = Commit::new(CommitKind::Delete, 8).id;
    assert!(log.commit(2, join).is_err(), "once");
    assert_eq!(behind(&log.flush(2, (4, 5), &[]).expect("flushed")), [node(2)], "not up to its cut");
    let snapshot = log.flush(2, (6, 9), &[]).expect("flushed");
    assert_eq!(snapshot.deletes()[&id].ended_at_nanos, Some(5));
    assert!(log.clean(&id, &block(1)).expect_err("ended").contains("not under way"));
    // a node that comes later has nothing that an ended delete means
    log.flush(3, (1, 1), &[]).expect("flushed");
}

#[test]
fn blocks_that_were_live_are_looked_at_one_by_one_for_each_delete() {
    let mut log = Log::default();
    let (a, b, outside) = (block(1), block(2), block(100));
    log.flush(1, (1, 3), &[a.clone(), b.clone(), outside.clone()]).expect("flushed");
    let (one, two) = (log.order(1, 3), log.order(1, 3));
    let later = block(3);
    log.flush(1, (4, 5), std::slice::from_ref(&later)).expect("flushed");
    let todo = |snapshot: &Snapshot, id: &CommitId| snapshot.deletes()[id].todo.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(todo(&log.0.snapshot(), &one), [a.id.clone(), b.id.clone()].into());
    assert!(
        log.replace(&one, &later, None).is_err() && log.clean(&one, &outside).is_err(),
        "none of its business"
    );
    let mut merge = Commit::new(CommitKind::Merge, 8);
    (merge.removes, merge.adds) = (vec![a.id.clone(), later.id.clone()], vec![block(4)]);
    assert!(log.commit(1, merge).expect_err("rows would mix").contains("has yet to look"));

    let without = block(1);
    let snapshot = log.replace(&one, &a, Some(&without)).expect("replaced");
    assert_eq!(todo(&snapshot, &one), [b.id.clone()].into());
    assert_eq!(
        todo(&snapshot, &two),
        [without.id.clone(), b.id.clone()].into(),
        "the other has to look at what is left"
    );
    log.replace(&two, &without, None).expect("nothing left");
    log.clean(&two, &b).expect("clean");
    let snapshot = log.clean(&one, &b).expect("clean");
    assert!([&one, &two].iter().all(|id| snapshot.deletes()[*id].ended_at_nanos == Some(9)));
    assert_eq!((snapshot.deletes()[&one].n_rows, snapshot.deletes()[&one].n_blocks), (3, 2));
    assert_eq!(snapshot.gone()[&Table::Logs].deleted, 6);
    assert_eq!(snapshot.blocks(Table::Logs).len(), 3);
}

#[test]
fn a_block_is_replaced_for_several_deletes_and_one_that_is_ordered_meanwhile_looks_at_what_is_left() {
    let mut log = Log::default();
    let (a, b) = (block(1), block(2));
    log.flush(1, (1, 3), &[a.clone(), b.clone()]).expect("flushed");
    let (one, two) = (log.order(1, 3), log.order(1, 3));
    let erased = |id: &CommitId, rows| Erased {
        delete: id.clone(),
        rows,
        clean: vec![],
    };
    let for_both = |log: &mut Log, adds: Vec<BlockMeta>| {
        let mut commit = Commit::new(CommitKind::Delete, 9);
        (commit.removes, commit.adds) = (vec![a.id.clone()], adds);
        commit.erased = vec![erased(&one, 3), erased(&two, 0)];
        assert_eq!(commit.version(), 3);
        log.commit(1, commit)
    };
    // a third is ordered meanwhile: what takes the place is its to look at
    let three = log.order(1, 3);
    let without = block(1);
    let snapshot = for_both(&mut log, vec![without.clone()]).expect("replaced");
    for (id, rows) in [(&one, 3), (&two, 0)] {
        let delete = &snapshot.deletes()[id];
        assert_eq!((delete.n_rows, delete.n_blocks), (rows, 1));
        assert_eq!(delete.todo, [b.id.clone()].into(), "what took the block's place is looked at no more");
    }
    assert_eq!(
        (&snapshot.deletes()[&three].todo, snapshot.deletes()[&three].n_blocks),
        (&[without.id.clone(), b.id.clone()].into(), 0)
    );
    let snapshot = log.replace(&three, &without, None).expect("nothing left");
    assert_eq!(snapshot.deletes()[&three].todo, [b.id.clone()].into());
    assert_eq!(snapshot.gone()[&Table::Logs].deleted, 6);
    let mut clean = Commit::new(CommitKind::Delete, 9);
    clean.erased = vec![erased(&one, 1), erased(&two, 1)];
    assert!(log.commit(1, clean).is_err(), "of several, only with a block that they replace");
}

#[test]
fn retention_takes_a_block_from_a_delete_too() {
    let mut log = Log::default();
    let a = block(1);
    log.flush(1, (1, 3), std::slice::from_ref(&a)).expect("flushed");
    let id = log.order(1, 3);
    let mut retention = Commit::new(CommitKind::Retention, 8);
    retention.removes = vec![a.id];
    let snapshot = log.commit(1, retention).expect("removed");
    assert_eq!(snapshot.deletes()[&id].ended_at_nanos, Some(8));
    assert_eq!(snapshot.gone()[&Table::Logs].expired, 10);
}

#[test]
fn only_what_speaks_of_deletes_is_of_the_newer_version() {
    let mut commit = Commit::new(CommitKind::Flush, 1);
    assert_eq!(commit.version(), 1);
    assert!(!serde_json::to_string(&commit).expect("JSON").contains("erased"));
    commit.erased = vec![Erased {
        delete: commit.id.clone(),
        rows: 1,
        clean: vec![],
    }];
    assert_eq!(commit.version(), 2);
}

fn state() -> Commit {
    Commit::new(CommitKind::State, 6)
}

#[test]
fn a_node_that_left_is_not_waited_for_until_it_commits_again() {
    let mut log = Log::default();
    log.flush(2, (1, 3), &[]).expect("flushed");
    log.commit(2, Commit { leaves: true, ..state() }).expect("left");
    let id = log.order(1, 0);
    assert_eq!(log.0.snapshot().deletes()[&id].ended_at_nanos, Some(7), "nobody has rows");
    // it comes back, and has logs again
    let snapshot = log.commit(2, state()).expect("back");
    assert_eq!(snapshot.nodes()[&node(2)].away, None);
    let id = log.order(1, 0);
    assert_eq!(log.0.snapshot().deletes()[&id].ended_at_nanos, None);
    // it leaves without having learnt of it: there is nothing left to learn it for
    let snapshot = log.commit(2, Commit { leaves: true, ..state() }).expect("left");
    assert_eq!(snapshot.deletes()[&id].ended_at_nanos, Some(6));
    assert_eq!((Commit { leaves: true, ..state() }.version(), state().version()), (3, 1));
}

#[test]
fn a_node_that_was_given_up_comes_back_only_without_the_rows_of_deletes_that_ended() {
    let mut log = Log::default();
    let a = block(1);
    log.flush(1, (1, 3), std::slice::from_ref(&a)).expect("flushed");
    log.flush(2, (1, 3), &[]).expect("flushed");
    let id = log.order(1, 3);
    log.clean(&id, &a).expect("clean");
    let give_up = |n| Commit {
        gives_up: Some(node(n)),
        ..state()
    };
    assert!(log.commit(1, give_up(1)).is_err() && log.commit(1, give_up(9)).is_err(), "itself, or nobody");
    assert_eq!(log.0.snapshot().nodes_behind(&log.0.snapshot().deletes()[&id]).count(), 1);
    let snapshot = log.commit(1, give_up(2)).expect("given up");
    assert_eq!((snapshot.deletes()[&id].ended_at_nanos, snapshot.missed_deletes(&node(2))), (Some(6), 1));
    // again changes nothing
    assert_eq!(log.commit(1, give_up(2)).expect("known").missed_deletes(&node(2)), 1);
    let error = log.flush(2, (4, 9), &[block(1)]).expect_err("its rows may be meant");
    assert!(error.contains("given up"), "{error}");
    let begins = |lsn| Commit {
        begins: Some(Begin { from: None, lsn }),
        ..state()
    };
    assert!(log.commit(2, begins(4)).is_err(), "with rows in its log");
    let snapshot = log.commit(2, begins(3)).expect("with none");
    assert_eq!((snapshot.nodes()[&node(2)].away, snapshot.missed_deletes(&node(2))), (None, 0));
    log.flush(2, (4, 9), &[block(1)]).expect("flushed");
    assert_eq!(give_up(2).version(), 3);
}

#[test]
fn a_node_that_was_given_up_and_missed_nothing_goes_on_and_is_waited_for() {
    let mut log = Log::default();
    let a = block(1);
    log.flush(1, (1, 3), std::slice::from_ref(&a)).expect("flushed");
    log.flush(2, (1, 3), &[]).expect("flushed");
    let give_up = Commit {
        gives_up: Some(node(2)),
        ..state()
    };
    log.commit(1, give_up.clone()).expect("given up");
    let id = log.order(1, 3);
    let mut join = Commit::new(CommitKind::Delete, 8);
    join.joins = vec![Join { delete: id.clone(), lsn: 6 }];
    let snapshot = log.commit(2, join).expect("it lives");
    assert_eq!(snapshot.nodes()[&node(2)].away, None);
    let snapshot = log.clean(&id, &a).expect("clean");
    assert_eq!(snapshot.deletes()[&id].ended_at_nanos, None, "its rows up to 6");
    // given up again with what it knows of, and then with all flushed that was meant
    let give_up = Commit { id: state().id, ..give_up };
    let snapshot = log.commit(1, give_up.clone()).expect("given up");
    assert_eq!((snapshot.deletes()[&id].ended_at_nanos, snapshot.missed_deletes(&node(2))), (Some(6), 1));
}
