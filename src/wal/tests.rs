use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::disk::{Disk, SystemDisk};
use super::segment::{self, FRAME_HEADER_BYTES, HEADER_BYTES, Header};
use super::*;

fn config(segment_bytes: u64) -> Config {
    Config {
        segment_bytes,
        min_free_disk_bytes: 0,
        ..Config::default()
    }
}

fn frame(number: u64, payload_bytes: usize) -> Frame {
    Frame {
        kind: number as u8,
        flags: 3,
        source: number as u16,
        received_at_nanos: number as i64 * 1000,
        payload: (0..payload_bytes).map(|i| (number as usize * 31 + i) as u8 | 1).collect(),
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| segment::first_lsn_of(path).is_some()).collect();
    paths.sort();
    paths
}

/// The folder as a crash would leave it: spares, untrimmed segments and all.
fn copy_folder(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // a spare may be renamed while we copy; the segment it became is copied or was not acknowledged
        if path.is_file() {
            let _ = std::fs::copy(&path, copy.path().join(path.file_name().unwrap()));
        }
    }
    copy
}

fn read_all(replay: &mut Replay) -> Vec<(Lsn, Frame)> {
    replay.map(|item| item.unwrap()).collect()
}

async fn reopen(dir: &Path, flushed: Lsn) -> (Wal, Replay, Vec<(Lsn, Frame)>) {
    let (wal, mut replay) = Wal::open(dir, &config(64 << 10), flushed).unwrap();
    let frames = read_all(&mut replay);
    (wal, replay, frames)
}

/// A disk that fails on request.
#[derive(Default)]
struct FaultyDisk {
    /// So many writes of frames, headers or zeros fail from now on.
    failing_writes: AtomicU32,
    failing_syncs: AtomicU32,
    is_full: AtomicBool,
    /// So many syncs of the writer, and allocations of the keeper, panic from now on.
    panicking_syncs: AtomicU32,
    panicking_allocations: AtomicU32,
}

fn is_due(countdown: &AtomicU32) -> bool {
    countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn is_on(thread: &str) -> bool {
    std::thread::current().name() == Some(thread)
}

impl Disk for FaultyDisk {
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if is_due(&self.failing_writes) {
            // half of it gets there
            SystemDisk.write_all_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(5));
        }
        SystemDisk.write_all_at(file, bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        assert!(!(is_on("wal-writer") && is_due(&self.panicking_syncs)), "a defect");
        if is_due(&self.failing_syncs) {
            return Err(io::Error::from_raw_os_error(5));
        }
        SystemDisk.sync_data(file)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        assert!(!(is_on("wal-keeper") && is_due(&self.panicking_allocations)), "a defect");
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        SystemDisk.allocate(file, bytes)
    }
}

#[tokio::test]
async fn acknowledged_frames_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _, found) = reopen(dir.path(), 0).await;
    assert!(found.is_empty());
    for n in 1..=20 {
        assert_eq!(wal.append(frame(n, n as usize * 7)).await.unwrap(), n);
    }
    wal.close().await;
    wal.close().await;
    assert!(matches!(wal.append(frame(1, 1)).await, Err(Error::Closed)));
    let (wal, replay, found) = reopen(dir.path(), 5).await;
    let sent: Vec<_> = (6..=20).map(|n| (n, frame(n, n as usize * 7))).collect();
    assert_eq!(found, sent);
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
    assert_eq!(wal.append(frame(21, 0)).await.unwrap(), 21);
    let stats = wal.stats();
    assert_eq!((stats.last_lsn, stats.segments, stats.queued_bytes), (21, 2, 0));
}

#[tokio::test]
async fn a_keeper_that_panics_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    // the first segment, which the keeper makes as it starts, or the second
    disk.panicking_allocations.store(1, Ordering::SeqCst);
    let (wal, _) = Wal::open_on(disk.clone(), dir.path(), &config(4096), 0).unwrap();
    for n in 1..=20 {
        assert_eq!(wal.append(frame(n, 1000)).await.unwrap(), n);
    }
    while disk.panicking_allocations.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(wal.append(frame(21, 1000)).await.unwrap(), 21);
    assert!(!wal.stats().writer_is_gone);
    wal.close().await;
}

