//! Finds the trace ID of a record.
//!
//! **Named values** (attributes and leaves of a JSON body). A name counts whatever its case and separators: `trace_id`,
//! `traceId`, `trace.id`, `otelTraceID`, `dd.trace_id`, `xray_trace_id`, `X-Amzn-Trace-Id`, `_X_AMZN_TRACE_ID`,
//! `AWS-XRAY-TRACE-ID`, `traceparent`, `x-b3-traceid`, `b3`, `x-cloud-trace-context`, `logging.googleapis.com/trace`. It may
//! be the end of a path (`context.trace_id`, `request.headers.traceparent`); a name that is the whole path beats that.
//! What lies under `links` or `parent` is another trace. The value is read by [`TraceId::parse_any`]; Datadog's are
//! decimal whatever their length, elsewhere fewer than 16 digits are some number of the application's own.
//! Last comes the text of `log`, `message` or `msg`, read as below.
//!
//! **Text.** The X-Ray form `1-8hex-24hex` stands for itself, with the span in `@…`, `Parent=…` or `SegmentId: …` near it
//! (Lambda's `REPORT` lines, the log4j form, field 18 of ALB access logs); a `Root=` beats a `Self=`. Any other form needs one of the
//! names above before it, with `=`, `:` or quotes between; after a bare space only 32 hex digits count, and after `b3` only a trace with its span.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::model::{SpanId, TraceId};

/// A trace ID and what came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace_id: TraceId,
    /// The span in it, if it was named beside it.
    pub span_id: Option<SpanId>,
}

/// Longest name that is looked at; the longest known one, at the end of a path, is shorter.
const MAX_NAME_BYTES: usize = 48;
/// Longest value that is looked at: a whole `X-Amzn-Trace-Id` header with custom fields.
const MAX_VALUE_BYTES: usize = 256;

/// How the value under a name is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Whatever [`TraceId::parse_any`] reads.
    Any,
    /// 64 bits in decimal, or 128 in hex.
    Datadog,
    /// `projects/PROJECT/traces/HEX`.
    Google,
    /// `HEX/DECIMAL;o=1`.
    CloudContext,
}

/// A name without its separators, in lower case.
struct Normal {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl Normal {
    fn of(name: &str) -> Option<Normal> {
        if name.len() > MAX_NAME_BYTES {
            return None;
        }
        let mut normal = Normal {
            bytes: [0; MAX_NAME_BYTES],
            length: 0,
        };
        for byte in name.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' ')) {
            normal.bytes[normal.length] = byte.to_ascii_lowercase();
            normal.length += 1;
        }
        Some(normal)
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads a whole name.
fn trace_name(name: &str) -> Option<Spelling> {
    Some(match Normal::of(name)?.bytes() {
        b"traceid" | b"oteltraceid" | b"xraytraceid" | b"awsxraytraceid" | b"xamzntraceid" | b"amzntraceid" | b"xb3traceid" | b"traceparent" | b"b3" => {
            Spelling::Any
        }
        b"ddtraceid" => Spelling::Datadog,
        b"logginggoogleapiscom/trace" => Spelling::Google,
        b"xcloudtracecontext" => Spelling::CloudContext,
        _ => return None,
    })
}

/// Reads a whole name of a span ID; whether its value is Datadog's.
fn span_name(name: &str) -> Option<Spelling> {
    Some(match Normal::of(name)?.bytes() {
        b"spanid" | b"otelspanid" | b"xb3spanid" | b"logginggoogleapiscom/spanid" => Spelling::Any,
        b"ddspanid" => Spelling::Datadog,
        _ => return None,
    })
}

/// Reads a name or, if it is a path, its last parts; the flag says that it is the whole.
fn at_end_of_path(name: &str, read: fn(&str) -> Option<Spelling>) -> Option<(Spelling, bool)> {
    if let Some(spelling) = read(name) {
        return Some((spelling, true));
    }
    let (before, last) = name.rsplit_once('.')?;
    let (rest, parent) = before.rsplit_once('.').unwrap_or(("", before));
    let elsewhere = |part: &str| {
        let part = part.as_bytes();
        let starts = |word: &[u8]| part.len() >= word.len() && part[..word.len()].eq_ignore_ascii_case(word);
        starts(b"link") || starts(b"parent")
    };
    // `dd.trace_id` and `trace.id` are names of two parts
    let two = &name[before.len() - parent.len()..];
    if let Some(spelling) = read(two) {
        let above = rest.rsplit('.').next().unwrap_or_default();
        return (!elsewhere(above)).then_some((spelling, false));
    }
    if elsewhere(parent) {
        return None;
    }
    Some((read(last)?, false))
}

/// Whether a name ends as a known one does; most do not, and are passed over without being read.
fn may_be_known(name: &[u8]) -> bool {
    let ends_with = |word: &[u8]| name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word);
    match name.last() {
        // `trace` or `span`, maybe a separator, `id`
        Some(b'd' | b'D') => {
            let before = name.strip_suffix(b"d").or(name.strip_suffix(b"D")).and_then(|name| name.split_last());
            let Some((b'i' | b'I', before)) = before else {
                return false;
            };
            let before = match before.split_last() {
                Some((b'_' | b'-' | b'.' | b' ', before)) => before,
                _ => before,
            };
            matches!(before.last(), Some(b'e' | b'E' | b'n' | b'N'))
        }
        Some(b't' | b'T') => ends_with(b"traceparent") || ends_with(b"trace-parent") || ends_with(b"context"),
        Some(b'e') => ends_with(b"/trace"),
        Some(b'3') => ends_with(b"b3"),
        _ => false,
    }
}

