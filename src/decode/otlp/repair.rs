//! A second look at bytes that prost refused.
//!
//! Prost refuses a whole request over one name that an SDK cut in the middle of a character, and says no offset. This
//! walk knows the messages' shapes: it finds the fault and its place, or, where nothing is wrong but text that is not
//! UTF-8 or values nested too deep, gives the request back mended.

use super::shapes::{Part, Shape};
use super::wire::{Chunk, Message, Payload};
use crate::decode::Error;

/// Messages within messages that are kept; prost's own bound is 100. Only `AnyValue` nests without end, and what lies
/// deeper than [`super::MAX_NESTING`] of it is dropped later anyway.
const MAX_DEPTH: usize = 96;

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
            Some(Part::Text | Part::Texts) => put_bytes(&mut out, field.number, field.bytes()?.text().as_bytes()),
            Some(Part::One(inner) | Part::Many(inner)) => {
                let inner = message(field.bytes()?, inner, depth + 1)?;
                put_bytes(&mut out, field.number, &inner);
            }
            known => {
                match known {
                    Some(Part::Bytes) => _ = field.bytes()?,
                    Some(Part::Varint) => _ = field.varint()?,
                    Some(Part::Fixed64) => _ = field.fixed64()?,
                    Some(Part::Fixed32) => _ = field.fixed32()?,
                    // repeated numbers may be packed or not
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