#[tokio::test]
async fn a_writer_that_panics_takes_nothing_more_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (wal, _) = Wal::open_on(disk.clone(), dir.path(), &config(64 << 10), 0).unwrap();
    assert_eq!(wal.append(frame(1, 10)).await.unwrap(), 1);
    disk.panicking_syncs.store(1, Ordering::SeqCst);
    assert!(matches!(wal.append(frame(2, 10)).await, Err(Error::Closed)));
    assert!(matches!(wal.append(frame(3, 10)).await, Err(Error::Closed)));
    // its thread unwinds after it has dropped the answers
    while !wal.stats().writer_is_gone {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(wal);
    let (_, _, found) = reopen(dir.path(), 0).await;
    assert_eq!(found[0], (1, frame(1, 10)), "what was acknowledged is there");
}

#[tokio::test]
async fn a_folder_has_one_owner_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(4096), 0).unwrap();
    assert!(matches!(Wal::open(dir.path(), &config(4096), 0), Err(Error::InUse { .. })));
    wal.close().await;
    Wal::open(dir.path(), &config(4096), 0).unwrap();
}

#[tokio::test]
async fn an_empty_or_older_folder_never_gives_a_flushed_lsn_again() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 100).await;
    assert_eq!(wal.append(frame(1, 10)).await.unwrap(), 101);
    drop(wal);
    let (wal, replay, found) = reopen(dir.path(), 500).await;
    assert!(found.is_empty());
    assert_eq!(replay.corrupt_frames, 0);
    assert_eq!(wal.append(frame(2, 10)).await.unwrap(), 501);
    drop(wal);
    let (_wal, replay, found) = reopen(dir.path(), 500).await;
    assert_eq!(found, [(501, frame(2, 10))]);
    assert_eq!(replay.corrupt_frames, 0);
}

#[tokio::test]
async fn frames_missing_before_the_first_segment_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 10).await;
    wal.append(frame(11, 10)).await.unwrap();
    drop(wal);
    let (_wal, replay, found) = reopen(dir.path(), 7).await;
    assert_eq!(found, [(11, frame(11, 10))]);
    assert_eq!(replay.corrupt_frames, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 0).await;
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let wal = wal.clone();
            tokio::spawn(async move { (wal.append(frame(n, 100)).await.unwrap(), frame(n, 100)) })
        })
        .collect();
    let mut sent = Vec::new();
    for task in tasks {
        sent.push(task.await.unwrap());
    }
    sent.sort_by_key(|(lsn, _)| *lsn);
    let stats = wal.stats();
    assert_eq!(stats.appended_frames, 200);
    assert!(stats.fsyncs < 200, "{stats:?}");
    wal.close().await;
    assert_eq!(reopen(dir.path(), 0).await.2, sent);
}

