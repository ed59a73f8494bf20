//! X-Ray segment documents: JSON to rows of `spans`.
//!
//! In: a JSON array of strings, each one document (that is how documents from UDP and from `PutTraceSegments` alike lie in
//! the log), or the body of a `PutTraceSegments` call, which holds such an array. Out: one span for each segment and each
//! subsegment, nested or sent on its own. A document is taken whole or rejected whole, with its position, a reason and
//! the field at fault.
//!
//! A document is a segment (a service's part of a trace), a subsegment sent on its own (`type`), or an array of those.
//! Required: `name`, `id`, `trace_id`, `start_time`, and `end_time` or `in_progress: true`; nested subsegments take the
//! trace of the document and, unless they name another, the parent that holds them. Fields that are unknown or of an
//! unexpected type never reject a document: they are kept as attributes `aws.xray.<field>`.
//!
//! The mapping is the OpenTelemetry collector's (`awsxrayreceiver`), written down in [`span`] and [`resource`], with
//! attributes added so that the document can be written again: `aws.xray.type`, `aws.xray.namespace`,
//! `aws.xray.error`, `aws.xray.fault`, `aws.xray.throttle`, `aws.xray.origin`, `aws.xray.inferred`,
//! `aws.xray.precursor_ids`.
//!
//! The text of a document is kept with its rows, so that it can be answered as it came ([`kept`]).
//!
//! The service: a segment's name. A subsegment sent on its own is named after the call it makes, so it takes the
//! resource of the segment above it when that is in the same body, and else has none: no other request's documents are
//! known here, so that the log gives the same rows again. Such a span is found by its trace, not by its service.
//!
//! | bound | value |
//! |---|---|
//! | documents of a body | [`MAX_DOCUMENTS`] |
//! | bytes of a document | [`MAX_DOCUMENT_BYTES`] |
//! | levels of subsegments | [`MAX_DEPTH`] |

mod document;
pub mod kept;
mod resource;
mod seconds;
mod span;

use std::collections::HashMap;
use std::sync::Arc;

use document::{Document, Flaw, Node};
use serde::Deserialize;

use super::text::Text;
use super::window::Window;
use super::{AtMost, Context, Decoded, Error, Rejected};
use crate::model::{self, SpanId, SpansBuilder, TraceId};

pub use document::{MAX_DEPTH, MAX_DOCUMENT_BYTES};

/// Documents of one body; clients send 50.
pub const MAX_DOCUMENTS: usize = 10_000;
/// Links from a subsegment to the segment above it that are followed within one body.
const MAX_HOPS: usize = 64;

/// Why a datagram holds no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// There is no line feed after a header.
    #[error("the datagram has no header line")]
    NoHeader,
    /// The first line is not `{"format": "json", "version": 1}`.
    #[error("the datagram's header is not {{\"format\": \"json\", \"version\": 1}}")]
    BadHeader,
    /// Nothing follows the header.
    #[error("the datagram has no document after its header")]
    Empty,
    /// The document is not UTF-8.
    #[error("the datagram's document is not UTF-8")]
    NotText,
}

/// The document of a datagram in the daemon's format: `{"format": "json", "version": 1}`, a line feed, one document.
pub fn udp_document(datagram: &[u8]) -> Result<&str, DatagramError> {
    #[derive(Deserialize)]
    struct Header {
        format: String,
        version: u64,
    }
    let end = memchr::memchr(b'\n', datagram).ok_or(DatagramError::NoHeader)?;
    let header: Header = serde_json::from_slice(&datagram[..end]).map_err(|_| DatagramError::BadHeader)?;
    if !header.format.eq_ignore_ascii_case("json") || header.version != 1 {
        return Err(DatagramError::BadHeader);
    }
    let document = std::str::from_utf8(&datagram[end + 1..]).map_err(|_| DatagramError::NotText)?;
    let document = document.trim_ascii();
    if document.is_empty() {
        return Err(DatagramError::Empty);
    }
    Ok(document)
}

/// The body that [`segments`] reads, made of documents.
pub fn body_of_documents<'a>(documents: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut body = vec![b'['];
    for document in documents {
        if body.len() > 1 {
            body.push(b',');
        }
        // writing a string to memory cannot fail
        let _ = serde_json::to_writer(&mut body, document);
    }
    body.push(b']');
    body
}

