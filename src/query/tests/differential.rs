//! Random records, random queries, three ways: the same rows each time. `TRACELAKE_SEED=n` takes others.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as ProptestConfig, RngSeed, TestRunner};

use super::*;

/// Words in which queries and records meet often, and that separators, case and scripts make hard.
pub(super) const WORDS: [&str; 22] = [
    "eror",
    "errors",
    "10.0.0.13:80",
    "ip:2001:DB8::1",
    "1.10.0.0.1",
    "-bd86-2e3f",
    "error",
    "Error",
    "reset",
    "10.0.0.1",
    "a-b",
    "a_b",
    "é",
    "É",
    "日本",
    "5759e988-bd86-2e3f-e1be-46a994272793",
    "K",
    "\u{212a}",
    "x",
    "42",
    "4.2",
    "{",
];
/// An array that the index knows by its beginning only.
const LONG: &str = r#"["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","x"]"#;
const KEYS: [&str; 5] = ["k", "n", "host", "service.name", "a.b"];
pub(super) const VALUES: [&str; 21] = [
    r#"["x","42"]"#,
    r#"{"b":"x","a":{"b":42}}"#,
    r#"[{"b":"x"}]"#,
    "[x]",
    "10.0.0.7",
    "a, 10.0.0.200:80",
    "2001:db8::2",
    LONG,
    "x",
    "X",
    "42",
    "42.0",
    "-1",
    "-0",
    "",
    "a b",
    "*",
    "NaN",
    "Infinity",
    "true",
    "日本",
];

#[derive(Clone, Debug)]
pub(super) struct Record {
    words: Vec<&'static str>,
    json: bool,
    attributes: Vec<(&'static str, &'static str)>,
    resource: Vec<(&'static str, &'static str)>,
    severity: i32,
    trace: Option<u8>,
    seconds: i64,
}

pub(super) fn record() -> impl Strategy<Value = Record> {
    let pairs = || proptest::collection::vec((proptest::sample::select(&KEYS[..]), proptest::sample::select(&VALUES[..])), 0..3);
    (
        proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..5),
        any::<bool>(),
        pairs(),
        pairs(),
        0..26i32,
        proptest::option::of(1..3u8),
        0..20i64,
    )
        .prop_map(|(words, json, attributes, resource, severity, trace, seconds)| Record {
            words,
            json,
            attributes,
            resource,
            severity,
            trace,
            seconds,
        })
}