/// The span ID in a header that also names a trace.
fn span_of_header(value: &str) -> Option<SpanId> {
    if value.contains('=') {
        let parent = value.split(';').find_map(|part| {
            let (key, id) = part.trim().split_once('=')?;
            key.eq_ignore_ascii_case("parent").then_some(id)
        })?;
        return SpanId::from_hex(parent.trim());
    }
    if let Some((_, span)) = value.split_once('@') {
        return SpanId::from_hex(span.trim());
    }
    let mut parts = value.split('-');
    match (parts.next()?, parts.next()?, parts.next()) {
        (version, trace, Some(span)) if version.len() == 2 && trace.len() == 32 => SpanId::from_hex(span),
        (trace, span, _) if matches!(trace.len(), 16 | 32) => SpanId::from_hex(span),
        _ => None,
    }
}

fn decimal(value: &str) -> Option<[u8; 8]> {
    let is_decimal = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    Some(value.parse::<u64>().ok().filter(|_| is_decimal)?.to_be_bytes())
}

/// Reads a value under a name of the given spelling.
fn trace_value(spelling: Spelling, value: &str) -> Option<Trace> {
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let value = value.trim_ascii().trim_matches('"');
    let only = |trace_id| Trace { trace_id, span_id: None };
    match spelling {
        Spelling::Datadog => match decimal(value) {
            Some(bytes) => TraceId::from_bytes(&bytes).map(only),
            None => TraceId::parse_any(value).map(only),
        },
        Spelling::Google => TraceId::from_hex(value.rsplit('/').next()?).map(only),
        Spelling::CloudContext => {
            let (trace, rest) = value.split_once('/').unwrap_or((value, ""));
            let span = rest.split(';').next().and_then(decimal);
            Some(Trace {
                trace_id: TraceId::from_hex(trace)?,
                span_id: span.and_then(|bytes| SpanId::from_bytes(&bytes)),
            })
        }
        Spelling::Any => {
            if value.len() < 16 && decimal(value).is_some() {
                return None;
            }
            Some(Trace {
                trace_id: TraceId::parse_any(value)?,
                span_id: span_of_header(value),
            })
        }
    }
}

fn span_value(spelling: Spelling, value: &str) -> Option<SpanId> {
    let value = value.trim_ascii();
    match decimal(value) {
        Some(bytes) if spelling == Spelling::Datadog => SpanId::from_bytes(&bytes),
        _ => SpanId::from_hex(value),
    }
}

/// The trace among named values: a name that is the whole path beats the end of one, else the first wins.
#[derive(Debug, Default)]
pub struct Fields {
    trace: Option<(Trace, bool)>,
    span: Option<(SpanId, bool)>,
    in_message: Option<Trace>,
}

