//! The documents of a trace as they came, where they are kept and whole.
//!
//! In: the spans of a trace, and what their rows keep of documents ([`crate::decode::xray::kept`]). Out: of each span, whether it is
//! answered with its document, stands inside of another's, or has to be written out of its row ([`super::documents`]).
//!
//! A document is answered as it came if the row that it begins with is the one that counts of its span (a completed document
//! replaces one in progress, else the last that came) and the rows of all embedded subsegments are still there. One of them deleted,
//! or replaced and merged away, and the document is written from the rows that are left. What stands in a document that is answered is
//! not told again, unless it came as a document of its own too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;

use crate::decode::xray::kept::{Joined, is_document, join};
use crate::model::SpanId;
use crate::query::report::Taker;
use crate::query::{Error, Result, Trace};

/// Columns that [`TakePieces`] takes.
pub(in crate::query) const COLUMNS: [&str; 4] = ["trace_id", "ingest_id", "span_id", "xray_document"];
/// Bytes of the texts of one trace; of one that has more, the rest is written from the rows.
const MAX_BYTES: usize = 32 << 20;

/// What a row keeps of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The row's `ingest_id`.
    pub ingest_id: i64,
    /// Its span.
    pub span_id: SpanId,
    /// Its text.
    pub text: String,
}

/// Takes the pieces of a trace.
pub(in crate::query) struct TakePieces {
    trace_id: String,
    /// Of all that take with it.
    n_bytes: Arc<AtomicUsize>,
    pub(in crate::query) pieces: Vec<Piece>,
}

impl TakePieces {
    pub(in crate::query) fn of(trace_id: String, n_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            trace_id,
            n_bytes,
            pieces: Vec::new(),
        }
    }
}

impl Taker for TakePieces {
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool> {
        let text = |column: usize| batch.column(column).as_string_opt::<i32>().ok_or_else(not_read);
        let (trace_ids, span_ids, texts) = (text(0)?, text(2)?, text(3)?);
        let ingest_ids = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(not_read)?;
        for row in rows.set_indices().filter(|row| texts.is_valid(*row) && trace_ids.is_valid(*row)) {
            // the filter may let others through
            let (true, Some(span_id)) = (trace_ids.value(row) == self.trace_id, SpanId::from_hex(span_ids.value(row))) else {
                continue;
            };
            let n_bytes = texts.value(row).len();
            if self.n_bytes.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes > MAX_BYTES {
                return Ok(false);
            }
            self.pieces.push(Piece {
                ingest_id: ingest_ids.value(row),
                span_id,
                text: texts.value(row).to_string(),
            });
        }
        Ok(true)
    }
}

fn not_read() -> Error {
    Error::internal("a column is not of its type")
}

/// How a span of a trace is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Written from its row.
    #[default]
    Written,
    /// With this document, as it came.
    Kept(String),
    /// It stands in such a document.
    Inside,
}

