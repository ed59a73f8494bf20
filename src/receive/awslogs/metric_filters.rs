//! `PutMetricFilter`, `DescribeMetricFilters`, `DeleteMetricFilter`.
//!
//! Filters lie in the document of their log group: they are durable before they are acknowledged or seen, go with the group, and
//! other nodes learn of them with it. What they make of events, and when, [`crate::metric_filter`] says.
//!
//! | rule | |
//! |---|---|
//! | filters of a group | 100; five regular expressions in all their patterns and those of its subscription filters |
//! | transformations of a filter | one |
//! | `metricValue` | a number, or a field: `$.name` with a JSON pattern, `$name` with a delimited one that has it |
//! | `dimensions` | three, of fields; not together with `defaultValue` |
//! | `defaultValue` | a finite number |
//! | `fieldSelectionCriteria` | see [`selection`]; a filter whose criteria do not hold here makes no points |
//! | `emitSystemFieldDimensions` | `@aws.account`, `@aws.region`: the settings', on each point; they count as dimensions |
//! | `applyOnTransformedLogs` | kept and shown; no event is transformed here |

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::describe::{page_size, read_token, with_token, write_token};
use super::error::{Error, Result};
use super::registry::{Registry, group_name};
use super::subscription_filters::{FilterRecord, MAX_CRITERIA_CHARS, MAX_REGEXES};
use super::{Arns, selection, wire};
use crate::access::Caller;
use crate::decode::awslogs::Validation;
use crate::decode::cloudwatch::UNITS;
use crate::metric_filter::{Definition, Filter, MAX_DIMENSIONS};
use crate::query::filter_pattern;

/// Filters of one group.
const MAX_FILTERS: usize = 100;
const MAX_NAME: usize = 512;
const MAX_METRIC_CHARS: usize = 255;
const MAX_VALUE_CHARS: usize = 100;
/// Fields that `emitSystemFieldDimensions` and `emitSystemFields` may name here.
pub(super) const SYSTEM_FIELDS: [&str; 2] = ["@aws.account", "@aws.region"];

/// A metric filter as stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MetricFilterRecord {
    pub(super) created_millis: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) apply_on_transformed_logs: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field_selection_criteria: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    emit_system_field_dimensions: Vec<String>,
    /// Without the dimensions that are system fields.
    #[serde(flatten)]
    pub(super) definition: Definition,
}

/// Of one group, by name.
pub(super) type MetricFilters = BTreeMap<String, MetricFilterRecord>;

impl Registry {
    /// `PutMetricFilter`: for all events that come after it.
    pub async fn put_metric_filter(&self, call: &wire::PutMetricFilter, now_millis: i64) -> Result<()> {
        let definition = checked(call)?;
        let filter = Filter::new(&definition).map_err(|error| Error::InvalidParameter(told(&error)))?;
        let name = call.filter_name.clone().unwrap_or_default();
        let criteria = call.field_selection_criteria.clone().filter(|criteria| !criteria.trim().is_empty());
        if let Err(why) = selection::selects(criteria.as_deref().unwrap_or_default(), self.arns()) {
            return Err(Error::InvalidParameter(format!("Invalid fieldSelectionCriteria: {why}.")));
        }
        let record = MetricFilterRecord {
            created_millis: now_millis,
            apply_on_transformed_logs: call.apply_on_transformed_logs.unwrap_or(false),
            field_selection_criteria: criteria,
            emit_system_field_dimensions: call.emit_system_field_dimensions.clone().unwrap_or_default(),
            definition,
        };
        self.change_group(call.log_group_name.as_deref().unwrap_or_default(), |group| {
            let others = || group.metric_filters.iter().filter(|(other, _)| **other != name);
            if others().count() >= MAX_FILTERS {
                return Err(Error::LimitExceeded(format!(
                    "Resource limit exceeded: {MAX_FILTERS} metric filters of a log group."
                )));
            }
            let of_others: usize = others().map(|(_, other)| other.n_regexes()).sum();
            let n_regexes = of_others + group.subscription_filters.values().map(FilterRecord::n_regexes).sum::<usize>();
            if filter.n_regexes() > 0 && n_regexes + filter.n_regexes() > MAX_REGEXES {
                return Err(Error::LimitExceeded(format!(
                    "Resource limit exceeded: {MAX_REGEXES} regular expressions in the filters of a log group."
                )));
            }
            group.metric_filters.insert(name, record);
            Ok(())
        })
        .await
    }

    /// `DeleteMetricFilter`.
    pub async fn delete_metric_filter(&self, call: &wire::DeleteMetricFilter) -> Result<()> {
        let mut validation = Validation::new();
        check_group_and_filter(&mut validation, &call.log_group_name, &call.filter_name);
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = call.filter_name.as_deref().unwrap_or_default();
        self.change_group(group_name(&call.log_group_name)?, |group| {
            group.metric_filters.remove(name).map(drop).ok_or(Error::NoSuchFilter("metric"))
        })
        .await
    }

