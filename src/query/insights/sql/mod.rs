//! SQL as a language of Logs Insights (`queryLanguage = SQL`): statements over the events of log groups, run by DataFusion.
//!
//! `` SELECT status, count(*) AS n FROM `/web` WHERE `@message` LIKE '%timeout%' GROUP BY status ORDER BY n DESC ``
//!
//! In: a statement's text, once ([`SqlScript::parse`]); who runs it finds the log groups of its tables ([`SqlScript::tables`]). Out:
//! rows of texts ([`run`]). Read-only; bounded in memory, rows and time; an answer never lacks rows.
//!
//! | of a statement | |
//! |---|---|
//! | tables | a log group by its name in backticks; `` `logGroups(logGroupIdentifier: ['a', 'b'])` ``, also with `namePrefix`, `class`, `accountIdentifiers`; `` `filterIndex('field' = 'value')` `` over the groups that the request names |
//! | columns | `@timestamp` and `@ingestionTime` (times), `@message`, `@logStream`, `@log`, `@ptr`, `@aws.account` in backticks; fields of JSON, of Lambda's lines and of records ([`record`](super::record)) by their names, as in Logs Insights QL; `SELECT *` has those of messages, and what it names |
//! | types | those of the values in the range of time ([`fields`]); a text compared with a number is read as one |
//! | clauses | `SELECT`, `WHERE`, `GROUP BY`, `HAVING`, `ORDER BY`, `LIMIT`, joins, subqueries, `WITH`, `UNION`, windows |
//! | functions | those of DataFusion and of `POST /api/v1/sql`, with Spark's meaning where both know the name ([`rewrite`]); others are refused by name |
//!
//! Rows leave out columns without a value. Times are shown as `2026-11-22 05:00:00.000`, doubles without zeros behind.
//!
//! # The way of a statement
//!
//! 1. Where it names fields, the events in range are looked through for the kinds of their values, by all workers, no more columns read
//!    than that takes.
//! 2. Each table becomes a view over the rows of `logs`: those of its groups, in streams that exist, in the range. What a statement asks of
//!    time, groups and `@message LIKE` prunes what is read.
//! 3. DataFusion runs the statement. If a value comes in meanwhile that its column has no place for, all of it is done again.

mod statement;
mod rewrite;
mod fields;
mod views;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

pub use statement::{SqlScript, SqlSource, SqlTable};

use self::fields::Kinds;
use self::views::View;
use super::record::Named;
use super::run::{BUSY_PAUSE, Progress, RunError, SLICE_ROWS, Walk, range_of, why};
use super::shares::{Needs, Streams};
use super::{Context, Event, Failed, Limits, Scope};
use crate::model::{Table, TimeRange};
use crate::query::report::Taker;
use crate::query::{Engine, ErrorKind, Order, Result};

/// Fields that `SELECT *` finds.
const MAX_FIELDS: usize = 1_000;
/// Times that a statement is begun again since events came in that fit no more.
const MAX_TRIES: usize = 5;

/// A statement with all that it is run on.
#[derive(Clone, Debug)]
pub struct SqlPlan {
    /// The statement.
    pub script: SqlScript,
    /// For each of its tables, in order: whose events, and the names of their log groups.
    pub scopes: Vec<(Arc<dyn Scope>, Vec<String>)>,
    /// The range of time, in milliseconds, both inclusive, and the account.
    pub context: Context,
    /// Bounds; without `LIMIT`, `default_limit` rows.
    pub limits: Limits,
    /// How long it may take.
    pub patience: Duration,
}

/// A row: columns and their values, as they are shown.
pub type SqlRow = Vec<(Arc<str>, String)>;

