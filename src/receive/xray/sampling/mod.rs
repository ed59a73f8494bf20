//! Sampling rules, and what clients are told of them.
//!
//! A rule samples its first `reservoir_size` requests a second, over all clients together, and `fixed_rate` of the rest.
//! Every client says every ten seconds what it did ([`statistics`]) and gets its share of the reservoir for the next ten
//! ([`reservoir`]).
//!
//! Rules are those of the configuration file, which are changed there alone, those that the API defines ([`calls`]), and
//! `Default`, which is always there: as the file has it, or else as the API last changed it. A rule of the file hides one
//! of its name that the API defined.
//!
//! # Boosts
//!
//! A rule with a `SamplingRateBoost` is sampled at its `MaxRate` for [`BOOST_SECONDS`] once a client reports an anomaly, and then not
//! again for `CooldownWindowMinutes`.
//!
//! # Several nodes
//!
//! Rules are known to all nodes. Reservoirs, sums and boosts are each node's own: clients that are spread over n nodes may
//! together take n times a reservoir.

mod calls;
mod reservoir;
mod statistics;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use calls::{CreateSamplingRule, DeleteSamplingRule, UpdateSamplingRule};
use reservoir::{INTERVAL_SECONDS, Reservoirs};
use statistics::Recent;
pub(super) use statistics::{BoostStatistics, MAX_STATISTICS, Statistics};

use super::super::Intake;
use super::definitions::Definitions;
use super::tags::Tags;

/// The rule that matches what no other does; always there.
pub const DEFAULT_RULE: &str = "Default";
/// Its priority, behind all others.
const DEFAULT_PRIORITY: u32 = 10_000;
/// Documents of rules lie under this.
pub(super) const RULE_KEY: &str = "xray/rule/";
/// How long a boost lasts.
const BOOST_SECONDS: i64 = 60;
const NANOS_A_SECOND: i64 = 1_000_000_000;

/// One rule; `*` and `?` are wildcards to the clients that match it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingRule {
    /// 1 to 32 characters, unique.
    pub name: String,
    /// 1 to 9999, lowest first; 10000 for the rule `Default`.
    pub priority: u32,
    /// 0 to 1.
    pub fixed_rate: f64,
    /// Requests a second.
    pub reservoir_size: u32,
    /// At most 64 characters.
    pub service_name: String,
    /// At most 64 characters, such as `AWS::ECS::Container`.
    pub service_type: String,
    /// At most 64 characters.
    pub host: String,
    /// At most 10 characters.
    pub http_method: String,
    /// At most 128 characters.
    pub url_path: String,
    /// At most 500 characters. Some clients pass over rules whose value is not `*`.
    pub resource_arn: String,
    /// At most 5. Some clients pass over rules that have any.
    pub attributes: BTreeMap<String, String>,
}

impl Default for SamplingRule {
    fn default() -> Self {
        let any = || "*".to_string();
        Self {
            name: DEFAULT_RULE.into(),
            priority: DEFAULT_PRIORITY,
            fixed_rate: 0.05,
            reservoir_size: 1,
            service_name: any(),
            service_type: any(),
            host: any(),
            http_method: any(),
            url_path: any(),
            resource_arn: any(),
            attributes: BTreeMap::new(),
        }
    }
}

/// What is wrong with a list of rules, one sentence each.
pub(super) fn problems(rules: &[SamplingRule]) -> Vec<String> {
    let mut problems = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let mut say = |what: String| problems.push(format!("xray.sampling_rules[{i}] ({}): {what}", rule.name));
        if rules[..i].iter().any(|earlier| earlier.name == rule.name) {
            say("another rule has this name".into());
        }
        let is_default = rule.name == DEFAULT_RULE;
        if is_default != (rule.priority == DEFAULT_PRIORITY) || !(1..=DEFAULT_PRIORITY).contains(&rule.priority) {
            say(format!("priority {} is not from 1 to 9999 (10000 for {DEFAULT_RULE})", rule.priority));
        }
        if !(0.0..=1.0).contains(&rule.fixed_rate) {
            say(format!("fixed_rate {} is not from 0 to 1", rule.fixed_rate));
        }
        for (field, value, min, max) in [
            ("name", &rule.name, 1, 32),
            ("service_name", &rule.service_name, 0, 64),
            ("service_type", &rule.service_type, 0, 64),
            ("host", &rule.host, 0, 64),
            ("http_method", &rule.http_method, 0, 10),
            ("url_path", &rule.url_path, 0, 128),
            ("resource_arn", &rule.resource_arn, 0, 500),
        ] {
            if !(min..=max).contains(&value.chars().count()) {
                say(format!("{field} does not have {min} to {max} characters"));
            }
        }
        let is_long = |text: &String| !(1..=32).contains(&text.chars().count());
        if rule.attributes.len() > 5 || rule.attributes.iter().any(|(key, value)| is_long(key) || is_long(value)) {
            say("attributes are at most 5 of 1 to 32 characters each".into());
        }
    }
    problems
}

