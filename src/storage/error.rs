//! What can go wrong between us and the store, and whether trying again helps.

use std::error::Error as StdError;

/// What kind of failure it is: what a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// The store knows us and says no, or does not know us: credentials, permissions, a bucket of somebody else.
    Denied,
    /// No answer in time, no connection, or the store says it is busy or broken. The write may have happened.
    Unreachable,
    /// The disk is full.
    Full,
    /// The object is there and is not what its CRC32C or length says.
    Corrupt,
    /// A setting or a key that cannot work.
    Invalid,
    /// The store cannot do what the catalog rests on (conditional writes, hard links).
    Unsupported,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// The name in metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not_found",
            ErrorKind::Denied => "denied",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Full => "full",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Other => "other",
        }
    }
}

/// A failed call to the store: what was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {what}: {source}")]
pub struct Error {
    kind: ErrorKind,
    action: &'static str,
    what: String,
    source: Box<dyn StdError + Send + Sync>,
}

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` while doing `action` ("put", "read", …) to `what` (a key, a path, a URL).
    pub fn new(kind: ErrorKind, action: &'static str, what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            kind,
            action,
            what: what.into(),
            source: source.into(),
        }
    }

    /// Sorts an operating system error into its kind.
    pub(super) fn io(action: &'static str, what: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::TimedOut | Io::StaleNetworkFileHandle | Io::Interrupted => ErrorKind::Unreachable,
            Io::Unsupported | Io::CrossesDevices => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        };
        Self::new(kind, action, what, source)
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
    /// Whether the same call may succeed later without anybody changing a setting. A failed write that says so may
    /// have happened all the same.
    pub fn retry_helps(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Full)
    }
}
