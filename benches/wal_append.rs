//! Appends to the log: frames a second, MiB a second and latency, for 1, 4 and 64 writers and frames of 4 KiB, 64 KiB and
//! 1 MiB, beside the same bytes written raw to one preallocated file, one `fdatasync` a frame, in the same run.
//!
//! The folder is made under `TMPDIR`; point that at the disk to be measured. Each case runs for about a second.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracelake::wal::{Config, Frame, Wal};

/// Time of one case; nine cases, three raw runs and the warm-up then take some 15 s.
const CASE: Duration = Duration::from_millis(900);
/// Bytes of one case at most, so that a fast disk is not filled.
const MAX_CASE_BYTES: usize = 512 << 20;
const WRITERS: [usize; 3] = [1, 4, 64];
const FRAME_BYTES: [(usize, &str); 3] = [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];

struct Measured {
    latencies: Vec<Duration>,
    took: Duration,
    bytes: usize,
}

impl Measured {
    fn bytes_a_second(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64()
    }

    fn print(&mut self, what: &str, ratio: Option<f64>) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            self.latencies
                .get((self.latencies.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
                .as_secs_f64()
                * 1e3
        };
        let a_second = self.latencies.len() as f64 / self.took.as_secs_f64();
        let ratio = ratio.map(|ratio| format!("{ratio:.2} x raw")).unwrap_or_default();
        println!(
            "{what:<24} {a_second:>9.0}/s {:>8.1} MiB/s   p50 {:>8.3} ms   p99 {:>8.3} ms   {ratio}",
            self.bytes_a_second() / f64::from(1 << 20),
            at(0.5),
            at(0.99)
        );
    }
}

/// Random enough that no layer below compresses it away.
fn payload(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn raw(dir: &Path, frame_bytes: usize) -> std::io::Result<Measured> {
    let path = dir.join("raw");
    let file = File::create(&path)?;
    let file_bytes = 64 << 20;
    for at in (0..file_bytes).step_by(1 << 20) {
        file.write_all_at(&vec![0; 1 << 20], at)?;
    }
    file.sync_all()?;
    let bytes = payload(frame_bytes);
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < CASE && latencies.len() * frame_bytes < MAX_CASE_BYTES {
        let begun = Instant::now();
        file.write_all_at(&bytes, (latencies.len() * frame_bytes) as u64 % file_bytes)?;
        file.sync_data()?;
        latencies.push(begun.elapsed());
    }
    let took = started.elapsed();
    std::fs::remove_file(path)?;
    let bytes = latencies.len() * frame_bytes;
    Ok(Measured { latencies, took, bytes })
}

async fn append(wal: &Wal, n_writers: usize, frame_bytes: usize) -> anyhow::Result<Measured> {
    let payload = payload(frame_bytes);
    let share = MAX_CASE_BYTES / frame_bytes / n_writers;
    let started = Instant::now();
    let writers: Vec<_> = (0..n_writers)
        .map(|_| {
            let (wal, payload) = (wal.clone(), payload.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < CASE && latencies.len() < share {
                    let frame = Frame {
                        kind: 1,
                        flags: 0,
                        source: 0,
                        received_at_nanos: 0,
                        payload: payload.clone(),
                    };
                    let begun = Instant::now();
                    let lsn = wal.append(frame).await?;
                    latencies.push(begun.elapsed());
                    // blocks follow closely, as in steady state
                    wal.truncate_below(lsn);
                }
                Ok::<_, tracelake::wal::Error>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for writer in writers {
        latencies.extend(writer.await??);
    }
    let bytes = latencies.len() * frame_bytes;
    Ok(Measured {
        latencies,
        took: started.elapsed(),
        bytes,
    })
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let dir = tempfile::tempdir()?;
    let (wal, _) = Wal::open(&dir.path().join("wal"), &Config::default(), 0)?;
    // until segments have their full size and are used again, a run also pays for zeros
    let (warm_up_writers, warm_up_frame_bytes) = (8, 1 << 20);
    for _ in 0..2 {
        runtime.block_on(append(&wal, warm_up_writers, warm_up_frame_bytes))?;
    }
    for (frame_bytes, size) in FRAME_BYTES {
        let mut raw = raw(dir.path(), frame_bytes)?;
        raw.print(&format!("{size}, raw"), None);
        for n_writers in WRITERS {
            let syncs_before = wal.stats().fsyncs;
            let mut measured = runtime.block_on(append(&wal, n_writers, frame_bytes))?;
            let syncs_a_frame = (wal.stats().fsyncs - syncs_before) as f64 / measured.latencies.len().max(1) as f64;
            let ratio = measured.bytes_a_second() / raw.bytes_a_second();
            measured.print(&format!("{size}, {n_writers} writers"), Some(ratio));
            println!("{:<24} {syncs_a_frame:>9.3} syncs a frame", "");
        }
    }
    runtime.block_on(wal.close());
    Ok(())
}
