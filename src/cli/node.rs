//! `tracelake node forget`: gives up a node whose disk is lost.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Client;
use super::{Outcome, ServerArgs, print};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Give up a node whose disk is lost: deletes no longer wait for its log. What it acknowledged and had not flushed is lost.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Its ID, as in /api/v1/status.
    id: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(command: NodeCommand) -> anyhow::Result<Outcome> {
    match command {
        NodeCommand::Forget(args) => forget(args).await,
    }
}

async fn forget(args: ForgetArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(args.server.clone())?;
    let question = format!("forget node {}, with what it acknowledged and has not flushed?", args.id);
    if !args.yes && !super::delete::is_meant(&question, "say --yes to forget a node without being asked") {
        return Ok(Outcome::Unusable);
    }
    let answer = client.post("/api/v1/nodes/forget", &json!({ "node": args.id })).await?;
    if args.server.json {
        print::line(&serde_json::to_string_pretty(&answer)?);
        return Ok(Outcome::Done);
    }
    let lost = answer["lost"].as_str().unwrap_or_default();
    print::line(&format!("no delete waits for node {} any more. Lost is {lost}", args.id));
    Ok(Outcome::Done)
}
