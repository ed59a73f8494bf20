use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, Value};
use crate::query::insights::Malformed;
use crate::query::insights::tests::records;
use crate::query::tests::{Lake, SECOND, T0};
use crate::query::{Hit, Query};

/// The fixture, which tells its own form.
const TABLE: &str = include_str!("../../../../tests/fixtures/query/insights_sql.txt");

/// All events of some groups, but for those of a stream that was deleted.
#[derive(Debug)]
struct Of(Vec<String>);

impl Scope for Of {
    fn query(&self) -> Query {
        Query::Or(self.0.iter().map(|name| Query::equals("@log_group", name)).collect())
    }
    fn event(&self, _: Hit) -> Option<Event> {
        None
    }
    fn has(&self, group: &str, stream: &str) -> Option<bool> {
        match stream {
            "gone" => Some(false),
            "renewed" => None,
            _ => Some(self.0.iter().any(|name| name == group)),
        }
    }
    fn shows(&self, group: &str, stream: &str, ingestion_millis: i64) -> bool {
        self.has(group, stream).unwrap_or(ingestion_millis >= T0 / 1_000_000 + 100_000)
    }
}

struct Case {
    line: usize,
    text: String,
    set: usize,
    expected: Expected,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Rows(Vec<String>),
    Malformed(String),
    Failed(String),
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

/// An event of the table: seconds, group, stream, text.
type Line = (i64, String, String, String);

fn table() -> (Vec<Vec<Line>>, Vec<Case>) {
    let (mut sets, mut cases): (Vec<Vec<Line>>, Vec<Case>) = (Vec::new(), Vec::new());
    for (number, line) in TABLE.lines().enumerate() {
        let rest = line.get(1..).unwrap_or_default();
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let mut case = |text: &str, expected: Expected| {
            cases.push(Case {
                line: number + 1,
                text: unescape(text),
                set: sets.len().saturating_sub(1),
                expected,
            });
        };
        match line.chars().next() {
            None | Some('#') => {}
            Some('*') => sets.push(Vec::new()),
            Some(':') => {
                let mut parts = rest.splitn(4, ' ');
                let mut part = || parts.next().unwrap_or_default();
                let event = (part().parse().expect("seconds"), part().into(), part().into(), unescape(part()));
                sets.last_mut().expect("a set of events").push(event);
            }
            Some('=') => case(rest, Expected::Rows(Vec::new())),
            Some('>') => match cases.last_mut().map(|case| &mut case.expected) {
                Some(Expected::Rows(rows)) => rows.push(rest.to_string()),
                _ => panic!("line {}: no statement above", number + 1),
            },
            Some(sign @ ('!' | '?')) => {
                let (text, error) = rest.split_once(" => ").expect("a statement and an error");
                case(
                    text,
                    match sign {
                        '!' => Expected::Malformed(error.to_string()),
                        _ => Expected::Failed(error.to_string()),
                    },
                );
            }
            Some(other) => panic!("line {} begins with {other:?}", number + 1),
        }
    }
    (sets, cases)
}

fn rows_of(events: &[Line]) -> Rows {
    let mut builder = LogsBuilder::default();
    for (seconds, group, stream, text) in events {
        let context = builder.context(
            ContextBuilder::new()
                .attribute("aws.log.group.names", Value::Str(group))
                .attribute("aws.log.stream.names", Value::Str(stream))
                .build(),
        );
        let record = LogRecord {
            time_unix_nano: T0 + seconds * SECOND,
            observed_time_unix_nano: Some(T0 + seconds * SECOND + SECOND / 2),
            body: Some(text),
            ..LogRecord::default()
        };
        builder.push(context, &record);
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

fn plan(text: &str, asked: &[&str]) -> Result<SqlPlan, Malformed> {
    let script = SqlScript::parse(text)?;
    let scope = |table: &SqlTable| -> (Arc<dyn Scope>, Vec<String>) {
        let groups: Vec<String> = match &table.source {
            SqlSource::Groups(sources) => sources
                .iter()
                .flat_map(|source| match source {
                    super::super::Source::Named(names) => names.clone(),
                    _ => vec!["/web".into(), "/app".into()],
                })
                .collect(),
            SqlSource::Indexed { .. } => asked.iter().map(|name| name.to_string()).collect(),
        };
        (Arc::new(Of(groups.clone())), groups)
    };
    Ok(SqlPlan {
        scopes: script.tables().iter().map(scope).collect(),
        script,
        context: Context {
            start_millis: T0 / 1_000_000,
            end_millis: T0 / 1_000_000 + 599_000,
            now_millis: T0 / 1_000_000 + 600_000,
            account_id: "123456789012".into(),
            region: "eu-west-1".into(),
            answers: vec![],
            memory: Arc::default(),
        },
        limits: Limits::default(),
        patience: Duration::from_secs(60),
    })
}

fn shown(row: &SqlRow) -> String {
    let fields: Vec<String> = row
        .iter()
        .filter(|(name, _)| **name != *"@ptr")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    fields.join(" | ").replace('\n', "\\n").replace('\t', "\\t").trim_end().to_string()
}

#[tokio::test]
async fn every_statement_of_the_table_gives_the_rows_it_should_of_head_and_blocks() {
    let (sets, cases) = table();
    let mut lakes = Vec::new();
    for set in &sets {
        // half of each in a block, half in memory; and all in one block
        let (mixed, sealed) = (Lake::new().await, Lake::new().await);
        let middle = set.len() / 2;
        mixed.block(&rows_of(&set[..middle]), true).await;
        mixed.head(vec![rows_of(&set[middle..])]);
        sealed.block(&rows_of(set), true).await;
        lakes.push([mixed, sealed]);
    }
    assert!(cases.len() >= 60, "{} statements", cases.len());
    let mut wrong = Vec::new();
    let mut written: Vec<Option<String>> = TABLE.lines().map(str::to_string).map(Some).collect();
    for case in &cases {
        for lake in &lakes[case.set] {
            let found = match plan(&case.text, &["/web", "/app"]) {
                Err(malformed) => Expected::Malformed(format!("{}-{} {}", malformed.start, malformed.end, malformed.message)),
                Ok(plan) => match run(&lake.engine, &plan, &Progress::default()).await {
                    Ok(rows) => Expected::Rows(rows.iter().map(shown).collect()),
                    Err(error) => Expected::Failed(error.to_string()),
                },
            };
            let fits = match (&case.expected, &found) {
                (Expected::Malformed(expected), Expected::Malformed(found)) => {
                    let (place, part) = expected.split_once(' ').expect("a place and a text");
                    found.strip_prefix(place).is_some_and(|message| message.contains(part))
                }
                (Expected::Failed(expected), Expected::Failed(found)) => found.contains(expected.as_str()),
                (expected, found) => expected == found,
            };
            if !fits {
                wrong.push(format!("line {}: {}\n  {found:?}", case.line, case.text));
            }
            if let (Expected::Rows(old), Expected::Rows(rows)) = (&case.expected, &found) {
                for line in 0..old.len() {
                    written[case.line + line] = None;
                }
                let rows: Vec<String> = rows.iter().map(|row| format!("> {row}").trim_end().to_string()).collect();
                written[case.line - 1] = Some([vec![format!("= {}", case.text.replace('\n', "\\n"))], rows].concat().join("\n"));
            }
        }
    }
    if std::env::var_os("INSIGHTS_WRITE").is_some() {
        let text: Vec<String> = written.into_iter().flatten().collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/query/insights_sql.txt");
        std::fs::write(path, text.join("\n") + "\n").expect("the table is written");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_value_that_comes_in_meanwhile_and_fits_no_more_is_noticed() {
    let lake = Lake::new().await;
    let event = |seconds: i64, text: &str| (seconds, "/web".to_string(), "a".to_string(), text.to_string());
    lake.block(&rows_of(&[event(0, r#"{"n":1}"#)]), true).await;
    let plan = plan("SELECT n FROM `/web` ORDER BY n", &[]).expect("a statement");
    let range = range_of(&plan.context);
    let progress = Progress::default();
    let wanted = Wanted::of(&plan, 0);
    let kinds = vec![kinds_of(&lake.engine, &plan, 0, wanted, range, &progress).await.expect("kinds")];
    let views = views(&plan, &kinds).expect("views");
    let misfits = views[0].misfits.clone();
    lake.head(vec![rows_of(&[event(1, r#"{"n":"many"}"#)])]);
    let (statement, limits) = (plan.script.statement.clone(), plan.limits);
    let running = lake
        .engine
        .sql_for_report(plan.patience, move |ground| views::run(ground, statement, views, range, limits));
    running.await.expect("it runs").expect("rows");
    assert!(misfits.load(Ordering::Relaxed));
    let rows = run(&lake.engine, &plan, &progress).await.expect("an answer");
    assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), ["n=1", "n=many"]);
}

#[tokio::test]
async fn rows_and_memory_are_bounded_and_a_piece_of_text_prunes_what_is_read() {
    let lake = Lake::new().await;
    let events: Vec<Line> = (0..12_000i64)
        .map(|n| {
            let rare = if n == 6_000 { " unrarely" } else { "" };
            let mixed = n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (n / 30, "/web".to_string(), "a".to_string(), format!("{mixed:016x} line {n}{rare}"))
        })
        .collect();
    lake.block(&rows_of(&events), true).await;
    let mut few = plan("SELECT `@message` FROM `/web`", &[]).expect("a statement");
    few.limits.default_limit = 7;
    assert_eq!(run(&lake.engine, &few, &Progress::default()).await.expect("rows").len(), 7);
    few.limits = Limits {
        max_memory_bytes: 20_000,
        default_limit: 10_000,
    };
    let error = run(&lake.engine, &few, &Progress::default()).await.expect_err("too much");
    assert!(error.to_string().contains("memory"), "{error}");
    let scanned = async |text: &str| {
        let progress = Progress::default();
        let rows = run(&lake.engine, &plan(text, &[]).expect("a statement"), &progress).await.expect("rows");
        (rows.iter().map(shown).collect::<Vec<_>>(), progress.scanned().bytes)
    };
    let (every, all) = scanned("SELECT count(`@message`) AS n FROM `/web`").await;
    let (found, rare) = scanned("SELECT count(`@message`) AS n FROM `/web` WHERE `@message` LIKE '% unrare%'").await;
    assert_eq!((every, found), (vec!["n=12000".to_string()], vec!["n=1".to_string()]));
    assert!(rare < all, "{rare} of {all}");
}

#[tokio::test]
async fn events_of_other_groups_and_times_do_not_count_for_types() {
    let lake = Lake::new().await;
    let event = |seconds: i64, group: &str, text: &str| (seconds, group.to_string(), "a".to_string(), text.to_string());
    let events = [
        event(0, "/web", r#"{"n":9}"#),
        event(1, "/web", r#"{"n":10}"#),
        event(2, "/app", r#"{"n":"many"}"#),
        event(3_000, "/web", r#"{"n":"late"}"#),
    ];
    lake.block(&rows_of(&events), true).await;
    let plan = plan("SELECT n FROM `/web` WHERE n > 1 AND n < 99 ORDER BY n", &[]).expect("a statement");
    let rows = run(&lake.engine, &plan, &Progress::default()).await.expect("an answer");
    assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), ["n=9", "n=10"]);
}

#[tokio::test]
async fn what_records_say_beside_their_message_are_columns_in_head_and_blocks() {
    let lake = Lake::new().await;
    lake.block(&records("/web", 0, 200), true).await;
    lake.block(&records("/web", 200, 200), false).await;
    lake.head(vec![records("/web", 400, 100)]);
    let id = format!("{:032x}", 8);
    for (text, expected) in [
        // 0, 4, 8 … of which every fifth says otherwise in its text
        ("SELECT count(*) AS n FROM `/web` WHERE `http.route` = '/cart/{id}'", "n=100"),
        ("SELECT count(*) AS n FROM `/web` WHERE `attributes.http.route` = '/cart/{id}'", "n=125"),
        ("SELECT count(*) AS n FROM `/web` WHERE `http.route` = '/json'", "n=100"),
        (
            "SELECT `service.name` AS s, count(*) AS n FROM `/web` GROUP BY `service.name` ORDER BY s",
            "s=cart | n=250; s=pay | n=250",
        ),
        ("SELECT count(*) AS n FROM `/web` WHERE `resource.attributes.service.name` LIKE 'ca%'", "n=250"),
        ("SELECT count(*) AS n FROM `/web` WHERE `resource.attributes.team.id` > 6", "n=500"),
        ("SELECT count(*) AS n FROM `/web` WHERE `attributes.user` = 'ann'", "n=500"),
        // without a dot it is the message's alone
        ("SELECT count(*) AS n FROM `/web` WHERE `user` IS NOT NULL", "n=0"),
        // a whole number, and so compared and added up as one
        ("SELECT sum(severity_number) AS n FROM `/web` WHERE severityNumber >= 17", "n=8500"),
        (
            "SELECT severity_text AS s, count(*) AS n FROM `/web` GROUP BY severity_text ORDER BY s",
            "s=Fehler | n=400; s=of the text | n=100",
        ),
        (
            &format!("SELECT traceId, `attributes.user` AS u, `@message` FROM `/web` WHERE trace_id = '{id}'"),
            &format!("traceId={id} | u=ann | @message=line 7"),
        ),
        (
            "SELECT *, `service.name` AS s FROM `/web` WHERE `@message` LIKE '%line 7' LIMIT 1",
            "@timestamp=2026-11-22 05:00:07.000 | @message=line 7 | @xrayTraceId=1-00000000-000000000000000000000008 | service.name=pay | @logStream=a | @log=123456789012:/web | @ingestionTime=2026-11-22 05:00:07.000 | @aws.account=123456789012 | s=pay",
        ),
        ("SELECT count(*) AS n FROM `filterIndex('service.name' = 'pay')` WHERE n IS NULL", "n=200"),
    ] {
        let plan = plan(text, &["/web"]).unwrap_or_else(|malformed| panic!("{text}: {}", malformed.message));
        let rows = match run(&lake.engine, &plan, &Progress::default()).await {
            Ok(rows) => rows.iter().map(shown).collect::<Vec<_>>().join("; "),
            Err(error) => panic!("{text}: {error}"),
        };
        assert_eq!(rows, expected, "{text}");
    }
}
