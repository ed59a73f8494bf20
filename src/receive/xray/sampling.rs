//! Sampling rules, and each client's share of a rule's reservoir.
//!
//! A rule samples its first `reservoir_size` requests a second, over all clients together, and `fixed_rate` of the rest.
//! Every client says every ten seconds what it did and gets its share of the reservoir for the next ten: the size divided
//! by the clients heard of lately, what is left over to the first of them. Shares are in memory only; after a restart
//! clients ask again before theirs run out.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The rule that matches what no other does; always there.
pub const DEFAULT_RULE: &str = "Default";
/// Its priority, behind all others.
const DEFAULT_PRIORITY: u32 = 10_000;
/// How often clients ask, and how long a share is good for.
const INTERVAL_SECONDS: i64 = 10;
/// A client not heard of for so long has no share.
const CLIENT_NANOS: i64 = 30_000_000_000;
/// Clients of one rule that are remembered; further ones get no share, only the fixed rate.
const MAX_CLIENTS: usize = 10_000;
/// Statistics documents of one call.
pub(super) const MAX_STATISTICS: usize = 25;

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

/// What a client says of one rule.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Statistics {
    rule_name: Option<String>,
    #[serde(rename = "ClientID")]
    client_id: Option<String>,
    timestamp: Option<Value>,
    request_count: Option<i64>,
    sampled_count: Option<i64>,
    borrow_count: Option<i64>,
}

