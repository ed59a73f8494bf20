//! `tracelake deliver retry`: dead letters are sent again.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;

use super::{Outcome, print};
use crate::config::Config;
use crate::deliver::{Retried, retry};

#[derive(Debug, Subcommand)]
pub(crate) enum DeliverCommand {
    /// Send dead letters again, each once over all runs; those that are not taken stay where they are. Exit code 1 if any is left.
    Retry {
        /// The file, such as ./tracelake-data/deliver/dead-letters.ndjson.
        file: PathBuf,
        /// The server's configuration file: its [deliver] endpoint_url and region count here too.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(command: DeliverCommand) -> anyhow::Result<Outcome> {
    let DeliverCommand::Retry { file, config, json } = command;
    let config = config.map_or_else(|| Ok(Config::default()), |config| Config::from_file(&config))?;
    let done = retry(&file, &config.deliver).await.with_context(|| file.display().to_string())?;
    if json {
        print::line(&serde_json::to_string_pretty(&done)?);
    } else {
        show(&done);
    }
    Ok(if done.failed + done.unreadable == 0 { Outcome::Done } else { Outcome::Failed })
}

fn show(done: &Retried) {
    print::line(&format!(
        "{} letters with {} rows sent, {} sent before, {} not taken",
        done.sent, done.rows, done.sent_before, done.failed
    ));
    for (destination, error) in &done.errors {
        print::error(&format!("{destination}: {error}"));
    }
    if let Some((number, why)) = &done.first_unreadable {
        print::error(&format!("{} lines are no letters, the first is line {number}: {why}", done.unreadable));
    }
}
