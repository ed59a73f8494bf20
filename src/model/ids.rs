//! Correlation keys and every spelling of them that clients use.
//!
//! Inside, a trace ID is 16 bytes and a span ID 8; tables and our own answers write them as 32 and 16 lower-case
//! hex digits. AWS faces print the X-Ray form. All parsing of the foreign spellings lives here and nowhere else.

use std::fmt;

/// A 16-byte trace ID. All zeros is "no trace" and cannot be constructed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// An 8-byte span (or X-Ray segment) ID. All zeros is "no span" and cannot be constructed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Reads exactly `2 * N` hex digits.
fn hex_bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0u8; N];
    for (slot, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

/// Writes lower-case hex into the front of `out`; the caller sizes it to `2 * bytes.len()`.
fn write_hex<'a>(bytes: &[u8], out: &'a mut [u8]) -> &'a str {
    for (i, byte) in bytes.iter().enumerate() {
        out[2 * i] = HEX[(byte >> 4) as usize];
        out[2 * i + 1] = HEX[(byte & 15) as usize];
    }
    std::str::from_utf8(&out[..2 * bytes.len()]).unwrap_or_default()
}

impl TraceId {
    /// From raw bytes; `None` for all zeros or a length other than 16 (or 8, a 64-bit ID, which is padded on the left).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut id = [0u8; 16];
        match bytes.len() {
            16 => id.copy_from_slice(bytes),
            8 => id[8..].copy_from_slice(bytes),
            _ => return None,
        }
        (id != [0u8; 16]).then_some(Self(id))
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hex digits of any case.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_bytes(&hex_bytes::<16>(text.as_bytes())?)
    }

    /// Reads the X-Ray form `1-5759e988-bd862e3fe1be46a994272793`.
    pub fn from_xray(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 35 || !text.starts_with("1-") || bytes[10] != b'-' {
            return None;
        }
        let mut digits = [0u8; 32];
        digits[..8].copy_from_slice(&bytes[2..10]);
        digits[8..].copy_from_slice(&bytes[11..]);
        Self::from_bytes(&hex_bytes::<16>(&digits)?)
    }

    /// Reads any spelling that a client, a header or a person may use for a trace ID:
    ///
    /// | spelling | example |
    /// |---|---|
    /// | OpenTelemetry / W3C | `5759e988bd862e3fe1be46a994272793`, any case |
    /// | X-Ray | `1-5759e988-bd862e3fe1be46a994272793` |
    /// | `X-Amzn-Trace-Id` header | `Root=1-…;Parent=…;Sampled=1`, keys in any order |
    /// | log4j form of X-Ray | `AWS-XRAY-TRACE-ID: 1-…@53995c3f42cd8ad8` |
    /// | W3C `traceparent` | `00-5759…2793-53995c3f42cd8ad8-01` |
    /// | B3 single header | `5759…2793-53995c3f42cd8ad8-1`, also with a 16-digit trace ID |
    /// | 64-bit hex (Zipkin, Jaeger) | `e1be46a994272793` |
    /// | UUID | `5759e988-bd86-2e3f-e1be-46a994272793` |
    /// | Datadog 64-bit decimal | `16266516598257821587`; a run of 16 digits is read as hex |
    pub fn parse_any(text: &str) -> Option<Self> {
        let text = text.trim().trim_matches('"');
        let bytes = text.as_bytes();
        match bytes.len() {
            32 => return Self::from_hex(text),
            35 if text.starts_with("1-") => return Self::from_xray(text),
            16 if bytes.iter().all(u8::is_ascii_hexdigit) => {
                return Self::from_bytes(&hex_bytes::<8>(bytes)?);
            }
            1..=20 if bytes.iter().all(u8::is_ascii_digit) => {
                return Self::from_bytes(&text.parse::<u64>().ok()?.to_be_bytes());
            }
            _ => {}
        }
        if let Some(rest) = strip_prefix_ignore_case(text, "AWS-XRAY-TRACE-ID:") {
            return Self::parse_any(rest.split('@').next()?);
        }
        if text.contains('=') {
            let root = text.split(';').find_map(|part| strip_prefix_ignore_case(part.trim(), "root="))?;
            return Self::from_xray(root.trim());
        }
        if let Some((id, _span)) = text.split_once('@') {
            return Self::from_xray(id);
        }
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            [version, trace, span, flags, ..] if version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2 => Self::from_hex(trace),
            [a, b, c, d, e] if [a.len(), b.len(), c.len(), d.len(), e.len()] == [8, 4, 4, 4, 12] => Self::from_hex(&parts.concat()),
            [trace, span, ..] if parts.len() <= 4 && span.len() == 16 && hex_bytes::<8>(span.as_bytes()).is_some() => match trace.len() {
                32 => Self::from_hex(trace),
                16 => Self::from_bytes(&hex_bytes::<8>(trace.as_bytes())?),
                _ => None,
            },
            _ => None,
        }
    }

    /// The X-Ray spelling, `1-` + 8 + `-` + 24 hex digits.
    pub fn to_xray(&self) -> String {
        let mut digits = [0u8; 32];
        let hex = write_hex(&self.0, &mut digits);
        format!("1-{}-{}", &hex[..8], &hex[8..])
    }

    /// Writes the 32 hex digits into `buffer` and returns them; for hot paths that must not allocate.
    pub fn hex<'a>(&self, buffer: &'a mut [u8; 32]) -> &'a str {
        write_hex(&self.0, buffer)
    }
}

