//! Logs Insights: `StartQuery`, `GetQueryResults`, `StopQuery`, `DescribeQueries`.
//!
//! `StartQuery` reads the script ([`crate::query::insights`]), finds the log groups that it and the scripts in it are about, and
//! leaves it to a task ([`queries`]); the other calls look at that. Which rows of the store are events of the groups, [`scope`] says.
//!
//! | of a call | |
//! |---|---|
//! | log groups | one of `logGroupName`, `logGroupNames` and `logGroupIdentifiers` (at most 50), or `SOURCE` in the script; all must exist |
//! | `startTime`, `endTime` | seconds; the whole of both is in the range |
//! | `limit` | rows of a script without a `limit` of its own: 1 to 100,000, by default 10,000 |
//! | `queryLanguage` | `CWLI`; `SQL` ([`SqlScript`]), whose log groups stand behind `FROM`, and are among those of the call if it names some; `PPL` is refused |
//! | `statistics` | `bytesScanned` is what was read of rows in blocks, compressed, pages and columns counted as far as they were needed; what an index reads does not count. What was skipped is an estimate over all log groups |
//! | `nextToken` of `GetQueryResults` | a place in the results of a query that has ended, good for an hour |
//!
//! Lookup tables are files ([`tables`]); the calls that make and change them at AWS are not served.
//!
//! `filter search('trace:(…)')` is for keys that may read traces (service `xray`), `log:(…)` in it for those of every log group.
//!
//! Results are in memory: a query that ran before a restart is unknown. A key that is for some log groups only sees and stops the
//! queries that are about no other; a `SOURCE` by prefix means those of its groups.

mod queries;
mod scope;
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

pub use queries::Config;
pub(super) use queries::Queries;
pub(super) use scope::{Group, event};

use self::queries::{Asked, Language, Row, Seen, Status, Work};
use self::scope::OfGroups;
use super::arn::group_of_identifier;
use super::error::{Error, Result};
use super::events::Streams;
use super::registry::CLASSES;
use super::{Receiver, allowed, wire};
use crate::access::Caller;
use crate::decode::awslogs::Validation;
use crate::query::insights::{Context, Limits, MAX_CHARS, Plan, Scope, Script, Source, SqlPlan, SqlScript, SqlSource};

/// Groups that a call may name.
const MAX_GROUPS: usize = 50;
/// Groups that a `SOURCE` may find.
const MAX_FOUND_GROUPS: usize = 10_000;
/// Rows of an answer, at most and without `limit`.
const MAX_ROWS: i64 = 100_000;
const DEFAULT_ROWS: i64 = 10_000;
/// Rows of a page.
const MAX_PAGE_ROWS: i64 = 10_000;
/// Bytes of a page's values; it ends there.
const MAX_PAGE_BYTES: usize = 32 << 20;
/// Queries of a page of `DescribeQueries`.
const MAX_LISTED: i64 = 1_000;
/// How long a token is good.
const TOKEN_MILLIS: i64 = 3_600_000;
/// Query languages of the service.
const LANGUAGES: [&str; 3] = ["CWLI", "SQL", "PPL"];

impl Receiver {
    pub(super) async fn start_query(&self, call: &wire::StartQuery, caller: &Caller) -> Result<Value> {
        let text = check_start(call)?;
        let language = match call.query_language.as_deref() {
            None | Some("CWLI") => Language::Cwli,
            Some("SQL") => Language::Sql,
            Some(other) => return Err(Error::InvalidParameter(format!("queryLanguage {other} is not supported: use CWLI or SQL."))),
        };
        let (start, end) = (call.start_time.unwrap_or_default(), call.end_time.unwrap_or_default());
        let limits = Limits {
            max_memory_bytes: self.queries()?.config().memory_bytes,
            default_limit: usize::try_from(call.limit.unwrap_or(DEFAULT_ROWS)).unwrap_or(1),
        };
        let context = Context {
            start_millis: start.saturating_mul(1_000),
            end_millis: end.saturating_mul(1_000).saturating_add(999),
            now_millis: self.now_millis(),
            account_id: self.config.account_id.as_str().into(),
            region: self.config.region.as_str().into(),
            answers: Vec::new(),
            memory: Arc::default(),
        };
        let mut groups = Vec::new();
        let work = match language {
            Language::Cwli => {
                let script = Script::parse(text).map_err(Error::MalformedQuery)?;
                let script = tables::with_tables(script, &self.queries()?.config().lookup_folder).await?;
                let named = self.named_groups(call, script.sources().is_empty())?;
                Work::Script(self.plan(script, &named, (context, limits), caller, &mut groups)?)
            }
            Language::Sql => Work::Sql(self.sql_plan(call, text, (context, limits), caller, &mut groups)?),
        };
        let asked = Asked {
            text: text.to_string(),
            language,
            groups,
            key: caller.key().map(|key| key.name().to_string()),
        };
        let id = self.queries()?.start(asked, work, self.engine()?.clone())?;
        Ok(json!({ "queryId": id }))
    }

