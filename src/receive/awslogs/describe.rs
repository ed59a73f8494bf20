//! Lists of log groups and streams, page by page.
//!
//! A page's token is where the next one starts, not a place in memory: it stays valid however long a client takes, and
//! what is created meanwhile is seen or not by its name.

use std::collections::BTreeSet;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::arn::group_of_identifier;
use super::changes::{check_tag_key, is_tag_char};
use super::error::{Error, Result};
use super::registry::{Group, Registry, StreamRecord, check_class};
use super::stream_table::last_event;
use super::wire;
use crate::access::Caller;
use crate::decode::awslogs::Validation;

/// Items of a page, at most and by default.
const MAX_PAGE: i64 = 50;
/// Groups that `ListLogGroups` gives at most.
const MAX_LISTED: i64 = 1_000;
/// Tags that it takes, and values of one.
const MAX_TAG_FILTERS: usize = 5;
/// Data sources that it takes.
const MAX_DATA_SOURCES: usize = 5;
/// Names of field indexes that it takes.
const MAX_FIELD_INDEXES: usize = 20;
/// Characters of a value that a tag is to have.
const MAX_TAG_FILTER_CHARS: usize = 259;
/// Accounts of one call.
const MAX_ACCOUNTS: usize = 20;
/// Identifiers of one call.
const MAX_IDENTIFIERS: usize = 50;

