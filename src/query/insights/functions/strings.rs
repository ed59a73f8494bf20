//! Functions of texts. Places are counted in characters, from 0.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Arguments, Function, MAX_TEXT_BYTES, Takes, function, made, test};
use crate::query::insights::value::Value;

/// Characters that a URL's parts hold as they are.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) const FUNCTIONS: &[Function] = &[
    function("isempty", 1, 1, |arguments| {
        test(arguments.value(0).is_null() || arguments.text(0).is_some_and(|text| text.is_empty()))
    }),
    function("isblank", 1, 1, |arguments| {
        test(arguments.value(0).is_null() || arguments.text(0).is_some_and(|text| text.trim().is_empty()))
    }),
    function("concat", 1, usize::MAX, concat),
    function("ltrim", 1, 2, |arguments| trimmed(arguments, true, false)),
    function("rtrim", 1, 2, |arguments| trimmed(arguments, false, true)),
    function("trim", 1, 2, |arguments| trimmed(arguments, true, true)),
    function("strlen", 1, 1, |arguments| match arguments.text(0) {
        Some(text) => Value::Whole(text.chars().count() as i64),
        None => Value::Null,
    }),
    function("toupper", 1, 1, |arguments| made(arguments.text(0).map(|text| text.to_uppercase()))),
    function("tolower", 1, 1, |arguments| made(arguments.text(0).map(|text| text.to_lowercase()))),
    function("upper", 1, 1, |arguments| made(arguments.text(0).map(|text| text.to_uppercase()))),
    function("lower", 1, 1, |arguments| made(arguments.text(0).map(|text| text.to_lowercase()))),
    function("substr", 2, 3, substr),
    function("replace", 3, 3, replace),
    Function {
        name: "regexreplace",
        arguments: (3, 3),
        takes: Takes::Regex(1),
        call: regex_replace,
    },
    function("strcontains", 2, 3, |arguments| match (arguments.text(0), arguments.text(1)) {
        (Some(text), Some(sought)) => test(match arguments.value(2).holds() {
            true => text.to_lowercase().contains(&sought.to_lowercase()),
            false => text.contains(&*sought),
        }),
        _ => test(false),
    }),
    function("startswith", 2, 2, |arguments| match (arguments.text(0), arguments.text(1)) {
        (Some(text), Some(prefix)) => test(text.starts_with(&*prefix)),
        _ => test(false),
    }),
    function("endswith", 2, 2, |arguments| match (arguments.text(0), arguments.text(1)) {
        (Some(text), Some(suffix)) => test(text.ends_with(&*suffix)),
        _ => test(false),
    }),
    function("split", 2, 2, split),
    function("urlencode", 1, 1, |arguments| {
        made(arguments.text(0).map(|text| utf8_percent_encode(&text, URL).to_string()))
    }),
    function("urldecode", 1, 1, |arguments| {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(|text| text.into_owned());
        made(arguments.text(0).and_then(|text| decoded(&text)))
    }),
    function("base64encode", 1, 1, |arguments| {
        made(arguments.text(0).map(|text| STANDARD.encode(text.as_bytes())))
    }),
    function("base64decode", 1, 1, |arguments| {
        made(
            arguments
                .text(0)
                .and_then(|text| String::from_utf8(STANDARD.decode(text.as_bytes()).ok()?).ok()),
        )
    }),
    function("hextoascii", 1, 1, |arguments| made(arguments.text(0).and_then(|text| hex_to_text(&text)))),
    function("hextodec", 1, 1, |arguments| {
        let digits = arguments.text(0).map(|text| text.trim_start_matches("0x").trim_start_matches("0X").to_string());
        match digits.and_then(|digits| i64::from_str_radix(&digits, 16).ok()) {
            Some(number) if number >= 0 => Value::Whole(number),
            _ => Value::Null,
        }
    }),
    function("dectohex", 1, 1, |arguments| match arguments.value(0).whole() {
        Some(number) if number >= 0 => Value::text(format!("{number:x}")),
        _ => Value::Null,
    }),
    function("md5", 1, 1, |arguments| {
        use md5::Digest as _;
        made(arguments.text(0).map(|text| hex(&md5::Md5::digest(text.as_bytes()))))
    }),
    function("sha256", 1, 1, |arguments| {
        made(
            arguments
                .text(0)
                .map(|text| hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())),
        )
    }),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_to_text(text: &str) -> Option<String> {
    let digits = text.trim_start_matches("0x").as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

/// What is missing adds nothing.
fn concat(arguments: &Arguments<'_>) -> Value {
    let mut out = String::new();
    for place in 0..arguments.values.len() {
        if let Some(text) = arguments.text(place) {
            if out.len() + text.len() > MAX_TEXT_BYTES {
                return Value::Null;
            }
            out.push_str(&text);
        }
    }
    Value::text(out)
}

fn trimmed(arguments: &Arguments<'_>, left: bool, right: bool) -> Value {
    let Some(text) = arguments.text(0) else { return Value::Null };
    let signs = arguments.text(1);
    if arguments.values.len() > 1 && signs.is_none() {
        return Value::Null;
    }
    let is_trimmed = |c: char| match &signs {
        Some(signs) => signs.contains(c),
        None => c.is_whitespace(),
    };
    let mut rest: &str = &text;
    if left {
        rest = rest.trim_start_matches(is_trimmed);
    }
    if right {
        rest = rest.trim_end_matches(is_trimmed);
    }
    Value::text(rest)
}

fn substr(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(start)) = (arguments.text(0), arguments.whole(1)) else {
        return Value::Null;
    };
    let length = match arguments.values.len() {
        3 => match arguments.whole(2) {
            Some(length) => usize::try_from(length).unwrap_or_default(),
            None => return Value::Null,
        },
        _ => usize::MAX,
    };
    let start = usize::try_from(start).unwrap_or_default();
    Value::text(text.chars().skip(start).take(length).collect::<String>())
}

fn replace(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(sought), Some(by)) = (arguments.text(0), arguments.text(1), arguments.text(2)) else {
        return Value::Null;
    };
    if sought.is_empty() {
        return Value::text(&*text);
    }
    let n = text.matches(&*sought).count();
    match text.len().saturating_add(n.saturating_mul(by.len())) > MAX_TEXT_BYTES {
        true => Value::Null,
        false => Value::text(text.replace(&*sought, &by)),
    }
}

fn regex_replace(arguments: &Arguments<'_>) -> Value {
    // the regular expression is no value, so the text to put in is the second one
    let (Some(text), Some(regex), Some(by)) = (arguments.text(0), arguments.regex, arguments.text(1)) else {
        return Value::Null;
    };
    let mut out = String::new();
    let mut at = 0;
    for found in regex.captures_iter(&text) {
        let Some(whole) = found.get(0) else { break };
        out.push_str(&text[at..whole.start()]);
        found.expand(&by, &mut out);
        at = whole.end();
        if out.len() > MAX_TEXT_BYTES {
            return Value::Null;
        }
    }
    out.push_str(&text[at..]);
    made(Some(out))
}

fn split(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(separator)) = (arguments.text(0), arguments.text(1)) else {
        return Value::Null;
    };
    match separator.is_empty() {
        true => Value::list(vec![Value::text(&*text)]),
        false => Value::list(text.split(&*separator).map(Value::text).collect()),
    }
}
