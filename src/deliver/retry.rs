//! Dead letters sent again by hand, `tracelake deliver retry FILE`.
//!
//! Letters go in the order of the file, those for one destination that follow one another in one call, through the same sinks as at
//! first. What a destination took is noted in `dead-letters.sent` beside the file, a digest of the line, on disk (fsync) before the next
//! call: who runs it again, after a crash too, sends what was not taken, and at most one call twice. The file is left as it is, since a
//! server may be writing to it, and may rename it: what was not taken is still in it.
//!
//! A note is 32 hexadecimal digits and a newline. All are dropped at a run of a `.ndjson` file, as servers write them, once no such file of the
//! folder has any letter that they are of. A run of a file of another name, a copy say, drops none: which others hold letters, nothing tells.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::sink::{AwsSinks, Destination, MAX_CALL_BYTES, MAX_CALL_RECORDS, Record, Remedy, Sinks};
use super::{Config, dead};
use crate::aws::wait_after;

/// Times that a call is tried whose fault may pass by itself.
const TRIES: u32 = 5;
/// Bytes of a note.
const NOTE_BYTES: usize = 33;

/// What became of a file's letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retried {
    /// Letters that were taken now.
    pub sent: u64,
    /// Rows in them.
    pub rows: u64,
    /// Letters that an earlier run had sent.
    pub sent_before: u64,
    /// Letters that were not taken; they are still in the file.
    pub failed: u64,
    /// What each destination that did not take some said last.
    pub errors: BTreeMap<String, String>,
    /// Lines that are no letters, or are being written.
    pub unreadable: u64,
    /// The first of them, counted from 1, and what is wrong with it.
    pub first_unreadable: Option<(u64, String)>,
}

/// Sends the letters of a file that were not sent before, to AWS or the address of these settings. Fails where the file, or the notes
/// beside it, cannot be read or written, and while another run is at it.
pub async fn retry(file: &Path, config: &Config) -> std::io::Result<Retried> {
    Retry::open(file, Arc::new(AwsSinks::new(config)), 1.0)?.run(file).await
}

/// A letter on its way.
#[derive(Debug)]
struct Letter {
    digest: u128,
    record: Record,
}

#[derive(Debug)]
struct Retry {
    sinks: Arc<dyn Sinks>,
    notes: Notes,
    /// Those that took nothing: their other letters are not tried.
    away: HashSet<Destination>,
    wait_scale: f64,
    done: Retried,
}

