//! Log ahead: once `append` returns, the frame survives a crash.

use std::path::PathBuf;

use bytes::Bytes;

/// Position in the log: frames are numbered 1, 2, 3, … for the life of a node; 0 is before the first.
pub type Lsn = u64;

/// Settings; each with its default.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of a segment file (64 MiB).
    pub segment_bytes: u64,
    /// Bytes of all segments that blocks do not cover yet; at this bound `append` refuses (8 GiB).
    pub max_bytes: u64,
    /// Free bytes on the disk below which `append` refuses (512 MiB).
    pub min_free_disk_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: 8 << 30,
            min_free_disk_bytes: 512 << 20,
        }
    }
}

/// What one `append` writes. The log does not look inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The owner's kind of payload.
    pub kind: u8,
    /// The owner's flags.
    pub flags: u8,
    /// The owner's small number.
    pub source: u16,
    /// Nanoseconds since the epoch.
    pub received_at_nanos: i64,
    /// The payload.
    pub payload: Bytes,
}

/// Why a frame was not taken or the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log holds as much as it may; a retry helps once blocks are flushed.
    #[error("the log is full: {bytes} bytes wait for blocks, {max_bytes} allowed")]
    Full {
        /// Held now.
        bytes: u64,
        /// Allowed.
        max_bytes: u64,
    },
    /// The disk is (nearly) full; a retry helps once there is room.
    #[error("the disk under {path} is full: {free} bytes free")]
    DiskFull {
        /// The log's folder.
        path: PathBuf,
        /// Free bytes.
        free: u64,
    },
    /// A frame above what a segment can hold.
    #[error("a frame of {bytes} bytes is larger than the log takes ({max_bytes})")]
    TooLarge {
        /// Asked for.
        bytes: usize,
        /// Allowed.
        max_bytes: usize,
    },
    /// The operating system refused; the frame may not be durable and was not acknowledged.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The writer has ended.
    #[error("the log is closed")]
    Closed,
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
