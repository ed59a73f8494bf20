//! `rules check`: validates rule files offline.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::{Outcome, print};
use crate::alert::engine::check_query;
use crate::alert::rule::{self, Mistake, Mistakes, Rule};

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
        let (rules, mistakes) = if path.is_dir() { rule::load(&path, &check_query) } else { one(&path)? };
        print::line(&format!("{}: {} rules are valid, {} mistakes", path.display(), rules.len(), mistakes.len()));
        if !mistakes.is_empty() {
            print::error(&Mistakes(mistakes).to_string());
            outcome = Outcome::Unusable;
        }
    }
    Ok(outcome)
}

fn one(path: &Path) -> anyhow::Result<(Vec<Rule>, Vec<Mistake>)> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(match rule::parse(&path.display().to_string(), &text, &check_query) {
        Ok(rule) => (vec![rule], vec![]),
        Err(mistakes) => (vec![], mistakes.0),
    })
}
