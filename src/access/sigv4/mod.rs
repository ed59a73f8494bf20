//! AWS Signature Version 4, verified.
//!
//! In: the head of a request and its body as it came (before inflation). Out: the [`Caller`] whose key signed it, or an
//! [`Error`] named and worded as AWS does. The signature may be in `Authorization` or, presigned, in the query.
//!
//! Two steps, so that a body is read only for who may be a caller: [`Verifier::begin`] looks at everything that needs no
//! body (form, key, session token, scope, time, which headers are signed), [`Pending::finish`] at the signature.
//!
//! | step | room |
//! |---|---|
//! | what the request says of its signature | [`claim`] |
//! | the text that was signed | [`canonical`] |
//! | the key it was signed with | [`super::key`] |
//!
//! What must be signed: `host` and every `x-amz-…` header that the request has, so that neither the operation nor the
//! date can be changed under way. The body's hash is always ours, taken of what came; an `X-Amz-Content-Sha256` that
//! says another is refused. `UNSIGNED-PAYLOAD` is refused unless `[aws] allow_unsigned_payload`, chunked signatures
//! (`STREAMING-…`) and SigV4a (`AWS4-ECDSA-…`) always. Nothing here knows rights.
//!
//! Source: AWS' "Create a signed AWS API request", its signing test suite, and botocore's `auth.py`; wire facts and
//! error messages as services answer them.

mod canonical;
mod claim;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use http::request::Parts;
use ring::{digest, hmac};

pub use canonical::{canonical_path, canonical_query};

use self::claim::{Claim, TIME_FORMAT};
use super::caller::Caller;
use super::config::Config;
use super::key::AccessKey;
use crate::net::auth::is_equal;

/// The one algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How long a presigned request may live: seven days, in seconds.
const MAX_EXPIRES_SECONDS: u64 = 604_800;
/// What `X-Amz-Content-Sha256` says when the body is left out.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// A canonical request longer than this is not shown in an error.
const MAX_HINT_BYTES: usize = 16 << 10;
/// Headers that carry signed names but are added under way, by CloudFront.
const ADDED_UNDER_WAY: [&str; 1] = ["x-amz-cf-id"];

/// Why a request's signature is not accepted. The messages are AWS' own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no signature.
    #[error("Missing Authentication Token")]
    Missing,
    /// The signature lacks a part, or a part is malformed.
    #[error("{0}")]
    Incomplete(String),
    /// The access key is not known, or its session token is another.
    #[error("The security token included in the request is invalid.")]
    Unrecognized,
    /// Too old, or presigned and past its end.
    #[error("{0}")]
    Expired(String),
    /// Of a time to come.
    #[error("{0}")]
    NotYetCurrent(String),
    /// For another day, region or service.
    #[error("{0}")]
    Scope(String),
    /// What must be signed is not.
    #[error("{0}")]
    Unsigned(String),
    /// The body is not what `X-Amz-Content-Sha256` says, or it may not be left out.
    #[error("{0}")]
    Payload(String),
    /// The signature is of something else, or made with another secret. Holds AWS' hint: the canonical request and
    /// the string to sign as we see them, both of nothing but what the client sent.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. \
         Consult the service documentation for details.{hint}"
    )]
    Mismatch {
        /// Empty when it would be too long.
        hint: String,
    },
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// As `__type` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Error::Missing => "MissingAuthenticationTokenException",
            Error::Incomplete(_) => "IncompleteSignatureException",
            Error::Unrecognized => "UnrecognizedClientException",
            Error::Expired(_) | Error::NotYetCurrent(_) | Error::Scope(_) | Error::Unsigned(_) | Error::Payload(_) | Error::Mismatch { .. } => {
                "InvalidSignatureException"
            }
        }
    }

    /// As metrics have it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Error::Missing => "missing",
            Error::Incomplete(_) => "incomplete",
            Error::Unrecognized => "unknown_key",
            Error::Expired(_) | Error::NotYetCurrent(_) => "stale",
            Error::Scope(_) => "scope",
            Error::Unsigned(_) | Error::Payload(_) | Error::Mismatch { .. } => "wrong",
        }
    }
}

