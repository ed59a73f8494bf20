//! Commands that ask a running server.

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::Value;

use super::{Outcome, ServerArgs, print};

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to look for, e.g. 'service:payment severity>=WARN "gateway timeout"'.
    #[arg(default_value = "")]
    query: String,
    /// From when: a time or how long ago.
    #[arg(long, default_value = "1h", allow_hyphen_values = true)]
    since: String,
    /// Until when.
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    until: String,
    /// At most so many rows.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Search spans instead of logs.
    #[arg(long, value_parser = ["logs", "spans"], default_value = "logs")]
    table: String,
    /// Print new rows as they arrive.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The ID: 32 hex digits, `1-…-…`, a `traceparent` or `X-Amzn-Trace-Id` header, 64-bit decimal.
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query, e.g. "SELECT service_name, count(*) FROM logs GROUP BY 1".
    query: String,
    /// At most so many rows.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Rows that are asked for at a time.
const PAGE_ROWS: usize = 5_000;

/// The server's answer is an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refusal {
    status: StatusCode,
    message: String,
    /// As the server sent it, if it was JSON.
    body: Value,
}

impl Refusal {
    fn new(status: StatusCode, text: &str) -> Self {
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or(text);
        let message = match body["error"]["hint"].as_str() {
            Some(hint) => format!("{message} ({hint})"),
            None => format!("{status}: {message}"),
        };
        Self { status, message, body }
    }

    /// How a command ends that asked for one thing: it is not there, or that cannot be said; `None` for other errors.
    fn outcome(&self) -> Option<Outcome> {
        let is_ours = self.body["error"]["code"].as_str().is_some_and(|code| code.ends_with("not_found"));
        if self.status == StatusCode::NOT_FOUND && is_ours {
            return Some(Outcome::NotFound);
        }
        self.body.get("coverage").map(|_| Outcome::Partial)
    }
}

/// A server and how to reach it.
pub(super) struct Client {
    http: reqwest::Client,
    server: ServerArgs,
}

impl Client {
    pub(super) fn new(server: ServerArgs) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().connect_timeout(std::time::Duration::from_secs(5)).build()?,
            server,
        })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server.url.trim_end_matches('/')));
        match &self.server.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let response = request.send().await.with_context(|| {
            format!(
                "no server answers at {}: start one with `tracelake serve` or `tracelake demo`, or name it with --url or TRACELAKE_URL",
                self.server.url
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        Err(Refusal::new(status, &text).into())
    }

    pub(super) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
        let response = self.send(self.request(reqwest::Method::GET, path).query(parameters)).await?;
        Ok(response.json().await?)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.send(self.request(reqwest::Method::POST, path).json(body)).await?;
        Ok(response.json().await?)
    }
}

/// A wall-clock time `2026-…T…Z` cut to milliseconds.
fn short_time(hit: &Value) -> String {
    let time = hit["time"].as_str().unwrap_or("");
    match time.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{:0<3}Z", fraction.trim_end_matches('Z').chars().take(3).collect::<String>()),
        None => time.replace('Z', ".000Z"),
    }
}

fn print_hit(hit: &Value, is_coloured: bool) {
    let service = hit["service_name"].as_str().unwrap_or("-");
    let line = match hit.get("body") {
        Some(body) => {
            let class = hit["severity"].as_str().unwrap_or("UNSET");
            let letter = if class == "UNSET" { "-" } else { &class[..1] };
            let text = print::safe(body.as_str().unwrap_or(""), 400);
            format!("{} {} {service:<12} {text}", short_time(hit), print::severity(class, letter, is_coloured))
        }
        None => {
            let duration = print::duration(hit["duration_nano"].as_f64().unwrap_or(0.0));
            let is_error = hit["status_code"] == "ERROR";
            let name = print::safe(hit["name"].as_str().unwrap_or(""), 200);
            format!(
                "{} {} {service:<12} {duration:>9} {name}  {}",
                short_time(hit),
                print::severity(if is_error { "ERROR" } else { "" }, if is_error { "E" } else { "-" }, is_coloured),
                hit["trace_id"].as_str().unwrap_or("")
            )
        }
    };
    print::line(&line);
}

/// Says what is missing from a partial answer; gives the outcome that goes with it.
pub(super) fn coverage(answer: &Value) -> Outcome {
    let coverage = &answer["coverage"];
    if coverage["complete"] != Value::Bool(false) {
        return Outcome::Done;
    }
    for problem in coverage["problems"].as_array().into_iter().flatten() {
        print::error(&format!(
            "partial answer: {} {}: {}",
            problem["kind"].as_str().unwrap_or(""),
            problem["what"].as_str().unwrap_or(""),
            problem["message"].as_str().unwrap_or("")
        ));
    }
    Outcome::Partial
}

