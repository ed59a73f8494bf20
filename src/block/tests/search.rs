//! Search against brute force, over random rows and queries.

use proptest::prelude::*;

use super::*;

fn brute(query: &IndexQuery, rows: &RowText<'_>, row: usize, ordinal: u32) -> bool {
    let mut scratch = String::new();
    let tokens = tokenizer::tokens(rows.text(row, &mut scratch));
    let mut pairs = Vec::new();
    rows.for_each_pair(row, &mut |key, value| pairs.push((key.to_string(), value.to_string())));
    let mut fields = Vec::new();
    rows.for_each_field(row, &mut |field, value| fields.push((field, value.to_string())));
    let any_value = |key: &str, test: &dyn Fn(&str) -> bool| pairs.iter().any(|(k, v)| k == key && test(v));
    match query {
        IndexQuery::All => true,
        IndexQuery::None => false,
        IndexQuery::Token(token) => tokens.contains(token),
        IndexQuery::Phrase(phrase) => phrase.is_empty() || tokens.windows(phrase.len()).any(|window| window == phrase),
        IndexQuery::TokenPattern(pattern) => {
            let pattern = Pattern::new(&tokenizer::lowercase(pattern));
            tokens.iter().any(|token| pattern.matches(token))
        }
        IndexQuery::Near { tokens: wanted, between } => {
            // every beginning, and the nearest next token from each
            wanted.is_empty()
                || (0..tokens.len()).filter(|at| tokens[*at] == wanted[0]).any(|begin| {
                    let mut last = Some(begin);
                    for token in &wanted[1..] {
                        last = last.and_then(|last| (last + 1..tokens.len()).find(|at| tokens[*at] == *token));
                    }
                    last.is_some_and(|last| last - begin < *between as usize + wanted.len())
                })
        }
        IndexQuery::TokenMatching(test) => tokens.iter().any(|token| test(token)),
        IndexQuery::TokenWith { piece, test } => tokens.iter().any(|token| token.contains(piece.as_str()) && test(token)),
        IndexQuery::TermMatching { field, test } => fields.iter().any(|(f, v)| f == field && test(v)),
        IndexQuery::KeyInside { key, test } => any_value(key, &|v| v.starts_with(['[', '{']) && test(v)),
        IndexQuery::Term { field, value } => fields.iter().any(|(f, v)| f == field && v == value),
        IndexQuery::TermPattern { field, pattern } => fields.iter().any(|(f, v)| f == field && Pattern::new(pattern).matches(v)),
        IndexQuery::KeyValue { key, value } => any_value(key, &|v| v == value),
        IndexQuery::KeyOneOf { key, values } => any_value(key, &|v| values.iter().any(|value| value == v)),
        IndexQuery::KeyPattern { key, pattern } => any_value(key, &|v| Pattern::new(pattern).matches(v)),
        IndexQuery::KeyExists(key) => any_value(key, &|_| true),
        IndexQuery::KeyMatching { key, test } => any_value(key, &|v| test(v)),
        IndexQuery::Contexts(numbers) => numbers.contains(&ordinal),
        IndexQuery::Ranges(ranges) => ranges.iter().any(|range| range.contains(&(row as u32))),
        IndexQuery::And(all) => all.iter().all(|query| brute(query, rows, row, ordinal)),
        IndexQuery::Or(any) => any.iter().any(|query| brute(query, rows, row, ordinal)),
        IndexQuery::Not(query) => !brute(query, rows, row, ordinal),
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_string()),
        Just("B".into()),
        Just("abc".into()),
        Just("ab".into()),
        Just("Éa".into()),
        Just("漢字".into()),
        Just("x_y".into()),
        Just("123e4567-e89b-12d3-a456-426614174000".into()),
        Just("x".repeat(140)),
        "[ab]{1,3}",
        "\\PC{0,4}",
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("k".to_string()),
        Just("k.l".into()),
        Just(String::new()),
        Just("k\0l".into()),
        Just("k".repeat(130)),
        Just(format!("{}z", "k".repeat(125))),
        Just("k\u{1d}".into()),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        word(),
        Just("1".to_string()),
        Just("17".into()),
        Just("y".repeat(250)),
        Just("y".repeat(252)),
        Just("y".repeat(255)),
        Just(format!("{}b", "y".repeat(300))),
        Just("é".repeat(128)),
        Just("a\u{1d}\0b".into()),
        Just("[1,2]".into()),
        Just("{\"a\":1}".into()),
        Just(format!("[\"{}\"]", "y".repeat(300))),
    ]
}

