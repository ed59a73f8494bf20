//! All settings: gathered from the parts, read from one TOML file, checked together.
//!
//! Nobody else reads files or the environment for settings. Unknown keys are errors; every section's mistakes are
//! reported at once. `config/tracelake.toml` shows each key with its default, unit and reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::net::{auth, listen};
use crate::{access, alert, assemble, block, collect, deliver, ingest, query, receive, storage, telemetry, wal};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Config {
    /// Where tracelake keeps what the store does not have yet.
    pub server: Server,
    /// `[telemetry]`
    pub telemetry: telemetry::Config,
    /// `[auth]`
    pub auth: auth::Config,
    /// `[aws]`
    pub aws: access::Config,
    /// `[tls]`
    pub tls: listen::TlsConfig,
    /// `[receive]`
    pub receive: receive::Config,
    /// `[otlp]`
    pub otlp: receive::otlp::Config,
    /// `[awslogs]`
    pub awslogs: receive::awslogs::Config,
    /// `[insights]`
    pub insights: receive::awslogs::InsightsConfig,
    /// `[xray]`
    pub xray: receive::xray::Config,
    /// `[firehose]`
    pub firehose: receive::firehose::Config,
    /// `[collect]`
    pub collect: collect::Config,
    /// `[store]`
    pub store: storage::Config,
    /// `[wal]`
    pub wal: wal::Config,
    /// `[ingest]`
    pub ingest: ingest::Config,
    /// `[node]`
    pub node: ingest::NodeConfig,
    /// `[block]`
    pub block: block::Settings,
    /// `[lake]`
    pub lake: ingest::MaintainConfig,
    /// `[retention]`
    pub retention: ingest::RetentionConfig,
    /// `[query]`
    pub query: query::Config,
    /// `[assemble]`
    pub assemble: assemble::Config,
    /// `[deliver]`
    pub deliver: deliver::Config,
    /// `[alert]`
    pub alert: alert::Options,
}

/// `[server]`: addresses, folders, our own log.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Folder of the log ahead, the cache and, unless `[store]` says otherwise, the store.
    pub data_dir: PathBuf,
    /// Pages, API, AWS faces, OTLP/HTTP.
    pub http: String,
    /// OTLP/gRPC; empty = off.
    pub otlp_grpc: String,
    /// OTLP/HTTP on its own port; empty = off.
    pub otlp_http: String,
    /// X-Ray daemon protocol, UDP and TCP; empty = off.
    pub xray: String,
    /// How people reach the pages, for links in notifications; empty = `http://` + `http`.
    pub public_url: String,
    /// Our own log: a `tracing` filter such as `info` or `tracelake=debug`.
    pub log_filter: String,
    /// Our own log as JSON lines.
    pub log_json: bool,
    /// Seconds that a stop may take to flush.
    pub drain_seconds: u64,
    /// Connections of one port that are served at once (4,096); more wait to be accepted.
    pub max_connections: usize,
    /// Serve addresses beyond loopback without authentication (warned of at every start).
    pub insecure_no_auth: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            data_dir: "./tracelake-data".into(),
            http: "127.0.0.1:7070".into(),
            otlp_grpc: "127.0.0.1:4317".into(),
            otlp_http: "127.0.0.1:4318".into(),
            xray: "127.0.0.1:2000".into(),
            public_url: String::new(),
            log_filter: "info".into(),
            log_json: false,
            drain_seconds: 30,
            max_connections: 4_096,
            insecure_no_auth: false,
        }
    }
}

/// Everything that is wrong, at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Errors(pub Vec<String>);

impl Config {
    /// Reads and checks a file.
    pub fn from_file(path: &Path) -> Result<Config, Errors> {
        let text = std::fs::read_to_string(path).map_err(|error| Errors(vec![format!("{}: {error}", path.display())]))?;
        Self::from_toml(&text).map_err(|errors| Errors(errors.0.into_iter().map(|line| format!("{}: {line}", path.display())).collect()))
    }