#[tokio::test]
async fn torn_last_frame_is_cut_off_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 0).await;
    for n in 1..=3 {
        wal.append(frame(n, 45)).await.unwrap();
    }
    let untrimmed = copy_folder(dir.path());
    wal.close().await;
    let last_at = HEADER_BYTES + 2 * segment::frame_bytes(45) as usize;
    let last_bytes = FRAME_HEADER_BYTES + 45;
    for kept in 0..last_bytes {
        // a file that ends early, and one whose later bytes are still the zeros it was made of
        for source in [dir.path(), untrimmed.path()] {
            let crashed = copy_folder(source);
            let path = &segments(crashed.path())[0];
            let mut bytes = std::fs::read(path).unwrap();
            if source == dir.path() {
                bytes.truncate(last_at + kept);
            } else {
                bytes[last_at + kept..].fill(0);
            }
            std::fs::write(path, bytes).unwrap();
            let (wal, replay, found) = reopen(crashed.path(), 0).await;
            assert_eq!(found.len(), 2, "{kept}");
            assert_eq!(replay.torn_frames_cut, u64::from(kept > 0), "{kept}");
            assert_eq!(replay.corrupt_frames, 0);
            if kept % 16 == 0 {
                assert_eq!(wal.append(frame(3, 9)).await.unwrap(), 3);
                drop(wal);
                let (_wal, replay, found) = reopen(crashed.path(), 0).await;
                assert_eq!(found.last(), Some(&(3, frame(3, 9))));
                assert_eq!((found.len(), replay.torn_frames_cut, replay.corrupt_frames), (3, 0, 0));
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_one_frame_and_is_never_silent() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 0).await;
    for n in 1..=9 {
        wal.append(frame(n, 30)).await.unwrap();
    }
    wal.close().await;
    let frame_bytes = segment::frame_bytes(30) as usize;
    for byte in 0..FRAME_HEADER_BYTES + 30 {
        let crashed = copy_folder(dir.path());
        let path = &segments(crashed.path())[0];
        let mut bytes = std::fs::read(path).unwrap();
        // the four bytes after `source` are zero and checked too
        bytes[HEADER_BYTES + 4 * frame_bytes + byte] ^= 0x10;
        std::fs::write(path, &bytes).unwrap();
        let (wal, replay, found) = reopen(crashed.path(), 0).await;
        let lsns: Vec<_> = found.iter().map(|(lsn, _)| *lsn).collect();
        assert_eq!(lsns, [1, 2, 3, 4, 6, 7, 8, 9], "byte {byte}");
        assert_eq!((replay.corrupt_frames, replay.torn_frames_cut, replay.quarantined.len()), (1, 0, 1));
        assert_eq!(std::fs::read(&replay.quarantined[0]).unwrap(), bytes);
        assert_eq!((wal.stats().corrupt_frames, wal.stats().quarantined_segments), (1, 1));
        if byte == 0 {
            // the log goes on; a second start still says so, without a second copy; what is flushed does not matter
            assert_eq!(wal.append(frame(10, 1)).await.unwrap(), 10);
            drop(wal);
            let (wal, replay, found) = reopen(crashed.path(), 0).await;
            assert_eq!((found.len(), replay.corrupt_frames, replay.quarantined.len()), (9, 1, 0));
            drop(wal);
            let (_wal, replay, found) = reopen(crashed.path(), 5).await;
            assert_eq!((found.len(), replay.corrupt_frames), (5, 0));
        }
    }
}

#[tokio::test]
async fn damage_in_an_earlier_segment_or_its_header_or_its_loss_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(4096), 0).unwrap();
    for n in 1..=30 {
        wal.append(frame(n, 500)).await.unwrap();
    }
    wal.close().await;
    let firsts: Vec<_> = segments(dir.path()).iter().filter_map(|path| segment::first_lsn_of(path)).collect();
    assert_eq!(firsts, [1, 8, 15, 22, 29]);

    let header = copy_folder(dir.path());
    std::fs::write(&segments(header.path())[1], {
        let mut bytes = std::fs::read(&segments(dir.path())[1]).unwrap();
        bytes[20] ^= 1;
        bytes
    })
    .unwrap();
    let (_wal, replay, found) = reopen(header.path(), 0).await;
    assert_eq!((found.len(), replay.corrupt_frames, replay.quarantined.len()), (30, 0, 1));

    let cut = copy_folder(dir.path());
    File::options().write(true).open(&segments(cut.path())[1]).unwrap().set_len(2000).unwrap();
    let (_wal, replay, found) = reopen(cut.path(), 0).await;
    assert_eq!((found.len() as u64, replay.corrupt_frames, replay.torn_frames_cut), (30 - 4, 4, 0));

    let lost = copy_folder(dir.path());
    std::fs::remove_file(&segments(lost.path())[2]).unwrap();
    let (wal, replay, found) = reopen(lost.path(), 0).await;
    assert_eq!((found.len() as u64, replay.corrupt_frames), (30 - 7, 7));
    assert_eq!(wal.append(frame(31, 1)).await.unwrap(), 31);
}

#[tokio::test]
async fn a_payload_that_looks_like_frames_is_not_read_as_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 0).await;
    let mut bait = Vec::new();
    for lsn in 3..6 {
        segment::encode_frame(lsn, &frame(99, 8), &mut bait);
    }
    wal.append(frame(1, 8)).await.unwrap();
    let payload = Bytes::from(bait);
    wal.append(Frame { payload, ..frame(2, 0) }).await.unwrap();
    wal.append(frame(3, 8)).await.unwrap();
    wal.close().await;
    let path = &segments(dir.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[HEADER_BYTES + segment::frame_bytes(8) as usize + 17] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let (_wal, replay, found) = reopen(dir.path(), 0).await;
    assert_eq!(found, [(1, frame(1, 8)), (3, frame(3, 8))]);
    assert_eq!(replay.corrupt_frames, 1);
}

