//! `tracelake delete`: says what a query means, asks, gives the order, and waits until the rows are gone.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::{Outcome, ServerArgs, print};

/// Between two looks at how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Which rows, in the search language, e.g. 'user.email:="a@b.example"'.
    #[arg(long)]
    query: String,
    /// From when: a time or how long ago.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// Until when.
    #[arg(long, allow_hyphen_values = true)]
    to: String,
    /// Delete spans instead of logs.
    #[arg(long, value_parser = ["logs", "spans"], default_value = "logs")]
    table: String,
    /// Only say how many rows match.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let json = args.server.json;
    let order = |dry_run: bool, from: &str, to: &str| json!({ "table": args.table, "query": args.query, "from": from, "to": to, "dry_run": dry_run });
    let matched = client.post("/api/v1/delete", &order(true, &args.from, &args.to)).await?;
    let n_rows = matched["rows"].as_u64().unwrap_or_default();
    if args.dry_run {
        if json {
            print::line(&serde_json::to_string_pretty(&matched)?);
        } else {
            print::line(&format!("{n_rows} rows of {} match", args.table));
        }
        return Ok(super::client::coverage(&matched));
    }
    if super::client::coverage(&matched) == Outcome::Partial {
        print::error("not everything could be read: more rows than these may match, and they will be deleted too");
    }
    let question = format!("delete {n_rows} rows of {} for good?", args.table);
    if !args.yes && !is_meant(&question, "say --yes to delete without being asked") {
        return Ok(Outcome::Unusable);
    }
    // `now` and `1h` ago move: the order is of the range that was counted
    let (from, to) = (matched["from_unix_nano"].as_str(), matched["to_unix_nano"].as_str());
    let ordered = client
        .post("/api/v1/delete", &order(false, from.unwrap_or(&args.from), to.unwrap_or(&args.to)))
        .await?;
    let id = ordered["id"].as_str().unwrap_or_default();
    let delete = wait(&client, id, json).await?;
    if json {
        print::line(&serde_json::to_string_pretty(&delete)?);
    } else {
        print::line(&format!("{} rows of {} are deleted", delete["rows_deleted"], args.table));
    }
    let behind: Vec<&str> = delete["nodes_behind"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !behind.is_empty() {
        print::error(&format!(
            "further rows may lie in the logs of {}: each leaves them out when it flushes. Of a node whose disk is lost: `tracelake node forget ID`",
            behind.join(", ")
        ));
        return Ok(Outcome::Partial);
    }
    Ok(Outcome::Done)
}

/// Asks the person; without one it is not meant.
pub(super) fn is_meant(question: &str, without_person: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        print::error(without_person);
        return false;
    }
    print::error(&format!("{question} type yes:"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// Waits until the rows are gone here; other nodes may take longer.
async fn wait(client: &Client, id: &str, json: bool) -> anyhow::Result<Value> {
    let mut told = u64::MAX;
    loop {
        let all = client.get("/api/v1/deletes", &[]).await?;
        let ours = all["deletes"].as_array().into_iter().flatten().find(|delete| delete["id"] == id);
        let ours = ours.ok_or_else(|| anyhow::anyhow!("the server does not know delete {id} any more"))?;
        if ours["state"] != "running" {
            return Ok(ours.clone());
        }
        let left = ours["blocks_left"].as_u64().unwrap_or_default();
        if left != told && !json {
            print::error(&format!("{left} blocks to look at, {} rows deleted", ours["rows_deleted"]));
            told = left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
