//! What is damaged of the catalog's own objects, for people: also where a copy makes up for it, and nobody has noticed.

use futures::{StreamExt, TryStreamExt};

use super::document::copy_of;
use super::read::{list_checkpoints, read_checkpoint, read_record_at, read_state_at};
use super::{Catalog, Error, NodeState, Result, Snapshot};
use crate::storage::paths::CatalogPath;
use crate::storage::{Key, Store};

/// Objects read at a time.
const PARALLEL_READS: usize = 16;

impl Catalog {
    /// Reads every record, checkpoint, and state that `snapshot` names, and their copies; changes nothing. Each flaw names its
    /// object and says what it means. An error only if the store does not answer, or a newer program wrote there.
    pub async fn flaws(store: &dyn Store, snapshot: Option<&Snapshot>) -> Result<Vec<String>> {
        let mut flaws = Vec::new();
        let checkpoints = list_checkpoints(store).await?;
        let mut newest_whole = 0;
        for seq in checkpoints.into_iter().rev() {
            let key = CatalogPath::Checkpoint(seq).key();
            match of(read_checkpoint(store, seq).await, &key)? {
                None => newest_whole = seq,
                // removed since it was listed
                Some(Flaw::Missing) => {}
                Some(flaw) => flaws.push(format!("{}: an older checkpoint, and the records since, make up for it", flaw.text(&key))),
            }
        }
        let listed = store.list(CatalogPath::LOG_PREFIX, None).await?;
        let last = listed.iter().rev().find_map(|object| match CatalogPath::parse(&object.key) {
            Some(CatalogPath::Log(seq)) => Some(seq),
            _ => None,
        });
        let mut damaged = futures::stream::iter(1..=last.unwrap_or(0))
            .map(async |seq| record(store, seq, newest_whole).await)
            .buffered(PARALLEL_READS);
        while let Some(flaw) = damaged.try_next().await? {
            flaws.extend(flaw);
        }
        if let Some(snapshot) = snapshot {
            let states = snapshot.nodes().values().flat_map(NodeState::states);
            let open = snapshot.deletes().values().filter(|delete| delete.ended_at_nanos.is_none());
            for key in states.chain(open.map(|delete| &delete.order.query)) {
                flaws.extend(state(store, key).await?);
            }
        }
        Ok(flaws)
    }
}

enum Flaw {
    Missing,
    Damaged(String),
}

impl Flaw {
    fn text(&self, key: &Key) -> String {
        match self {
            Flaw::Missing => format!("{key} is missing"),
            Flaw::Damaged(why) => format!("{key}: {why}"),
        }
    }
}

/// What is wrong with what was read.
fn of<T>(read: Result<T>, key: &Key) -> Result<Option<Flaw>> {
    match read {
        Ok(_) => Ok(None),
        Err(Error::Corrupt { key: at, why }) if at == *key => Ok(Some(Flaw::Damaged(why))),
        Err(Error::Store(error)) if error.is_not_found() => Ok(Some(Flaw::Missing)),
        Err(error) => Err(error),
    }
}

/// What is wrong with a record, and what of it.
async fn record(store: &dyn Store, seq: u64, newest_whole_checkpoint: u64) -> Result<Option<String>> {
    let (key, copy) = (CatalogPath::Log(seq).key(), CatalogPath::copy_of_record(seq).key());
    let Some(flaw) = of(read_record_at(store, &key, seq).await, &key)? else {
        return Ok(None);
    };
    let remedy = if of(read_record_at(store, &copy, seq).await, &copy)?.is_none() {
        format!("its copy {copy} is whole and is used; put it in its place")
    } else if seq <= newest_whole_checkpoint {
        format!("it has no copy, but a start does not need it as long as checkpoint {newest_whole_checkpoint} is whole; put a backup in its place")
    } else {
        "it has no copy: no start gets past it. Put a backup in its place, or stop a server that still runs on this store in order, which leaves a checkpoint"
            .into()
    };
    Ok(Some(format!("{}: {remedy}", flaw.text(&key))))
}

/// What is wrong with a state or a query, or with its copy.
async fn state(store: &dyn Store, key: &Key) -> Result<Option<String>> {
    let own = of(read_state_at(store, key, key).await, key)?;
    let Some(copy) = copy_of(key) else {
        return Ok(own.map(|flaw| flaw.text(key)));
    };
    let other = of(read_state_at(store, &copy, key).await, &copy)?;
    Ok(match (own, other) {
        (None, None) => None,
        (Some(Flaw::Missing), Some(Flaw::Missing)) => Some(format!("{key} and its copy are missing")),
        (Some(flaw), None) => Some(format!("{}: its copy {copy} is whole and is used", flaw.text(key))),
        (None, Some(flaw)) => Some(format!("{}: the copy of {key}, which is whole", flaw.text(&copy))),
        (Some(flaw), Some(other)) => Some(format!(
            "{}; and {}: put a backup in the place of one of them",
            flaw.text(key),
            other.text(&copy)
        )),
    })
}
