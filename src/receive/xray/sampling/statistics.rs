//! What clients say of the rules they use, and its sums.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Error, Result};

/// Statistics documents of one call.
pub(crate) const MAX_STATISTICS: usize = 25;
/// Sums are over windows of so many seconds, as the API has it.
const WINDOW_SECONDS: i64 = 10;
/// Windows that are kept: an hour.
const N_WINDOWS: i64 = 360;
/// Sums on one page.
const PAGE: usize = 1_000;

/// What a client says of one rule.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Statistics {
    pub(super) rule_name: Option<String>,
    #[serde(rename = "ClientID")]
    pub(super) client_id: Option<String>,
    timestamp: Option<Value>,
    request_count: Option<i64>,
    sampled_count: Option<i64>,
    borrow_count: Option<i64>,
}

/// What a client says of what went wrong with a rule's requests.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BoostStatistics {
    pub(super) rule_name: Option<String>,
    service_name: Option<String>,
    timestamp: Option<Value>,
    pub(super) anomaly_count: Option<i64>,
    total_count: Option<i64>,
    sampled_anomaly_count: Option<i64>,
}

fn required(list: &str, members: &[(&str, bool)]) -> Result<(), String> {
    match members.iter().find(|(_, is_there)| !is_there) {
        None => Ok(()),
        Some((member, _)) => Err(format!(
            "1 validation error detected: Value null at '{list}.member.{member}' failed to satisfy constraint: Member must not be null"
        )),
    }
}

fn not_negative(counts: &[(&str, Option<i64>)]) -> Result<(), String> {
    let negative = counts.iter().find_map(|(member, count)| Some((member, count.filter(|count| *count < 0)?)));
    negative.map_or(Ok(()), |(member, count)| Err(format!("{member} {count} is negative")))
}

impl Statistics {
    /// What is wrong, naming the member.
    pub(crate) fn check(&self) -> Result<(), String> {
        required(
            "samplingStatisticsDocuments",
            &[
                ("ruleName", self.rule_name.as_ref().is_some_and(|name| !name.is_empty())),
                ("timestamp", self.timestamp.is_some()),
                ("clientID", self.client_id.is_some()),
                ("requestCount", self.request_count.is_some()),
                ("sampledCount", self.sampled_count.is_some()),
            ],
        )?;
        let client_id = self.client_id.as_deref().unwrap_or_default();
        if client_id.len() != 24 {
            return Err(format!("ClientID {client_id:?} does not have 24 characters"));
        }
        not_negative(&[
            ("RequestCount", self.request_count),
            ("SampledCount", self.sampled_count),
            ("BorrowCount", self.borrow_count),
        ])
    }
}

impl BoostStatistics {
    /// What is wrong, naming the member.
    pub(crate) fn check(&self) -> Result<(), String> {
        required(
            "samplingBoostStatisticsDocuments",
            &[
                ("ruleName", self.rule_name.as_ref().is_some_and(|name| !name.is_empty())),
                ("serviceName", self.service_name.is_some()),
                ("timestamp", self.timestamp.is_some()),
                ("anomalyCount", self.anomaly_count.is_some()),
                ("totalCount", self.total_count.is_some()),
                ("sampledAnomalyCount", self.sampled_anomaly_count.is_some()),
            ],
        )?;
        not_negative(&[
            ("AnomalyCount", self.anomaly_count),
            ("TotalCount", self.total_count),
            ("SampledAnomalyCount", self.sampled_anomaly_count),
        ])
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    requests: i64,
    sampled: i64,
    borrowed: i64,
}

/// Sums of the last hour, over all clients, by window and rule; a restart begins anew.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<BTreeMap<(i64, String), Sums>>);

impl Recent {
    /// Adds what a client says of a rule there is.
    pub(super) fn add(&self, rule: &str, said: &Statistics, now_nanos: i64) {
        let window = now_nanos.div_euclid(WINDOW_SECONDS * 1_000_000_000);
        let mut recent = self.0.lock();
        while recent.first_key_value().is_some_and(|((first, _), _)| *first <= window - N_WINDOWS) {
            recent.pop_first();
        }
        let sums = recent.entry((window, rule.to_string())).or_default();
        for (sum, count) in [
            (&mut sums.requests, said.request_count),
            (&mut sums.sampled, said.sampled_count),
            (&mut sums.borrowed, said.borrow_count),
        ] {
            *sum = sum.saturating_add(count.unwrap_or(0));
        }
    }