#[tokio::test]
async fn another_version_or_node_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = reopen(dir.path(), 0).await;
    wal.append(frame(1, 8)).await.unwrap();
    wal.close().await;
    let foreign = Config { node: 7, ..config(4096) };
    assert!(matches!(
        Wal::open(dir.path(), &foreign, 9),
        Err(Error::ForeignNode { found: 0, expected: 7, .. })
    ));
    let path = &segments(dir.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8] = 2;
    std::fs::write(path, &bytes).unwrap();
    assert!(matches!(Wal::open(dir.path(), &config(4096), 9), Err(Error::Version { version: 2, .. })));
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[tokio::test]
async fn stale_frames_of_a_used_file_are_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(4096), 0).unwrap();
    let mut was_reused = false;
    for n in 1..=200 {
        wal.append(frame(n, 500)).await.unwrap();
        wal.truncate_below(n);
        let newest = segments(dir.path()).pop().unwrap();
        was_reused = Header::decode(&std::fs::read(&newest).unwrap()).unwrap().reused;
        if was_reused && n > 20 && n % 7 == 3 {
            break;
        }
    }
    assert!(was_reused);
    let last_lsn = wal.stats().last_lsn;
    let crashed = copy_folder(dir.path());
    drop(wal);
    let (wal, replay, found) = reopen(crashed.path(), last_lsn - 1).await;
    assert_eq!(found, [(last_lsn, frame(last_lsn, 500))]);
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
    assert_eq!(wal.append(frame(0, 1)).await.unwrap(), last_lsn + 1);
}

#[tokio::test]
async fn covered_segments_go_and_the_log_takes_frames_again() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config {
        max_bytes: 20 << 10,
        ..config(4096)
    };
    let (wal, _) = Wal::open(dir.path(), &small, 0).unwrap();
    let mut n_taken = 0;
    let refused = loop {
        match wal.append(frame(n_taken + 1, 1000)).await {
            Ok(_) => n_taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full { max_bytes: 20480, .. }), "{refused}");
    assert_eq!(n_taken, 19);
    // not yet written positions are not covered, going back does nothing
    wal.truncate_below(1000);
    wal.truncate_below(3);
    assert_eq!(wal.stats().waiting_bytes, 0);
    assert_eq!(wal.stats().low_water_lsn, 20);
    assert_eq!(wal.append(frame(20, 1000)).await.unwrap(), 20);
    wal.close().await;
    let left = segments(dir.path());
    assert_eq!(left.iter().filter_map(|path| segment::first_lsn_of(path)).max(), Some(19));
    assert!(left.len() <= 2, "{left:?}");
    drop(wal);
    let (_wal, _, found) = reopen(dir.path(), 19).await;
    assert_eq!(found, [(20, frame(20, 1000))]);
}

#[tokio::test]
async fn a_frame_larger_than_a_segment_gets_its_own_and_one_above_the_cap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(4096), 0).unwrap();
    for (n, bytes) in [(1, 10), (2, 100_000), (3, 10), (4, 5000)] {
        assert_eq!(wal.append(frame(n, bytes)).await.unwrap(), n);
    }
    let payload = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    assert!(matches!(wal.append(Frame { payload, ..frame(1, 0) }).await, Err(Error::TooLarge { .. })));
    let crashed = copy_folder(dir.path());
    let (_wal, replay, found) = reopen(crashed.path(), 0).await;
    assert_eq!(found, [(1, frame(1, 10)), (2, frame(2, 100_000)), (3, frame(3, 10)), (4, frame(4, 5000))]);
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
}

