//! Groups: names for filter expressions.
//!
//! A trace is of a group when the group's expression lets it through, whenever it came; `group.name` and `group.arn` of filter expressions
//! mean that, and so does the `GroupName` or `GroupARN` of a call ([`Groups::expression`]). `Default` is always there, has no
//! expression and lets everything through; of it only the insights' settings may be changed.
//!
//! `InsightsConfiguration` is kept and shown; insights are not made here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Intake;
use super::definitions::Definitions;
use super::tags::{self, Tag, Tags};
use super::{Error, Receiver, Result};
use crate::decode::awslogs::Validation;
use crate::query::xray::Expression;
use crate::query::xray::expression::NamedGroup;

/// The group that is always there.
const DEFAULT_GROUP: &str = "Default";
/// Documents of groups lie under this.
pub(super) const GROUP_KEY: &str = "xray/group/";
/// Characters of what tells apart groups that had one name after another.
const ID_CHARS: usize = 26;
const ID_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InsightsConfiguration {
    insights_enabled: Option<bool>,
    notifications_enabled: Option<bool>,
}

/// A group as stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct GroupRecord {
    id: String,
    filter_expression: Option<String>,
    insights: InsightsConfiguration,
    tags: Tags,
    created_nanos: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Call {
    group_name: Option<String>,
    #[serde(rename = "GroupARN")]
    group_arn: Option<String>,
    filter_expression: Option<String>,
    insights_configuration: Option<InsightsConfiguration>,
    tags: Option<Vec<Tag>>,
    next_token: Option<String>,
}

/// The groups there are.
#[derive(Debug)]
pub(super) struct Groups {
    defined: Definitions<GroupRecord>,
    max_groups: usize,
    arn_prefix: String,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidRequest(message.into())
}

impl InsightsConfiguration {
    fn check(self) -> Result<()> {
        match self.notifications_enabled == Some(true) && self.insights_enabled != Some(true) {
            true => Err(invalid("NotificationsEnabled is for groups with InsightsEnabled.")),
            false => Ok(()),
        }
    }

    /// What is said, and what was there of the rest.
    fn over(self, before: Self) -> Self {
        Self {
            insights_enabled: self.insights_enabled.or(before.insights_enabled),
            notifications_enabled: self.notifications_enabled.or(before.notifications_enabled),
        }
    }
}

/// An expression that a group may have: none that asks for groups.
fn check_expression(text: &str) -> Result<()> {
    let expression = Expression::parse(text).map_err(|error| invalid(error.to_string()))?;
    match expression.names_groups() {
        true => Err(invalid("FilterExpression: a group's expression cannot ask for groups.")),
        false => Ok(()),
    }
}

impl Groups {
    /// Those defined earlier; `arn_prefix` is what stands before a group's name.
    pub(super) fn open(max_groups: usize, arn_prefix: String, intake: Arc<dyn Intake>) -> Self {
        Self {
            defined: Definitions::open(intake, GROUP_KEY),
            max_groups,
            arn_prefix,
        }
    }

    /// Takes over what another node knows of the group under a key, if it is one's.
    pub(super) async fn learn(&self, key: &str, value: &Bytes) {
        if let Some(name) = key.strip_prefix(GROUP_KEY) {
            self.defined.learn(name, value).await;
        }
    }

    fn get(&self, name: &str) -> Option<GroupRecord> {
        let default = || (name == DEFAULT_GROUP).then(GroupRecord::default);
        self.defined.get(name).or_else(default)
    }