/// Settings of a rule by which anomalies raise its rate for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RateBoost {
    max_rate: f64,
    cooldown_window_minutes: i64,
}

/// A rule with what the API keeps of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RuleRecord {
    rule: SamplingRule,
    #[serde(default)]
    boost: Option<RateBoost>,
    #[serde(default)]
    tags: Tags,
    created_nanos: i64,
    modified_nanos: i64,
}

impl RuleRecord {
    fn new(rule: SamplingRule, now_nanos: i64) -> Self {
        Self {
            rule,
            boost: None,
            tags: Tags::default(),
            created_nanos: now_nanos,
            modified_nanos: now_nanos,
        }
    }
}

/// When a rule's boost ends, and when the next may begin, nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Boosted {
    until_nanos: i64,
    again_nanos: i64,
}

/// The rules in force and who shares them.
#[derive(Debug)]
pub(super) struct Sampling {
    configured: Vec<SamplingRule>,
    /// When those were read, nanoseconds since the epoch.
    read_nanos: i64,
    defined: Definitions<RuleRecord>,
    max_rules: usize,
    arn_prefix: String,
    reservoirs: Reservoirs,
    recent: Recent,
    /// Of rules that have a boost.
    boosted: Mutex<HashMap<String, Boosted>>,
}

impl Sampling {
    /// The configured rules and those defined earlier; `arn_prefix` is what stands before a rule's name.
    pub(super) fn open(configured: &[SamplingRule], max_rules: usize, arn_prefix: String, intake: Arc<dyn Intake>, now_nanos: i64) -> Self {
        let sampling = Self {
            configured: configured.to_vec(),
            read_nanos: now_nanos,
            defined: Definitions::open(intake, RULE_KEY),
            max_rules,
            arn_prefix,
            reservoirs: Reservoirs::default(),
            recent: Recent::default(),
            boosted: Mutex::default(),
        };
        for (name, _) in sampling.defined.all() {
            if sampling.is_configured(&name) {
                tracing::warn!(
                    rule = name,
                    "a sampling rule of the API is hidden by xray.sampling_rules, which has one of its name"
                );
            }
        }
        sampling
    }

    /// Takes over what another node knows of the rule under a key, if it is one's.
    pub(super) async fn learn(&self, key: &str, value: &Bytes) {
        if let Some(name) = key.strip_prefix(RULE_KEY) {
            self.defined.learn(name, value).await;
        }
    }

    fn is_configured(&self, name: &str) -> bool {
        self.configured.iter().any(|rule| rule.name == name)
    }

    /// The rule in force of this name.
    fn rule(&self, name: &str) -> Option<RuleRecord> {
        if let Some(rule) = self.configured.iter().find(|rule| rule.name == name) {
            return Some(RuleRecord::new(rule.clone(), self.read_nanos));
        }
        let default = || (name == DEFAULT_RULE).then(|| RuleRecord::new(SamplingRule::default(), self.read_nanos));
        self.defined.get(name).or_else(default)
    }

    /// The answer to `GetSamplingRules`: by priority, then by name, all on one page.
    pub(super) fn rules(&self) -> Value {
        let of_api = self.defined.all().into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = self.configured.iter().map(|rule| rule.name.clone()).chain(of_api).collect();
        names.push(DEFAULT_RULE.into());
        names.sort_unstable();
        names.dedup();
        let mut records: Vec<RuleRecord> = names.iter().filter_map(|name| self.rule(name)).collect();
        // stable: of one priority by name
        records.sort_by_key(|record| record.rule.priority);
        let records: Vec<Value> = records.iter().map(|record| self.shown(record)).collect();
        json!({ "SamplingRuleRecords": records })
    }