impl Registry {
    /// `DescribeLogGroups`: those that are open to the caller.
    pub fn describe_log_groups(&self, call: &wire::DescribeLogGroups, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let limit = page_size(&mut validation, call.limit);
        if let Some(prefix) = &call.log_group_name_prefix {
            validation.log_group_name(prefix, "logGroupNamePrefix");
        }
        if let Some(pattern) = call.log_group_name_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
            validation.log_group_name(pattern, "logGroupNamePattern");
        }
        if let Some(class) = &call.log_group_class {
            check_class(&mut validation, class);
        }
        if let Some(identifiers) = &call.log_group_identifiers {
            check_identifiers(&mut validation, identifiers);
        }
        check_accounts(&mut validation, call.account_identifiers.as_deref());
        validation.finish().map_err(Error::InvalidParameter)?;
        let is_elsewhere = self.is_elsewhere(call.include_linked_accounts, call.account_identifiers.as_deref());
        if let Some(identifiers) = &call.log_group_identifiers {
            return self.groups_by_identifier(call, identifiers);
        }
        if call.log_group_name_prefix.is_some() && call.log_group_name_pattern.is_some() {
            return Err(Error::InvalidParameter(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.".into(),
            ));
        }
        let prefix = call.log_group_name_prefix.as_deref().unwrap_or_default();
        let pattern = call.log_group_name_pattern.as_deref().filter(|pattern| !pattern.is_empty());
        let after = call.next_token.as_deref().map(|token| read_token(token, 'g')).transpose()?;
        let groups = self.read();
        let from = match &after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut found = groups
            .by_name
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| pattern.is_none_or(|pattern| name.contains(pattern)))
            .filter(|(_, group)| is_of_class(group, call.log_group_class.as_deref()))
            .filter(|(name, _)| caller.is_for_group(name) && !is_elsewhere);
        let page: Vec<(&String, &Group)> = found.by_ref().take(limit).collect();
        let next = found.next().and(page.last()).map(|(name, _)| write_token('g', name));
        let shown = page.iter().map(|(name, group)| self.shown_group(name, group, pattern.is_some())).collect();
        Ok(with_token("logGroups", shown, next))
    }

    /// The groups that identifiers name, those that exist, in order of name.
    fn groups_by_identifier(&self, call: &wire::DescribeLogGroups, identifiers: &[String]) -> Result<Value> {
        if call.log_group_name_prefix.is_some() || call.log_group_name_pattern.is_some() || call.log_group_class.is_some() {
            return Err(Error::InvalidParameter(
                "LogGroupIdentifiers cannot be combined with logGroupNamePrefix, logGroupNamePattern or logGroupClass.".into(),
            ));
        }
        let invalid = |identifier: &str| Error::InvalidParameter(format!("The log group identifier {identifier:?} is invalid."));
        let names = identifiers
            .iter()
            .map(|identifier| group_of_identifier(identifier).ok_or_else(|| invalid(identifier)))
            .collect::<Result<BTreeSet<&str>>>()?;
        let groups = self.read();
        let shown = names
            .into_iter()
            .filter_map(|name| groups.by_name.get_key_value(name))
            .map(|(name, group)| self.shown_group(name, group, false))
            .collect();
        Ok(with_token("logGroups", shown, None))
    }

    /// With a pattern, AWS shows name, ARN and time only.
    fn shown_group(&self, name: &str, group: &Group, is_short: bool) -> Value {
        let record = &group.record;
        let arn = self.arns().group_and_streams(name);
        if is_short {
            return json!({ "logGroupName": name, "creationTime": record.created_millis, "arn": arn });
        }
        let mut shown = json!({
            "logGroupName": name,
            "creationTime": record.created_millis,
            "metricFilterCount": record.metric_filters.len(),
            "arn": arn,
            "storedBytes": group.bytes,
            "logGroupClass": record.class,
            "logGroupArn": self.arns().group(name),
            "deletionProtectionEnabled": record.deletion_protection,
            // they are good until somebody says otherwise
            "bearerTokenAuthenticationEnabled": record.bearer_tokens.unwrap_or(true),
        });
        if let Some(days) = record.retention_days {
            shown["retentionInDays"] = days.into();
        }
        if let Some(key) = &record.kms_key_id {
            shown["kmsKeyId"] = key.as_str().into();
        }
        shown
    }

    /// Whether a call asks for the groups of other accounts only.
    fn is_elsewhere(&self, include_linked: Option<bool>, accounts: Option<&[String]>) -> bool {
        let accounts = accounts.filter(|_| include_linked == Some(true)).unwrap_or_default();
        !accounts.is_empty() && !accounts.iter().any(|account| account == self.arns().account_id())
    }

    /// `ListLogGroups`.
    pub fn list_log_groups(&self, call: &wire::ListLogGroups, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let limit = call.limit.unwrap_or(MAX_PAGE);
        validation.range(limit, "limit", 1, MAX_LISTED);
        let limit = usize::try_from(limit.clamp(1, MAX_LISTED)).unwrap_or(1);
        if let Some(class) = &call.log_group_class {
            check_class(&mut validation, class);
        }
        let alternatives = match &call.log_group_name_pattern {
            Some(pattern) => name_alternatives(&mut validation, pattern),
            None => vec![],
        };
        let tags = call.log_group_tags.as_deref().unwrap_or_default();
        check_items(&mut validation, call.log_group_tags.as_deref(), "logGroupTags", MAX_TAG_FILTERS);
        for (number, tag) in tags.iter().enumerate() {
            check_tag_filter(&mut validation, tag, &format!("logGroupTags.{}.member", number + 1));
        }
        check_items(&mut validation, call.data_sources.as_deref(), "dataSources", MAX_DATA_SOURCES);
        if call.data_sources.iter().flatten().any(|source| source.get("name").is_none_or(Value::is_null)) {
            validation.missing("dataSources.member.name");
        }
        check_items(&mut validation, call.field_index_names.as_deref(), "fieldIndexNames", MAX_FIELD_INDEXES);
        for name in call.field_index_names.iter().flatten().take(MAX_FIELD_INDEXES) {
            // what a log group's name may be
            validation.log_group_name(name, "fieldIndexNames.member");
        }
        check_accounts(&mut validation, call.account_identifiers.as_deref());
        validation.finish().map_err(Error::InvalidParameter)?;
        let after = call.next_token.as_deref().map(|token| read_token(token, 'l')).transpose()?;
        let is_elsewhere = self.is_elsewhere(call.include_linked_accounts, call.account_identifiers.as_deref());
        // no group of ours has a data source or a field index
        let asks_for_what_none_has = [call.data_sources.as_ref().map(Vec::len), call.field_index_names.as_ref().map(Vec::len)]
            .into_iter()
            .flatten()
            .any(|n| n > 0);
        let groups = self.read();
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let has_tags = |group: &Group| {
            tags.iter().all(|tag| {
                let value = tag.key.as_ref().and_then(|key| group.record.tags.get(key));
                let any = tag.values.as_deref().unwrap_or_default();
                value.is_some_and(|value| any.is_empty() || any.iter().any(|wanted| tag_matches(wanted, value)))
            })
        };
        let mut found = groups
            .by_name
            .range::<str, _>((from, Bound::Unbounded))
            .filter(|(name, _)| alternatives.is_empty() || alternatives.iter().any(|one| one.is_in(name)))
            .filter(|(_, group)| is_of_class(group, call.log_group_class.as_deref()) && has_tags(group) && !asks_for_what_none_has)
            .filter(|(name, _)| caller.is_for_group(name) && !is_elsewhere);
        let page: Vec<(&String, &Group)> = found.by_ref().take(limit).collect();
        let next = found.next().and(page.last()).map(|(name, _)| write_token('l', name));
        let shown = page
            .iter()
            .map(|(name, group)| json!({ "logGroupName": name, "logGroupArn": self.arns().group(name), "logGroupClass": group.record.class }))
            .collect();
        Ok(with_token("logGroups", shown, next))
    }

    /// `DescribeLogStreams`.
    pub fn describe_log_streams(&self, call: &wire::DescribeLogStreams) -> Result<Value> {
        let mut validation = Validation::new();
        let limit = page_size(&mut validation, call.limit);
        check_group(&mut validation, &call.log_group_name, &call.log_group_identifier);
        if let Some(prefix) = &call.log_stream_name_prefix {
            validation.log_stream_name(prefix, "logStreamNamePrefix");
        }
        let by_time = match call.order_by.as_deref() {
            None | Some("LogStreamName") => false,
            Some("LastEventTime") => true,
            Some(other) => {
                validation.violation(other, "orderBy", "Member must satisfy enum value set: [LogStreamName, LastEventTime]");
                false
            }
        };
        validation.finish().map_err(Error::InvalidParameter)?;
        let group_name = one_group(&call.log_group_name, &call.log_group_identifier)?;
        if by_time && call.log_stream_name_prefix.is_some() {
            return Err(Error::InvalidParameter("Cannot order by LastEventTime with a logStreamNamePrefix.".into()));
        }
        let groups = self.read();
        let group = groups.by_name.get(group_name).ok_or(Error::NotFound("group"))?;
        let descending = call.descending.unwrap_or(false);
        let token = call.next_token.as_deref();
        let (page, next) = if by_time {
            streams_by_time(group, descending, token, limit)?
        } else {
            streams_by_name(group, call.log_stream_name_prefix.as_deref().unwrap_or_default(), descending, token, limit)?
        };
        let shown = page.into_iter().map(|(name, stream)| self.shown_stream(group_name, name, stream)).collect();
        Ok(with_token("logStreams", shown, next))
    }

    fn shown_stream(&self, group: &str, name: &str, stream: &StreamRecord) -> Value {
        let mut shown = json!({
            "logStreamName": name,
            "creationTime": stream.created_millis,
            "uploadSequenceToken": sequence_token(stream.last_ingestion_millis.unwrap_or(stream.created_millis)),
            "arn": self.arns().stream(group, name),
            "storedBytes": 0,
        });
        for (member, millis) in [
            ("firstEventTimestamp", stream.first_event_millis),
            ("lastEventTimestamp", stream.last_event_millis),
            ("lastIngestionTime", stream.last_ingestion_millis),
        ] {
            if let Some(millis) = millis {
                shown[member] = millis.into();
            }
        }
        shown
    }
}

