//! `PutSubscriptionFilter`, `DescribeSubscriptionFilters`, `DeleteSubscriptionFilter`: which events of a group go on to Kinesis and
//! Firehose.
//!
//! A group has at most [`MAX_FILTERS`] filters, whose names are unique in it, and [`MAX_REGEXES`] regular expressions in all of them and
//! its metric filters. They
//! are part of the group's document: durable before the client has its answer, known to other nodes, gone with the group. A filter
//! is for what is acknowledged after it was put; putting one of the same name changes it, and what it has not delivered yet is
//! delivered as the change says.
//!
//! Before a filter is kept its destination gets a `CONTROL_MESSAGE`, as the service does it; one that does not take it is refused
//! with `InvalidParameterException`, one that cannot be reached with 503 `ServiceUnavailableException`. Destinations of Lambda,
//! OpenSearch and other accounts are refused, and so is the member that concerns transformers. `roleArn` is kept and shown: what signs is
//! our own credentials.
//!
//! `fieldSelectionCriteria`: see [`selection`]; a filter whose criteria do not hold here sends nothing. `emitSystemFields`: `@aws.account`
//! and `@aws.region` of the settings, among the `extractedFields` of each event; `@source.log` is refused, since nothing here is copied
//! from other log groups.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::answer::BUSY_RETRY_AFTER;
use super::describe::{page_size, read_token, with_token, write_token};
use super::error::{Error, Result};
use super::metric_filters::SYSTEM_FIELDS;
use super::registry::{GroupRecord, Registry};
use super::{Arns, Receiver, selection, wire};
use crate::decode::awslogs::Validation;
use crate::deliver::sink::{Destination, Fault, Remedy, Service, Sinks};
use crate::deliver::{Position, Subscription, Subscriptions, control_message};
use crate::query::filter_pattern::{FilterPattern, MAX_CHARS};

/// Filters of one group.
const MAX_FILTERS: usize = 2;
/// Regular expressions of all filters of one group, metric filters too.
pub(super) const MAX_REGEXES: usize = 5;
/// Characters of a filter's name.
const MAX_NAME_CHARS: usize = 512;
/// Characters of `fieldSelectionCriteria`.
pub(super) const MAX_CRITERIA_CHARS: usize = 2_000;
/// What `distribution` may be; the second is the default.
const DISTRIBUTIONS: [&str; 2] = ["Random", "ByLogStream"];

/// A subscription filter as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FilterRecord {
    pattern: String,
    destination_arn: String,
    role_arn: Option<String>,
    distribution: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field_selection_criteria: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    emit_system_fields: Vec<String>,
    created_millis: i64,
    since: Position,
}

/// What a call asks for.
#[derive(Debug)]
struct Asked<'a> {
    group: &'a str,
    name: &'a str,
    n_regexes: usize,
    record: FilterRecord,
    destination: Destination,
}

fn check_name(validation: &mut Validation, name: &str, member: &str) {
    validation.length(name, member, 1, MAX_NAME_CHARS);
    if name.contains([':', '*']) {
        validation.violation(name, member, "Member must satisfy regular expression pattern: [^:*]*");
    }
}

fn check_names(validation: &mut Validation, call: &wire::SubscriptionFilter) {
    if let Some(group) = validation.required(&call.log_group_name, "logGroupName") {
        validation.log_group_name(group, "logGroupName");
    }
    if let Some(name) = validation.required(&call.filter_name, "filterName") {
        check_name(validation, name, "filterName");
    }
}

