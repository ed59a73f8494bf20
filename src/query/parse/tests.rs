use proptest::prelude::*;

use super::super::ast::{Bound, Query, Spans, Test, Text, Wildcards};
use super::*;

/// Prints the tree so that tests read: `and(a b)`, `not(x)`, `"phrase"`, `~pattern`, `field[test]`.
fn tree(query: &Query) -> String {
    let list = |name: &str, parts: &[Query]| format!("{name}({})", parts.iter().map(tree).collect::<Vec<_>>().join(" "));
    match query {
        Query::All => "all".into(),
        Query::And(parts) => list("and", parts),
        Query::Or(parts) => list("or", parts),
        Query::Not(inner) => format!("not({})", tree(inner)),
        Query::Text(Text::Phrase(text)) => format!("{text:?}"),
        Query::Text(Text::Pattern(pattern)) => format!("~{}", pattern.as_str()),
        Query::Text(Text::Near { text, between }) => format!("{text:?}~{between}"),
        Query::Text(Text::Alike { word, mistakes }) => format!("{word}~{mistakes}"),
        Query::Text(Text::Network(network)) => format!("in {network}"),
        Query::Field { name, test } => {
            let end = |bound: &Bound| match bound {
                Bound::Open => "*".to_string(),
                Bound::Included(text) => format!("={text}"),
                Bound::Excluded(text) => text.clone(),
            };
            let test = match test {
                Test::Exists => "exists".into(),
                Test::Equals(text) => format!("{text:?}"),
                Test::Matches(pattern) => format!("~{}", pattern.as_str()),
                Test::Regex(regex) => format!("/{regex}/"),
                Test::Exact(text) => format!("={text:?}"),
                Test::Near { text, between } => format!("{text:?}~{between}"),
                Test::Alike { value, mistakes } => format!("{value}~{mistakes}"),
                Test::Network(network) => format!("in {network}"),
                Test::Range { from, to } => format!("{}..{}", end(from), end(to)),
            };
            format!("{name}[{test}]")
        }
        Query::Trace(spans) => format!("trace({})", tree_of_spans(spans)),
        Query::Log(query) => format!("log({})", tree(query)),
    }
}

fn tree_of_spans(spans: &Spans) -> String {
    let list = |parts: &[Spans]| parts.iter().map(tree_of_spans).collect::<Vec<_>>().join(" ");
    match spans {
        Spans::Where(query) => tree(query),
        Spans::Related { left, relation, right } => format!("{relation:?}({} {})", tree_of_spans(left), tree_of_spans(right)).to_lowercase(),
        Spans::All(parts) => format!("all({})", list(parts)),
        Spans::Any(parts) => format!("any({})", list(parts)),
    }
}

