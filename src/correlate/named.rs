//! The request ID and the span ID that a record names, where it names one of each.
//!
//! A **request ID** is a UUID. It counts only where it is said to be one:
//!
//! | where | example |
//! |---|---|
//! | Lambda's place in a line of a function, behind the time | `2026-11-22T03:12:41.123Z⇥8f507cfc-…⇥INFO⇥…`, `[INFO]⇥2026-…Z⇥8f507cfc-…⇥…` |
//! | the same with blanks, before a level or `Task timed out` | `2026-11-22 03:12:41 8f507cfc-… INFO …` |
//! | in parentheses at the beginning, as API Gateway's execution logs have it | `(8f507cfc-…) Method request path: {}` |
//! | an attribute of such a name | `aws.request_id`, `faas.invocation_id` |
//! | behind such a name in the text, JSON or not | `START RequestId: 8f507cfc-…`, `"requestId":"8f507cfc-…"`, `request_id=8f507cfc-…` |
//!
//! Names count whatever their case and separators: `request_id`, `aws_request_id`, `function_request_id`, `lambda_request_id`,
//! `x-request-id`, `x-amzn-requestid`, `invocation_id`, `faas.execution`, at the end of a path too. Others that end so
//! (`parentRequestId`) are other requests'. The places are asked in the order of the table. In text, a record that names several is
//! about several and names none, unless it is JSON that has one of them at its root (or, as Lambda's platform, under `record`).
//!
//! A **span ID** is 16 hexadecimal digits behind a name such as `span_id`, `spanId`, `otelSpanID`, in the text or as an attribute.

use std::fmt;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::model::{SpanId, json};

/// A request's ID: a UUID, whatever case it was written in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 16]);

/// Characters of a UUID.
const UUID_BYTES: usize = 36;
/// Where its dashes stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// Longest name that is looked at.
const MAX_NAME_BYTES: usize = 48;
/// Characters between a name and its value, at most: quotes, escapes, a separator.
const MAX_BETWEEN: usize = 8;

impl RequestId {
    /// Reads a UUID in its form of 36 characters; `None` of the one that is all zeros.
    pub fn parse(text: &[u8]) -> Option<RequestId> {
        if text.len() != UUID_BYTES || DASHES.iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let mut bytes = [0; 16];
        let mut digits = text.iter().enumerate().filter(|(at, _)| !DASHES.contains(at));
        for byte in &mut bytes {
            let mut digit = || (*digits.next()?.1 as char).to_digit(16);
            *byte = (digit()? << 4 | digit()?) as u8;
        }
        (bytes != [0; 16]).then_some(RequestId(bytes))
    }

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> RequestId {
        RequestId(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The request it belongs to.
    pub request: Option<RequestId>,
    /// Its span.
    pub span: Option<SpanId>,
}

impl Named {
    /// Whether it names nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Named::default()
    }
}

/// One value, if all that were seen are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum One<T> {
    #[default]
    None,
    Is(T),
    Several,
}

impl<T: PartialEq> One<T> {
    fn add(&mut self, value: T) {
        *self = match std::mem::replace(self, One::Several) {
            One::None => One::Is(value),
            One::Is(known) if known == value => One::Is(known),
            _ => One::Several,
        };
    }
    fn only(self) -> Option<T> {
        match self {
            One::Is(value) => Some(value),
            _ => None,
        }
    }
}

/// A name's letters and digits in lower case.
fn normal(name: &[u8]) -> Option<([u8; MAX_NAME_BYTES], usize)> {
    let (mut out, mut length) = ([0; MAX_NAME_BYTES], 0);
    for byte in name.iter().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' ')) {
        *out.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    Some((out, length))
}

/// Whether a whole name is one of a request ID.
fn is_request_name(name: &[u8]) -> bool {
    normal(name).is_some_and(|(bytes, length)| {
        matches!(
            &bytes[..length],
            b"requestid"
                | b"awsrequestid"
                | b"functionrequestid"
                | b"lambdarequestid"
                | b"awslambdarequestid"
                | b"xrequestid"
                | b"xamznrequestid"
                | b"amznrequestid"
                | b"invocationid"
                | b"faasinvocationid"
                | b"faasexecution"
        )
    })
}

fn is_span_name(name: &[u8]) -> bool {
    normal(name).is_some_and(|(bytes, length)| matches!(&bytes[..length], b"spanid" | b"otelspanid" | b"xb3spanid"))
}