    /// Reads a file of which the command line overrides parts: the values are to be checked ([`problems`](Self::problems))
    /// once they are all there. With it come the mistakes in the file itself; only one that is no TOML gives nothing.
    pub fn read_unchecked(path: &Path) -> Result<(Config, Vec<String>), Errors> {
        let in_file = |mistakes: Vec<String>| -> Vec<String> { mistakes.into_iter().map(|line| format!("{}: {line}", path.display())).collect() };
        let text = std::fs::read_to_string(path).map_err(|error| Errors(in_file(vec![error.to_string()])))?;
        match Self::sections(&text) {
            Ok((config, mistakes)) => Ok((config, in_file(mistakes))),
            Err(errors) => Err(Errors(in_file(errors.0))),
        }
    }

    /// Reads and checks TOML.
    pub fn from_toml(text: &str) -> Result<Config, Errors> {
        let (config, mut errors) = Self::sections(text)?;
        errors.extend(config.problems());
        if errors.is_empty() { Ok(config) } else { Err(Errors(errors)) }
    }

    /// The sections as they are written, and those that cannot be read.
    fn sections(text: &str) -> Result<(Config, Vec<String>), Errors> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Errors(vec![error.to_string()]))?;
        let mut config = Config::default();
        let mut errors = Vec::new();
        for (section, value) in table {
            let mistakes = match section.as_str() {
                "server" => set(&mut config.server, value),
                "telemetry" => set(&mut config.telemetry, value),
                "auth" => set(&mut config.auth, value),
                "aws" => set(&mut config.aws, value),
                "tls" => set(&mut config.tls, value),
                "receive" => set(&mut config.receive, value),
                "otlp" => set(&mut config.otlp, value),
                "awslogs" => set(&mut config.awslogs, value),
                "insights" => set(&mut config.insights, value),
                "xray" => set(&mut config.xray, value),
                "firehose" => set(&mut config.firehose, value),
                "collect" => set(&mut config.collect, value),
                "store" => set(&mut config.store, value),
                "wal" => set(&mut config.wal, value),
                "ingest" => set(&mut config.ingest, value),
                "node" => set(&mut config.node, value),
                "block" => set(&mut config.block, value),
                "lake" => set(&mut config.lake, value),
                "retention" => set(&mut config.retention, value),
                "query" => set(&mut config.query, value),
                "assemble" => set(&mut config.assemble, value),
                "deliver" => set(&mut config.deliver, value),
                "alert" => set(&mut config.alert, value),
                _ => vec![format!("unknown section; there are {SECTIONS}")],
            };
            errors.extend(mistakes.into_iter().map(|mistake| format!("[{section}] {mistake}")));
        }
        Ok((config, errors))
    }

    /// What is wrong with the values taken together.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |is_fine: bool, message: String| {
            if !is_fine {
                problems.push(message);
            }
        };
        let server = &self.server;
        for (name, address) in [
            ("http", &server.http),
            ("otlp_grpc", &server.otlp_grpc),
            ("otlp_http", &server.otlp_http),
            ("xray", &server.xray),
        ] {
            let is_off = address.is_empty() && name != "http";
            check(
                is_off || address.parse::<std::net::SocketAddr>().is_ok() || address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
                format!("[server] {name} = {address:?} is not HOST:PORT"),
            );
            let is_open = is_off || listen::is_loopback(address) || server.insecure_no_auth || (self.auth.is_required() && name != "xray");
            check(
                is_open,
                format!(
                    "[server] {name} = {address:?} is reachable from other machines: set [auth] bearer_tokens{}, or start with --insecure-no-auth",
                    if name == "xray" {
                        " for the other faces and keep this one on loopback (the X-Ray daemon protocol has no authentication)"
                    } else {
                        ""
                    }
                ),
            );
        }
        check(
            self.tls.cert_file.as_os_str().is_empty() == self.tls.key_file.as_os_str().is_empty(),
            "[tls] cert_file and key_file go together".into(),
        );
        check(
            self.auth.bearer_tokens.iter().all(|token| token.len() >= 8),
            "[auth] bearer_tokens: each token needs at least 8 characters".into(),
        );
        check(
            self.ingest.flush_bytes <= self.ingest.pace_bytes && self.ingest.flush_bytes <= self.ingest.max_head_bytes,
            "[ingest] flush_bytes must not be above pace_bytes or max_head_bytes".into(),
        );
        check(
            self.ingest.flush_bytes > 0 && self.ingest.flush_rows > 0,
            "[ingest] flush_bytes and flush_rows must be positive".into(),
        );
        check(
            self.ingest.max_in_flight_bytes >= self.otlp.max_inflated_bytes.min(self.otlp.max_body_bytes),
            "[ingest] max_in_flight_bytes must hold at least one OTLP body of [otlp] max_body_bytes".into(),
        );
        check(
            self.ingest.max_in_flight_bytes >= self.firehose.max_body_bytes && self.receive.max_memory_bytes >= self.firehose.max_body_bytes,
            "[firehose] max_body_bytes must not be above [ingest] max_in_flight_bytes or [receive] max_memory_bytes".into(),
        );
        check(
            self.receive.max_memory_bytes >= self.otlp.max_inflated_bytes.max(self.otlp.max_body_bytes),
            "[receive] max_memory_bytes must hold at least one OTLP body of [otlp] max_body_bytes and max_inflated_bytes".into(),
        );
        problems.extend(self.block.problems());
        problems.extend(self.aws.problems());
        problems.extend(self.query.problems());
        problems.extend(self.awslogs.problems());
        problems.extend(self.insights.problems());
        problems.extend(self.xray.problems());
        problems.extend(self.firehose.problems());
        problems.extend(self.collect.problems());
        problems.extend(self.assemble.problems());
        problems.extend(self.deliver.problems());
        problems.extend(self.node.problems());
        problems.extend(self.retention.problems());
        problems.extend(self.lake.problems(Duration::from_secs(self.query.timeout_seconds)));
        problems
    }

    /// The effective configuration as TOML, secrets redacted.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The access keys of `[aws]`, with their secrets out of the environment and files.
    pub fn access_keys(&self) -> access::Result<Vec<Arc<access::AccessKey>>> {
        self.aws.open(&|name| std::env::var(name).ok())
    }

    /// How people reach the pages.
    pub fn public_url(&self, http: &std::net::SocketAddr) -> String {
        if self.server.public_url.is_empty() {
            let scheme = if self.tls.cert_file.as_os_str().is_empty() { "http" } else { "https" };
            return format!("{scheme}://{http}");
        }
        self.server.public_url.trim_end_matches('/').to_string()
    }
}

