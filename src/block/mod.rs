//! A batch becomes immutable: one Parquet file and, for searchable tables, one tantivy bundle beside it.
//!
//! In: [`Rows`](crate::model::Rows) of one table and partition, in any order. Out: a [`BuiltBlock`], the bytes of both
//! objects and the [`BlockMeta`] that the catalog keeps; later a [`Block`] opened over those bytes, which reads rows,
//! scans them and answers an [`IndexQuery`].
//!
//! Row n of the Parquet file is document n of the index. Rows of `logs` and `spans` stand newest first
//! (time descending, then `ingest_id` descending: a total order); metric points by name, series and time; the rest by
//! time descending. So "the newest 100 hits" are the first 100 postings, and a range of time is a range of rows.
//!
//! # Layout, version 1
//!
//! | object | holds |
//! |---|---|
//! | `<block>.parquet` | the table's [schema](crate::model::schema), zstd pages of 3 Ki rows, page index, bloom filters on `trace_id` and, of logs, `span_id`, `tracelake.*` key-value metadata |
//! | `<block>.idx` | a [`bundle`]: tantivy's files of one segment, the contexts, the second→row table, and a table of contents with checksums |
//!
//! # Promises
//!
//! - Text is cut into tokens by [`tokenizer`] alone: index, head and scan agree on what a word is.
//! - A block never changes. [`Block::open`] compares both objects' checksums of row count and times; an index that does
//!   not belong, or is damaged, is [`Error::Index`], and the block opens without it (a scan answers then).
//! - The catalog may hide rows of a block ([`BlockMeta::hidden`]): neither its index nor [`Block::visible`] give them, and a merge
//!   leaves them out. Only [`Block::read`] and [`Block::scan`] know rows by their place in the file alone.
//! - Damaged bytes are errors, never panics.
//! - Both objects can be read without being here ([`Block::over`]): what is read of them is fetched by
//!   [`storage::Object`](crate::storage::Object), and compared with the checksums in the bundle's tail.
//!
//! Knows parquet and tantivy, which no other module names. Objects come as `Bytes` or [`Object`](crate::storage::Object)s and go as
//! `Bytes`; the only I/O of its own is in the [`Scratch`](crate::storage::Scratch) files that a merge is given. Start reading at [`build()`] and [`Block::open`].

mod hidden;
mod meta;
mod settings;
pub mod tokenizer;
mod pattern;
mod terms;
mod rowtext;
mod bundle;
mod directory;
mod document;
mod columns;
mod dictionary;
mod index;
mod pack;
mod build;
mod near;
mod evaluate;
mod query;
mod metrics;
mod recent;
mod pages;
mod chart;
mod words;
mod ranges;
mod reader;
mod open;
mod verify;
mod merge;
mod compact;

pub use build::{BuiltBlock, build};
pub use bundle::index_parts;
pub(crate) use compact::{SpanInProgress, drop_superseded_spans, each_span, has_spans_in_progress, spans_in_progress};
pub use compact::{merge, rewrite};
pub use hidden::HiddenRows;
pub use index::{BlockIndex, MAX_TERMS};
pub use meta::{BlockId, BlockMeta, Level};
pub use open::{Unopened, open_in_parts};
pub use pages::PageCache;
pub use pattern::Pattern;
pub use query::{IndexQuery, KeyTest};
pub use reader::{Block, Scan};
pub use recent::Recent;
pub use rowtext::{Pairs, RowText, Texts};
pub use settings::Settings;
pub use terms::RawField;
pub use verify::verify;
pub use words::{MAYBE_CUT_BYTES, TokenCache};

use crate::storage;

/// What can go wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rows did not fit the schema, or a column outgrew 2 GiB of text: a mistake of ours.
    #[error("rows of a block do not fit their columns")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The Parquet object is damaged or is not the one its meta describes.
    #[error("parquet object of block {block}: {reason}")]
    Parquet {
        /// The block.
        block: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index object is damaged, of an unknown version, or belongs to other rows: open the block without it.
    #[error("index of a block: {reason}")]
    Index {
        /// What is wrong with it.
        reason: String,
    },
    /// What is made could not be written down on the way, as on a full disk.
    #[error("a block that is being made cannot be written down on the way: {0}")]
    Scratch(#[source] std::io::Error),
    /// A range of one of its objects could not be fetched.
    #[error("{reason}")]
    Unread {
        /// Of the failure.
        kind: storage::ErrorKind,
        /// What failed, and why.
        reason: String,
    },
    /// A pattern or range matches more terms than one query may walk.
    #[error("the pattern matches more than {limit} different terms of one block; make it longer")]
    TooManyTerms {
        /// The bound.
        limit: usize,
    },
    /// A column that the table does not have.
    #[error("table {table} has no column {column}")]
    NoColumn {
        /// The table.
        table: &'static str,
        /// What was asked for.
        column: String,
    },
    /// What was asked of the builder makes no block.
    #[error("cannot build a block: {0}")]
    Build(String),
}

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether only the index is at fault, so that the same block can be read without it.
    pub fn is_index(&self) -> bool {
        matches!(self, Error::Index { .. })
    }

    /// Whether the disk did not take what was being made: trying again may help, and trying otherwise does not.
    pub fn is_of_disk(&self) -> bool {
        matches!(self, Error::Scratch(_))
    }

    /// Whether a range of an object could not be fetched, which says nothing about the block.
    pub fn is_unread(&self) -> bool {
        matches!(self, Error::Unread { .. })
    }

    /// A range of the index could not be had.
    pub(crate) fn index_unread(failure: storage::Error) -> Self {
        match failure.kind() {
            storage::ErrorKind::Corrupt | storage::ErrorKind::NotFound => Error::index(failure),
            kind => Error::Unread {
                kind,
                reason: failure.to_string(),
            },
        }
    }

    /// A range of the Parquet object could not be had.
    pub(crate) fn parquet_unread(block: &BlockId, failure: storage::Error) -> Self {
        match failure.kind() {
            storage::ErrorKind::Corrupt | storage::ErrorKind::NotFound => Error::parquet(block, failure),
            kind => Error::Unread {
                kind,
                reason: failure.to_string(),
            },
        }
    }

    pub(crate) fn index(reason: impl std::fmt::Display) -> Self {
        Error::Index { reason: reason.to_string() }
    }

    pub(crate) fn parquet(block: &BlockId, reason: impl std::fmt::Display) -> Self {
        Error::Parquet {
            block: block.as_str().to_string(),
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
