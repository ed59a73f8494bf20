//! The members of each call, as read from JSON; what is required is checked by who uses it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `CreateLogGroup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateLogGroup {
    /// Required.
    pub log_group_name: Option<String>,
    /// Kept and shown, not used.
    pub kms_key_id: Option<String>,
    /// At most 50.
    pub tags: Option<BTreeMap<String, String>>,
    /// Kept and shown; `STANDARD` by default.
    pub log_group_class: Option<String>,
    /// Kept and shown.
    pub deletion_protection_enabled: Option<bool>,
}

/// `CreateLogStream`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateLogStream {
    /// Required.
    pub log_group_name: Option<String>,
    /// Required.
    pub log_stream_name: Option<String>,
}

/// `DescribeLogGroups`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeLogGroups {
    /// Excludes the pattern.
    pub log_group_name_prefix: Option<String>,
    /// A part of the name, case-sensitive.
    pub log_group_name_pattern: Option<String>,
    /// Names or ARNs; excludes all other filters.
    pub log_group_identifiers: Option<Vec<String>>,
    /// Only groups of this class.
    pub log_group_class: Option<String>,
    /// 1 to 50.
    pub limit: Option<i64>,
    /// Of the page before.
    pub next_token: Option<String>,
}

/// `DescribeLogStreams`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeLogStreams {
    /// This or the identifier.
    pub log_group_name: Option<String>,
    /// A name or an ARN.
    pub log_group_identifier: Option<String>,
    /// Excludes ordering by `LastEventTime`.
    pub log_stream_name_prefix: Option<String>,
    /// `LogStreamName` (default) or `LastEventTime`.
    pub order_by: Option<String>,
    /// Last first.
    pub descending: Option<bool>,
    /// 1 to 50.
    pub limit: Option<i64>,
    /// Of the page before.
    pub next_token: Option<String>,
}

/// `PutRetentionPolicy`; `DeleteRetentionPolicy` without the days.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetentionPolicy {
    /// Required.
    pub log_group_name: Option<String>,
    /// One of a fixed set.
    pub retention_in_days: Option<i64>,
}

/// `TagResource`, `UntagResource`, `ListTagsForResource`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagResource {
    /// A log group's ARN.
    pub resource_arn: Option<String>,
    /// To set.
    pub tags: Option<BTreeMap<String, String>>,
    /// To remove.
    pub tag_keys: Option<Vec<String>>,
}

/// The older `TagLogGroup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagLogGroup {
    /// Required.
    pub log_group_name: Option<String>,
    /// To set.
    pub tags: Option<BTreeMap<String, String>>,
}

/// The older `UntagLogGroup` and `ListTagsLogGroup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UntagLogGroup {
    /// Required.
    pub log_group_name: Option<String>,
    /// To remove.
    pub tags: Option<Vec<String>>,
}
