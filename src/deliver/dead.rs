//! Dead letters: records that no destination will take, one line of JSON each, for a person to look at.
//!
//! | member | |
//! |---|---|
//! | `time` | when it was given up |
//! | `job`, `destination` | whose it was, and where it was to go |
//! | `reason` | `refused`: the destination will not have it; `too_large`: none would; `too_old`: tried for `[deliver] give_up_hours` |
//! | `error` | what the destination said last |
//! | `rows` | how many |
//! | `data` | the record as it was to arrive, in base64 |
//! | `partition_key`; `region`, `own_region`, `endpoint_url` | what else sending it again needs ([`super::retry`]); the last two only if its job has its own |
//!
//! A line is on disk (fsync) before the checkpoint passes its rows. `dead-letters.ndjson` is renamed to `dead-letters.1.ndjson` when
//! it holds half of what both may, and replaces the one before. A letter that cannot be written is counted and logged; the rows
//! themselves are still in the lake. Nothing is left of a line that found no room.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::sink::{Destination, Record, Service};
use super::{envelope, metrics};
use crate::model::format_time;

/// One that nobody takes.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) job: String,
    pub(super) destination: Destination,
    pub(super) reason: &'static str,
    pub(super) error: String,
    pub(super) record: Record,
}

/// A line of the file; what older ones lack is empty.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    time: String,
    job: String,
    destination: String,
    reason: String,
    error: String,
    rows: u64,
    partition_key: String,
    region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    own_region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    endpoint_url: String,
    data: String,
}

impl Line {
    fn of(letter: &Letter, now_nanos: i64) -> Line {
        let (destination, record) = (&letter.destination, &letter.record);
        Line {
            time: format_time(now_nanos),
            job: letter.job.clone(),
            destination: destination.to_string(),
            reason: letter.reason.to_string(),
            error: letter.error.clone(),
            rows: record.rows,
            partition_key: record.partition_key.clone(),
            region: destination.region.clone(),
            own_region: destination.own_region.clone(),
            endpoint_url: destination.own_endpoint_url.clone(),
            data: STANDARD.encode(&record.data),
        }
    }
}

/// The record of a line, and where it was to go; why it is none.
pub(super) fn read(line: &[u8]) -> Result<(Destination, Record), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let (service, stream) = line.destination.split_once(':').unwrap_or_default();
    let service = [Service::Firehose, Service::Kinesis].into_iter().find(|known| known.name() == service);
    let Some(service) = service.filter(|_| !stream.is_empty()) else {
        return Err(format!("its destination is {:?}, expected firehose:STREAM or kinesis:STREAM", line.destination));
    };
    let data = STANDARD.decode(&line.data).map_err(|error| format!("its data is no base64: {error}"))?;
    if data.is_empty() {
        return Err("it has no data".into());
    }
    let destination = Destination {
        service,
        stream: stream.to_string(),
        account: String::new(),
        region: line.region,
        own_region: line.own_region,
        own_endpoint_url: line.endpoint_url,
    };
    let partition_key = match line.partition_key {
        key if key.is_empty() => envelope::partition_key("", true),
        key => key,
    };
    let record = Record {
        data: data.into(),
        partition_key,
        rows: line.rows,
        newest_nanos: 0,
    };
    Ok((destination, record))
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct DeadLetters {
    folder: PathBuf,
    max_bytes: u64,
    writing: Arc<Mutex<()>>,
}

impl DeadLetters {
    pub(super) fn new(folder: &Path, max_bytes: u64) -> Self {
        Self {
            folder: folder.to_path_buf(),
            max_bytes,
            writing: Arc::default(),
        }
    }

    /// Writes letters to their end, off the runtime.
    pub(super) async fn write(&self, letters: Vec<Letter>, now_nanos: i64) {
        if letters.is_empty() {
            return;
        }
        let (file, n) = (self.clone(), letters.len());
        let written = tokio::task::spawn_blocking(move || file.append(&letters, now_nanos)).await;
        let failed = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        (0..n).for_each(|_| metrics::letter_lost());
        tracing::error!(error = failed, letters = n, "dead letters could not be written");
    }