    /// `DescribeMetricFilters`: those of groups that are open to the caller, in order of their names.
    pub fn describe_metric_filters(&self, call: &wire::DescribeMetricFilters, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let limit = page_size(&mut validation, call.limit);
        if let Some(name) = &call.log_group_name {
            validation.log_group_name(name, "logGroupName");
        }
        if let Some(prefix) = &call.filter_name_prefix {
            check_filter_name(&mut validation, prefix, "filterNamePrefix");
        }
        for (value, member) in [(&call.metric_name, "metricName"), (&call.metric_namespace, "metricNamespace")] {
            if let Some(value) = value {
                check_metric(&mut validation, value, member);
            }
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let metric = match (call.metric_name.as_deref(), call.metric_namespace.as_deref()) {
            (None, None) => None,
            (Some(name), Some(namespace)) => Some((name, namespace)),
            _ => {
                return Err(Error::InvalidParameter(
                    "metricName and metricNamespace must be given together or not at all.".into(),
                ));
            }
        };
        // as the service has it: a prefix counts with a group only
        let prefix = call.filter_name_prefix.as_deref().filter(|_| call.log_group_name.is_some()).unwrap_or_default();
        let after = call.next_token.as_deref().map(|token| read_token(token, 'm')).transpose()?;
        let after = after.as_deref().map(|after| after.split_once('\0').unwrap_or((after, "")));
        let groups = self.read();
        let one;
        let of_groups: &mut dyn Iterator<Item = _> = match call.log_group_name.as_deref() {
            Some(name) => {
                one = groups.by_name.get_key_value(name).ok_or(Error::NotFound("group"))?;
                &mut std::iter::once(one)
            }
            None => &mut groups.by_name.iter().filter(|(name, _)| caller.is_for_group(name)),
        };
        let mut found: Vec<(&str, &str, &MetricFilterRecord)> = of_groups
            .flat_map(|(group, known)| {
                let from = known.record.metric_filters.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
                let with_prefix = from.take_while(|(name, _)| name.starts_with(prefix));
                with_prefix.map(|(name, filter)| (name.as_str(), group.as_str(), filter))
            })
            .filter(|(_, _, filter)| metric.is_none_or(|metric| metric == (&*filter.definition.metric, &*filter.definition.namespace)))
            .filter(|(name, group, _)| after.is_none_or(|after| (*name, *group) > after))
            .collect();
        found.sort_unstable_by_key(|(name, group, _)| (*name, *group));
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| has_more)
            .map(|(name, group, _)| write_token('m', &format!("{name}\0{group}")));
        let shown = found.into_iter().map(|(name, group, filter)| shown(name, group, filter)).collect();
        Ok(with_token("metricFilters", shown, next))
    }
}

/// Definitions in order of their names: those that are for events of this account and region, and say which these are if they should.
pub(super) fn definitions(filters: &MetricFilters, arns: &Arns) -> Vec<Definition> {
    let is_for_us = |filter: &&MetricFilterRecord| {
        let criteria = filter.field_selection_criteria.as_deref().unwrap_or_default();
        selection::selects(criteria, arns).unwrap_or(false)
    };
    let definition = |filter: &MetricFilterRecord| Definition {
        system_dimensions: arns.system_fields(&filter.emit_system_field_dimensions),
        ..filter.definition.clone()
    };
    filters.values().filter(is_for_us).map(definition).collect()
}

/// Regular expressions of all patterns.
pub(super) fn n_regexes(filters: &MetricFilters) -> usize {
    filters.values().map(MetricFilterRecord::n_regexes).sum()
}

impl MetricFilterRecord {
    fn n_regexes(&self) -> usize {
        Filter::new(&self.definition).map_or(0, |filter| filter.n_regexes())
    }
}

fn shown(name: &str, group: &str, filter: &MetricFilterRecord) -> Value {
    let definition = &filter.definition;
    let mut transformation = json!({
        "metricName": definition.metric,
        "metricNamespace": definition.namespace,
        "metricValue": definition.value,
    });
    if let Some(value) = definition.default_value {
        transformation["defaultValue"] = value.into();
    }
    if let Some(unit) = &definition.unit {
        transformation["unit"] = unit.as_str().into();
    }
    if !definition.dimensions.is_empty() {
        transformation["dimensions"] = json!(definition.dimensions);
    }
    let mut shown = json!({
        "filterName": name,
        "filterPattern": definition.pattern,
        "metricTransformations": [transformation],
        "creationTime": filter.created_millis,
        "logGroupName": group,
        "applyOnTransformedLogs": filter.apply_on_transformed_logs,
    });
    if let Some(criteria) = &filter.field_selection_criteria {
        shown["fieldSelectionCriteria"] = criteria.as_str().into();
    }
    if !filter.emit_system_field_dimensions.is_empty() {
        shown["emitSystemFieldDimensions"] = json!(filter.emit_system_field_dimensions);
    }
    shown
}

