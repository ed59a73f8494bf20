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

use std::sync::Arc;

use crate::query::{Order, Query};

/// Longest script, characters.
pub const MAX_CHARS: usize = 10_000;

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
}

/// A script that was read and checked.
#[derive(Clone, Debug)]
pub struct Script {
    sources: Vec<Source>,
    subscripts: Vec<Subscript>,
}

impl Script {
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
        Ok(Script {
            sources: Vec::new(),
            subscripts: Vec::new(),
        })
    }

    /// What it says its events are of; empty if it does not.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The question for the index: every event that its leading filters keep passes it, and others may.
    pub fn prefilter(&self) -> Query {
        Query::All
    }

    /// The same script as a count that the index can answer by itself, if it is one.
    pub fn index_count(&self) -> Option<IndexCount> {
        None
    }

    /// The scripts whose answers it needs, at any depth; in the order in which [`Context::answers`] wants them.
    pub fn subscripts(&self) -> &[Subscript] {
        &self.subscripts
    }

    /// The steps, ready to take events.
    pub fn pipeline(&self, context: Context, limits: Limits) -> Pipeline {
        let _ = (context, limits);
        Pipeline { rows: Vec::new() }
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
    /// Of [`Script::subscripts`], in their order.
    pub answers: Vec<Answer>,
}

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
    /// More fields by their whole names (`@entity.KeyAttributes.Name`, `severityText`); may be empty.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
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

/// A script at work.
#[derive(Clone, Debug)]
pub struct Pipeline {
    rows: Vec<AnswerRow>,
}

impl Pipeline {
    /// Which events it wants, and how.
    pub fn wants(&self) -> Wants {
        Wants {
            order: Order::NewestFirst,
            may_stop_early: false,
        }
    }

    /// Takes an event.
    pub fn push(&mut self, event: Event) -> Result<Flow, Failed> {
        let _ = event;
        Ok(Flow::More)
    }

    /// The answer if these were all events; maybe empty, where it would take too much to say.
    pub fn partial(&self) -> Answer {
        Answer::default()
    }

    /// The answer.
    pub fn finish(self) -> Result<Answer, Failed> {
        Ok(Answer {
            rows: self.rows,
            ..Answer::default()
        })
    }
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
}

/// One row of an answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerRow {
    fields: Vec<(Arc<str>, String)>,
}

impl AnswerRow {
    /// Fields and values as they are shown, `@ptr` last where the row is a log event; fields without a value are left out.
    pub fn rendered(&self) -> Vec<(Arc<str>, String)> {
        self.fields.clone()
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
        let _ = (groups, context, limits, &self.script);
        Ok(Answer::default())
    }
}
