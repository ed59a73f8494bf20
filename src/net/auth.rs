//! Who may talk to us: bearer tokens, as `Authorization: Bearer …` or as the password of HTTP Basic (for browsers).

use base64::Engine as _;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Settings.
#[derive(Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens that open every face; none = no authentication (loopback only).
    #[serde(serialize_with = "redacted")]
    pub bearer_tokens: Vec<String>,
}

fn redacted<S: serde::Serializer>(tokens: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tokens.iter().map(|_| "[redacted]"))
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "auth::Config {{ bearer_tokens: {} redacted }}", self.bearer_tokens.len())
    }
}

impl Config {
    /// Whether requests must authenticate.
    pub fn is_required(&self) -> bool {
        !self.bearer_tokens.is_empty()
    }

    /// Whether a request with these headers may pass.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        !self.is_required() || presented(headers).is_some_and(|token| self.bearer_tokens.iter().any(|known| is_equal(known.as_bytes(), token.as_bytes())))
    }
}

/// Whether a request brings a bearer token, as such or as the password of Basic.
pub(crate) fn brings_token(headers: &HeaderMap) -> bool {
    presented(headers).is_some()
}

fn presented(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let (_user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_string())
}

/// Compares in time that depends on the lengths alone.
pub(crate) fn is_equal(known: &[u8], given: &[u8]) -> bool {
    known.len() == given.len() && known.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("header"));
        headers
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let config = Config {
            bearer_tokens: vec!["s3cret".into(), "other".into()],
        };
        for value in ["Bearer s3cret", "bearer other", "Basic OnMzY3JldA==", "Basic dXNlcjpzM2NyZXQ="] {
            assert!(config.allows(&headers(value)), "{value}");
        }
        for value in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer ",
            "Basic ???",
            "AWS4-HMAC-SHA256 Credential=s3cret",
            "s3cret",
        ] {
            assert!(!config.allows(&headers(value)), "{value}");
        }
        assert!(!config.allows(&HeaderMap::new()));
        assert!(Config::default().allows(&HeaderMap::new()));
    }

    #[test]
    fn tokens_never_print() {
        let config = Config {
            bearer_tokens: vec!["s3cret".into()],
        };
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(!serde_json::to_string(&config).expect("plain data").contains("s3cret"));
    }
}