/// The same of a name or the last part of a path.
fn is_named(name: &[u8], is_known: fn(&[u8]) -> bool) -> bool {
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
    is_known(name) || (last.len() < name.len() && is_known(last))
}

/// Whether an attribute's name is one of a request ID.
pub fn is_request_attribute(name: &str) -> bool {
    // most end otherwise
    matches!(name.as_bytes().last(), Some(b'd' | b'D' | b'n')) && is_named(name.as_bytes(), is_request_name)
}

/// What a record names, in its attributes and its body.
pub fn named<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>, body: Option<&str>) -> Named {
    let (mut request, mut span) = (One::None, One::None);
    for (name, value) in attributes {
        if !matches!(name.as_bytes().last(), Some(b'd' | b'D' | b'n')) {
            continue;
        }
        if is_request_attribute(name) {
            RequestId::parse(value.as_bytes()).into_iter().for_each(|id| request.add(id));
        } else if is_named(name.as_bytes(), is_span_name) {
            SpanId::from_hex(value).into_iter().for_each(|id| span.add(id));
        }
    }
    let Some(body) = body else {
        return Named {
            request: request.only(),
            span: span.only(),
        };
    };
    let of_line = place_in_line(body.as_bytes());
    let in_text = in_text(body);
    Named {
        request: of_line.or(request.only()).or(in_text.request),
        span: span.only().or(in_text.span),
    }
}

/// The ends of names, in the cases they come in.
static ENDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let of_requests = ["equest", "EQUEST", "nvocationI", "nvocation_", "aas.execution", "aas_execution"];
    let of_spans = ["panI", "pan_i", "pan-I", "pan.i", "PAN_I"];
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(of_requests.iter().chain(&of_spans))
        .expect("a few short patterns make a small automaton")
});

/// What stands behind names in a text.
fn in_text(text: &str) -> Named {
    let bytes = text.as_bytes();
    let (mut request, mut span) = (One::None, One::None);
    for found in ENDS.find_iter(bytes) {
        let Some((name, value)) = name_and_value(bytes, found.start(), found.end()) else {
            continue;
        };
        if is_named(name, is_request_name) {
            if let Some(id) = whole(bytes, value, UUID_BYTES).and_then(RequestId::parse) {
                request.add(id);
            }
        } else if is_named(name, is_span_name)
            && let Some(digits) = whole(bytes, value, 16)
            && let Some(id) = std::str::from_utf8(digits).ok().and_then(SpanId::from_hex)
        {
            span.add(id);
        }
    }
    Named {
        request: match request {
            One::Several => at_root(text),
            one => one.only(),
        },
        span: span.only(),
    }
}

/// The request that a JSON record is of, where it speaks of several.
fn at_root(text: &str) -> Option<RequestId> {
    if !json::looks_like_object(text) {
        return None;
    }
    let mut found = One::None;
    let is_json = json::for_each_leaf(text, &mut |name, value| {
        let name = name.strip_prefix("record.").unwrap_or(name);
        if !name.contains('.')
            && is_request_name(name.as_bytes())
            && let Some(id) = RequestId::parse(value.as_bytes())
        {
            found.add(id);
        }
    });
    found.only().filter(|_| is_json)
}

/// The name around `start..end`, and where its value begins.
fn name_and_value(bytes: &[u8], start: usize, end: usize) -> Option<(&[u8], usize)> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let (mut first, mut last) = (start, end);
    // "Request ID" in two words
    if bytes.get(last) == Some(&b' ') && bytes.get(last + 1..last + 3).is_some_and(|word| word.eq_ignore_ascii_case(b"id")) {
        last += 3;
    }
    while last < bytes.len() && is_name(bytes[last]) {
        last += 1;
        if last - first > MAX_NAME_BYTES {
            return None;
        }
    }
    while first > 0 && is_name(bytes[first - 1]) {
        first -= 1;
        if last - first > MAX_NAME_BYTES {
            return None;
        }
    }
    let mut value = last;
    let mut is_separated = false;
    while let Some(byte) = bytes.get(value).filter(|_| value - last < MAX_BETWEEN) {
        match byte {
            b':' | b'=' => is_separated = true,
            b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'[' | b'(' | b']' => {}
            _ => break,
        }
        value += 1;
    }
    is_separated.then_some((&bytes[first..last], value))
}

/// The `length` bytes from `at`, if no word goes on behind them.
fn whole(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    let end = at.checked_add(length)?;
    let goes_on = bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    bytes.get(at..end).filter(|_| !goes_on)
}