pub(crate) async fn search(args: SearchArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let (json, is_coloured) = (args.server.json, print::is_coloured());
    if args.follow {
        return follow(&client, &args, is_coloured).await;
    }
    let answer = pages(&client, &args).await?;
    let hits = answer["hits"].as_array().cloned().unwrap_or_default();
    if json {
        print::line(&serde_json::to_string_pretty(&answer)?);
    } else {
        // oldest first, as a terminal is read
        hits.iter().rev().for_each(|hit| print_hit(hit, is_coloured));
    }
    let outcome = coverage(&answer);
    if hits.is_empty() && outcome == Outcome::Done {
        print::error("nothing found: widen --since, or look with `tracelake search '*' --since 1d`");
        return Ok(Outcome::NotFound);
    }
    if !answer["next_cursor"].is_null() && !json {
        print::error(&format!("the newest {} rows; more match: raise --limit or narrow the time", hits.len()));
    }
    Ok(outcome)
}

/// As many pages as `--limit` needs, as one answer.
async fn pages(client: &Client, args: &SearchArgs) -> anyhow::Result<Value> {
    let mut left = args.limit.max(1);
    let mut whole = Value::Null;
    loop {
        let limit = left.min(PAGE_ROWS).to_string();
        let coverage = &whole["coverage"];
        // later pages are of the range that the first one was: `1h` ago and `now` move
        let parameters = [
            ("q", args.query.as_str()),
            ("start", coverage["start_unix_nano"].as_str().unwrap_or(&args.since)),
            ("end", coverage["end_unix_nano"].as_str().unwrap_or(&args.until)),
            ("limit", &limit),
            ("table", &args.table),
            ("cursor", whole["next_cursor"].as_str().unwrap_or_default()),
        ];
        let page = client.get("/api/v1/search", &parameters).await?;
        left = left.saturating_sub(page["hits"].as_array().map_or(0, Vec::len));
        append_page(&mut whole, page);
        if left == 0 || whole["next_cursor"].is_null() {
            return Ok(whole);
        }
    }
}

/// Puts a page behind those before; the coverage is that of all, its figures are the first page's.
fn append_page(whole: &mut Value, mut page: Value) {
    if whole.is_null() {
        *whole = page;
        return;
    }
    let list = |value: &mut Value| value.as_array_mut().map(std::mem::take).unwrap_or_default();
    let mut hits = list(&mut whole["hits"]);
    hits.extend(list(&mut page["hits"]));
    let mut problems = list(&mut whole["coverage"]["problems"]);
    // that a page ended early is no matter once the next one follows
    problems.retain(|problem| problem["kind"] != "limit");
    for problem in list(&mut page["coverage"]["problems"]) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    let is_complete = [&*whole, &page].iter().all(|part| part["coverage"]["complete"] != Value::Bool(false));
    let took_ms = [&*whole, &page].iter().filter_map(|part| part["took_ms"].as_f64()).sum::<f64>();
    whole["took_ms"] = took_ms.into();
    whole["hits"] = hits.into();
    whole["coverage"]["problems"] = problems.into();
    whole["coverage"]["complete"] = is_complete.into();
    whole["next_cursor"] = page["next_cursor"].take();
}

async fn follow(client: &Client, args: &SearchArgs, is_coloured: bool) -> anyhow::Result<Outcome> {
    let request = client
        .request(reqwest::Method::GET, "/api/v1/tail")
        .query(&[("q", args.query.as_str()), ("table", args.table.as_str())]);
    let mut stream = client.send(request).await?.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk.context("the server closed the stream")?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let Ok(event) = serde_json::from_slice::<Value>(data) else { continue };
            for hit in event["hits"].as_array().into_iter().flatten() {
                if args.server.json {
                    print::line(&hit.to_string())
                } else {
                    print_hit(hit, is_coloured)
                }
            }
            let reason = event["reason"].as_str().unwrap_or("rate cap");
            if let Some(dropped) = event["dropped"].as_u64().filter(|n| *n > 0) {
                print::error(&format!("{dropped} rows not shown: {reason}"));
            }
            if let Some(missed) = event["missed_batches"].as_u64().filter(|n| *n > 0) {
                print::error(&format!("the rows of {missed} requests were not looked at: {reason}"));
            }
        }
    }
    Ok(Outcome::Done)
}

pub(crate) async fn trace(args: TraceArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let id = percent_encoding::utf8_percent_encode(&args.id, percent_encoding::NON_ALPHANUMERIC).to_string();
    let trace = match client.get(&format!("/api/v1/traces/{id}"), &[]).await {
        Ok(trace) => trace,
        Err(error) => return without_answer(error, args.server.json),
    };
    if args.server.json {
        print::line(&serde_json::to_string_pretty(&trace)?);
        return Ok(coverage(&trace));
    }
    waterfall(&trace, print::is_coloured());
    Ok(coverage(&trace))
}

