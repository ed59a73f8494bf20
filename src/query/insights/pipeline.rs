//! A script at work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::evaluate::Scope;
use super::operators::{self, Built, Next, Operator, Shared};
use super::prefilter::CountedBy;
use super::row::{Origin, Row};
use super::syntax::Command;
use super::value::Value;
use super::{Answer, AnswerRow, Context, Event, Failed, Flow, Limits, Script, Wants, record, set_bytes};
use crate::query::Order;

/// A script at work.
#[derive(Clone, Debug)]
pub struct Pipeline {
    operators: Vec<Box<dyn Operator>>,
    /// As they were before the first event.
    blank: Arc<[Box<dyn Operator>]>,
    /// Which operator each command became.
    places: Vec<Option<usize>>,
    commands: Arc<[Command]>,
    shared: Shared,
    columns: Arc<[Arc<str>]>,
    account: Arc<str>,
    region: Arc<str>,
    wanted: Option<Arc<HashSet<Arc<str>>>>,
    /// Whether the script may name fields of an event's record.
    keeps_records: bool,
    wants: Wants,
    is_enough: bool,
}

impl Pipeline {
    pub(super) fn new(script: &Script, mut context: Context, limits: Limits) -> Self {
        let Built {
            operators,
            places,
            columns,
            mut failed,
            mut held,
            oldest_first,
            may_stop_early,
        } = operators::build(&script.commands, &context.answers, limits, script.wanted.as_deref());
        // what the steps took of the answers is counted anew
        let answers = std::mem::take(&mut context.answers);
        let mut sets = Vec::new();
        for (subscript, answer) in script.subscripts.iter().zip(answers) {
            let set = match subscript.is_set {
                true => answer.into_set().map(|answer| answer.set),
                false => Ok(HashSet::new()),
            };
            match set {
                Ok(set) => sets.push(set),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        held.extend(sets.iter().map(|set| ("in", set_bytes(set))));
        let scope = Scope {
            start_millis: context.start_millis,
            end_millis: context.end_millis,
            now_millis: context.now_millis,
            sets,
        };
        let mut shared = Shared::new(scope, limits, &context.memory);
        for (command, bytes) in held {
            if let Err(error) = shared.hold(command, bytes) {
                failed = failed.or(Some(error));
            }
        }
        shared.failed = failed;
        Self {
            blank: operators.clone().into(),
            operators,
            places,
            commands: script.commands.clone(),
            shared,
            columns: columns.into(),
            account: context.account_id,
            region: context.region,
            wanted: script.wanted.clone(),
            keeps_records: record::may_be_named(script.wanted.as_deref()),
            wants: Wants {
                order: if oldest_first { Order::OldestFirst } else { Order::NewestFirst },
                may_stop_early,
            },
            is_enough: false,
        }
    }

    /// Which events it wants, and how.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// Takes an event.
    pub fn push(&mut self, mut event: Event) -> Result<Flow, Failed> {
        if let Some(failed) = &self.shared.failed {
            return Err(failed.clone());
        }
        if self.is_enough || self.shared.stopped.load(Ordering::Relaxed) {
            return Ok(Flow::Enough);
        }
        if !self.keeps_records {
            // nobody asks, and steps may hold many events
            event.record = None;
        }
        let row = Row::of(Origin::new(event, self.account.clone(), self.region.clone(), self.wanted.clone()));
        let pushed = Next {
            rest: &mut self.operators,
            shared: &mut self.shared,
        }
        .push(row);
        match pushed {
            Ok(flow) => {
                self.is_enough = flow == Flow::Enough;
                Ok(flow)
            }
            // what failed once stays so
            Err(failed) => Err(self.shared.failed.insert(failed).clone()),
        }
    }

    /// Set, it ends the work of this pipeline and of its shares, since nobody waits for an answer; what they give then is none.
    pub(super) fn stopper(&self) -> Arc<AtomicBool> {
        self.shared.stopped.clone()
    }

    /// The first and last millisecond of the earlier time that `diff` asks for.
    pub(super) fn earlier(&self) -> Option<(i64, i64)> {
        let compared = self.commands.iter().find_map(|command| match command {
            Command::Pattern { compared, .. } => *compared,
            _ => None,
        })?;
        Some(compared.range(self.shared.scope.start_millis, self.shared.scope.end_millis))
    }

    /// Whether events may come in any order and be shared among several copies of it ([`share`](Self::share)), since the first step
    /// that looks at more than one of them only gathers.
    pub(super) fn can_share(&self) -> bool {
        self.gathers_at().is_some() && self.shared.failed.is_none()
    }

    fn gathers_at(&self) -> Option<usize> {
        let place = self.operators.iter().position(|operator| !operator.is_rowwise())?;
        self.operators[place].can_absorb().then_some(place)
    }

    /// A copy for a share of the events, that was given none yet; what it holds counts against the same bound.
    pub(super) fn share(&self) -> Self {
        Self {
            operators: self.blank.to_vec(),
            blank: self.blank.clone(),
            places: self.places.clone(),
            commands: self.commands.clone(),
            shared: self.shared.share(),
            columns: self.columns.clone(),
            account: self.account.clone(),
            region: self.region.clone(),
            wanted: self.wanted.clone(),
            keeps_records: self.keeps_records,
            wants: self.wants,
            is_enough: false,
        }
    }

    /// Takes what a share has gathered.
    pub(super) fn absorb(&mut self, mut other: Pipeline) -> Result<(), Failed> {
        let place = self.gathers_at().filter(|place| *place < other.operators.len());
        let absorbed = match (other.shared.failed.take(), place) {
            (Some(failed), _) => Err(failed),
            (None, Some(place)) => {
                self.shared.n_matched += other.shared.n_matched;
                let gathered = other.operators.swap_remove(place);
                // what it holds is counted again as it is taken
                drop(other);
                self.operators[place].absorb(gathered, &mut self.shared)
            }
            (None, None) => Ok(()),
        };
        absorbed.map_err(|failed| self.shared.failed.insert(failed).clone())
    }

    /// The answer if these were all events; without rows, where it would take too much to say.
    pub fn partial(&self) -> Answer {
        let so_far = match self.shared.can_copy() {
            true => self.clone().finish().ok(),
            false => None,
        };
        so_far.unwrap_or_else(|| Answer {
            columns: self.columns.to_vec(),
            rows: Vec::new(),
            n_matched: self.shared.n_matched,
            ..Answer::default()
        })
    }

    /// The answer.
    pub fn finish(self) -> Result<Answer, Failed> {
        self.finish_from(0)
    }

    /// … of the steps from one on.
    fn finish_from(mut self, first: usize) -> Result<Answer, Failed> {
        if let Some(failed) = self.shared.failed {
            return Err(failed);
        }
        for number in first..self.operators.len() {
            let (until, rest) = self.operators.split_at_mut(number + 1);
            let mut next = Next {
                rest,
                shared: &mut self.shared,
            };
            if let Some(operator) = until.last_mut() {
                operator.finish(&mut next)?;
            }
        }
        let (columns, n_matched) = (self.columns, self.shared.n_matched);
        let row = |row: Row| AnswerRow { row, columns: columns.clone() };
        // the steps hold nothing that is needed any more
        drop(self.operators);
        let (rows, held) = self.shared.into_out();
        Ok(Answer {
            rows: rows.into_iter().map(row).collect(),
            n_matched,
            columns: columns.to_vec(),
            set: HashSet::new(),
            held,
        })
    }

    /// The answer, if the groups of the `stats` that is the command at `place` are these.
    pub(super) fn finish_counted(
        mut self,
        place: usize,
        order: &[CountedBy],
        groups: impl IntoIterator<Item = (Option<i64>, Vec<Option<String>>, u64)>,
    ) -> Result<Answer, Failed> {
        let commands = self.commands.clone();
        let (Some(Command::Stats(stats)), Some(Some(operator))) = (commands.get(place), self.places.get(place).copied()) else {
            return self.finish();
        };
        let mut counted = Vec::new();
        for (bin, fields, count) in groups {
            self.shared.n_matched += count;
            let mut fields = fields.into_iter();
            let mut value = |by: &CountedBy| match by {
                CountedBy::Bin(_) => bin.map_or(Value::Null, Value::Time),
                CountedBy::Stream => fields.next().flatten().map_or(Value::Null, Value::text),
                CountedBy::Group => match fields.next().flatten() {
                    Some(group) => Value::text(format!("{}:{group}", self.account)),
                    None => Value::Null,
                },
            };
            let values: Vec<Value> = order.iter().map(&mut value).collect();
            let aggregates = vec![Value::Whole(i64::try_from(count).unwrap_or(i64::MAX)); stats.aggregates.len()];
            counted.push((values, aggregates));
        }
        let rows = operators::group_rows(stats, counted, &self.shared.scope.clone());
        let (_, rest) = self.operators.split_at_mut(operator + 1);
        Next {
            rest,
            shared: &mut self.shared,
        }
        .push_all(rows)?;
        self.finish_from(operator + 1)
    }
}