/// The documents of a body, at most [`MAX_DOCUMENTS`]: a JSON array of strings, or an object that holds one as
/// `TraceSegmentDocuments`.
pub fn documents(body: &[u8]) -> Result<Vec<String>, Error> {
    type Texts<'a> = AtMost<Text<'a>, MAX_DOCUMENTS>;
    #[derive(Deserialize)]
    struct PutTraceSegments<'a> {
        #[serde(borrow, rename = "TraceSegmentDocuments")]
        documents: Option<Texts<'a>>,
    }
    let documents: Texts<'_> = if body.trim_ascii_start().starts_with(b"{") {
        let call: PutTraceSegments<'_> = serde_json::from_slice(body)?;
        call.documents.ok_or_else(|| {
            Error::Invalid("1 validation error detected: Value null at 'traceSegmentDocuments' failed to satisfy constraint: Member must not be null".into())
        })?
    } else {
        serde_json::from_slice(body)?
    };
    let documents = documents.all().map_err(|_| Error::TooMany {
        what: "segment documents",
        max: MAX_DOCUMENTS,
    })?;
    Ok(documents.into_iter().map(|text| text.0.into_owned()).collect())
}

/// The `id` of a document, as far as it can be read; for answers that name a rejected document.
pub fn document_id(document: &str) -> Option<String> {
    document::Object::parse(document).ok()?.text("id")
}

/// Whether the node and all below it started inside the window.
fn all_inside(node: &Node<'_>, window: &Window) -> Result<(), Flaw> {
    if let Some((reason, message)) = window.objection(node.start_nanos) {
        let message = format!("start_time is {message}");
        return Err(Flaw { reason, message });
    }
    node.subsegments.iter().try_for_each(|below| all_inside(below, window))
}

/// Segment documents, JSON; see the front page.
pub fn segments(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let texts = documents(body)?;
    let mut decoded = Decoded::default();
    let mut read: Vec<Document<'_>> = Vec::with_capacity(texts.len());
    let window = Window::of(context);
    for (index, text) in texts.iter().enumerate() {
        let inside = document::read(text).and_then(|documents| match &window {
            Some(window) => documents.iter().try_for_each(|document| all_inside(&document.root, window)).map(|()| documents),
            None => Ok(documents),
        });
        match inside {
            Ok(documents) => read.extend(documents),
            Err(Flaw { reason, message }) => decoded.rejected.push(Rejected {
                count: 1,
                reason,
                message,
                index: Some(index),
                sender: None,
            }),
        }
    }
    if read.is_empty() {
        return Ok(decoded);
    }
    let mut builder = SpansBuilder::default();
    let mut numbers: HashMap<u128, i32> = HashMap::new();
    for (document, resource) in read.iter().zip(resources(&read)) {
        let number = *numbers.entry(resource.hash()).or_insert_with(|| builder.context(resource));
        span::push(&mut builder, number, document.trace_id, &document.root, document.root.parent);
    }
    decoded.batch.rows.push(builder.finish()?);
    Ok(decoded)
}

/// The resource of each document.
fn resources(documents: &[Document<'_>]) -> Vec<Arc<model::Context>> {
    let own: Vec<Option<Arc<model::Context>>> = documents
        .iter()
        .map(|document| (!document.root.is_subsegment).then(|| resource::of_segment(&document.root)))
        .collect();
    let mut holder: HashMap<(TraceId, SpanId), usize> = HashMap::new();
    for (index, document) in documents.iter().enumerate() {
        document.root.for_each(&mut |id| {
            holder.insert((document.trace_id, id), index);
        });
    }
    let nothing = model::ContextBuilder::new().build();
    (0..documents.len())
        .map(|start| {
            let mut at = start;
            for _ in 0..MAX_HOPS {
                if let Some(resource) = &own[at] {
                    return resource.clone();
                }
                let above = documents[at].root.parent.and_then(|parent| holder.get(&(documents[at].trace_id, parent)));
                match above {
                    Some(above) => at = *above,
                    None => break,
                }
            }
            nothing.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests;
