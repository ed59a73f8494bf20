//! Random records, random queries, three ways: the same rows each time. `TRACELAKE_SEED=n` takes others.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as ProptestConfig, RngSeed, TestRunner};

use super::*;

/// Words in which queries and records meet often, and that separators, case and scripts make hard.
const WORDS: [&str; 22] = [
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
const VALUES: [&str; 20] = [
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
    "",
    "a b",
    "*",
    "NaN",
    "Infinity",
    "true",
    "日本",
];

#[derive(Clone, Debug)]
struct Record {
    words: Vec<&'static str>,
    json: bool,
    attributes: Vec<(&'static str, &'static str)>,
    resource: Vec<(&'static str, &'static str)>,
    severity: i32,
    trace: Option<u8>,
    seconds: i64,
}

fn record() -> impl Strategy<Value = Record> {
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

fn rows(records: &[Record]) -> Rows {
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

fn query() -> impl Strategy<Value = Query> {
    let word = || proptest::sample::select(&WORDS[..21]);
    let value = || prop_oneof![proptest::sample::select(&VALUES[..]), word()];
    let key = || {
        prop_oneof![
            proptest::sample::select(&KEYS[..]),
            Just("msg"),
            Just("k.b"),
            Just("k.a.b"),
            Just("a.b.b"),
            Just("host.b")
        ]
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

#[tokio::test]
async fn random_queries_find_the_same_rows_three_ways() {
    let mut runner = TestRunner::new(ProptestConfig {
        rng_seed: RngSeed::Fixed(std::env::var("TRACELAKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)),
        ..ProptestConfig::default()
    });
    for _ in 0..8 {
        let records = proptest::collection::vec(record(), 1..60).new_tree(&mut runner).expect("records").current();
        let rows = rows(&records);
        let (head, indexed, far, plain) = (Lake::new().await, Lake::new().await, Lake::far().await, Lake::new().await);
        // the head in uneven parts, as requests leave it
        let cut = rows.len() / 3;
        head.head(vec![rows.slice(0, cut), rows.slice(cut, rows.len() - cut)]);
        indexed.block(&rows, true).await;
        plain.block(&rows, false).await;
        far.block(&rows, true).await;
        for _ in 0..90 {
            let query = query().new_tree(&mut runner).expect("a query").current();
            // what `{` alone is asked for has nothing to search
            if fields::compile(&query, Table::Logs, 0).is_err() {
                continue;
            }
            let expected = head.find_query(Table::Logs, query.clone()).await;
            assert_eq!(
                indexed.find_query(Table::Logs, query.clone()).await,
                expected,
                "with index: {query}\n{records:#?}"
            );
            assert_eq!(far.find_query(Table::Logs, query.clone()).await, expected, "not here: {query}\n{records:#?}");
            assert_eq!(
                plain.find_query(Table::Logs, query.clone()).await,
                expected,
                "without index: {query}\n{records:#?}"
            );
            let counted = indexed.engine.count(Table::Logs, &query, TimeRange::ALL).await.expect("a count");
            assert_eq!(counted.count as usize, expected.len(), "count: {query}");
        }
    }
}
