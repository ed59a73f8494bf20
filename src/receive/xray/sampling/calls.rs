//! `CreateSamplingRule`, `UpdateSamplingRule`, `DeleteSamplingRule`, and the tags of rules.
//!
//! Members and their bounds are those of the service's model; what is wrong is told all at once, naming the members. Of `Default`
//! only `FixedRate` and `ReservoirSize` may be changed, and it is never deleted. A rule of the configuration file is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::tags::{self, Tag, Tags};
use super::super::{Error, Result};
use super::{DEFAULT_PRIORITY, DEFAULT_RULE, RateBoost, RuleRecord, Sampling, SamplingRule};
use crate::decode::awslogs::Validation;

/// What a call says of a rule.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    rule_name: Option<String>,
    #[serde(rename = "RuleARN")]
    rule_arn: Option<String>,
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    priority: Option<i64>,
    fixed_rate: Option<f64>,
    reservoir_size: Option<i64>,
    service_name: Option<String>,
    service_type: Option<String>,
    host: Option<String>,
    #[serde(rename = "HTTPMethod")]
    http_method: Option<String>,
    #[serde(rename = "URLPath")]
    url_path: Option<String>,
    version: Option<i64>,
    attributes: Option<BTreeMap<String, String>>,
    sampling_rate_boost: Option<RateBoost>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateSamplingRule {
    sampling_rule: Option<Said>,
    tags: Option<Vec<Tag>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateSamplingRule {
    sampling_rule_update: Option<Said>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteSamplingRule {
    rule_name: Option<String>,
    #[serde(rename = "RuleARN")]
    rule_arn: Option<String>,
}

impl Said {
    /// The bounds of the members that are there; `of` is the member that holds them.
    fn check(&self, validation: &mut Validation, of: &str) {
        for (member, value, min, max) in [
            ("ruleName", &self.rule_name, 1, 32),
            ("resourceARN", &self.resource_arn, 0, 500),
            ("serviceName", &self.service_name, 0, 64),
            ("serviceType", &self.service_type, 0, 64),
            ("host", &self.host, 0, 64),
            ("httpMethod", &self.http_method, 0, 10),
            ("urlPath", &self.url_path, 0, 128),
        ] {
            if let Some(value) = value {
                validation.length(value, format_args!("{of}.{member}"), min, max);
            }
        }
        if let Some(size) = self.reservoir_size {
            validation.range(size, format_args!("{of}.reservoirSize"), 0, i64::from(u32::MAX));
        }
        if let Some(version) = self.version {
            validation.range(version, format_args!("{of}.version"), 1, 1);
        }
        let boost = self.sampling_rate_boost;
        for (member, rate) in [("fixedRate", self.fixed_rate), ("samplingRateBoost.maxRate", boost.map(|boost| boost.max_rate))] {
            match rate {
                Some(rate) if rate < 0.0 => validation.violation(rate, format_args!("{of}.{member}"), "Member must have value greater than or equal to 0"),
                Some(rate) if rate > 1.0 => validation.violation(rate, format_args!("{of}.{member}"), "Member must have value less than or equal to 1"),
                _ => {}
            }
        }
        if let Some(boost) = boost {
            validation.range(
                boost.cooldown_window_minutes,
                format_args!("{of}.samplingRateBoost.cooldownWindowMinutes"),
                0,
                i64::MAX,
            );
        }
        let attributes = self.attributes.iter().flatten();
        if attributes.clone().count() > 5 {
            let shown = format!("[{} attributes]", attributes.clone().count());
            validation.violation(shown, format_args!("{of}.attributes"), "Member must have length less than or equal to 5");
        }
        for (key, value) in attributes {
            validation.length(key, format_args!("{of}.attributes"), 1, 32);
            validation.length(value, format_args!("{of}.attributes.{key}.member"), 1, 32);
        }
    }

    /// Puts what is there into a rule.
    fn apply(&self, rule: &mut SamplingRule) {
        let number = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        if let Some(priority) = self.priority {
            rule.priority = number(priority);
        }
        if let Some(rate) = self.fixed_rate {
            rule.fixed_rate = rate;
        }
        if let Some(size) = self.reservoir_size {
            rule.reservoir_size = number(size);
        }
        for (own, said) in [
            (&mut rule.resource_arn, &self.resource_arn),
            (&mut rule.service_name, &self.service_name),
            (&mut rule.service_type, &self.service_type),
            (&mut rule.host, &self.host),
            (&mut rule.http_method, &self.http_method),
            (&mut rule.url_path, &self.url_path),
        ] {
            if let Some(said) = said {
                own.clone_from(said);
            }
        }
        if let Some(attributes) = &self.attributes {
            rule.attributes.clone_from(attributes);
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidRequest(message.into())
}

fn unknown(name: &str) -> Error {
    invalid(format!("Sampling rule {name} was not found."))
}

impl Sampling {
    /// `CreateSamplingRule`.
    pub(crate) async fn create_rule(&self, call: &CreateSamplingRule, now_nanos: i64) -> Result<Value> {
        let mut validation = Validation::new();
        let of = "samplingRule";
        let nothing = Said::default();
        let said = validation.required(&call.sampling_rule, of).unwrap_or(&nothing);
        if call.sampling_rule.is_some() {
            for (member, is_there) in [
                ("ruleName", said.rule_name.is_some() || said.rule_arn.is_some()),
                ("resourceARN", said.resource_arn.is_some()),
                ("priority", said.priority.is_some()),
                ("fixedRate", said.fixed_rate.is_some()),
                ("reservoirSize", said.reservoir_size.is_some()),
                ("serviceName", said.service_name.is_some()),
                ("serviceType", said.service_type.is_some()),
                ("host", said.host.is_some()),
                ("httpMethod", said.http_method.is_some()),
                ("urlPath", said.url_path.is_some()),
                ("version", said.version.is_some()),
            ] {
                if !is_there {
                    validation.missing(format_args!("{of}.{member}"));
                }
            }
        }
        said.check(&mut validation, of);
        if let Some(priority) = said.priority {
            validation.range(priority, "samplingRule.priority", 1, i64::from(DEFAULT_PRIORITY) - 1);
        }
        let tags = tags::checked(&mut validation, call.tags.as_deref());
        validation.finish().map_err(Error::InvalidRequest)?;
        let name = self.named(said.rule_name.as_deref(), said.rule_arn.as_deref())?;
        let exists = || invalid(format!("Sampling rule {name} already exists."));
        if name == DEFAULT_RULE || self.is_configured(name) {
            return Err(exists());
        }
        let mut rule = SamplingRule {
            name: name.to_string(),
            ..SamplingRule::default()
        };
        said.apply(&mut rule);
        let record = RuleRecord {
            boost: said.sampling_rate_boost,
            tags,
            ..RuleRecord::new(rule, now_nanos)
        };
        let change = |known: Option<&RuleRecord>, n_rules: usize| match known {
            Some(_) => Err(exists()),
            None if n_rules >= self.max_rules => Err(Error::RuleLimit(format!(
                "You have reached the maximum number of sampling rules, which is {}.",
                self.max_rules
            ))),
            None => Ok(Some(record.clone())),
        };
        self.defined.change(name, now_nanos, change).await?;
        Ok(json!({ "SamplingRuleRecord": self.shown(&record) }))
    }

    /// `UpdateSamplingRule`: what is not said stays.
    pub(crate) async fn update_rule(&self, call: &UpdateSamplingRule, now_nanos: i64) -> Result<Value> {
        let mut validation = Validation::new();
        let of = "samplingRuleUpdate";
        let nothing = Said::default();
        let said = validation.required(&call.sampling_rule_update, of).unwrap_or(&nothing);
        said.check(&mut validation, of);
        validation.finish().map_err(Error::InvalidRequest)?;
        let name = self.named(said.rule_name.as_deref(), said.rule_arn.as_deref())?;
        let max_priority = i64::from(DEFAULT_PRIORITY) - i64::from(name != DEFAULT_RULE);
        let mut validation = Validation::new();
        if let Some(priority) = said.priority {
            validation.range(priority, "samplingRuleUpdate.priority", 1, max_priority);
        }
        validation.finish().map_err(Error::InvalidRequest)?;
        let record = self
            .change_rule(name, now_nanos, |record| {
                let before = record.rule.clone();
                said.apply(&mut record.rule);
                if said.sampling_rate_boost.is_some() {
                    record.boost = said.sampling_rate_boost;
                }
                record.modified_nanos = now_nanos;
                let only_rates = SamplingRule {
                    fixed_rate: record.rule.fixed_rate,
                    reservoir_size: record.rule.reservoir_size,
                    ..before
                };
                match name == DEFAULT_RULE && (record.rule != only_rates || record.boost.is_some()) {
                    true => Err(invalid("Of the Default sampling rule only FixedRate and ReservoirSize can be changed.")),
                    false => Ok(()),
                }
            })
            .await?;
        Ok(json!({ "SamplingRuleRecord": self.shown(&record) }))
    }

    /// `DeleteSamplingRule`.
    pub(crate) async fn delete_rule(&self, call: &DeleteSamplingRule, now_nanos: i64) -> Result<Value> {
        let name = self.named(call.rule_name.as_deref(), call.rule_arn.as_deref())?;
        if name == DEFAULT_RULE {
            return Err(invalid("The Default sampling rule cannot be deleted."));
        }
        self.check_is_changed_here(name)?;
        let mut gone = None;
        let change = |known: Option<&RuleRecord>, _: usize| {
            gone = known.cloned();
            known.map(|_| None).ok_or_else(|| unknown(name))
        };
        self.defined.change(name, now_nanos, change).await?;
        self.reservoirs.forget(name);
        self.boosted.lock().remove(name);
        let gone = gone.ok_or_else(|| unknown(name))?;
        Ok(json!({ "SamplingRuleRecord": self.shown(&gone) }))
    }

    /// The tags of the rule that an ARN names; `None` if it is no rule's.
    pub(crate) fn tags(&self, arn: &str) -> Option<Result<Tags>> {
        let name = arn.strip_prefix(&self.arn_prefix)?;
        let record = self.rule(name).ok_or_else(|| tags::no_resource(arn));
        Some(record.map(|record| record.tags))
    }

    /// Changes the tags of a rule.
    pub(crate) async fn change_tags(&self, arn: &str, now_nanos: i64, change: impl FnOnce(&mut Tags) -> Result<()>) -> Option<Result<()>> {
        let name = arn.strip_prefix(&self.arn_prefix)?;
        if self.rule(name).is_none() {
            return Some(Err(tags::no_resource(arn)));
        }
        let changed = self.change_rule(name, now_nanos, |record| change(&mut record.tags)).await;
        Some(changed.map(|_| ()))
    }

    /// Which rule is meant.
    fn named<'a>(&self, name: Option<&'a str>, arn: Option<&'a str>) -> Result<&'a str> {
        match (name, arn) {
            (Some(_), Some(_)) => Err(invalid("Specify a rule by RuleName or by RuleARN, but not by both.")),
            (Some(name), None) => Ok(name),
            (None, Some(arn)) => arn
                .strip_prefix(&self.arn_prefix)
                .ok_or_else(|| invalid(format!("RuleARN {arn} names no sampling rule of this account and region."))),
            (None, None) => Err(invalid("RuleName or RuleARN is required.")),
        }
    }

    fn check_is_changed_here(&self, name: &str) -> Result<()> {
        match self.is_configured(name) {
            false => Ok(()),
            true => Err(invalid(format!(
                "Sampling rule {name} is one of the configuration file (xray.sampling_rules) and is changed there."
            ))),
        }
    }

    async fn change_rule(&self, name: &str, now_nanos: i64, change: impl FnOnce(&mut RuleRecord) -> Result<()>) -> Result<RuleRecord> {
        self.check_is_changed_here(name)?;
        let mut changed = None;
        let put = |known: Option<&RuleRecord>, _: usize| {
            // Default is there though nobody defined it
            let default = || (name == DEFAULT_RULE).then(|| RuleRecord::new(SamplingRule::default(), self.read_nanos));
            let mut record = known.cloned().or_else(default).ok_or_else(|| unknown(name))?;
            change(&mut record)?;
            changed = Some(record.clone());
            Ok(Some(record))
        };
        self.defined.change(name, now_nanos, put).await?;
        changed.ok_or_else(|| unknown(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::super::testing::Memory;
    use super::super::statistics::tests::statistics;
    use super::*;

    const NOW: i64 = 1_795_000_000_000_000_000;

    fn open(configured: &[SamplingRule], memory: Arc<Memory>) -> Sampling {
        Sampling::open(configured, 2, "arn:aws:xray:r:1:sampling-rule/".into(), memory, NOW)
    }

    fn rule(name: &str) -> Value {
        json!({
            "RuleName": name, "ResourceARN": "*", "Priority": 5, "FixedRate": 0.25, "ReservoirSize": 10, "ServiceName": "shop-*",
            "ServiceType": "*", "Host": "*", "HTTPMethod": "GET", "URLPath": "/pay*", "Version": 1, "Attributes": {"tier": "gold"},
        })
    }

    async fn create(sampling: &Sampling, rule: Value) -> Result<Value> {
        let call = json!({ "SamplingRule": rule, "Tags": [{"Key": "team", "Value": "a"}] });
        sampling.create_rule(&serde_json::from_value(call).expect("a call"), NOW).await
    }
    async fn update(sampling: &Sampling, update: Value, now: i64) -> Result<Value> {
        let call = json!({ "SamplingRuleUpdate": update });
        sampling.update_rule(&serde_json::from_value(call).expect("a call"), now).await
    }
    async fn delete(sampling: &Sampling, call: Value) -> Result<Value> {
        sampling.delete_rule(&serde_json::from_value(call).expect("a call"), NOW).await
    }
    fn names(sampling: &Sampling) -> Vec<Value> {
        let rules = sampling.rules();
        let records = rules["SamplingRuleRecords"].as_array().expect("a list");
        records.iter().map(|record| record["SamplingRule"]["RuleName"].clone()).collect()
    }

    #[tokio::test]
    async fn rules_are_made_changed_and_deleted_and_survive_a_restart() {
        let memory = Arc::new(Memory::default());
        let sampling = open(&[], memory.clone());
        let made = create(&sampling, rule("pay")).await.expect("made");
        let arn = "arn:aws:xray:r:1:sampling-rule/pay";
        let mut expected = rule("pay");
        expected["RuleARN"] = arn.into();
        assert_eq!(made["SamplingRuleRecord"]["SamplingRule"], expected);
        let changed = update(&sampling, json!({"RuleARN": arn, "FixedRate": 0.5}), NOW + 5_000_000_000)
            .await
            .expect("changed");
        expected["FixedRate"] = 0.5.into();
        assert_eq!(changed["SamplingRuleRecord"]["SamplingRule"], expected, "what is not said stays");
        assert_eq!(changed["SamplingRuleRecord"]["CreatedAt"], 1_795_000_000.0);
        assert_eq!(changed["SamplingRuleRecord"]["ModifiedAt"], 1_795_000_005.0);
        update(
            &sampling,
            json!({"RuleName": "Default", "ReservoirSize": 3, "FixedRate": 0.1, "Priority": 10_000}),
            NOW,
        )
        .await
        .expect("changed");
        let again = open(&[], Arc::new(memory.surviving()));
        for sampling in [&sampling, &again] {
            assert_eq!(names(sampling), ["pay", "Default"]);
            assert_eq!(sampling.rules()["SamplingRuleRecords"][1]["SamplingRule"]["ReservoirSize"], 3);
            assert_eq!(sampling.targets(&[], &[], NOW)["LastRuleModification"], 1_795_000_005.0);
            assert_eq!(
                sampling.tags(arn).expect("a rule's").expect("tags").shown(),
                json!([{"Key": "team", "Value": "a"}])
            );
        }
        let gone = delete(&again, json!({"RuleName": "pay"})).await.expect("gone");
        assert_eq!(gone["SamplingRuleRecord"]["SamplingRule"]["RuleName"], "pay");
        assert_eq!(names(&again), ["Default"]);
        assert!(delete(&again, json!({"RuleName": "pay"})).await.is_err());
        assert_eq!(again.targets(&[statistics("pay", 1)], &[], NOW)["UnprocessedStatistics"][0]["RuleName"], "pay");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_by_member() {
        let sampling = open(
            &[SamplingRule {
                name: "fixed".into(),
                priority: 1,
                ..SamplingRule::default()
            }],
            Arc::new(Memory::default()),
        );
        let wrong = |member: &str, value: Value| {
            let mut wrong = rule("x");
            wrong[member] = value;
            wrong
        };
        for (rule, said) in [
            (wrong("Priority", json!(10_000)), "'samplingRule.priority'"),
            (wrong("Priority", json!(0)), "'samplingRule.priority'"),
            (wrong("FixedRate", json!(1.5)), "'samplingRule.fixedRate'"),
            (wrong("ReservoirSize", json!(-1)), "'samplingRule.reservoirSize'"),
            (wrong("RuleName", json!("x".repeat(33))), "'samplingRule.ruleName'"),
            (wrong("HTTPMethod", json!("VERYLONGVERB")), "'samplingRule.httpMethod'"),
            (wrong("Version", json!(2)), "'samplingRule.version'"),
            (wrong("Host", Value::Null), "Value null at 'samplingRule.host'"),
            (wrong("Attributes", json!({"a": ""})), "'samplingRule.attributes.a.member'"),
            (
                wrong("Attributes", json!({"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "1"})),
                "[6 attributes]",
            ),
            (
                wrong("SamplingRateBoost", json!({"MaxRate": 2, "CooldownWindowMinutes": 1})),
                "samplingRateBoost.maxRate",
            ),
            (rule("Default"), "already exists"),
            (rule("fixed"), "already exists"),
            (wrong("RuleARN", json!("arn:aws:xray:r:1:sampling-rule/x")), "not by both"),
        ] {
            let error = create(&sampling, rule).await.expect_err(said);
            assert!(matches!(&error, Error::InvalidRequest(message) if message.contains(said)), "{said}: {error}");
        }
        for (change, said) in [
            (json!({"RuleName": "Default", "Host": "api"}), "only FixedRate and ReservoirSize"),
            (json!({"RuleName": "fixed", "FixedRate": 0.1}), "configuration file"),
            (json!({"RuleName": "nobody", "FixedRate": 0.1}), "was not found"),
            (json!({"FixedRate": 0.1}), "RuleName or RuleARN"),
            (json!({"RuleARN": "arn:of:something", "FixedRate": 0.1}), "names no sampling rule"),
            (json!({"RuleName": "nobody", "Priority": 10_000}), "'samplingRuleUpdate.priority'"),
        ] {
            let error = update(&sampling, change, NOW).await.expect_err(said);
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
        assert!(delete(&sampling, json!({"RuleName": "Default"})).await.is_err());
        assert!(delete(&sampling, json!({"RuleName": "fixed"})).await.is_err());
        create(&sampling, rule("a")).await.expect("made");
        let again = create(&sampling, rule("a")).await.expect_err("a name is had once");
        assert!(again.to_string().contains("already exists"));
        create(&sampling, rule("b")).await.expect("made");
        assert!(matches!(create(&sampling, rule("c")).await, Err(Error::RuleLimit(_))));
    }

    #[tokio::test]
    async fn an_anomaly_boosts_a_rule_once_in_its_window() {
        let sampling = open(&[], Arc::new(Memory::default()));
        let mut pay = rule("pay");
        pay["SamplingRateBoost"] = json!({"MaxRate": 0.8, "CooldownWindowMinutes": 1});
        create(&sampling, pay).await.expect("made");
        let minute = 60_000_000_000;
        let boost = |anomalies: i64, now: i64| {
            let boost = json!({"RuleName": "pay", "ServiceName": "s", "Timestamp": 1, "AnomalyCount": anomalies, "TotalCount": 9, "SampledAnomalyCount": 0});
            let boost = [serde_json::from_value(boost).expect("statistics")];
            sampling.targets(&[statistics("pay", 1)], &boost, now)["SamplingTargetDocuments"][0]
                .get("SamplingBoost")
                .cloned()
        };
        assert_eq!(boost(0, NOW), None);
        assert_eq!(boost(1, NOW), Some(json!({"BoostRate": 0.8, "BoostRateTTL": 1_795_000_060.0})));
        assert!(boost(0, NOW + minute - 1).is_some());
        assert_eq!(boost(1, NOW + minute), None, "it rests");
        assert!(boost(1, NOW + 2 * minute).is_some());
    }
}
