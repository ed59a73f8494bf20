//! `[aws]`: the access keys and what signatures must be like.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::key::AccessKey;
use super::operation::{Right, SERVICES};
use crate::storage::Secret;

/// AWS' own keys have 16 to 128 characters; shorter ones are for tests.
const MAX_KEY_ID_BYTES: usize = 128;
/// A secret shorter than this is a mistake.
const MIN_SECRET_BYTES: usize = 8;
/// A file of one secret.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds that a signature's time may differ from ours (300, as at AWS).
    pub clock_skew_seconds: u64,
    /// Regions that signatures may name; none = any.
    pub regions: Vec<String>,
    /// Whether a signature may leave the body out (`UNSIGNED-PAYLOAD`): who can change what is under way could then
    /// change the body. Meant for TLS alone (false).
    pub allow_unsigned_payload: bool,
    /// Access keys; none = signatures are not looked at, and without tokens only loopback is served.
    pub keys: Vec<KeyConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock_skew_seconds: 300,
            regions: vec![],
            allow_unsigned_payload: false,
            keys: vec![],
        }
    }
}

/// `[[aws.keys]]`: one access key.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// As clients know it.
    pub access_key_id: String,
    /// Its secret, or where it is.
    pub secret_access_key: SecretSource,
    /// The session token that requests must carry; none: those that carry one are refused.
    pub session_token: SecretSource,
    /// Whose it is, for messages; none: the key's ID.
    pub name: String,
    /// `write`, `read`, `admin`.
    pub rights: Vec<Right>,
    /// Patterns of the log groups it is for, with `*` and `?`; none = every one.
    pub log_groups: Vec<String>,
    /// The services it is for: `logs`, `xray`, `monitoring`, `firehose`; none = every one, but `logs` alone where
    /// `log_groups` is given.
    pub services: Vec<String>,
}

/// A secret, or where it is found at the start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(untagged, expecting = "expected a text, { env = \"NAME\" } or { file = \"PATH\" }")]
pub enum SecretSource {
    /// In the settings.
    Here(Secret),
    /// In the environment.
    Environment(EnvironmentName),
    /// In a file of its own; white space at its end does not count.
    File(SecretFile),
}

/// `{ env = "NAME" }`
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentName {
    /// The variable.
    pub env: String,
}

/// `{ file = "PATH" }`
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Its path.
    pub file: PathBuf,
}

impl Default for SecretSource {
    fn default() -> Self {
        SecretSource::Here(Secret::default())
    }
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such variable.
    #[error("[aws] keys: {key}: {member}: the environment has no variable {name}")]
    Environment {
        /// The key's ID.
        key: String,
        /// The setting.
        member: &'static str,
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("[aws] keys: {key}: {member}: {path}: {source}")]
    File {
        /// The key's ID.
        key: String,
        /// The setting.
        member: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is too short to be one.
    #[error("[aws] keys: {key}: {member} has less than {MIN_SECRET_BYTES} characters")]
    TooShort {
        /// The key's ID.
        key: String,
        /// The setting.
        member: &'static str,
    },
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Config {
    /// Whether signatures are verified.
    pub fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=900).contains(&self.clock_skew_seconds) {
            problems.push(format!("aws.clock_skew_seconds: {} is not from 1 to 900", self.clock_skew_seconds));
        }
        for region in &self.regions {
            if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                problems.push(format!("aws.regions: {region:?} is not a region such as us-east-1"));
            }
        }
        let mut seen = HashSet::new();
        for key in &self.keys {
            let id = key.access_key_id.as_str();
            let mut wrong = |what: String| problems.push(format!("aws.keys: {id:?}: {what}"));
            if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                wrong("access_key_id must be 1 to 128 letters, digits, '-', '_' or '.'".into());
            }
            if !seen.insert(id) {
                wrong("is there twice".into());
            }
            match &key.secret_access_key {
                SecretSource::Here(secret) if secret.expose().len() < MIN_SECRET_BYTES => {
                    wrong(format!("secret_access_key needs at least {MIN_SECRET_BYTES} characters"));
                }
                _ => {}
            }
            if key.rights.is_empty() {
                wrong("rights must name some of write, read, admin".into());
            }
            if key.log_groups.iter().any(|pattern| pattern.is_empty()) {
                wrong("log_groups has an empty pattern".into());
            }
            for service in &key.services {
                if !SERVICES.contains(&service.as_str()) {
                    wrong(format!("services: {service:?} is none of {}", SERVICES.join(", ")));
                }
            }
        }
        problems
    }

    /// The keys with their secrets, which `environment` and files hold.
    pub fn open(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Arc<AccessKey>>> {
        self.keys.iter().map(|key| key.open(environment).map(Arc::new)).collect()
    }
}