/// Whether a request carries anything that could be a signature.
pub fn is_signed(head: &Parts) -> bool {
    head.headers.contains_key(http::header::AUTHORIZATION) || claim::is_presigned(head)
}

/// The keys, and what signatures must be like.
#[derive(Debug)]
pub struct Verifier {
    keys: HashMap<String, Arc<AccessKey>>,
    clock_skew: TimeDelta,
    regions: Vec<String>,
    allow_unsigned_payload: bool,
}

/// A request whose signature is all that is left to look at.
#[derive(Debug)]
pub struct Pending {
    key: Arc<AccessKey>,
    claim: Claim,
    payload: Payload,
}

/// What the canonical request says of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    /// Its hash.
    Ours,
    /// Its hash, which the client says is this.
    Declared(String),
    /// Nothing.
    Unsigned,
}

impl Verifier {
    /// A verifier of signatures by `keys`.
    pub fn new(config: &Config, keys: Vec<Arc<AccessKey>>) -> Verifier {
        Verifier {
            keys: keys.into_iter().map(|key| (key.id().to_string(), key)).collect(),
            // checked to be at most 900
            clock_skew: TimeDelta::seconds(i64::try_from(config.clock_skew_seconds).unwrap_or(900)),
            regions: config.regions.clone(),
            allow_unsigned_payload: config.allow_unsigned_payload,
        }
    }

    /// Whether there are any keys: without, nothing is verified.
    pub fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Everything that needs no body; the signature must be for one of `services`. `now_nanos` is since the epoch.
    pub fn begin(&self, head: &Parts, services: &[&str], now_nanos: i64) -> Result<Pending> {
        let claim = Claim::read(head)?.ok_or(Error::Missing)?;
        let key = self.keys.get(&claim.key_id).cloned().ok_or(Error::Unrecognized)?;
        let given_token = claim.session_token.as_deref().unwrap_or_default();
        if !is_equal(key.session_token.expose().as_bytes(), given_token.as_bytes()) {
            return Err(Error::Unrecognized);
        }
        self.check_scope(&claim, services)?;
        self.check_time(&claim, DateTime::from_timestamp_nanos(now_nanos))?;
        check_signed_headers(head, &claim)?;
        let payload = self.payload(head)?;
        Ok(Pending { key, claim, payload })
    }

    fn check_scope(&self, claim: &Claim, services: &[&str]) -> Result<()> {
        if claim.terminator != "aws4_request" {
            return Err(Error::Scope(format!(
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'.",
                claim.terminator
            )));
        }
        if !self.regions.is_empty() && !self.regions.contains(&claim.region) {
            return Err(Error::Scope(format!("Credential should be scoped to a valid region, not '{}'. ", claim.region)));
        }
        if claim.region.is_empty() {
            return Err(Error::Scope("Credential should be scoped to a valid region, not ''. ".into()));
        }
        if !services.contains(&claim.service.as_str()) {
            return Err(Error::Scope(format!(
                "Credential should be scoped to correct service: '{}'. ",
                services.join("' or '")
            )));
        }
        let day = &claim.time_text[..8];
        if claim.date != day {
            return Err(Error::Scope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{day}', from '{}'.",
                claim.date, claim.time_text
            )));
        }
        Ok(())
    }

    fn check_time(&self, claim: &Claim, now: DateTime<Utc>) -> Result<()> {
        let text = |time: DateTime<Utc>| time.format(TIME_FORMAT).to_string();
        let skew = self.clock_skew;
        let skew_text = match skew.num_seconds() {
            seconds if seconds % 60 == 0 => format!("{} min.", seconds / 60),
            seconds => format!("{seconds} s."),
        };
        if claim.time > now + skew {
            return Err(Error::NotYetCurrent(format!(
                "Signature not yet current: {} is still later than {} ({} + {skew_text})",
                claim.time_text,
                text(now + skew),
                text(now)
            )));
        }
        let Some(expires) = claim.expires else {
            if claim.time < now - skew {
                return Err(Error::Expired(format!(
                    "Signature expired: {} is now earlier than {} ({} - {skew_text})",
                    claim.time_text,
                    text(now - skew),
                    text(now)
                )));
            }
            return Ok(());
        };
        if claim.time + expires < now {
            return Err(Error::Expired(format!(
                "Signature expired: {} is now earlier than {} ({} - {} s.)",
                claim.time_text,
                text(now - expires),
                text(now),
                expires.num_seconds()
            )));
        }
        Ok(())
    }

    fn payload(&self, head: &Parts) -> Result<Payload> {
        let mut values = head.headers.get_all("x-amz-content-sha256").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            if head.headers.contains_key("x-amz-content-sha256") {
                return Err(Error::Payload("The request has several 'x-amz-content-sha256' headers.".into()));
            }
            return Ok(Payload::Ours);
        };
        match value.to_str().unwrap_or_default().trim() {
            UNSIGNED_PAYLOAD if self.allow_unsigned_payload => Ok(Payload::Unsigned),
            UNSIGNED_PAYLOAD => Err(Error::Payload(
                "The payload of this request must be signed: 'UNSIGNED-PAYLOAD' is not supported here.".into(),
            )),
            text if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Payload::Declared(text.to_ascii_lowercase())),
            text => Err(Error::Payload(format!(
                "The value of 'x-amz-content-sha256' is not supported: {:?}. It must be the hexadecimal SHA-256 of the payload.",
                text.chars().take(64).collect::<String>()
            ))),
        }
    }
}