const SECTIONS: &str = "server, telemetry, auth, aws, tls, receive, otlp, awslogs, insights, xray, firehose, collect, store, wal, ingest, node, block, lake, retention, query, assemble, deliver, alert";

/// Reads a section. Each key is read alone first, so that every mistake is told, and with the name of its key; a section
/// with a mistake stays as it was.
fn set<T: DeserializeOwned>(slot: &mut T, section: toml::Value) -> Vec<String> {
    let toml::Value::Table(keys) = &section else {
        return vec!["is a section, not a value".into()];
    };
    let mistakes: Vec<String> = keys
        .iter()
        .filter_map(|(key, value)| {
            let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
            let error = serde_path_to_error::deserialize::<_, T>(toml::Value::Table(alone)).err()?;
            let path = error.path().to_string();
            let path = if path.starts_with(key.as_str()) { path } else { key.clone() };
            Some(format!("{path}: {}", error.inner().message()))
        })
        .collect();
    if mistakes.is_empty() {
        match section.try_into() {
            Ok(read) => *slot = read,
            Err(error) => return vec![error.message().to_string()],
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../config/tracelake.toml");

    #[test]
    fn the_reference_file_shows_every_key_with_its_default() {
        // as shipped, everything is commented out
        assert_eq!(Config::from_toml(REFERENCE).expect("valid"), Config::default());
        // uncommented, it still is the defaults, and no key is missing
        let uncommented: String = REFERENCE
            .lines()
            .filter_map(|line| match line.strip_prefix("#: ") {
                Some(setting) => Some(setting),
                None => (!line.starts_with('#')).then_some(line),
            })
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(Config::from_toml(&uncommented).expect("valid"), Config::default());
        let shown: toml::Table = uncommented.parse().expect("TOML");
        let all: toml::Table = Config::default().to_toml().expect("TOML").parse().expect("TOML");
        for (section, keys) in &all {
            for key in keys.as_table().expect("sections are tables").keys() {
                assert!(
                    shown.get(section).and_then(|s| s.get(key)).is_some(),
                    "config/tracelake.toml lacks [{section}] {key}"
                );
            }
        }
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let errors = Config::from_toml("[server]\nhttp = 'nowhere'\n[wal]\nsegmentbytes = 1\n[tls]\ncert_file = 'a'\n[nosuch]\n").expect_err("four mistakes");
        let text = errors.to_string();
        for part in ["nowhere", "segmentbytes", "go together", "[nosuch]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn merges_may_be_slow_but_not_stand_still() {
        for (bytes, is_refused) in [(0, false), (1, true), ((1 << 20) - 1, true), (1 << 20, false)] {
            let told = Config::from_toml(&format!("[lake]\nmax_bytes_per_second = {bytes}\n")).map(|_| ());
            let told = told.map_err(|error| error.to_string());
            assert_eq!(told.is_err(), is_refused, "{bytes}: {told:?}");
            assert!(
                told.is_ok() || told.is_err_and(|told| told.contains("[lake] max_bytes_per_second = ")),
                "{bytes}"
            );
        }
    }

    #[test]
    fn blocks_are_not_deleted_under_a_query() {
        let config = |grace: u64, timeout: u64| Config::from_toml(&format!("[lake]\nremoved_grace_seconds = {grace}\n[query]\ntimeout_seconds = {timeout}\n"));
        assert!(config(31, 30).is_ok());
        let refused = config(30, 30).expect_err("too short").to_string();
        assert!(refused.contains("removed_grace_seconds") && refused.contains("set 31"), "{refused}");
        assert!(config(3_600, 86_400).is_err());
    }

    #[test]
    fn a_mistake_in_an_access_key_is_told_with_its_place_and_its_secret_is_not() {
        let key = "[[aws.keys]]\naccess_key_id = 'AKID'\nsecret_access_key = 'hunter2hunter2'\n";
        let errors = Config::from_toml(&format!("{key}rights = ['all']\n")).expect_err("no such right").to_string();
        assert!(errors.contains("[aws] keys[0].rights[0]") && errors.contains("`all`"), "{errors}");
        let errors = Config::from_toml(&format!("{key}service = []\nrights = ['read']\n"))
            .expect_err("no such key")
            .to_string();
        assert!(errors.contains("service") && !errors.contains("hunter2"), "{errors}");
        let config = Config::from_toml(&format!("{key}rights = ['read']\n")).expect("valid");
        let printed = config.to_toml().expect("TOML");
        assert!(printed.contains("AKID") && !printed.contains("hunter2"), "{printed}");
        assert_eq!(config.access_keys().expect("a key")[0].id(), "AKID");
    }

    #[test]
    fn links_have_one_setting() {
        assert!(Config::from_toml("[alert]\npublic_url = 'https://a.example'\n").is_err());
        let config = Config::from_toml("[server]\npublic_url = 'https://a.example/'\n").expect("valid");
        assert_eq!(config.public_url(&std::net::SocketAddr::from(([127, 0, 0, 1], 7070))), "https://a.example");
    }

    #[test]
    fn other_machines_need_authentication() {
        let open = "[server]\nhttp = '0.0.0.0:7070'\n";
        assert!(Config::from_toml(open).expect_err("refused").to_string().contains("--insecure-no-auth"));
        assert!(Config::from_toml(&format!("{open}insecure_no_auth = true\n")).is_ok());
        assert!(Config::from_toml(&format!("{open}[auth]\nbearer_tokens = ['longenough']\n")).is_ok());
        // keys open the AWS faces alone
        let key = "[[aws.keys]]\naccess_key_id = 'AKID'\nsecret_access_key = 'longenough'\nrights = ['write']\n";
        assert!(Config::from_toml(&format!("{open}{key}")).is_err());
        assert!(Config::from_toml("[server]\nxray = '0.0.0.0:2000'\n[auth]\nbearer_tokens = ['longenough']\n").is_err());
    }
}
