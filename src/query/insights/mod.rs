//! Logs Insights QL: the query language of CloudWatch Logs Insights, as a language and as a pipe of steps over log events.
//!
//! In: a script's text, once ([`Script::parse`]); then log events, one after the other ([`Pipeline::push`]). Out: rows
//! ([`Answer`]). Nothing here reads, waits or knows of calls: who runs a script asks it which rows it wants
//! ([`Script::sources`], [`Script::prefilter`], [`Pipeline::wants`]) and feeds them.
//!
//! # The way of a script
//!
//! 1. [`Script::parse`] checks all of it: grammar, names and arity of functions, what is not served. An error says where.
//! 2. [`Script::subscripts`] are run first (`join`, `in (…)`, `appendcols`), each like a script of its own; their answers go
//!    into the [`Context`], in the same order.
//! 3. [`Script::index_count`]: is the whole script a count that the index answers, no event is read at all.
//! 4. Else [`Script::pipeline`] takes events that pass [`Script::prefilter`], which is a superset of what the leading filters
//!    keep, in the order that [`Pipeline::wants`], until [`Flow::Enough`]; [`Pipeline::finish`] gives the answer.
//!
//! # What is served
//!
//! | commands | |
//! |---|---|
//! | `fields`, `display`, `filter` (`where`, `filterIndex`), `sort`, `limit`, `dedup`, `unmask` | as the service has them; nothing is masked here |
//! | `stats` | every aggregate, expressions over them and over items before (`max(a) - min(a)`), by expressions and `bin(p)`; up to ten in a row |
//! | `parse` | globs, regular expressions (RE2's syntax), `multi`, `logfmt`, `csv`; a text that does not fit leaves the row as it is |
//! | `json`, `unnest`, `expand` | |
//! | `pattern`, `diff` right behind it | patterns of our own making (`operators`), and how often they fit in the time right before, or a day, week or month earlier |
//! | `join`, `in (…)`, `appendcols` | with another script in parentheses |
//! | `addtotals`, `accum`, `autoregress`, `filldown`, `fillmissing`, `outlier`, `sessionize`, `countFrequent` | |
//! | `SOURCE` | first; who runs the script finds the groups |
//! | `lookup`, `cidrlookup` | over tables that who runs the script has ([`LookupTable`]) |
//!
//! One function is not the service's: `filter search('trace:(service:frontend duration>500ms error:true)')` keeps the events that a search of
//! tracelake's own language finds ([`mod@crate::query::parse`]), conditions on their trace included. It stands by itself in `filter`, or under
//! `and`, before the first command that is not about single events; OR and NOT are written into its query.
//!
//! `anomaly`, `logcompare`, `relevantfields` and `estimate` are malformed by name: the service's pages do not say what they compute, and
//! what cannot be done faithfully is refused, never answered otherwise. Functions stand in one table (`functions`).
//!
//! # Fields
//!
//! `@message`, `@timestamp`, `@ingestionTime`, `@logStream`, `@log`, `@ptr`, `@aws.account`, `@aws.region`, `@source.log`; leaves of JSON and Lambda's
//! fields (`discover`), read from the message when the first is asked for; then attributes and columns of the record (`record`:
//! `attributes.http.route`, `service.name`, `trace_id`, `pattern_id`). What a command gives a name hides what the event
//! has under it. Maps and lists from `jsonParse`, `split` or `parse` are walked by `m.a.b[0]`; names with other signs stand in
//! backticks.
//!
//! # How values compare
//!
//! - Texts that read as numbers are numbers: `status = 200` holds for `"200"` and `200.0`. A number and another text are not
//!   equal, and neither is less. Two texts compare by their characters, case included.
//! - Two texts are equal only if they are the same, to `=`, `in`, `dedup`, `join` and all that counts what is distinct: `"1.10"` is not
//!   `"1.1"`, though neither is less. Whole numbers too long for 64 bits (Kinesis' sequence numbers) are texts, quoted or not, and
//!   compare by all their digits.
//! - JSON's `true` and `false` are shown as 1 and 0, and equal these as well as the words.
//! - Comparisons with a missing field do not hold; `!=`, `not like`, `not in` and `not (…)` are the opposite, so they do.
//! - `sort` is natural: missing first, then texts (digits inside by number), then numbers; `desc` is the reverse.
//! - Arithmetic on whole numbers is exact as long as it fits; a division by zero, and a function of what it does not take, has
//!   no value. Rows leave out fields without a value.
//!
//! # Decided here, since the service's pages are silent
//!
//! - Rows of `stats` stand in the order of their groups; without any event there is no row, also without `by`.
//! - An answer shows `@timestamp` and `@message` until the first `fields`; then those, and what later commands add. `display`
//!   says the whole of it.
//! - `bin(…) offset 1h` shows bins an hour later. `stddev` and `variance` are those of the population, `pct` is the value at its
//!   rank. `values` is sorted, `topk` has the most frequent first.
//! - `outlier` reaches from the quartiles, marks `<field>_outlier`. Sessions are numbered by their start, from 1.
//! - `diff` shows `@differenceEventCount`, how many more events fit a pattern than did earlier, and `@differenceDescription`: `new`,
//!   `more`, `same`, `fewer` or `gone`.
//! - Of a `parse` glob the last `*`, where it ends the pattern, takes the rest of the text over all lines.
//!
//! # Bounds
//!
//! [`MAX_CHARS`] characters, 64 levels, 200 commands, 10 subqueries, 50 regular expressions of 1 MiB each. Whatever holds rows counts
//! their bytes against [`Limits::max_memory_bytes`], one bound for a script with its subqueries and their answers, and fails by name;
//! `sort` holds only as many as `limit` looks at, `stats` only groups. No script and no event panics.