    /// A statement with its tables, whose groups are also put into `all`. Groups are named in the statement; a call may name some too, and
    /// then the statement reads no others.
    fn sql_plan(&self, call: &wire::StartQuery, text: &str, (context, limits): (Context, Limits), caller: &Caller, all: &mut Vec<String>) -> Result<SqlPlan> {
        let script = SqlScript::parse(text).map_err(Error::MalformedQuery)?;
        let is_named = call.log_group_name.is_some() || call.log_group_names.is_some() || call.log_group_identifiers.is_some();
        let named = match is_named {
            true => Some(self.named_groups(call, true)?),
            false => None,
        };
        if script.tables().is_empty() {
            return Err(Error::InvalidParameter("The query reads no log group: name one behind FROM.".into()));
        }
        let mut scopes = Vec::with_capacity(script.tables().len());
        for table in script.tables() {
            let groups = match (&table.source, &named) {
                (SqlSource::Groups(sources), named) => {
                    let groups = self.groups_of(sources, caller)?;
                    let foreign = named.as_ref().and_then(|named| groups.iter().find(|group| !named.contains(group)));
                    if let Some(group) = foreign {
                        return Err(Error::InvalidParameter(format!(
                            "The query reads the log group {group}, which is not among those that the request names."
                        )));
                    }
                    groups
                }
                (SqlSource::Indexed { .. }, Some(named)) => named.clone(),
                (SqlSource::Indexed { .. }, None) => {
                    return Err(Error::InvalidParameter(
                        "filterIndex is about the log groups that the request names: one of logGroupName, logGroupNames and logGroupIdentifiers.".into(),
                    ));
                }
            };
            all.extend(groups.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
            let scope: Arc<dyn Scope> = Arc::new(OfGroups::new(self.registry.clone(), &groups));
            scopes.push((scope, groups));
        }
        Ok(SqlPlan {
            script,
            scopes,
            context,
            limits,
            patience: self.queries()?.config().patience(),
        })
    }

    /// The groups that a call names; empty where the query does.
    fn named_groups(&self, call: &wire::StartQuery, must: bool) -> Result<Vec<String>> {
        let given = [
            call.log_group_name.is_some(),
            call.log_group_names.is_some(),
            call.log_group_identifiers.is_some(),
        ];
        let n_given = given.into_iter().filter(|is_given| *is_given).count();
        match (n_given, must) {
            (0, true) => Err(Error::InvalidParameter(
                "Exactly one of logGroupName, logGroupNames and logGroupIdentifiers must be specified, or the query must begin with a SOURCE command.".into(),
            )),
            (0, false) => Ok(Vec::new()),
            (1, false) => Err(Error::InvalidParameter(
                "Log groups cannot be specified both in the request and in the SOURCE command of the query.".into(),
            )),
            (1, true) => {
                let identifiers = call
                    .log_group_identifiers
                    .iter()
                    .chain(&call.log_group_names)
                    .flatten()
                    .chain(&call.log_group_name);
                self.existing(identifiers.map(String::as_str))
            }
            _ => Err(Error::InvalidParameter(
                "logGroupName, logGroupNames and logGroupIdentifiers are mutually exclusive parameters.".into(),
            )),
        }
    }

    /// The names of groups that identifiers name, each once, in their order; all must exist.
    fn existing<'a>(&self, identifiers: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for identifier in identifiers {
            let invalid = || Error::InvalidParameter(format!("The log group identifier {identifier:?} is invalid."));
            let name = group_of_identifier(identifier).filter(|_| !identifier.ends_with('*')).ok_or_else(invalid)?;
            self.registry.check_streams_exist(name, &Streams::All)?;
            if !names.iter().any(|known| known == name) {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }

    /// A script and those in it, each with its groups, which are also put into `all`.
    fn plan(&self, script: Script, outer: &[String], (context, limits): (Context, Limits), caller: &Caller, all: &mut Vec<String>) -> Result<Plan> {
        allowed::check_traces(caller, &script, self.registry.arns())?;
        let groups = match script.sources() {
            [] => outer.to_vec(),
            sources => self.groups_of(sources, caller)?,
        };
        all.extend(groups.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
        let mut first = Vec::with_capacity(script.subscripts().len());
        for subscript in script.subscripts() {
            let shifted = Context {
                start_millis: context.start_millis.saturating_sub(subscript.shift_millis),
                end_millis: context.end_millis.saturating_sub(subscript.shift_millis),
                ..context.clone()
            };
            let limits = Limits {
                default_limit: subscript.max_rows,
                ..limits
            };
            first.push(self.plan(subscript.script.clone(), &groups, (shifted, limits), caller, all)?);
        }
        Ok(Plan {
            script,
            scope: Arc::new(OfGroups::new(self.registry.clone(), &groups)),
            context,
            limits,
            first,
        })
    }

    /// The groups that `SOURCE` means: those that it names must exist and be open to the caller, of those that it looks for the ones
    /// that are open count.
    fn groups_of(&self, sources: &[Source], caller: &Caller) -> Result<Vec<String>> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        for source in sources {
            match source {
                Source::Named(identifiers) => {
                    let names = self.existing(identifiers.iter().map(String::as_str))?;
                    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
                    allowed::check_groups(caller, "StartQuery", &borrowed, self.registry.arns())?;
                    found.extend(names);
                }
                Source::LogGroups { prefixes, accounts, classes } => {
                    if let Some(class) = classes.iter().find(|class| !CLASSES.contains(&class.as_str())) {
                        return Err(Error::InvalidParameter(format!(
                            "The log group class {class:?} of SOURCE is none of {}.",
                            CLASSES.join(", ")
                        )));
                    }
                    let is_of_account = accounts.is_empty() || accounts.iter().any(|account| account == "All" || *account == self.config.account_id);
                    let groups = self.registry.read();
                    let is_meant = |(name, group): &(&String, &super::registry::Group)| {
                        is_of_account
                            && (prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())))
                            && (classes.is_empty() || classes.contains(&group.record.class))
                            && caller.is_for_group(name)
                    };
                    found.extend(groups.by_name.iter().filter(is_meant).map(|(name, _)| name.clone()));
                }
                Source::DataSource(_) => {
                    return Err(Error::InvalidParameter(
                        "SOURCE dataSource is not supported: events are kept by log group, name those with SOURCE logGroups(namePrefix: [...]).".into(),
                    ));
                }
            }
        }
        if found.len() > MAX_FOUND_GROUPS {
            let n = found.len();
            return Err(Error::InvalidParameter(format!(
                "SOURCE finds {n} log groups, at most {MAX_FOUND_GROUPS} can be queried."
            )));
        }
        Ok(found.into_iter().collect())
    }

    pub(super) async fn get_query_results(&self, call: &wire::GetQueryResults, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let id = query_id(&mut validation, &call.query_id);
        let max_items = call.max_items.unwrap_or(MAX_PAGE_ROWS);
        validation.range(max_items, "maxItems", 0, MAX_PAGE_ROWS);
        if let Some(token) = &call.next_token {
            validation.length(token, "nextToken", 0, 1_024);
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let queries = self.queries()?;
        let job = queries.find(id, caller)?;
        let now_millis = self.now_millis();
        let invalid = || Error::InvalidParameter("The specified nextToken is invalid.".into());
        let from = match call.next_token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => read_token(token, id, now_millis).ok_or_else(invalid)?,
            None => 0,
        };
        let seen = queries.see(&job).await;
        if from > seen.rows.len() {
            return Err(invalid());
        }
        let (shown, n_shown) = page(&seen.rows[from..], usize::try_from(max_items).unwrap_or(0));
        let mut answer = json!({
            "queryLanguage": job.asked.language.name(),
            "results": shown,
            "statistics": statistics(&seen, job.asked.groups.len()),
            "status": seen.status.name(),
        });
        let is_final = !matches!(seen.status, Status::Scheduled | Status::Running);
        if is_final && from + n_shown < seen.rows.len() {
            answer["nextToken"] = write_token(from + n_shown, id, now_millis).into();
        }
        Ok(answer)
    }

    pub(super) fn stop_query(&self, call: &wire::StopQuery, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let id = query_id(&mut validation, &call.query_id);
        validation.finish().map_err(Error::InvalidParameter)?;
        let queries = self.queries()?;
        queries.stop(&*queries.find(id, caller)?)?;
        Ok(json!({ "success": true }))
    }

    pub(super) fn describe_queries(&self, call: &wire::DescribeQueries, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        if let Some(name) = &call.log_group_name {
            validation.log_group_name(name, "logGroupName");
        }
        if let Some(status) = &call.status {
            check_enum(&mut validation, status, "status", &Status::NAMES);
        }
        if let Some(language) = &call.query_language {
            check_enum(&mut validation, language, "queryLanguage", &LANGUAGES);
        }
        let max_results = call.max_results.unwrap_or(MAX_LISTED);
        validation.range(max_results, "maxResults", 1, MAX_LISTED);
        if let Some(token) = &call.next_token {
            validation.length(token, "nextToken", 1, 1_024);
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let invalid = || Error::InvalidParameter("The specified nextToken is invalid.".into());
        let before = call
            .next_token
            .as_deref()
            .map(|token| token.parse::<u64>().map_err(|_| invalid()))
            .transpose()?;
        let queries = self.queries()?;
        let mut jobs = queries.list(caller, before);
        jobs.retain(|job| {
            call.log_group_name.as_ref().is_none_or(|name| job.asked.groups.contains(name))
                && call.status.as_ref().is_none_or(|status| job.status().name() == status)
                && call.query_language.as_ref().is_none_or(|language| language == job.asked.language.name())
        });
        let max_results = usize::try_from(max_results).unwrap_or(1);
        let next = (jobs.len() > max_results).then(|| jobs[max_results - 1].number.to_string());
        jobs.truncate(max_results);
        let shown: Vec<Value> = jobs
            .iter()
            .map(|job| {
                let seen = queries.glance(job);
                let mut shown = json!({
                    "queryLanguage": job.asked.language.name(),
                    "queryId": job.id,
                    "queryString": job.asked.text,
                    "status": seen.status.name(),
                    "createTime": job.created_millis,
                    "queryDuration": seen.duration_millis,
                    "bytesScanned": seen.scanned.bytes as f64,
                });
                if let Some(group) = job.asked.groups.first() {
                    shown["logGroupName"] = group.as_str().into();
                }
                if let Some(name) = &job.asked.key {
                    shown["userIdentity"] = format!("arn:aws:iam::{}:user/{name}", self.config.account_id).into();
                }
                shown
            })
            .collect();
        let mut answer = json!({ "queries": shown });
        if let Some(next) = next {
            answer["nextToken"] = next.into();
        }
        Ok(answer)
    }
}

