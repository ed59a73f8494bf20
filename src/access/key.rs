//! One access key: its secret, what it may do, and the signing keys derived from it.

use parking_lot::Mutex;
use ring::hmac;

use super::operation::Right;
use crate::storage::Secret;

/// Signing keys kept of one access key: a day, a region and a service each.
const MAX_SIGNING_KEYS: usize = 8;

/// An access key with its secrets at hand.
#[derive(Debug)]
pub struct AccessKey {
    pub(super) id: String,
    /// Whose it is, in messages.
    pub(super) name: String,
    pub(super) secret: Secret,
    /// What requests must carry as `X-Amz-Security-Token`; empty: none may.
    pub(super) session_token: Secret,
    pub(super) rights: Vec<Right>,
    /// Patterns; none = every log group.
    pub(super) log_groups: Vec<String>,
    /// None = every service, or `logs` alone where log groups are given.
    pub(super) services: Vec<String>,
    pub(super) signing_keys: Mutex<Vec<SigningKey>>,
}

/// What a day's signatures in one region for one service are made with.
#[derive(Clone, Debug)]
pub(super) struct SigningKey {
    scope: [String; 3],
    key: hmac::Key,
}

impl AccessKey {
    /// The key's public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is, in messages: its configured name, or its ID.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }

    pub(super) fn is_for_service(&self, service: &str) -> bool {
        match (self.services.is_empty(), self.log_groups.is_empty()) {
            (true, true) => true,
            (true, false) => service == "logs",
            (false, _) => self.services.iter().any(|known| known == service),
        }
    }

    pub(super) fn is_for_group(&self, group: &str) -> bool {
        self.log_groups.is_empty() || self.log_groups.iter().any(|pattern| is_match(pattern, group))
    }

    /// The signing key of a scope: date, region, service.
    pub(super) fn signing_key(&self, scope: [&str; 3]) -> hmac::Key {
        if let Some(known) = self.signing_keys.lock().iter().find(|known| known.scope == scope) {
            return known.key.clone();
        }
        let sign = |key: &[u8], part: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), part.as_bytes());
        let mut key = sign(format!("AWS4{}", self.secret.expose()).as_bytes(), scope[0]);
        for part in [scope[1], scope[2], "aws4_request"] {
            key = sign(key.as_ref(), part);
        }
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    }

    /// Keeps a signing key with which a signature was found right: who does not have the secret moves nothing here.
    pub(super) fn keep(&self, scope: [&str; 3], key: hmac::Key) {
        let mut kept = self.signing_keys.lock();
        if kept.iter().any(|known| known.scope == scope) {
            return;
        }
        if kept.len() == MAX_SIGNING_KEYS {
            kept.remove(0);
        }
        kept.push(SigningKey {
            scope: scope.map(str::to_string),
            key,
        });
    }
}

/// Whether `text` is of a pattern in which `*` stands for any characters and `?` for one.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // after the last `*`: where the pattern goes on, and from where in the text it is tried next
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, text, expected) in [
            ("/shop/*", "/shop/api", true),
            ("/shop/*", "/shop/", true),
            ("/shop/*", "/shop", false),
            ("/shop/*", "/shops/api", false),
            ("/shop/*", "x/shop/api", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*/prod/*", "/shop/prod/api", true),
            ("*/prod/*", "/shop/test/api", false),
            ("/a?c", "/abc", true),
            ("/a?c", "/ac", false),
            ("*ab*ab", "abab", true),
            ("*aab", "aaab", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("/shop", "/shop", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    fn key() -> AccessKey {
        AccessKey {
            id: "AKID".into(),
            name: String::new(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: Secret::default(),
            rights: vec![],
            log_groups: vec![],
            services: vec![],
            signing_keys: Mutex::default(),
        }
    }

    #[test]
    fn signing_keys_are_kept_within_a_bound() {
        let key = key();
        for day in 0..50 {
            let day = format!("201508{day:02}");
            let signing_key = key.signing_key([&day, "us-east-1", "logs"]);
            key.keep([&day, "us-east-1", "logs"], signing_key.clone());
            key.keep([&day, "us-east-1", "logs"], signing_key);
        }
        assert_eq!(key.signing_keys.lock().len(), MAX_SIGNING_KEYS);
        let scope = ["20150849", "us-east-1", "logs"];
        let kept = hmac::sign(&key.signing_key(scope), b"x");
        key.signing_keys.lock().clear();
        assert_eq!(kept.as_ref(), hmac::sign(&key.signing_key(scope), b"x").as_ref());
    }

    #[test]
    fn a_key_for_some_log_groups_is_for_no_other_service_unless_it_says_so() {
        let mut key = key();
        assert!(key.is_for_service("xray") && key.is_for_group("/any"));
        key.log_groups = vec!["/shop/*".into()];
        assert!(key.is_for_service("logs") && !key.is_for_service("xray"));
        key.services = vec!["xray".into()];
        assert!(key.is_for_service("xray") && !key.is_for_service("logs"));
    }

    #[test]
    fn a_key_never_prints_its_secret() {
        let key = key();
        key.keep(["20150830", "r", "s"], key.signing_key(["20150830", "r", "s"]));
        assert!(!format!("{key:?}").contains("wJalr"));
    }
}