#[tokio::test]
async fn a_failed_sync_or_write_moves_the_group_to_a_new_segment() {
    for fail_sync in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::default());
        let (wal, _) = Wal::open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config(64 << 10), 0).unwrap();
        // the second append finds a spare made, so that the writer alone meets the fault
        wal.append(frame(1, 10)).await.unwrap();
        wait_for_spare(&wal).await;
        let countdown = if fail_sync { &disk.failing_syncs } else { &disk.failing_writes };
        countdown.store(1, Ordering::SeqCst);
        assert_eq!(wal.append(frame(2, 10)).await.unwrap(), 2);
        assert_eq!(wal.append(frame(3, 10)).await.unwrap(), 3);
        let stats = wal.stats();
        assert_eq!((stats.failed_groups, stats.segments, stats.failing), (1, 2, false));
        let crashed = copy_folder(dir.path());
        let (_wal, replay, found) = reopen(crashed.path(), 0).await;
        assert_eq!(found, [(1, frame(1, 10)), (2, frame(2, 10)), (3, frame(3, 10))]);
        assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
    }
}

async fn wait_for_spare(wal: &Wal) {
    let has_spare = || {
        std::fs::read_dir(wal.dir())
            .unwrap()
            .any(|entry| entry.unwrap().path().extension().is_some_and(|e| e == "spare"))
    };
    while !has_spare() || wal.inner.keeper.is_making() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_for_long_is_told_and_the_log_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (wal, _) = Wal::open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config(64 << 10), 0).unwrap();
    wal.append(frame(1, 10)).await.unwrap();
    disk.failing_syncs.store(u32::MAX, Ordering::SeqCst);
    for _ in 0..3 {
        let error = wal.append(frame(2, 10)).await.unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(wal.stats().failing);
    }
    disk.failing_syncs.store(0, Ordering::SeqCst);
    assert_eq!(wal.append(frame(3, 10)).await.unwrap(), 2);
    assert!(!wal.stats().failing);
    assert_eq!(wal.stats().queued_bytes, 0);
    wal.close().await;
    let (_wal, replay, found) = reopen(dir.path(), 0).await;
    assert_eq!(found, [(1, frame(1, 10)), (2, frame(3, 10))]);
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_frames_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (wal, _) = Wal::open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), &config(4096), 0).unwrap();
    wal.append(frame(1, 1000)).await.unwrap();
    disk.is_full.store(true, Ordering::SeqCst);
    let mut n_taken = 1;
    let refused = loop {
        match wal.append(frame(n_taken + 1, 1000)).await {
            Ok(lsn) => {
                n_taken += 1;
                assert_eq!(lsn, n_taken);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    assert!(n_taken < 12, "the running segment and one spare are all there was");
    disk.is_full.store(false, Ordering::SeqCst);
    assert_eq!(wal.append(frame(n_taken + 1, 1000)).await.unwrap(), n_taken + 1);
    wal.close().await;
    let (_wal, replay, found) = reopen(dir.path(), 0).await;
    assert_eq!(found, (1..=n_taken + 1).map(|n| (n, frame(n, 1000))).collect::<Vec<_>>());
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames), (0, 0));
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_before_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let greedy = Config {
        min_free_disk_bytes: u64::MAX,
        ..config(4096)
    };
    let (wal, _) = Wal::open(dir.path(), &greedy, 0).unwrap();
    assert!(matches!(wal.append(frame(1, 10)).await, Err(Error::DiskFull { free: 1.., .. })));
    assert!(segments(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_copied_in_mid_flight_holds_all_that_was_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(16 << 10), 0).unwrap();
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let wal = wal.clone();
            tokio::spawn(async move {
                for n in 0..60 {
                    wal.append(frame(writer * 1000 + n, 700)).await.unwrap();
                }
            })
        })
        .collect();
    let mut copies = Vec::new();
    for _ in 0..4 {
        let acknowledged = wal.stats().last_lsn;
        copies.push((acknowledged, copy_folder(dir.path())));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for (acknowledged, copy) in copies {
        let (_wal, _, found) = reopen(copy.path(), 0).await;
        let lsns: Vec<_> = found.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn <= acknowledged).collect();
        assert_eq!(lsns, (1..=acknowledged).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn inspecting_reads_a_log_in_use_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), &config(4096), 10).unwrap();
    for n in 11..=20 {
        wal.append(frame(n, 900)).await.unwrap();
    }
    let mut replay = inspect(dir.path(), 0).unwrap();
    assert_eq!(read_all(&mut replay), (11..=20).map(|n| (n, frame(n, 900))).collect::<Vec<_>>());
    assert_eq!((replay.torn_frames_cut, replay.corrupt_frames, replay.last_lsn), (0, 0, 20));
    assert_eq!(wal.append(frame(21, 900)).await.unwrap(), 21);
    assert!(inspect(&dir.path().join("none"), 0).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    AppendMany(usize),
    /// Covers this share of the frames, in percent.
    Truncate(u64),
    Reopen,
    /// Goes on in a copy of the folder, with so many bytes of a next frame at the end.
    Crash(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0usize..3000).prop_map(Act::Append),
        2 => (1usize..20).prop_map(Act::AppendMany),
        2 => (0u64..=100).prop_map(Act::Truncate),
        1 => Just(Act::Reopen),
        2 => (0usize..120).prop_map(Act::Crash),
    ]
}

