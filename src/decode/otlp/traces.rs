//! Spans.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::{ContextMemory, Rejections, capped_32, context_of, decoded, time, values};
use crate::decode::{ANNOTATIONS, Decoded, Error, Reason, TEXT_ANNOTATIONS, reads_otherwise};
use crate::model::{SPAN_KINDS, STATUS_CODES, SpanEvent, SpanId, SpanLink, SpanRecord, SpansBuilder, TraceId, Value};

/// Listed annotations whose type is looked at: twice as many as X-Ray has of a trace.
const MAX_ANNOTATIONS: usize = 100;

/// Rows of `spans`; a span without usable IDs and times is rejected.
pub(super) fn traces(request: &ExportTraceServiceRequest) -> Result<Decoded, Error> {
    let mut builder = SpansBuilder::default();
    let mut rejections = Rejections::default();
    let mut contexts = ContextMemory::default();
    let mut scratch = String::new();
    for resource in &request.resource_spans {
        for scope in resource.scope_spans.iter().filter(|scope| !scope.spans.is_empty()) {
            let context = context_of(resource.resource.as_ref(), scope.scope.as_ref());
            contexts.add(&context)?;
            rejections.come_from(&context);
            let context = builder.context(context);
            for span in &scope.spans {
                match record(span) {
                    Ok(record) => {
                        details(&mut builder, span, record.start_time_unix_nano, &mut scratch);
                        builder.push(context, &record);
                    }
                    Err((reason, message)) => rejections.add(1, reason, || format!("span {:?}: {message}", span.name)),
                }
            }
        }
    }
    Ok(decoded(vec![builder.finish()?], rejections))
}

/// The fixed fields, or why the span is rejected.
fn record(span: &Span) -> Result<SpanRecord<'_>, (Reason, String)> {
    let bad_id = |reason, field, size, bytes: &[u8]| {
        let zeros = if bytes.len() == size { " zero" } else { "" };
        (reason, format!("{field} must be {size} bytes, not all zero, and is {}{zeros}", bytes.len()))
    };
    let trace_id = Some(&span.trace_id)
        .filter(|bytes| bytes.len() == 16)
        .and_then(|bytes| TraceId::from_bytes(bytes))
        .ok_or_else(|| bad_id(Reason::InvalidTraceId, "trace_id", 16, &span.trace_id))?;
    let span_id = SpanId::from_bytes(&span.span_id).ok_or_else(|| bad_id(Reason::InvalidSpanId, "span_id", 8, &span.span_id))?;
    let parent_span_id = SpanId::from_bytes(&span.parent_span_id);
    // no parent is sent as nothing or as zeros
    if parent_span_id.is_none() && !matches!(span.parent_span_id.as_slice(), [] | [0, 0, 0, 0, 0, 0, 0, 0]) {
        return Err(bad_id(Reason::InvalidSpanId, "parent_span_id", 8, &span.parent_span_id));
    }
    let start = time(span.start_time_unix_nano).ok_or_else(|| {
        let message = format!(
            "start_time_unix_nano must be set and before the year 2262, and is {}",
            span.start_time_unix_nano
        );
        (Reason::InvalidTime, message)
    })?;
    let end = match span.end_time_unix_nano {
        0 => None,
        sent => Some(time(sent).ok_or_else(|| {
            let message = format!("end_time_unix_nano must be before the year 2262, and is {sent}");
            (Reason::InvalidTime, message)
        })?),
    };
    let status = span.status.as_ref();
    let name_of = |names: &[&'static str], number: i32| {
        let named = usize::try_from(number).ok().and_then(|number| names.get(number).copied());
        named.unwrap_or(names[0])
    };
    Ok(SpanRecord {
        start_time_unix_nano: start,
        end_time_unix_nano: end.map(|end| end.max(start)),
        trace_id,
        span_id,
        parent_span_id,
        trace_state: Some(&span.trace_state),
        trace_flags: Some((span.flags & 0xff) as i32),
        name: &span.name,
        kind: name_of(&SPAN_KINDS, span.kind),
        status_code: name_of(&STATUS_CODES, status.map_or(0, |status| status.code)),
        status_message: status.map(|status| status.message.as_str()),
        in_progress: false,
        dropped_attributes_count: capped_32(span.dropped_attributes_count),
    })
}

/// Of the attributes that X-Ray is to have as annotations, those which are text and read otherwise: columns hold text alone.
fn text_annotations(builder: &mut SpansBuilder, span: &Span) {
    let of_attribute = |key: &str| {
        let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
        attribute.value.as_ref()?.value.as_ref()
    };
    let Some(Any::ArrayValue(listed)) = of_attribute(ANNOTATIONS) else { return };
    let is_one = |key: &&str| matches!(of_attribute(key), Some(Any::StringValue(text)) if reads_otherwise(text));
    let texts = listed.values.iter().filter_map(|item| match &item.value {
        Some(Any::StringValue(key)) => Some(key.as_str()),
        _ => None,
    });
    let texts: Vec<&str> = texts.take(MAX_ANNOTATIONS).filter(is_one).collect();
    if !texts.is_empty() {
        builder.attribute(TEXT_ANNOTATIONS, Value::Json(&serde_json::Value::from(texts).to_string()));
    }
}

/// Attributes, events and links. An event without a usable time is put at the span's start.
fn details(builder: &mut SpansBuilder, span: &Span, start: i64, scratch: &mut String) {
    for attribute in &span.attributes {
        builder.attribute(&attribute.key, values::value(attribute.value.as_ref(), scratch));
    }
    text_annotations(builder, span);
    for event in &span.events {
        for attribute in &event.attributes {
            builder.event_attribute(&attribute.key, values::value(attribute.value.as_ref(), scratch));
        }
        builder.event(&SpanEvent {
            time_unix_nano: time(event.time_unix_nano).unwrap_or(start),
            name: &event.name,
        });
    }
    for link in &span.links {
        for attribute in &link.attributes {
            builder.link_attribute(&attribute.key, values::value(attribute.value.as_ref(), scratch));
        }
        builder.link(&SpanLink {
            trace_id: Some(&link.trace_id)
                .filter(|bytes| bytes.len() == 16)
                .and_then(|bytes| TraceId::from_bytes(bytes)),
            span_id: SpanId::from_bytes(&link.span_id),
            trace_state: Some(&link.trace_state),
        });
    }
}