    /// As `SamplingRuleRecord` of the API.
    fn shown(&self, record: &RuleRecord) -> Value {
        let rule = &record.rule;
        let mut shown = json!({
            "SamplingRule": {
                "RuleName": rule.name,
                "RuleARN": format!("{}{}", self.arn_prefix, rule.name),
                "ResourceARN": rule.resource_arn,
                "Priority": rule.priority,
                "FixedRate": rule.fixed_rate,
                "ReservoirSize": rule.reservoir_size,
                "ServiceName": rule.service_name,
                "ServiceType": rule.service_type,
                "Host": rule.host,
                "HTTPMethod": rule.http_method,
                "URLPath": rule.url_path,
                "Version": 1,
                "Attributes": rule.attributes,
            },
            "CreatedAt": seconds(record.created_nanos),
            "ModifiedAt": seconds(record.modified_nanos),
        });
        if let Some(boost) = &record.boost {
            shown["SamplingRule"]["SamplingRateBoost"] = json!(boost);
        }
        shown
    }

    /// The answer to `GetSamplingTargets`. `LastRuleModification` is always there: the Python SDK fails without it.
    pub(super) fn targets(&self, said: &[Statistics], boosts: &[BoostStatistics], now_nanos: i64) -> Value {
        let mut unprocessed_boosts = Vec::new();
        for one in boosts {
            let name = one.rule_name.as_deref().unwrap_or_default();
            match self.rule(name) {
                Some(record) if one.anomaly_count.unwrap_or(0) > 0 => self.note_anomaly(&record, now_nanos),
                Some(_) => {}
                None => unprocessed_boosts.push(unknown_rule(name)),
            }
        }
        let (mut documents, mut unprocessed) = (Vec::new(), Vec::new());
        for one in said {
            let name = one.rule_name.as_deref().unwrap_or_default();
            let Some(record) = self.rule(name) else {
                unprocessed.push(unknown_rule(name));
                continue;
            };
            self.recent.add(name, one, now_nanos);
            let client = one.client_id.as_deref().unwrap_or_default();
            let quota = self.reservoirs.share(name, record.rule.reservoir_size, client, now_nanos);
            let mut document = json!({
                "RuleName": name,
                "FixedRate": record.rule.fixed_rate,
                "ReservoirQuota": quota.per_second,
                "ReservoirQuotaTTL": quota.until_seconds,
                "Interval": INTERVAL_SECONDS,
            });
            if let Some((boost, until)) = self.boost(&record, now_nanos) {
                document["SamplingBoost"] = json!({ "BoostRate": boost, "BoostRateTTL": seconds(until) });
            }
            documents.push(document);
        }
        json!({
            "SamplingTargetDocuments": documents,
            "LastRuleModification": seconds(self.defined.last_change_nanos().unwrap_or(self.read_nanos).max(self.read_nanos)),
            "UnprocessedStatistics": unprocessed,
            "UnprocessedBoostStatistics": unprocessed_boosts,
        })
    }

    /// The answer to `GetSamplingStatisticSummaries`.
    pub(super) fn statistic_summaries(&self, token: Option<&str>, now_nanos: i64) -> super::Result<Value> {
        self.recent.summaries(token, now_nanos)
    }

    fn note_anomaly(&self, record: &RuleRecord, now_nanos: i64) {
        let Some(boost) = record.boost else { return };
        let mut boosted = self.boosted.lock();
        let rests = boosted.get(&record.rule.name).is_some_and(|known| now_nanos < known.again_nanos);
        if !rests {
            let until_nanos = now_nanos.saturating_add(BOOST_SECONDS * NANOS_A_SECOND);
            let rest_nanos = boost.cooldown_window_minutes.saturating_mul(60 * NANOS_A_SECOND);
            let again_nanos = until_nanos.saturating_add(rest_nanos);
            boosted.insert(record.rule.name.clone(), Boosted { until_nanos, again_nanos });
        }
    }