impl Retry {
    fn open(file: &Path, sinks: Arc<dyn Sinks>, wait_scale: f64) -> std::io::Result<Self> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Ok(Self {
            sinks,
            notes: Notes::open(folder, is_of_server(file))?,
            away: HashSet::new(),
            wait_scale,
            done: Retried::default(),
        })
    }

    async fn run(mut self, file: &Path) -> std::io::Result<Retried> {
        let mut lines = BufReader::new(File::open(file)?);
        let mut line = Vec::new();
        let mut call: Option<(Destination, Vec<Letter>)> = None;
        let (mut bytes, mut number) = (0, 0);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let digest = xxh3_128(&line);
            if self.notes.has(digest) {
                self.done.sent_before += 1;
                continue;
            }
            let read = match line.strip_suffix(b"\n") {
                Some(line) => dead::read(line),
                None => Err("it is not whole: it may be being written".into()),
            };
            let (destination, record) = match read {
                Ok(letter) => letter,
                Err(why) => {
                    self.done.unreadable += 1;
                    self.done.first_unreadable.get_or_insert((number, why));
                    continue;
                }
            };
            let fits = |(known, letters): &(Destination, Vec<Letter>)| {
                *known == destination && letters.len() < MAX_CALL_RECORDS && bytes + record.bytes() <= MAX_CALL_BYTES
            };
            if !call.as_ref().is_some_and(fits) {
                if let Some((destination, letters)) = call.take() {
                    self.send(&destination, letters).await?;
                }
                bytes = 0;
            }
            bytes += record.bytes();
            let (_, letters) = call.get_or_insert_with(|| (destination, Vec::new()));
            letters.push(Letter { digest, record });
        }
        if let Some((destination, letters)) = call {
            self.send(&destination, letters).await?;
        }
        Ok(self.done)
    }

    async fn send(&mut self, destination: &Destination, letters: Vec<Letter>) -> std::io::Result<()> {
        let sink = self.sinks.open(destination).await;
        let mut calls = VecDeque::from([letters]);
        let mut tries = 0;
        while let Some(call) = calls.pop_front() {
            if self.away.contains(destination) {
                self.done.failed += call.len() as u64;
                continue;
            }
            let records: Vec<Record> = call.iter().map(|letter| letter.record.clone()).collect();
            let (mut failed, fault) = match sink.put(&records).await {
                Ok(taken) => {
                    let (mut failed, mut fault) = (Vec::new(), None);
                    for (letter, result) in call.into_iter().zip(taken) {
                        match result {
                            Ok(()) => {
                                self.notes.add(letter.digest)?;
                                self.done.sent += 1;
                                self.done.rows += letter.record.rows;
                                tries = 0;
                            }
                            Err(why) => {
                                failed.push(letter);
                                fault = Some(why);
                            }
                        }
                    }
                    self.notes.sync()?;
                    (failed, fault)
                }
                Err(fault) => (call, Some(fault)),
            };
            let Some(fault) = fault else { continue };
            match fault.remedy {
                Remedy::Nothing if failed.len() > 1 => {
                    // which of them is wrong, the destination does not say
                    let second = failed.split_off(failed.len() / 2);
                    calls.push_front(second);
                    calls.push_front(failed);
                    continue;
                }
                Remedy::Retry if tries + 1 < TRIES => {
                    tries += 1;
                    tokio::time::sleep(wait_after(tries, true).mul_f64(self.wait_scale)).await;
                    calls.push_front(failed);
                    continue;
                }
                Remedy::Retry | Remedy::Mend => {
                    self.away.insert(destination.clone());
                }
                Remedy::Nothing => {}
            }
            self.done.failed += failed.len() as u64;
            self.done.errors.insert(destination.to_string(), fault.message);
        }
        Ok(())
    }
}

/// Whether a file has the name of those that servers write.
fn is_of_server(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "ndjson")
}

/// Which letters were taken.
#[derive(Debug)]
struct Notes {
    file: File,
    sent: HashSet<u128>,
}

impl Notes {
    /// Those of a folder; `may_drop` says whether its `.ndjson` files are all that they can be of.
    fn open(folder: &Path, may_drop: bool) -> std::io::Result<Notes> {
        let path = folder.join("dead-letters.sent");
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::new(ErrorKind::WouldBlock, format!("another run has {} open", path.display()))),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // a crash may have left half a note
        bytes.truncate(bytes.len() - bytes.len() % NOTE_BYTES);
        file.set_len(bytes.len() as u64)?;
        let damaged = || {
            Error::new(
                ErrorKind::InvalidData,
                format!("{} is damaged: remove it, and all letters are sent again", path.display()),
            )
        };
        let mut sent = HashSet::new();
        for note in bytes.chunks_exact(NOTE_BYTES) {
            let digits = note.strip_suffix(b"\n").and_then(|digits| std::str::from_utf8(digits).ok());
            sent.insert(digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or_else(damaged)?);
        }
        let mut notes = Notes { file, sent };
        if may_drop && !notes.sent.is_empty() && !notes.are_of_any_file(folder)? {
            notes.file.set_len(0)?;
            notes.sent.clear();
        }
        Ok(notes)
    }

    fn are_of_any_file(&self, folder: &Path) -> std::io::Result<bool> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if !is_of_server(&path) {
                continue;
            }
            let mut lines = BufReader::new(File::open(path)?);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                if self.has(xxh3_128(&line)) {
                    return Ok(true);
                }
                line.clear();
            }
        }
        Ok(false)
    }

    fn has(&self, digest: u128) -> bool {
        self.sent.contains(&digest)
    }

    fn add(&mut self, digest: u128) -> std::io::Result<()> {
        self.sent.insert(digest);
        self.file.write_all(format!("{digest:032x}\n").as_bytes())
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests;