/// `host`, and each `x-amz-…` header that there is.
fn check_signed_headers(head: &Parts, claim: &Claim) -> Result<()> {
    let is_signed = |name: &str| claim.signed_headers.iter().any(|signed| signed == name);
    if !is_signed("host") && !is_signed(":authority") {
        return Err(Error::Unsigned(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".into(),
        ));
    }
    let names = head.headers.keys().map(http::HeaderName::as_str);
    let mut unsigned = names.filter(|name| name.starts_with("x-amz-") && !ADDED_UNDER_WAY.contains(name) && !is_signed(name));
    if let Some(name) = unsigned.next() {
        return Err(Error::Unsigned(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
    }
    if claim.has_date_header && !is_signed("date") {
        return Err(Error::Unsigned("'Date' must be a 'SignedHeader' in the AWS Authorization.".into()));
    }
    Ok(())
}

impl Pending {
    /// The signature itself; `body` is as it came. Takes its time for a large one.
    pub fn finish(self, head: &Parts, body: &[u8]) -> Result<Caller> {
        let Pending { key, claim, payload } = self;
        let hash = match &payload {
            Payload::Unsigned => UNSIGNED_PAYLOAD.to_string(),
            Payload::Ours | Payload::Declared(_) => hex(digest::digest(&digest::SHA256, body).as_ref()),
        };
        if let Payload::Declared(declared) = &payload
            && *declared != hash
        {
            return Err(Error::Payload(
                "The provided 'x-amz-content-sha256' header does not match what was computed.".into(),
            ));
        }
        let canonical = canonical::request(head, &claim, &hash);
        let scope = claim.scope();
        let string_to_sign = format!(
            "{ALGORITHM}\n{}\n{}/aws4_request\n{}",
            claim.time_text,
            scope.join("/"),
            hex(digest::digest(&digest::SHA256, &canonical).as_ref())
        );
        let signing_key = key.signing_key(scope);
        // compares in constant time
        if hmac::verify(&signing_key, string_to_sign.as_bytes(), &claim.signature).is_err() {
            return Err(Error::Mismatch {
                hint: hint(&canonical, &string_to_sign),
            });
        }
        key.keep(scope, signing_key);
        Ok(Caller::with_key(key))
    }
}

/// What AWS adds to a mismatch, so that a signer's author can compare.
fn hint(canonical: &[u8], string_to_sign: &str) -> String {
    if canonical.len() > MAX_HINT_BYTES {
        return String::new();
    }
    format!(
        "\n\nThe Canonical String for this request should have been\n'{}'\n\nThe String-to-Sign should have been\n'{string_to_sign}'\n",
        String::from_utf8_lossy(canonical)
    )
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
