use std::sync::Arc;

use super::*;
use crate::catalog::WalRange;
use crate::storage::{BucketStore, Store};

const BEAT_EVERY: Duration = Duration::from_millis(50);

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(folder).expect("listed") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    copy
}

fn memory() -> Arc<dyn Store> {
    Arc::new(BucketStore::in_memory(""))
}

async fn open(store: &Arc<dyn Store>, folder: &Path) -> Catalog {
    let node = NodeId::load_or_create(folder).expect("a name");
    let life = Life::new(folder, BEAT_EVERY).expect("a life");
    Catalog::open(store.clone(), node).await.expect("opens").living(life)
}

async fn start(store: &Arc<dyn Store>, folder: &Path, lsn: Lsn) -> Result<Catalog> {
    let catalog = open(store, folder).await;
    catalog.may_begin().await?;
    catalog.begin(lsn, 0).await?;
    Ok(catalog)
}

fn flush(from: Lsn, to: Lsn) -> Commit {
    let mut commit = Commit::new(CommitKind::Flush, 0);
    commit.wal = Some(WalRange { from, to });
    commit
}

#[tokio::test]
async fn one_life_follows_another_in_one_folder_however_it_ended() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    for life in 1..5 {
        let catalog = start(&store, folder.path(), 10 * life).await.expect("begins");
        catalog.commit(flush(10 * life, 10 * life + 5)).await.expect("flushed");
        // the heartbeat of this very place stays behind, as after a crash
        catalog.beat(0).await.expect("beats");
    }
}

#[tokio::test]
async fn of_two_copies_the_one_that_runs_stays() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    let first = start(&store, folder.path(), 0).await.expect("begins");
    let copy = copy_of(folder.path());
    let beating = async {
        loop {
            first.beat(0).await.expect("beats");
            tokio::time::sleep(BEAT_EVERY / 2).await;
        }
    };
    first.beat(0).await.expect("beats");
    let refused = tokio::select! {
        () = beating => unreachable!("it beats for ever"),
        started = start(&store, copy.path(), 0) => started.expect_err("the other runs"),
    };
    assert!(matches!(refused, Error::AlreadyRuns { .. }) && !refused.retry_helps(), "{refused}");
    assert!(refused.to_string().contains(copy.path().to_str().expect("a path")), "{refused}");
    first.commit(flush(1, 5)).await.expect("nothing has happened to it");
}

#[tokio::test]
async fn of_two_copies_a_silent_one_is_superseded_and_refused_ever_after() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    let first = start(&store, folder.path(), 0).await.expect("begins");
    first.commit(flush(1, 5)).await.expect("flushed");
    first.beat(0).await.expect("beats");
    let copy = copy_of(folder.path());
    let second = start(&store, copy.path(), 7).await.expect("the other is silent");
    second.commit(flush(6, 9)).await.expect("flushed");
    // it wakes, and has not heard of it
    assert!(!first.is_superseded(&first.snapshot()));
    for commit in [flush(6, 8), flush(10, 12), Commit::new(CommitKind::State, 0)] {
        let refused = first.commit(commit).await.expect_err("it is another's node");
        assert!(matches!(refused, Error::Superseded { .. }) && !refused.retry_helps(), "{refused}");
    }
    assert!(first.is_superseded(&first.snapshot()) && !second.is_superseded(&second.refresh().await.expect("reads")));
    assert_eq!(second.snapshot().flushed_lsn(second.node()), 9);
    // a restart in its folder is no way around it, nor is a copy of that
    for folder in [&folder, &copy_of(folder.path())] {
        let refused = start(&store, folder.path(), 8).await.expect_err("left behind");
        assert!(matches!(refused, Error::LeftBehind { .. }), "{refused}");
    }
    start(&store, copy.path(), 9).await.expect("the other goes on");
}

