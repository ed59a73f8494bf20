//! `[collect]`.

use std::collections::BTreeSet;

use crate::access::is_match;
use crate::model::parse_time;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds between two looks at a log group that is followed (10).
    pub poll_seconds: u64,
    /// How far before the last look the next one begins, in seconds (300): what comes no later than this after its own time is found at once.
    pub overlap_seconds: u64,
    /// How late events may come and still be found, in seconds: as often, twice that time is read again beside following. 0 (the default): no
    /// later than `overlap_seconds`. Rows of that time which are deleted here are pulled again. Not of sources with an `until`.
    pub late_seconds: u64,
    /// Requests of one source a second, at the most (5): AWS' own bound for an account is 10 in most regions.
    pub max_requests_per_second: u32,
    /// Seconds between two looks for new log groups (60).
    pub discover_seconds: u64,
    /// What is collected: nothing.
    pub sources: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll_seconds: 10,
            overlap_seconds: 300,
            late_seconds: 0,
            max_requests_per_second: 5,
            discover_seconds: 60,
            sources: vec![],
        }
    }
}

/// `[[collect.sources]]`: log groups of one account and region.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Its name: checkpoints are kept under it.
    pub name: String,
    /// AWS region; empty: what the AWS chain says, else `us-east-1`.
    pub region: String,
    /// Another endpoint than AWS's own, such as another tracelake's; empty: AWS.
    pub endpoint_url: String,
    /// Patterns of log groups, with `*` and `?`.
    pub log_groups: Vec<String>,
    /// Patterns of log streams; none = all.
    pub log_streams: Vec<String>,
    /// Where the backfill begins: RFC 3339, or a duration before the first start such as `14d`; empty: at the first start.
    pub since: String,
    /// Where collecting ends, RFC 3339; empty: never.
    pub until: String,
}

impl SourceConfig {
    /// Whether a log group is to be collected.
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.log_groups.iter().any(|pattern| is_match(pattern, group))
    }

    /// Whether a log stream is.
    pub(super) fn has_stream(&self, stream: &str) -> bool {
        self.log_streams.is_empty() || self.log_streams.iter().any(|pattern| is_match(pattern, stream))
    }

    /// What the patterns of log groups begin with, for asking; none that another covers.
    pub(super) fn prefixes(&self) -> Vec<String> {
        let literal = |pattern: &String| pattern.split(['*', '?']).next().unwrap_or_default().to_string();
        let all: BTreeSet<String> = self.log_groups.iter().map(literal).collect();
        let is_covered = |prefix: &String| all.iter().any(|other| other != prefix && prefix.starts_with(other.as_str()));
        all.iter().filter(|prefix| !is_covered(prefix)).cloned().collect()
    }

    /// Milliseconds of a setting; `None` if it is empty or no time.
    pub(super) fn millis(text: &str, now_millis: i64) -> Option<i64> {
        let text = text.trim();
        (!text.is_empty())
            .then(|| parse_time(text, now_millis.saturating_mul(1_000_000)).ok())
            .flatten()
            .map(|nanos| nanos.div_euclid(1_000_000))
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.poll_seconds == 0 || self.discover_seconds == 0 || self.max_requests_per_second == 0 {
            problems.push("[collect] poll_seconds, discover_seconds and max_requests_per_second must be positive".into());
        }
        let mut names = BTreeSet::new();
        for (number, source) in self.sources.iter().enumerate() {
            let mut wrong = |what: String| problems.push(format!("[[collect.sources]] number {}: {what}", number + 1));
            if source.name.is_empty() || source.name.contains('/') || source.name.len() > 100 {
                wrong(format!("name = {:?} must have 1 to 100 characters other than /", source.name));
            } else if !names.insert(&source.name) {
                wrong(format!("name = {:?} is another source's too", source.name));
            }
            if source.log_groups.is_empty() || source.log_groups.iter().any(String::is_empty) {
                wrong("log_groups needs a pattern, such as \"/aws/lambda/*\", and none that is empty".into());
            }
            for (key, text) in [("since", &source.since), ("until", &source.until)] {
                if !text.trim().is_empty() && parse_time(text, 0).is_err() {
                    wrong(format!("{key} = {text:?} is not a time: use RFC 3339, or a duration such as 14d"));
                }
            }
            if !source.endpoint_url.is_empty() && !source.endpoint_url.starts_with("http://") && !source.endpoint_url.starts_with("https://") {
                wrong(format!("endpoint_url = {:?} is no http:// or https:// address", source.endpoint_url));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(groups: &[&str], streams: &[&str]) -> SourceConfig {
        let owned = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        SourceConfig {
            name: "a".into(),
            log_groups: owned(groups),
            log_streams: owned(streams),
            ..SourceConfig::default()
        }
    }

    #[test]
    fn patterns_choose_groups_and_streams() {
        let source = source(&["/aws/lambda/*", "/aws/lambda/pay-*", "/shop/w?b", "/all"], &["2026/*"]);
        for (group, is_in) in [
            ("/aws/lambda/x", true),
            ("/shop/web", true),
            ("/shop/worker", false),
            ("/all", true),
            ("/all/1", false),
        ] {
            assert_eq!(source.has_group(group), is_in, "{group}");
        }
        assert!(source.has_stream("2026/11") && !source.has_stream("other"));
        assert_eq!(source.prefixes(), ["/all", "/aws/lambda/", "/shop/w"]);
        assert_eq!(
            SourceConfig {
                log_groups: vec!["*".into(), "/a".into()],
                ..source
            }
            .prefixes(),
            [""]
        );
    }

    #[test]
    fn mistakes_are_told() {
        let config = |source: SourceConfig| Config {
            sources: vec![source],
            ..Config::default()
        };
        assert_eq!(config(source(&["*"], &[])).problems(), [] as [&str; 0]);
        let good = || source(&["*"], &[]);
        for bad in [
            SourceConfig::default(),
            source(&[], &[]),
            source(&[""], &[]),
            SourceConfig { name: "a/b".into(), ..good() },
            SourceConfig {
                since: "long ago".into(),
                ..good()
            },
            SourceConfig {
                until: "never".into(),
                ..good()
            },
            SourceConfig {
                endpoint_url: "localhost".into(),
                ..good()
            },
        ] {
            assert!(!config(bad.clone()).problems().is_empty(), "{bad:?}");
        }
        let twice = Config {
            sources: vec![good(), good()],
            ..Config::default()
        };
        assert_eq!(twice.problems().len(), 1);
    }
}
