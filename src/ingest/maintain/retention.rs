//! How long rows are kept: in all, by table, and by what their log group or service is.
//!
//! Of a row of `logs` or `spans`, the first rule that matches its log group and service counts; without one, the retention
//! that `PutRetentionPolicy` set for its log group; without that, its table's days, and then those of all tables.
//!
//! A block whose rows have all expired by the longest of these is removed unread. One that is older than the shortest is
//! opened: the contexts of its index say which groups and services it has. Rows go when the whole block is older than they
//! are kept, so that a block is rewritten once for each different number of days, and never twice within a day (unless
//! the rules change); blocks that wait to be merged or sealed are left to that. A row is therefore kept up to an hour
//! longer than it says (in tables kept by day, a day), and a round.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use parking_lot::Mutex;

use super::{Error, MERGE_NICENESS, Maintainer, Points, Report, Rewritten, Step};
use crate::block::{self, Block, BlockId, BlockMeta, IndexQuery, Level, Pattern};
use crate::catalog::{Commit, CommitKind};
use crate::fail_point;
use crate::model::{Context, Table, from_stored};
use crate::supervise;

const DAY_NANOS: i64 = 24 * 3_600_000_000_000;
/// Blocks that one retention record removes.
const MAX_EXPIRED_PER_RECORD: usize = 1000;
/// Blocks that one round opens to see what has expired in them.
const MAX_OPENED_PER_ROUND: usize = 100;

const POINTS: Points = Points {
    announced: "retention.after_announcement",
    index_put: "retention.after_index_put",
    parquet_put: "retention.after_parquet_put",
    committed: "retention.after_commit",
};

/// `[retention]`: how long rows are kept; each with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Days that rows are kept; 0 = for ever (0).
    pub days: u32,
    /// The same by table (none).
    pub tables: BTreeMap<Table, u32>,
    /// Rules for rows of `logs` and `spans`; the first that matches counts, before the above (none).
    pub rules: Vec<Rule>,
    /// Whether the retention that `PutRetentionPolicy` sets for a log group counts, where no rule matches (true).
    pub log_group_policies: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            days: 0,
            tables: BTreeMap::new(),
            rules: Vec::new(),
            log_group_policies: true,
        }
    }
}

/// Rows of these log groups and services are kept so long.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only of this table; without it, of `logs` and `spans`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
    /// Log groups: `*` and `?` stand for any characters, or one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
    /// Services, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Days; 0 = for ever.
    pub days: u32,
}

impl Config {
    /// What is wrong with the values taken together.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if rule.log_group.is_none() && rule.service.is_none() {
                problems.push(format!("[retention] rules: rule {} names neither log_group nor service", number + 1));
            }
            if let Some(table) = rule.table.filter(|table| !table.is_searchable()) {
                problems.push(format!("[retention] rules: rule {}: rows of {} have neither", number + 1, table.name()));
            }
        }
        problems
    }
}

/// Knows the retention that log groups have by themselves.
pub trait LogGroups: Send + Sync + std::fmt::Debug {
    /// Log groups with a retention, and its days.
    fn retention_days(&self) -> Vec<(String, u32)>;
}

/// The settings, and what was found out by them.
#[derive(Debug)]
pub(super) struct Retention {
    config: Config,
    log_groups: Arc<dyn LogGroups>,
    settled: Mutex<Settled>,
}

/// Blocks that were looked at.
#[derive(Debug, Default)]
struct Settled {
    /// By which rules.
    by: Option<Arc<Keeping>>,
    /// Up to how many days of age they have nothing left to expire.
    days: HashMap<BlockId, u32>,
}

impl Retention {
    pub(super) fn new(config: Config, log_groups: Arc<dyn LogGroups>) -> Self {
        Self {
            config,
            log_groups,
            settled: Mutex::default(),
        }
    }

