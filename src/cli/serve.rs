//! `serve` and `demo`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{Outcome, print};
use crate::app::App;
use crate::config::{Config, Errors};
use crate::generate::send::Targets;
use crate::generate::shop;
use crate::model::SystemClock;

/// Where settings, data and blocks are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Configuration file (TOML); without one, embedded defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of the log, the cache and, unless --store says otherwise, the store.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where blocks go: a folder, or s3://bucket/prefix.
    #[arg(long)]
    store: Option<String>,
}

impl Place {
    /// What file and flags say, and what is wrong in the file; to be judged when all other flags are known too.
    pub(crate) fn config(self) -> Result<(Config, Vec<String>), Errors> {
        let (mut config, problems) = match &self.config {
            Some(file) => Config::read_unchecked(file)?,
            None => (Config::default(), Vec::new()),
        };
        if let Some(data_dir) = self.data_dir {
            config.server.data_dir = data_dir;
        }
        if let Some(store) = self.store {
            config.store.url = store;
        }
        Ok((config, problems))
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// Address of pages, API and AWS faces; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address of OTLP/gRPC; empty = off.
    #[arg(long, value_name = "ADDR")]
    otlp_grpc: Option<String>,
    /// Address of OTLP/HTTP; empty = off.
    #[arg(long, value_name = "ADDR")]
    otlp_http: Option<String>,
    /// Address of the X-Ray daemon protocol (UDP and TCP); empty = off.
    #[arg(long, value_name = "ADDR")]
    xray: Option<String>,
    /// Folder of alert rules.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Take over at once what this node did for all (alerts), although its heartbeat may still be fresh.
    #[arg(long, value_name = "NODE")]
    adopt: Option<String>,
    /// Serve addresses beyond loopback without authentication.
    #[arg(long)]
    insecure_no_auth: bool,
    /// Print the effective configuration, secrets redacted, and stop.
    #[arg(long)]
    print_config: bool,
    /// Places at which the process is to die, for tests.
    #[arg(long, hide = true, value_name = "POINTS")]
    fail_points: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Seconds until the incident starts.
    #[arg(long, default_value_t = 60)]
    incident_after: u64,
    /// Seed of the simulated shop.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Address of the page; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    http: String,
    /// Use free ports for the other protocols too.
    #[arg(long)]
    free_ports: bool,
    /// Stop after so many seconds; without it, on Ctrl-C.
    #[arg(long)]
    stop_after: Option<u64>,
}

impl ServeArgs {
    fn into_config(self) -> Result<Config, Errors> {
        // what the file says is judged together with what the flags say
        let (mut config, mut problems) = self.place.config()?;
        let server = &mut config.server;
        for (value, slot) in [
            (self.http, &mut server.http),
            (self.otlp_grpc, &mut server.otlp_grpc),
            (self.otlp_http, &mut server.otlp_http),
            (self.xray, &mut server.xray),
        ] {
            if let Some(value) = value {
                *slot = value;
            }
        }
        server.insecure_no_auth |= self.insecure_no_auth;
        config.node.adopt = self.adopt;
        if let Some(rules) = self.rules {
            config.alert.rules = Some(rules);
        }
        problems.extend(config.problems());
        if problems.is_empty() { Ok(config) } else { Err(Errors(problems)) }
    }
}

pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<Outcome> {
    let print_config = args.print_config;
    if let Some(points) = &args.fail_points {
        if let Err(mistake) = crate::fail_point::arm(points) {
            print::error(&mistake);
            return Ok(Outcome::Unusable);
        }
        print::error(&format!("this server dies on purpose at {points}"));
    }
    let config = match args.into_config() {
        Ok(config) => config,
        Err(errors) => {
            print::error(&errors.to_string());
            return Ok(Outcome::Unusable);
        }
    };
    if print_config {
        print::line(config.to_toml()?.trim_end());
        return Ok(Outcome::Done);
    }
    crate::telemetry::init(&config.server.log_filter, config.server.log_json, &config.telemetry);
    if config.server.insecure_no_auth && !config.auth.is_required() {
        tracing::warn!("--insecure-no-auth: anyone who reaches these addresses can read and write everything");
    }
    let stopped = stop_signal()?;
    let app = App::start(config).await?;
    let addresses = app.addresses();
    let ready = json!({
        "event": "ready",
        "http": addresses.http.to_string(),
        "otlp_grpc": addresses.otlp_grpc.map(|a| a.to_string()),
        "otlp_http": addresses.otlp_http.map(|a| a.to_string()),
        "xray": addresses.xray.map(|a| a.to_string()),
    });
    print::line(&ready.to_string());
    let superseded = tokio::select! {
        () = stopped => None,
        why = app.superseded() => Some(why),
    };
    app.drain().await;
    match superseded {
        Some(why) => Err(anyhow::Error::msg(why)),
        None => Ok(Outcome::Done),
    }
}

/// Resolves at SIGTERM or Ctrl-C.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The rule that fires in the demo.
const DEMO_RULE: &str = include_str!("../../config/rules/payment-errors.yaml");

pub(crate) async fn demo(args: DemoArgs) -> anyhow::Result<Outcome> {
    crate::telemetry::init("warn", false, &crate::telemetry::Config::default());
    let folder = tempfile::Builder::new()
        .prefix("tracelake-demo-")
        .tempdir()
        .context("cannot create a temporary folder")?;
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules)?;
    std::fs::write(rules.join("payment-errors.yaml"), DEMO_RULE)?;
    let mut config = Config::default();
    config.server.data_dir = folder.path().join("data");
    config.server.http = args.http;
    if args.free_ports {
        for address in [&mut config.server.otlp_grpc, &mut config.server.otlp_http, &mut config.server.xray] {
            *address = "127.0.0.1:0".into();
        }
    }
    config.alert.rules = Some(rules);
    // notifications stay here: the demo needs no AWS account
    config.alert.sns_enabled = false;
    config.ingest.flush_age_seconds = 30;
    let stopped = stop_signal()?;
    let app = App::start(config)
        .await
        .context("the demo could not start: is a port taken? try --http 127.0.0.1:0 --free-ports")?;
    let addresses = app.addresses().clone();
    let http = format!("http://{}", addresses.http);
    print::line(&format!(
        "tracelake demo: a shop of eight services sends logs, spans and metrics over OTLP, PutLogEvents and X-Ray UDP.\n\n  \
         page     {http}/\n  \
         try      service:payment severity>=WARN          in the search bar, then `o` on a line opens its trace\n  \
         alerts   {http}/ui/alerts     payment starts failing in {} s, and a rule fires soon after\n  \
         CLI      tracelake search --url {http} 'severity>=ERROR' --since 5m\n  \
         SQL      tracelake sql --url {http} \"SELECT service_name, count(*) AS n FROM logs GROUP BY 1 ORDER BY n DESC\"\n\n\
         Notifications (what SNS would send) are printed here. Ctrl-C stops; nothing is kept.\n",
        args.incident_after
    ));
    print::line(&json!({ "event": "ready", "http": addresses.http.to_string() }).to_string());

