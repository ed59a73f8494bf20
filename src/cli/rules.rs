//! `rules check`: validates rule files offline.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Outcome, print};

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files; every mistake is listed.
    Check {
        /// Files, or folders of `*.yaml`.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

pub(crate) fn run(command: RulesCommand) -> anyhow::Result<Outcome> {
    let RulesCommand::Check { paths } = command;
    let mut outcome = Outcome::Done;
    for path in paths {
        match crate::alert::load_rules(&path) {
            Ok(rules) => print::line(&format!("{}: {} rules are valid", path.display(), rules.len())),
            Err(errors) => {
                print::error(&errors.to_string());
                outcome = Outcome::Unusable;
            }
        }
    }
    Ok(outcome)
}