    /// The rules as they are now; what was found out by others is forgotten.
    fn now(&self) -> Arc<Keeping> {
        let policies = match self.config.log_group_policies {
            true => self.log_groups.retention_days(),
            false => Vec::new(),
        };
        let keeping = Keeping::new(&self.config, policies);
        let mut settled = self.settled.lock();
        match &settled.by {
            Some(known) if known.says == keeping.says => Arc::clone(known),
            _ => {
                let keeping = Arc::new(keeping);
                *settled = Settled {
                    by: Some(Arc::clone(&keeping)),
                    days: HashMap::new(),
                };
                keeping
            }
        }
    }
}

/// What is compared to see whether rules have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Says {
    config: Config,
    policies: BTreeMap<String, u32>,
}

/// How long which rows are kept.
#[derive(Debug)]
pub(super) struct Keeping {
    says: Says,
    rules: Vec<(Option<Pattern>, Option<Pattern>)>,
}

impl Keeping {
    fn new(config: &Config, policies: Vec<(String, u32)>) -> Self {
        let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
        Self {
            rules: config.rules.iter().map(|rule| (pattern(&rule.log_group), pattern(&rule.service))).collect(),
            says: Says {
                config: config.clone(),
                policies: policies.into_iter().collect(),
            },
        }
    }

    fn days_of_table(&self, table: Table) -> u32 {
        let config = &self.says.config;
        config.tables.get(&table).copied().unwrap_or(config.days)
    }

    fn rules_of(&self, table: Table) -> impl Iterator<Item = (&Rule, &(Option<Pattern>, Option<Pattern>))> {
        let rules = self.says.config.rules.iter().zip(&self.rules);
        rules.filter(move |(rule, _)| table.is_searchable() && rule.table.is_none_or(|of| of == table))
    }

    /// Days that rows of a context are kept; 0 = for ever.
    fn days_of(&self, table: Table, context: &Context) -> u32 {
        let (log_group, service) = (context.column("aws_log_group"), context.column("service_name"));
        let is_like = |pattern: &Option<Pattern>, text: Option<&str>| pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.matches(text)));
        let mut rules = self.rules_of(table);
        if let Some((rule, _)) = rules.find(|(_, (groups, services))| is_like(groups, log_group) && is_like(services, service)) {
            return rule.days;
        }
        let policy = log_group.and_then(|log_group| self.says.policies.get(log_group));
        policy.copied().unwrap_or_else(|| self.days_of_table(table))
    }

    /// All numbers of days that rows of a table may be kept.
    fn all_days(&self, table: Table) -> BTreeSet<u32> {
        let mut days: BTreeSet<u32> = self.rules_of(table).map(|(rule, _)| rule.days).collect();
        if table.is_searchable() {
            days.extend(self.says.policies.values());
        }
        days.insert(self.days_of_table(table));
        days
    }

    /// The age, in whole days, from which nothing of a table is kept.
    fn longest(&self, table: Table) -> Option<u32> {
        let days = self.all_days(table);
        if days.contains(&0) { None } else { days.last().copied() }
    }

    /// The highest number of days that a block of this age has outlived, if any.
    fn outlived(&self, table: Table, age_days: u32) -> Option<u32> {
        self.all_days(table).into_iter().rfind(|days| (1..=age_days).contains(days))
    }

    /// Whether rows of a context have expired in a block that is so old.
    pub(super) fn is_expired(&self, table: Table, context: &Context, age_days: u32) -> bool {
        let days = self.days_of(table, context);
        days > 0 && days <= age_days
    }

    /// The rows of a block that have expired, as bits.
    pub(super) fn expired_rows(&self, block: &Block, age_days: u32) -> block::Result<BooleanBuffer> {
        let (table, n_rows) = (block.meta().table, block.n_rows());
        if let Some(index) = block.index() {
            let contexts = (0u32..).zip(index.contexts());
            let expired = contexts
                .filter(|(_, context)| self.is_expired(table, context, age_days))
                .map(|(number, _)| number);
            return index.bitmap(&IndexQuery::Contexts(expired.collect()), 0..n_rows);
        }
        let mut bits = Vec::with_capacity(n_rows as usize);
        for batch in block.scan(0..n_rows, &[])? {
            let rows = from_stored(table, &batch?)?;
            let expired: Vec<bool> = rows.contexts().iter().map(|context| self.is_expired(table, context, age_days)).collect();
            match rows.ordinals() {
                Some(ordinals) => bits.extend(ordinals.values().iter().map(|number| expired[*number as usize])),
                None => bits.extend(std::iter::repeat_n(false, rows.len())),
            }
        }
        Ok(&BooleanBuffer::from(bits) & &block.visible(0..n_rows))
    }
}