    fn all(&self) -> Vec<(String, GroupRecord)> {
        let mut all = self.defined.all();
        if !all.iter().any(|(name, _)| name == DEFAULT_GROUP) {
            all.push((DEFAULT_GROUP.into(), GroupRecord::default()));
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        all
    }

    fn arn(&self, name: &str, record: &GroupRecord) -> String {
        match record.id.is_empty() {
            true => format!("{}{name}", self.arn_prefix),
            false => format!("{}{name}/{}", self.arn_prefix, record.id),
        }
    }

    fn of_arn(&self, arn: &str) -> Option<(String, GroupRecord)> {
        let rest = arn.strip_prefix(&self.arn_prefix)?;
        let name = rest.rsplit_once('/').map_or(rest, |(name, _)| name);
        [name, rest].into_iter().find_map(|name| {
            let record = self.get(name)?;
            (self.arn(name, &record) == arn).then(|| (name.to_string(), record))
        })
    }

    fn named(&self, name: Option<&str>, arn: Option<&str>) -> Result<(String, GroupRecord)> {
        let found = match (name, arn) {
            (Some(_), Some(_)) => return Err(invalid("Specify a group by GroupName or by GroupARN, but not by both.")),
            (None, None) => return Err(invalid("GroupName or GroupARN is required.")),
            (Some(name), None) => self.get(name).map(|record| (name.to_string(), record)),
            (None, Some(arn)) => self.of_arn(arn),
        };
        found.ok_or_else(|| invalid(format!("Group {} was not found.", name.or(arn).unwrap_or_default())))
    }

    /// What a call is asked about that may name a group; all traces, if it names none.
    pub(super) fn expression(&self, name: Option<&str>, arn: Option<&str>) -> Result<Expression> {
        if name.is_none() && arn.is_none() {
            return Ok(Expression::All);
        }
        let (_, record) = self.named(name, arn)?;
        record.expression()
    }

    /// All of them, for expressions that ask for groups.
    pub(super) fn expressions(&self) -> Vec<NamedGroup> {
        let group = |(name, record): (String, GroupRecord)| {
            // one that today's parser does not read lets nothing through
            let expression = record.expression().ok()?;
            Some(NamedGroup {
                arn: self.arn(&name, &record),
                name,
                expression,
            })
        };
        self.all().into_iter().filter_map(group).collect()
    }

    fn shown(&self, name: &str, record: &GroupRecord) -> Value {
        let mut shown = json!({
            "GroupName": name,
            "GroupARN": self.arn(name, record),
            "InsightsConfiguration": {
                "InsightsEnabled": record.insights.insights_enabled.unwrap_or(false),
                "NotificationsEnabled": record.insights.notifications_enabled.unwrap_or(false),
            },
        });
        if let Some(text) = &record.filter_expression {
            shown["FilterExpression"] = text.as_str().into();
        }
        shown
    }

    async fn create(&self, call: &Call, now_nanos: i64) -> Result<Value> {
        let mut validation = Validation::new();
        if let Some(name) = validation.required(&call.group_name, "groupName") {
            validation.length(name, "groupName", 1, 32);
        }
        let tags = tags::checked(&mut validation, call.tags.as_deref());
        validation.finish().map_err(Error::InvalidRequest)?;
        let name = call.group_name.as_deref().unwrap_or_default();
        if name == DEFAULT_GROUP {
            return Err(invalid("Default is a reserved name."));
        }
        let filter_expression = call.filter_expression.clone().filter(|text| !text.is_empty());
        filter_expression.as_deref().map_or(Ok(()), check_expression)?;
        let insights = call.insights_configuration.unwrap_or_default();
        insights.check()?;
        let record = GroupRecord {
            id: new_id(),
            filter_expression,
            insights,
            tags,
            created_nanos: now_nanos,
        };
        let change = |known: Option<&GroupRecord>, n_groups: usize| match known {
            Some(_) => Err(invalid(format!("Group {name} already exists."))),
            None if n_groups >= self.max_groups => Err(invalid(format!("You have reached the maximum number of groups, which is {}.", self.max_groups))),
            None => Ok(Some(record.clone())),
        };
        self.defined.change(name, now_nanos, change).await?;
        Ok(json!({ "Group": self.shown(name, &record) }))
    }

    async fn update(&self, call: &Call, now_nanos: i64) -> Result<Value> {
        let (name, _) = self.named(call.group_name.as_deref(), call.group_arn.as_deref())?;
        if let Some(text) = &call.filter_expression {
            if name == DEFAULT_GROUP {
                return Err(invalid("The Default group has no filter expression."));
            }
            check_expression(text)?;
        }
        let record = self
            .change(&name, now_nanos, |record| {
                if let Some(text) = &call.filter_expression {
                    record.filter_expression = Some(text.clone()).filter(|text| !text.is_empty());
                }
                record.insights = call.insights_configuration.unwrap_or_default().over(record.insights);
                record.insights.check()
            })
            .await?;
        Ok(json!({ "Group": self.shown(&name, &record) }))
    }

    async fn change(&self, name: &str, now_nanos: i64, change: impl FnOnce(&mut GroupRecord) -> Result<()>) -> Result<GroupRecord> {
        let unknown = || invalid(format!("Group {name} was not found."));
        let mut changed = None;
        let put = |known: Option<&GroupRecord>, _: usize| {
            // Default is there though nobody defined it
            let default = || (name == DEFAULT_GROUP).then(GroupRecord::default);
            let mut record = known.cloned().or_else(default).ok_or_else(unknown)?;
            change(&mut record)?;
            changed = Some(record.clone());
            Ok(Some(record))
        };
        self.defined.change(name, now_nanos, put).await?;
        changed.ok_or_else(unknown)
    }

    async fn delete(&self, call: &Call, now_nanos: i64) -> Result<Value> {
        let (name, _) = self.named(call.group_name.as_deref(), call.group_arn.as_deref())?;
        if name == DEFAULT_GROUP {
            return Err(invalid("The Default group cannot be deleted."));
        }
        self.defined.change(&name, now_nanos, |_, _| Ok(None)).await?;
        Ok(json!({}))
    }

    /// The tags of the group that an ARN names; `None` if it is no group's.
    pub(super) fn tags(&self, arn: &str) -> Option<Result<Tags>> {
        arn.starts_with(&self.arn_prefix)
            .then(|| self.of_arn(arn).map(|(_, record)| record.tags).ok_or_else(|| tags::no_resource(arn)))
    }

    /// Changes the tags of a group.
    pub(super) async fn change_tags(&self, arn: &str, now_nanos: i64, change: impl FnOnce(&mut Tags) -> Result<()>) -> Option<Result<()>> {
        let Some((name, _)) = self.of_arn(arn) else {
            return Some(Err(tags::no_resource(arn)));
        };
        let changed = self.change(&name, now_nanos, |record| change(&mut record.tags)).await;
        Some(changed.map(|_| ()))
    }
}

impl GroupRecord {
    fn expression(&self) -> Result<Expression> {
        Expression::parse(self.filter_expression.as_deref().unwrap_or_default()).map_err(|error| invalid(error.to_string()))
    }
}

fn new_id() -> String {
    let mut random = rand::rng();
    let letter = |_| char::from(ID_ALPHABET[random.random_range(0..ID_ALPHABET.len())]);
    (0..ID_CHARS).map(letter).collect()
}

impl Receiver {
    /// `CreateGroup`.
    pub(super) async fn create_group(&self, request: Request<Body>) -> Result<Value> {
        let call = self.call(request).await?;
        self.groups.create(&call, self.clock.now_nanos()).await
    }

