//! The command line: a table of commands to functions.
//!
//! Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or
//! configuration, 3 the answer is partial (its coverage says why), 4 nothing found.

mod client;
mod delete;
mod deliver;
mod generate;
mod lake;
mod node;
mod print;
mod rules;
mod serve;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Logs, metrics and traces from AWS and OpenTelemetry clients: correlated, searchable at once, kept as Parquet.
#[derive(Debug, Parser)]
#[command(name = "tracelake", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole thing on embedded defaults: a simulated shop of eight services, an incident after a minute.
    Demo(serve::DemoArgs),
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Search a running server's logs or spans, or follow them.
    Search(client::SearchArgs),
    /// Show one trace with its logs as a waterfall; takes its ID in any spelling.
    Trace(client::TraceArgs),
    /// Ask a running server in SQL.
    Sql(client::SqlArgs),
    /// Delete rows for good, by a query: a person's data.
    Delete(delete::DeleteArgs),
    /// Work with the nodes that write to one store.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// List the states of alert rules.
    Alerts(client::AlertsArgs),
    /// Work with alert rules.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Work with the Parquet files in the store.
    #[command(subcommand)]
    Lake(lake::LakeCommand),
    /// Look into the log ahead of the blocks.
    #[command(subcommand)]
    Wal(wal::WalCommand),
    /// Work with what could not be delivered.
    #[command(subcommand)]
    Deliver(deliver::DeliverCommand),
    /// Work with configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Send seeded load to a server over its real protocols.
    Generate(generate::GenerateArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a file offline; every mistake is listed.
    Check {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective configuration, secrets redacted.
    Print {
        /// The file; without one, the defaults.
        file: Option<PathBuf>,
    },
}

/// Where the server is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Address of the server.
    #[arg(long, env = "TRACELAKE_URL", default_value = "http://127.0.0.1:7070", global = true)]
    url: String,
    /// Bearer token, if the server asks for one.
    #[arg(long, env = "TRACELAKE_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Partial,
    NotFound,
    Unusable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Unusable => 2,
            Outcome::Partial => 3,
            Outcome::NotFound => 4,
        })
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    // reqwest and the AWS clients take the process' default
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "this is where errors reach the person")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Demo(args) => serve::demo(args).await,
        Command::Serve(args) => serve::serve(args).await,
        Command::Search(args) => client::search(args).await,
        Command::Trace(args) => client::trace(args).await,
        Command::Sql(args) => client::sql(args).await,
        Command::Delete(args) => delete::run(args).await,
        Command::Node(command) => node::run(command).await,
        Command::Alerts(args) => client::alerts(args).await,
        Command::Rules(command) => rules::run(command),
        Command::Lake(command) => lake::run(command).await,
        Command::Wal(command) => wal::run(command),
        Command::Deliver(command) => deliver::run(command).await,
        Command::Config(command) => config(command),
        Command::Generate(args) => generate::run(args).await,
    }
}

fn config(command: ConfigCommand) -> anyhow::Result<Outcome> {
    let read = |file: &PathBuf| crate::config::Config::from_file(file);
    match command {
        ConfigCommand::Check { file, json } => {
            let mistakes = read(&file).err().map(|errors| errors.0).unwrap_or_default();
            if json {
                let answer = serde_json::json!({ "file": file, "valid": mistakes.is_empty(), "mistakes": mistakes });
                print::line(&serde_json::to_string_pretty(&answer)?);
            } else if mistakes.is_empty() {
                print::line(&format!("{} is valid", file.display()));
            } else {
                print::error(&mistakes.join("\n"));
            }
            Ok(if mistakes.is_empty() { Outcome::Done } else { Outcome::Unusable })
        }
        ConfigCommand::Print { file } => {
            let config = file.as_ref().map_or_else(|| Ok(crate::config::Config::default()), read)?;
            print::line(config.to_toml()?.trim_end());
            Ok(Outcome::Done)
        }
    }
}
