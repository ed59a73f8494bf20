//! Reads the catalog's documents, whole or not at all: what is damaged is read once more, then its copy is. Nothing is skipped.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::document::{check_named, copy_of, damaged, open};
use super::live::{Checkpoint, Live};
use super::record::Record;
use super::{Error, Result, metrics};
use crate::storage::paths::CatalogPath;
use crate::storage::{self, Key, Store};

/// Records read at a time when starting.
const PARALLEL_READS: usize = 16;
/// What a person can do about a record that is lost in both places.
const RECORD_REMEDY: &str = "Nothing was changed, and nothing is skipped: blocks would be lost or doubled. A record never changes, so put any older \
     version or backup of one of the two objects in its place. Or, if another tracelake that has read the record still runs on this store, stop that one in order \
     (SIGTERM): it leaves a checkpoint, from which this one starts. `tracelake lake verify` lists what is damaged";
/// What a person can do about a state that is lost in both places.
const STATE_REMEDY: &str = "Nothing was changed. It holds what a node must find again (log groups, states of alerts, how far deliveries came), and never \
     changes: put an older version or backup of one of the two objects in its place. `tracelake lake verify` lists what is damaged";

/// Reads an object; once more if what came is damaged, which may have happened on the way.
async fn read<T>(store: &dyn Store, key: &Key, open: impl Fn(Bytes) -> Result<T>) -> Result<T> {
    match open(store.get(key).await?) {
        Err(Error::Corrupt { .. }) => open(store.get(key).await?),
        result => result,
    }
}

/// Why an object is of no use, if it is there and damaged, or missing; any other error is one to stop at.
fn flaw(error: Error) -> Result<String> {
    match error {
        Error::Corrupt { why, .. } => Ok(why),
        Error::Store(error) if error.is_not_found() => Ok("it is missing".into()),
        error => Err(error),
    }
}

/// Numbers of the checkpoints, newest first.
pub(super) async fn list_checkpoints(store: &dyn Store) -> Result<Vec<u64>> {
    let listed = store.list(CatalogPath::CHECKPOINT_PREFIX, None).await?;
    let number = |object: &storage::Listed| match CatalogPath::parse(&object.key) {
        Some(CatalogPath::Checkpoint(seq)) => Some(seq),
        _ => None,
    };
    Ok(listed.iter().rev().filter_map(number).collect())
}