impl Fields {
    /// Looks at one named value.
    pub fn visit(&mut self, name: &str, value: &str) {
        if super::is_message(name) {
            self.in_message = self.in_message.or_else(|| in_text(value));
            return;
        }
        if !may_be_known(name.as_bytes()) {
            return;
        }
        if let Some((spelling, whole)) = at_end_of_path(name, trace_name) {
            if self.trace.is_none_or(|(_, had_whole)| whole && !had_whole)
                && let Some(trace) = trace_value(spelling, value)
            {
                self.trace = Some((trace, whole));
            }
        } else if let Some((spelling, whole)) = at_end_of_path(name, span_name)
            && self.span.is_none_or(|(_, had_whole)| whole && !had_whole)
            && let Some(span) = span_value(spelling, value)
        {
            self.span = Some((span, whole));
        }
    }

    /// Whether the best is what the text of a message says.
    pub fn is_in_message(&self) -> bool {
        self.trace.is_none() && self.in_message.is_some()
    }

    /// The trace found, with its span; a span alone is nothing.
    pub fn best(self) -> Option<Trace> {
        let Some((mut trace, _)) = self.trace else {
            return self.in_message;
        };
        // a span of its own name is the record's; one in a header is its caller's
        trace.span_id = self.span.map(|(span, _)| span).or(trace.span_id);
        Some(trace)
    }
}

/// Bytes of an X-Ray trace ID, `1-8hex-24hex`.
const XRAY_BYTES: usize = 35;

/// The X-Ray trace ID that begins at byte `start`, if one stands there on its own.
pub fn xray_at(text: &str, start: usize) -> Option<TraceId> {
    let bytes = text.as_bytes();
    let end = start.checked_add(XRAY_BYTES)?;
    if bytes.get(start + 10) != Some(&b'-') {
        return None;
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if start > 0 && is_word(&bytes[start - 1]) || bytes.get(end).is_some_and(is_word) {
        return None;
    }
    TraceId::from_xray(text.get(start..end)?)
}

/// The trace that a text names first.
pub fn in_text(text: &str) -> Option<Trace> {
    let by_trace = ENDS_OF_TRACE.iter().filter_map(|end| first_named(text, end));
    // most lines are too short for a `b3` with its value
    let is_room = text.len() >= MIN_B3_BYTES;
    let by_b3 = B3.iter().filter(|_| is_room).filter_map(|name| first_b3(text, name));
    let named = by_trace.chain(by_b3).min_by_key(|(start, _)| *start);
    let before = named.map_or(text.len(), |(start, _)| start);
    first_xray(text, before).or(named.map(|(_, trace)| trace))
}

/// The trace that a text names in X-Ray's form, which needs no name before it.
pub fn xray_in_text(text: &str) -> Option<Trace> {
    first_xray(text, text.len())
}

/// Names write it `trace`, `Trace` or `TRACE`: two ends serve.
static ENDS_OF_TRACE: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new("race"), Finder::new("RACE")]);
/// As headers are written, and as Go prints them.
static B3: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new("b3"), Finder::new("B3")]);
/// `b3=`, 16 digits of a trace, `-`, 16 of a span.
const MIN_B3_BYTES: usize = 3 + 16 + 1 + 16;
static BEGIN_OF_XRAY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("1-"));

/// The first name that is followed by a trace ID, and where it begins.
fn first_named(text: &str, end_of_trace: &Finder<'_>) -> Option<(usize, Trace)> {
    end_of_trace.find_iter(text.as_bytes()).find_map(|at| {
        let is_trace = at > 0 && matches!(text.as_bytes()[at - 1], b't' | b'T');
        let trace = is_trace.then(|| after_name(text, at - 1, at + 4)).flatten()?;
        Some((at, trace))
    })
}

/// The first `b3` that is followed by a trace and a span, and where it begins. Hex digits have those two characters often: what is no name of
/// its own with a sign after it is passed over at once.
fn first_b3(text: &str, name: &Finder<'_>) -> Option<(usize, Trace)> {
    let bytes = text.as_bytes();
    name.find_iter(bytes).find_map(|at| {
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let ends = matches!(bytes.get(at + 2), Some(b':' | b'=' | b'"' | b'\'' | b'\\' | b' '));
        let trace = (begins && ends).then(|| after_name(text, at, at + 2)).flatten()?;
        trace.span_id.is_some().then_some((at, trace))
    })
}

