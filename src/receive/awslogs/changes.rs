//! Calls that make and change log groups and streams: retention, protection against deletion, tags, and what each may be.
//!
//! Where the groups are kept, and what is durable when, is the [`registry`](super::registry)'s matter.

use std::collections::BTreeMap;

use super::arn::group_of_arn;
use super::describe::{check_identifier, one_group};
use super::error::{Error, Result};
use super::metric_filters::MetricFilters;
use super::registry::{CLASSES, Group, GroupRecord, Registry, StreamRecord, check_class, check_stream, group_key, group_name, stream_key, to_json};
use super::wire;
use crate::decode::awslogs::Validation;

/// Tags of one log group.
pub const MAX_TAGS: usize = 50;
/// What `retentionInDays` may be.
pub const RETENTION_DAYS: [i64; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

impl Registry {
    /// `CreateLogGroup`.
    pub async fn create_log_group(&self, call: &wire::CreateLogGroup, now_millis: i64) -> Result<()> {
        let mut validation = Validation::new();
        if let Some(name) = validation.required(&call.log_group_name, "logGroupName") {
            validation.log_group_name(name, "logGroupName");
        }
        if let Some(kms_key_id) = &call.kms_key_id {
            validation.length(kms_key_id, "kmsKeyId", 0, 256);
        }
        let class = call.log_group_class.as_deref().unwrap_or(CLASSES[0]);
        check_class(&mut validation, class);
        let tags = call.tags.clone().unwrap_or_default();
        check_tags(&mut validation, &tags);
        if call.tags.is_some() && tags.is_empty() {
            validation.violation("{}", "tags", "Member must have length greater than or equal to 1");
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = call.log_group_name.as_deref().unwrap_or_default();
        if name.starts_with("aws/") {
            return Err(Error::InvalidParameter("Log groups starting with AWS/ are reserved for AWS.".into()));
        }
        let _changing = self.changing(name).await;
        {
            let groups = self.read();
            if groups.by_name.contains_key(name) {
                return Err(Error::AlreadyExists("group"));
            }
            if groups.by_name.len() >= self.limits().max_log_groups {
                return Err(Error::LimitExceeded(format!(
                    "Resource limit exceeded: {} log groups.",
                    self.limits().max_log_groups
                )));
            }
        }
        // one that is created again is newer than what is gone, whatever the clock says
        let gone = self.read().gone.at(name);
        let record = GroupRecord {
            created_millis: gone.map_or(now_millis, |at| now_millis.max(at.saturating_add(1))),
            retention_days: None,
            class: class.to_string(),
            kms_key_id: call.kms_key_id.clone(),
            deletion_protection: call.deletion_protection_enabled.unwrap_or(false),
            bearer_tokens: None,
            tags,
            subscription_filters: BTreeMap::new(),
            metric_filters: MetricFilters::new(),
            version: 1,
        };
        self.intake().put_state(&group_key(name), Some(to_json(&record).into())).await?;
        self.write().by_name.insert(name.to_string(), Group { record, ..Group::default() });
        Ok(())
    }

    /// `CreateLogStream`.
    pub async fn create_log_stream(&self, call: &wire::CreateLogStream, now_millis: i64) -> Result<()> {
        let mut validation = Validation::new();
        check_stream(&mut validation, &call.log_group_name, &call.log_stream_name);
        validation.finish().map_err(Error::InvalidParameter)?;
        let group_name = call.log_group_name.as_deref().unwrap_or_default();
        let stream_name = call.log_stream_name.as_deref().unwrap_or_default();
        let key = stream_key(group_name, stream_name);
        let _changing = self.changing(&key).await;
        {
            let groups = self.read();
            let group = groups.by_name.get(group_name).ok_or(Error::NotFound("group"))?;
            if group.streams.contains(stream_name) {
                return Err(Error::AlreadyExists("stream"));
            }
            if groups.n_streams >= self.limits().max_log_streams {
                // the service has no such limit, and so no error for it; clients take this one for final
                return Err(Error::InvalidParameter(format!(
                    "Resource limit exceeded: {} log streams (awslogs.max_log_streams).",
                    self.limits().max_log_streams
                )));
            }
        }
        let gone = self.read().gone.of_stream(group_name, stream_name);
        let record = StreamRecord {
            created_millis: gone.map_or(now_millis, |at| now_millis.max(at.saturating_add(1))),
            ..StreamRecord::default()
        };
        self.intake().put_state(&key, Some(to_json(&record).into())).await?;
        {
            let mut groups = self.write();
            let groups = &mut *groups;
            if let Some(group) = groups.by_name.get_mut(group_name) {
                group.streams.insert(stream_name, record);
                groups.n_streams += 1;
                return Ok(());
            }
        }
        // its group was deleted meanwhile
        self.intake().put_state(&key, None).await?;
        Err(Error::NotFound("group"))
    }

    /// `PutRetentionPolicy`.
    pub async fn put_retention_policy(&self, call: &wire::RetentionPolicy) -> Result<()> {
        let mut validation = Validation::new();
        if let Some(name) = validation.required(&call.log_group_name, "logGroupName") {
            validation.log_group_name(name, "logGroupName");
        }
        let days = *validation.required(&call.retention_in_days, "retentionInDays").unwrap_or(&RETENTION_DAYS[0]);
        if !RETENTION_DAYS.contains(&days) {
            validation.violation(days, "retentionInDays", format_args!("Member must satisfy enum value set: {RETENTION_DAYS:?}"));
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        self.change_group(call.log_group_name.as_deref().unwrap_or_default(), |record| {
            record.retention_days = Some(days);
            Ok(())
        })
        .await
    }

    /// `PutLogGroupDeletionProtection`.
    pub async fn put_deletion_protection(&self, call: &wire::DeletionProtection) -> Result<()> {
        let mut validation = Validation::new();
        if let Some(identifier) = validation.required(&call.log_group_identifier, "logGroupIdentifier") {
            check_identifier(&mut validation, identifier, "logGroupIdentifier");
        }
        let is_protected = *validation
            .required(&call.deletion_protection_enabled, "deletionProtectionEnabled")
            .unwrap_or(&false);
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = one_group(&None, &call.log_group_identifier)?;
        self.change_group(name, |record| {
            record.deletion_protection = is_protected;
            Ok(())
        })
        .await
    }

    /// `DeleteRetentionPolicy`.
    pub async fn delete_retention_policy(&self, call: &wire::RetentionPolicy) -> Result<()> {
        let name = group_name(&call.log_group_name)?;
        self.change_group(name, |record| {
            record.retention_days = None;
            Ok(())
        })
        .await
    }

    /// `TagResource`.
    pub async fn tag_resource(&self, call: &wire::TagResource) -> Result<()> {
        let name = group_of_resource(&call.resource_arn)?;
        self.tag(&name, &call.tags).await
    }

    /// The older `TagLogGroup`.
    pub async fn tag_log_group(&self, call: &wire::TagLogGroup) -> Result<()> {
        self.tag(group_name(&call.log_group_name)?, &call.tags).await
    }

    /// `UntagResource`.
    pub async fn untag_resource(&self, call: &wire::TagResource) -> Result<()> {
        let name = group_of_resource(&call.resource_arn)?;
        self.untag(&name, &call.tag_keys, "tagKeys").await
    }

    /// The older `UntagLogGroup`.
    pub async fn untag_log_group(&self, call: &wire::UntagLogGroup) -> Result<()> {
        self.untag(group_name(&call.log_group_name)?, &call.tags, "tags").await
    }

    /// `ListTagsForResource`.
    pub fn list_tags_for_resource(&self, call: &wire::TagResource) -> Result<BTreeMap<String, String>> {
        self.tags(&group_of_resource(&call.resource_arn)?)
    }

    /// The older `ListTagsLogGroup`.
    pub fn list_tags_log_group(&self, call: &wire::UntagLogGroup) -> Result<BTreeMap<String, String>> {
        self.tags(group_name(&call.log_group_name)?)
    }

    fn tags(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let groups = self.read();
        Ok(groups.by_name.get(name).ok_or(Error::NotFound("group"))?.record.tags.clone())
    }

    async fn tag(&self, name: &str, tags: &Option<BTreeMap<String, String>>) -> Result<()> {
        let mut validation = Validation::new();
        if let Some(tags) = validation.required(tags, "tags") {
            check_tags(&mut validation, tags);
            if tags.is_empty() {
                validation.violation("{}", "tags", "Member must have length greater than or equal to 1");
            }
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        self.change_group(name, |record| {
            let mut merged = record.tags.clone();
            merged.extend(tags.iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
            if merged.len() > MAX_TAGS {
                return Err(Error::TooManyTags {
                    resource: self.arns().group(name),
                    n_tags: merged.len(),
                    max_tags: MAX_TAGS,
                });
            }
            record.tags = merged;
            Ok(())
        })
        .await
    }

    async fn untag(&self, name: &str, keys: &Option<Vec<String>>, member: &str) -> Result<()> {
        let mut validation = Validation::new();
        let keys_given = validation.required(keys, member).map_or(&[][..], Vec::as_slice);
        let shown = format!("[{} keys]", keys_given.len());
        if keys_given.len() > MAX_TAGS {
            validation.violation(&shown, member, format_args!("Member must have length less than or equal to {MAX_TAGS}"));
        } else if keys_given.is_empty() && keys.is_some() && member == "tags" {
            validation.violation(&shown, member, "Member must have length greater than or equal to 1");
        }
        for key in keys_given.iter().take(MAX_TAGS) {
            check_tag_key(&mut validation, key, &format!("{member}.member"));
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        self.change_group(name, |record| {
            record.tags.retain(|key, _| !keys.iter().flatten().any(|gone| gone == key));
            Ok(())
        })
        .await
    }
}

/// The log group that a required resource ARN names.
fn group_of_resource(arn: &Option<String>) -> Result<String> {
    let mut validation = Validation::new();
    if let Some(arn) = validation.required(arn, "resourceArn") {
        validation.length(arn, "resourceArn", 1, 1011);
        if validation.is_ok() {
            check_identifier(&mut validation, arn, "resourceArn");
        }
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    let arn = arn.as_deref().unwrap_or_default();
    let invalid = || Error::InvalidParameter(format!("The ARN {arn:?} is invalid: expected arn:aws:logs:REGION:ACCOUNT:log-group:NAME"));
    Ok(group_of_arn(arn).ok_or_else(invalid)?.to_string())
}

/// Whether a tag's key or value may have it.
pub(super) fn is_tag_char(c: char) -> bool {
    c.is_alphabetic() || c.is_numeric() || c.is_whitespace() || "_.:/=+-@".contains(c)
}

/// Checks a tag's key: 1 to 128 characters.
pub(super) fn check_tag_key(validation: &mut Validation, key: &str, member: &str) {
    validation.length(key, member, 1, 128);
    if !key.chars().all(is_tag_char) {
        validation.violation(key, member, r"Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$");
    }
}

fn check_tags(validation: &mut Validation, tags: &BTreeMap<String, String>) {
    if tags.len() > MAX_TAGS {
        let shown = format_args!("[{} tags]", tags.len()).to_string();
        validation.violation(shown, "tags", format_args!("Member must have length less than or equal to {MAX_TAGS}"));
        return;
    }
    for (key, value) in tags {
        check_tag_key(validation, key, "tags");
        validation.length(value, format_args!("tags.{key}.member"), 0, 256);
        if !value.chars().all(is_tag_char) {
            validation.violation(
                value,
                format_args!("tags.{key}.member"),
                r"Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$",
            );
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            validation.violation(key, "tags", "Member must not begin with the reserved prefix aws:");
        }
    }
}