fn check_accounts(validation: &mut Validation, accounts: Option<&[String]>) {
    let accounts = accounts.unwrap_or_default();
    if accounts.len() > MAX_ACCOUNTS {
        let shown = format_args!("[{} accounts]", accounts.len()).to_string();
        let expected = format_args!("Member must have length less than or equal to {MAX_ACCOUNTS}").to_string();
        validation.violation(shown, "accountIdentifiers", expected);
    }
    let is_account = |account: &String| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(other) = accounts.iter().find(|account| !is_account(account)) {
        validation.violation(other, "accountIdentifiers", r"Member must satisfy regular expression pattern: ^\d{12}$");
    }
}

/// How many items a list has, if there is one.
fn check_items<T>(validation: &mut Validation, items: Option<&[T]>, member: &str, max: usize) {
    let Some(n) = items.map(<[T]>::len) else { return };
    if n == 0 {
        validation.violation("[]", member, "Member must have length greater than or equal to 1");
    }
    if n > max {
        let expected = format!("Member must have length less than or equal to {max}");
        validation.violation(format!("[{n} items]"), member, expected);
    }
}

fn check_tag_filter(validation: &mut Validation, tag: &wire::TagFilter, at: &str) {
    if let Some(key) = validation.required(&tag.key, &format!("{at}.key")) {
        check_tag_key(validation, key, &format!("{at}.key"));
    }
    let values = tag.values.as_deref().unwrap_or_default();
    if values.len() > MAX_TAG_FILTERS {
        let expected = format!("Member must have length less than or equal to {MAX_TAG_FILTERS}");
        validation.violation(format!("[{} values]", values.len()), format!("{at}.values"), expected);
    }
    for value in values.iter().take(MAX_TAG_FILTERS) {
        validation.length(value, format!("{at}.values"), 0, MAX_TAG_FILTER_CHARS);
        let text = value.strip_prefix('!').unwrap_or(value);
        let text = text.strip_prefix('*').unwrap_or(text);
        if !text.strip_suffix('*').unwrap_or(text).chars().all(is_tag_char) {
            let expected = r"Member must satisfy regular expression pattern: ^!?\*?([\p{L}\p{Z}\p{N}_.:/=+\-@]*)\*?$";
            validation.violation(value, format!("{at}.values"), expected);
        }
    }
}

