//! `wal inspect` and `wal verify`: look into the log without changing anything, also beside a running server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Outcome, print};
use crate::decode::Kind;
use crate::ingest::{COUNTS_FRAME, STATE_FRAME};
use crate::model::format_time;
use crate::wal::{self, Lsn};

/// A running server deletes segments that blocks cover; when one goes while it is read, the reading starts again.
const TRIES: usize = 5;

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Count the log's frames by kind. Changes nothing, also beside a running server.
    Inspect(WalArgs),
    /// Say whether all of the log can be read: exit code 0, or 1 if frames are missing or damaged. Changes nothing.
    Verify(WalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WalArgs {
    /// The server's data folder, or the log's folder in it.
    #[arg(default_value = "./tracelake-data")]
    folder: PathBuf,
    /// Only frames above this position.
    #[arg(long, default_value_t = 0)]
    after: Lsn,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a log holds.
#[derive(Debug, Default, serde::Serialize)]
struct Survey {
    folder: PathBuf,
    /// Whether every frame between the first and the last can be read.
    is_whole: bool,
    frames: u64,
    payload_bytes: u64,
    first_lsn: Option<Lsn>,
    last_lsn: Option<Lsn>,
    oldest_received: Option<String>,
    newest_received: Option<String>,
    kinds: Vec<OfKind>,
    /// A frame at the end that is not whole: cut short by a crash, or being written right now. Never acknowledged.
    torn_frames: u64,
    corrupt_frames: u64,
    /// Segments that could not be read at all, and why.
    unreadable: Vec<String>,
}

#[derive(Debug, Default, PartialEq, serde::Serialize)]
struct OfKind {
    kind: u8,
    name: String,
    frames: u64,
    payload_bytes: u64,
}

pub(crate) fn run(command: WalCommand) -> anyhow::Result<Outcome> {
    let (args, is_verify) = match command {
        WalCommand::Inspect(args) => (args, false),
        WalCommand::Verify(args) => (args, true),
    };
    let inner = args.folder.join("wal");
    let folder = if inner.is_dir() { inner } else { args.folder };
    let survey = survey(&folder, args.after)?;
    if args.json {
        print::line(&serde_json::to_string_pretty(&survey)?);
    } else {
        show(&survey, is_verify);
    }
    Ok(if is_verify && !survey.is_whole { Outcome::Failed } else { Outcome::Done })
}

fn survey(folder: &Path, after: Lsn) -> anyhow::Result<Survey> {
    let mut tries = 1;
    loop {
        let (survey, has_vanished) = survey_once(folder, after)?;
        if !has_vanished || tries == TRIES {
            return Ok(survey);
        }
        tries += 1;
    }
}

/// Reads the log once; also says whether a segment went while it was read.
fn survey_once(folder: &Path, after: Lsn) -> anyhow::Result<(Survey, bool)> {
    let mut replay = wal::inspect(folder, after).with_context(|| format!("cannot read the log in {}", folder.display()))?;
    let mut survey = Survey {
        folder: folder.to_path_buf(),
        torn_frames: replay.torn_frames_cut,
        ..Survey::default()
    };
    let mut kinds: BTreeMap<u8, OfKind> = BTreeMap::new();
    let (mut has_vanished, mut received) = (false, None);
    for next in &mut replay {
        let (lsn, frame) = match next {
            Ok(next) => next,
            Err(error) => {
                has_vanished |= matches!(&error, wal::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
                survey.unreadable.push(error.to_string());
                continue;
            }
        };
        let bytes = frame.payload.len() as u64;
        survey.first_lsn.get_or_insert(lsn);
        survey.last_lsn = Some(lsn);
        survey.frames += 1;
        survey.payload_bytes += bytes;
        let at = frame.received_at_nanos;
        received = Some(received.map_or((at, at), |(first, last): (i64, i64)| (first.min(at), last.max(at))));
        let of_kind = kinds.entry(frame.kind).or_insert_with(|| OfKind {
            kind: frame.kind,
            name: kind_name(frame.kind),
            ..OfKind::default()
        });
        of_kind.frames += 1;
        of_kind.payload_bytes += bytes;
    }
    survey.corrupt_frames = replay.corrupt_frames;
    survey.is_whole = survey.corrupt_frames == 0 && survey.unreadable.is_empty();
    survey.oldest_received = received.map(|(first, _)| format_time(first));
    survey.newest_received = received.map(|(_, last)| format_time(last));
    survey.kinds = kinds.into_values().collect();
    Ok((survey, has_vanished))
}

/// `OtlpLogsJson` as `otlp_logs_json`.
fn kind_name(kind: u8) -> String {
    match kind {
        STATE_FRAME => return "state".into(),
        COUNTS_FRAME => return "counts".into(),
        _ => {}
    }
    let Some(kind) = Kind::from_u8(kind) else {
        return "unknown".into();
    };
    let mut name = String::new();
    for character in format!("{kind:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

fn show(survey: &Survey, is_verify: bool) {
    let place = |lsn: Option<Lsn>| lsn.map_or("-".into(), |lsn| lsn.to_string());
    print::line(&format!(
        "{}: {} frames, {} payload bytes, positions {} to {}",
        survey.folder.display(),
        survey.frames,
        survey.payload_bytes,
        place(survey.first_lsn),
        place(survey.last_lsn)
    ));
    if !is_verify {
        for of_kind in &survey.kinds {
            print::line(&format!(
                "  {:<18} {:>12} frames {:>16} bytes",
                of_kind.name, of_kind.frames, of_kind.payload_bytes
            ));
        }
        if let (Some(oldest), Some(newest)) = (&survey.oldest_received, &survey.newest_received) {
            print::line(&format!("  received {oldest} to {newest}"));
        }
    }
    if survey.torn_frames > 0 {
        print::error("the last frame is not whole: cut short by a crash, or being written right now; it was never acknowledged");
    }
    if survey.corrupt_frames > 0 {
        print::error(&format!("{} frames are damaged or missing", survey.corrupt_frames));
    }
    survey.unreadable.iter().for_each(|problem| print::error(problem));
    if is_verify && survey.is_whole {
        print::line("every frame can be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Config, Frame, Wal};

    fn frame(kind: u8, payload: &'static str) -> Frame {
        Frame {
            kind,
            flags: 0,
            source: 0,
            received_at_nanos: 1_795_323_600_000_000_000,
            payload: payload.into(),
        }
    }

    fn verify(folder: &Path) -> Outcome {
        let args = WalArgs {
            folder: folder.to_path_buf(),
            after: 0,
            json: false,
        };
        run(WalCommand::Verify(args)).expect("a log")
    }

    #[tokio::test]
    async fn a_log_is_surveyed_beside_its_owner_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("wal");
        let (wal, _) = Wal::open(&dir, &Config::default(), 0).expect("a log");
        for frame in [frame(1, "four"), frame(1, "five!"), frame(STATE_FRAME, "x"), frame(99, "")] {
            wal.append(frame).await.expect("appended");
        }
        let found = survey(&dir, 0).expect("a survey");
        assert_eq!((found.frames, found.payload_bytes, found.first_lsn, found.last_lsn), (4, 10, Some(1), Some(4)));
        let kinds: Vec<_> = found.kinds.iter().map(|of| (of.name.as_str(), of.frames, of.payload_bytes)).collect();
        assert_eq!(kinds, [("otlp_logs", 2, 9), ("unknown", 1, 0), ("state", 1, 1)]);
        assert!(found.is_whole && found.torn_frames == 0);
        assert_eq!(survey(&dir, 2).expect("a survey").frames, 2);
        // by the data folder too
        assert_eq!(verify(folder.path()), Outcome::Done);
        wal.close().await;

        let segment = dir.join("00000000000000000001.wal");
        let mut bytes = std::fs::read(&segment).expect("a segment");
        // in the payload of the first frame
        bytes[64 + 32] ^= 1;
        std::fs::write(&segment, &bytes).expect("written");
        let found = survey(&dir, 0).expect("a survey");
        assert_eq!((found.frames, found.corrupt_frames, found.is_whole), (3, 1, false));
        assert_eq!(verify(folder.path()), Outcome::Failed);
        assert_eq!(std::fs::read(&segment).expect("a segment"), bytes, "nothing is changed");
        assert!(!dir.join("quarantine").exists());
        assert!(survey(&folder.path().join("nothing"), 0).is_err());
    }
}