/// Checks the members of a `StartQuery` by themselves; gives the script's text.
fn check_start(call: &wire::StartQuery) -> Result<&str> {
    let mut validation = Validation::new();
    let text = validation.required(&call.query_string, "queryString").map_or("", String::as_str);
    validation.length(text, "queryString", 0, MAX_CHARS);
    for (time, member) in [(&call.start_time, "startTime"), (&call.end_time, "endTime")] {
        if let Some(time) = validation.required(time, member) {
            validation.range(*time, member, 0, i64::MAX);
        }
    }
    if let Some(limit) = call.limit {
        validation.range(limit, "limit", 1, MAX_ROWS);
    }
    if let Some(language) = &call.query_language {
        check_enum(&mut validation, language, "queryLanguage", &LANGUAGES);
    }
    if let Some(name) = &call.log_group_name {
        validation.log_group_name(name, "logGroupName");
    }
    for (names, member) in [(&call.log_group_names, "logGroupNames"), (&call.log_group_identifiers, "logGroupIdentifiers")] {
        let Some(names) = names else { continue };
        if names.is_empty() {
            validation.violation("[]", member, "Member must have length greater than or equal to 1");
        }
        if names.len() > MAX_GROUPS {
            let shown = format!("[{} log groups]", names.len());
            validation.violation(shown, member, format_args!("Member must have length less than or equal to {MAX_GROUPS}"));
        }
        for name in names.iter().take(MAX_GROUPS) {
            match member {
                "logGroupNames" => validation.log_group_name(name, member),
                _ => check_identifier(&mut validation, name, member),
            }
        }
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    if call.start_time > call.end_time {
        return Err(Error::InvalidParameter("The start time of a query cannot be after its end time.".into()));
    }
    Ok(text)
}

fn check_identifier(validation: &mut Validation, identifier: &str, member: &str) {
    validation.length(identifier, member, 1, 2_048);
    if !identifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"_#+=/:,.@-".contains(&b)) {
        validation.violation(identifier, member, r"Member must satisfy regular expression pattern: [\w#+=/:,.@-]*");
    }
}