#[test]
fn conditions_on_traces_read_as_documented_and_print_back() {
    for (text, expected) in [
        ("trace:(a b)", r#"trace(and("a" "b"))"#),
        ("x -trace:(duration>500ms)", r#"and("x" not(trace(duration[500ms..*])))"#),
        ("log:(severity:ERROR (a OR b))", r#"log(and(severity["ERROR"] or("a" "b")))"#),
        ("trace:({a} > {b c})", r#"trace(child("a" and("b" "c")))"#),
        ("trace:({a}>>{b} ~ {c})", r#"trace(sibling(descendant("a" "b") "c"))"#),
        ("trace:({a} >> ({b} ~ {c}))", r#"trace(descendant("a" sibling("b" "c")))"#),
        ("trace:({a} {b} OR {c} AND {d})", r#"trace(any(all("a" "b") all("c" "d")))"#),
        ("trace:({} > {n:[1 TO 5}})", "trace(child(all n[=1..5]))"),
        ("trace:(({a}))", r#"trace("a")"#),
        (r#"trace:({"a}" service:x*})"#, r#"trace(and("a}" service[~x*]))"#),
        (r#""trace":(a OR b)"#, r#"or(trace["a"] trace["b"])"#),
        ("trace:a", r#"trace["a"]"#),
        ("log:a log:*", r#"and(log["a"] log[exists])"#),
        (
            "trace:(http.status_code>=500 error:true) log:(a)",
            r#"and(trace(and(http.status_code[=500..*] error["true"])) log("a"))"#,
        ),
    ] {
        let query = parse(text, Table::Logs).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(tree(&query), expected, "{text}");
        let printed = query.to_string();
        let again = parse(&printed, Table::Logs).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again, query, "{text} printed {printed}");
    }
}

#[test]
fn what_is_wrong_within_conditions_on_traces_is_told_with_its_place() {
    for (text, position, message) in [
        ("trace:(", 7, "a condition is missing at the end"),
        ("trace:(a", 6, "this `(` is never closed"),
        ("trace:()", 7, "a condition is missing before `)`"),
        ("trace:({a}", 6, "this `(` is never closed"),
        ("trace:({a)", 7, "this `{` is never closed"),
        ("trace:({a} >)", 12, "conditions on a span are missing here"),
        ("trace:({a} b)", 11, "`AND`, `OR`, `>`, `>>`, `~` or `)` is missing here"),
        ("trace:({a} > {b:})", 14, "a value is missing after `b:`"),
        ("trace:(a log:(b))", 9, "`log:( )` stands inside `trace:( )`"),
        ("log:(trace:(b))", 5, "`trace:( )` stands inside `log:( )`"),
        ("trace:(duration>5parsecs)", 15, "is not a duration"),
        ("duration:5parsecs", 0, ""),
    ] {
        match parse(text, Table::Logs) {
            Err(error) => {
                assert!(error.message.contains(message), "{text}: {error}");
                assert_eq!(error.position, position, "{text}: {error}");
            }
            // a log's own `duration` is an attribute
            Ok(_) => assert_eq!(message, "", "{text}"),
        }
    }
}

#[test]
fn queries_read_as_documented() {
    for (text, expected) in [
        ("", "all"),
        ("  ", "all"),
        ("*", "all"),
        ("*:*", "all"),
        ("error", r#""error""#),
        ("connection reset", r#"and("connection" "reset")"#),
        (r#""connection reset""#, r#""connection reset""#),
        ("a AND b && c", r#"and("a" "b" "c")"#),
        ("a OR b || c", r#"or("a" "b" "c")"#),
        ("a b OR c d", r#"or(and("a" "b") and("c" "d"))"#),
        ("a (b OR c)", r#"and("a" or("b" "c"))"#),
        ("NOT a", r#"not("a")"#),
        ("-a !b NOT c +d", r#"and(not("a") not("b") not("c") "d")"#),
        ("NOT NOT a", r#"not(not("a"))"#),
        ("-(a b)", r#"not(and("a" "b"))"#),
        ("and or not", r#"and("and" "or" "not")"#),
        ("pre* w?ld*card", "and(~pre* ~w?ld*card)"),
        (r"50\*", r#""50*""#),
        (r"a\*b*", r"~a\*b*"),
        ("service:checkout", r#"service["checkout"]"#),
        ("service: checkout", r#"service["checkout"]"#),
        (r#"service:"check out""#, r#"service["check out"]"#),
        (r#"path:"a*b""#, r#"path["a*b"]"#),
        ("-path:/health", r#"not(path["/health"])"#),
        ("status:[500 TO 599]", "status[=500..=599]"),
        ("status:{500 TO *]", "status[500..*]"),
        ("status:[* TO 5}", "status[*..5]"),
        ("status:[* TO *]", "status[exists]"),
        ("status:*", "status[exists]"),
        ("status>=500 x<3", "and(status[=500..*] x[*..3])"),
        ("severity >= WARN", "severity[=WARN..*]"),
        ("x:>5 y:<=-2.5", "and(x[5..*] y[*..=-2.5])"),
        ("x>-5", "x[-5..*]"),
        ("x:-5", r#"x["-5"]"#),
        ("level:(warn OR error)", r#"or(level["warn"] level["error"])"#),
        ("x:(a -b \"c d\" e*)", r#"and(x["a"] not(x["b"]) x["c d"] x[~e*])"#),
        ("x:(>=5 AND <10)", "and(x[=5..*] x[*..10])"),
        ("x:(-5 OR (6 7))", r#"or(x["-5"] and(x["6"] x["7"]))"#),
        ("\"my field\":5", r#"my field["5"]"#),
        ("k8s.pod.name:a-b aws/x:1 @t:2", r#"and(k8s.pod.name["a-b"] aws/x["1"] @t["2"])"#),
        (r#"x:~"a+\d""#, r"x[/a+\d/]"),
        (r#""a b"~3"#, r#""a b"~3"#),
        (r#""a b"~0"#, r#""a b""#),
        (r#"("a b"~3)"#, r#""a b"~3"#),
        (r#""a b"~3x"#, r#"and("a b" "~3x")"#),
        (r#""a b" ~3"#, r#"and("a b" "~3")"#),
        (r#"body:"a b"~3 c"#, r#"and(body["a b"~3] "c")"#),
        ("word~1 x:val~2", "and(word~1 x[val~2])"),
        ("word~0 x:val~0", r#"and("word" x["val"])"#),
        (r"word\~1", r#""word~1""#),
        (r#""word~1""#, r#""word~1""#),
        ("word~", r#""word~""#),
        (r"x:check\ out~1", "x[check out~1]"),
        (r#"x:="a \"b\"""#, r#"x[="a \"b\""]"#),
        ("10.0.0.0/8 x:10.0.0.0/8", "and(in 10.0.0.0/8 x[in 10.0.0.0/8])"),
        (r#""10.0.0.0/8" x:"10.0.0.0/8""#, r#"and("10.0.0.0/8" x["10.0.0.0/8"])"#),
        ("10.0.0.0/33", r#""10.0.0.0/33""#),
        ("2001:db8::/32 fe80::/10 abcd:1::/32", "and(in 2001:db8::/32 in fe80::/10 in abcd:1::/32)"),
        ("x:fe80::/10", "x[in fe80::/10]"),
        ("abcd:1:2:3:4:5:6:7 abcd:1", r#"and("abcd:1:2:3:4:5:6:7" abcd["1"])"#),
        ("x:[10.0.0.1 TO 10.0.0.9]", "x[=10.0.0.1..=10.0.0.9]"),
        ("x>::1", "x[::1..*]"),
        ("user=42", r#""user=42""#),
        ("http://a.b/c?d=1", "~http://a.b/c?d=1"),
        ("Cart.java:42", r#""Cart.java:42""#),
        ("std::io::Error", r#""std::io::Error""#),
        ("12:30:45", r#""12:30:45""#),
        ("arn:aws:sqs:eu-west-1:1:q", r#""arn:aws:sqs:eu-west-1:1:q""#),
        ("url:http://a.b/c", r#"url["http://a.b/c"]"#),
        ("foo(bar)", r#"and("foo" "bar")"#),
        (r"foo\(bar\)", r#""foo(bar)""#),
        (r"C:\\new D:\new", r#"and(C["\\new"] D["\\new"])"#),
        (r#""a \"b\" \\ \n""#, r#""a \"b\" \\ \\n""#),
        ("a-b -c-d", r#"and("a-b" not("c-d"))"#),
        (
            "Root=1-5759e988-bd862e3fe1be46a994272793; Parent=1",
            r#""Root=1-5759e988-bd862e3fe1be46a994272793; Parent=1""#,
        ),
        (
            "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793",
            r#""X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793""#,
        ),
        ("日本 été", r#"and("日本" "été")"#),
        (
            "trace_id:1-5759e988-bd862e3fe1be46a994272793",
            r#"trace_id["1-5759e988-bd862e3fe1be46a994272793"]"#,
        ),
        ("time>=2026-11-22T00:00:00Z", "time[=2026-11-22T00:00:00Z..*]"),
        ("time:[now-1h TO now]", "time[=now-1h..=now]"),
    ] {
        match parse(text, Table::Logs) {
            Ok(query) => {
                assert_eq!(tree(&query), expected, "{text}");
                let printed = query.to_string();
                assert_eq!(parse(&printed, Table::Logs).as_ref(), Ok(&query), "{text} printed as {printed}");
            }
            Err(error) => panic!("{text}: {error} at {}", error.position),
        }
    }
}

#[test]
fn durations_have_units_on_spans() {
    for text in [
        "duration>500ms",
        "duration:[1s TO 1m30s]",
        "duration:0",
        "status:error kind:server",
        "duration_nano>5",
    ] {
        assert!(parse(text, Table::Spans).is_ok(), "{text}");
    }
    assert_eq!(parse("duration>500", Table::Spans).map_err(|e| (e.position, e.hint.is_some())), Err((8, true)));
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, position, message) in [
        ("(a", 0, "never closed"),
        ("a b)", 3, "closes nothing"),
        ("a AND", 5, "missing at the end"),
        ("AND a", 0, "both sides"),
        ("a OR OR b", 5, "both sides"),
        ("é (", 3, "missing at the end"),
        ("()", 1, "before `)`"),
        ("x:", 0, "value is missing"),
        ("a x:)", 2, "value is missing"),
        ("\"abc", 0, "quote is never closed"),
        ("x:\"abc", 2, "quote is never closed"),
        ("x:[1 2]", 5, "TO is missing"),
        ("x:[1 TO 2", 2, "never closed"),
        ("x:[1 TO ]", 2, "end of this range"),
        ("x:[1* TO 2]", 2, "no wildcards"),
        ("x:[a TO b]", 2, "not a number"),
        ("x>abc", 1, "not a number"),
        ("x>NaN", 1, "not a number"),
        ("x>1*", 1, "no wildcards"),
        ("severity:loud", 9, "not a severity"),
        ("body>5", 4, "text"),
        ("trace_id:hello", 9, "not a trace ID"),
        ("span_id:xyz", 8, "not a span ID"),
        ("time>yesterday", 4, "not a time"),
        ("a - b", 2, "stands alone"),
        ("a ->", 3, "no letter or digit"),
        ("%%%", 0, "no letter or digit"),
        ("body:\"...\"", 5, "no letter or digit"),
        ("x:~\"(\"", 2, "regular expression"),
        ("a word~3", 6, "more than 2 mistakes"),
        ("a.b~1", 3, "one word"),
        ("b ab~2", 4, "anything short"),
        ("x:val~9", 2, "more than 2 mistakes"),
        ("x:\"a b\"~2", 2, "compared whole"),
        ("b \"a b\"~1001", 2, "words between"),
        ("x:[10.0.0.1 TO ::1]", 2, "one kind"),
        ("x:[10.0.0.1 TO 5x]", 2, "not a number"),
        ("body:=\"\"", 5, "empty text"),
        ("severity:warn~1", 9, "is a severity"),
    ] {
        match parse(text, Table::Logs) {
            Ok(query) => panic!("{text} is {}", tree(&query)),
            Err(error) => {
                assert!(error.message.contains(message), "{text}: {}", error.message);
                assert_eq!(error.position, position, "{text}: {}", error.message);
            }
        }
    }
}

#[test]
fn size_is_bounded() {
    let deep = "(".repeat(100) + "a" + &")".repeat(100);
    assert!(parse(&deep, Table::Logs).is_err_and(|e| e.message.contains("deeper")));
    assert!(parse(&"NOT ".repeat(5_000), Table::Logs).is_err());
    assert!(parse(&"a ".repeat(1_001), Table::Logs).is_err_and(|e| e.message.contains("conditions")));
    assert!(parse(&"word~1 ".repeat(21), Table::Logs).is_err_and(|e| e.message.contains("words with `~`")));
    assert!(parse(&format!("{}~1", "a".repeat(129)), Table::Logs).is_ok(), "a word is its first 128 bytes");
    assert!(parse(&format!("x:{}~1", "a".repeat(129)), Table::Logs).is_err_and(|e| e.message.contains("longer than")));
    assert!(parse(&"a".repeat(20_000), Table::Logs).is_err_and(|e| e.message.contains("longer")));
    assert!(parse(&format!("\"{}\"", "a ".repeat(200)), Table::Logs).is_err_and(|e| e.message.contains("phrase")));
}

#[test]
fn values_that_look_like_words_are_printed_as_values() {
    for (name, value) in [
        ("a", ":"),
        ("url", "//host"),
        ("arn", "aws:sqs"),
        ("Cart.java", "42"),
        ("12", "30"),
        ("", "x"),
        ("a-", "b"),
        ("AND", "x"),
        ("std", ":io"),
    ] {
        for test in [Test::Equals(value.into()), Test::Matches(Wildcards::new(format!("{value}*")))] {
            let query = Query::Field { name: name.into(), test };
            let printed = query.to_string();
            assert_eq!(parse(&printed, Table::Logs), Ok(query), "{printed}");
        }
    }
}

/// A literal that has something to search for.
fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,6}",
        "[a-zA-Z0-9é日 *?\\\\\"():\\[\\]{}<>=!&|+~^/_.-]{0,10}[a-z0-9]",
        Just("AND".to_string()),
        Just("TO".to_string()),
        Just("-5".to_string()),
        Just("a:b".to_string()),
    ]
}

/// A pattern in its canonical form, in which at least one token has a letter.
fn pattern() -> impl Strategy<Value = Wildcards> {
    ("[a-z0-9:()\" -]{0,4}", prop_oneof![Just("*"), Just("?")], "[a-z]{1,4}").prop_map(|(a, wildcard, b)| Wildcards::new(format!("{a}{wildcard}{b}")))
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[a-z][a-z0-9._/-]{0,6}[a-z]", "[a-z 0-9:\"\\\\-]{1,6}x"].prop_filter("special fields take special values", |name| {
        !["time", "level", "trace_id", "body", "span_id", "severity", "scope_name"].contains(&name.as_str())
    })
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![(-1000i64..1000).prop_map(|n| n.to_string()), (-1e3..1e3).prop_map(|n: f64| n.to_string())]
}

fn test() -> impl Strategy<Value = Test> {
    let bound = || prop_oneof![number().prop_map(Bound::Included), number().prop_map(Bound::Excluded), Just(Bound::Open)];
    prop_oneof![
        Just(Test::Exists),
        prop_oneof![literal(), "\\PC{0,8}"].prop_map(Test::Equals),
        pattern().prop_map(Test::Matches),
        literal().prop_map(Test::Exact),
        ("[a-z0-9é:\"\\[<~* -]{2,6}[a-z0-9é]", 1..3u32).prop_map(|(value, mistakes)| Test::Alike { value, mistakes }),
        network().prop_map(Test::Network),
        "[a-z.\\\\\"]{0,5}x".prop_map(|regex| Test::Regex(regex.replace('\\', "\\\\"))),
        (bound(), bound()).prop_filter_map("an open range is existence", |(from, to)| {
            ((&from, &to) != (&Bound::Open, &Bound::Open)).then_some(Test::Range { from, to })
        }),
    ]
}

fn network() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("10.0.0.0/8".to_string()),
        Just("::/0".into()),
        Just("fe80::1/64".into()),
        Just("abcd:1::/32".into()),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let leaf = prop_oneof![
        1 => (literal(), 1..9u32).prop_map(|(text, between)| Query::Text(Text::Near { text, between })),
        1 => ("[a-z0-9é]{3,6}", 1..3u32).prop_map(|(word, mistakes)| Query::Text(Text::Alike { word, mistakes })),
        1 => network().prop_map(|network| Query::Text(Text::Network(network))),
        1 => (literal(), 1..9u32).prop_map(|(text, between)| Query::Field { name: "body".into(), test: Test::Near { text, between } }),
        1 => Just(Query::All),
        3 => literal().prop_map(Query::phrase),
        2 => pattern().prop_map(|pattern| Query::Text(Text::Pattern(pattern))),
        4 => (name(), test()).prop_map(|(name, test)| Query::Field { name, test }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Query::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Query::Or),
            inner.prop_map(|query| !query),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(query in query()) {
        let printed = query.to_string();
        match parse(&printed, Table::Logs) {
            Ok(back) => prop_assert_eq!(back, query, "{}", printed),
            Err(error) => prop_assert!(false, "{}: {} at {}", printed, error, error.position),
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = parse(&text, Table::Logs);
        let _ = parse(&text, Table::Spans);
    }

    #[test]
    fn no_text_of_operators_panics(text in "[a-b1:()\\[\\]{}\"*?~<>=&|!+ \\\\/-]{0,40}|((AND|OR|NOT|TO|x:|\\(|\\)) ?){0,12}") {
        if let Ok(query) = parse(&text, Table::Logs) {
            let printed = query.to_string();
            let back = parse(&printed, Table::Logs);
            prop_assert_eq!(back.as_ref(), Ok(&query), "{} printed as {}", text, printed);
        }
    }
}