impl Statistics {
    /// What is wrong, naming the member.
    pub(super) fn check(&self) -> Result<(), String> {
        let missing = |member: &str| {
            Err(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ))
        };
        if self.rule_name.as_deref().unwrap_or_default().is_empty() {
            return missing("samplingStatisticsDocuments.member.ruleName");
        }
        if self.timestamp.is_none() {
            return missing("samplingStatisticsDocuments.member.timestamp");
        }
        match &self.client_id {
            None => return missing("samplingStatisticsDocuments.member.clientID"),
            Some(id) if id.len() != 24 => return Err(format!("ClientID {id:?} does not have 24 characters")),
            Some(_) => {}
        }
        for (member, count, is_required) in [
            ("RequestCount", self.request_count, true),
            ("SampledCount", self.sampled_count, true),
            ("BorrowCount", self.borrow_count, false),
        ] {
            match count {
                None if is_required => return Err(format!("{member} is missing")),
                Some(count) if count < 0 => return Err(format!("{member} {count} is negative")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The rules in force and who shares them.
#[derive(Debug)]
pub struct Sampling {
    rules: Vec<SamplingRule>,
    /// When the rules were read, nanoseconds since the epoch.
    modified_nanos: i64,
    /// For each rule, when each client was last heard of.
    clients: Mutex<HashMap<String, BTreeMap<String, i64>>>,
}

impl Sampling {
    /// The configured rules, by priority, with the default rule if none has its name.
    pub fn new(rules: &[SamplingRule], now_nanos: i64) -> Self {
        let mut rules = rules.to_vec();
        if !rules.iter().any(|rule| rule.name == DEFAULT_RULE) {
            rules.push(SamplingRule::default());
        }
        rules.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        Self {
            rules,
            modified_nanos: now_nanos,
            clients: Mutex::default(),
        }
    }

    /// The answer to `GetSamplingRules`; all rules are on one page.
    pub(super) fn rules(&self, arn_of: impl Fn(&str) -> String) -> Value {
        let modified = seconds(self.modified_nanos);
        let records: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "SamplingRule": {
                        "RuleName": rule.name,
                        "RuleARN": arn_of(&rule.name),
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
                    "CreatedAt": modified,
                    "ModifiedAt": modified,
                })
            })
            .collect();
        json!({ "SamplingRuleRecords": records })
    }

    /// The answer to `GetSamplingTargets`. `LastRuleModification` is always there: the Python SDK fails without it.
    pub(super) fn targets(&self, statistics: &[Statistics], now_nanos: i64) -> Value {
        let mut documents = Vec::new();
        let mut unprocessed = Vec::new();
        for one in statistics {
            let name = one.rule_name.as_deref().unwrap_or_default();
            let Some(rule) = self.rules.iter().find(|rule| rule.name == name) else {
                unprocessed.push(json!({ "RuleName": name, "ErrorCode": "400", "Message": "Unknown rule" }));
                continue;
            };
            let quota = self.share(rule, one.client_id.as_deref().unwrap_or_default(), now_nanos);
            documents.push(json!({
                "RuleName": name,
                "FixedRate": rule.fixed_rate,
                "ReservoirQuota": quota,
                "ReservoirQuotaTTL": now_nanos.div_euclid(1_000_000_000) + INTERVAL_SECONDS,
                "Interval": INTERVAL_SECONDS,
            }));
        }
        json!({
            "SamplingTargetDocuments": documents,
            "LastRuleModification": seconds(self.modified_nanos),
            "UnprocessedStatistics": unprocessed,
        })
    }

    /// A client's share of the reservoir, requests a second.
    fn share(&self, rule: &SamplingRule, client: &str, now_nanos: i64) -> u32 {
        let mut clients = self.clients.lock();
        let clients = clients.entry(rule.name.clone()).or_default();
        clients.retain(|_, heard_nanos| now_nanos.saturating_sub(*heard_nanos) <= CLIENT_NANOS);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(client) {
            return 0;
        }
        clients.insert(client.to_string(), now_nanos);
        let n_clients = u32::try_from(clients.len()).unwrap_or(u32::MAX);
        let place = u32::try_from(clients.keys().take_while(|other| other.as_str() < client).count()).unwrap_or(u32::MAX);
        rule.reservoir_size / n_clients + u32::from(place < rule.reservoir_size % n_clients)
    }
}

/// Seconds since the epoch, to the millisecond.
fn seconds(nanos: i64) -> f64 {
    nanos.div_euclid(1_000_000) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000_000_000_000;

    fn statistics(rule: &str, client: usize) -> Statistics {
        serde_json::from_value(json!({"RuleName": rule, "ClientID": format!("{client:024x}"), "Timestamp": 1.5, "RequestCount": 3, "SampledCount": 1}))
            .expect("valid")
    }

    fn quotas(sampling: &Sampling, clients: std::ops::Range<usize>, now: i64) -> Vec<i64> {
        clients
            .map(|client| {
                sampling.targets(&[statistics("api", client)], now)["SamplingTargetDocuments"][0]["ReservoirQuota"]
                    .as_i64()
                    .expect("a number")
            })
            .collect()
    }

    #[test]
    fn the_default_rule_is_always_there_and_last() {
        let api = SamplingRule {
            name: "api".into(),
            priority: 7,
            ..SamplingRule::default()
        };
        let sampling = Sampling::new(&[api], NOW);
        let rules = sampling.rules(|name| format!("arn:{name}"));
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
    fn the_reservoir_is_shared_and_never_exceeded() {
        let api = SamplingRule {
            name: "api".into(),
            priority: 7,
            reservoir_size: 10,
            ..SamplingRule::default()
        };
        let sampling = Sampling::new(&[api], NOW);
        assert_eq!(quotas(&sampling, 0..1, NOW), [10], "alone");
        quotas(&sampling, 0..4, NOW);
        assert_eq!(quotas(&sampling, 0..4, NOW + 1), [3, 3, 2, 2]);
        assert_eq!(quotas(&sampling, 3..4, NOW + CLIENT_NANOS + 2), [10], "the others have gone");
        assert_eq!(quotas(&sampling, 0..20, NOW + CLIENT_NANOS + 3).len(), 20);
        assert_eq!(quotas(&sampling, 0..20, NOW + CLIENT_NANOS + 3).iter().sum::<i64>(), 10);
    }

    #[test]
    fn a_rule_that_is_unknown_is_told_and_the_time_of_change_is_always_there() {
        let sampling = Sampling::new(&[], NOW);
        let answer = sampling.targets(&[statistics("gone", 1), statistics("Default", 1)], NOW);
        assert_eq!(answer["UnprocessedStatistics"][0]["RuleName"], "gone");
        assert_eq!(answer["SamplingTargetDocuments"][0]["ReservoirQuotaTTL"], 1_795_000_010);
        assert_eq!(answer["LastRuleModification"], 1_795_000_000.0);
        assert_eq!(sampling.targets(&[], NOW)["LastRuleModification"], 1_795_000_000.0);
    }

    #[test]
    fn clients_beyond_the_bound_are_not_remembered() {
        let sampling = Sampling::new(
            &[SamplingRule {
                name: "api".into(),
                priority: 1,
                reservoir_size: 1_000_000,
                ..SamplingRule::default()
            }],
            NOW,
        );
        let heard = (0..MAX_CLIENTS).map(|client| (format!("{client:024x}"), NOW)).collect();
        sampling.clients.lock().insert("api".into(), heard);
        assert_eq!(quotas(&sampling, MAX_CLIENTS..MAX_CLIENTS + 1, NOW), [0]);
        assert_eq!(quotas(&sampling, 5..6, NOW), [100]);
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

    #[test]
    fn statistics_are_checked() {
        assert_eq!(statistics("Default", 1).check(), Ok(()));
        for bad in [
            json!({}),
            json!({"RuleName": "r", "ClientID": "short", "Timestamp": 1, "RequestCount": 1, "SampledCount": 1}),
            json!({"RuleName": "r", "ClientID": "000000000000000000000000", "RequestCount": 1, "SampledCount": 1}),
            json!({"RuleName": "r", "ClientID": "000000000000000000000000", "Timestamp": 1, "SampledCount": 1}),
            json!({"RuleName": "r", "ClientID": "000000000000000000000000", "Timestamp": 1, "RequestCount": -1, "SampledCount": 1}),
        ] {
            let one: Statistics = serde_json::from_value(bad).expect("its shape is right");
            assert!(one.check().is_err());
        }
    }
}