mod lexer;
mod value;
mod periods;
mod syntax;
mod parser;
mod expressions;
mod commands;
mod functions;
mod discover;
mod record;
mod row;
mod lookup;
mod evaluate;
mod operators;
mod prefilter;
mod pipeline;
mod shares;
mod run;
mod sql;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::query::{Order, Query};
use evaluate::key;
use operators::Held;
use prefilter::CountedBy;
use row::Row;
use syntax::Command;

pub use lookup::LookupTable;
pub use pipeline::Pipeline;
pub use record::Record;
pub use run::{Plan, Progress, RunError, Scanned, Scope, run};
pub use sql::{SqlPlan, SqlRow, SqlScript, SqlSource, SqlTable, run as run_sql};

/// Longest script, characters.
pub const MAX_CHARS: usize = 10_000;

/// Largest `limit`.
pub const MAX_LIMIT: usize = 100_000;
/// Rows on the right side of a `join`, and one more.
const MAX_JOINED_ROWS: usize = 100_001;
/// Distinct keys on the right side of a `join`.
const MAX_JOIN_KEYS: usize = 50_000;
/// Values of a subquery behind `in`, and one more.
const MAX_IN_VALUES: usize = 100_001;

/// Why a text is no script, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// In words for whoever wrote it.
    pub message: String,
    /// The first character it is about, counted from 0.
    pub start: usize,
    /// The first character behind.
    pub end: usize,
}

/// What a script says its events are of (`SOURCE`). Several conditions of one source hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `SOURCE logGroups(namePrefix: ['a'], …)`; lists that were not written are empty.
    LogGroups {
        /// Beginnings of names, of which a group has one; empty = any name.
        prefixes: Vec<String>,
        /// Accounts, of which a group is; empty = the own.
        accounts: Vec<String>,
        /// Classes (`STANDARD`, `INFREQUENT_ACCESS`), of which a group is; empty = any.
        classes: Vec<String>,
    },
    /// `SOURCE 'a', 'b'`: groups by name or ARN.
    Named(Vec<String>),
    /// `SOURCE dataSource(['amazon_vpc.flow'])`.
    DataSource(Vec<String>),
}

/// A script that runs before the one it stands in.
#[derive(Clone, Debug)]
pub struct Subscript {
    /// Run it over its own [`Script::sources`], or those of the outer script if it has none.
    pub script: Script,
    /// How far back its range of time lies from that of the outer script.
    pub shift_millis: i64,
    /// At most so many rows of it are taken; put it into [`Limits::default_limit`].
    pub max_rows: usize,
    /// It stands behind `in`.
    is_set: bool,
}

/// A script that was read and checked.
#[derive(Clone, Debug)]
pub struct Script {
    sources: Vec<Source>,
    commands: Arc<[Command]>,
    subscripts: Vec<Subscript>,
    /// Fields of events that may be asked for; `None`: any.
    wanted: Option<Arc<HashSet<Arc<str>>>>,
}

impl Script {
    fn new(sources: Vec<Source>, commands: Vec<Command>, subscripts: Vec<Subscript>, wanted: Option<HashSet<Arc<str>>>) -> Self {
        Self {
            sources,
            commands: commands.into(),
            subscripts,
            wanted: wanted.map(Arc::new),
        }
    }

    /// Reads a script.
    pub fn parse(text: &str) -> Result<Script, Malformed> {
        let n_chars = text.chars().count();
        if n_chars > MAX_CHARS {
            return Err(Malformed {
                message: format!("the query is longer than {MAX_CHARS} characters"),
                start: MAX_CHARS,
                end: n_chars,
            });
        }
        parser::parse(text)
    }