fn check_enum(validation: &mut Validation, value: &str, member: &str, values: &[&str]) {
    if !values.contains(&value) {
        let values = values.join(", ");
        validation.violation(value, member, format_args!("Member must satisfy enum value set: [{values}]"));
    }
}

fn query_id<'a>(validation: &mut Validation, id: &'a Option<String>) -> &'a str {
    let Some(id) = validation.required(id, "queryId") else { return "" };
    validation.length(id, "queryId", 1, 256);
    id
}

/// Rows as JSON, up to a number or to the bytes of a page; and how many they are.
fn page(rows: &[Row], max_rows: usize) -> (Vec<Value>, usize) {
    let mut bytes = 0;
    let mut shown = Vec::with_capacity(max_rows.min(rows.len()));
    for row in rows.iter().take(max_rows) {
        bytes += row.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>();
        if bytes > MAX_PAGE_BYTES && !shown.is_empty() {
            break;
        }
        let fields = row.iter().map(|(field, value)| json!({ "field": &**field, "value": value }));
        shown.push(Value::Array(fields.collect()));
    }
    let n_shown = shown.len();
    (shown, n_shown)
}

fn statistics(seen: &Seen, n_groups: usize) -> Value {
    json!({
        "recordsMatched": seen.n_matched as f64,
        "recordsScanned": seen.scanned.events as f64,
        "estimatedRecordsSkipped": seen.scanned.events_skipped as f64,
        "bytesScanned": seen.scanned.bytes as f64,
        "estimatedBytesSkipped": seen.scanned.bytes_skipped as f64,
        "logGroupsScanned": n_groups as f64,
        "resultCount": seen.rows.len() as f64,
    })
}

