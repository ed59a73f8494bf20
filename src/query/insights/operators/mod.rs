//! The steps of a pipeline: each takes rows and gives rows to the next, at once or at the end.
//!
//! What a step holds it counts against the one bound of the run ([`Shared::hold`]); beyond it the run fails by the command's
//! name.

mod aggregates;
mod combine;
mod pattern;
mod rows;
mod series;
mod sort;
mod stats;
mod sums;

use std::any::Any;
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::evaluate::Scope;
use super::lookup::Found;
use super::row::Row;
use super::syntax::{Command, Expression, FieldName};
use super::{Answer, Failed, Flow, Limits, Memory};
#[cfg(test)]
pub(super) use rows::glob_places;
pub(super) use stats::group_rows;

/// A step.
pub(super) trait Operator: Any + Debug + Send + Sync {
    /// Takes a row. [`Flow::Enough`]: no further row changes what comes out.
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed>;
    /// There are no more rows.
    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let _ = next;
        Ok(())
    }
    /// A copy as it is.
    fn copy(&self) -> Box<dyn Operator>;
    /// Whether what it gives for a row depends on that row alone, and comes at once.
    fn is_rowwise(&self) -> bool {
        false
    }
    /// Whether it gives nothing before the end, and the order of rows does not matter to it: then each of several copies may be fed
    /// with a share of the rows, and [`absorb`](Self::absorb) puts them together.
    fn can_absorb(&self) -> bool {
        false
    }
    /// Takes what a copy of it holds that was fed with other rows.
    fn absorb(&mut self, other: Box<dyn Operator>, shared: &mut Shared) -> Result<(), Failed> {
        let _ = (other, shared);
        Ok(())
    }
}

/// The copy of a step, by its own type.
fn copy_of<O: Operator>(other: Box<dyn Operator>) -> Option<O> {
    let other: Box<dyn Any> = other;
    other.downcast::<O>().ok().map(|other| *other)
}

impl Clone for Box<dyn Operator> {
    fn clone(&self) -> Self {
        self.copy()
    }
}

/// The steps behind one.
#[derive(Debug)]
pub(super) struct Next<'a> {
    pub(super) rest: &'a mut [Box<dyn Operator>],
    pub(super) shared: &'a mut Shared,
}

impl Next<'_> {
    pub(super) fn push(&mut self, row: Row) -> Result<Flow, Failed> {
        match self.rest.split_first_mut() {
            Some((first, rest)) => first.push(row, &mut Next { rest, shared: self.shared }),
            None => {
                self.shared.hold("limit", row.memory_bytes())?;
                self.shared.out.push(row);
                Ok(Flow::More)
            }
        }
    }

    /// Gives rows on until they are enough.
    pub(super) fn push_all(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), Failed> {
        for row in rows {
            if self.push(row)? == Flow::Enough {
                break;
            }
        }
        Ok(())
    }
}

/// What all steps share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) scope: Arc<Scope>,
    held: Held,
    max_bytes: usize,
    pub(super) out: Vec<Row>,
    /// Rows that the leading filters kept.
    pub(super) n_matched: u64,
    /// What was wrong before the first row.
    pub(super) failed: Option<Failed>,
    /// Nobody waits for the answer any more.
    pub(super) stopped: Arc<AtomicBool>,
}

/// Bytes that are held, and of all shares and subqueries of one run together. What is dropped is held no more; a copy is counted by itself.
#[derive(Debug, Default)]
pub(in crate::query::insights) struct Held {
    own: usize,
    of_all: Memory,
}

impl Held {
    /// Nothing yet, of what a run holds.
    fn of(of_all: &Memory) -> Self {
        Self {
            own: 0,
            of_all: of_all.clone(),
        }
    }

