use proptest::prelude::*;

use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, Value as Attribute};
use crate::query::tests::{SECOND, T0};

/// Records as OTLP brings them: what they say beside their text. Every fifth is JSON with a field of the same name as an attribute.
pub(super) fn records(group: &str, first: i64, n: i64) -> Rows {
    let mut builder = LogsBuilder::with_capacity(n as usize);
    let contexts: Vec<_> = ["cart", "pay"]
        .into_iter()
        .map(|service| {
            let mut resource = ContextBuilder::new();
            for (name, value) in [
                ("aws.log.group.names", group),
                ("aws.log.stream.names", "a"),
                ("service.name", service),
                ("team.id", "7"),
            ] {
                resource.attribute(name, Attribute::Str(value));
            }
            builder.context(resource.build())
        })
        .collect();
    for i in first..first + n {
        builder.attribute("http.route", Attribute::Str(if i % 4 == 0 { "/cart/{id}" } else { "/pay" }));
        builder.attribute("user", Attribute::Str("ann"));
        let body = match i % 5 {
            0 => format!(r#"{{"n":{i},"http.route":"/json","severity_text":"of the text"}}"#),
            _ => format!("line {i}"),
        };
        builder.push(
            contexts[(i % 2) as usize],
            &LogRecord {
                time_unix_nano: T0 + i * SECOND,
                body: Some(&body),
                severity_number: 17,
                severity_text: Some("Fehler"),
                trace_id: crate::model::TraceId::from_hex(&format!("{:032x}", i + 1)),
                ..LogRecord::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first << 20)
}

/// The fixture, which tells its own form.
const TABLE: &str = include_str!("../../../tests/fixtures/query/insights.txt");
/// 2026-11-22 05:00:00.
pub(in crate::query) const START_MILLIS: i64 = 1_795_323_600_000;

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

/// One line of the table that is a script, over the events above it.
struct Case {
    line: usize,
    script: String,
    set: usize,
    expected: Expected,
}

enum Expected {
    Rows(Vec<String>),
    Malformed { start: usize, end: usize, text: String },
}

fn table() -> (Vec<Vec<Event>>, Vec<Case>) {
    let (mut sets, mut cases): (Vec<Vec<Event>>, Vec<Case>) = (Vec::new(), Vec::new());
    for (number, line) in TABLE.lines().enumerate() {
        let rest = line.get(1..).unwrap_or_default();
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match line.chars().next() {
            None | Some('#') => {}
            Some('*') => sets.push(Vec::new()),
            Some(':') => {
                let mut parts = rest.splitn(4, ' ');
                let mut part = || parts.next().unwrap_or_default();
                let seconds: i64 = part().parse().expect("seconds");
                let (group, stream) = (part().into(), part().into());
                let event = Event {
                    pointer: format!("p{number}").into(),
                    group,
                    stream,
                    timestamp_millis: START_MILLIS + seconds * 1_000,
                    ingestion_millis: START_MILLIS + seconds * 1_000 + 500,
                    message: unescape(part()).into(),
                    ..Event::default()
                };
                sets.last_mut().expect("a set of events").push(event);
            }
            Some('=') => cases.push(Case {
                line: number + 1,
                script: unescape(rest),
                set: sets.len() - 1,
                expected: Expected::Rows(Vec::new()),
            }),
            Some('>') => match cases.last_mut().map(|case| &mut case.expected) {
                Some(Expected::Rows(rows)) => rows.push(rest.to_string()),
                _ => panic!("line {}: no script above", number + 1),
            },
            Some('!') => {
                let (script, error) = rest.split_once(" => ").expect("a script and an error");
                let (place, text) = error.split_once(' ').expect("a place and a text");
                let (start, end) = place.split_once('-').expect("START-END");
                cases.push(Case {
                    line: number + 1,
                    script: unescape(script),
                    set: sets.len() - 1,
                    expected: Expected::Malformed {
                        start: start.parse().expect("a place"),
                        end: end.parse().expect("a place"),
                        text: text.to_string(),
                    },
                });
            }
            Some(other) => panic!("line {} begins with {other:?}", number + 1),
        }
    }
    (sets, cases)
}

/// The lookup tables that there are.
pub(in crate::query) fn lookup_table(name: &str) -> Option<Arc<LookupTable>> {
    let text = match name {
        "users" => "id,name,team\n1,ann,none\n2,\"bob, the second\",money\nU9,eve,\n1,other,none\n",
        "nets" => "network,zone,owner\n10.0.0.0/8,inner,ops\n10.1.0.0/16,lab,dev\n192.168.0.1,host,ops\n2001:db8::/32,six,ops\n10.0.0.0/8,late,no\n",
        _ => return None,
    };
    Some(Arc::new(LookupTable::read(text).expect("a table")))
}

fn parse(text: &str) -> Result<Script, Malformed> {
    Script::parse(text)?.with_tables(&lookup_table)
}

/// The scripts that parse, and all events.
pub(in crate::query) fn scripts_and_events() -> (Vec<(String, Script)>, Vec<Event>) {
    let (sets, cases) = table();
    let scripts = cases.into_iter().filter_map(|case| Some((case.script.clone(), parse(&case.script).ok()?)));
    (scripts.collect(), sets.into_iter().flatten().collect())
}

fn context(answers: Vec<Answer>) -> Context {
    Context {
        start_millis: START_MILLIS,
        end_millis: START_MILLIS + 599_000,
        now_millis: START_MILLIS + 600_000,
        account_id: "123456789012".into(),
        region: "eu-west-1".into(),
        answers,
        memory: Arc::default(),
    }
}

fn sourced(script: &Script, event: &Event) -> bool {
    script.sources().iter().all(|source| match source {
        Source::Named(names) => names.iter().any(|name| **name == *event.group),
        Source::LogGroups { prefixes, .. } => prefixes.iter().any(|prefix| event.group.starts_with(prefix.as_str())),
        Source::DataSource(_) => false,
    })
}

/// The answer over events, whatever their order.
pub(in crate::query) fn run(script: &Script, events: &[Event], limits: Limits) -> Result<Answer, Failed> {
    let answers = script.subscripts().iter().map(|subscript| {
        let limits = Limits {
            default_limit: subscript.max_rows,
            ..limits
        };
        run(&subscript.script, events, limits)
    });
    let mut pipeline = script.pipeline(context(answers.collect::<Result<_, _>>()?), limits);
    let mut events: Vec<&Event> = events.iter().filter(|event| sourced(script, event)).collect();
    events.sort_by_key(|event| match pipeline.wants().order {
        Order::NewestFirst => -event.timestamp_millis,
        Order::OldestFirst => event.timestamp_millis,
    });
    for event in events {
        if pipeline.push(event.clone())? == Flow::Enough {
            break;
        }
    }
    let partial = pipeline.partial();
    let answer = pipeline.finish()?;
    assert_eq!(shown(&partial), shown(&answer), "what is so far is all when it ends");
    Ok(answer)
}

fn shown(answer: &Answer) -> Vec<String> {
    let row = |row: &AnswerRow| {
        let fields = row.rendered().into_iter().filter(|(name, _)| **name != *"@ptr");
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        fields.join(" | ").replace('\n', "\\n").replace('\t', "\\t").trim_end().to_string()
    };
    answer.rows.iter().map(row).collect()
}

#[test]
fn every_script_of_the_table_gives_the_rows_it_should() {
    let (sets, cases) = table();
    assert!(cases.len() >= 200, "{} scripts", cases.len());
    let mut wrong = Vec::new();
    let mut written = TABLE.lines().map(str::to_string).map(Some).collect::<Vec<_>>();
    for case in &cases {
        let Case { line, script, set, expected } = case;
        let outcome = parse(script);
        match (&outcome, expected) {
            (Ok(parsed), Expected::Rows(rows)) => {
                let found = run(parsed, &sets[*set], Limits::default()).map(|answer| shown(&answer));
                match &found {
                    Ok(found) if found == rows => {}
                    _ => wrong.push(format!("line {line}: {script}\n  gives {found:#?}\n  not {rows:#?}")),
                }
                (*line..line + rows.len()).for_each(|below| written[below] = None);
                let rows: String = found.iter().flatten().map(|row| format!("\n> {row}")).collect();
                if let Some(text) = &mut written[line - 1] {
                    text.push_str(&rows);
                }
            }
            (Err(error), Expected::Malformed { start, end, text }) if error.message.contains(text) && (error.start, error.end) == (*start, *end) => {}
            (Ok(_), Expected::Malformed { .. }) => wrong.push(format!("line {line}: {script} is read")),
            (Err(error), _) => wrong.push(format!("line {line}: {script}\n  {}-{} {error}", error.start, error.end)),
        }
    }
    let writes = std::env::var_os("INSIGHTS_WRITE").is_some();
    if writes {
        let text = written.into_iter().flatten().collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/query/insights.txt"), text).expect("writes");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scripts_that_only_gather_do_so_in_shares_too() {
    let (sets, cases) = table();
    let mut n_shared = 0;
    for case in cases {
        let (Ok(script), Expected::Rows(_)) = (parse(&case.script), &case.expected) else {
            continue;
        };
        let events = &sets[case.set];
        let mut whole = script.pipeline(context(vec![]), Limits::default());
        if !script.subscripts().is_empty() || !whole.can_share() {
            continue;
        }
        n_shared += 1;
        let mut shares: Vec<Pipeline> = (0..3).map(|_| whole.share()).collect();
        for (number, event) in events.iter().rev().filter(|event| sourced(&script, event)).enumerate() {
            shares[number % 3].push(event.clone()).expect("room");
        }
        for share in shares {
            whole.absorb(share).expect("room");
        }
        let expected = run(&script, events, Limits::default()).expect("an answer");
        let found = whole.finish().expect("an answer");
        assert_eq!(
            (shown(&found), found.n_matched),
            (shown(&expected), expected.n_matched),
            "line {}: {}",
            case.line,
            case.script
        );
    }
    assert!(n_shared >= 40, "{n_shared}");
}

#[test]
fn long_series_gathered_in_shares_come_as_near_as_those_gathered_at_once() {
    let all = events(60_000);
    let script = parsed("stats pct(n, 50) as p, count_distinct(n) as d, avg(n) as a, variance(n) as v, sum(n) as s");
    let mut whole = script.pipeline(context(vec![]), Limits::default());
    // one with few values, one with many
    let (mut few, mut many) = (whole.share(), whole.share());
    for event in &all {
        let share = if event.timestamp_millis < START_MILLIS + 10_000 {
            &mut few
        } else {
            &mut many
        };
        share.push(event.clone()).expect("room");
    }
    whole.absorb(few).expect("room");
    whole.absorb(many).expect("room");
    let (found, expected) = (
        shown(&whole.finish().expect("an answer")),
        shown(&run(&script, &all, Limits::default()).expect("an answer")),
    );
    assert_eq!(found, expected);
}

#[test]
fn groups_are_of_what_is_shown_alike() {
    let script = parsed(r#"parse @message "* *" as a, b | fields if(a = 1, @timestamp, b) as t | stats count(*) as n by t"#);
    let event = |message: &str| Event {
        timestamp_millis: START_MILLIS,
        message: message.into(),
        ..Event::default()
    };
    let events = [
        event("1 x"),
        event("2 2026-11-22 05:00:00.000"),
        event("2 2026-11-22 05:00:00.0"),
        event("2 7"),
        event("2 7"),
    ];
    let answer = run(&script, &events, Limits::default()).expect("an answer");
    assert_eq!(
        shown(&answer),
        ["t=2026-11-22 05:00:00.0 | n=1", "t=7 | n=2", "t=2026-11-22 05:00:00.000 | n=2"]
    );
}

fn events(n: usize) -> Vec<Event> {
    let event = |i: usize| Event {
        group: "/g".into(),
        stream: format!("s{}", i % 3).into(),
        timestamp_millis: START_MILLIS + i as i64 * 10,
        message: format!(r#"{{"n":{i},"k":"{}"}}"#, i % 100).into(),
        ..Event::default()
    };
    (0..n).map(event).collect()
}

fn parsed(text: &str) -> Script {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn memory_is_bounded_by_the_command_that_needs_it() {
    let limits = Limits {
        max_memory_bytes: 100_000,
        default_limit: 10_000,
    };
    let all = events(5_000);
    for (script, command) in [
        ("fields @message", "limit"),
        ("sort n", "sort"),
        ("stats count(*) by n", "stats"),
        ("stats values(n)", "stats"),
        ("dedup n", "limit"),
        ("dedup n | limit 100000", "limit"),
        ("outlier n", "outlier"),
        ("sessionize n", "sessionize"),
        ("countFrequent n", "countFrequent"),
    ] {
        match run(&parsed(script), &all, limits) {
            Err(Failed::Memory {
                command: named,
                max_bytes: 100_000,
            }) => assert!(named == command || named == "dedup", "{script}: {named}"),
            other => panic!("{script}: {:?}", other.map(|answer| answer.rows.len())),
        }
    }
    // few rows that are kept, and few groups, are held of any number
    for script in ["sort n desc | limit 10", "stats count(*) by k", "stats pct(n, 50), count_distinct(k)"] {
        let limits = Limits {
            max_memory_bytes: 2_500_000,
            ..limits
        };
        assert!(run(&parsed(script), &all, limits).is_ok(), "{script}");
    }
}

#[test]
fn a_limit_without_a_sort_ends_the_feeding() {
    for (script, n_pushed, may_stop_early) in [
        ("fields n | limit 3", 3, true),
        ("fields n | sort @timestamp asc | limit 3", 3, true),
        ("filter n > 5 | limit 3", 9, true),
        ("sort n | limit 3", 50, false),
        ("stats count(*) by k | limit 3", 50, false),
        ("limit 3 | stats count(*)", 3, true),
        ("dedup k | limit 3", 3, true),
    ] {
        let mut pipeline = parsed(script).pipeline(context(Vec::new()), Limits::default());
        assert_eq!(pipeline.wants().may_stop_early, may_stop_early, "{script}");
        let flows: Vec<Flow> = events(50).into_iter().map(|event| pipeline.push(event).expect("takes it")).collect();
        let n = flows.iter().position(|flow| *flow == Flow::Enough).map_or(flows.len(), |at| at + 1);
        assert_eq!(n, n_pushed, "{script}");
    }
}

#[test]
fn without_a_limit_there_are_10_000_rows() {
    let answer = run(&parsed("fields n"), &events(10_010), Limits::default()).expect("answers");
    assert_eq!((answer.rows.len(), answer.n_matched), (10_000, 10_000));
    let answer = run(&parsed("stats count(*) by n | limit 10005"), &events(10_010), Limits::default()).expect("answers");
    assert_eq!((answer.rows.len(), answer.n_matched), (10_005, 10_010));
}

#[test]
fn approximations_are_near() {
    let all = events(60_000);
    let value = |script: &str| -> f64 {
        let answer = run(&parsed(script), &all, Limits::default()).expect("answers");
        answer.rows[0].rendered()[0].1.parse().expect("a number")
    };
    for percent in [1, 50, 99] {
        let found = value(&format!("stats pct(n, {percent})"));
        let exact = f64::from(percent) / 100.0 * 60_000.0;
        assert!((found - exact).abs() < exact * 0.01, "{percent}: {found}");
    }
    let distinct = value("stats count_distinct(n)");
    assert!((distinct - 60_000.0).abs() < 60_000.0 * 0.03, "{distinct}");
}

#[test]
fn a_count_by_the_index_gives_what_reading_gives() {
    let (sets, cases) = table();
    let mut n_counts = 0;
    for case in &cases {
        let Ok(script) = parse(&case.script) else { continue };
        let Some(count) = script.index_count() else { continue };
        n_counts += 1;
        // the groups as the index would count them
        let filters = case
            .script
            .split('|')
            .take_while(|part| !part.trim_start().starts_with("stats"))
            .collect::<Vec<_>>()
            .join("|");
        let kept: Vec<&Event> = sets[case.set]
            .iter()
            .filter(|event| run(&parsed(&filters), &[(*event).clone()], Limits::default()).is_ok_and(|answer| answer.n_matched == 1))
            .collect();
        let mut groups: Vec<(Option<i64>, Vec<Option<String>>, u64)> = Vec::new();
        for event in kept {
            let bin = count.bin_millis.map(|millis| event.timestamp_millis.div_euclid(millis) * millis);
            let by = |name: &&'static str| match *name {
                "@log_group" => Some(event.group.to_string()),
                _ => Some(event.stream.to_string()),
            };
            let fields: Vec<Option<String>> = count.by.iter().map(by).collect();
            match groups.iter_mut().find(|(other, values, _)| *other == bin && *values == fields) {
                Some((_, _, n)) => *n += 1,
                None => groups.push((bin, fields, 1)),
            }
        }
        let counted = count.answer(groups, context(Vec::new()), Limits::default()).expect("answers");
        let read = run(&script, &sets[case.set], Limits::default()).expect("answers");
        assert_eq!(shown(&counted), shown(&read), "{}", case.script);
        assert_eq!(counted.n_matched, read.n_matched, "{}", case.script);
        assert_eq!(counted.columns, read.columns, "{}", case.script);
    }
    assert!(n_counts >= 10, "{n_counts} counts");
}

#[test]
fn only_exact_counts_are_left_to_the_index() {
    for script in [
        "stats count(status)",
        "stats sum(n)",
        "stats count(*) by status",
        "stats count(*) by bin(1mo)",
        "filter status = 500 | stats count(*)",
        "filter @message like /x*/ | stats count(*)",
        "filter not (level = 'x') | stats count(*)",
        "parse 'a*' as x | stats count(*)",
        "filter @logStream = '5' | stats count(*)",
        "limit 5 | stats count(*)",
        "fields @message",
        "filter a in (fields b) | stats count(*)",
    ] {
        assert!(parsed(script).index_count().is_none(), "{script}");
    }
    let count = parsed("filter @message like 'rare' and @logStream != 'x' | stats count(*) as n by bin(5m), @log | sort n desc").index_count();
    let count = count.expect("a count");
    assert_eq!((count.bin_millis, &count.by[..]), (Some(300_000), &["@log_group"][..]));
    assert_eq!(count.query.to_string(), r#"body:="rare" NOT @log_stream:x"#);
}

#[test]
fn prefilters_say_what_they_can() {
    for (script, prefilter) in [
        ("fields @message", "*"),
        ("filter @message like 'a b'", r#"body:="a b""#),
        ("filter @message like /err(or)?/ or @message like 'x'", r#"body:~"err(or)?" OR body:="x""#),
        ("filter status != 5", "*"),
        ("filter @message not like 'x'", r#"NOT body:="x""#),
        ("filter status = 5 or strlen(x) > 5", "*"),
        ("fields 1 as status | filter status = 1", "*"),
        ("limit 5 | filter @message like 'x'", "*"),
        ("parse 'a *' as x | filter x = 'y' and @message like 'z'", r#"body:="z""#),
        ("filter @requestId = 'abc'", r#"body:="abc""#),
    ] {
        assert_eq!(parsed(script).prefilter().to_string(), prefilter, "{script}");
    }
}

#[test]
fn quoted_numbers_are_ordered_among_words_by_their_characters() {
    let events: Vec<Event> = ["2025-12-31", "2026-11-22", "2027"]
        .iter()
        .map(|day| Event {
            timestamp_millis: START_MILLIS,
            message: serde_json::json!({ "day": day }).to_string().into(),
            ..Event::default()
        })
        .collect();
    for (condition, prefilter, n) in [
        (r#"day >= "2026""#, "$.day:* OR ", 2),
        (r#"not (day >= "2026")"#, "*", 1),
        (r#""2026" > day"#, "$.day:* OR ", 1),
        (r#"day = "2027""#, "$.day:[2027 TO 2027] OR ", 1),
    ] {
        let script = parsed(&format!("filter {condition}"));
        let found = run(&script, &events, Limits::default()).expect("an answer");
        assert_eq!(found.n_matched, n, "{condition}");
        let asked = script.prefilter().to_string();
        assert!(asked.starts_with(prefilter), "{condition}: {asked}");
    }
}

#[test]
fn signs_of_other_languages_are_told_apart() {
    for (script, told) in [
        ("filter a == 1", "write `=`"),
        ("filter a <> 1", "write `!=`"),
        ("filter !ispresent(a)", "write `not`"),
        ("filter a && b", "write `and`"),
        ("filter a || b", "write `or`"),
        ("filter", "unexpected end of the query"),
        (r#"filter level in ("INFO")"#, "a list is written `[..]`"),
        (r#"fields formatDate(@timestamp, "yyyy-'W'ww")"#, "letter 'w'"),
        (r#"fields parseDate(day, "yyyy-Q")"#, "letter 'Q'"),
    ] {
        let error = Script::parse(script).expect_err("malformed").to_string();
        assert!(error.contains(told), "{script}: {error}");
    }
}

#[test]
fn positions_are_counted_in_characters() {
    let error = Script::parse("fields `größe` | nope").expect_err("malformed");
    assert_eq!((error.start, error.end), (17, 21));
    let long = "é".repeat(MAX_CHARS + 1);
    assert_eq!(Script::parse(&long).map(|_| ()).expect_err("malformed").start, MAX_CHARS);
}

#[test]
fn deep_and_long_scripts_are_refused_or_read_and_never_run_away() {
    for script in [
        "filter ".to_string() + &"(".repeat(5_000),
        "filter ".to_string() + &"not ".repeat(2_000) + "a",
        "filter ".to_string() + &"-".repeat(5_000) + "1",
        "fields ".to_string() + &"1^".repeat(3_000) + "1",
        "fields ".to_string() + &"1+".repeat(3_000) + "1",
        "fields ".to_string() + &"abs(".repeat(2_000) + "1",
        "fields a".to_string() + &"[0]".repeat(3_000),
        "filter a".to_string() + &" or a".repeat(1_900),
        "| ".to_string() + &"fields a|".repeat(1_000),
    ] {
        if let Ok(script) = Script::parse(&script) {
            let _ = script.prefilter();
            let _ = run(&script, &events(1), Limits::default());
        }
    }
}

/// Text that is likely to be a script, or nearly.
fn likely() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "fields ",
        "filter ",
        "stats ",
        "sort ",
        "limit 3",
        "parse ",
        "dedup ",
        "unnest ",
        "pattern ",
        "display ",
        "join ",
        " | ",
        "|",
        "(",
        ")",
        "[",
        "]",
        ",",
        "@message",
        "@timestamp",
        "a",
        "b.c",
        "`x y`",
        "n",
        "*",
        "=",
        "!=",
        "<",
        ">=",
        " and ",
        " or ",
        " not ",
        " like ",
        " in ",
        "/a.b/",
        "=~",
        "\"text\"",
        "'*x*'",
        " as ",
        " by ",
        "bin(5m)",
        "count(*)",
        "sum(n)",
        "pct(n,5)",
        "1",
        "2.5",
        "-",
        "+",
        "^",
        "%",
        "jsonParse(@message)",
        "strlen(",
        "substr(a,1,2)",
        "5m",
        "#",
        "\n",
        "\"",
        "`",
        "\\",
        "é",
        " desc",
        "SOURCE 'x'",
        "fillmissing",
        "outlier ",
        "accum ",
        "autoregress ",
        "p=1-3",
        "sessionize ",
        "countFrequent ",
        "expand ",
        "addtotals ",
        "split(a,'x')",
        "regexReplace(a,/x/,'y')",
        "parseDate(a,'yyyy')",
        "formatDate(n,'HH')",
        "m[0]",
        "case(a,1,2)",
        " into x",
        "values(a)",
        "topk(2,a)",
        "appendcols (",
        "earliest(a)",
        "histogram(n,3)",
        "dateceil(n,1mo)",
        "stddev(n)",
    ]);
    prop::collection::vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_script_and_no_event_panics(
        text in prop_oneof![any::<String>(), likely(), likely().prop_map(|text| format!("fields a | {text}"))],
        messages in prop::collection::vec(prop_oneof![any::<String>(), Just(r#"{"a":"1","n":-3,"m":[1,{"x":null}],"b":{"c":"é"}}"#.to_string())], 0..4),
        time in any::<i64>(),
    ) {
        match Script::parse(&text) {
            Ok(script) => {
                let _ = script.prefilter();
                let _ = script.index_count();
                let event = |message: String| Event { message: message.into(), timestamp_millis: time, ..Event::default() };
                let events: Vec<Event> = messages.into_iter().map(event).collect();
                let mut pipeline = script.pipeline(context(vec![Answer::default(); script.subscripts().len()]), Limits { max_memory_bytes: 1 << 20, default_limit: 100 });
                for event in events {
                    if pipeline.push(event).is_err() {
                        break;
                    }
                }
                if let Ok(answer) = pipeline.finish() {
                    answer.rows.iter().for_each(|row| drop(row.rendered()));
                }
            }
            Err(error) => {
                let n = text.chars().count();
                prop_assert!(error.start <= error.end && error.end <= n.max(MAX_CHARS), "{error:?}");
                prop_assert!(!error.message.is_empty());
            }
        }
    }

    #[test]
    fn globs_find_what_their_regular_expressions_do(glob in "[ab*]{0,4}[*][ab* ]{0,4}", text in "[ab \\né]{0,12}") {
        let pieces: Vec<_> = glob.split('*').map(|piece| memchr::memmem::Finder::new(piece).into_owned()).collect();
        let places = operators::glob_places(&pieces, &text).map(|places| places.to_vec());
        let regex = regex::Regex::new(&commands::glob_regex(&glob)).expect("a regex");
        let groups = regex.captures(&text).map(|found| found.iter().skip(1).flatten().map(|group| group.range()).collect::<Vec<_>>());
        prop_assert_eq!(places, groups, "{}", glob);
    }

    #[test]
    fn functions_take_any_values(a in any::<f64>(), b in any::<i64>(), text in any::<String>()) {
        let message: Arc<str> = serde_json::json!({"a": a, "b": b, "t": text}).to_string().into();
        let event = Event { message, ..Event::default() };
        let one = "display abs(a), ceil(b), round(a, b), round(b, a), substr(t, b, a), substr(t, a), fromMillis(b), datefloor(b, 1mo), dateceil(a, 7w), toInt(a), b + b, b * a, b ^ b, b % a, -b, \
            haversine(a, b, a, b), formatDate(b, t), parseDate(t, t), strftime(b, t), split(t, \"a\"), urldecode(t), hexToAscii(t), jsonParse(t), replace(t, t, t), concat(t, a, b)";
        let answer = run(&parsed(one), &[event], Limits::default()).expect("answers");
        prop_assert_eq!(answer.rows.len(), 1);
    }
}

/// Right sides at their bounds, and one past.
#[test]
fn joins_and_subqueries_are_bounded_in_rows_keys_and_values() {
    let left = Event {
        group: "/l".into(),
        timestamp_millis: START_MILLIS,
        message: r#"{"k":7}"#.into(),
        ..Event::default()
    };
    let with_right = |n: usize, n_keys: usize| -> Vec<Event> {
        let right = (0..n).map(|i| Event {
            group: "/r".into(),
            timestamp_millis: START_MILLIS,
            message: format!(r#"{{"k":{}}}"#, i % n_keys).into(),
            ..Event::default()
        });
        right.chain([left.clone()]).collect()
    };
    let join = parsed("SOURCE '/l' | join type=inner left=a right=b where a.k = b.k (SOURCE '/r' | fields k) | stats count(*) as n");
    let within = parsed("SOURCE '/l' | filter k in (SOURCE '/r' | fields k) | stats count(*) as n");
    let limits = Limits {
        max_memory_bytes: 1 << 30,
        ..Limits::default()
    };
    let answer = |script: &Script, n: usize, n_keys: usize| run(script, &with_right(n, n_keys), limits).map(|answer| shown(&answer));
    let failed = |command: &'static str, what: &'static str, max: usize| Err(Failed::TooMany { command, what, max });
    assert_eq!(answer(&join, 50_000, 50_000), Ok(vec!["n=1".to_string()]));
    assert_eq!(answer(&join, 50_001, 50_001), failed("join", "distinct keys on the right side", 50_000));
    assert_eq!(answer(&join, 100_000, 50_000), Ok(vec!["n=2".to_string()]));
    assert_eq!(answer(&join, 100_001, 10), failed("join", "rows on the right side", 100_000));
    assert_eq!(answer(&within, 100_000, 100_000), Ok(vec!["n=1".to_string()]));
    assert_eq!(answer(&within, 100_001, 10), failed("in", "values of a subquery", 100_000));
}