/// How old all rows of a block are, in whole days; 0 if not a day.
fn age_days(meta: &BlockMeta, now_nanos: i64) -> u32 {
    // rows of exactly so many days are kept
    let age = now_nanos.saturating_sub(meta.max_time_nanos).saturating_sub(1);
    u32::try_from(age.div_euclid(DAY_NANOS)).unwrap_or(if age < 0 { 0 } else { u32::MAX })
}

impl Maintainer {
    /// Removes what has expired.
    pub(super) async fn expire(&self, report: &mut Report) {
        let (snapshot, now_nanos) = (self.catalog.snapshot(), self.clock.now_nanos());
        let keeping = self.retention.now();
        let mut whole: Vec<BlockId> = Vec::new();
        let mut in_part: Vec<(Arc<BlockMeta>, u32)> = Vec::new();
        for table in Table::ALL {
            let longest = keeping.longest(table);
            for meta in snapshot.blocks(table) {
                let age = age_days(meta, now_nanos);
                if longest.is_some_and(|days| age >= days) {
                    whole.push(meta.id.clone());
                } else if let Some(days) = keeping.outlived(table, age)
                    && table.is_searchable()
                    && meta.level == Level::Sealed
                    // its turn comes when a delete, or another node, is done with it
                    && !snapshot.is_to_be_erased(&meta.id)
                    && !snapshot.is_claimed(&meta.id)
                    // damaged when it was last tried: not fetched in every round
                    && !self.quarantine.holds(&meta.id, now_nanos)
                {
                    in_part.push((Arc::clone(meta), days));
                }
            }
        }
        for ids in whole.chunks(MAX_EXPIRED_PER_RECORD) {
            let mut commit = Commit::new(CommitKind::Retention, now_nanos);
            commit.removes = ids.to_vec();
            fail_point::hit("retention.before_commit");
            let committed = self.commit(commit).await;
            fail_point::hit("retention.after_commit");
            match committed {
                Ok(_) => report.blocks_expired += ids.len(),
                Err(error) => self.note(report, Step::Expire, &error),
            }
        }
        {
            let live: HashSet<&BlockId> = in_part.iter().map(|(meta, _)| &meta.id).collect();
            self.retention.settled.lock().days.retain(|id, _| live.contains(id));
        }
        let is_settled = |(meta, days): &(Arc<BlockMeta>, u32)| self.retention.settled.lock().days.get(&meta.id).is_some_and(|known| known >= days);
        in_part.retain(|block| !is_settled(block));
        for (meta, days) in in_part.into_iter().take(MAX_OPENED_PER_ROUND) {
            let expired = self.expire_in_part(&keeping, &meta, days).await;
            self.note_damage(&meta, expired.as_ref().err());
            match expired {
                Ok(n_rows) => {
                    report.rows_expired += n_rows;
                    self.retention.settled.lock().days.insert(meta.id.clone(), days);
                }
                Err(error) => self.note(report, Step::Expire, &error),
            }
        }
    }