    /// `UpdateGroup`.
    pub(super) async fn update_group(&self, request: Request<Body>) -> Result<Value> {
        let call = self.call(request).await?;
        self.groups.update(&call, self.clock.now_nanos()).await
    }

    /// `DeleteGroup`.
    pub(super) async fn delete_group(&self, request: Request<Body>) -> Result<Value> {
        let call = self.call(request).await?;
        self.groups.delete(&call, self.clock.now_nanos()).await
    }

    /// `GetGroup`.
    pub(super) async fn get_group(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        let (name, record) = self.groups.named(call.group_name.as_deref(), call.group_arn.as_deref())?;
        Ok(json!({ "Group": self.groups.shown(&name, &record) }))
    }

    /// `GetGroups`: all on one page.
    pub(super) async fn get_groups(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        super::one_page(call.next_token.as_deref())?;
        let groups: Vec<Value> = self.groups.all().iter().map(|(name, record)| self.groups.shown(name, record)).collect();
        Ok(json!({ "Groups": groups }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Memory;
    use super::*;

    const NOW: i64 = 1_795_000_000_000_000_000;

    fn open(memory: Arc<Memory>) -> Groups {
        Groups::open(2, "arn:aws:xray:r:1:group/".into(), memory)
    }

    fn call(value: Value) -> Call {
        serde_json::from_value(value).expect("a call")
    }

    #[tokio::test]
    async fn groups_are_made_changed_and_deleted_and_survive_a_restart() {
        let memory = Arc::new(Memory::default());
        let groups = open(memory.clone());
        let made = call(json!({"GroupName": "slow/pay", "FilterExpression": "duration > 2", "Tags": [{"Key": "team", "Value": "a"}]}));
        let made = groups.create(&made, NOW).await.expect("made")["Group"].clone();
        let arn = made["GroupARN"].as_str().expect("an ARN").to_string();
        assert_eq!(arn.strip_prefix("arn:aws:xray:r:1:group/slow/pay/").map(str::len), Some(ID_CHARS));
        assert_eq!(made["InsightsConfiguration"], json!({"InsightsEnabled": false, "NotificationsEnabled": false}));
        let changed = call(json!({"GroupARN": arn, "InsightsConfiguration": {"InsightsEnabled": true, "NotificationsEnabled": true}}));
        let changed = groups.update(&changed, NOW).await.expect("changed")["Group"].clone();
        assert_eq!((&changed["FilterExpression"], &changed["GroupARN"]), (&json!("duration > 2"), &json!(arn)));
        let again = open(Arc::new(memory.surviving()));
        for groups in [&groups, &again] {
            let (name, record) = groups.named(None, Some(&arn)).expect("found");
            assert_eq!(groups.shown(&name, &record), changed);
            assert_eq!(
                groups.expression(Some("slow/pay"), None).expect("one"),
                Expression::parse("duration > 2").expect("one")
            );
            assert_eq!(groups.expression(None, None).expect("all"), Expression::All);
            assert_eq!(groups.expression(Some("Default"), None).expect("all"), Expression::All);
            assert_eq!(groups.all().len(), 2);
            assert_eq!(
                groups.tags(&arn).expect("a group's").expect("tags").shown(),
                json!([{"Key": "team", "Value": "a"}])
            );
        }
        again.delete(&call(json!({"GroupName": "slow/pay"})), NOW).await.expect("gone");
        assert!(again.named(None, Some(&arn)).is_err());
        assert!(again.tags(&arn).expect("a group's").is_err());
        let new = again.create(&call(json!({"GroupName": "slow/pay"})), NOW).await.expect("made");
        assert_ne!(new["Group"]["GroupARN"], json!(arn), "another group of the same name");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_group_is_told() {
        let groups = open(Arc::new(Memory::default()));
        for (wrong, said) in [
            (json!({}), "'groupName'"),
            (json!({"GroupName": "x".repeat(33)}), "'groupName'"),
            (json!({"GroupName": "Default"}), "reserved"),
            (
                json!({"GroupName": "a", "FilterExpression": "speed > 2"}),
                "at character 1: speed is no keyword",
            ),
            (json!({"GroupName": "a", "FilterExpression": "group.name = \"b\""}), "cannot ask for groups"),
            (
                json!({"GroupName": "a", "InsightsConfiguration": {"NotificationsEnabled": true}}),
                "InsightsEnabled",
            ),
            (json!({"GroupName": "a", "Tags": [{"Key": "aws:x", "Value": ""}]}), "reserved prefix"),
        ] {
            let error = groups.create(&call(wrong), NOW).await.expect_err(said);
            assert!(matches!(&error, Error::InvalidRequest(message) if message.contains(said)), "{said}: {error}");
        }
        assert!(groups.delete(&call(json!({"GroupName": "Default"})), NOW).await.is_err());
        assert!(groups.delete(&call(json!({"GroupName": "a"})), NOW).await.is_err());
        assert!(
            groups
                .update(&call(json!({"GroupName": "Default", "FilterExpression": "ok"})), NOW)
                .await
                .is_err()
        );
        groups.create(&call(json!({"GroupName": "a"})), NOW).await.expect("made");
        assert!(groups.create(&call(json!({"GroupName": "a"})), NOW).await.is_err());
        groups.create(&call(json!({"GroupName": "b"})), NOW).await.expect("made");
        let beyond = groups.create(&call(json!({"GroupName": "c"})), NOW).await.expect_err("beyond");
        assert!(beyond.to_string().contains("maximum number"));
        let insights = json!({"GroupName": "Default", "InsightsConfiguration": {"InsightsEnabled": true}});
        groups.update(&call(insights), NOW).await.expect("changed");
        assert_eq!(groups.get("Default").expect("there").insights.insights_enabled, Some(true));
    }
}