/// Tells an error from "it is not there" and "that cannot be said".
fn without_answer(error: anyhow::Error, json: bool) -> anyhow::Result<Outcome> {
    let refusal = error.downcast_ref::<Refusal>();
    let Some((refusal, outcome)) = refusal.and_then(|refusal| Some((refusal, refusal.outcome()?))) else {
        return Err(error);
    };
    if json {
        print::line(&serde_json::to_string_pretty(&refusal.body)?);
    }
    print::error(&refusal.message);
    coverage(&refusal.body);
    Ok(outcome)
}

/// Columns of the time axis.
const BAR: usize = 40;
/// Columns of the name.
const NAME: usize = 56;

fn waterfall(trace: &Value, is_coloured: bool) {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let start = number(&trace["start_unix_nano"]);
    let total = trace["duration_nano"].as_f64().unwrap_or(0.0).max(1.0);
    print::line(&format!(
        "trace {}  ({})  {}  {} spans  {} logs  {} errors",
        trace["trace_id"].as_str().unwrap_or(""),
        trace["xray_trace_id"].as_str().unwrap_or(""),
        print::duration(total),
        trace["n_spans"],
        trace["n_logs"],
        trace["n_errors"]
    ));
    let column = |nanos: f64| ((nanos / total) * BAR as f64).clamp(0.0, BAR as f64) as usize;
    let logs = trace["logs"].as_array().cloned().unwrap_or_default();
    let print_log = |log: &Value, depth: usize| {
        let class = log["severity"].as_str().unwrap_or("UNSET");
        let letter = if class == "UNSET" { "-" } else { &class[..1] };
        print::line(&format!(
            "{:indent$}{} {}",
            "",
            print::severity(class, letter, is_coloured),
            print::safe(log["body"].as_str().unwrap_or(""), 140),
            indent = 2 * depth.min(16) + 2
        ));
    };
    for (index, span) in trace["spans"].as_array().into_iter().flatten().enumerate() {
        let depth = span["depth"].as_u64().unwrap_or(0) as usize;
        let offset = (number(&span["start_time_unix_nano"]) - start) as f64;
        let duration = span["duration_nano"].as_f64().unwrap_or(0.0);
        let (from, to) = (column(offset), column(offset + duration));
        let bar = format!(
            "{}{}{}",
            " ".repeat(from),
            "█".repeat((to - from).max(1)),
            " ".repeat(BAR.saturating_sub(to.max(from + 1)))
        );
        let is_error = span["status_code"] == "ERROR";
        let name = format!(
            "{:indent$}{} {}",
            "",
            span["service_name"].as_str().unwrap_or("-"),
            span["name"].as_str().unwrap_or(""),
            indent = 2 * depth.min(16)
        );
        let mark = if is_error {
            " E"
        } else if span["in_progress"] == true {
            " …"
        } else {
            ""
        };
        let bar = print::severity(if is_error { "ERROR" } else { "INFO" }, &bar, is_coloured);
        print::line(&format!("{:<NAME$} {bar} {}{mark}", print::safe(&name, NAME), print::duration(duration)));
        logs.iter()
            .filter(|log| log["span"].as_i64() == Some(index as i64))
            .for_each(|log| print_log(log, depth + 1));
    }
    let loose: Vec<&Value> = logs.iter().filter(|log| log["span"].as_i64() == Some(-1)).collect();
    if !loose.is_empty() {
        print::line("logs of the trace that name no span here:");
        loose.into_iter().for_each(|log| print_log(log, 0));
    }
}

pub(crate) async fn sql(args: SqlArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let request = client
        .request(reqwest::Method::POST, "/api/v1/sql")
        .json(&serde_json::json!({ "query": args.query, "limit": args.limit }));
    let answer: Value = client.send(request).await?.json().await?;
    if args.server.json {
        print::line(&serde_json::to_string_pretty(&answer)?);
        return Ok(coverage(&answer));
    }
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => print::safe(text, 120),
        other => print::safe(&other.to_string(), 120),
    };
    let header: Vec<String> = answer["columns"].as_array().into_iter().flatten().map(|column| text(&column["name"])).collect();
    let rows: Vec<Vec<String>> = answer["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row.as_array().into_iter().flatten().map(text).collect())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|i| {
            rows.iter()
                .chain([&header])
                .filter_map(|row| row.get(i))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print::line(cells.join("  ").trim_end());
    };
    line(&header);
    line(&widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    if answer["truncated"] == true {
        let advice = match rows.len() < args.limit {
            true => "the server gives no more in one answer: select less, or aggregate",
            false => "raise --limit",
        };
        print::error(&format!("only the first {} rows: {advice}", rows.len()));
    }
    Ok(coverage(&answer))
}

