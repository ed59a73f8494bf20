//! One life of a node: from the start of a process to its end. Copies of one data directory have one node's name; this tells
//! their processes apart, so that no two write as one node and neither drops what the other acknowledged.
//!
//! | | |
//! |---|---|
//! | `DATA_DIR/incarnation` | the lives that began with this folder: the last that is known to have begun, and one that was about to |
//! | a record that [`Begin`]s | makes its process the one that writes as the node; names the life before it, and happens only if that is still the last |
//! | every other record | names its life; one of a life that another has ended is refused: [`Error::Superseded`] |
//! | the heartbeat | names the life and the place where it runs |
//!
//! At a start: a folder whose lives are not the node's last is a copy that was left behind, and is refused untouched
//! ([`Error::LeftBehind`]). If the heartbeat comes from another place, it is watched for a while, and if it goes on, the process that
//! runs stays and the one that starts is refused ([`Error::AlreadyRuns`]). So of two processes the older one stays, unless it is
//! silent; then the newer one takes its place, and should the older one only have slept, it finds out with its next
//! record or look at the store, and ends with all it has acknowledged in its log.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node::{FILE_NAME as NODE_FILE, checked, invalid, with_checksum, write_durably};
use super::{Catalog, Commit, CommitKind, Error, NodeId, Result, Snapshot};
use crate::storage::paths::CatalogPath;
use crate::wal::Lsn;

/// File in the data directory that names its lives.
const FILE_NAME: &str = "incarnation";
/// What is said of a damaged file: a guess would let two processes write as one node, or take the node's own folder for a copy left behind.
const NOT_LIVES: &str = "these are not the lives of a node (26 lower-case letters and digits each). If no other process writes as this node, put its last \
     life there as the only line: it stands as `incarnation` in the node's document under _catalog/node/ of the store. Nothing was changed";
/// How often the heartbeat of another place is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 500 });

/// The name of one life of a node (a ULID, 26 lower-case characters).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Incarnation(String);

impl Incarnation {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn new() -> Self {
        Self(ulid::Ulid::from_bytes(rand::random()).to_string().to_lowercase())
    }