    /// The answer to `GetSamplingStatisticSummaries`: oldest first, then by rule.
    pub(super) fn summaries(&self, token: Option<&str>, now_nanos: i64) -> Result<Value> {
        let from = token.map(|token| {
            let (window, rule) = token.split_once('/')?;
            Some((window.parse::<i64>().ok()?, rule.to_string()))
        });
        let from = match from {
            Some(None) => return Err(Error::InvalidRequest("NextToken is not one of this call's".into())),
            from => from.flatten(),
        };
        let oldest = (now_nanos.div_euclid(WINDOW_SECONDS * 1_000_000_000) - N_WINDOWS + 1, String::new());
        let from = from.map_or(oldest.clone(), |from| from.max(oldest));
        let recent = self.0.lock();
        let mut rest = recent.range(from..);
        let summary = |((window, rule), sums): (&(i64, String), &Sums)| {
            json!({
                "RuleName": rule,
                "Timestamp": window * WINDOW_SECONDS,
                "RequestCount": sums.requests,
                "SampledCount": sums.sampled,
                "BorrowCount": sums.borrowed,
            })
        };
        let page: Vec<Value> = rest.by_ref().take(PAGE).map(summary).collect();
        let mut out = json!({ "SamplingStatisticSummaries": page });
        if let Some(((window, rule), _)) = rest.next() {
            out["NextToken"] = format!("{window}/{rule}").into();
        }
        Ok(out)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_003_000_000_000;

    pub(in super::super) fn statistics(rule: &str, client: usize) -> Statistics {
        serde_json::from_value(json!({"RuleName": rule, "ClientID": format!("{client:024x}"), "Timestamp": 1.5, "RequestCount": 3, "SampledCount": 1}))
            .expect("valid")
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
        let boost = |count: i64| -> BoostStatistics {
            let said = json!({"RuleName": "r", "ServiceName": "s", "Timestamp": 1, "AnomalyCount": count, "TotalCount": 9, "SampledAnomalyCount": 0});
            serde_json::from_value(said).expect("its shape is right")
        };
        assert_eq!(boost(1).check(), Ok(()));
        assert!(boost(-1).check().is_err() && BoostStatistics::default().check().is_err());
    }

    #[test]
    fn sums_are_by_window_and_rule_for_an_hour() {
        let recent = Recent::default();
        let window = WINDOW_SECONDS * 1_000_000_000;
        recent.add("api", &statistics("api", 1), NOW);
        recent.add("api", &statistics("api", 2), NOW + 1);
        recent.add("Default", &statistics("Default", 1), NOW + window);
        let told = recent.summaries(None, NOW + window).expect("told");
        assert_eq!(
            told,
            json!({"SamplingStatisticSummaries": [
                {"RuleName": "api", "Timestamp": 1_795_000_000, "RequestCount": 6, "SampledCount": 2, "BorrowCount": 0},
                {"RuleName": "Default", "Timestamp": 1_795_000_010, "RequestCount": 3, "SampledCount": 1, "BorrowCount": 0},
            ]})
        );
        let later = NOW + N_WINDOWS * window;
        assert_eq!(
            recent.summaries(None, later).expect("told")["SamplingStatisticSummaries"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        recent.add("api", &statistics("api", 1), later + window);
        assert_eq!(recent.0.lock().len(), 1);
    }

    #[test]
    fn pages_in_a_row_are_all_sums() {
        let recent = Recent::default();
        for rule in 0..2 * PAGE + 1 {
            recent.add(&format!("r/{rule:05}"), &statistics("api", 1), NOW);
        }
        let (mut token, mut rules) = (None, Vec::new());
        loop {
            let page = recent.summaries(token.as_deref(), NOW).expect("a page");
            rules.extend(
                page["SamplingStatisticSummaries"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|one| one["RuleName"].to_string()),
            );
            token = page.get("NextToken").and_then(Value::as_str).map(str::to_string);
            if token.is_none() {
                break;
            }
        }
        assert_eq!(rules.len(), 2 * PAGE + 1);
        assert!(rules.is_sorted());
        assert!(recent.summaries(Some("x"), NOW).is_err());
    }
}