fn asked<'c>(call: &'c wire::SubscriptionFilter, arns: &Arns) -> Result<Asked<'c>> {
    let mut validation = Validation::new();
    check_names(&mut validation, call);
    if let Some(pattern) = validation.required(&call.filter_pattern, "filterPattern") {
        validation.length(pattern, "filterPattern", 0, MAX_CHARS);
    }
    if let Some(arn) = validation.required(&call.destination_arn, "destinationArn") {
        validation.length(arn, "destinationArn", 1, usize::MAX);
    }
    if let Some(arn) = &call.role_arn {
        validation.length(arn, "roleArn", 1, usize::MAX);
    }
    let distribution = call.distribution.as_deref().unwrap_or(DISTRIBUTIONS[1]);
    if !DISTRIBUTIONS.contains(&distribution) {
        validation.violation(
            distribution,
            "distribution",
            format_args!("Member must satisfy enum value set: [{}]", DISTRIBUTIONS.join(", ")),
        );
    }
    if let Some(criteria) = &call.field_selection_criteria {
        validation.length(criteria, "fieldSelectionCriteria", 0, MAX_CRITERIA_CHARS);
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    if call.apply_on_transformed_logs == Some(true) {
        return Err(Error::InvalidParameter("applyOnTransformedLogs is not supported.".into()));
    }
    let criteria = call.field_selection_criteria.clone().filter(|criteria| !criteria.trim().is_empty());
    if let Err(why) = selection::selects(criteria.as_deref().unwrap_or_default(), arns) {
        return Err(Error::InvalidParameter(format!("Invalid fieldSelectionCriteria: {why}.")));
    }
    let system_fields = call.emit_system_fields.clone().unwrap_or_default();
    if let Some(other) = system_fields.iter().find(|name| !SYSTEM_FIELDS.contains(&name.as_str())) {
        return Err(Error::InvalidParameter(format!(
            "emitSystemFields: {other:?} is not supported: expected {}.",
            SYSTEM_FIELDS.join(" or ")
        )));
    }
    let text = call.filter_pattern.as_deref().unwrap_or_default();
    let pattern = FilterPattern::parse(text).map_err(|error| Error::InvalidParameter(error.to_string()))?;
    let arn = call.destination_arn.as_deref().unwrap_or_default();
    let destination = Destination::of_arn(arn).map_err(|error| Error::InvalidParameter(format!("destinationArn: {error}.")))?;
    if call.role_arn.is_none() {
        let vendor = match destination.service {
            Service::Firehose => "firehose",
            Service::Kinesis => "kinesis",
        };
        let message = format!("destinationArn for vendor {vendor} cannot be used without roleArn");
        return Err(Error::InvalidParameter(message));
    }
    Ok(Asked {
        group: call.log_group_name.as_deref().unwrap_or_default(),
        name: call.filter_name.as_deref().unwrap_or_default(),
        n_regexes: pattern.n_regexes(),
        record: FilterRecord {
            pattern: text.to_string(),
            destination_arn: arn.to_string(),
            role_arn: call.role_arn.clone(),
            distribution: distribution.to_string(),
            field_selection_criteria: criteria,
            emit_system_fields: system_fields,
            ..FilterRecord::default()
        },
        destination,
    })
}

impl Receiver {
    pub(super) async fn put_subscription_filter(&self, call: &wire::SubscriptionFilter) -> Result<()> {
        let asked = asked(call, self.registry.arns())?;
        // what is refused anyway is not tried
        self.registry.check_takes_filter(&asked)?;
        let sinks = self.sinks.get().ok_or_else(|| Error::Internal("there is nothing to deliver through".into()))?;
        try_destination(sinks, &asked.destination, self.now_millis()).await?;
        self.registry.put_filter(asked, self.now_millis()).await
    }
}

/// Sends the control message.
async fn try_destination(sinks: &Arc<dyn Sinks>, destination: &Destination, now_millis: i64) -> Result<()> {
    let service = match destination.service {
        Service::Firehose => "Firehose",
        Service::Kinesis => "Kinesis",
    };
    let record = control_message(service, now_millis);
    let answer = sinks.open(destination).await.put(&[record]).await;
    let Fault { message, remedy } = match answer.map(|mut taken| taken.pop()) {
        Ok(Some(Ok(()))) => return Ok(()),
        Ok(Some(Err(fault))) | Err(fault) => fault,
        Ok(None) => return Err(Error::Internal("a destination said nothing of the record it was sent".into())),
    };
    let stream = service.to_lowercase();
    let message = format!("Could not deliver test message to specified {service} stream. Check if the given {stream} stream is in ACTIVE state. ({message})");
    Err(match remedy {
        Remedy::Retry => Error::Unavailable {
            message,
            retry_after: BUSY_RETRY_AFTER,
        },
        Remedy::Mend | Remedy::Nothing => Error::InvalidParameter(message),
    })
}

impl FilterRecord {
    /// Regular expressions of its pattern.
    pub(super) fn n_regexes(&self) -> usize {
        FilterPattern::parse(&self.pattern).map_or(0, |pattern| pattern.n_regexes())
    }
}

impl Registry {
    fn check_takes_filter(&self, asked: &Asked<'_>) -> Result<()> {
        let groups = self.read();
        let group = groups.by_name.get(asked.group).ok_or(Error::NotFound("group"))?;
        takes_filter(&group.record, asked)
    }

    async fn put_filter(&self, asked: Asked<'_>, now_millis: i64) -> Result<()> {
        // what is acknowledged before our answer may be before it
        let since = self.intake().position();
        self.change_group(asked.group, |record| {
            takes_filter(record, &asked)?;
            let known = record.subscription_filters.get(asked.name);
            let filter = FilterRecord {
                created_millis: known.map_or(now_millis, |known| known.created_millis),
                since: known.map_or(since, |known| known.since.clone()),
                ..asked.record.clone()
            };
            record.subscription_filters.insert(asked.name.to_string(), filter);
            Ok(())
        })
        .await
    }