/// The newest checkpoint that can be read; the beginning of time if there is none. All records are kept, so that an
/// older checkpoint gives the same snapshot, only later.
pub(super) async fn newest_checkpoint(store: &dyn Store) -> Result<Live> {
    for seq in list_checkpoints(store).await? {
        match read_checkpoint(store, seq).await {
            Ok(live) => return Ok(live),
            // deleted since it was listed: there are newer ones, and the log has it all
            Err(Error::Store(error)) if error.is_not_found() => {}
            Err(error @ Error::Corrupt { .. }) => {
                metrics::damaged("checkpoint");
                tracing::error!(%error, "a checkpoint is damaged; an older one is used, and the records since");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Live::default())
}

pub(super) async fn read_checkpoint(store: &dyn Store, seq: u64) -> Result<Live> {
    let key = CatalogPath::Checkpoint(seq).key();
    let of = |bytes: Bytes| {
        let checkpoint: Checkpoint = open(&key, &bytes)?;
        if checkpoint.seq != seq {
            return Err(damaged(&key, format!("it says it is checkpoint {}", checkpoint.seq)));
        }
        Live::from_checkpoint(checkpoint).map_err(|why| damaged(&key, why))
    };
    read(store, &key, of).await
}

/// Applies the records that a listing shows, many reads at a time. A gap is an error.
pub(super) async fn replay_listed(store: &dyn Store, live: &mut Live) -> Result<()> {
    let after = CatalogPath::Log(live.seq()).key();
    let listed = store.list(CatalogPath::LOG_PREFIX, Some(&after)).await?;
    let last = listed.iter().rev().find_map(|object| match CatalogPath::parse(&object.key) {
        Some(CatalogPath::Log(seq)) => Some(seq),
        _ => None,
    });
    let Some(last) = last else { return Ok(()) };
    // by number and not by the listing: one that lags behind is no gap
    let mut records = futures::stream::iter(live.seq() + 1..=last)
        .map(async |seq| match read_record(store, seq).await? {
            Some(record) => Ok(record),
            None => read_copy(store, seq, &format!("it is missing, and record {last} exists")).await,
        })
        .buffered(PARALLEL_READS);
    while let Some(record) = records.try_next().await? {
        apply(live, record)?;
    }
    Ok(())
}

pub(super) fn apply(live: &mut Live, record: Record) -> Result<()> {
    let key = CatalogPath::Log(record.seq).key();
    live.apply(record).map_err(|why| damaged(&key, why))
}

/// Reads a record, or the copy of one that is damaged; `None` if there is no such record yet.
pub(super) async fn read_record(store: &dyn Store, seq: u64) -> Result<Option<Record>> {
    match read_record_at(store, &CatalogPath::Log(seq).key(), seq).await {
        Ok(record) => Ok(Some(record)),
        Err(Error::Store(error)) if error.is_not_found() => Ok(None),
        Err(Error::Corrupt { why, .. }) => read_copy(store, seq, &why).await.map(Some),
        Err(error) => Err(error),
    }
}

/// Reads record `seq` where it or its copy lies.
pub(super) async fn read_record_at(store: &dyn Store, key: &Key, seq: u64) -> Result<Record> {
    let of = |bytes: Bytes| {
        let record: Record = open(key, &bytes)?;
        match record.seq == seq {
            true => Ok(record),
            false => Err(damaged(key, format!("it says it is record {}", record.seq))),
        }
    };
    read(store, key, of).await
}

/// The copy of a record that is of no use itself.
async fn read_copy(store: &dyn Store, seq: u64, why: &str) -> Result<Record> {
    metrics::damaged("record");
    let (key, copy) = (CatalogPath::Log(seq).key(), CatalogPath::copy_of_record(seq).key());
    match read_record_at(store, &copy, seq).await {
        Ok(record) => {
            tracing::error!(%key, why, %copy, "a record of the catalog is damaged; its copy is used");
            Ok(record)
        }
        Err(error) => {
            let copy_why = flaw(error)?;
            Err(damaged(&key, format!("{why}; its copy {copy}: {copy_why}. {RECORD_REMEDY}")))
        }
    }
}

/// Reads a state or query at one of its two places; `key` is the name that a record gives.
pub(super) async fn read_state_at(store: &dyn Store, at: &Key, key: &Key) -> Result<Bytes> {
    let of = |bytes: Bytes| match check_named(key, &bytes) {
        Ok(()) => Ok(bytes),
        Err(why) => Err(damaged(at, why)),
    };
    read(store, at, of).await
}

/// Reads a state or query, or the copy of one that is damaged or missing.
pub(super) async fn read_state(store: &dyn Store, key: &Key) -> Result<Bytes> {
    let error = match read_state_at(store, key, key).await {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let is_missing = matches!(&error, Error::Store(error) if error.is_not_found());
    let copy = copy_of(key).filter(|_| is_missing || matches!(error, Error::Corrupt { .. }));
    let Some(copy) = copy else { return Err(error) };
    match read_state_at(store, &copy, key).await {
        Ok(bytes) => {
            metrics::damaged("state");
            tracing::error!(%error, %copy, "a state in the store is damaged; its copy is used");
            Ok(bytes)
        }
        // gone as a whole: a caller knows what that means
        Err(Error::Store(copy_error)) if is_missing && copy_error.is_not_found() => Err(error),
        Err(copy_error) => {
            let copy_why = flaw(copy_error)?;
            metrics::damaged("state");
            Err(damaged(key, format!("{}; its copy {copy}: {copy_why}. {STATE_REMEDY}", flaw(error)?)))
        }
    }
}