    /// What it says its events are of; empty if it does not.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The names of the lookup tables that it asks for, and the scripts in it.
    pub fn tables(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.subscripts.iter().flat_map(|subscript| subscript.script.tables()).collect();
        names.extend(self.commands.iter().filter_map(|command| match command {
            Command::Lookup(lookup) => Some(lookup.table.clone()),
            _ => None,
        }));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The same script over its lookup tables; `of` gives those that there are. It must be had before the script is run.
    pub fn with_tables(mut self, of: &dyn Fn(&str) -> Option<Arc<LookupTable>>) -> Result<Script, Malformed> {
        let ready = |command: &Command| match command {
            Command::Lookup(lookup) if !lookup.is_ready() => match of(&lookup.table) {
                Some(table) => Ok(Command::Lookup(Box::new(lookup.over(table)?))),
                None => Err(Malformed {
                    message: format!("there is no lookup table `{}`", lookup.table),
                    start: lookup.start,
                    end: lookup.end,
                }),
            },
            other => Ok(other.clone()),
        };
        self.commands = self.commands.iter().map(ready).collect::<Result<Vec<_>, _>>()?.into();
        for subscript in &mut self.subscripts {
            subscript.script = subscript.script.clone().with_tables(of)?;
        }
        Ok(self)
    }

    /// The question for the index: every event that its leading filters keep passes it, and others may.
    pub fn prefilter(&self) -> Query {
        prefilter::superset(&self.commands)
    }

    /// Whether the steps take for granted what [`Script::prefilter`] asks: rows must have been asked all of it.
    pub fn has_search(&self) -> bool {
        !prefilter::searches(&self.commands).is_empty()
    }

    /// Whether it asks for spans of the traces of events, and for other log records of them, of whatever group.
    pub fn asks_of_traces(&self) -> (bool, bool) {
        let (mut spans, mut logs) = (false, false);
        for query in prefilter::searches(&self.commands) {
            query.for_each_anchor(&mut |anchor| match anchor {
                Query::Log(_) => logs = true,
                _ => spans = true,
            });
        }
        (spans, logs)
    }

    /// The same script as a count that the index can answer by itself, if it is one.
    pub fn index_count(&self) -> Option<IndexCount> {
        if !self.subscripts.is_empty() {
            return None;
        }
        let (place, query, by) = prefilter::exact_count(&self.commands)?;
        let bin_millis = by.iter().find_map(|by| match by {
            CountedBy::Bin(millis) => Some(*millis),
            _ => None,
        });
        Some(IndexCount {
            query,
            bin_millis,
            by: by.iter().filter_map(CountedBy::field).collect(),
            place,
            order: by,
            script: self.clone(),
        })
    }

    /// The scripts whose answers it needs, in the order in which [`Context::answers`] wants them. They need none themselves.
    pub fn subscripts(&self) -> &[Subscript] {
        &self.subscripts
    }

    /// The steps, ready to take events.
    pub fn pipeline(&self, context: Context, limits: Limits) -> Pipeline {
        Pipeline::new(self, context, limits)
    }

    /// Fields of its answer, if none are those of other scripts.
    fn n_columns(&self) -> usize {
        operators::build(&self.commands, &[], Limits::default(), None).columns.len()
    }
}

/// What a script may ask about its run.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Start of the query's range, inclusive.
    pub start_millis: i64,
    /// Its end, inclusive.
    pub end_millis: i64,
    /// The time of the run.
    pub now_millis: i64,
    /// In `@log`: `account:group`.
    pub account_id: Arc<str>,
    /// `@aws.region`.
    pub region: Arc<str>,
    /// Of [`Script::subscripts`], in their order.
    pub answers: Vec<Answer>,
    /// What the run holds, its subscripts and their answers included: bytes, all against one bound.
    pub memory: Memory,
}

/// Bytes that are held together.
pub type Memory = Arc<AtomicUsize>;

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of all rows, groups and values that are held at a time, about.
    pub max_memory_bytes: usize,
    /// Rows of an answer without `limit`.
    pub default_limit: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_memory_bytes: 256 << 20,
            default_limit: 10_000,
        }
    }
}

/// A script stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// More would have to be held than [`Limits::max_memory_bytes`].
    #[error("`{command}` needs more than {max_bytes} bytes of memory; narrow the time range or filter more")]
    Memory {
        /// Which command.
        command: &'static str,
        /// The bound.
        max_bytes: usize,
    },
    /// More than a command takes.
    #[error("`{command}` takes at most {max} {what}")]
    TooMany {
        /// Which command.
        command: &'static str,
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// An inner query took too long.
    #[error("an inner query took longer than {seconds} s; narrow the time range or filter more")]
    InnerTime {
        /// The bound.
        seconds: u64,
    },
}

