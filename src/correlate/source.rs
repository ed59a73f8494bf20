//! How the trace ID of a record was found.

/// What a record's trace ID rests on. Where the sender gave it, there is none of these, and the column `trace_id_source` is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An attribute under one of the usual names.
    Attribute,
    /// A field of a body that is JSON, under one of the usual names.
    Json,
    /// The text of the body, or of a message in it: X-Ray's form anywhere, others behind a name.
    Text,
    /// The request that the record names: its trace is known.
    RequestId,
    /// The span that the record names.
    SpanId,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 5] = [Source::Attribute, Source::Json, Source::Text, Source::RequestId, Source::SpanId];

    /// What the column says; never changes.
    pub fn word(self) -> &'static str {
        match self {
            Source::Attribute => "attribute",
            Source::Json => "json",
            Source::Text => "text",
            Source::RequestId => "request_id",
            Source::SpanId => "span_id",
        }
    }
}
