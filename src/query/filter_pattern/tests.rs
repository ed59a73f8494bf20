use proptest::prelude::*;

use super::*;

/// The table's patterns that parse, and all of its events.
pub(in crate::query) fn patterns_and_events() -> (Vec<FilterPattern>, Vec<String>) {
    let rows = table();
    let mut written: Vec<&str> = rows.iter().map(|row| row.pattern.as_str()).collect();
    written.dedup();
    let patterns = written.into_iter().filter_map(|pattern| FilterPattern::parse(pattern).ok()).collect();
    let event = |row: &Row| match &row.expected {
        Expected::Matches(event) | Expected::DoesNot(event) => Some(event.clone()),
        Expected::Fails(_) => None,
    };
    (patterns, rows.iter().filter_map(event).collect())
}

/// One line of the table.
struct Row {
    line: usize,
    pattern: String,
    expected: Expected,
}

enum Expected {
    Matches(String),
    DoesNot(String),
    Fails(String),
}

/// `tests/fixtures/query/filter_patterns.txt`, which tells its own form.
fn table() -> Vec<Row> {
    let unescape = |text: &str| text.replace("\\n", "\n").replace("\\t", "\t");
    let mut pattern = String::new();
    let mut rows = Vec::new();
    for (number, line) in include_str!("../../../tests/fixtures/query/filter_patterns.txt").lines().enumerate() {
        let rest = line.get(1..).unwrap_or_default();
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let expected = match line.chars().next() {
            None | Some('#') => continue,
            Some('=') => {
                pattern = rest.to_string();
                continue;
            }
            Some('+') => Expected::Matches(unescape(rest)),
            Some('-') => Expected::DoesNot(unescape(rest)),
            Some('!') => {
                let (bad, error) = rest.split_once(" => ").expect("a pattern and an error");
                pattern = bad.to_string();
                Expected::Fails(error.to_string())
            }
            Some(other) => panic!("line {} begins with {other:?}", number + 1),
        };
        rows.push(Row {
            line: number + 1,
            pattern: pattern.clone(),
            expected,
        });
    }
    rows
}

