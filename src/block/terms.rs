//! The fields of the index and the terms in them.

use crate::model::Table;

/// A field whose values are indexed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawField {
    /// 32 hex digits; `logs` and `spans`.
    TraceId,
    /// 16 hex digits; `spans` only (a log's span ID is not indexed).
    SpanId,
    /// Decimal severity number; `logs` only.
    Severity,
    /// `logs` only.
    EventName,
    /// `spans` only.
    Name,
    /// `spans` only.
    Kind,
    /// `spans` only.
    StatusCode,
}

impl RawField {
    /// Every field.
    pub const ALL: [RawField; 7] = [
        RawField::TraceId,
        RawField::SpanId,
        RawField::Severity,
        RawField::EventName,
        RawField::Name,
        RawField::Kind,
        RawField::StatusCode,
    ];

    /// The column it indexes, which is also its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            RawField::TraceId => "trace_id",
            RawField::SpanId => "span_id",
            RawField::Severity => "severity_number",
            RawField::EventName => "event_name",
            RawField::Name => "name",
            RawField::Kind => "kind",
            RawField::StatusCode => "status_code",
        }
    }

    /// The field that indexes a column of `table`, if one does.
    pub fn of_column(table: Table, column: &str) -> Option<RawField> {
        RawField::ALL.into_iter().find(|field| field.name() == column && field.is_in(table))
    }

    /// Whether the index of `table` has it.
    pub fn is_in(self, table: Table) -> bool {
        match self {
            RawField::TraceId => table.is_searchable(),
            RawField::Severity | RawField::EventName => table == Table::Logs,
            RawField::SpanId | RawField::Name | RawField::Kind | RawField::StatusCode => table == Table::Spans,
        }
    }
}
