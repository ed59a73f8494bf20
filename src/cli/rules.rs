//! `rules check`: validates rule files offline.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

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
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: RulesCommand) -> anyhow::Result<Outcome> {
    let RulesCommand::Check { paths, json } = command;
    let mut checked = Vec::with_capacity(paths.len());
    for path in paths {
        let (rules, mistakes) = if path.is_dir() { rule::load(&path, &check_query) } else { one(&path)? };
        checked.push((path, rules, mistakes));
    }
    let is_valid = checked.iter().all(|(_, _, mistakes)| mistakes.is_empty());
    if json {
        print::line(&serde_json::to_string_pretty(&to_json(&checked, is_valid))?);
    } else {
        for (path, rules, mistakes) in checked {
            print::line(&format!("{}: {} rules are valid, {} mistakes", path.display(), rules.len(), mistakes.len()));
            if !mistakes.is_empty() {
                print::error(&Mistakes(mistakes).to_string());
            }
        }
    }
    Ok(if is_valid { Outcome::Done } else { Outcome::Unusable })
}

fn to_json(checked: &[(PathBuf, Vec<Rule>, Vec<Mistake>)], is_valid: bool) -> Value {
    let paths: Vec<Value> = checked
        .iter()
        .map(|(path, rules, mistakes)| {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            let mistakes: Vec<Value> = mistakes
                .iter()
                .map(|mistake| json!({ "file": mistake.file, "field": mistake.field, "message": mistake.message }))
                .collect();
            json!({ "path": path, "rules": names, "mistakes": mistakes })
        })
        .collect();
    json!({ "valid": is_valid, "paths": paths })
}

fn one(path: &Path) -> anyhow::Result<(Vec<Rule>, Vec<Mistake>)> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(match rule::parse(&path.display().to_string(), &text, &check_query) {
        Ok(rule) => (vec![rule], vec![]),
        Err(mistakes) => (vec![], mistakes.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_check_names_rules_and_mistakes() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("good.yaml"), include_str!("../../config/rules/payment-errors.yaml")).expect("written");
        std::fs::write(folder.path().join("bad.yaml"), "name: bad\nnosuch: 1\n").expect("written");
        let (rules, mistakes) = rule::load(folder.path(), &check_query);
        let answer = to_json(&[(folder.path().to_path_buf(), rules, mistakes)], false);
        assert_eq!(answer["paths"][0]["rules"].as_array().map(Vec::len), Some(1));
        let mistakes = answer["paths"][0]["mistakes"].as_array().expect("a list");
        assert!(
            mistakes
                .iter()
                .any(|mistake| mistake["file"].as_str().is_some_and(|file| file.contains("bad.yaml")))
        );
    }
}