/// Whether a tag's value is one that `ListLogGroups` asks for: `prod`, `!prod` (any other), and with `*` at either end, where case
/// does not count.
fn tag_matches(wanted: &str, value: &str) -> bool {
    let (is_negated, wanted) = wanted.strip_prefix('!').map_or((false, wanted), |rest| (true, rest));
    let (any_before, any_behind) = (wanted.starts_with('*'), wanted.len() > 1 && wanted.ends_with('*'));
    let is_match = if any_before || any_behind {
        let text = wanted.strip_prefix('*').unwrap_or(wanted);
        let text = text.strip_suffix('*').unwrap_or(text).to_lowercase();
        let value = value.to_lowercase();
        match (any_before, any_behind || wanted == "*") {
            (true, true) => value.contains(&text),
            (true, false) => value.ends_with(&text),
            _ => value.starts_with(&text),
        }
    } else {
        value == wanted
    };
    is_match != is_negated
}

/// One of the texts of `ListLogGroups`' pattern.
struct NameAlternative<'a> {
    text: &'a str,
    is_beginning: bool,
}

impl NameAlternative<'_> {
    fn is_in(&self, name: &str) -> bool {
        if self.is_beginning {
            name.starts_with(self.text)
        } else {
            name.contains(self.text)
        }
    }
}

/// Reads `^/aws/lambda|discovery`: up to five texts of 3 to 24 characters.
fn name_alternatives<'a>(validation: &mut Validation, pattern: &'a str) -> Vec<NameAlternative<'a>> {
    validation.length(pattern, "logGroupNamePattern", 3, 129);
    let alternatives: Vec<NameAlternative<'_>> = pattern
        .split('|')
        .map(|text| NameAlternative {
            text: text.strip_prefix('^').unwrap_or(text),
            is_beginning: text.starts_with('^'),
        })
        .collect();
    let is_fit = |one: &NameAlternative<'_>| (3..=24).contains(&one.text.len()) && one.text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b));
    if alternatives.len() > 5 || !alternatives.iter().all(is_fit) {
        let expected = r"Member must satisfy regular expression pattern: (\^?[\.\-_\/#A-Za-z0-9]{3,24})(\|\^?[\.\-_\/#A-Za-z0-9]{3,24}){0,4}";
        validation.violation(pattern, "logGroupNamePattern", expected);
    }
    alternatives
}

type StreamPage<'a> = (Vec<(&'a str, &'a StreamRecord)>, Option<String>);

fn streams_by_name<'a>(group: &'a Group, prefix: &str, descending: bool, token: Option<&str>, limit: usize) -> Result<StreamPage<'a>> {
    let after = token.map(|token| read_token(token, 'n')).transpose()?;
    let (page, has_more) = group.streams.page_by_name(prefix, after.as_deref(), descending, limit);
    let next = page.last().filter(|_| has_more).map(|(name, _)| write_token('n', name));
    Ok((page, next))
}

fn streams_by_time<'a>(group: &'a Group, descending: bool, token: Option<&str>, limit: usize) -> Result<StreamPage<'a>> {
    let after = token.map(|token| read_token(token, 't')).transpose()?;
    let after = match &after {
        None => None,
        Some(text) => {
            let (millis, name) = text.split_once('/').ok_or_else(invalid_token)?;
            Some((millis.parse::<i64>().map_err(|_| invalid_token())?, name))
        }
    };
    let (page, has_more) = group.streams.page_by_last_event(after, descending, limit);
    let next = page
        .last()
        .filter(|_| has_more)
        .map(|(name, stream)| write_token('t', &format!("{}/{name}", last_event(stream))));
    Ok((page, next))
}

