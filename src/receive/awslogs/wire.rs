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
    /// Whether the accounts count.
    pub include_linked_accounts: Option<bool>,
    /// Groups are of the configured account.
    pub account_identifiers: Option<Vec<String>>,
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

/// `PutLogGroupDeletionProtection`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionProtection {
    /// Required; a name or an ARN.
    pub log_group_identifier: Option<String>,
    /// Required.
    pub deletion_protection_enabled: Option<bool>,
}

/// `PutBearerTokenAuthentication`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BearerTokens {
    /// Required; a name or an ARN.
    pub log_group_identifier: Option<String>,
    /// Required.
    pub bearer_token_authentication_enabled: Option<bool>,
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

/// `PutSubscriptionFilter`, `DescribeSubscriptionFilters`, `DeleteSubscriptionFilter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionFilter {
    /// Required.
    pub log_group_name: Option<String>,
    /// Required, but where filters are described.
    pub filter_name: Option<String>,
    /// Required where one is put.
    pub filter_pattern: Option<String>,
    /// Required where one is put: of a Kinesis or Firehose stream.
    pub destination_arn: Option<String>,
    /// Kept and shown, not used.
    pub role_arn: Option<String>,
    /// `Random` or `ByLogStream` (default).
    pub distribution: Option<String>,
    /// No group of ours has a transformer.
    pub apply_on_transformed_logs: Option<bool>,
    /// Not supported.
    pub field_selection_criteria: Option<String>,
    /// Not supported.
    pub emit_system_fields: Option<Vec<String>>,
    /// A beginning of filters' names.
    pub filter_name_prefix: Option<String>,
    /// 1 to 50.
    pub limit: Option<i64>,
    /// Of the page before.
    pub next_token: Option<String>,
}

/// `ListLogGroups`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListLogGroups {
    /// Up to five texts between `|`; one with `^` is a beginning.
    pub log_group_name_pattern: Option<String>,
    /// Whether the accounts count.
    pub include_linked_accounts: Option<bool>,
    /// Groups are of the configured account.
    pub account_identifiers: Option<Vec<String>>,
    /// Only groups of this class.
    pub log_group_class: Option<String>,
    /// 1 to 1,000.
    pub limit: Option<i64>,
    /// Of the page before.
    pub next_token: Option<String>,
    /// Only groups with all of these tags.
    pub log_group_tags: Option<Vec<TagFilter>>,
    /// Our groups have none.
    pub data_sources: Option<Vec<serde_json::Value>>,
    /// Our groups have none.
    pub field_index_names: Option<Vec<String>>,
}

/// One of `ListLogGroups`' tags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagFilter {
    /// Required.
    pub key: Option<String>,
    /// One of these; none means any.
    pub values: Option<Vec<String>>,
}

/// `FilterLogEvents`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FilterLogEvents {
    /// This or the identifier.
    pub(super) log_group_name: Option<String>,
    /// A name or an ARN.
    pub(super) log_group_identifier: Option<String>,
    /// At most 100; excludes the prefix.
    pub(super) log_stream_names: Option<Vec<String>>,
    /// Excludes the names.
    pub(super) log_stream_name_prefix: Option<String>,
    /// Milliseconds; inside.
    pub(super) start_time: Option<i64>,
    /// Milliseconds; inside.
    pub(super) end_time: Option<i64>,
    /// At most 1,024 characters.
    pub(super) filter_pattern: Option<String>,
    /// Of the page before.
    pub(super) next_token: Option<String>,
    /// 1 to 10,000.
    pub(super) limit: Option<i64>,
    /// Oldest first; true by default.
    pub(super) start_from_head: Option<bool>,
}

/// `GetLogEvents`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetLogEvents {
    /// This or the identifier.
    pub(super) log_group_name: Option<String>,
    /// A name or an ARN.
    pub(super) log_group_identifier: Option<String>,
    /// Required.
    pub(super) log_stream_name: Option<String>,
    /// Milliseconds; inside.
    pub(super) start_time: Option<i64>,
    /// Milliseconds; outside.
    pub(super) end_time: Option<i64>,
    /// One of the page before.
    pub(super) next_token: Option<String>,
    /// 1 to 10,000.
    pub(super) limit: Option<i64>,
    /// The oldest page; false by default.
    pub(super) start_from_head: Option<bool>,
}

/// `TestMetricFilter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TestMetricFilter {
    /// Required, at most 1,024 characters.
    pub(super) filter_pattern: Option<String>,
    /// Required, 1 to 50.
    pub(super) log_event_messages: Option<Vec<String>>,
}

