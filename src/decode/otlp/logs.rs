//! Log records, walked on the wire straight into the columns.
//!
//! No structs in between and nothing allocated for a record of the usual shape: text is borrowed from the body until a
//! builder copies it. A record is never rejected. Where a field that may stand only once stands twice, the last wins.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::values::{push_bytes, push_double, push_string};
use super::wire::{Chunk, Message};
use super::{CUT, ContextMemory, MAX_NESTING, Rejections, SCOPE_PREFIX, capped_32, decoded, time};
use crate::decode::{Context, Decoded, Error};
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, SpanId, TraceId, Value};

/// Rows that a builder makes room for at most before it has seen them.
const MAX_PREALLOCATED_ROWS: usize = 64 * 1024;

/// `ExportLogsServiceRequest`, protobuf.
pub(super) fn logs(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let mut walk = Walk {
        builder: LogsBuilder::with_capacity(count_records(body).min(MAX_PREALLOCATED_ROWS)),
        contexts: ContextMemory::default(),
        received_at_nanos: context.received_at_nanos,
        json: String::new(),
    };
    let mut request = Message::root("ExportLogsServiceRequest", body);
    while let Some(field) = request.next()? {
        if field.number == 1 {
            walk.resource_logs(field.bytes()?)?;
        }
    }
    Ok(decoded(vec![walk.builder.finish()?], Rejections::default()))
}

/// How many records a body has; what lies behind a fault is not counted.
fn count_records(body: &[u8]) -> usize {
    fn chunks<'a>(message: &'static str, chunk: Chunk<'a>, number: u32) -> impl Iterator<Item = Chunk<'a>> {
        let mut message = Message::within(message, chunk);
        std::iter::from_fn(move || message.next().ok().flatten())
            .filter(move |field| field.number == number)
            .filter_map(|field| field.bytes().ok())
    }
    let request = Chunk { bytes: body, offset: 0 };
    chunks("ExportLogsServiceRequest", request, 1)
        .flat_map(|resource| chunks("ResourceLogs", resource, 2))
        .map(|scope| chunks("ScopeLogs", scope, 2).count())
        .sum()
}

struct Walk {
    builder: LogsBuilder,
    contexts: ContextMemory,
    received_at_nanos: i64,
    /// JSON text of the value being read.
    json: String,
}

impl Walk {
    fn resource_logs(&mut self, chunk: Chunk<'_>) -> Result<(), Error> {
        // fields may come in any order, so the resource is looked for first
        let mut context = ContextBuilder::new();
        let mut fields = Message::within("ResourceLogs", chunk);
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                let mut resource = Message::within("Resource", field.bytes()?);
                while let Some(field) = resource.next()? {
                    if field.number == 1 {
                        let (key, any) = key_value(field.bytes()?)?;
                        context.attribute(&key, any.value(&mut self.json)?);
                    }
                }
            }
        }
        let mut fields = Message::within("ResourceLogs", chunk);
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                self.scope_logs(&context, field.bytes()?)?;
            }
        }
        Ok(())
    }

    fn scope_logs(&mut self, resource: &ContextBuilder, chunk: Chunk<'_>) -> Result<(), Error> {
        let mut context = resource.clone();
        let (mut name, mut version) = (Cow::Borrowed(""), Cow::Borrowed(""));
        let mut any_record = false;
        let mut fields = Message::within("ScopeLogs", chunk);
        while let Some(field) = fields.next()? {
            any_record |= field.number == 2;
            if field.number == 1 {
                let mut scope = Message::within("InstrumentationScope", field.bytes()?);
                while let Some(field) = scope.next()? {
                    match field.number {
                        1 => name = field.bytes()?.text(),
                        2 => version = field.bytes()?.text(),
                        3 => {
                            let (key, any) = key_value(field.bytes()?)?;
                            context.attribute(&format!("{SCOPE_PREFIX}{key}"), any.value(&mut self.json)?);
                        }
                        _ => {}
                    }
                }
            }
        }
        if !any_record {
            return Ok(());
        }
        context.scope(&name, &version);
        let context = context.build();
        self.contexts.add(&context)?;
        let number = self.builder.context(context);
        let mut fields = Message::within("ScopeLogs", chunk);
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                self.log_record(number, field.bytes()?)?;
            }
        }
        Ok(())
    }

    fn log_record(&mut self, context: i32, chunk: Chunk<'_>) -> Result<(), Error> {
        let (mut at, mut observed, mut severity, mut flags, mut dropped) = (0, 0, 0, 0, 0);
        let (mut severity_text, mut event_name) = (Cow::Borrowed(""), Cow::Borrowed(""));
        let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
        let mut body = Any::Missing;
        let mut fields = Message::within("LogRecord", chunk);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => at = field.fixed64()?,
                2 => severity = field.varint()?,
                3 => severity_text = field.bytes()?.text(),
                5 => body = any_value(field.bytes()?)?,
                6 => {
                    let (key, any) = key_value(field.bytes()?)?;
                    self.builder.attribute(&key, any.value(&mut self.json)?);
                }
                // a `uint32` on the wire is the low 32 bits of the varint
                7 => dropped = field.varint()? as u32,
                8 => flags = field.fixed32()?,
                9 => trace_id = field.bytes()?.bytes,
                10 => span_id = field.bytes()?.bytes,
                11 => observed = field.fixed64()?,
                12 => event_name = field.bytes()?.text(),
                _ => {}
            }
        }
        let observed = time(observed);
        let trace_id = (trace_id.len() == 16).then(|| TraceId::from_bytes(trace_id)).flatten();
        let body_type = body.number();
        let value;
        let mut scratch = String::new();
        let body = match body {
            Any::Missing => None,
            _ => {
                value = body.value(&mut self.json)?;
                Some(value.text(&mut scratch))
            }
        };
        self.builder.push(
            context,
            &LogRecord {
                time_unix_nano: time(at).or(observed).unwrap_or(self.received_at_nanos),
                observed_time_unix_nano: observed,
                trace_id,
                span_id: SpanId::from_bytes(span_id),
                trace_flags: trace_id.is_some().then_some((flags & 0xff) as i32),
                severity_number: if (1..=24).contains(&severity) { severity as i32 } else { 0 },
                severity_text: Some(&severity_text),
                event_name: Some(&event_name),
                body,
                body_type,
                dropped_attributes_count: capped_32(dropped),
            },
        );
        Ok(())
    }
}

