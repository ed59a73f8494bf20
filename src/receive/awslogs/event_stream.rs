//! AWS' event streams: messages in frames that carry their own checks.
//!
//! | bytes | are (big-endian) |
//! |---|---|
//! | 4 | length of the frame |
//! | 4 | length of the headers |
//! | 4 | CRC-32 of the 8 before |
//! | … | headers: 1 byte length of the name, the name, `7` (text), 2 bytes length of the value, the value |
//! | … | payload: JSON |
//! | 4 | CRC-32 of all before |
//!
//! Of services that speak JSON the first message is `initial-response`; without it boto3 reads nothing.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// The content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// The type of a header that is text.
const TEXT: u8 = 7;

/// A message of this `:event-type`.
pub(super) fn event(name: &str, payload: &Value) -> Bytes {
    frame(
        &[(":message-type", "event"), (":event-type", name), (":content-type", "application/json")],
        payload,
    )
}

/// A message that says why the stream ends.
pub(super) fn exception(name: &str, payload: &Value) -> Bytes {
    let headers = [(":message-type", "exception"), (":exception-type", name), (":content-type", "application/json")];
    frame(&headers, payload)
}

/// Names and values are ours, and short.
fn frame(headers: &[(&str, &str)], payload: &Value) -> Bytes {
    let mut head = BytesMut::new();
    for (name, value) in headers {
        head.put_u8(name.len() as u8);
        head.put_slice(name.as_bytes());
        head.put_u8(TEXT);
        head.put_u16(value.len() as u16);
        head.put_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut out = BytesMut::with_capacity(16 + head.len() + payload.len());
    out.put_u32((16 + head.len() + payload.len()) as u32);
    out.put_u32(head.len() as u32);
    out.put_u32(crc32(&out));
    out.put_slice(&head);
    out.put_slice(payload.as_bytes());
    out.put_u32(crc32(&out));
    out.freeze()
}

/// CRC-32 as in gzip, a table's entry for each byte.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes
        .iter()
        .fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_what_clients_accept() {
        // computed with the encoder that boto3 was seen to read
        let expected = "00000068000000564e6817240d3a6d6573736167652d747970650700056576656e740b3a6576656e742d74797065070010696e697469616c2d726573706f6e7365\
                        0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b7dfe942c1d";
        let hex: String = event("initial-response", &serde_json::json!({}))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, expected);
    }
}