/// `GetLogRecord`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetLogRecord {
    /// Required.
    pub(super) log_record_pointer: Option<String>,
}

/// `GetLogGroupFields`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetLogGroupFields {
    /// This or the identifier.
    pub(super) log_group_name: Option<String>,
    /// A name or an ARN.
    pub(super) log_group_identifier: Option<String>,
    /// Seconds; the middle of 16 minutes.
    pub(super) time: Option<i64>,
}

/// `StartLiveTail`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StartLiveTail {
    /// ARNs, 1 to 10.
    pub(super) log_group_identifiers: Option<Vec<String>>,
    /// With one group; excludes the prefixes.
    pub(super) log_stream_names: Option<Vec<String>>,
    /// With one group; excludes the names.
    pub(super) log_stream_name_prefixes: Option<Vec<String>>,
    /// At most 1,024 characters.
    pub(super) log_event_filter_pattern: Option<String>,
}

/// `DeleteLogGroup`, `DeleteLogStream`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delete {
    /// Required.
    pub log_group_name: Option<String>,
    /// Required of a stream.
    pub log_stream_name: Option<String>,
}

/// `PutMetricFilter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutMetricFilter {
    /// Required.
    pub log_group_name: Option<String>,
    /// Required.
    pub filter_name: Option<String>,
    /// Required; empty matches all.
    pub filter_pattern: Option<String>,
    /// Required, one.
    pub metric_transformations: Option<Vec<MetricTransformation>>,
    /// Kept and shown.
    pub apply_on_transformed_logs: Option<bool>,
    /// Not served.
    pub field_selection_criteria: Option<String>,
    /// Not served.
    pub emit_system_field_dimensions: Option<Vec<String>>,
}

/// What a metric filter makes of a match.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricTransformation {
    /// Required.
    pub metric_name: Option<String>,
    /// Required.
    pub metric_namespace: Option<String>,
    /// Required; a number or a field.
    pub metric_value: Option<String>,
    /// For minutes in which nothing matches; not with dimensions.
    pub default_value: Option<f64>,
    /// Name and field, at most three.
    pub dimensions: Option<BTreeMap<String, String>>,
    /// One of CloudWatch's.
    pub unit: Option<String>,
}

/// `DescribeMetricFilters`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeMetricFilters {
    /// All groups without one.
    pub log_group_name: Option<String>,
    /// Counts with a group only.
    pub filter_name_prefix: Option<String>,
    /// With the namespace.
    pub metric_name: Option<String>,
    /// With the name.
    pub metric_namespace: Option<String>,
    /// 1 to 50.
    pub limit: Option<i64>,
    /// Of the page before.
    pub next_token: Option<String>,
}

/// `DeleteMetricFilter`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteMetricFilter {
    /// Required.
    pub log_group_name: Option<String>,
    /// Required.
    pub filter_name: Option<String>,
}

/// `StartQuery`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StartQuery {
    /// `CWLI` by default.
    pub(super) query_language: Option<String>,
    /// One of this and the next two, or none.
    pub(super) log_group_name: Option<String>,
    /// 1 to 50.
    pub(super) log_group_names: Option<Vec<String>>,
    /// Names or ARNs, 1 to 50.
    pub(super) log_group_identifiers: Option<Vec<String>>,
    /// Required. Seconds; inside.
    pub(super) start_time: Option<i64>,
    /// Required. Seconds; inside.
    pub(super) end_time: Option<i64>,
    /// Required, at most 10,000 characters.
    pub(super) query_string: Option<String>,
    /// 1 to 100,000.
    pub(super) limit: Option<i64>,
}

/// `GetQueryResults`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GetQueryResults {
    /// Required.
    pub(super) query_id: Option<String>,
    /// Of the page before.
    pub(super) next_token: Option<String>,
    /// 0 to 10,000.
    pub(super) max_items: Option<i64>,
}

/// `StopQuery`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StopQuery {
    /// Required.
    pub(super) query_id: Option<String>,
}

/// `DescribeQueries`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DescribeQueries {
    /// Queries about this group, and maybe others.
    pub(super) log_group_name: Option<String>,
    /// Queries that stand so.
    pub(super) status: Option<String>,
    /// 1 to 1,000.
    pub(super) max_results: Option<i64>,
    /// Of the page before.
    pub(super) next_token: Option<String>,
    /// Queries in this language.
    pub(super) query_language: Option<String>,
}