    let stop = tokio_util::sync::CancellationToken::new();
    let options = shop::Options {
        seed: args.seed,
        incident_after: std::time::Duration::from_secs(args.incident_after),
        ..shop::Options::default()
    };
    let targets = Targets {
        otlp_http: format!("http://{}", addresses.otlp_http.unwrap_or(addresses.http)),
        http: http.clone(),
        xray: addresses.xray.map(|address| address.to_string()).unwrap_or_default(),
        token: None,
    };
    let shop = shop::run(options, targets, std::sync::Arc::new(SystemClock), stop.clone());
    let mut notifications = app.server().alerting.subscribe();
    let printing = async {
        loop {
            let notification = match notifications.recv().await {
                Ok(notification) => notification,
                Err(RecvError::Lagged(missed)) => {
                    print::line(&format!("{missed} notifications are not shown here; GET {http}/api/v1/notifications has them"));
                    continue;
                }
                Err(RecvError::Closed) => break,
            };
            print::line(&format!(
                "──── notification ────\n{}\n\n{}\n──────────────────────",
                notification.subject, notification.message
            ));
        }
        std::future::pending::<()>().await;
    };
    let time_is_up = async {
        match args.stop_after {
            Some(seconds) => tokio::time::sleep(std::time::Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopped => {}
        () = time_is_up => {}
        () = printing => {}
        result = shop => drop(result.context("the simulated shop stopped")?),
    }
    stop.cancel();
    app.drain().await;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn config(file: &str, flags: &[&str]) -> Result<Config, Errors> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tracelake.toml");
        std::fs::write(&path, file).expect("written");
        let line = ["serve", "--config", path.to_str().expect("a path")].into_iter().chain(flags.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).expect("flags").args.into_config()
    }

    #[test]
    fn flags_count_before_the_file_is_judged() {
        let open = "[server]\nhttp = '0.0.0.0:7070'\n";
        assert!(config(open, &[]).expect_err("open").to_string().contains("--insecure-no-auth"));
        assert!(config(open, &["--insecure-no-auth"]).expect("allowed").server.insecure_no_auth);
        assert_eq!(config(open, &["--http", "127.0.0.1:0"]).expect("closed").server.http, "127.0.0.1:0");
        let both = config("[server]\nhttp = '0.0.0.0:7070'\n[wal]\nnosuch = 1\n", &[])
            .expect_err("two")
            .to_string();
        assert!(both.contains("nosuch") && both.contains("--insecure-no-auth"), "{both}");
        assert!(config("[server", &[]).expect_err("no TOML").to_string().contains("tracelake.toml"));
    }
}