    /// From now on it is so many.
    pub(in crate::query::insights) fn become_bytes(&mut self, bytes: usize) {
        match bytes.checked_sub(self.own) {
            Some(more) => self.of_all.fetch_add(more, Ordering::Relaxed),
            None => self.of_all.fetch_sub(self.own - bytes, Ordering::Relaxed),
        };
        self.own = bytes;
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self {
            own: self.own,
            of_all: Arc::new(AtomicUsize::new(self.own)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(scope: Scope, limits: Limits, memory: &Memory) -> Self {
        Self {
            scope: Arc::new(scope),
            held: Held::of(memory),
            max_bytes: limits.max_memory_bytes,
            out: Vec::new(),
            n_matched: 0,
            failed: None,
            stopped: Arc::default(),
        }
    }

    /// For a share of the rows: nothing is held yet, and what will be counts against the same bound.
    pub(super) fn share(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            held: Held::of(&self.held.of_all),
            max_bytes: self.max_bytes,
            out: Vec::new(),
            n_matched: 0,
            failed: None,
            stopped: self.stopped.clone(),
        }
    }

    /// Counts so many more bytes.
    pub(super) fn hold(&mut self, command: &'static str, bytes: usize) -> Result<(), Failed> {
        self.held.own = self.held.own.saturating_add(bytes);
        let of_all = self.held.of_all.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        match of_all > self.max_bytes {
            true => Err(Failed::Memory {
                command,
                max_bytes: self.max_bytes,
            }),
            false => Ok(()),
        }
    }

    pub(super) fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held.own);
        self.held.own -= bytes;
        self.held.of_all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The rows that came out, which are all that is held from now on.
    pub(super) fn into_out(mut self) -> (Vec<Row>, Held) {
        self.held.become_bytes(self.out.iter().map(Row::memory_bytes).sum());
        (self.out, self.held)
    }

    /// Whether a copy of all that is held fits.
    pub(super) fn can_copy(&self) -> bool {
        self.held.own <= self.max_bytes / 2
    }
}

/// What a script's commands become.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) operators: Vec<Box<dyn Operator>>,
    /// Which operator each command became, if any.
    pub(super) places: Vec<Option<usize>>,
    pub(super) columns: Vec<Arc<str>>,
    pub(super) failed: Option<Failed>,
    /// What the steps hold of other scripts' rows: which command, and bytes.
    pub(super) held: Vec<(&'static str, usize)>,
    pub(super) oldest_first: bool,
    pub(super) may_stop_early: bool,
}

/// Fields of the answer, as commands change them.
struct Shown {
    columns: Vec<Arc<str>>,
    /// These are there though nobody asked.
    is_default: bool,
    /// `display` said which.
    is_fixed: bool,
}

impl Shown {
    fn add(&mut self, name: &Arc<str>) {
        if !self.is_fixed && !self.columns.contains(name) {
            self.columns.push(name.clone());
        }
    }
    /// What a command makes of rows is shown even if `display` stands before it.
    fn add_made(&mut self, name: &Arc<str>) {
        if !self.columns.contains(name) {
            self.columns.push(name.clone());
        }
    }
    fn replace(&mut self, columns: Vec<Arc<str>>, is_fixed: bool) {
        self.columns.clear();
        for column in columns {
            if !self.columns.contains(&column) {
                self.columns.push(column);
            }
        }
        self.is_default = false;
        self.is_fixed = is_fixed;
    }
}

/// The steps that commands are.
/// Of fields that `parse` makes, only those in `wanted` are made where a later command leaves only what it gathers.
pub(super) fn build(commands: &[Command], answers: &[Answer], limits: Limits, wanted: Option<&HashSet<Arc<str>>>) -> Built {
    let mut built = Built {
        operators: Vec::new(),
        places: Vec::new(),
        columns: Vec::new(),
        failed: None,
        held: Vec::new(),
        oldest_first: false,
        may_stop_early: true,
    };
    let mut shown = Shown {
        columns: vec!["@timestamp".into(), "@message".into()],
        is_default: true,
        is_fixed: false,
    };
    let empty = Answer::default();
    // rows come in the order of their time until a command changes it
    let mut is_in_order = true;
    let mut has_limit = false;
    let n_matched_after = leading_filters(commands);
    for (number, command) in commands.iter().enumerate() {
        if number == n_matched_after {
            built.operators.push(Box::new(rows::Matched));
        }
        let mut operator: Option<Box<dyn Operator>> = None;
        match command {
            Command::Fields(items) | Command::Display(items) => {
                let names: Vec<Arc<str>> = items.iter().map(|item| item.name.clone()).collect();
                match command {
                    Command::Display(_) => shown.replace(names, true),
                    _ if shown.is_default => shown.replace(names, false),
                    _ => names.iter().for_each(|name| shown.add(name)),
                }
                let computed: Vec<_> = items
                    .iter()
                    .filter(|item| !item.is_plain)
                    .map(|item| (item.name.clone(), item.expression.clone()))
                    .collect();
                if computed.iter().any(|(name, _)| **name == *"@timestamp") {
                    is_in_order = false;
                }
                if !computed.is_empty() {
                    operator = Some(Box::new(rows::Assign(computed)));
                }
            }
            Command::Filter(condition) => operator = Some(Box::new(rows::Filter(condition.clone()))),
            Command::Parse { field, extraction } => {
                let names = extraction.names();
                names.iter().for_each(|name| shown.add(name));
                is_in_order &= !names.iter().any(|name| **name == *"@timestamp");
                let is_gathered = commands[number..].iter().any(leaves_only_what_it_gathers);
                let is_made = |name: &str| !is_gathered || name.starts_with('@') || wanted.is_none_or(|wanted| wanted.contains(name));
                operator = Some(Box::new(rows::Parse::new(field.clone(), extraction.clone(), &is_made)));
            }
            Command::Json { field, paths } => {
                paths.iter().for_each(|(_, name)| shown.add(name));
                is_in_order &= !paths.iter().any(|(_, name)| **name == *"@timestamp");
                operator = Some(Box::new(rows::Json {
                    field: field.clone(),
                    paths: paths.clone(),
                }));
            }
            Command::Lookup(lookup) => {
                lookup.outputs.iter().for_each(|(_, name)| shown.add(name));
                is_in_order &= !lookup.outputs.iter().any(|(_, name)| **name == *"@timestamp");
                operator = Some(Box::new(Found((**lookup).clone())));
            }
            Command::Unmask(fields) => {
                if shown.is_default {
                    shown.columns = vec!["@timestamp".into(), "@message".into()];
                }
                fields.iter().for_each(|field| shown.add(&field.name));
            }
            Command::Stats(stats) => {
                let names = stats.by.iter().chain(&stats.items).map(|item| item.name.clone()).collect();
                shown.replace(names, false);
                is_in_order = false;
                built.may_stop_early &= has_limit;
                operator = Some(Box::new(stats::Stats::new((**stats).clone())));
            }
            Command::Sort(keys) => {
                let by_time = match &keys[..] {
                    [key] => matches!(&key.expression, Expression::Field(field) if *field.name == *"@timestamp").then_some(key.descending),
                    _ => None,
                };
                let is_first = is_in_order && commands[..number].iter().all(is_leading);
                match by_time {
                    // events are asked for in this order
                    Some(descending) if is_first && !has_limit => {
                        built.oldest_first = !descending;
                        is_in_order = false;
                    }
                    _ => {
                        built.may_stop_early &= has_limit;
                        operator = Some(Box::new(sort::Sort::new(keys.clone(), kept(&commands[number + 1..], limits))));
                        is_in_order = false;
                    }
                }
            }
            Command::Limit(n) => {
                has_limit = true;
                is_in_order = false;
                operator = Some(Box::new(rows::Limit(*n)));
            }
            Command::Dedup(fields) => {
                is_in_order = false;
                operator = Some(Box::new(rows::Dedup {
                    fields: fields.clone(),
                    seen: HashSet::new(),
                }));
            }
            Command::Unnest { field, name, reads_json } => {
                shown.add_made(name);
                is_in_order = false;
                operator = Some(Box::new(rows::Unnest {
                    field: field.clone(),
                    name: name.clone(),
                    reads_json: *reads_json,
                }));
            }
            Command::Pattern { of, compared } => {
                let columns = pattern::columns(compared.is_some());
                shown.replace(columns.iter().map(|name| (*name).into()).collect(), false);
                is_in_order = false;
                built.may_stop_early &= has_limit;
                operator = Some(Box::new(pattern::Pattern::new(of.clone(), *compared)));
            }
            Command::Join {
                keeps_all,
                right,
                keys,
                subscript,
            } => {
                let answer = answers.get(*subscript).unwrap_or(&empty);
                for column in &answer.columns {
                    shown.add_made(&format!("{right}.{column}").into());
                }
                is_in_order = false;
                match combine::Join::try_new(*keeps_all, right, keys, answer) {
                    Ok(join) => {
                        built.held.push(("join", join.memory_bytes()));
                        operator = Some(Box::new(join));
                    }
                    Err(failed) => built.failed = built.failed.or(Some(failed)),
                }
            }
            Command::AppendColumns { overrides, subscript } => {
                let answer = answers.get(*subscript).unwrap_or(&empty);
                answer.columns.iter().for_each(|column| shown.add_made(column));
                is_in_order = false;
                built.held.push(("appendcols", answer.rows.iter().map(|row| row.row.memory_bytes()).sum()));
                operator = Some(Box::new(combine::AppendColumns::new(*overrides, answer)));
            }
            Command::Totals(totals) => {
                let of = named(&totals.fields, &shown.columns);
                if totals.row {
                    shown.add_made(&totals.name);
                }
                is_in_order = false;
                operator = Some(Box::new(series::Totals::new(totals.clone(), of)));
            }
            Command::Accumulate { field, name } => {
                shown.add_made(name);
                is_in_order = false;
                operator = Some(Box::new(series::Accumulate::new(field.clone(), name.clone())));
            }
            Command::Lag { field, lags } => {
                lags.iter().for_each(|(_, name)| shown.add_made(name));
                is_in_order = false;
                operator = Some(Box::new(series::Lag::new(field.clone(), lags.clone())));
            }
            Command::FillDown(fields) => {
                is_in_order = false;
                operator = Some(Box::new(series::FillDown::new(named(fields, &shown.columns))));
            }
            Command::FillMissing {
                bin,
                period,
                offset,
                by,
                values,
            } => {
                operator = Some(Box::new(series::FillMissing::new(bin.clone(), *period, *offset, by.clone(), values.clone())));
            }
            Command::Outlier(outlier) => {
                if outlier.marks {
                    outlier.fields.iter().for_each(|field| shown.add_made(&series::marker(field)));
                }
                is_in_order = false;
                built.may_stop_early &= has_limit;
                operator = Some(Box::new(series::OutlierStep::new(outlier.clone())));
            }
            Command::Sessionize { fields, max_gap_millis, name } => {
                shown.add_made(name);
                is_in_order = false;
                built.may_stop_early &= has_limit;
                operator = Some(Box::new(series::Sessionize::new(fields.clone(), *max_gap_millis, name.clone())));
            }
            Command::CountFrequent(fields) => {
                let names = fields.iter().map(|field| field.name.clone()).chain(["_approxcount".into()]).collect();
                shown.replace(names, false);
                is_in_order = false;
                built.may_stop_early &= has_limit;
                operator = Some(Box::new(series::CountFrequent::new(fields.clone())));
            }
        }
        built.places.push(operator.as_ref().map(|_| built.operators.len()));
        built.operators.extend(operator);
    }
    if n_matched_after == commands.len() {
        built.operators.push(Box::new(rows::Matched));
    }
    if !has_limit {
        built.operators.push(Box::new(rows::Limit(limits.default_limit)));
    }
    built.columns = shown.columns;
    built
}

/// Whether nothing of a row is left behind a command but what it made of many.
pub(super) fn leaves_only_what_it_gathers(command: &Command) -> bool {
    matches!(command, Command::Stats(_) | Command::Pattern { .. } | Command::CountFrequent(_))
}

/// Behind how many commands an event has passed all filters at the beginning.
fn leading_filters(commands: &[Command]) -> usize {
    let leading = commands.iter().take_while(|command| is_leading(command) || matches!(command, Command::Sort(_)));
    let filters = leading.enumerate().filter(|(_, command)| matches!(command, Command::Filter(_)));
    filters.last().map_or(0, |(number, _)| number + 1)
}

/// Whether a command stands among those before which an event is not yet matched.
pub(super) fn is_leading(command: &Command) -> bool {
    matches!(
        command,
        Command::Fields(_) | Command::Display(_) | Command::Filter(_) | Command::Parse { .. } | Command::Json { .. } | Command::Unmask(_)
    )
}

/// How many rows that a sort gives are looked at, if that is known.
fn kept(behind: &[Command], limits: Limits) -> Option<usize> {
    for command in behind {
        match command {
            Command::Limit(n) => return Some(*n),
            Command::Fields(_) | Command::Display(_) | Command::Parse { .. } | Command::Json { .. } | Command::Lookup(_) | Command::Unmask(_) => {}
            _ => return None,
        }
    }
    Some(limits.default_limit)
}

/// The fields that were named, or all that are shown.
fn named(fields: &[FieldName], columns: &[Arc<str>]) -> Vec<FieldName> {
    match fields.is_empty() {
        true => columns.iter().map(|column| FieldName::new([&**column])).collect(),
        false => fields.to_vec(),
    }
}