#[tokio::test]
async fn two_that_begin_at_once_are_not_both_right() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    start(&store, folder.path(), 0).await.expect("begins");
    let copy = copy_of(folder.path());
    let (first, second) = (open(&store, folder.path()).await, open(&store, copy.path()).await);
    first.may_begin().await.expect("nobody beats");
    second.may_begin().await.expect("nobody beats");
    first.begin(3, 0).await.expect("begins");
    // it has not heard of the first
    let refused = second.begin(3, 0).await.expect_err("the first was faster");
    assert!(matches!(refused, Error::AlreadyRuns { .. }), "{refused}");
    first.commit(flush(1, 3)).await.expect("flushed");
}

#[tokio::test]
async fn programs_that_know_of_no_lives_go_on() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    let node = NodeId::load_or_create(folder.path()).expect("a name");
    let older = Catalog::open(store.clone(), node.clone()).await.expect("opens");
    older.commit(flush(1, 2)).await.expect("flushed");
    older.beat(0).await.expect("beats");
    let newer = start(&store, folder.path(), 2).await.expect("an upgrade");
    newer.commit(flush(3, 4)).await.expect("flushed");
    // and back again: its lives are nobody's
    let older = Catalog::open(store.clone(), node.clone()).await.expect("opens");
    older.commit(flush(5, 6)).await.expect("flushed");
    assert_eq!(older.snapshot().incarnation(&node), None);
    start(&store, folder.path(), 6).await.expect("an upgrade");
    // records of before have no such field
    let record = store.get(&CatalogPath::Log(1).key()).await.expect("there");
    assert!(!String::from_utf8_lossy(&record).contains("incarnation"));
}

#[tokio::test]
async fn a_crash_around_the_record_of_the_beginning_leaves_a_folder_that_begins() {
    let (store, folder) = (memory(), tempfile::tempdir().expect("a directory"));
    start(&store, folder.path(), 0).await.expect("begins");
    let next = open(&store, folder.path()).await;
    let last = next.snapshot().incarnation(next.node()).cloned();
    next.life.as_ref().expect("a life").keep(last.as_ref()).expect("kept");
    // the record was not written
    start(&store, folder.path(), 0).await.expect("begins");
    let next = open(&store, folder.path()).await;
    next.begin(0, 0).await.expect("begins");
    // it was, and nobody heard so: the file has both
    let again = start(&store, folder.path(), 0).await.expect("begins");
    assert!(!again.is_superseded(&again.snapshot()));
    let path = folder.path().join(FILE_NAME);
    let written = fs::read_to_string(&path).expect("a file");
    assert_eq!(written.lines().count(), 3, "two lives and a checksum: {written}");
    let lives: Vec<&str> = written.lines().take(2).collect();
    // an older file, as it was written over one that was longer, and a letter that makes it another's
    let mixed = format!("{}\n{}", lives[0], &written[lives[0].len() / 2..]);
    let other = written.replacen(|c: char| c != 'z', "z", 1);
    for (torn, told) in [
        (&mixed[..], "torn or damaged"),
        (&other[..], "torn or damaged"),
        ("torn", "not the lives of a node"),
        ("", "not the lives of a node"),
    ] {
        fs::write(&path, torn).expect("written");
        let error = Life::new(folder.path(), BEAT_EVERY).expect_err("it is told");
        assert!(
            matches!(error, Error::Node { .. }) && error.to_string().contains(told) && error.to_string().contains("_catalog/node/"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).expect("a file"), torn, "nothing is changed");
    }
    // files of before have no checksum
    fs::write(&path, lives.join("\n") + "\n").expect("written");
    start(&store, folder.path(), 0).await.expect("begins");
}

#[test]
fn lives_are_written_over_those_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(FILE_NAME);
    assert!(overwrite(&path, "x").is_err(), "there is nothing to write over");
    for text in ["one\n", "another\nlonger\n", "last\n"] {
        if text == "one\n" {
            fs::write(&path, text).expect("written");
        }
        overwrite(&path, text).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
    }
}