/// What a call defines, if it keeps every rule that can be told without the pattern.
fn checked(call: &wire::PutMetricFilter) -> Result<Definition> {
    let mut validation = Validation::new();
    check_group_and_filter(&mut validation, &call.log_group_name, &call.filter_name);
    if let Some(pattern) = validation.required(&call.filter_pattern, "filterPattern") {
        validation.length(pattern, "filterPattern", 0, filter_pattern::MAX_CHARS);
    }
    let transformations = validation
        .required(&call.metric_transformations, "metricTransformations")
        .map_or(&[][..], Vec::as_slice);
    if let n @ (0 | 2..) = transformations.len()
        && call.metric_transformations.is_some()
    {
        let bound = if n == 0 { "greater" } else { "less" };
        let expected = format!("Member must have length {bound} than or equal to 1");
        validation.violation(format_args!("[{n} transformations]"), "metricTransformations", expected);
    }
    let none = wire::MetricTransformation::default();
    let transformation = transformations.first().unwrap_or(&none);
    if transformations.len() == 1 {
        check_transformation(&mut validation, transformation);
    }
    if let Some(criteria) = &call.field_selection_criteria {
        validation.length(criteria, "fieldSelectionCriteria", 0, MAX_CRITERIA_CHARS);
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    let dimensions = transformation.dimensions.clone().unwrap_or_default();
    let refused = |why: &str| Err(Error::InvalidParameter(format!("Invalid metric transformation: {why}")));
    let system_fields = call.emit_system_field_dimensions.as_deref().unwrap_or_default();
    if let Some(other) = system_fields.iter().find(|name| !SYSTEM_FIELDS.contains(&name.as_str())) {
        return Err(Error::InvalidParameter(format!(
            "emitSystemFieldDimensions: {other:?} is not supported: expected {}.",
            SYSTEM_FIELDS.join(" or ")
        )));
    }
    let n_dimensions = dimensions.len() + system_fields.iter().collect::<BTreeSet<_>>().len();
    if n_dimensions > MAX_DIMENSIONS {
        return refused(&format!("it has {n_dimensions} dimensions, at most {MAX_DIMENSIONS} are allowed."));
    }
    if transformation.default_value.is_some() && !dimensions.is_empty() {
        return refused("dimensions and default value are mutually exclusive properties.");
    }
    if transformation.default_value.is_some_and(|value| !value.is_finite()) {
        return refused("defaultValue is no finite number.");
    }
    let text = |member: &Option<String>| member.clone().unwrap_or_default();
    Ok(Definition {
        pattern: text(&call.filter_pattern),
        metric: text(&transformation.metric_name),
        namespace: text(&transformation.metric_namespace),
        value: text(&transformation.metric_value),
        default_value: transformation.default_value,
        unit: transformation.unit.clone(),
        dimensions,
        system_dimensions: BTreeMap::new(),
    })
}

fn check_transformation(validation: &mut Validation, transformation: &wire::MetricTransformation) {
    let at = |member: &str| format!("metricTransformations.1.member.{member}");
    for (value, member) in [
        (&transformation.metric_name, "metricName"),
        (&transformation.metric_namespace, "metricNamespace"),
    ] {
        if let Some(value) = validation.required(value, &at(member)) {
            // the model has no least length; a metric without a name is none
            validation.length(value, at(member), 1, MAX_METRIC_CHARS);
            check_metric(validation, value, &at(member));
        }
    }
    if let Some(value) = validation.required(&transformation.metric_value, &at("metricValue")) {
        validation.length(value, at("metricValue"), 0, MAX_VALUE_CHARS);
    }
    if let Some(unit) = transformation.unit.as_deref().filter(|unit| !UNITS.iter().any(|(known, _)| known == unit)) {
        let units = UNITS.map(|(unit, _)| unit).join(", ");
        validation.violation(unit, at("unit"), format_args!("Member must satisfy enum value set: [{units}]"));
    }
    for (name, field) in transformation.dimensions.iter().flatten() {
        validation.length(name, at("dimensions"), 1, MAX_METRIC_CHARS);
        validation.length(field, at(&format!("dimensions.{name}.member")), 1, MAX_METRIC_CHARS);
    }
}

fn check_metric(validation: &mut Validation, value: &str, member: &str) {
    if value.chars().count() > MAX_METRIC_CHARS {
        validation.length(value, member, 0, MAX_METRIC_CHARS);
    }
    if value.contains([':', '*', '$']) {
        validation.violation(value, member, "Member must satisfy regular expression pattern: [^:*$]*");
    }
}

fn check_filter_name(validation: &mut Validation, name: &str, member: &str) {
    validation.length(name, member, 1, MAX_NAME);
    if name.contains([':', '*']) {
        validation.violation(name, member, "Member must satisfy regular expression pattern: [^:*]*");
    }
}

fn check_group_and_filter(validation: &mut Validation, group: &Option<String>, filter: &Option<String>) {
    if let Some(name) = validation.required(group, "logGroupName") {
        validation.log_group_name(name, "logGroupName");
    }
    if let Some(name) = validation.required(filter, "filterName") {
        check_filter_name(validation, name, "filterName");
    }
}

/// A pattern's own complaint as it is; others as the transformation's.
fn told(error: &filter_pattern::Error) -> String {
    let message = error.to_string();
    match message.starts_with("Invalid filter pattern") {
        true => message,
        false => format!("Invalid metric transformation: {message}"),
    }
}