/// Begins a frame behind the last one, as a write cut short does.
fn tear(dir: &Path, next_lsn: Lsn, bytes: usize) {
    let Some(path) = segments(dir).pop() else { return };
    let mut file = std::fs::read(&path).unwrap();
    let mut at = HEADER_BYTES;
    let mut lsn = segment::first_lsn_of(&path).unwrap();
    while let Some(frame) = segment::frame_at(&file, at).filter(|frame| frame.lsn == lsn) {
        (at, lsn) = (frame.end, lsn + 1);
    }
    let mut torn = Vec::new();
    segment::encode_frame(next_lsn, &frame(next_lsn, 100), &mut torn);
    let bytes = bytes.min(file.len() - at);
    file[at..at + bytes].copy_from_slice(&torn[..bytes]);
    std::fs::write(path, file).unwrap();
}

async fn check_against_model(acts: Vec<Act>) {
    let mut dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(dir.path(), &config(4096), 0).unwrap();
    let mut model: Vec<(Lsn, Frame)> = Vec::new();
    let mut flushed = 0;
    for act in acts.into_iter().chain([Act::Reopen]) {
        let next_lsn = model.last().map_or(1, |(lsn, _)| lsn + 1);
        match act {
            Act::Append(bytes) => {
                let frame = frame(next_lsn, bytes);
                assert_eq!(wal.append(frame.clone()).await.unwrap(), next_lsn);
                model.push((next_lsn, frame));
            }
            Act::AppendMany(n) => {
                let frames = (0..n as u64).map(|i| frame(next_lsn + i, 200));
                let answers = futures::future::join_all(frames.map(|frame| async { (wal.append(frame.clone()).await.unwrap(), frame) })).await;
                model.extend(answers);
            }
            Act::Truncate(percent) => {
                flushed = flushed.max((next_lsn - 1) * percent / 100);
                wal.truncate_below(flushed + 1);
            }
            Act::Reopen | Act::Crash(_) => {
                if let Act::Crash(bytes) = act {
                    // stop the keeper first: a copy taken while it renames would be no moment's state
                    wal.inner.keeper.stop();
                    let crashed = copy_folder(dir.path());
                    tear(crashed.path(), next_lsn, bytes);
                    wal.close().await;
                    dir = crashed;
                } else {
                    wal.close().await;
                }
                let (next_wal, mut replay) = Wal::open(dir.path(), &config(4096), flushed).unwrap();
                wal = next_wal;
                let found = read_all(&mut replay);
                let expected: Vec<_> = model.iter().filter(|(lsn, _)| *lsn > flushed).cloned().collect();
                assert_eq!(found, expected);
                assert_eq!(replay.corrupt_frames, 0);
                assert_eq!(wal.stats().last_lsn, next_lsn - 1);
            }
        }
        assert!(wal.stats().low_water_lsn == flushed + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_equals_the_model(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_against_model(acts));
    }

    #[test]
    fn no_bytes_in_a_segment_panic(junk in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Header { version: segment::VERSION, first_lsn: 1, node: 0, reused: false }.encode().to_vec();
        for lsn in 1..4 {
            segment::encode_frame(lsn, &frame(lsn, 20), &mut bytes);
        }
        let at = at.min(bytes.len());
        bytes.splice(at.max(12).min(bytes.len()).., junk);
        std::fs::write(dir.path().join(segment::file_name(1)), bytes).unwrap();
        let mut replay = inspect(dir.path(), 0).unwrap();
        let _ = read_all(&mut replay);
    }
}