pub(super) fn rows(records: &[Record]) -> Rows {
    let mut builder = LogsBuilder::default();
    for (number, record) in records.iter().enumerate() {
        let mut context = ContextBuilder::new();
        for (key, value) in &record.resource {
            context.attribute(key, Value::Str(value));
        }
        let context = builder.context(context.build());
        builder.attribute("test.id", Value::Int(number as i64));
        for (key, value) in &record.attributes {
            builder.attribute(key, Value::Str(value));
        }
        let text = record.words.join(" ");
        let body = match record.json {
            true => serde_json::json!({"msg": text, "k": record.words, "n": record.seconds, "a": {"b": record.words.first()}}).to_string(),
            false => text,
        };
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + record.seconds * SECOND,
                body: (!record.words.is_empty()).then_some(body.as_str()),
                severity_number: record.severity,
                trace_id: record.trace.and_then(|trace| TraceId::from_bytes(&[trace; 16])),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

pub(super) const NAMES: [&str; 5] = ["GET /cart", "pay", "Pay it", "charge-card", "x"];
const SPAN_VALUES: [(&str, Value<'static>); 11] = [
    ("http.route", Value::Str("/cart/{id}")),
    ("http.route", Value::Str("x")),
    ("http.route", Value::Int(7)),
    ("http.response.status_code", Value::Int(200)),
    ("http.response.status_code", Value::Int(503)),
    ("http.response.status_code", Value::Str("x")),
    ("http.method", Value::Str("GET")),
    ("k", Value::Double(4.2)),
    ("k", Value::Str("x")),
    ("n", Value::Int(42)),
    ("n", Value::Json(r#"["x","42"]"#)),
];

#[derive(Clone, Debug)]
pub(super) struct Span {
    name: &'static str,
    message: Option<Vec<&'static str>>,
    attributes: Vec<usize>,
    service: Option<&'static str>,
    seconds: i64,
    duration: Option<i64>,
    parent: bool,
    kind: &'static str,
}

pub(super) fn span() -> impl Strategy<Value = Span> {
    let message = proptest::option::of(proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..4));
    (
        proptest::sample::select(&NAMES[..]),
        message,
        proptest::collection::vec(0..SPAN_VALUES.len(), 0..4),
        proptest::option::of(proptest::sample::select(&VALUES[..])),
        0..20i64,
        proptest::option::of(0..4i64),
        any::<bool>(),
        proptest::sample::select(&crate::model::SPAN_KINDS[..]),
    )
        .prop_map(|(name, message, attributes, service, seconds, duration, parent, kind)| Span {
            name,
            message,
            attributes,
            service,
            seconds,
            duration,
            parent,
            kind,
        })
}

pub(super) fn span_rows(spans: &[Span]) -> Rows {
    let mut builder = SpansBuilder::default();
    for (number, span) in spans.iter().enumerate() {
        let mut context = ContextBuilder::new();
        if let Some(service) = span.service {
            context.attribute("service.name", Value::Str(service));
        }
        let context = builder.context(context.build());
        for value in &span.attributes {
            let (key, value) = SPAN_VALUES[*value];
            builder.attribute(key, value);
        }
        let start = T0 + span.seconds * SECOND;
        let message = span.message.as_ref().map(|words| words.join(" "));
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: start,
                end_time_unix_nano: span.duration.map(|seconds| start + seconds * SECOND),
                trace_id: TraceId::from_bytes(&[1 + (number % 3) as u8; 16]).expect("an ID"),
                span_id: SpanId::from_bytes(&[1 + number as u8; 8]).expect("an ID"),
                parent_span_id: span.parent.then(|| SpanId::from_bytes(&[9; 8]).expect("an ID")),
                trace_state: None,
                trace_flags: None,
                name: span.name,
                kind: span.kind,
                status_code: if number % 4 == 0 { "ERROR" } else { "UNSET" },
                status_message: message.as_deref(),
                in_progress: span.duration.is_none(),
                dropped_attributes_count: 0,
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

pub(super) fn query() -> impl Strategy<Value = Query> {
    query_of(&["msg", "k.b", "k.a.b", "a.b.b", "host.b"])
}

/// Fields of spans beside their attributes.
const OF_SPANS: [&str; 9] = [
    "name",
    "kind",
    "status",
    "status_message",
    "http.route",
    "http_route",
    "http.response.status_code",
    "duration",
    "duration_nano",
];

fn query_of(more_keys: &'static [&'static str]) -> impl Strategy<Value = Query> {
    let word = || proptest::sample::select(&WORDS[..21]);
    let value = || prop_oneof![proptest::sample::select(&VALUES[..]), word()];
    let key = || prop_oneof![proptest::sample::select(&KEYS[..]), proptest::sample::select(more_keys)];
    // beginnings, ends and middles of words and values, and holes in them
    let wildcards = || {
        (value(), 0..4usize, 0..4usize, 0..5usize).prop_map(|(text, from, to, how)| {
            let letters: Vec<char> = text.chars().take(30).filter(|c| !matches!(c, '*' | '?' | '\\')).collect();
            let (from, to) = (from.min(letters.len() / 2), to.min(letters.len() / 2));
            let piece: String = letters[from..letters.len() - to].iter().collect();
            let half = piece.char_indices().nth(piece.chars().count() / 2).map_or(0, |(at, _)| at);
            let (first, second) = piece.split_at(half);
            Wildcards::new(match how {
                0 => format!("{piece}*"),
                1 => format!("*{piece}"),
                2 => format!("*{piece}*"),
                3 => format!("{first}*{second}"),
                _ => format!("{first}?{}*", second.chars().skip(1).collect::<String>()),
            })
        })
    };
    // with what an index can use and with what it cannot
    let regex = || {
        (value(), 0..4usize, 0..4usize, 0..8usize).prop_map(|(text, from, to, how)| {
            let letters: Vec<char> = text.chars().take(30).collect();
            let (from, to) = (from.min(letters.len() / 2), to.min(letters.len() / 2));
            let piece = regex::escape(&letters[from..letters.len() - to].iter().collect::<String>());
            match how {
                0 => format!("^{piece}"),
                1 => format!("{piece}$"),
                2 => format!("(?i){piece}"),
                3 => format!("{piece}|reset"),
                4 => format!("({piece} )?er+or"),
                5 => format!(r"{piece}\W+\w"),
                6 => format!("[^ ]{piece}"),
                _ => piece,
            }
        })
    };
    let network = || proptest::sample::select(&["10.0.0.0/8", "10.0.0.0/28", "10.0.0.12/30", "2001:db8::/32", "0.0.0.0/1", "::/0"][..]);
    let near = || (proptest::collection::vec(word(), 1..4), 0..4u32).prop_map(|(words, between)| (words.join(" "), between));
    let piece = || {
        (word(), word(), 0..3usize, 0..3usize).prop_map(|(a, b, from, to)| {
            let both: Vec<char> = format!("{a} {b}").chars().collect();
            both[from.min(both.len() / 3)..both.len() - to.min(both.len() / 3)].iter().collect::<String>()
        })
    };
    let field = |name: &'static str, test: Test| Query::Field { name: name.into(), test };
    let bound = || {
        prop_oneof![
            Just(Bound::Open),
            proptest::sample::select(&["-1", "4.2", "10", "42"][..]).prop_map(|n| Bound::Included(n.into())),
            proptest::sample::select(&["-1", "4.2", "10", "42"][..]).prop_map(|n| Bound::Excluded(n.into())),
        ]
    };
    let leaf = prop_oneof![
        Just(Query::All),
        proptest::collection::vec(word(), 1..3).prop_map(|words| Query::phrase(words.join(" "))),
        word().prop_map(|word| Query::Text(Text::Pattern(Wildcards::new(format!("{}*", word.chars().take(2).collect::<String>()))))),
        (key(), value()).prop_map(move |(key, value)| field(key, Test::Equals(value.into()))),
        key().prop_map(move |key| field(key, Test::Exists)),
        near().prop_map(|(text, between)| Query::Text(Text::Near { text, between })),
        near().prop_map(move |(text, between)| field("body", Test::Near { text, between })),
        (word(), 1..3u32).prop_map(|(word, mistakes)| Query::Text(Text::Alike { word: word.into(), mistakes })),
        (key(), value(), 1..3u32).prop_map(move |(key, value, mistakes)| field(key, Test::Alike { value: value.into(), mistakes })),
        network().prop_map(|network| Query::Text(Text::Network(network.into()))),
        (key(), network()).prop_map(move |(key, network)| field(key, Test::Network(network.into()))),
        key().prop_map(move |key| field(
            key,
            Test::Range {
                from: Bound::Included("10.0.0.7".into()),
                to: Bound::Open
            }
        )),
        piece().prop_map(move |text| field("body", Test::Exact(text))),
        Just(field("body", Test::Regex("(?i)err?or|\\.0".into()))),
        key().prop_map(move |key| field(key, Test::Matches(Wildcards::new("*2*")))),
        wildcards().prop_map(|pattern| Query::Text(Text::Pattern(pattern))),
        wildcards().prop_map(move |pattern| field("body", Test::Matches(pattern))),
        (key(), wildcards()).prop_map(move |(key, pattern)| field(key, Test::Matches(pattern))),
        regex().prop_map(move |regex| field("body", Test::Regex(regex))),
        (key(), regex()).prop_map(move |(key, regex)| field(key, Test::Regex(regex))),
        key().prop_map(move |key| field(key, Test::Regex("^[xX4]".into()))),
        (key(), bound(), bound()).prop_map(move |(key, from, to)| field(key, Test::Range { from, to })),
        (1..24i32).prop_map(move |n| field(
            "severity",
            Test::Range {
                from: Bound::Included(n.to_string()),
                to: Bound::Open
            }
        )),
        Just(field("severity", Test::Equals("ERROR".into()))),
        (1..3u8).prop_map(|trace| Query::phrase(TraceId::from_bytes(&[trace; 16]).expect("an ID").to_xray())),
        Just(field("body", Test::Exists)),
        (0..20i64).prop_map(move |n| field(
            "time",
            Test::Range {
                from: Bound::Excluded((T0 + n * SECOND).to_string()),
                to: Bound::Open
            }
        )),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Query::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Query::Or),
            inner.prop_map(|query| !query),
        ]
    })
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig {
        rng_seed: RngSeed::Fixed(std::env::var("TRACELAKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)),
        ..ProptestConfig::default()
    })
}

/// Asks the head, blocks that are here and not, and a block that has no index; gives how many queries found some rows and not all.
async fn three_ways(runner: &mut TestRunner, rows: &Rows, more_keys: &'static [&'static str], n_queries: usize) -> usize {
    let table = rows.table();
    let (head, indexed, far, plain) = (Lake::new().await, Lake::new().await, Lake::far().await, Lake::new().await);
    // the head in uneven parts, as requests leave it
    let cut = rows.len() / 3;
    head.head(vec![rows.slice(0, cut), rows.slice(cut, rows.len() - cut)]);
    indexed.block(rows, true).await;
    plain.block(rows, false).await;
    far.block(rows, true).await;
    let mut n_some = 0;
    for _ in 0..n_queries {
        let query = query_of(more_keys).new_tree(runner).expect("a query").current();
        // what `{` alone is asked for has nothing to search
        if fields::compile(&query, table, 0).is_err() {
            continue;
        }
        let expected = head.find_query(table, query.clone()).await;
        n_some += usize::from(!expected.is_empty() && expected.len() < rows.len());
        for (name, lake) in [("with index", &indexed), ("not here", &far), ("without index", &plain)] {
            assert_eq!(lake.find_query(table, query.clone()).await, expected, "{name}: {query}\n{rows:?}");
        }
        let counted = indexed.engine.count(table, &query, TimeRange::ALL).await.expect("a count");
        assert_eq!(counted.count as usize, expected.len(), "count: {query}");
    }
    n_some
}

#[tokio::test]
async fn random_queries_find_the_same_rows_three_ways() {
    let mut runner = runner();
    let mut n_some = 0;
    for _ in 0..8 {
        let records = proptest::collection::vec(record(), 1..60).new_tree(&mut runner).expect("records").current();
        n_some += three_ways(&mut runner, &rows(&records), &["msg", "k.b", "k.a.b", "a.b.b", "host.b"], 90).await;
    }
    assert!(n_some > 200, "{n_some} queries told rows apart");
}

#[tokio::test]
async fn random_queries_find_the_same_spans_three_ways() {
    let mut runner = runner();
    let mut n_some = 0;
    for _ in 0..6 {
        let spans = proptest::collection::vec(span(), 1..60).new_tree(&mut runner).expect("spans").current();
        n_some += three_ways(&mut runner, &span_rows(&spans), &OF_SPANS, 90).await;
    }
    assert!(n_some > 100, "{n_some} queries told rows apart");
}
