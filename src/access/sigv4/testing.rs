//! A signer, for tests: what it signs is canonical as this module has it, which is checked against other signers.

use http::request::Parts;
use ring::{digest, hmac};

use super::claim::Claim;
use super::{ALGORITHM, Config, canonical, hex};

/// What a test signs with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer<'a> {
    pub(crate) key_id: &'a str,
    pub(crate) secret: &'a str,
    /// `DATE/REGION/SERVICE/aws4_request`
    pub(crate) scope: &'a str,
    pub(crate) signed_headers: &'a str,
}

impl Signer<'_> {
    /// Adds `Authorization`; the request has its date and host.
    pub(crate) fn sign(&self, head: &mut Parts, body: &[u8]) {
        let shell = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature=",
            self.key_id, self.scope, self.signed_headers
        );
        head.headers.insert("authorization", format!("{shell}0").parse().expect("a header"));
        let claim = Claim::read(head).expect("complete").expect("there");
        let declared = head.headers.get("x-amz-content-sha256").map(|value| value.to_str().expect("text").to_string());
        let hash = declared.unwrap_or_else(|| hex(digest::digest(&digest::SHA256, body).as_ref()));
        let canonical = canonical::request(head, &claim, &hash);
        let hash = hex(digest::digest(&digest::SHA256, &canonical).as_ref());
        let string_to_sign = format!("{ALGORITHM}\n{}\n{}\n{hash}", claim.time_text, self.scope);
        let settings = format!("[[keys]]\naccess_key_id = 'a'\nsecret_access_key = '{}'\nrights = ['read']", self.secret);
        let config: Config = toml::from_str(&settings).expect("valid");
        let key = config.open(&|_| None).expect("a key").remove(0);
        let signature = hex(hmac::sign(&key.signing_key(claim.scope()), string_to_sign.as_bytes()).as_ref());
        head.headers.insert("authorization", format!("{shell}{signature}").parse().expect("a header"));
    }
}
