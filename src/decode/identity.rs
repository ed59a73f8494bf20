//! What makes a request the same request when it is sent again.

use xxhash_rust::xxh3::Xxh3Default;

use super::Kind;

/// A digest of what a client sends again when it got no answer: 128 bits, so that two requests that differ do not have
/// the same by chance. Not made to withstand somebody who wants it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(pub u128);

impl Identity {
    /// Of what tells the requests of a kind apart, in order: their contents, or an ID that the client gave them.
    pub fn of<'a>(kind: Kind, parts: impl IntoIterator<Item = &'a [u8]>) -> Identity {
        let mut digest = IdentityBuilder::new(kind);
        for part in parts {
            digest.part(part);
        }
        digest.finish()
    }
}

/// Makes an [`Identity`] part by part.
#[derive(Clone)]
pub struct IdentityBuilder(Xxh3Default);

impl IdentityBuilder {
    /// Nothing but the kind yet: requests of different kinds are never the same.
    pub fn new(kind: Kind) -> Self {
        let mut digest = Xxh3Default::new();
        digest.update(&[kind as u8]);
        Self(digest)
    }

    /// The next part; its length counts too, so that parts do not run into each other.
    pub fn part(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The digest.
    pub fn finish(&self) -> Identity {
        Identity(self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other_nor_do_kinds() {
        let of = |kind, parts: &[&str]| Identity::of(kind, parts.iter().map(|part| part.as_bytes()));
        let one = of(Kind::PutLogEvents, &["ab", "c"]);
        assert_eq!(one, of(Kind::PutLogEvents, &["ab", "c"]));
        for other in [
            of(Kind::PutLogEvents, &["a", "bc"]),
            of(Kind::PutLogEvents, &["abc"]),
            of(Kind::PutLogEvents, &["ab", "c", ""]),
            of(Kind::XraySegments, &["ab", "c"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