/// Where the next page begins, of which query, and when it was given.
fn write_token(from: usize, id: &str, now_millis: i64) -> String {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend((from as u64).to_be_bytes());
    bytes.extend(xxh3_64(id.as_bytes()).to_be_bytes());
    bytes.extend(now_millis.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_token(token: &str, id: &str, now_millis: i64) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let part = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (from, digest, given) = (part(0)?, part(8)?, part(16)?.cast_signed());
    let is_good = bytes.len() == 24 && digest == xxh3_64(id.as_bytes()) && (given..given.saturating_add(TOKEN_MILLIS)).contains(&now_millis.max(given));
    usize::try_from(from).ok().filter(|_| is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_their_query_and_their_hour() {
        let token = write_token(70_000, "a", 5_000);
        assert_eq!(read_token(&token, "a", 5_000), Some(70_000));
        assert_eq!(read_token(&token, "a", 5_000 + TOKEN_MILLIS - 1), Some(70_000));
        assert_eq!(read_token(&token, "a", 5_000 + TOKEN_MILLIS), None);
        assert_eq!(read_token(&token, "b", 5_000), None);
        for bad in ["x", "AAAA", "é"] {
            assert_eq!(read_token(bad, "a", 5_000), None, "{bad}");
        }
    }

    #[test]
    fn a_page_ends_at_its_rows_or_bytes_and_has_one_row_at_least() {
        let row = |n: usize| vec![("f".into(), "x".repeat(n))];
        let rows: Vec<Row> = vec![row(1), row(2), row(3)];
        assert_eq!(page(&rows, 2).1, 2);
        assert_eq!(page(&rows, 0).1, 0);
        assert_eq!(page(&rows, 9).0[2], json!([{"field": "f", "value": "xxx"}]));
        let large: Vec<Row> = vec![row(MAX_PAGE_BYTES + 1), row(1)];
        assert_eq!(page(&large, 9).1, 1);
    }
}