    fn append(&self, letters: &[Letter], now_nanos: i64) -> std::io::Result<()> {
        let _one_at_a_time = self.writing.lock();
        std::fs::create_dir_all(&self.folder)?;
        let path = self.folder.join("dead-letters.ndjson");
        for letter in letters {
            let mut line = serde_json::to_string(&Line::of(letter, now_nanos))?;
            line.push('\n');
            let mut so_far = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            if so_far > 0 && so_far + line.len() as u64 > self.max_bytes / 2 {
                tracing::warn!(folder = %self.folder.display(), "the oldest dead letters go: [deliver] max_dead_letter_bytes is reached");
                std::fs::rename(&path, self.folder.join("dead-letters.1.ndjson"))?;
                so_far = 0;
            }
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
            whole_or_not_at_all(&mut file, so_far, |file| file.write_all(line.as_bytes()).and_then(|()| file.sync_data()))?;
        }
        Ok(())
    }
}

/// Takes back what a write left that failed half-way, as on a full disk: the next line would else become a part of it.
fn whole_or_not_at_all(file: &mut File, so_far: u64, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    write(file).inspect_err(|_| {
        // a file that cannot be made shorter either has what it has
        let _ = file.set_len(so_far);
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn letter(data: &[u8]) -> Letter {
        Letter {
            job: "j".into(),
            destination: Destination {
                own_region: "eu-west-1".into(),
                ..Destination::of_arn("arn:aws:firehose:us-east-1:1:deliverystream/f").expect("a stream")
            },
            reason: "refused",
            error: "no".into(),
            record: Record {
                data: data.to_vec().into(),
                partition_key: "k".into(),
                rows: 3,
                newest_nanos: 0,
            },
        }
    }

    #[test]
    fn a_line_reads_back_as_what_is_to_be_sent() {
        let sent = letter(b"first");
        let line = serde_json::to_vec(&Line::of(&sent, 0)).expect("JSON");
        let (destination, record) = read(&line).expect("a letter");
        let expected = Destination {
            account: String::new(),
            ..sent.destination
        };
        assert_eq!((destination, record), (expected, sent.record));
        // one of before there were these members
        let (destination, record) =
            read(br#"{"time":"","job":"j","destination":"kinesis:k","reason":"refused","error":"","rows":2,"data":"eA=="}"#).expect("a letter");
        assert_eq!(
            (destination.to_string().as_str(), record.data.as_ref(), record.rows),
            ("kinesis:k", &b"x"[..], 2)
        );
        assert_eq!(record.partition_key.len(), 32);
        for (line, word) in [
            (r#"{"destination":"kinesis:k","data":"#, "EOF"),
            (r#"{"destination":"lambda:k","data":"eA=="}"#, "expected firehose:STREAM"),
            (r#"{"destination":"kinesis:","data":"eA=="}"#, "expected firehose:STREAM"),
            (r#"{"destination":"kinesis:k","data":"?"}"#, "no base64"),
            (r#"{"destination":"kinesis:k"}"#, "no data"),
            ("{}", "its destination is"),
        ] {
            let said = read(line.as_bytes()).expect_err(line);
            assert!(said.contains(word), "{line}: {said}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_line_that_found_no_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dead-letters.ndjson");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("open");
        whole_or_not_at_all(&mut file, 0, |file| file.write_all(b"whole\n")).expect("written");
        let failed = whole_or_not_at_all(&mut file, 6, |file| {
            file.write_all(b"ha")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.expect_err("full").kind(), std::io::ErrorKind::StorageFull);
        whole_or_not_at_all(&mut file, 6, |file| file.write_all(b"next\n")).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "whole\nnext\n");
    }

    #[tokio::test]
    async fn letters_are_lines_and_the_oldest_go_at_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let dead = DeadLetters::new(folder.path(), 2_000);
        dead.write(vec![letter(b"first"), letter(&[255, 0])], 0).await;
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let lines: Vec<serde_json::Value> = read("dead-letters.ndjson")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(
            (lines.len(), &lines[0]["rows"], &lines[0]["data"]),
            (2, &json!(3), &json!(STANDARD.encode("first")))
        );
        assert_eq!(
            (lines[1]["reason"].as_str(), lines[1]["destination"].as_str()),
            (Some("refused"), Some("firehose:f"))
        );
        for n in 0..40u8 {
            dead.write(vec![letter(&[n; 90])], 0).await;
        }
        let (now, before) = (read("dead-letters.ndjson"), read("dead-letters.1.ndjson"));
        assert!(
            now.len() + before.len() <= 2_000 && !before.is_empty(),
            "{} and {} bytes",
            now.len(),
            before.len()
        );
        assert!(now.contains(&STANDARD.encode([39; 90])), "the newest stays");
    }
}