    /// The rate of a boost that goes on, and when it ends.
    fn boost(&self, record: &RuleRecord, now_nanos: i64) -> Option<(f64, i64)> {
        let boost = record.boost?;
        let boosted = self.boosted.lock();
        let known = boosted.get(&record.rule.name).filter(|known| now_nanos < known.until_nanos)?;
        Some((boost.max_rate, known.until_nanos))
    }
}

fn unknown_rule(name: &str) -> Value {
    json!({ "RuleName": name, "ErrorCode": "400", "Message": "Unknown rule" })
}

/// Seconds since the epoch, to the millisecond.
fn seconds(nanos: i64) -> f64 {
    nanos.div_euclid(1_000_000) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Memory;
    use super::statistics::tests::statistics;
    use super::*;

    const NOW: i64 = 1_795_000_000_000_000_000;

    pub(super) fn sampling(configured: &[SamplingRule]) -> Sampling {
        Sampling::open(configured, 25, "arn:".into(), Arc::new(Memory::default()), NOW)
    }

    #[test]
    fn the_default_rule_is_always_there_and_last() {
        let api = SamplingRule {
            name: "api".into(),
            priority: 7,
            ..SamplingRule::default()
        };
        let rules = sampling(&[api]).rules();
        let names: Vec<_> = rules["SamplingRuleRecords"]
            .as_array()
            .expect("list")
            .iter()
            .map(|r| r["SamplingRule"]["RuleName"].clone())
            .collect();
        assert_eq!(names, ["api", "Default"]);
        let default = &rules["SamplingRuleRecords"][1]["SamplingRule"];
        assert_eq!(
            (&default["Priority"], &default["FixedRate"], &default["ReservoirSize"], &default["Version"]),
            (&json!(10_000), &json!(0.05), &json!(1), &json!(1))
        );
        assert_eq!(default["ResourceARN"], "*");
    }

    #[test]
    fn a_rule_that_is_unknown_is_told_and_the_time_of_change_is_always_there() {
        let sampling = sampling(&[]);
        let boost: BoostStatistics = serde_json::from_value(json!({"RuleName": "lost"})).expect("valid");
        let answer = sampling.targets(&[statistics("gone", 1), statistics("Default", 1)], &[boost], NOW);
        assert_eq!(answer["UnprocessedStatistics"][0]["RuleName"], "gone");
        assert_eq!(answer["UnprocessedBoostStatistics"][0]["RuleName"], "lost");
        assert_eq!(answer["SamplingTargetDocuments"][0]["ReservoirQuotaTTL"], 1_795_000_010);
        assert_eq!(answer["LastRuleModification"], 1_795_000_000.0);
        assert_eq!(sampling.targets(&[], &[], NOW)["LastRuleModification"], 1_795_000_000.0);
        let sums = sampling.statistic_summaries(None, NOW).expect("sums");
        assert_eq!(sums["SamplingStatisticSummaries"].as_array().map(Vec::len), Some(1), "of rules there are");
    }

    #[test]
    fn rules_are_checked_together() {
        let ok = SamplingRule {
            name: "ok".into(),
            priority: 9_999,
            fixed_rate: 1.0,
            ..SamplingRule::default()
        };
        assert_eq!(problems(&[ok.clone(), SamplingRule::default()]), Vec::<String>::new());
        let bad = [
            ok.clone(),
            ok.clone(),
            SamplingRule {
                name: "p".into(),
                priority: 0,
                ..ok.clone()
            },
            SamplingRule {
                name: "q".into(),
                priority: 10_000,
                ..ok.clone()
            },
            SamplingRule {
                priority: 5,
                ..SamplingRule::default()
            },
            SamplingRule {
                name: "r".into(),
                fixed_rate: f64::NAN,
                ..ok.clone()
            },
            SamplingRule {
                name: String::new(),
                ..ok.clone()
            },
            SamplingRule {
                name: "s".into(),
                http_method: "VERYLONGVERB".into(),
                ..ok
            },
        ];
        let said = problems(&bad);
        assert_eq!(said.len(), 7, "{said:#?}");
    }
}