    fn parse(text: &str) -> Option<Self> {
        NodeId::parse(text).map(|id| Self(id.as_str().to_string()))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process begins to write as its node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Begin {
    /// The life before it; `None` if the node has none, or had one that did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Incarnation>,
    /// The last position of its log when it began: the life before it has those up to here in common with it.
    pub lsn: Lsn,
}

/// This process' life as a node.
#[derive(Clone, Debug)]
pub struct Life {
    incarnation: Incarnation,
    /// Those that began with this folder.
    earlier: Vec<Incarnation>,
    /// The folder's place: its machine since its last boot, and the file's number there, which a copy has not.
    place: String,
    data_dir: PathBuf,
    /// How long the heartbeat of another place is watched.
    watch: Duration,
}

/// What of a heartbeat tells where it comes from.
#[derive(Debug, serde::Deserialize)]
struct Beat {
    #[serde(default)]
    place: Option<String>,
}

impl Life {
    /// A new life, with a data directory that has its node's name; writes nothing. A heartbeat that comes each `beat_every`
    /// is watched for twice as long.
    pub fn new(data_dir: &Path, beat_every: Duration) -> Result<Self> {
        let path = data_dir.join(FILE_NAME);
        let read = || -> io::Result<(Vec<Incarnation>, String)> {
            let earlier = match fs::read_to_string(&path) {
                Ok(text) => {
                    let lines = checked(&text).map_err(|torn| invalid(&format!("{torn}. {NOT_LIVES}")))?;
                    let ids: Option<Vec<_>> = lines.split_whitespace().map(Incarnation::parse).collect();
                    ids.filter(|ids| !ids.is_empty()).ok_or_else(|| invalid(NOT_LIVES))?
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            let file = fs::metadata(data_dir.join(NODE_FILE))?;
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            Ok((earlier, format!("{} {}", boot.trim(), file.ino())))
        };
        let (earlier, place) = read().map_err(|source| Error::Node { path, source })?;
        Ok(Self {
            incarnation: Incarnation::new(),
            earlier,
            place,
            data_dir: data_dir.to_path_buf(),
            watch: beat_every * 2 + LOOK_EVERY,
        })
    }

    /// Its name.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Whether it is this life, or one before it with this folder.
    fn knows(&self, last: &Incarnation) -> bool {
        *last == self.incarnation || self.earlier.contains(last)
    }

    /// Its place.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn keep(&self, last: Option<&Incarnation>) -> Result<()> {
        let lines: Vec<&str> = last.into_iter().chain([&self.incarnation]).map(Incarnation::as_str).collect();
        let path = self.data_dir.join(FILE_NAME);
        let text = with_checksum(&(lines.join("\n") + "\n"));
        let written = match write_durably(&path, &text) {
            // a server must start on a full disk, or nothing ever makes room on it
            Err(full) if full.kind() == io::ErrorKind::StorageFull => overwrite(&path, &text).map_err(|_| full),
            written => written,
        };
        written.map_err(|source| Error::Node { path, source })
    }
}

/// Writes a few bytes over those of a file that is there, which takes no room: it has its block.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

impl Catalog {
    /// The same catalog, written to in a life of its node: nothing is committed before it has begun ([`Catalog::begin`]).
    pub fn living(mut self, life: Life) -> Self {
        self.life = Some(life);
        self
    }

    /// Finds out whether this life may begin: to be asked before anything in the data directory is changed.
    ///
    /// # Errors
    ///
    /// [`Error::LeftBehind`], [`Error::AlreadyRuns`].
    pub async fn may_begin(&self) -> Result<()> {
        let Some(life) = &self.life else { return Ok(()) };
        let snapshot = self.refresh().await?;
        if let Some(last) = snapshot.incarnation(self.node())
            && !life.knows(last)
        {
            return Err(Error::LeftBehind {
                data_dir: life.data_dir.clone(),
                node: self.node().clone(),
            });
        }
        let key = CatalogPath::Node(self.node().to_string()).key();
        let place = match self.store().get(&key).await {
            // what an older program wrote has no place
            Ok(bytes) => serde_json::from_slice::<Beat>(&bytes).ok().and_then(|beat| beat.place),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if place.is_none_or(|place| place == life.place) {
            // a process in this very place would hold the log's lock
            return Ok(());
        }
        let (node, seconds) = (self.node().as_str(), life.watch.as_secs());
        tracing::warn!(node, seconds, "this node last ran in another place; watching whether it still does");
        let first = self.last_beat().await?;
        let began = tokio::time::Instant::now();
        while began.elapsed() < life.watch {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.last_beat().await?;
            // one that is gone was taken away in order
            if now.is_some() && now != first {
                return Err(Error::AlreadyRuns {
                    data_dir: life.data_dir.clone(),
                    node: self.node().clone(),
                });
            }
        }
        Ok(())
    }

    /// When this node's heartbeat was written, by the store's clock.
    async fn last_beat(&self) -> Result<Option<i64>> {
        let key = CatalogPath::Node(self.node().to_string()).key();
        let listed = self.store().list(CatalogPath::NODE_PREFIX, None).await?;
        Ok(listed.iter().find(|object| object.key == key).map(|object| object.modified_nanos))
    }

    /// Begins this life, in the place of the last one; `lsn` is the last position of the log, which nobody else holds open. From
    /// here on deletes wait for the node's log. Without a life it does nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyRuns`]; [`Error::GivenUp`] if that log must not come back.
    pub async fn begin(&self, lsn: Lsn, now_nanos: i64) -> Result<()> {
        let snapshot = self.snapshot();
        let state = snapshot.nodes().get(self.node());
        let Some(life) = &self.life else {
            // from here on deletes wait for it again
            if state.is_some_and(|state| state.away.is_some()) {
                self.commit(Commit::new(CommitKind::State, now_nanos)).await?;
            }
            return Ok(());
        };
        let last = snapshot.incarnation(self.node()).cloned();
        // first both, so that either is known here whatever a crash leaves of the commit
        life.keep(last.as_ref())?;
        let mut commit = Commit::new(CommitKind::State, now_nanos);
        commit.begins = Some(Begin { from: last, lsn });
        match self.commit(commit).await {
            // somebody else began since we looked
            Err(Error::Conflict { .. }) => Err(Error::AlreadyRuns {
                data_dir: life.data_dir.clone(),
                node: self.node().clone(),
            }),
            result => result.map(|_| ()),
        }
    }

    /// Whether this process may not write as this node any more: another does, or it was given up, and deletes have ended without it.
    pub fn is_superseded(&self, snapshot: &Snapshot) -> bool {
        snapshot.missed_deletes(self.node()) > 0 || self.is_replaced(snapshot)
    }

    /// Whether another process writes as this node by now.
    fn is_replaced(&self, snapshot: &Snapshot) -> bool {
        match (&self.life, snapshot.incarnation(self.node())) {
            (Some(life), Some(last)) => !life.knows(last),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