pub(in super::super) fn log() -> impl Strategy<Value = Log> {
    let body = prop_oneof![
        1 => Just(None),
        4 => proptest::collection::vec(word(), 0..5).prop_map(|words| Some(words.join(" "))),
        1 => (key(), value()).prop_map(|(key, value)| Some(serde_json::json!({ key: {"in": [value, 3]} }).to_string())),
    ];
    let event = prop_oneof![Just(None), Just(Some("tick")), Just(Some("tock"))];
    let attributes = proptest::collection::vec((key(), value()), 0..4);
    (0..5 * SECOND, body, proptest::option::of(0..4u8), 0..25i32, event, attributes, 0..20u8).prop_map(
        |(time, body, trace, severity, event, attributes, context)| Log {
            span: None,
            time: time / 1000 * 1000,
            body,
            trace,
            severity,
            event,
            attributes,
            context,
        },
    )
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_string()),
        Just("a*".into()),
        Just("*b".into()),
        Just("?".into()),
        Just("A?C".into()),
        Just("*y*".into()),
        Just("y*b".into()),
        Just(format!("{}*", "y".repeat(250))),
        Just(format!("{}*", "y".repeat(252))),
        Just("1*".into()),
        "[ab*?é]{0,4}",
    ]
}

fn query() -> impl Strategy<Value = IndexQuery> {
    let leaf = prop_oneof![
        Just(IndexQuery::All),
        Just(IndexQuery::None),
        word().prop_map(|word| IndexQuery::Phrase(tokenizer::tokens(&word))),
        word().prop_map(|word| IndexQuery::Token(tokenizer::tokens(&word).into_iter().next().unwrap_or_default())),
        proptest::collection::vec(word(), 1..3).prop_map(|words| IndexQuery::Phrase(tokenizer::tokens(&words.join(" ")))),
        pattern().prop_map(IndexQuery::TokenPattern),
        (0..5u8).prop_map(|n| IndexQuery::Term {
            field: RawField::TraceId,
            value: format!("{:02x}", n + 1).repeat(16)
        }),
        (0..25i32).prop_map(|n| IndexQuery::Term {
            field: RawField::Severity,
            value: n.to_string()
        }),
        pattern().prop_map(|pattern| IndexQuery::TermPattern {
            field: RawField::Severity,
            pattern
        }),
        Just(IndexQuery::TermPattern {
            field: RawField::EventName,
            pattern: "t?ck".into()
        }),
        (key(), value()).prop_map(|(key, value)| IndexQuery::KeyValue { key, value }),
        (key(), proptest::collection::vec(value(), 0..4)).prop_map(|(key, values)| IndexQuery::KeyOneOf { key, values }),
        (key(), pattern()).prop_map(|(key, pattern)| IndexQuery::KeyPattern { key, pattern }),
        key().prop_map(IndexQuery::KeyExists),
        key().prop_map(|key| IndexQuery::KeyMatching {
            key,
            test: Arc::new(|value| value.parse::<f64>().is_ok_and(|number| number >= 2.0)),
        }),
        (proptest::collection::vec(word(), 1..4), 0..4u32).prop_map(|(words, between)| IndexQuery::Near {
            tokens: tokenizer::tokens(&words.join(" ")),
            between
        }),
        (0..6usize).prop_map(|length| IndexQuery::TokenMatching(Arc::new(move |token| token.len() == length))),
        (prop_oneof![Just("b"), Just("a"), Just("é"), Just("9b-1")], 0..6usize).prop_map(|(piece, length)| IndexQuery::TokenWith {
            piece: piece.into(),
            test: Arc::new(move |token| token.contains(piece) && token.len() != length),
        }),
        (0..6usize).prop_map(|length| IndexQuery::TermMatching {
            field: RawField::EventName,
            test: Arc::new(move |value| value.len() == length)
        }),
        key().prop_map(|key| IndexQuery::KeyInside {
            key,
            test: Arc::new(|value| value.len() % 2 == 0),
        }),
        proptest::collection::vec(0..25u32, 0..20).prop_map(IndexQuery::Contexts),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(IndexQuery::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(IndexQuery::Or),
            inner.prop_map(|query| IndexQuery::Not(Box::new(query))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn search_finds_what_brute_force_finds(
        logs in proptest::collection::vec(log(), 1..80),
        queries in proptest::collection::vec((query(), 0..90u32, 0..90u32, 0..90usize), 24),
    ) {
        let parts = [log_rows(&logs[..logs.len() / 2], 1), log_rows(&logs[logs.len() / 2..], 1000)];
        let built = build(Table::Logs, 0, Level::L0, &parts, &small(), 0).expect("a block");
        let block = open(&built).with_token_cache(&TokenCache::new(1 << 20));
        let index = block.index().expect("an index");
        let n = block.n_rows();
        let stored = expected(Table::Logs, &parts);
        let rows = RowText::new(Table::Logs, &stored).expect("text");
        let mut ordinals = vec![0; n as usize];
        for number in 0..index.contexts().len() as u32 {
            for row in index.first(&IndexQuery::Contexts(vec![number]), 0..n, usize::MAX).expect("rows") {
                ordinals[row as usize] = number;
            }
        }
        for (query, a, b, k) in &queries {
            let range = *a.min(b)..*a.max(b);
            let wanted: Vec<u32> = (0..n).filter(|row| range.contains(row) && brute(query, &rows, *row as usize, ordinals[*row as usize])).collect();
            let bitmap = index.bitmap(query, range.clone()).expect("a bitmap");
            let found: Vec<u32> = bitmap.set_indices().map(|row| row as u32).collect();
            prop_assert_eq!(bitmap.len(), n as usize);
            if index.is_exact(query).expect("an answer") {
                prop_assert_eq!(&found, &wanted, "{:?} in {:?}", query, range);
            } else {
                prop_assert!(wanted.iter().all(|row| found.contains(row)), "{:?} in {:?}: {:?} has not all of {:?}", query, range, found, wanted);
                prop_assert!(found.iter().all(|row| range.contains(row)));
            }
            prop_assert_eq!(index.first(query, range.clone(), *k).expect("rows"), &found[..found.len().min(*k)]);
            prop_assert_eq!(index.count(query, range.clone()).expect("a count"), found.len() as u64);
            let whole = index.bitmap(query, 0..n).expect("a bitmap").count_set_bits() as u64;
            prop_assert_eq!(index.count(query, 0..n).expect("a count"), whole);
        }
    }
}

#[test]
fn a_long_beginning_finds_values_that_are_indexed_whole_and_those_that_are_cut() {
    let logs: Vec<Log> = [100, 249, 250, 252, 255, 300]
        .map(|length| Log {
            attributes: vec![("k".into(), "y".repeat(length))],
            ..Log::default()
        })
        .into();
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &small(), 0).expect("a block");
    let block = open(&built);
    let pattern = IndexQuery::KeyPattern {
        key: "k".into(),
        pattern: format!("{}*", "y".repeat(250)),
    };
    assert_eq!(block.index().expect("an index").count(&pattern, 0..6).expect("a count"), 4);
}

#[test]
fn a_pattern_over_too_many_terms_is_refused() {
    let logs: Vec<Log> = (0..MAX_TERMS + 10)
        .map(|i| Log {
            attributes: vec![("id".into(), format!("{i:x}"))],
            ..Log::default()
        })
        .collect();
    let settings = Settings {
        page_rows: 2048,
        row_group_rows: 1 << 20,
        chunk_rows: 1 << 14,
        ..Settings::default()
    };
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &settings, 0).expect("a block");
    let block = open(&built);
    let index = block.index().expect("an index");
    assert!(matches!(index.key_values("id"), Err(Error::TooManyTerms { .. })));
    assert!(matches!(
        index.count(&IndexQuery::KeyExists("id".into()), 0..5),
        Err(Error::TooManyTerms { .. })
    ));
    let some = IndexQuery::KeyPattern {
        key: "id".into(),
        pattern: "1f*".into(),
    };
    assert!(index.count(&some, 0..block.n_rows()).expect("a count") > 256);
}

#[test]
fn files_tell_in_which_row_groups_a_span_id_of_logs_may_be() {
    let mut logs = mixed_logs(500);
    logs.iter_mut().for_each(|log| log.span = log.trace);
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &small(), 0).expect("a block");
    let block = open(&built);
    let ids = block.read(&(0..500).collect::<Vec<_>>(), &["span_id"]).expect("rows");
    let ids = ids.column(0).as_string::<i32>();
    let mut n_ids = 0;
    for row in (0..500).filter(|row| ids.is_valid(*row)) {
        let ranges = block
            .may_have("span_id", &["no such one", ids.value(row)])
            .expect("readable")
            .expect("a filter");
        assert!(ranges.iter().any(|range| range.contains(&(row as u32))), "{row}");
        n_ids += 1;
    }
    assert!(n_ids > 100);
    let others: Vec<String> = (0..100u64).map(|n| format!("{:016x}", n * 77_777_777 + 5)).collect();
    let n_groups = 500usize.div_ceil(64);
    let n_wrong: usize = others
        .iter()
        .map(|id| block.may_have("span_id", &[id]).expect("readable").expect("a filter").len())
        .sum();
    assert!(n_wrong < n_groups * others.len() / 10, "{n_wrong}");
    assert_eq!(block.may_have("body", &["x"]).expect("readable"), None);
    assert_eq!(block.may_have("nowhere", &["x"]).expect("readable"), None);
    let index = block.index().expect("an index");
    let rows = index.first(&IndexQuery::Ranges(vec![3..5, 498..900]), 4..600, 10).expect("rows");
    assert_eq!(rows, [4, 498, 499]);
    let others = IndexQuery::Not(Box::new(IndexQuery::Ranges(vec![3..5, 7..9])));
    assert_eq!(index.count(&others, 0..500).expect("a count"), 496);
}

#[test]
fn a_pattern_without_a_beginning_looks_through_all_tokens_once() {
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&mixed_logs(500), 1)], &small(), 0).expect("a block");
    let (plain, keeping) = (open(&built), open(&built).with_token_cache(&TokenCache::new(1 << 20)));
    let (plain, keeping) = (plain.index().expect("an index"), keeping.index().expect("an index"));
    let count = |index: &BlockIndex, pattern: &str| index.count(&IndexQuery::TokenPattern(pattern.into()), 0..500).expect("a count");
    assert_eq!(
        (count(keeping, "con*n"), keeping.knows_tokens()),
        (100, false),
        "its beginning is a range of the dictionary"
    );
    for pattern in ["*ONNEC*", "*set", "?e?et", "*ÄUS*", "*nowhere*", "*e*", "*", "?", "*9?"] {
        assert_eq!(count(keeping, pattern), count(plain, pattern), "{pattern}");
        assert!(keeping.knows_tokens() && !plain.knows_tokens());
    }
    assert_eq!(count(keeping, "*onnec*"), 100);
}