/// Checks the two members of which one names a group.
pub(super) fn check_group(validation: &mut Validation, name: &Option<String>, identifier: &Option<String>) {
    if let Some(name) = name {
        validation.log_group_name(name, "logGroupName");
    }
    if let Some(identifier) = identifier {
        check_identifier(validation, identifier, "logGroupIdentifier");
    }
}

/// Checks a member that names a group by its name or ARN; `:*` at its end, as `arn` of an answer has it, is passed over.
pub(super) fn check_identifier(validation: &mut Validation, identifier: &str, member: &str) {
    validation.log_group_identifier(identifier.strip_suffix(":*").unwrap_or(identifier), member);
}

/// The group that one of two members names.
pub(super) fn one_group<'a>(name: &'a Option<String>, identifier: &'a Option<String>) -> Result<&'a str> {
    match (name.as_deref(), identifier.as_deref()) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => {
            group_of_identifier(identifier).ok_or_else(|| Error::InvalidParameter(format!("The log group identifier {identifier:?} is invalid.")))
        }
        (None, None) => Err(Error::InvalidParameter("Either logGroupName or logGroupIdentifier must be given.".into())),
        (Some(_), Some(_)) => Err(Error::InvalidParameter(
            "LogGroup name and LogGroup identifier are mutually exclusive parameters.".into(),
        )),
    }
}

/// A token that clients send back with their next batch and nobody reads.
pub(super) fn sequence_token(stamp: i64) -> String {
    format!("49{:054}", stamp.max(0))
}

fn is_of_class(group: &Group, class: Option<&str>) -> bool {
    let is_infrequent = |class: &str| matches!(class, "INFREQUENT_ACCESS" | "ESSENTIALS");
    class.is_none_or(|class| group.record.class == class || is_infrequent(class) && is_infrequent(&group.record.class))
}

fn check_identifiers(validation: &mut Validation, identifiers: &[String]) {
    let n = identifiers.len();
    if n == 0 {
        validation.violation("[]", "logGroupIdentifiers", "Member must have length greater than or equal to 1");
    }
    if n > MAX_IDENTIFIERS {
        validation.violation(
            format_args!("[{n} identifiers]"),
            "logGroupIdentifiers",
            format_args!("Member must have length less than or equal to {MAX_IDENTIFIERS}"),
        );
    }
    for identifier in identifiers.iter().take(MAX_IDENTIFIERS) {
        check_identifier(validation, identifier, "logGroupIdentifiers");
    }
}

pub(super) fn page_size(validation: &mut Validation, limit: Option<i64>) -> usize {
    let limit = limit.unwrap_or(MAX_PAGE);
    validation.range(limit, "limit", 1, MAX_PAGE);
    usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(1)
}

pub(super) fn with_token(member: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = json!({ member: items });
    if let Some(token) = next {
        answer["nextToken"] = token.into();
    }
    answer
}

pub(super) fn write_token(kind: char, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}{after}"))
}

pub(super) fn read_token(token: &str, kind: char) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid_token())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid_token())?;
    Ok(text.strip_prefix(kind).ok_or_else(invalid_token)?.to_string())
}

fn invalid_token() -> Error {
    Error::InvalidParameter("The specified nextToken is invalid.".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_tags_are_exact_or_other_or_have_a_beginning_or_an_end() {
        for (wanted, matching, others) in [
            ("prod", &["prod"][..], &["Prod", "prod2", ""][..]),
            ("prod*", &["prod", "PROD-eu"], &["preprod"]),
            ("*prod", &["prod", "preProd"], &["prod1"]),
            ("*prod*", &["prod", "a-PROD-b"], &["pro"]),
            ("*", &["", "x"], &[]),
            ("!prod", &["Prod", "x", ""], &["prod"]),
            ("!prod*", &["preprod", ""], &["prod", "Production"]),
            ("", &[""], &["x"]),
        ] {
            assert!(matching.iter().all(|value| tag_matches(wanted, value)), "{wanted}");
            assert!(!others.iter().any(|value| tag_matches(wanted, value)), "{wanted}");
        }
    }
}
