//! `generate`: seeded load over real protocols.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Outcome, print};
use crate::generate::load;
use crate::model::{Signal, SystemClock};

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// OTLP/HTTP address of the server.
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    otlp_http: String,
    /// Bearer token, if the server asks for one.
    #[arg(long, env = "TRACELAKE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Records to send.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Records a second; without it, as fast as they are taken.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections that send at once.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Seed of the data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to send: logs, traces, metrics.
    #[arg(long, value_delimiter = ',', default_value = "logs", value_parser = ["logs", "traces", "metrics"])]
    signals: Vec<String>,
    /// Records of one request.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Compress requests.
    #[arg(long)]
    gzip: bool,
    /// Seconds of event time over which records spread.
    #[arg(long, default_value_t = 3_600)]
    spread: u64,
    /// Seconds before now at which that time ends.
    #[arg(long, default_value_t = 0)]
    ago: u64,
    /// Let event times begin now and go on at the rate, instead.
    #[arg(long, requires = "rate", conflicts_with_all = ["spread", "ago"])]
    live: bool,
    /// Give each log record its number as the attribute `load.number`.
    #[arg(long)]
    numbered: bool,
}

pub(crate) async fn run(args: GenerateArgs) -> anyhow::Result<Outcome> {
    let signals = args.signals.iter().map(|name| match name.as_str() {
        "traces" => Signal::Traces,
        "metrics" => Signal::Metrics,
        _ => Signal::Logs,
    });
    let options = load::Options {
        otlp_http: args.otlp_http,
        token: args.token,
        records: args.records,
        rate: args.rate,
        connections: args.connections,
        seed: args.seed,
        signals: signals.collect(),
        batch: args.batch,
        gzip: args.gzip,
        spread: Duration::from_secs(args.spread),
        ago: Duration::from_secs(args.ago),
        live: args.live,
        numbered: args.numbered,
    };
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    let report = load::run(options, &SystemClock, stop).await?;
    print::line(&serde_json::to_string(&report)?);
    Ok(if report.given_up == 0 { Outcome::Done } else { Outcome::Partial })
}