/// One log event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// `@ptr`.
    pub pointer: Arc<str>,
    /// Log group, by name.
    pub group: Arc<str>,
    /// Log stream.
    pub stream: Arc<str>,
    /// `@timestamp`.
    pub timestamp_millis: i64,
    /// `@ingestionTime`.
    pub ingestion_millis: i64,
    /// `@message`.
    pub message: Arc<str>,
    /// 32 hex digits; `@xrayTraceId`, in X-Ray's form, where the line says no other.
    pub trace_id: Option<String>,
    /// 16 hex digits; `@xraySegmentId`.
    pub span_id: Option<String>,
    /// More fields by their whole names, which begin with `@` (`@entity.KeyAttributes.Name`); may be empty.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
    /// What else its record says.
    pub record: Option<Box<Record>>,
}

impl Event {
    /// Its fields but the system's own: those that came with it, then those that were found in it.
    pub fn more_fields(&self) -> impl Iterator<Item = (Arc<str>, String)> {
        let given = self.fields.iter().map(|(name, value)| (name.clone(), value.to_string()));
        let found = discover::fields(self, &|_| true);
        let own = record::own_fields(self).filter(|(name, _)| !found.iter().any(|(other, _)| other == name));
        let own: Vec<(Arc<str>, String)> = own.collect();
        given.chain(found.into_iter().map(|(name, value)| (name, value.to_string()))).chain(own)
    }
}

/// Which events a pipeline wants, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// In this order of time.
    pub order: Order,
    /// It may say [`Flow::Enough`] before the last event: ask for little at a time.
    pub may_stop_early: bool,
}

/// Whether more events can change the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They can.
    More,
    /// They cannot; further ones may be pushed, and do nothing.
    Enough,
}

/// Rows.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Names of fields, in the order in which rows show them.
    pub columns: Vec<Arc<str>>,
    /// In order.
    pub rows: Vec<AnswerRow>,
    /// Events that the leading filters kept.
    pub n_matched: u64,
    /// The values of its one field, where that is all that is asked of it: then it has no rows.
    set: HashSet<String>,
    /// What all this takes, as long as it is there.
    held: Held,
}

impl Answer {
    /// The same as a set of values, for `in`: the rows go.
    fn into_set(mut self) -> Result<Answer, Failed> {
        if self.rows.len() >= MAX_IN_VALUES {
            return Err(Failed::TooMany {
                command: "in",
                what: "values of a subquery",
                max: MAX_IN_VALUES - 1,
            });
        }
        let rows = std::mem::take(&mut self.rows);
        self.set.extend(rows.iter().filter_map(|row| key(&row.row.column(row.columns.first()?))));
        self.held.become_bytes(set_bytes(&self.set));
        Ok(self)
    }
}

/// Memory of the values of a subquery, about.
fn set_bytes(set: &HashSet<String>) -> usize {
    set.iter().map(|value| value.len() + 48).sum()
}

/// One row of an answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerRow {
    row: Row,
    columns: Arc<[Arc<str>]>,
}

impl AnswerRow {
    /// Fields and values as they are shown, `@ptr` last where the row is a log event; fields without a value are left out.
    pub fn rendered(&self) -> Vec<(Arc<str>, String)> {
        let value = |name: &Arc<str>| {
            let value = self.row.column(name);
            (!value.is_null()).then(|| (name.clone(), value.to_string()))
        };
        let mut rendered: Vec<(Arc<str>, String)> = self.columns.iter().filter_map(value).collect();
        if let Some(origin) = &self.row.origin
            && !self.columns.iter().any(|name| **name == *"@ptr")
        {
            rendered.push(("@ptr".into(), origin.event().pointer.to_string()));
        }
        rendered
    }
}

/// A script that is nothing but a count: `filter … | stats count(*) by bin(5m), @logStream | sort … | limit …`.
#[derive(Clone, Debug)]
pub struct IndexCount {
    /// Exactly the events that are counted.
    pub query: Query,
    /// Width of its bins, which begin at multiples of it since the epoch; `None`: not by time.
    pub bin_millis: Option<i64>,
    /// Fields of the search language that it groups by, in order.
    pub by: Vec<&'static str>,
    /// Which command counts.
    place: usize,
    /// What it counts by, as written.
    order: Vec<CountedBy>,
    script: Script,
}

impl IndexCount {
    /// The answer to the script, from the groups that the index gave: the bin's first millisecond, the fields' values in the
    /// order of [`IndexCount::by`], and how many.
    pub fn answer(
        &self,
        groups: impl IntoIterator<Item = (Option<i64>, Vec<Option<String>>, u64)>,
        context: Context,
        limits: Limits,
    ) -> Result<Answer, Failed> {
        self.script.pipeline(context, limits).finish_counted(self.place, &self.order, groups)
    }
}

#[cfg(test)]
pub(super) mod tests;