    /// `DescribeSubscriptionFilters`: in order of name.
    pub fn describe_subscription_filters(&self, call: &wire::SubscriptionFilter) -> Result<Value> {
        let mut validation = Validation::new();
        let limit = page_size(&mut validation, call.limit);
        if let Some(group) = validation.required(&call.log_group_name, "logGroupName") {
            validation.log_group_name(group, "logGroupName");
        }
        if let Some(prefix) = &call.filter_name_prefix {
            check_name(&mut validation, prefix, "filterNamePrefix");
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = call.log_group_name.as_deref().unwrap_or_default();
        let prefix = call.filter_name_prefix.as_deref().unwrap_or_default();
        let after = call.next_token.as_deref().map(|token| read_token(token, 'f')).transpose()?;
        let groups = self.read();
        let group = groups.by_name.get(name).ok_or(Error::NotFound("group"))?;
        let mut found = group
            .record
            .subscription_filters
            .iter()
            .filter(|(filter, _)| filter.starts_with(prefix) && after.as_ref().is_none_or(|after| *filter > after));
        let page: Vec<(&String, &FilterRecord)> = found.by_ref().take(limit).collect();
        let next = found.next().and(page.last()).map(|(filter, _)| write_token('f', filter));
        let shown = page.iter().map(|(filter, record)| shown_filter(name, filter, record)).collect();
        Ok(with_token("subscriptionFilters", shown, next))
    }

    /// `DeleteSubscriptionFilter`.
    pub async fn delete_subscription_filter(&self, call: &wire::SubscriptionFilter) -> Result<()> {
        let mut validation = Validation::new();
        check_names(&mut validation, call);
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = call.filter_name.as_deref().unwrap_or_default();
        self.change_group(call.log_group_name.as_deref().unwrap_or_default(), |record| {
            let gone = record.subscription_filters.remove(name);
            gone.map(|_| ()).ok_or(Error::NoSuchFilter("subscription"))
        })
        .await
    }
}

/// Whether a group may have this filter beside its others.
fn takes_filter(group: &GroupRecord, asked: &Asked<'_>) -> Result<()> {
    if group.class != super::CLASSES[0] && !group.class.is_empty() {
        return Err(Error::InvalidOperation(format!(
            "Subscription filters are not supported for log groups of class {}.",
            group.class
        )));
    }
    let others = || group.subscription_filters.iter().filter(|(name, _)| name.as_str() != asked.name);
    if others().count() >= MAX_FILTERS {
        return Err(Error::LimitExceeded("Resource limit exceeded.".into()));
    }
    let of_others: usize = others().map(|(_, record)| record.n_regexes()).sum();
    let n_regexes = of_others + super::metric_filters::n_regexes(&group.metric_filters);
    if asked.n_regexes > 0 && n_regexes + asked.n_regexes > MAX_REGEXES {
        return Err(Error::LimitExceeded(format!(
            "Resource limit exceeded: {MAX_REGEXES} regular expressions in the filters of a log group."
        )));
    }
    Ok(())
}

fn shown_filter(group: &str, name: &str, record: &FilterRecord) -> Value {
    let mut shown = json!({
        "filterName": name,
        "logGroupName": group,
        "filterPattern": record.pattern,
        "destinationArn": record.destination_arn,
        "distribution": record.distribution,
        "applyOnTransformedLogs": false,
        "creationTime": record.created_millis,
    });
    if let Some(role) = &record.role_arn {
        shown["roleArn"] = role.as_str().into();
    }
    if let Some(criteria) = &record.field_selection_criteria {
        shown["fieldSelectionCriteria"] = criteria.as_str().into();
    }
    if !record.emit_system_fields.is_empty() {
        shown["emitSystemFields"] = json!(record.emit_system_fields);
    }
    shown
}

impl Subscriptions for Registry {
    fn subscriptions(&self) -> Vec<Subscription> {
        let (groups, arns) = (self.read(), self.arns());
        let of_group = |(group, known): (&String, &super::registry::Group)| {
            let group = group.clone();
            let of_filter = move |(name, record): (&String, &FilterRecord)| {
                let criteria = record.field_selection_criteria.as_deref().unwrap_or_default();
                Some(Subscription {
                    log_group: group.clone(),
                    name: name.clone(),
                    created_millis: record.created_millis,
                    pattern: record.pattern.clone(),
                    destination: Destination::of_arn(&record.destination_arn).ok()?,
                    is_random: record.distribution == DISTRIBUTIONS[0],
                    is_for_us: selection::selects(criteria, arns) == Ok(true),
                    system_fields: arns.system_fields(&record.emit_system_fields),
                    since: record.since.clone(),
                })
            };
            known.record.subscription_filters.iter().filter_map(of_filter).collect::<Vec<_>>()
        };
        groups
            .by_name
            .iter()
            .filter(|(_, group)| !group.record.subscription_filters.is_empty())
            .flat_map(of_group)
            .collect()
    }

    fn shows(&self, log_group: &str, log_stream: &str, ingestion_millis: i64) -> bool {
        Registry::shows(self, log_group, log_stream, ingestion_millis)
    }

    fn account_id(&self) -> &str {
        self.arns().account_id()
    }
}