/// The length of a time of the form `2026-11-22T03:12:41.123Z` or `2026-11-22 03:12:41` that the bytes begin with.
fn time_bytes(bytes: &[u8]) -> Option<usize> {
    const FORM: &[u8; 19] = b"0000-00-00T00:00:00";
    let head = bytes.get(..FORM.len())?;
    let is_time = head.iter().zip(FORM).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b' '),
        _ => byte == form,
    });
    let rest = bytes[FORM.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'Z'));
    is_time.then(|| FORM.len() + rest.take(12).count())
}

/// The request ID at Lambda's or API Gateway's place in a line: see the module's page.
fn place_in_line(bytes: &[u8]) -> Option<RequestId> {
    let mut rest = bytes;
    if rest.first() == Some(&b'(') {
        let behind = rest.get(1 + UUID_BYTES..)?;
        return RequestId::parse(&rest[1..=UUID_BYTES]).filter(|_| behind.starts_with(b") "));
    }
    if rest.first() == Some(&b'[') {
        let end = rest.iter().take(12).position(|byte| *byte == b']')?;
        rest = rest[end + 1..].strip_prefix(b"\t")?;
    } else if !rest.first()?.is_ascii_digit() {
        return None;
    }
    rest = &rest[time_bytes(rest)?..];
    let separator = *rest.first()?;
    let id = RequestId::parse(rest.get(1..=UUID_BYTES)?)?;
    let behind = &rest[1 + UUID_BYTES..];
    let is_place = match separator {
        b'\t' => matches!(behind.first(), None | Some(b'\t' | b' ' | b'\n')),
        b' ' => {
            let words = [&b" INFO"[..], b" WARN", b" ERROR", b" DEBUG", b" TRACE", b" FATAL", b" Task timed out"];
            words.iter().any(|word| behind.starts_with(word))
        }
        _ => false,
    };
    is_place.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f507cfc-6e3e-11e9-a923-1681be663d3e";
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";

    fn of(text: &str) -> Named {
        named(
            std::iter::empty(),
            Some(&text.replace("UUID", ID).replace("OTHER", OTHER).replace("SPANHEX", "53995c3f42cd8ad8")),
        )
    }

    #[test]
    fn request_ids_are_found_where_they_are_named() {
        for text in [
            "START RequestId: UUID Version: $LATEST\n",
            "END RequestId: UUID\n",
            "(UUID) Method request path: {id=OTHER}",
            "REPORT RequestId: UUID\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n",
            "2026-11-22T03:12:41.123Z\tUUID\tINFO\thello",
            "2026-11-22T03:12:41.123Z\tUUID\tERROR\tInvoke Error \t{\"errorType\":\"Error\"}",
            "2026-11-22T03:12:41.123Z\tUUID\tinfo\tof .NET",
            "[INFO]\t2026-11-22T03:12:41.123Z\tUUID\tloading, RequestId: OTHER failed",
            "[CRITICAL]\t2026-11-22T03:12:41.123Z\tUUID\t",
            "2026-11-22T03:12:41.123Z UUID Task timed out after 3.00 seconds\n\n",
            "2026-11-22 03:12:41 UUID INFO  c.e.Handler:23 - hello",
            "RequestId: UUID Error: Runtime exited with error: exit status 1",
            "RequestId: UUID Process exited before completing request",
            "{\"timestamp\":\"2026-11-22T03:12:41Z\",\"level\":\"INFO\",\"requestId\":\"UUID\",\"message\":\"hello\"}",
            "{\"AWSRequestId\":\"UUID\",\"level\":\"INFO\",\"message\":\"of Java\"}",
            "{\"aws_request_id\": \"UUID\"}",
            "{\"function_request_id\":\"UUID\",\"cold_start\":true,\"xray\":1}",
            "{\"lambda\":{\"requestId\":\"UUID\"}}",
            "{\"time\":\"2026-11-22T03:12:41Z\",\"type\":\"platform.start\",\"record\":{\"requestId\":\"UUID\",\"version\":\"$LATEST\"}}",
            "{\"requestId\":\"UUID\",\"error\":{\"requestId\":\"OTHER\"}}",
            "{\"record\":{\"requestId\":\"UUID\"},\"cause\":{\"x\":{\"requestId\":\"OTHER\"}}}",
            "{\"message\":\"{\\\"request_id\\\":\\\"UUID\\\"}\"}",
            "level=info request_id=UUID msg=\"ok\"",
            "x-request-id: UUID",
            "(Service: DynamoDb, Status Code: 400, Request ID: UUID)",
            "failed [RequestID=UUID]",
            "REQUEST_ID='UUID'",
            "faas.invocation_id=UUID",
            "faas.execution: UUID",
            "invocationId: UUID",
            "twice requestId=UUID requestId=UUID",
            // an access log of an HTTP API, whose own request ID is none of ours
            "{\"requestId\":\"JKJaXmPLvHcESHA=\",\"lambda_request_id\":\"UUID\",\"status\":\"200\"}",
        ] {
            assert_eq!(of(text).request.map(|id| id.to_string()).as_deref(), Some(ID), "{text}");
        }
        assert_eq!(
            of(&format!("requestId={}", ID.to_uppercase())).request.map(|id| id.to_string()).as_deref(),
            Some(ID)
        );
    }

    #[test]
    fn what_is_not_named_a_request_id_is_none() {
        for text in [
            "",
            "UUID",
            "order UUID shipped",
            "user UUID INFO x",
            "2026-11-22T03:12:41.123Z\torder\tUUID\tshipped",
            "2026-11-22T03:12:41.123Z\tundefined\tINFO\tcold",
            "2026-11-22 03:12:41 UUID shipped",
            "12 UUID INFO x",
            "[main] 2026-11-22T03:12:41.123Z\tUUID\tx",
            "parentRequestId=UUID",
            "originalRequestId: UUID",
            "requestIds: UUID",
            "request UUID",
            "requestId UUID",
            "requestId: xUUID",
            "requestId: UUID-1",
            "requestId: 8f507cfc6e3e11e9a9231681be663d3e",
            "(UUID)Method request path: {}",
            "(UUID",
            "see (UUID) Method request path: {}",
            "requestId: 00000000-0000-0000-0000-000000000000",
            "requestId: 8f507cfc-6e3e-11e9-a923-1681be663d3",
            "from requestId=UUID to requestId=OTHER",
            "{\"a\":{\"requestId\":\"UUID\"},\"b\":{\"requestId\":\"OTHER\"}}",
            "the request",
            "request.payload.requestId.of.others.and.of.many.more.things.id: UUID",
        ] {
            assert_eq!(of(text).request, None, "{text}");
        }
    }

    #[test]
    fn span_ids_are_found_where_they_are_named() {
        for text in [
            "span_id=SPANHEX",
            "spanId: SPANHEX",
            "{\"span_id\":\"SPANHEX\"}",
            "otelSpanID=\"SPANHEX\"",
            "span.id: SPANHEX",
            "ctx.spanId=SPANHEX",
        ] {
            assert_eq!(of(text).span.map(|id| id.to_string()).as_deref(), Some("53995c3f42cd8ad8"), "{text}");
        }
        for text in [
            "SPANHEX",
            "parent_span_id=SPANHEX",
            "spanId: SPANHEXa",
            "spanId: 0000000000000000",
            "span_id=SPANHEX span_id=1111111111111111",
            "company SPANHEX",
        ] {
            assert_eq!(of(text).span, None, "{text}");
        }
    }

    #[test]
    fn attributes_come_before_the_text_and_after_lambdas_place() {
        let with = |attributes: &[(&str, &str)], text: &str| {
            named(attributes.iter().copied(), Some(&text.replace("UUID", ID)))
                .request
                .map(|id| id.to_string())
        };
        for name in ["aws.request_id", "faas.invocation_id", "requestId", "aws.requestId", "x-amzn-RequestId"] {
            assert_eq!(with(&[(name, ID)], "x").as_deref(), Some(ID), "{name}");
            assert_eq!(with(&[(name, OTHER)], "requestId=UUID").as_deref(), Some(OTHER), "{name}");
        }
        assert_eq!(with(&[("request_id", OTHER)], "[INFO]\t2026-11-22T03:12:41.123Z\tUUID\tx").as_deref(), Some(ID));
        assert_eq!(with(&[("parent.request", ID), ("request", ID), ("request_id", "7")], "x"), None);
        assert_eq!(
            named([("span_id", "53995c3f42cd8ad8")].into_iter(), None)
                .span
                .map(|id| id.to_string())
                .as_deref(),
            Some("53995c3f42cd8ad8")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC{0,9}|request|Request ?I[dD]|REQUEST_ID|span_?[iI]d|[:=\"\\\\ \t]|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16}|2026-11-22T03:12:41|\\[INFO\\]|\\{|\\}){0,10}") {
            let _ = named([("requestId", text.as_str())].into_iter(), Some(&text));
        }
    }
}