impl SpanId {
    /// From raw bytes; `None` for all zeros or a length other than 8.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 8] = bytes.try_into().ok()?;
        (id != [0u8; 8]).then_some(Self(id))
    }

    /// Reads 16 hex digits of any case.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_bytes(&hex_bytes::<8>(text.as_bytes())?)
    }

    /// The 8 bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Writes the 16 hex digits into `buffer` and returns them.
    pub fn hex<'a>(&self, buffer: &'a mut [u8; 16]) -> &'a str {
        write_hex(&self.0, buffer)
    }
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex(&mut [0u8; 32]))
    }
}
impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex(&mut [0u8; 16]))
    }
}
impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX_FORM: &str = "5759e988bd862e3fe1be46a994272793";

    #[test]
    fn every_spelling_is_one_trace() {
        for spelling in [
            HEX_FORM,
            "5759E988BD862E3FE1BE46A994272793",
            "1-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "Self=1-11111111-bd862e3fe1be46a994272793;Root=1-5759e988-bd862e3fe1be46a994272793",
            "AWS-XRAY-TRACE-ID: 1-5759e988-bd862e3fe1be46a994272793@53995c3f42cd8ad8",
            "1-5759e988-bd862e3fe1be46a994272793@53995c3f42cd8ad8",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
            "5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-1",
            "5759e988-bd86-2e3f-e1be-46a994272793",
            "\"1-5759e988-bd862e3fe1be46a994272793\"",
        ] {
            assert_eq!(TraceId::parse_any(spelling).map(|id| id.to_string()).as_deref(), Some(HEX_FORM), "{spelling}");
        }
        assert_eq!(
            TraceId::from_hex(HEX_FORM).map(|id| id.to_xray()).as_deref(),
            Some("1-5759e988-bd862e3fe1be46a994272793")
        );
    }

    #[test]
    fn sixty_four_bit_ids_are_padded() {
        let expected = "0000000000000000e1be46a994272793";
        for spelling in ["e1be46a994272793", "16266516598257821587", "e1be46a994272793-53995c3f42cd8ad8-1"] {
            assert_eq!(TraceId::parse_any(spelling).map(|id| id.to_string()).as_deref(), Some(expected), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_trace_id_is_refused() {
        for text in [
            "",
            "0",
            "00000000000000000000000000000000",
            "hello",
            "1-5759e988-bd86",
            "Root=;Parent=",
            "a-b-c",
            "é-1",
            "99999999999999999999",
        ] {
            assert_eq!(TraceId::parse_any(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = TraceId::parse_any(&text);
        }

        #[test]
        fn hex_and_xray_round_trip(bytes in proptest::array::uniform16(0u8..)) {
            if let Some(id) = TraceId::from_bytes(&bytes) {
                proptest::prop_assert_eq!(TraceId::parse_any(&id.to_string()), Some(id));
                proptest::prop_assert_eq!(TraceId::parse_any(&id.to_xray()), Some(id));
            }
        }
    }
}
