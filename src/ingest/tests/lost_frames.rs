//! Frames of the log that a start cannot read: told until a person says that this is known.

use super::*;

const DAY: i64 = 24 * HOUR;

fn ids(ingest: &Ingest) -> Vec<String> {
    assert_eq!(ingest.view().lost, ingest.lost_frames(), "queries are told the same");
    ingest.lost_frames().iter().map(LostFrames::id).collect()
}

/// A crash at this moment, and a start.
async fn start_again(dir: &Path, store: &Arc<dyn Store>) -> (tempfile::TempDir, Ingest) {
    let image = tempfile::tempdir().expect("a directory");
    copy(dir, image.path());
    let ingest = open(image.path(), store.clone(), clock()).await;
    (image, ingest)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("wal")).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "wal"));
    paths.sort();
    paths
}

#[tokio::test]
async fn a_damaged_frame_is_told_until_it_is_acknowledged_and_outlives_its_log() {
    let store = memory();
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let first = open(dir.path(), store.clone(), clock.clone()).await;
    for text in ["before", "stricken", "after"] {
        clock.advance(SECOND);
        send(&first, text, START).await;
    }
    let (image, last_lsn) = (tempfile::tempdir().expect("a directory"), first.last_lsn());
    copy(dir.path(), image.path());
    let [segment] = &segments(image.path())[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(segment).expect("a file");
    let at = bytes.windows(8).position(|window| window == b"stricken").expect("its text");
    bytes[at] ^= 1;
    std::fs::write(segment, bytes).expect("written");

    let second = open(image.path(), store.clone(), clock.clone()).await;
    let id = format!("{}-{}", last_lsn - 1, last_lsn - 1);
    assert_eq!(ids(&second), std::slice::from_ref(&id));
    let lost = second.lost_frames()[0].clone();
    assert_eq!((lost.received_from_nanos, lost.received_to_nanos), (Some(START + SECOND), START + 3 * SECOND));
    assert_eq!(lost.events, (START + SECOND - 30 * DAY, START + 3 * SECOND + 2 * HOUR), "what is taken at all");
    assert!(
        std::fs::read(image.path().join(&lost.copy))
            .expect("a copy")
            .windows(7)
            .any(|window| window == b"tricken")
    );
    let may_lie_in = |from, to| lost.may_lie_in(&crate::model::TimeRange::new(from, to));
    assert!(may_lie_in(START, START + 1) && !may_lie_in(START + 3 * HOUR, i64::MAX) && !may_lie_in(0, START - 31 * DAY));
    // before a flush it is found again, and not twice
    let (crashed, third) = start_again(image.path(), &store).await;
    assert_eq!(ids(&third), std::slice::from_ref(&id));
    // and behind it the log has it no more
    third.flush().await;
    third.drain(Duration::from_secs(60)).await;
    drop(third);
    let fourth = open(crashed.path(), store.clone(), clock.clone()).await;
    assert_eq!((ids(&fourth), fourth.status().replay.corrupt_frames), (vec![id.clone()], 0));
    assert_eq!(fourth.acknowledge_lost_frames("7-7").await.expect("taken"), None);
    assert_eq!(fourth.acknowledge_lost_frames(&id).await.expect("taken"), Some(lost));
    assert_eq!(ids(&fourth), Vec::<String>::new());
    let (_crashed, fifth) = start_again(crashed.path(), &store).await;
    assert_eq!(ids(&fifth), Vec::<String>::new(), "the word of a person survives a crash");
}

#[tokio::test]
async fn what_was_acknowledged_is_not_told_again_by_a_start_that_finds_it_again() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let (wal, _) = Wal::open(&dir.path().join("wal"), &wal::Config::default(), 0).expect("a log");
    for _ in 0..3 {
        let frame = Frame {
            kind: 99,
            flags: 0,
            source: 0,
            received_at_nanos: START,
            payload: Bytes::from_static(b"of a newer program"),
        };
        wal.append(frame).await.expect("taken");
    }
    wal.close().await;
    drop(wal);
    let first = open(dir.path(), store.clone(), clock()).await;
    assert_eq!(ids(&first), ["1-3"], "frames next to each other are one entry");
    assert_eq!(first.lost_frames()[0].frames, 3);
    first.acknowledge_lost_frames("1-3").await.expect("taken").expect("known");
    let (image, second) = start_again(dir.path(), &store).await;
    assert_eq!((ids(&second), second.status().replay.undecodable_frames), (vec![], 3));
    // once blocks cover them the list is empty; that it is there tells the other nodes that nothing is open
    second.flush().await;
    second.drain(Duration::from_secs(60)).await;
    drop(second);
    let third = open(image.path(), store.clone(), clock()).await;
    third.flush().await;
    let lists: Vec<Bytes> = third.states("lost_frames").into_iter().map(|(_, list)| list).collect();
    assert_eq!(
        (ids(&third), lists),
        (vec![], vec![Bytes::from_static(br#"{"v":1,"lost":[],"acknowledged":[]}"#)])
    );
}

#[tokio::test]
async fn where_events_may_have_any_time_so_may_those_of_lost_frames() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let (wal, _) = Wal::open(&dir.path().join("wal"), &wal::Config::default(), 0).expect("a log");
    let frame = Frame {
        kind: 99,
        flags: 0,
        source: 0,
        received_at_nanos: START,
        payload: Bytes::from_static(b"x"),
    };
    wal.append(frame).await.expect("taken");
    wal.close().await;
    drop(wal);
    let any_time = Config {
        max_age_days: 0,
        ..Config::default()
    };
    let ingest = open_with(any_time, dir.path(), store, clock()).await;
    assert_eq!(ingest.lost_frames()[0].events, (i64::MIN, i64::MAX));
}
