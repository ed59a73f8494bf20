//! What a log text says once its variable parts are taken out: a template, and an ID that depends on the template alone.
//!
//! In: the body of a log record. Out: its template, `user alice took <duration> from <ip>:<num>`, and its [`PatternId`]. Nothing is
//! learnt and nothing is kept: the same text has the same template on every node, after every restart, in a replay and in a backfill.
//! Templates that differ in words alone (one a user name) are put together when somebody asks, by [`cluster()`].
//!
//! # What is masked
//!
//! | mask | stands for |
//! |---|---|
//! | `<num>` | numbers, also at the end of a name: `worker-<num>`; not in names that are known to have one (`s3`, `http2`, `v1`) |
//! | `<duration>` `<size>` | numbers with their unit: `1.5s`, `2m30s`, `12MiB` (of `12 ms` only the number) |
//! | `<time>` | dates and times: ISO 8601, `02/Jan/2006:15:04:05 +0000`, `Jan  2 15:04:05`, `15:04:05,123` |
//! | `<uuid>` `<hex>` `<id>` | UUIDs; 8 hex digits and more; words that mix letters and digits, with what hangs behind them by `-` or `_` |
//! | `<ip>` `<mac>` `<version>` `<email>` | addresses, versions of three parts and more, mail addresses |
//! | `<str>` | text in quotes; not request lines, keys before a colon, and texts of logfmt that say what happened |
//! | `<*>` | values of `key=value`, of JSON, and of the query of a URL |
//! | `<lines>` | indented lines behind the first: the frames of a stack trace |
//! | `<...>` | what lies beyond the bounds |
//!
//! Host and path of a URL stay, their digits masked. In a list by commas or semicolons one mask stands for all of its kind, in one by
//! spaces four stand for more. White space and ANSI colours become one space. Levels stay, as do the values of keys that say
//! what happened: `msg`, `message`, `log`, `event`, `error` and `err` are texts themselves. A body that is one JSON object has its keys
//! for a template, as they stand there: `{"level":"info","msg":"took <duration>","user":<*>}`, a list being one value.
//!
//! A template is its own template. Equal templates have equal IDs, and the other way round but for chance (1 in 2^53).
//!
//! # Promises and bounds
//!
//! The ID is the upper 53 bits of XXH3 (64 bits, the format's version being the seed) of the template's UTF-8, 0 being 1: it is exact
//! in JSON. Golden IDs stand in `tests/fixtures/patterns`; whoever changes a template's rules raises [`FORMAT_VERSION`].
//!
//! Looked at are the first [`MAX_BYTES`] of a text, [`MAX_WORDS`] words, [`MAX_LINES`] lines and [`MAX_JSON_DEPTH`] levels of JSON. One
//! pass over the bytes; an ID costs no allocation, but for JSON whose text has escapes. No text panics.
//!
//! Start at [`Miner`]; texts are read in [`text`], words with digits in [`word`], times in [`time`], JSON in [`json`].

mod mask;
mod text;
mod word;
mod time;
mod json;
mod cluster;

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use cluster::{Cluster, Pieces, Shape, cluster};
pub use mask::Mask;

/// Version of the rules by which templates are made; IDs of two versions have nothing in common.
pub const FORMAT_VERSION: u64 = 1;
/// Bytes of a text that are looked at.
pub const MAX_BYTES: usize = 4_096;
/// Words of a text that are looked at.
pub const MAX_WORDS: usize = 200;
/// Lines of a text that are looked at; indented ones do not count.
pub const MAX_LINES: usize = 8;
/// Objects of JSON in each other that are looked at.
pub const MAX_JSON_DEPTH: usize = 16;

/// Bits of an ID: what a JSON number holds exactly.
const ID_BITS: u32 = 53;

/// Which template a text has. Positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatternId(i64);

impl PatternId {
    /// The ID of a template.
    pub fn of_template(template: &str) -> PatternId {
        let hash = xxh3_64_with_seed(template.as_bytes(), FORMAT_VERSION) >> (u64::BITS - ID_BITS);
        PatternId(hash.max(1).cast_signed())
    }

    /// The number, from 1 to 2^53 - 1.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for PatternId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Finds templates, one after the other, in memory that it keeps.
#[derive(Clone, Debug, Default)]
pub struct Miner {
    template: String,
    scratch: json::Scratch,
}

impl Miner {
    /// The template of a text; `None` of one that is empty or white space alone.
    pub fn template(&mut self, body: &str) -> Option<&str> {
        self.template.clear();
        let body = body.trim_ascii();
        if !json::write(body, &mut self.template, &mut self.scratch) {
            self.template.clear();
            text::write(body, &mut self.template);
        }
        (!self.template.is_empty()).then_some(&*self.template)
    }

    /// The ID of a text's template.
    pub fn id(&mut self, body: &str) -> Option<PatternId> {
        self.template(body).map(PatternId::of_template)
    }
}

/// The template of one text; whoever asks for many has a [`Miner`].
pub fn template_of(body: &str) -> Option<String> {
    Miner::default().template(body).map(str::to_string)
}

#[cfg(test)]
mod tests;
