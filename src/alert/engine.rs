//! The query engine as the answerer of rules' questions.

use async_trait::async_trait;
use serde_json::Value;

use super::evaluate::Window;
use super::observe::{Counts, PatternCount, PatternCounts, QuestionError, Questions, SqlRows};
use crate::model::{Table, TimeRange};
use crate::query::patterns::{Found, PatternsRequest, State as PatternState};
use crate::query::{self, Engine, SearchRequest, SqlRequest};

/// Bytes of a sample's body that are kept with an alert.
const MAX_SAMPLE_BODY: usize = 2_048;

impl From<query::Error> for QuestionError {
    fn from(error: query::Error) -> Self {
        QuestionError(error.to_string())
    }
}

fn read(table: Table, text: &str) -> Result<query::Query, QuestionError> {
    query::parse(text, table).map_err(|error| query::Error::from(error).into())
}

/// Says why a rule's query is none, with the place; for [`super::rule::parse`].
pub fn check_query(table: Table, text: &str) -> Result<(), String> {
    match query::parse(text, table) {
        Ok(_) => Ok(()),
        Err(error) => {
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Err(format!("{} (at character {}){hint}", error.message, error.position))
        }
    }
}

#[async_trait]
impl Questions for Engine {
    async fn count_by(&self, table: Table, query: &str, range: TimeRange, fields: &[String], limit: usize) -> Result<Counts, QuestionError> {
        let query = read(table, query)?;
        if fields.is_empty() {
            let counted = self.count(table, &query, range).await?;
            return Ok(Counts {
                groups: vec![(vec![], counted.count as f64)],
                complete: counted.coverage.complete,
                truncated: false,
            });
        }
        let counted = Engine::count_by(self, table, &query, range, fields, limit).await?;
        let groups = counted.groups.into_iter().map(|(values, count)| {
            let values = values.into_iter().map(Option::unwrap_or_default).collect();
            (values, count as f64)
        });
        Ok(Counts {
            groups: groups.collect(),
            complete: counted.coverage.complete,
            truncated: counted.other > 0,
        })
    }

    async fn patterns(&self, query: &str, window: &Window, states: &[PatternState], limit: usize) -> Result<PatternCounts, QuestionError> {
        let request = PatternsRequest {
            query: read(Table::Logs, query)?,
            range: window.current,
            baseline: Some(window.reference),
            bins: 1,
            limit,
            states: states.to_vec(),
        };
        let answer = Engine::patterns(self, &request).await?;
        let count = |found: Found| PatternCount {
            ids: found.pattern_ids,
            template: found.template,
            count: found.count,
            before: found.baseline_count.unwrap_or_default(),
        };
        Ok(PatternCounts {
            complete: answer.coverage.complete,
            truncated: answer.truncated,
            patterns: answer.patterns.into_iter().map(count).collect(),
        })
    }

    async fn samples(&self, table: Table, query: &str, range: TimeRange, limit: usize) -> Result<Vec<Value>, QuestionError> {
        let request = SearchRequest {
            table,
            query: read(table, query)?,
            range,
            limit,
            cursor: None,
            order: query::Order::NewestFirst,
        };
        let answer = self.search(&request).await?;
        let hits = answer.hits.iter().map(|hit| serde_json::to_value(hit.with_max_body(MAX_SAMPLE_BODY)));
        hits.collect::<Result<_, _>>().map_err(|error| QuestionError(error.to_string()))
    }

    async fn sql(&self, statement: &str, limit: usize) -> Result<SqlRows, QuestionError> {
        let request = SqlRequest {
            query: statement.to_string(),
            limit,
        };
        let answer = Engine::sql(self, &request).await?;
        Ok(SqlRows {
            rows: answer.rows,
            complete: answer.coverage.complete,
        })
    }
}

#[cfg(test)]
mod tests;
