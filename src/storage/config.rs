//! Where the store is and how it is reached.

use std::fmt;

/// The store's settings; each with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `s3://bucket/prefix`, `file:///path` or `/path`; empty (the default) is the folder `store` in the data directory.
    pub url: String,
    /// AWS region; empty: what the AWS chain says (environment, profile, instance), else `us-east-1`.
    pub region: String,
    /// Address of an S3-compatible server, such as `http://127.0.0.1:8333`; empty: AWS itself.
    pub endpoint: String,
    /// Put the bucket into the path rather than the host name; most servers other than AWS need it (false).
    pub path_style: bool,
    /// Allow plain HTTP to `endpoint` (false).
    pub allow_http: bool,
    /// Access key; empty: the AWS chain (environment, profiles, web identity, container, instance).
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials; empty: none.
    pub session_token: Secret,
    /// Seconds one request may take, its retries included (20). Connecting may take 3 of them. Large objects travel in
    /// parts of 8 MiB, each a request.
    pub request_timeout_seconds: u64,
    /// Bytes of bucket objects kept on the local disk (10 GiB); of objects that are read by ranges, those that were read.
    /// A local store needs no copies and ignores it.
    pub cache_bytes: u64,
    /// Bytes of mapped files in the process's memory (256 MiB), looked at once a second: beyond, their pages are given back to the
    /// system, in whose page cache they stay. 0 gives them back every second.
    pub max_mapped_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            region: String::new(),
            endpoint: String::new(),
            path_style: false,
            allow_http: false,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            request_timeout_seconds: 20,
            cache_bytes: 10 << 30,
            max_mapped_bytes: 256 << 20,
        }
    }
}

/// A secret: shows itself as `***` wherever it is printed, logged or serialised.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The secret itself; the only way to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn redacted(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "***" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.redacted())
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let config: Config = toml::from_str("access_key_id = 'AKIA'\nsecret_access_key = 'hunter2'").expect("valid");
        assert_eq!(config.secret_access_key.expose(), "hunter2");
        let printed = format!(
            "{config:?}{}{}",
            toml::to_string(&config).expect("toml"),
            serde_json::to_string(&config).expect("json")
        );
        assert!(!printed.contains("hunter2") && printed.contains("***") && printed.contains("AKIA"), "{printed}");
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(toml::from_str::<Config>("urll = 's3://x'").is_err());
        assert_eq!(toml::from_str::<Config>("").expect("defaults"), Config::default());
    }
}
