//! What records say beside their message, as fields.

use super::*;
use crate::query::insights::tests::records;

#[tokio::test]
async fn what_records_say_beside_their_message_are_fields_in_head_and_blocks() {
    let lake = Lake::new().await;
    lake.block(&records("g", 0, 200), true).await;
    lake.block(&records("g", 200, 200), false).await;
    lake.head(vec![records("g", 400, 100)]);
    let id = format!("{:032x}", 8);
    for (text, expected) in [
        // 0, 4, 8 … of which every fifth says otherwise in its text
        (r#"filter http.route = "/cart/{id}" | stats count(*) as n"#, "n=100"),
        (r#"filter attributes.http.route = "/cart/{id}" | stats count(*) as n"#, "n=125"),
        (r#"filter http.route = "/json" | stats count(*) as n"#, "n=100"),
        (r#"filter service.name = "pay" | stats count(*) as n"#, "n=250"),
        (r#"filter resource.attributes.service.name like "ca" | stats count(*) as n"#, "n=250"),
        ("filter resource.attributes.team.id > 6 | stats count(*) as n", "n=500"),
        ("filter team.id > 7 | stats count(*) as n", ""),
        (r#"filter attributes.user = "ann" | stats count(*) as n"#, "n=500"),
        // without a dot it is the message's alone
        (r#"filter user = "ann" | stats count(*) as n"#, ""),
        (r#"filter ispresent(user) | stats count(*) as n"#, ""),
        (r#"filter severityText = "Fehler" and severity_number >= 17 | stats count(*) as n"#, "n=500"),
        (r#"filter severity_text = "Fehler" | stats count(*) as n"#, "n=400"),
        (r#"filter severity_text != "Fehler" | stats count(*) as n"#, "n=100"),
        (r#"stats count(*) as n by service.name as s | sort s asc"#, "s=cart, n=250; s=pay, n=250"),
        (
            &format!(r#"filter trace_id = "{id}" | fields n, traceId, attributes.user | display traceId, attributes.user"#),
            &format!("traceId={id}, attributes.user=ann"),
        ),
        (r#"filter trace_id = "no ID" | stats count(*) as n"#, ""),
        (
            r#"filter @message like "line 7" | fields service.name as s, http.route | display s, http.route | sort @timestamp asc | limit 1"#,
            "s=pay, http.route=/pay",
        ),
    ] {
        let plan = plan(text, ONE);
        let progress = Progress::default();
        let answer = run(&lake.engine, &plan, &progress).await.expect("an answer");
        let (read, _) = by_rows(&lake, &plan).await;
        assert_eq!(shown(&answer), shown(&read), "{text}: the columns say what the rows say");
        let row = |row: Vec<(Arc<str>, String)>| {
            let fields = row
                .into_iter()
                .filter(|(name, _)| **name != *"@ptr")
                .map(|(name, value)| format!("{name}={value}"));
            fields.collect::<Vec<_>>().join(", ")
        };
        let rows: Vec<String> = shown(&answer).into_iter().map(row).collect();
        assert_eq!(rows.join("; "), expected, "{text}");
    }
    // no more columns are read than can hold what is named
    for (text, expected) in [
        ("stats count(*) by n", ""),
        ("stats count(*) by http.route", "attributes resource_attributes"),
        (
            "stats count(*) by service.name, severityText",
            "attributes resource_attributes service_name severity_text",
        ),
        ("filter trace_id = 'x' | stats count(@ptr)", "ingest_id span_id trace_id"),
    ] {
        let needs = Needs::of(plan(text, ONE).script.wanted.as_deref()).expect("columns tell");
        let mut columns: Vec<&str> = needs.columns().to_vec();
        columns.retain(|name| !["time_unix_nano", "observed_time", "body", "aws_log_group", "aws_log_stream"].contains(name));
        columns.sort_unstable();
        assert_eq!(columns.join(" "), expected, "{text}");
    }
    // a script that names nothing of the kind does not carry it along
    let mut pipeline = plan("fields @message, n | sort n", ONE).script.pipeline(Context::default(), Limits::default());
    let event = Event {
        record: Some(Box::default()),
        ..Event::default()
    };
    assert_eq!(pipeline.push(event), Ok(Flow::More));
    assert!(!format!("{pipeline:?}").contains("record: Some"));
}

#[tokio::test]
async fn who_asks_while_a_query_runs_is_shown_what_is_known_so_far() {
    let lake = lake().await;
    for (text, gathers) in [
        ("stats count(*) as n, max(strlen(@message)) as m", true),
        ("fields @message | sort @message asc", false),
    ] {
        let plan = plan(text, BOTH);
        let progress = Progress::default();
        // asked before it begins: the first helping, or slice, leaves it
        assert_eq!(progress.partial().rows.len(), 0);
        let answer = run(&lake.engine, &plan, &progress).await.expect("an answer");
        let partial = progress.partial.lock().clone();
        assert!(
            0 < partial.n_matched && partial.n_matched < answer.n_matched,
            "{text}: {} of {}",
            partial.n_matched,
            answer.n_matched
        );
        assert_eq!(partial.columns, answer.columns);
        match gathers {
            true => assert_eq!(shown(&partial)[0][0], ("n".into(), partial.n_matched.to_string())),
            false => assert_eq!(partial.rows.len() as u64, partial.n_matched),
        }
        // nobody asked again
        let progress = Progress::default();
        run(&lake.engine, &plan, &progress).await.expect("an answer");
        assert_eq!(progress.partial.lock().n_matched, 0, "{text}: what nobody asks for is not made");
    }
}
