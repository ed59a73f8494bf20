//! What a request will take in memory, told from its bytes before anything is made of them.
//!
//! Two bytes can say "one more span", which takes hundreds in memory: a body far below its cap could still fill the
//! machine. So the bytes are walked first. Protobuf is walked by its shapes ([`shapes`]), as deep as prost reads; JSON is
//! scanned for the objects in its lists. Both take a small part of the time that decoding does.
//!
//! The weight is an upper bound within what is known of the structs, the lists that double as they grow, and the
//! columns; it is meant to be reserved, not to be exact.

use super::json;
use super::shapes::{Part, ROW_BYTES, Role, Shape};
use super::wire::{Chunk, Message, Payload};
use crate::decode::{Error, MAX_PARTS, MAX_RECORDS};

/// Messages within messages that are walked; prost gives up at 100.
const MAX_DEPTH: usize = 128;
/// More fields than any shape has.
const MAX_FIELDS: usize = 20;
/// What the allocator adds to a text of its own.
const ALLOCATION_BYTES: usize = 32;

/// What was counted so far.
#[derive(Debug, Default)]
struct Weight {
    records: usize,
    parts: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, role: Role, bytes: usize) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        let (count, max, what) = match role {
            Role::Record => (&mut self.records, MAX_RECORDS, "records"),
            Role::Other | Role::Resource => (&mut self.parts, MAX_PARTS, "attributes, events and other parts"),
        };
        *count += 1;
        if *count > max {
            return Err(Error::TooMany { what, max });
        }
        Ok(())
    }
}

/// Bytes of memory that decoding a protobuf body takes beside the body.
pub(super) fn protobuf(body: &[u8], shape: &'static Shape) -> Result<usize, Error> {
    let mut weight = Weight::default();
    walk(&mut weight, Chunk { bytes: body, offset: 0 }, shape, 0)?;
    // all text stands in structs and in columns
    Ok(weight.bytes.saturating_add(2 * body.len()))
}

fn walk(weight: &mut Weight, chunk: Chunk<'_>, shape: &'static Shape, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH || chunk.bytes.is_empty() {
        return Ok(());
    }
    let mut counts = [0u32; MAX_FIELDS];
    let mut resource_bytes = 0;
    let mut fields = Message::within(shape.name, chunk);
    while let Some(field) = fields.next()? {
        let Some(index) = shape.fields.iter().position(|(number, _)| *number == field.number) else {
            continue;
        };
        match (&shape.fields[index].1, field.payload) {
            (Part::One(inner), Payload::Bytes(chunk)) => {
                let before = weight.bytes;
                walk(weight, chunk, inner, depth + 1)?;
                resource_bytes += weight.bytes - before + chunk.bytes.len();
            }
            (Part::Many(inner), Payload::Bytes(chunk)) => {
                counts[index] += 1;
                weight.add(inner.role, grown(counts[index]) * inner.bytes)?;
                walk(weight, chunk, inner, depth + 1)?;
            }
            (Part::Texts, _) => {
                counts[index] += 1;
                weight.add(Role::Other, grown(counts[index]) * size_of::<String>() + ALLOCATION_BYTES)?;
            }
            (Part::Text | Part::Bytes, Payload::Bytes(chunk)) if !chunk.bytes.is_empty() => weight.bytes += ALLOCATION_BYTES,
            // each byte may be a number of eight in a struct, and again in a column
            (Part::Numbers, Payload::Bytes(chunk)) => weight.bytes += 3 * 8 * chunk.bytes.len(),
            (Part::Numbers, _) => weight.bytes += 3 * 8,
            _ => {}
        }
    }
    if shape.role == Role::Resource {
        let n_scopes = shape.fields.iter().position(|(number, _)| *number == 2).map_or(0, |index| counts[index]);
        weight.bytes = weight.bytes.saturating_add(resource_bytes.saturating_mul(n_scopes as usize));
    }
    Ok(())
}

/// By how many places a list grows for its `n`th item: from none to four, then to twice as many.
fn grown(n: u32) -> usize {
    match n {
        1 => 4,
        n if n > 4 && (n - 1).is_power_of_two() => n as usize - 1,
        _ => 0,
    }
}

/// What is in a JSON request.
pub(super) struct JsonShape {
    /// At how many objects from the outside records stand, the outermost being 1.
    record_levels: &'static [usize],
    /// Bytes of a record, in both forms.
    record_bytes: usize,
}

/// `ExportLogsServiceRequest`.
pub(super) const LOGS_JSON: JsonShape = JsonShape {
    record_levels: &[4],
    record_bytes: json::LOG_RECORD_BYTES + ROW_BYTES,
};
/// `ExportTraceServiceRequest`.
pub(super) const TRACES_JSON: JsonShape = JsonShape {
    record_levels: &[4],
    record_bytes: json::SPAN_BYTES + ROW_BYTES,
};
/// `ExportMetricsServiceRequest`.
pub(super) const METRICS_JSON: JsonShape = JsonShape {
    record_levels: &[4, 6],
    record_bytes: json::POINT_BYTES + ROW_BYTES,
};

/// Bytes of memory that decoding a JSON body takes beside the body. What is not JSON is scanned as far as it looks like
/// it: decoding will tell what is wrong with it.
pub(super) fn json(body: &[u8], shape: &JsonShape) -> Result<usize, Error> {
    let mut weight = Weight::default();
    let mut level = 0usize;
    // what stood before, white space aside
    let mut before = 0u8;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(body, at),
            b'{' => {
                level += 1;
                let is_record = shape.record_levels.contains(&level);
                let (role, bytes) = if is_record {
                    (Role::Record, shape.record_bytes)
                } else {
                    (Role::Other, json::PART_BYTES)
                };
                match before {
                    // a list has room for four at first, and may be half empty later
                    b'[' => weight.add(role, 4 * bytes)?,
                    b',' => weight.add(role, 2 * bytes)?,
                    _ => {}
                }
            }
            b'}' => level = level.saturating_sub(1),
            // a number in a list
            b',' => weight.bytes += 3 * 8,
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => {}
        }
        before = byte;
    }
    // text is copied for structs, for columns and, of logs, for protobuf in between
    Ok(weight.bytes.saturating_add(3 * body.len()))
}

/// The place behind the closing quote.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &body[at..]) {
        let is_quote = body[at + found] == b'"';
        at += found + if is_quote { 1 } else { 2 };
        if is_quote || at >= body.len() {
            return at.min(body.len());
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_strings_do_not_count() {
        let weigh = |text: &str| json(text.as_bytes(), &LOGS_JSON).expect("light");
        for text in [r#"{"a":["xx"]}"#, r#"{"a":["[{},{},{},{},{}]\"{{{{"]}"#] {
            assert_eq!(weigh(text), 3 * text.len(), "{text}");
        }
        let list = r#"{"a":[{},{},{}, {},{},     {}]}"#;
        assert!(weigh(list) > 6 * json::PART_BYTES);
        for odd in ["\"", "\"\\", "\"\\\"", "}}}{", "[[", ""] {
            weigh(odd);
        }
    }

    #[test]
    fn lists_grow_as_vectors_do() {
        let mut places = 0;
        let mut list = Vec::new();
        for n in 1..=1_000 {
            places += grown(n);
            list.push([0u8; 64]);
            assert_eq!(places, list.capacity(), "{n}");
        }
    }
}