impl KeyConfig {
    fn open(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<AccessKey> {
        let secret = self.read("secret_access_key", &self.secret_access_key, environment)?;
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(Error::TooShort {
                key: self.access_key_id.clone(),
                member: "secret_access_key",
            });
        }
        let session_token = self.read("session_token", &self.session_token, environment)?;
        // a token that was to be read and is empty must not stand for "none"
        if session_token.is_empty() && self.session_token != SecretSource::default() {
            return Err(Error::TooShort {
                key: self.access_key_id.clone(),
                member: "session_token",
            });
        }
        Ok(AccessKey {
            id: self.access_key_id.clone(),
            name: self.name.clone(),
            secret,
            session_token,
            rights: self.rights.clone(),
            log_groups: self.log_groups.clone(),
            services: self.services.clone(),
            signing_keys: Mutex::default(),
        })
    }

    fn read(&self, member: &'static str, source: &SecretSource, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret> {
        match source {
            SecretSource::Here(secret) => Ok(secret.clone()),
            SecretSource::Environment(EnvironmentName { env }) => environment(env).map(|text| Secret::new(text.trim_end())).ok_or_else(|| Error::Environment {
                key: self.access_key_id.clone(),
                member,
                name: env.clone(),
            }),
            SecretSource::File(SecretFile { file }) => {
                let fail = |source: std::io::Error| Error::File {
                    key: self.access_key_id.clone(),
                    member,
                    path: file.clone(),
                    source,
                };
                let mut text = String::new();
                let opened = std::fs::File::open(file).map_err(fail)?;
                std::io::Read::read_to_string(&mut std::io::Read::take(opened, MAX_SECRET_BYTES), &mut text).map_err(fail)?;
                Ok(Secret::new(text.trim_end()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> String {
        format!("[[keys]]\naccess_key_id = 'AKID'\nsecret_access_key = {secret}\nrights = ['read', 'write', 'admin']\n")
    }

    fn open(text: &str) -> Result<Vec<Arc<AccessKey>>> {
        let config: Config = toml::from_str(text).expect("valid TOML");
        assert_eq!(config.problems(), Vec::<String>::new());
        config.open(&|name| (name == "SHOP_SECRET").then(|| "of the environment\n".to_string()))
    }

    #[test]
    fn secrets_come_from_the_settings_the_environment_or_a_file() {
        assert_eq!(open(&key("'longenough'")).expect("a key")[0].secret.expose(), "longenough");
        assert_eq!(open(&key("{ env = 'SHOP_SECRET' }")).expect("a key")[0].secret.expose(), "of the environment");
        let path = std::env::temp_dir().join(format!("tracelake-secret-{}", std::process::id()));
        std::fs::write(&path, "of the file\n").expect("written");
        let found = open(&key(&format!("{{ file = '{}' }}", path.display())));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(found.expect("a key")[0].secret.expose(), "of the file");
    }

    #[test]
    fn a_secret_that_is_not_there_is_told_with_its_key() {
        let said = open(&key("{ env = 'NOWHERE' }")).expect_err("none").to_string();
        assert!(said.contains("AKID") && said.contains("NOWHERE"), "{said}");
        let said = open(&key("{ file = '/no/such/file' }")).expect_err("none").to_string();
        assert!(said.contains("AKID") && said.contains("/no/such/file"), "{said}");
        let said = toml::from_str::<Config>(&key("{ vault = 'x' }")).expect_err("unknown").to_string();
        assert!(said.contains("env = \"NAME\""), "{said}");
    }

    #[test]
    fn every_mistake_is_told() {
        let text = "clock_skew_seconds = 0\nregions = ['Mars!']\n\
            [[keys]]\naccess_key_id = 'a/b'\nsecret_access_key = 'short'\nservices = ['sqs']\nlog_groups = ['']\n\
            [[keys]]\naccess_key_id = 'a/b'\nsecret_access_key = { env = 'X' }\nrights = ['read']\n";
        let problems = toml::from_str::<Config>(text).expect("TOML").problems().join("\n");
        for part in [
            "clock_skew_seconds",
            "Mars!",
            "letters, digits",
            "at least 8",
            "rights must",
            "\"sqs\"",
            "empty pattern",
            "twice",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
        assert!(toml::from_str::<Config>("[[keys]]\nrights = ['all']\n").is_err());
        assert!(toml::from_str::<Config>("[[keys]]\nright = ['read']\n").is_err());
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn secrets_never_print() {
        let config: Config = toml::from_str(&format!("{}session_token = 'hunter3'\n", key("'hunter2hunter2'"))).expect("TOML");
        let printed = format!(
            "{config:?}{}{:?}",
            toml::to_string(&config).expect("TOML"),
            config.open(&|_| None).expect("keys")
        );
        assert!(!printed.contains("hunter") && printed.contains("***") && printed.contains("AKID"), "{printed}");
    }
}
