//! A second look at bytes that prost refused.
//!
//! Prost refuses a whole request over one name that an SDK cut in the middle of a character, and says no offset. This
//! walk knows the messages' shapes: it finds the fault and its place, or, where nothing is wrong but text that is not
//! UTF-8 or values nested too deep, gives the request back mended.

use super::wire::{Chunk, Message, Payload};
use crate::decode::Error;

/// Messages within messages that are kept; prost's own bound is 100. Only `AnyValue` nests without end, and what lies
/// deeper than [`super::MAX_NESTING`] of it is dropped later anyway.
const MAX_DEPTH: usize = 96;

/// A message: its name and its known fields.
pub(super) struct Shape {
    pub(super) name: &'static str,
    fields: &'static [(u32, Part)],
}

/// What a known field is.
enum Part {
    Text,
    Bytes,
    Varint,
    Fixed64,
    Fixed32,
    Message(&'static Shape),
}

use Part::{Bytes, Fixed32, Fixed64, Text, Varint};

macro_rules! shapes {
    ($($(#[$doc:meta])* $shape:ident = $name:literal { $($number:literal: $part:expr),* $(,)? })*) => {
        $($(#[$doc])* pub(super) static $shape: Shape = Shape { name: $name, fields: &[$(($number, $part)),*] };)*
    };
}

const fn of(shape: &'static Shape) -> Part {
    Part::Message(shape)
}

// repeated numbers may be packed or not: they are left out and pass as they are
shapes! {
    /// Requests of the trace service.
    TRACES = "ExportTraceServiceRequest" { 1: of(&RESOURCE_SPANS) }
    RESOURCE_SPANS = "ResourceSpans" { 1: of(&RESOURCE), 2: of(&SCOPE_SPANS), 3: Text }
    SCOPE_SPANS = "ScopeSpans" { 1: of(&SCOPE), 2: of(&SPAN), 3: Text }
    SPAN = "Span" {
        1: Bytes, 2: Bytes, 3: Text, 4: Bytes, 5: Text, 6: Varint, 7: Fixed64, 8: Fixed64, 9: of(&KEY_VALUE), 10: Varint,
        11: of(&EVENT), 12: Varint, 13: of(&LINK), 14: Varint, 15: of(&STATUS), 16: Fixed32,
    }
    EVENT = "Event" { 1: Fixed64, 2: Text, 3: of(&KEY_VALUE), 4: Varint }
    LINK = "Link" { 1: Bytes, 2: Bytes, 3: Text, 4: of(&KEY_VALUE), 5: Varint, 6: Fixed32 }
    STATUS = "Status" { 2: Text, 3: Varint }
    /// Requests of the metrics service.
    METRICS = "ExportMetricsServiceRequest" { 1: of(&RESOURCE_METRICS) }
    RESOURCE_METRICS = "ResourceMetrics" { 1: of(&RESOURCE), 2: of(&SCOPE_METRICS), 3: Text }
    SCOPE_METRICS = "ScopeMetrics" { 1: of(&SCOPE), 2: of(&METRIC), 3: Text }
    METRIC = "Metric" {
        1: Text, 2: Text, 3: Text, 5: of(&GAUGE), 7: of(&SUM), 9: of(&HISTOGRAM), 10: of(&EXP_HISTOGRAM), 11: of(&SUMMARY),
        12: of(&KEY_VALUE),
    }
    GAUGE = "Gauge" { 1: of(&NUMBER_POINT) }
    SUM = "Sum" { 1: of(&NUMBER_POINT), 2: Varint, 3: Varint }
    HISTOGRAM = "Histogram" { 1: of(&HISTOGRAM_POINT), 2: Varint }
    EXP_HISTOGRAM = "ExponentialHistogram" { 1: of(&EXP_HISTOGRAM_POINT), 2: Varint }
    SUMMARY = "Summary" { 1: of(&SUMMARY_POINT) }
    NUMBER_POINT = "NumberDataPoint" { 2: Fixed64, 3: Fixed64, 4: Fixed64, 5: of(&EXEMPLAR), 6: Fixed64, 7: of(&KEY_VALUE), 8: Varint }
    HISTOGRAM_POINT = "HistogramDataPoint" {
        2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 8: of(&EXEMPLAR), 9: of(&KEY_VALUE), 10: Varint, 11: Fixed64, 12: Fixed64,
    }
    EXP_HISTOGRAM_POINT = "ExponentialHistogramDataPoint" {
        1: of(&KEY_VALUE), 2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 6: Varint, 7: Fixed64, 8: of(&BUCKETS), 9: of(&BUCKETS),
        10: Varint, 11: of(&EXEMPLAR), 12: Fixed64, 13: Fixed64, 14: Fixed64,
    }
    BUCKETS = "Buckets" { 1: Varint }
    SUMMARY_POINT = "SummaryDataPoint" {
        2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 6: of(&QUANTILE), 7: of(&KEY_VALUE), 8: Varint,
    }
    QUANTILE = "ValueAtQuantile" { 1: Fixed64, 2: Fixed64 }
    EXEMPLAR = "Exemplar" { 2: Fixed64, 3: Fixed64, 4: Bytes, 5: Bytes, 6: Fixed64, 7: of(&KEY_VALUE) }
    RESOURCE = "Resource" { 1: of(&KEY_VALUE), 2: Varint, 3: of(&ENTITY) }
    ENTITY = "EntityRef" { 1: Text, 2: Text, 3: Text, 4: Text }
    SCOPE = "InstrumentationScope" { 1: Text, 2: Text, 3: of(&KEY_VALUE), 4: Varint }
    KEY_VALUE = "KeyValue" { 1: Text, 2: of(&ANY_VALUE), 3: Varint }
    ANY_VALUE = "AnyValue" { 1: Text, 2: Varint, 3: Varint, 4: Fixed64, 5: of(&ARRAY), 6: of(&LIST), 7: Bytes, 8: Varint }
    ARRAY = "ArrayValue" { 1: of(&ANY_VALUE) }
    LIST = "KeyValueList" { 1: of(&KEY_VALUE) }
}

/// The same request with its text made UTF-8 and its depth bounded, or the fault that it has.
pub(super) fn repair(body: &[u8], shape: &'static Shape) -> Result<Vec<u8>, Error> {
    message(Chunk { bytes: body, offset: 0 }, shape, 0)
}

fn message(chunk: Chunk<'_>, shape: &'static Shape, depth: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(chunk.bytes.len());
    if depth > MAX_DEPTH {
        return Ok(out);
    }
    let mut fields = Message::within(shape.name, chunk);
    while let Some(field) = fields.next()? {
        match shape.fields.iter().find(|(number, _)| *number == field.number).map(|(_, part)| part) {
            Some(Text) => put_bytes(&mut out, field.number, field.bytes()?.text().as_bytes()),
            Some(Part::Message(inner)) => {
                let inner = message(field.bytes()?, inner, depth + 1)?;
                put_bytes(&mut out, field.number, &inner);
            }
            known => {
                match known {
                    Some(Bytes) => _ = field.bytes()?,
                    Some(Varint) => _ = field.varint()?,
                    Some(Fixed64) => _ = field.fixed64()?,
                    Some(Fixed32) => _ = field.fixed32()?,
                    _ => {}
                }
                match field.payload {
                    Payload::Varint(value) => {
                        put_varint(&mut out, u64::from(field.number) << 3);
                        put_varint(&mut out, value);
                    }
                    Payload::Fixed64(value) => {
                        put_varint(&mut out, u64::from(field.number) << 3 | 1);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                    Payload::Bytes(chunk) => put_bytes(&mut out, field.number, chunk.bytes),
                    Payload::Fixed32(value) => {
                        put_varint(&mut out, u64::from(field.number) << 3 | 5);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
            }
        }
    }
    Ok(out)
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