/// Runs a statement to its end.
pub async fn run(engine: &Engine, plan: &SqlPlan, progress: &Progress) -> Result<Vec<SqlRow>, RunError> {
    let range = range_of(&plan.context);
    let mut kinds = vec![Kinds::default(); plan.script.tables.len()];
    for (number, kinds) in kinds.iter_mut().enumerate() {
        let wanted = Wanted::of(plan, number);
        if wanted.as_ref().is_some_and(HashSet::is_empty) {
            continue;
        }
        progress.has_there(&engine.extent(Table::Logs, range));
        *kinds = kinds_of(engine, plan, number, wanted, range, progress).await?;
    }
    let mut was_replaced = false;
    for _ in 0..MAX_TRIES {
        let views = views(plan, &kinds)?;
        let misfits: Vec<fields::Misfits> = views.iter().map(|view| view.misfits.clone()).collect();
        progress.has_there(&engine.extent(Table::Logs, range));
        let (statement, limits) = (plan.script.statement.clone(), plan.limits);
        let running = engine.sql_for_report(plan.patience, move |ground| views::run(ground, statement, views, range, limits));
        let (rows, coverage) = running.await??;
        progress.has_scanned(coverage.head_rows, coverage.bytes_read);
        if !coverage.complete {
            if !std::mem::replace(&mut was_replaced, true) && engine.lacks_what_was_replaced(&coverage) {
                continue;
            }
            return Err(RunError::Unread(why(&coverage)));
        }
        if !misfits.iter().any(|misfit| misfit.load(Ordering::Relaxed)) {
            return Ok(rows);
        }
        for (number, kinds) in kinds.iter_mut().enumerate() {
            let wanted = Wanted::of(plan, number);
            if misfits[number].load(Ordering::Relaxed) {
                kinds.absorb(kinds_of(engine, plan, number, wanted, range, progress).await?);
            }
        }
    }
    Err(RunError::Unread(
        "events keep coming in whose fields are of other types; let the time range end earlier".into(),
    ))
}

/// The fields that a table is asked for; all if that is what a statement wants.
struct Wanted;

impl Wanted {
    fn of(plan: &SqlPlan, table: usize) -> Option<HashSet<Arc<str>>> {
        (!plan.script.is_wild).then(|| Self::named(plan, table))
    }

    /// Those that stand in the statement.
    fn named(plan: &SqlPlan, table: usize) -> HashSet<Arc<str>> {
        let qualifiers = &plan.script.tables[table].qualifiers;
        let columns = plan.script.columns.iter();
        let named = columns.filter(|(qualifier, name)| qualifier.as_ref().is_none_or(|one| qualifiers.contains(one)) && !views::is_system(name));
        let mut wanted: HashSet<Arc<str>> = named.map(|(_, name)| name.clone()).collect();
        if let SqlSource::Indexed { field, .. } = &plan.script.tables[table].source {
            wanted.insert(field.as_str().into());
        }
        wanted
    }
}

/// What a statement names of the records of a table, if anything.
fn named(plan: &SqlPlan, table: usize) -> Option<Arc<Named>> {
    let names = Wanted::named(plan, table);
    Named::of(&names).map(Arc::new)
}

