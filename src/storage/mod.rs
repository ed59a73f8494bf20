//! The one home of the object store: a bucket or a directory, its keys, and the local copies of its objects.
//!
//! In: whole objects under typed keys ([`paths`]). Out: the same bytes. Objects are immutable: one key is written once
//! and, perhaps, deleted; only catalog checkpoints may be written again, with the same bytes.
//!
//! Promises, of every [`Store`]:
//! - when `put` or `put_if_absent` returns success, the object survives a crash and a power loss, whole; before, nobody
//!   sees a part of it;
//! - of any number of concurrent `put_if_absent` of one key, on any number of machines, exactly one creates the object;
//! - a call ends within seconds when the store does not answer, with [`ErrorKind::Unreachable`], and a write that ended
//!   so *may have happened*, or may yet for as long as [`Store::late_writes`] says;
//! - `delete` of what is not there is a success.
//!
//! [`LocalStore`] writes a temporary file, fsyncs, renames (or hard-links, to be the only one) and fsyncs the folders.
//! [`BucketStore`] is any S3 that honours `If-None-Match: *` on PUT; [`probe`] finds out at start.
//! Knows nothing of rows, blocks or records. `object_store` is named nowhere else. Start at [`Store`] and [`open`].

pub mod paths;
mod config;
mod error;
mod metrics;
mod local;
mod bucket;
mod credentials;
mod metered;
mod demand;
mod object;
mod mapped;
mod scratch;
mod cache;
mod partial;
#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod dated;
#[cfg(test)]
pub(crate) mod faulty;

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use bucket::BucketStore;
pub use cache::{Cache, Fetched};
pub use config::{Config, Secret};
pub use demand::{Demand, on_behalf_of};
pub use error::{Error, ErrorKind, Result};
pub use local::LocalStore;
pub use object::{Checksums, Object, failed_read};
pub use paths::Key;
pub use scratch::{Scratch, ScratchFile};

use metered::MeteredStore;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its length.
    pub n_bytes: u64,
    /// When the store says it was written, nanoseconds since the epoch.
    pub modified_nanos: i64,
}

/// A place for immutable objects. See the module's page for what each call promises.
#[async_trait::async_trait]
pub trait Store: Send + Sync + Debug {
    /// Writes an object, replacing one that is there.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()>;
    /// Writes an object unless there is one. `true`: this call created it. `false`: one was there, which after an
    /// unanswered earlier try may be the caller's own: read it to know.
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool>;
    /// Reads an object.
    async fn get(&self, key: &Key) -> Result<Bytes>;
    /// Reads bytes `range` of an object; a range that ends behind the object is an error.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes>;
    /// Requests that reading so many bytes takes: a bucket gives large ranges in parts.
    fn gets_of(&self, n_bytes: u64) -> u64 {
        let _ = n_bytes;
        1
    }
    /// How long after a write was given up for want of an answer it may still be carried out.
    fn late_writes(&self) -> Duration {
        Duration::ZERO
    }
    /// Lists the objects whose key starts with `prefix` (empty, or ending in `/`) and sorts after `after`, in the order of their keys.
    /// What is not named like a key of ours is left out.
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>>;
    /// Removes an object; success if there is none.
    async fn delete(&self, key: &Key) -> Result<()>;
    /// The object's own file, if the store is a directory of this machine. Says nothing about whether it exists.
    fn local_path(&self, key: &Key) -> Option<PathBuf>;
    /// Where the store is, for people: never holds a secret.
    fn url(&self) -> &str;
}

/// Opens the store that `config` names; the default one lies in `data_dir`. Reaches no bucket yet: see [`probe`].
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Store>> {
    let url = config.url.trim();
    if let Some(rest) = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://")) {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        return Ok(Arc::new(MeteredStore::new(BucketStore::open(config, bucket, prefix).await?)));
    }
    let path = match url.strip_prefix("file://") {
        Some(path) => PathBuf::from(path),
        None if url.is_empty() => data_dir.join("store"),
        None if !url.contains("://") => PathBuf::from(url),
        None => {
            return Err(Error::new(ErrorKind::Invalid, "open", url, "use s3://bucket/prefix, file:///path or a path"));
        }
    };
    Ok(Arc::new(MeteredStore::new(LocalStore::open(&path)?)))
}

/// Writes, reads and removes a small object, and checks that a second conditional write of it is refused: the catalog
/// rests on that. [`ErrorKind::Unsupported`] if the store lets both through.
pub async fn probe(store: &dyn Store) -> Result<()> {
    let key = paths::probe_key(&ulid::Ulid::from_bytes(rand::random()).to_string().to_lowercase());
    let first = store.put_if_absent(&key, Bytes::from_static(b"1")).await?;
    let second = store.put_if_absent(&key, Bytes::from_static(b"2")).await;
    let read = store.get(&key).await;
    store.delete(&key).await?;
    if !first || second? || read? != "1" {
        let why = "the store does not honour conditional writes (If-None-Match: *), which the catalog rests on";
        return Err(Error::new(ErrorKind::Unsupported, "probe", store.url(), why));
    }
    Ok(())
}