#[test]
fn every_pattern_of_the_table_matches_what_it_should() {
    let rows = table();
    let mut patterns: Vec<&str> = rows.iter().map(|row| row.pattern.as_str()).collect();
    patterns.dedup();
    assert!(patterns.len() >= 150, "{} patterns", patterns.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let Row { line, pattern, expected } = row;
        match (FilterPattern::parse(pattern), expected) {
            (Ok(parsed), Expected::Matches(event)) if parsed.matches(event) => assert!(parsed.extract(event).is_some()),
            (Ok(parsed), Expected::DoesNot(event)) if !parsed.matches(event) => assert!(parsed.extract(event).is_none()),
            (Err(error), Expected::Fails(text)) if error.to_string().contains(text.as_str()) => {}
            (outcome, _) => wrong.push(format!("line {line}: {pattern}: {outcome:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_are_extracted_by_name_and_by_number() {
    let event = r#"127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /x HTTP/1.0" 404 1534"#;
    let extract = |pattern: &str| FilterPattern::parse(pattern).expect("parses").extract(event).expect("matches");
    let all = extract("[ip, id, user, timestamp, request, status, size]");
    assert_eq!(all.len(), 7);
    assert_eq!(all["$timestamp"], "10/Oct/2000:13:25:15 -0700");
    assert_eq!(all["$request"], "GET /x HTTP/1.0");
    let some = extract("[ip, ..., status, size = 1*]");
    assert_eq!(
        (some["$ip"].as_str(), some["$status"].as_str(), some["$size"].as_str()),
        ("127.0.0.1", "404", "1534")
    );
    assert_eq!((some["$2"].as_str(), some["$5"].as_str()), ("-", "GET /x HTTP/1.0"));
    assert!(extract("frank").is_empty());
}

#[test]
fn selectors_are_extracted_as_written() {
    let pattern = FilterPattern::parse(r#"{ $.a.b = 5 && $.list[*] = "x" && $.gone NOT EXISTS && $.o != 1 || $.a.b = 5 }"#).expect("parses");
    let found = pattern.extract(r#"{"a":{"b":5.0},"list":["w","x"],"o":{}}"#).expect("matches");
    let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, [("$.a.b", "5"), ("$.list[*]", "w")]);
}

#[test]
fn a_pattern_has_at_most_1024_characters_and_50_levels() {
    assert!(FilterPattern::parse(&"é".repeat(MAX_CHARS)).is_ok());
    assert!(FilterPattern::parse(&"é".repeat(MAX_CHARS + 1)).is_err());
    let nested = |levels: usize| FilterPattern::parse(&format!("{{ {}$.a = 1{} }}", "(".repeat(levels), ")".repeat(levels)));
    assert!(nested(MAX_DEPTH).is_ok());
    assert!(nested(MAX_DEPTH + 1).is_err());
}

#[test]
fn hostile_events_take_no_longer_than_their_length_asks() {
    // each quotation mark could begin a field that ends nowhere
    let event = "\"a ".repeat(300_000);
    assert!(FilterPattern::parse("[..., a]").expect("parses").matches(&event));
    let brackets = "[a ".repeat(300_000);
    assert!(FilterPattern::parse("[..., a]").expect("parses").matches(&brackets));
    let stars = format!("[a = {}b]", "a*".repeat(400));
    assert!(!FilterPattern::parse(&stars).expect("parses").matches(&"a".repeat(1 << 20)));
    let items = format!("{{\"a\":[{}1]}}", "0,".repeat(400_000));
    assert!(FilterPattern::parse("{ $.a[*] = 1 }").expect("parses").matches(&items));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!FilterPattern::parse("{ $.a NOT EXISTS || $.a[0] = 1 }").expect("parses").matches(&deep));
}

#[test]
fn the_prefilter_asks_what_an_index_can_answer() {
    let prefilter = |pattern: &str| format!("{:?}", FilterPattern::parse(pattern).expect("parses").prefilter());
    let is = |pattern: &str, parts: &[&str]| {
        let query = prefilter(pattern);
        assert!(parts.iter().all(|part| query.contains(part)), "{pattern}: {query}");
    };
    for everything in [
        "",
        "[a, b]",
        "[a > 5]",
        "[a != x]",
        "{ $.a NOT EXISTS }",
        "{ $.* = 1 }",
        "[a = x || a > 5]",
        "[a = %^x%]",
    ] {
        assert_eq!(prefilter(everything), format!("{:?}", Query::All), "{everything}");
    }
    is("ERROR \"a b\" -c", &["Exact(\"ERROR\")", "Exact(\"a b\")", "Not("]);
    is("?a ?b", &["Or(", "Exact(\"a\")"]);
    is("{ $.level = \"ERROR\" && $.n > 5 }", &["\"$.level\"", "Equals(\"ERROR\")", "Excluded(\"5\")"]);
    is("{ $.a[*].b = \"x*\" }", &["\"$.a.b\"", "Matches("]);
    is("{ $.a IS NULL }", &["Exact(\"null\")"]);
    is(
        "[ip, status = 4* && status != 404, url = *index.html*]",
        &["Exact(\"4\")", "Exact(\"index.html\")"],
    );
}

/// Text that is likely to be a pattern, or nearly.
fn likely() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "$.",
        "$",
        "a",
        "b-c",
        ".",
        "*",
        "[*]",
        "[0]",
        "['x']",
        "=",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "(",
        ")",
        "\"",
        "\\",
        "%",
        "5",
        "-1e3",
        "x*",
        " IS NULL",
        " NOT EXISTS",
        "...",
        ",",
        " ",
        "?",
        "-",
        "é",
        "^",
        "\\d",
        "IS",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_pattern_and_no_event_panics(pattern in prop_oneof![any::<String>(), likely()], event in prop_oneof![any::<String>(), likely()]) {
        if let Ok(parsed) = FilterPattern::parse(&pattern) {
            let matches = parsed.matches(&event);
            prop_assert_eq!(parsed.extract(&event).is_some(), matches);
            let _ = parsed.prefilter();
        }
    }

    #[test]
    fn a_quoted_term_is_found_where_it_stands(term in "[^\"\\\\]{1,20}", before in any::<String>(), after in any::<String>()) {
        let pattern = FilterPattern::parse(&format!("\"{term}\"")).expect("parses");
        let has_term = format!("{before}{term}{after}");
        prop_assert!(pattern.matches(&has_term));
        prop_assert_eq!(pattern.matches(&before), before.contains(&term));
    }

    #[test]
    fn a_json_selector_finds_what_serde_finds(key in "[a-z]{1,3}", number in -1_000i64..1_000, bound in -1_000i64..1_000) {
        let event = serde_json::json!({ "x": {"list": [{ key.as_str(): number }]} }).to_string();
        let matches = |operator: &str| FilterPattern::parse(&format!("{{ $.x.list[0].{key} {operator} {bound} }}")).expect("parses").matches(&event);
        prop_assert_eq!(matches("<"), number < bound);
        prop_assert_eq!(matches("<="), number <= bound);
        prop_assert_eq!(matches(">"), number > bound);
        prop_assert_eq!(matches(">="), number >= bound);
        prop_assert_eq!(matches("="), number == bound);
        prop_assert_eq!(matches("!="), number != bound);
    }
}
