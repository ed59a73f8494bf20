//! How far each source is, for people.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Log groups of a source that are shown one by one: those that are furthest behind.
const MAX_SHOWN: usize = 100;

/// What a log group is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// History is pulled.
    #[default]
    Backfill,
    /// It is near now.
    Follow,
    /// It reached `until`.
    Done,
    /// An error that does not pass by itself.
    Failing,
}

/// One log group.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct GroupStatus {
    /// Its name.
    pub log_group: String,
    /// What it is doing.
    pub stage: Stage,
    /// All before this is kept, milliseconds since the epoch.
    pub position_millis: i64,
    /// How much of the time to be pulled is done, 0 to 100.
    pub percent: f64,
    /// Events kept since its checkpoint began.
    pub events: u64,
    /// What is wrong, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Its log groups by what they are doing.
    pub n_backfill: usize,
    /// The same.
    pub n_follow: usize,
    /// The same.
    pub n_done: usize,
    /// The same.
    pub n_failing: usize,
    /// Mean of its log groups' `percent`.
    pub percent: f64,
    /// Since the start of the server: requests, and what became of them.
    pub requests: u64,
    /// … of them turned away for being too many.
    pub throttled: u64,
    /// … of them failed otherwise.
    pub failed: u64,
    /// Events kept.
    pub kept: u64,
    /// Events fetched that were kept before.
    pub known: u64,
    /// What is wrong now with the source as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Those furthest behind.
    pub log_groups: Vec<GroupStatus>,
}

/// A source and its log groups.
type Known = (SourceStatus, BTreeMap<String, GroupStatus>);

/// Where collectors write and the status reads.
#[derive(Debug, Default)]
pub struct Board {
    sources: Mutex<BTreeMap<String, Known>>,
}

impl Board {
    /// Every source.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.sources.lock().values().map(|(source, groups)| shown(source, groups)).collect()
    }

    pub(super) fn source(&self, name: &str, change: impl FnOnce(&mut SourceStatus)) {
        let mut sources = self.sources.lock();
        let (source, _) = sources.entry(name.to_string()).or_default();
        source.name = name.to_string();
        change(source);
    }

    pub(super) fn group(&self, name: &str, group: GroupStatus) {
        let mut sources = self.sources.lock();
        let (_, groups) = sources.entry(name.to_string()).or_default();
        groups.insert(group.log_group.clone(), group);
    }

    pub(super) fn forget_group(&self, name: &str, group: &str) {
        if let Some((_, groups)) = self.sources.lock().get_mut(name) {
            groups.remove(group);
        }
    }
}

fn shown(source: &SourceStatus, groups: &BTreeMap<String, GroupStatus>) -> SourceStatus {
    let n = |stage: Stage| groups.values().filter(|group| group.stage == stage).count();
    let mut log_groups: Vec<GroupStatus> = groups.values().cloned().collect();
    let percent = log_groups.iter().map(|group| group.percent).sum::<f64>() / log_groups.len().max(1) as f64;
    log_groups.sort_by_key(|group| group.position_millis);
    log_groups.truncate(MAX_SHOWN);
    SourceStatus {
        n_backfill: n(Stage::Backfill),
        n_follow: n(Stage::Follow),
        n_done: n(Stage::Done),
        n_failing: n(Stage::Failing),
        percent: (percent * 10.0).round() / 10.0,
        log_groups,
        ..source.clone()
    }
}