/// Looks through the events of a table for the kinds of values of their fields.
async fn kinds_of(
    engine: &Engine,
    plan: &SqlPlan,
    table: usize,
    wanted: Option<HashSet<Arc<str>>>,
    range: TimeRange,
    progress: &Progress,
) -> Result<Kinds, RunError> {
    let scope = &plan.scopes[table].0;
    let named = named(plan, table);
    let needs = Needs::of(wanted.as_ref()).unwrap_or_else(|| Needs::fields(named.clone()));
    let wanted = wanted.map(Arc::new);
    let (query, columns) = (scope.query(), needs.columns());
    let mut walk = Walk::new(range, Order::NewestFirst).in_slices_of(SLICE_ROWS, &engine.extent(Table::Logs, range));
    let mut all = Kinds::default();
    let mut was_replaced = false;
    while let Some(slice) = walk.slice() {
        let taker = || KindsTaker {
            kinds: Kinds::default(),
            streams: Streams::new(scope.clone()),
            needs: needs.clone(),
            named: named.clone(),
            wanted: wanted.clone(),
            n_events: 0,
            message_bytes: 0,
        };
        let (takers, coverage) = match engine.share_for_report(&query, slice, &columns, taker).await {
            Ok(shared) => shared,
            Err(error) if error.kind() == ErrorKind::Busy => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (mut n_events, mut message_bytes) = (0, 0);
        for taker in takers {
            n_events += taker.n_events;
            message_bytes += taker.message_bytes;
            // what was seen was seen, also where time was up
            all.absorb(taker.kinds);
        }
        if all.seen.len() > MAX_FIELDS {
            return Err(RunError::Failed(Failed::TooMany {
                command: "SELECT *",
                what: "fields",
                max: MAX_FIELDS,
            }));
        }
        if !coverage.complete {
            progress.has_scanned(0, coverage.bytes_read);
            if !std::mem::replace(&mut was_replaced, true) && engine.lacks_what_was_replaced(&coverage) {
                continue;
            }
            if coverage.is_time_up() && walk.narrow(slice, &engine.extent(Table::Logs, slice)) {
                continue;
            }
            return Err(RunError::Unread(why(&coverage)));
        }
        was_replaced = false;
        walk.has_read(slice, None);
        progress.has_scanned(n_events, if coverage.blocks_read == 0 { message_bytes } else { coverage.bytes_read });
    }
    Ok(all)
}

struct KindsTaker {
    kinds: Kinds,
    streams: Streams,
    needs: Needs,
    named: Option<Arc<Named>>,
    wanted: Option<Arc<HashSet<Arc<str>>>>,
    n_events: u64,
    message_bytes: u64,
}

impl Taker for KindsTaker {
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool> {
        let (kinds, wanted, named) = (&mut self.kinds, &self.wanted, self.named.as_deref());
        let mut message_bytes = 0;
        self.n_events += rows.count_set_bits() as u64;
        self.streams.each_event(&self.needs, batch, rows, &mut |event: Event| {
            message_bytes += event.message.len() as u64;
            kinds.add(&event, &|name| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)), named);
            Ok(kinds.seen.len() <= MAX_FIELDS)
        })?;
        self.message_bytes += message_bytes;
        Ok(kinds.seen.len() <= MAX_FIELDS)
    }
}

/// What each table of a statement has for columns.
///
/// A field that only one of several tables has is that one's, so that it may stand without the table's name. One that none has is the
/// first's.
fn views(plan: &SqlPlan, kinds: &[Kinds]) -> Result<Vec<View>, RunError> {
    let tables = &plan.script.tables;
    let mut fields: Vec<BTreeMap<Arc<str>, DataType>> = vec![BTreeMap::new(); tables.len()];
    for (qualifier, name) in plan.script.columns.iter().filter(|(_, name)| !views::is_system(name)) {
        let owners: Vec<usize> = match qualifier {
            Some(qualifier) => (0..tables.len()).filter(|number| tables[*number].qualifiers.contains(qualifier)).collect(),
            None => {
                let with_values: Vec<usize> = (0..tables.len()).filter(|number| !kinds[*number].of(name).is_nothing()).collect();
                match with_values.is_empty() {
                    true => vec![0],
                    false => with_values,
                }
            }
        };
        for number in owners.into_iter().filter(|number| *number < tables.len()) {
            fields[number].insert(name.clone(), kinds[number].of(name).data_type());
        }
    }
    for (number, table) in tables.iter().enumerate() {
        if plan.script.is_wild {
            let seen = kinds[number].seen.iter().filter(|(_, seen)| !seen.is_nothing());
            fields[number].extend(seen.map(|(name, seen)| (name.clone(), seen.data_type())));
        }
        if let SqlSource::Indexed { field, .. } = &table.source {
            let name: Arc<str> = field.as_str().into();
            fields[number].insert(name.clone(), kinds[number].of(&name).data_type());
        }
    }
    let view = |(number, fields): (usize, BTreeMap<Arc<str>, DataType>)| {
        let (scope, groups) = &plan.scopes[number];
        View {
            name: tables[number].name.clone(),
            source: tables[number].source.clone(),
            scope: scope.clone(),
            groups: groups.clone(),
            account: plan.context.account_id.clone(),
            named: named(plan, number),
            fields: fields.into_iter().collect(),
            misfits: fields::Misfits::default(),
        }
    };
    Ok(fields.into_iter().enumerate().map(view).collect())
}

#[cfg(test)]
mod tests;