/// The place of each span of a trace.
pub fn places(trace: &Trace) -> Vec<Place> {
    let mut places = vec![Place::Written; trace.spans.len()];
    if trace.pieces.is_empty() {
        return places;
    }
    let mut texts: HashMap<(i64, SpanId), &str> = HashMap::with_capacity(trace.pieces.len());
    let mut twice: HashSet<(i64, SpanId)> = HashSet::new();
    for piece in &trace.pieces {
        // numbers are unique on a node only
        if texts
            .insert((piece.ingest_id, piece.span_id), &piece.text)
            .is_some_and(|other| other != piece.text)
        {
            twice.insert((piece.ingest_id, piece.span_id));
        }
    }
    let find = |number: i64, id: SpanId| texts.get(&(number, id)).copied().filter(|_| !twice.contains(&(number, id)));
    let mut rows_inside: HashSet<(i64, SpanId)> = HashSet::new();
    let mut inside: HashSet<SpanId> = HashSet::new();
    for (at, placed) in trace.spans.iter().enumerate() {
        let Some(id) = SpanId::from_hex(&placed.span.span_id) else { continue };
        let number = placed.span.ingest_id;
        let own = find(number, id).filter(|own| is_document(own, trace.trace_id, placed.span.parent_span_id.is_some()));
        if let Some(Joined { text, embedded }) = own.and_then(|own| join(number, own, &find)) {
            places[at] = Place::Kept(text);
            // one of them may look like a document of its own
            inside.extend(embedded.iter().map(|(_, id)| *id));
            rows_inside.extend(embedded);
        }
    }
    for (place, placed) in places.iter_mut().zip(&trace.spans) {
        let Some(id) = SpanId::from_hex(&placed.span.span_id) else { continue };
        let is_inside = match place {
            Place::Written => inside.contains(&id),
            _ => rows_inside.contains(&(placed.span.ingest_id, id)),
        };
        if is_inside {
            *place = Place::Inside;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::super::corpus::{START, Span};
    use super::super::{TraceFacts, documents::documents};
    use super::*;
    use crate::decode::xray::{body_of_documents, segments};
    use crate::model::TimeRange;
    use crate::query::{Coverage, Hit, SpanHit};

    const AT: f64 = START as f64 / 1e9;

    fn trace_id() -> crate::model::TraceId {
        crate::model::TraceId::from_bytes(&[9; 16]).expect("16 bytes")
    }

    /// A document: its ID, more members, and what is embedded.
    fn document(id: u8, more: &str, below: &[String]) -> String {
        let below = if below.is_empty() {
            String::new()
        } else {
            format!(", \"subsegments\" : [{}]", below.join(" , "))
        };
        format!("{{ \"name\":\"n{id}\",\"id\":\"{id:016x}\", \"start_time\":{AT}, \"end_time\":{AT}{more}{below} }}")
    }

    fn sent(id: u8, parent: Option<u8>, below: &[String]) -> String {
        let parent = parent.map_or(String::new(), |parent| format!(", \"parent_id\":\"{parent:016x}\""));
        document(id, &format!(",\"trace_id\":\"{}\"{parent}", trace_id().to_xray()), below)
    }

    /// Rows as they are stored, of requests one after the other.
    fn rows(requests: &[Vec<String>]) -> (Vec<SpanHit>, Vec<Piece>) {
        let context = crate::decode::Context {
            received_at_nanos: START,
            retention_days: 0,
        };
        let (mut hits, mut pieces) = (Vec::new(), Vec::new());
        for (request, texts) in requests.iter().enumerate() {
            let decoded = segments(&body_of_documents(texts.iter().map(String::as_str)), &context).expect("documents");
            assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
            let batch = decoded.batch.rows[0].with_ingest_ids((request as i64 + 1) << 20).to_batch(None).expect("rows");
            let mut taken = TakePieces::of(trace_id().to_string(), Arc::default());
            let columns: Vec<usize> = COLUMNS.iter().map(|name| batch.schema().index_of(name).expect("a column")).collect();
            let all = BooleanBuffer::new_set(batch.num_rows());
            assert!(taken.take(&batch.project(&columns).expect("columns"), &all).expect("taken"));
            pieces.append(&mut taken.pieces);
            for hit in Hit::from_stored(crate::model::Table::Spans, &batch).expect("hits") {
                let Hit::Span(span) = hit else { continue };
                hits.push(*span);
            }
        }
        (hits, pieces)
    }

    fn answer(spans: Vec<SpanHit>, pieces: Vec<Piece>) -> Vec<(String, String)> {
        let hits = spans.into_iter().map(|span| Hit::Span(Box::new(span))).collect();
        let mut trace = Trace::assemble(trace_id(), hits, Vec::new(), Coverage::new(TimeRange::ALL), std::time::Duration::ZERO).expect("spans");
        trace.pieces = pieces;
        documents(&TraceFacts::of(&trace))
            .into_iter()
            .map(|document| (document.id, document.text))
            .collect()
    }

    fn id(n: u8) -> String {
        format!("{n:016x}")
    }

    #[test]
    fn documents_come_as_they_were_sent_and_what_is_in_them_does_not_come_again() {
        let segment = sent(1, None, &[document(2, ",\"odd\": 1.50", &[document(3, "", &[])])]);
        let late = sent(4, Some(2), &[document(5, "", &[])]);
        let (mut spans, pieces) = rows(&[vec![segment.clone()], vec![late.clone()]]);
        // one of OpenTelemetry below an embedded subsegment, and one below that
        for (n, parent) in [(6u64, 3u64), (7, 6)] {
            let mut span = Span::new(n, parent, "otel", "INTERNAL", "api", (0, 1)).0;
            span.trace_id = trace_id().to_string();
            spans.push(span);
        }
        let answered = answer(spans, pieces);
        assert_eq!(answered.len(), 3, "{answered:?}");
        assert!(answered.contains(&(id(1), segment)) && answered.contains(&(id(4), late)));
        let (_, otel) = answered.iter().find(|(of, _)| *of == id(6)).expect("a document of its own");
        let otel: serde_json::Value = serde_json::from_str(otel).expect("JSON");
        assert_eq!((&otel["type"], &otel["parent_id"]), (&"subsegment".into(), &id(3).into()));
        assert_eq!(otel["subsegments"][0]["id"], id(7));
    }

    #[test]
    fn the_newest_document_of_a_segment_is_answered() {
        let begun = sent(1, None, &[document(2, "", &[])]).replace(&format!("\"end_time\":{AT},\"trace_id\""), "\"in_progress\":true,\"trace_id\"");
        assert!(begun.contains("in_progress"));
        let (done, again) = (sent(1, None, &[document(2, ",\"x\":1", &[])]), sent(1, None, &[document(2, ",\"x\":2", &[])]));
        for requests in [
            [vec![begun.clone()], vec![done.clone()]],
            [vec![done.clone()], vec![begun.clone()]],
            [vec![again.clone()], vec![done.clone()]],
        ] {
            let (spans, pieces) = rows(&requests);
            assert_eq!(answer(spans, pieces), [(id(1), done.clone())]);
        }
        // the completed one came without what the other had: it is not lost
        let (spans, pieces) = rows(&[vec![begun], vec![sent(1, None, &[])]]);
        let answered = answer(spans, pieces);
        assert_eq!(answered[0], (id(1), sent(1, None, &[])));
        assert_eq!((answered.len(), &answered[1].0), (2, &id(2)));
    }

    #[test]
    fn a_deleted_row_takes_its_text_along_and_the_rest_is_written_from_rows() {
        let secret = document(2, ",\"metadata\":{\"default\":{\"email\":\"alice@example.com\"}}", &[]);
        let other = document(3, ",\"odd\":1.50", &[]);
        let (spans, pieces) = rows(&[vec![sent(1, None, &[secret, other])]]);
        assert_eq!(
            pieces.iter().filter(|piece| piece.text.contains("alice")).count(),
            1,
            "only its own row holds it"
        );
        let left = |gone: &str| {
            let spans: Vec<SpanHit> = spans.iter().filter(|span| span.span_id != gone).cloned().collect();
            let pieces: Vec<Piece> = pieces.iter().filter(|piece| piece.span_id.to_string() != gone).cloned().collect();
            answer(spans, pieces)
        };
        let answered = left(&id(2));
        assert_eq!(answered.len(), 1);
        assert!(!answered[0].1.contains("alice"), "{answered:?}");
        let written: serde_json::Value = serde_json::from_str(&answered[0].1).expect("JSON");
        assert_eq!(written["subsegments"].as_array().map(Vec::len), Some(1));
        assert_eq!(written["subsegments"][0]["id"], id(3));
        // without its segment, an embedded subsegment is no document by itself
        let answered = left(&id(1));
        assert_eq!(answered.len(), 2);
        for (_, text) in answered {
            let written: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!((&written["parent_id"], &written["trace_id"]), (&id(1).into(), &trace_id().to_xray().into()));
        }
    }

    #[test]
    fn rows_of_two_nodes_with_the_same_numbers_are_told_apart() {
        let (one, other) = (sent(1, None, &[document(2, "", &[])]), sent(3, None, &[document(4, "", &[])]));
        let (mut spans, mut pieces) = rows(&[vec![one.clone()]]);
        let (more, further) = rows(&[vec![other.clone()]]);
        spans.extend(more);
        pieces.extend(further);
        assert_eq!(answer(spans, pieces), [(id(1), one), (id(3), other)]);
        // the same span with the same number, of another text: neither is known to be the right one
        let (mut spans, mut pieces) = rows(&[vec![sent(1, None, &[])]]);
        let (more, further) = rows(&[vec![sent(1, None, &[document(2, "", &[])])]]);
        spans.extend(more);
        pieces.extend(further);
        let answered = answer(spans, pieces);
        assert!(answered[0].1.starts_with("{\"id\""), "written from the row: {answered:?}");
    }
}
