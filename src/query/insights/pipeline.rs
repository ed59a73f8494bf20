//! A script at work.

use std::collections::HashSet;
use std::sync::Arc;

use super::evaluate::{Scope, key};
use super::operators::{self, Built, Next, Operator, Shared};
use super::prefilter::CountedBy;
use super::row::{Origin, Row};
use super::syntax::Command;
use super::value::Value;
use super::{Answer, AnswerRow, Context, Event, Failed, Flow, Limits, MAX_IN_VALUES, Script, Wants};
use crate::query::Order;

/// A script at work.
#[derive(Clone, Debug)]
pub struct Pipeline {
    operators: Vec<Box<dyn Operator>>,
    /// Which operator each command became.
    places: Vec<Option<usize>>,
    commands: Arc<[Command]>,
    shared: Shared,
    columns: Arc<[Arc<str>]>,
    account: Arc<str>,
    wanted: Option<Arc<HashSet<Arc<str>>>>,
    wants: Wants,
    is_enough: bool,
}

impl Pipeline {
    pub(super) fn new(script: &Script, context: Context, limits: Limits) -> Self {
        let Built {
            operators,
            places,
            columns,
            mut failed,
            oldest_first,
            may_stop_early,
        } = operators::build(&script.commands, &context.answers, limits);
        let mut sets = Vec::new();
        for (number, subscript) in script.subscripts.iter().enumerate() {
            let answer = context.answers.get(number).filter(|_| subscript.is_set);
            if answer.is_some_and(|answer| answer.rows.len() >= MAX_IN_VALUES) {
                failed = failed.or(Some(Failed::TooMany {
                    command: "in",
                    what: "values of a subquery",
                    max: MAX_IN_VALUES - 1,
                }));
            }
            let value = |row: &AnswerRow| row.columns.first().and_then(|column| key(&row.row.column(column)));
            sets.push(answer.map(|answer| answer.rows.iter().filter_map(value).collect()).unwrap_or_default());
        }
        let scope = Scope {
            start_millis: context.start_millis,
            end_millis: context.end_millis,
            now_millis: context.now_millis,
            sets,
        };
        let mut shared = Shared::new(scope, limits);
        shared.failed = failed;
        Self {
            operators,
            places,
            commands: script.commands.clone(),
            shared,
            columns: columns.into(),
            account: context.account_id,
            wanted: script.wanted.clone(),
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
    pub fn push(&mut self, event: Event) -> Result<Flow, Failed> {
        if let Some(failed) = &self.shared.failed {
            return Err(failed.clone());
        }
        if self.is_enough {
            return Ok(Flow::Enough);
        }
        let row = Row::of(Origin::new(event, self.account.clone(), self.wanted.clone()));
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
        let columns = self.columns;
        let row = |row: Row| AnswerRow { row, columns: columns.clone() };
        Ok(Answer {
            rows: self.shared.out.into_iter().map(row).collect(),
            n_matched: self.shared.n_matched,
            columns: columns.to_vec(),
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
