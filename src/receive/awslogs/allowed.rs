//! Which log groups a call names, for keys that are for some of them only.
//!
//! All calls name groups by a few members; they are read here apart from the calls themselves, so that a call that is
//! added is checked too: one that names none is refused to such a key unless [`crate::access::Groups`] says otherwise.

use serde::Deserialize;

use super::arn::{Arns, group_of_identifier};
use super::error::{Error, Result};
use crate::access::{Asked, Caller};
use crate::query::insights::Script;

/// Every member that names log groups. Members that are given twice are an error, so that what is checked here and what
/// is read there cannot differ.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Members {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_group_names: Option<Vec<String>>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_arn: Option<String>,
    log_group_arn_list: Option<Vec<String>>,
    resource_arn: Option<String>,
    resource_identifier: Option<String>,
}

impl Members {
    fn identifiers(&self) -> impl Iterator<Item = &str> {
        let one = [
            &self.log_group_name,
            &self.log_group_identifier,
            &self.log_group_arn,
            &self.resource_arn,
            &self.resource_identifier,
        ];
        let many = [&self.log_group_names, &self.log_group_identifiers, &self.log_group_arn_list];
        let one = one.into_iter().flatten();
        one.chain(many.into_iter().flatten().flatten()).map(String::as_str)
    }
}

/// Checks the groups that a call names in its body.
pub(super) fn check(caller: &Caller, operation: &str, body: &[u8], arns: &Arns) -> Result<()> {
    if !caller.is_restricted() {
        return Ok(());
    }
    let body = body.trim_ascii();
    let members = match body {
        [] => Members::default(),
        // a list would be read by place, and each call has other places
        [b'{', ..] => serde_json::from_slice(body).map_err(|error| Error::Serialization(error.to_string()))?,
        _ => return Err(Error::Serialization("the body is not a JSON object".into())),
    };
    // what names something else than a group is compared as it is: no pattern is meant for it
    let groups: Vec<&str> = members
        .identifiers()
        .map(|identifier| group_of_identifier(identifier).unwrap_or(identifier))
        .collect();
    check_groups(caller, operation, &groups, arns)
}

/// Checks groups that are known already.
pub(super) fn check_groups(caller: &Caller, operation: &str, groups: &[&str], arns: &Arns) -> Result<()> {
    caller
        .may_touch(&Asked::named("logs", operation), groups, arns.account_id(), |group| arns.group(group))
        .map_err(|denied| Error::AccessDenied(denied.to_string()))
}

/// Checks what a script asks of the traces of its events: spans are for who may read traces, and other records may be of any log group.
pub(super) fn check_traces(caller: &Caller, script: &Script, arns: &Arns) -> Result<()> {
    let (asks_spans, asks_logs) = script.asks_of_traces();
    if asks_spans {
        let asked = Asked::named("xray", "GetTraceSummaries");
        caller
            .may(&asked, arns.account_id())
            .map_err(|denied| Error::AccessDenied(format!("{denied}; trace:(...) asks for spans")))?;
    }
    if asks_logs && caller.is_restricted() {
        return Err(Error::AccessDenied(
            "log:(...) asks for the records of every log group, and the access key is for some log groups only".into(),
        ));
    }
    Ok(())
}