pub(crate) async fn alerts(args: AlertsArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let answer = client.get("/api/v1/alerts", &[]).await?;
    if args.server.json {
        print::line(&serde_json::to_string_pretty(&answer)?);
        return Ok(Outcome::Done);
    }
    let is_coloured = print::is_coloured();
    let alerts = answer["alerts"].as_array().cloned().unwrap_or_default();
    for alert in &alerts {
        let state = alert["state"].as_str().unwrap_or("");
        let colour = if state == "firing" {
            "ERROR"
        } else if state == "pending" {
            "WARN"
        } else {
            "DEBUG"
        };
        let text = |key: &str| print::safe(alert[key].as_str().unwrap_or(""), 200);
        let name = [text("rule"), text("group_key")].join(" ");
        print::line(&format!(
            "{} {}  {}",
            print::severity(colour, &format!("{state:<9}"), is_coloured),
            name.trim_end(),
            text("summary")
        ));
    }
    for rule in answer["rules"].as_array().into_iter().flatten() {
        if let Some(error) = rule["error"].as_str() {
            print::error(&format!("rule {}: {error}", rule["name"].as_str().unwrap_or("")));
        }
    }
    if alerts.is_empty() {
        print::error(&format!(
            "no alert is pending or firing; {} rules are evaluated",
            answer["rules"].as_array().map_or(0, Vec::len)
        ));
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Json;
    use axum::extract::Query;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    async fn server(router: axum::Router) -> ServerArgs {
        // another test may have done it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        ServerArgs { url, token: None, json: false }
    }

    #[tokio::test]
    async fn an_unknown_trace_is_not_found_and_an_unread_one_is_partial() {
        let error = |status: StatusCode, body: Value| get(move || async move { (status, Json(body)) });
        let unread = json!({ "error": { "code": "incomplete", "message": "?" }, "coverage": { "complete": false, "problems": [] } });
        let router = axum::Router::new()
            .route(
                "/api/v1/traces/1",
                error(StatusCode::NOT_FOUND, json!({ "error": { "code": "trace_not_found", "message": "no" } })),
            )
            .route("/api/v1/traces/2", error(StatusCode::SERVICE_UNAVAILABLE, unread))
            .route(
                "/api/v1/traces/3",
                error(StatusCode::BAD_REQUEST, json!({ "error": { "code": "bad_trace_id", "message": "no" } })),
            );
        let server = server(router).await;
        let ask = |id: &str| {
            trace(TraceArgs {
                id: id.into(),
                server: server.clone(),
            })
        };
        assert_eq!(ask("1").await.expect("an outcome"), Outcome::NotFound);
        assert_eq!(ask("2").await.expect("an outcome"), Outcome::Partial);
        assert!(ask("3").await.is_err());
        // a path that is not there is another server's word
        assert!(ask("4").await.is_err());
    }

    #[tokio::test]
    async fn a_high_limit_takes_several_pages_of_one_range() {
        let n_asked = Arc::new(AtomicUsize::new(0));
        let counted = n_asked.clone();
        let page = move |Query(asked): Query<std::collections::HashMap<String, String>>| async move {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let is_first = asked["cursor"].is_empty();
            assert_eq!(
                (is_first, asked["start"] == "1h", asked["start"] == "5"),
                (number == 0, number == 0, number > 0)
            );
            // as a server that gives fewer than were asked for
            let n_hits = asked["limit"].parse::<usize>().map_or(0, |limit| limit.min(3_000));
            Json(json!({
                "hits": vec![json!({ "body": "x" }); n_hits],
                "next_cursor": format!("{number}.0"),
                "coverage": { "start_unix_nano": "5", "end_unix_nano": "9", "complete": number != 2, "problems": [{ "kind": "corrupt" }, { "kind": "limit", "what": number }] },
                "took_ms": 1.5,
            }))
        };
        let server = server(axum::Router::new().route("/api/v1/search", get(page))).await;
        let args = SearchArgs {
            query: String::new(),
            since: "1h".into(),
            until: "now".into(),
            limit: 7_000,
            table: "logs".into(),
            follow: false,
            server: server.clone(),
        };
        let client = Client::new(server).expect("a client");
        let answer = pages(&client, &args).await.expect("an answer");
        assert_eq!(answer["hits"].as_array().map(Vec::len), Some(7_000));
        assert_eq!(n_asked.load(Ordering::SeqCst), 3);
        assert_eq!((&answer["next_cursor"], &answer["took_ms"]), (&json!("2.0"), &json!(4.5)));
        assert_eq!(answer["coverage"]["complete"], false);
        assert_eq!(answer["coverage"]["problems"], json!([{ "kind": "corrupt" }, { "kind": "limit", "what": 2 }]));
    }
}