/// An `AnyValue` on the wire, read as far as its own fields go.
enum Any<'a> {
    Missing,
    Str(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(Chunk<'a>),
    List(Chunk<'a>),
    Bytes(&'a [u8]),
}

impl Any<'_> {
    /// The field number; a missing value counts as text.
    fn number(&self) -> i32 {
        match self {
            Any::Missing | Any::Str(_) => 1,
            Any::Bool(_) => 2,
            Any::Int(_) => 3,
            Any::Double(_) => 4,
            Any::Array(_) => 5,
            Any::List(_) => 6,
            Any::Bytes(_) => 7,
        }
    }

    /// The value for a column; a missing one is empty text. JSON is written into `json`.
    #[inline]
    fn value<'t>(&'t self, json: &'t mut String) -> Result<Value<'t>, Error> {
        Ok(match self {
            Any::Missing => Value::Str(""),
            Any::Str(text) => Value::Str(text),
            Any::Bool(value) => Value::Bool(*value),
            Any::Int(number) => Value::Int(*number),
            Any::Double(number) => Value::Double(*number),
            Any::Bytes(bytes) => {
                json.clear();
                STANDARD.encode_string(bytes, json);
                Value::Json(json)
            }
            Any::Array(_) | Any::List(_) => {
                json.clear();
                self.push_json(json, 1)?;
                Value::Json(json)
            }
        })
    }

    /// Appends the value in JSON; `depth` is the level that the value would open, from 1.
    fn push_json(&self, out: &mut String, depth: usize) -> Result<(), Error> {
        match self {
            Any::Missing => out.push_str("null"),
            Any::Str(text) => push_string(out, text),
            Any::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Any::Int(number) => out.push_str(itoa::Buffer::new().format(*number)),
            Any::Double(number) => push_double(out, *number),
            Any::Bytes(bytes) => push_bytes(out, bytes),
            Any::Array(_) | Any::List(_) if depth > MAX_NESTING => out.push_str(CUT),
            Any::Array(chunk) => {
                out.push('[');
                let mut separator = "";
                let mut fields = Message::within("ArrayValue", *chunk);
                while let Some(field) = fields.next()? {
                    if field.number == 1 {
                        out.push_str(separator);
                        separator = ",";
                        any_value(field.bytes()?)?.push_json(out, depth + 1)?;
                    }
                }
                out.push(']');
            }
            Any::List(chunk) => {
                out.push('{');
                let mut separator = "";
                let mut fields = Message::within("KeyValueList", *chunk);
                while let Some(field) = fields.next()? {
                    if field.number == 1 {
                        out.push_str(separator);
                        separator = ",";
                        let (key, any) = key_value(field.bytes()?)?;
                        push_string(out, &key);
                        out.push(':');
                        any.push_json(out, depth + 1)?;
                    }
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

#[inline]
fn any_value(chunk: Chunk<'_>) -> Result<Any<'_>, Error> {
    let mut any = Any::Missing;
    let mut fields = Message::within("AnyValue", chunk);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => any = Any::Str(field.bytes()?.text()),
            2 => any = Any::Bool(field.varint()? != 0),
            3 => any = Any::Int(field.varint()? as i64),
            4 => any = Any::Double(f64::from_bits(field.fixed64()?)),
            5 => any = Any::Array(field.bytes()?),
            6 => any = Any::List(field.bytes()?),
            7 => any = Any::Bytes(field.bytes()?.bytes),
            // an index into a string table that only profiles have
            8 => {
                field.varint()?;
                any = Any::Missing;
            }
            _ => {}
        }
    }
    Ok(any)
}

#[inline]
fn key_value(chunk: Chunk<'_>) -> Result<(Cow<'_, str>, Any<'_>), Error> {
    let mut key = Cow::Borrowed("");
    let mut any = Any::Missing;
    let mut fields = Message::within("KeyValue", chunk);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.bytes()?.text(),
            2 => any = any_value(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((key, any))
}