    /// Takes the rows from a block that are kept for fewer days than it is old; gives how many.
    async fn expire_in_part(&self, keeping: &Arc<Keeping>, meta: &Arc<BlockMeta>, days: u32) -> Result<u64, Error> {
        self.pace.take(meta.parquet_bytes + meta.index_bytes).await;
        let input = self.read(meta).await?;
        let (merge, keeping, now_nanos) = (Arc::clone(&self.merge), Arc::clone(keeping), self.clock.now_nanos());
        let runtime = tokio::runtime::Handle::current();
        let expiring = move || {
            supervise::stepping_back(MERGE_NICENESS, || {
                let _entered = runtime.enter();
                merge.expire(input, &keeping, days, now_nanos)
            })
        };
        let (n_rows, built) = match tokio::task::spawn_blocking(expiring).await?? {
            Rewritten::Clean => return Ok(0),
            Rewritten::Without(n_rows, built) => (n_rows, built),
        };
        let mut commit = Commit::new(CommitKind::Retention, now_nanos);
        commit.removes = vec![meta.id.clone()];
        fail_point::hit("retention.before_commit");
        match built {
            Some(built) => {
                self.pace.take(built.n_bytes()).await;
                self.put_in_place(commit, std::slice::from_ref(meta), *built, POINTS).await?;
            }
            None => drop(self.commit(commit).await?),
        }
        tracing::info!(block = meta.id.as_str(), rows = n_rows, days, "rows have expired in a block that stays");
        Ok(n_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Value};

    fn context(log_group: &str, service: &str) -> Arc<Context> {
        let mut builder = ContextBuilder::new();
        for (key, value) in [("aws.log.group.names", log_group), ("service.name", service)] {
            if !value.is_empty() {
                builder.attribute(key, Value::Str(value));
            }
        }
        builder.build()
    }

    fn keeping() -> Keeping {
        let config: Config = toml::from_str(
            "days = 400\nrules = [{ log_group = '/aws/*', service = 'pay*', days = 3 }, { log_group = '/aws/*', days = 5 }, { service = 'audit', table = 'logs', days = 0 }]\n[tables]\nlogs = 30",
        )
        .expect("valid");
        assert_eq!(config.problems(), Vec::<String>::new());
        Keeping::new(&config, vec![("/ecs/a".into(), 14), ("/aws/b".into(), 1)])
    }

    #[test]
    fn the_first_rule_counts_then_the_groups_own_then_the_table() {
        let keeping = keeping();
        for (log_group, service, logs, spans) in [
            ("/aws/x", "payment", 3, 3),
            ("/aws/b", "cart", 5, 5),
            ("", "payment", 30, 400),
            ("/ecs/a", "cart", 14, 14),
            ("/ecs/a", "audit", 0, 14),
            ("", "", 30, 400),
        ] {
            let context = context(log_group, service);
            let days = [Table::Logs, Table::Spans].map(|table| keeping.days_of(table, &context));
            assert_eq!(days, [logs, spans], "{log_group} {service}");
        }
        assert_eq!(
            (keeping.longest(Table::Logs), keeping.longest(Table::Spans), keeping.longest(Table::Alerts)),
            (None, Some(400), Some(400))
        );
        let outlived = [0, 1, 4, 29, 500].map(|age| keeping.outlived(Table::Logs, age));
        assert_eq!(outlived, [None, Some(1), Some(3), Some(14), Some(30)]);
    }

    #[test]
    fn a_rule_must_say_of_what() {
        let config: Config = toml::from_str("rules = [{ days = 3 }, { service = 'a', table = 'metric_points', days = 1 }]").expect("valid");
        assert_eq!(config.problems().len(), 2, "{:?}", config.problems());
    }

    #[test]
    fn a_block_has_the_same_expired_rows_with_and_without_index() {
        let mut builder = LogsBuilder::default();
        for number in 0..30i64 {
            let context = builder.context(context(["/aws/b", "/ecs/a", ""][number as usize % 3], "cart"));
            let record = LogRecord {
                time_unix_nano: number,
                body: Some("x"),
                ..LogRecord::default()
            };
            builder.push(context, &record);
        }
        let rows = builder.finish().expect("rows").with_ingest_ids(1);
        let built = block::build(Table::Logs, 0, Level::Sealed, &[rows], &block::Settings::default(), 0).expect("a block");
        let keeping = keeping();
        for (age, expected) in [(4, 0), (5, 10), (14, 20), (30, 30)] {
            for index in [built.index.clone(), None] {
                let block = Block::open(Arc::new(built.meta.clone()), built.parquet.clone(), index).expect("opens");
                assert_eq!(keeping.expired_rows(&block, age).expect("read").count_set_bits(), expected, "at {age} days");
            }
        }
    }
}
