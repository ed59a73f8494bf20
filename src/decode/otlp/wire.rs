//! Protobuf's wire format, walked in place: no copy, no schema.
//!
//! A [`Message`] gives its fields one by one; a length-delimited field is a [`Chunk`] that knows where it lies in the
//! body, so that every error names a byte. Groups (wire types 3 and 4), which proto3 does not have, are errors.

use std::borrow::Cow;

use crate::decode::Error;

/// Bytes of the body and where they begin in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

impl<'a> Chunk<'a> {
    /// Text; bytes that are not UTF-8 become U+FFFD.
    #[inline]
    pub(super) fn text(self) -> Cow<'a, str> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(self.bytes),
        }
    }
}

/// A field's content, by wire type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Chunk<'a>),
    Fixed32(u32),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) payload: Payload<'a>,
    message: &'static str,
    offset: usize,
}

impl<'a> Field<'a> {
    #[inline]
    pub(super) fn varint(self) -> Result<u64, Error> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            _ => Err(self.wrong("a varint")),
        }
    }
    #[inline]
    pub(super) fn fixed64(self) -> Result<u64, Error> {
        match self.payload {
            Payload::Fixed64(value) => Ok(value),
            _ => Err(self.wrong("64 bits")),
        }
    }
    #[inline]
    pub(super) fn fixed32(self) -> Result<u32, Error> {
        match self.payload {
            Payload::Fixed32(value) => Ok(value),
            _ => Err(self.wrong("32 bits")),
        }
    }
    #[inline]
    pub(super) fn bytes(self) -> Result<Chunk<'a>, Error> {
        match self.payload {
            Payload::Bytes(chunk) => Ok(chunk),
            _ => Err(self.wrong("length-delimited")),
        }
    }

    #[cold]
    fn wrong(&self, expected: &'static str) -> Error {
        let found = match self.payload {
            Payload::Varint(_) => "a varint",
            Payload::Fixed64(_) => "64 bits",
            Payload::Bytes(_) => "length-delimited",
            Payload::Fixed32(_) => "32 bits",
        };
        error(
            self.message,
            format!("field {} is {expected} but was sent as {found}", self.number),
            self.offset,
        )
    }
}

/// A message being walked.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    name: &'static str,
    chunk: Chunk<'a>,
    at: usize,
}

impl<'a> Message<'a> {
    /// The message that the whole body is.
    pub(super) fn root(name: &'static str, body: &'a [u8]) -> Self {
        Self::within(name, Chunk { bytes: body, offset: 0 })
    }

    /// The message in a field.
    #[inline]
    pub(super) fn within(name: &'static str, chunk: Chunk<'a>) -> Self {
        Self { name, chunk, at: 0 }
    }

    /// The next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.at == self.chunk.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.varint()?;
        let number = match u32::try_from(key >> 3) {
            Ok(number) if number != 0 && number < 1 << 29 => number,
            _ => return Err(self.fault(start, "a field number is out of range")),
        };
        let payload = match key & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let rest = self.chunk.bytes.len() - self.at;
                let length = match usize::try_from(length) {
                    Ok(length) if length <= rest => length,
                    _ => return Err(self.truncated(start, number, length, rest)),
                };
                let offset = self.chunk.offset + self.at;
                let bytes = &self.chunk.bytes[self.at..self.at + length];
                self.at += length;
                Payload::Bytes(Chunk { bytes, offset })
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(self.fault(start, "a field has a wire type that proto3 does not have")),
        };
        Ok(Some(Field {
            number,
            payload,
            message: self.name,
            offset: self.chunk.offset + start,
        }))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Error> {
        match self.chunk.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some(byte) = self.chunk.bytes.get(self.at + i) else {
                return Err(self.fault(self.at, "the message ends inside a varint"));
            };
            // the tenth byte carries the topmost bit only
            if i == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.fault(self.at, "a varint is longer than 64 bits"))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.chunk.bytes[self.at..].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.fault(self.at, "the message ends inside a fixed-size number")),
        }
    }

    #[cold]
    fn fault(&self, at: usize, detail: &str) -> Error {
        error(self.name, detail.to_string(), self.chunk.offset + at)
    }

    #[cold]
    fn truncated(&self, at: usize, number: u32, length: u64, rest: usize) -> Error {
        let detail = format!("field {number} is {length} bytes long but only {rest} are left");
        error(self.name, detail, self.chunk.offset + at)
    }
}

#[cold]
fn error(message: &'static str, detail: String, offset: usize) -> Error {
    Error::Protobuf { message, detail, offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<u32>, String> {
        let mut message = Message::root("Test", bytes);
        let mut numbers = Vec::new();
        while let Some(field) = message.next().map_err(|error| error.to_string())? {
            numbers.push(field.number);
        }
        Ok(numbers)
    }

    #[test]
    fn every_wire_type_of_proto3_is_walked() {
        let bytes = [
            8, 0x96, 1, // 1: varint 150
            0x11, 1, 2, 3, 4, 5, 6, 7, 8, // 2: 64 bits
            0x1a, 2, b'h', b'i', // 3: bytes
            0x25, 1, 2, 3, 4, // 4: 32 bits
        ];
        assert_eq!(walk(&bytes), Ok(vec![1, 2, 3, 4]));
        let ends: Vec<usize> = (0..=bytes.len()).filter(|end| walk(&bytes[..*end]).is_ok()).collect();
        assert_eq!(ends, [0, 3, 12, 16, 21], "cut anywhere but between fields, it is an error");
    }

    #[test]
    fn faults_name_their_place() {
        for (bytes, expected) in [
            (
                &[8u8, 1, 0x1a, 5, 1][..],
                "invalid protobuf in Test: field 3 is 5 bytes long but only 1 are left at byte 2",
            ),
            (&[0x0b], "invalid protobuf in Test: a field has a wire type that proto3 does not have at byte 0"),
            (&[0, 1], "invalid protobuf in Test: a field number is out of range at byte 0"),
            (
                &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                "invalid protobuf in Test: a varint is longer than 64 bits at byte 1",
            ),
            (&[8, 0x80], "invalid protobuf in Test: the message ends inside a varint at byte 1"),
        ] {
            assert_eq!(walk(bytes), Err(expected.to_string()));
        }
        let largest = [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(walk(&largest), Ok(vec![1]));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = walk(&bytes);
        }
    }
}