/// The first X-Ray trace ID that begins before byte `before`.
fn first_xray(text: &str, before: usize) -> Option<Trace> {
    let mut own_segment = None;
    for at in BEGIN_OF_XRAY.find_iter(text.as_bytes()).take_while(|at| *at < before) {
        let Some(trace_id) = xray_at(text, at) else {
            continue;
        };
        let trace = Trace {
            trace_id,
            span_id: span_near(text, at),
        };
        // in `Self=…;Root=…` the load balancer's own segment comes first
        if !text[..at].ends_with("Self=") {
            return Some(trace);
        }
        own_segment.get_or_insert(trace);
    }
    own_segment
}

/// The span that belongs to the X-Ray trace ID at byte `start`: in the header around it, after `@`, or as `SegmentId: …`.
fn span_near(text: &str, start: usize) -> Option<SpanId> {
    let end = start + XRAY_BYTES;
    let hex_at = |at: usize| SpanId::from_hex(text.get(at..at + 16)?);
    let rest = &text[end..];
    if rest.starts_with('@') {
        return hex_at(end + 1);
    }
    if let Some(skipped) = rest.get(..rest.len().min(32)).and_then(|near| near.find("SegmentId: ")) {
        return hex_at(end + skipped + "SegmentId: ".len());
    }
    let is_delimiter = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',');
    let header_start = text[..start].rfind(is_delimiter).map_or(0, |i| i + 1);
    let header_end = rest.find(is_delimiter).map_or(text.len(), |i| end + i);
    // a delimiter of several bytes leaves the start inside it
    let header = text.get(header_start..header_end)?;
    if header.len() <= MAX_VALUE_BYTES { span_of_header(header) } else { None }
}

/// The value after a name of which a word, `trace` or `b3`, stands at these bytes.
fn after_name(text: &str, start_of_word: usize, end_of_word: usize) -> Option<Trace> {
    let bytes = text.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut end = end_of_word;
    // "trace id" in two words
    let spaced = bytes.get(end) == Some(&b' ') && bytes.get(end + 1..end + 3).is_some_and(|word| word.eq_ignore_ascii_case(b"id"));
    end += if spaced { 3 } else { 0 };
    while end < bytes.len() && is_name(bytes[end]) && end - end_of_word < 16 {
        end += 1;
    }
    let mut start = start_of_word;
    while start > 0 && is_name(bytes[start - 1]) && end - start < MAX_NAME_BYTES {
        start -= 1;
    }
    let (spelling, _) = at_end_of_path(text.get(start..end)?, trace_name)?;

    // closing quote or bracket, separator, opening quote or bracket
    let mut value_start = end;
    let mut separated = false;
    while let Some(byte) = bytes.get(value_start).filter(|_| value_start - end < 8) {
        match byte {
            b'=' | b':' | b'>' => separated = true,
            b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'[' | b'(' | b'{' | b']' => {}
            _ => break,
        }
        value_start += 1;
    }
    let rest = &text[value_start..];
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ',' | ')' | ']' | '}' | '|' | '&' | '<' | '>');
    let value = rest[..rest.find(ends).unwrap_or(rest.len())].trim_end_matches(['.', ';', ':']);
    let mut trace = if separated {
        trace_value(spelling, value)?
    } else {
        // prose: "trace id 4bf9…" is one, "traceparent 1234567890123456" is not
        Trace {
            trace_id: TraceId::from_hex(value)?,
            span_id: None,
        }
    };
    if trace.span_id.is_none() {
        trace.span_id = match TraceId::from_xray(value) {
            Some(_) => span_near(text, value_start),
            None => span_after(&rest[value.len()..]),
        };
    }
    Some(trace)
}

/// A `span_id=…` that follows closely.
fn span_after(rest: &str) -> Option<SpanId> {
    let mut end = rest.len().min(96);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    let near = &rest[..end];
    let mut words = near
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .filter(|word| !word.is_empty());
    let spelling = words.by_ref().take(3).find_map(|word| at_end_of_path(word, span_name))?.0;
    span_value(spelling, words.next()?)
}
