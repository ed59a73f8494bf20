//! A log with damage: what is read is what was written, in order, whatever bytes are changed or cut.
#![no_main]

use std::sync::OnceLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracelake::wal::{Config, Frame, Wal, inspect};

/// The name and bytes of a segment with twenty frames.
fn segment() -> &'static (String, Vec<u8>) {
    static SEGMENT: OnceLock<(String, Vec<u8>)> = OnceLock::new();
    SEGMENT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (wal, _) = Wal::open(folder.path(), &Config::default(), 0).expect("a log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for number in 0..20 {
                wal.append(frame(number)).await.expect("appended");
            }
            wal.close().await;
        });
        let entry = std::fs::read_dir(folder.path())
            .expect("the folder")
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().ends_with(".wal"))
            .expect("a segment");
        let mut bytes = std::fs::read(entry.path()).expect("its bytes");
        bytes.truncate(8 << 10);
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    })
}

fn frame(number: u8) -> Frame {
    Frame {
        kind: number,
        flags: 0,
        source: u16::from(number) * 7,
        received_at_nanos: i64::from(number) * 1_000,
        payload: Bytes::from(vec![number; usize::from(number) * 11]),
    }
}

fuzz_target!(|edits: &[u8]| {
    let (name, bytes) = segment();
    let mut bytes = bytes.clone();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len().max(1);
        match edit[2] {
            0 => bytes.truncate(at),
            _ if bytes.is_empty() => {}
            _ => bytes[at] ^= edit[3],
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join(name), bytes).expect("written");
    let Ok(replay) = inspect(folder.path(), 0) else { return };
    let mut before = 0;
    for (lsn, read) in replay.flatten() {
        assert!(lsn > before, "in order");
        before = lsn;
        let number = u8::try_from(lsn - 1).expect("one of the twenty");
        let written = frame(number);
        assert_eq!((read.kind, read.source, read.payload), (written.kind, written.source, written.payload));
    }
});
