//! Deletes by query in the catalog: what each concerns, what is left to do, and when it has ended.
//!
//! A delete concerns the blocks that are live at its record, and rows that a node's log holds up to the node's cut. The
//! first are its `todo`: looked at one by one, each replaced by a block without the rows that are meant, or found clean.
//! One record may replace a block for several deletes (format version 3); those that it does not name look at what took its place.
//! Until then nobody merges them, because rows that come later must not share a block with them. The second never reach a
//! block: a flush is refused until its node has learnt of the delete, and then leaves them out. So a node that was down
//! for a month does not bring them back.
//!
//! A delete waits for every node whose log may hold such rows. It does not wait for one that stopped with nothing left in its log
//! ([`Commit::leaves`]), nor for one that was given up ([`Commit::gives_up`]). Should that one come back before the delete has ended, it
//! is waited for again, and learns of it; comes it later, nobody knows any more what was meant: what its log holds is never taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Away, Commit, CommitId, Delete, NodeId, Snapshot};
use crate::block::BlockId;

/// Deletes remembered after their end, for people to look at.
const ENDED_KEPT: usize = 1_000;

/// Whether `node` may commit this, as far as deletes have a say; else what contradicts.
pub(super) fn check(snapshot: &Snapshot, node: &NodeId, commit: &Commit) -> Result<(), String> {
    let open = |id: &CommitId| {
        let found = snapshot.deletes.get(id).filter(|delete| delete.ended_at_nanos.is_none());
        found.ok_or_else(|| format!("delete {} is not under way", id.as_str()))
    };
    for join in &commit.joins {
        if open(&join.delete)?.cuts.contains_key(node) {
            return Err(format!("delete {} is known to this node", join.delete.as_str()));
        }
    }
    if commit.wal.is_some() {
        let is_unknown = |(id, delete): &(&CommitId, &Delete)| {
            delete.ended_at_nanos.is_none() && !delete.cuts.contains_key(node) && !commit.joins.iter().any(|join| join.delete == **id)
        };
        if let Some((id, _)) = snapshot.deletes.iter().find(is_unknown) {
            return Err(format!("delete {} is not known to this node, which may hold rows that it means", id.as_str()));
        }
    }
    for erased in &commit.erased {
        let delete = open(&erased.delete)?;
        let replaced = if commit.wal.is_none() { commit.removes.as_slice() } else { &[] };
        if let Some(id) = erased.clean.iter().chain(replaced).find(|id| !delete.todo.contains(*id)) {
            return Err(format!("block {} is none that delete {} looks at", id.as_str(), erased.delete.as_str()));
        }
    }
    let is_erasure = commit.wal.is_none() && !commit.erased.is_empty();
    if is_erasure && (commit.removes.len() > 1 || (commit.removes.is_empty() && (commit.erased.len() > 1 || !commit.adds.is_empty()))) {
        return Err("deletes replace one block at a time".into());
    }
    // rows that are to be looked at are not mixed with others
    if !is_erasure
        && !commit.adds.is_empty()
        && let Some(id) = commit.removes.iter().find(|id| snapshot.is_to_be_erased(id))
    {
        return Err(format!("a delete has yet to look at block {}", id.as_str()));
    }
    Ok(())
}

/// What a record does to deletes; the blocks it removes are still live.
pub(super) fn apply(snapshot: &mut Snapshot, node: &NodeId, commit: &Commit) {
    if let Some(order) = &commit.delete {
        let todo = snapshot.prune(order.table, order.range()).iter().map(|meta| meta.id.clone()).collect();
        let delete = Delete {
            order: order.clone(),
            node: node.clone(),
            at_nanos: commit.at_nanos,
            todo,
            cuts: [(node.clone(), order.lsn)].into(),
            n_rows: 0,
            n_blocks: 0,
            ended_at_nanos: None,
        };
        Arc::make_mut(&mut snapshot.deletes).insert(commit.id.clone(), delete);
    }
    for join in &commit.joins {
        if let Some(delete) = Arc::make_mut(&mut snapshot.deletes).get_mut(&join.delete) {
            delete.cuts.insert(node.clone(), join.lsn);
        }
    }
    for erased in &commit.erased {
        if let Some(delete) = Arc::make_mut(&mut snapshot.deletes).get_mut(&erased.delete) {
            delete.n_rows += erased.rows;
            delete.n_blocks += erased.clean.len() as u64;
            delete.todo.retain(|id| !erased.clean.contains(id));
            Arc::make_mut(&mut snapshot.gone).entry(delete.order.table).or_default().deleted += erased.rows;
        }
    }
    let is_concerned = commit.removes.iter().any(|id| snapshot.is_to_be_erased(id));
    if !is_concerned {
        return;
    }
    let replaced_for: Option<BTreeSet<&CommitId>> =
        (commit.wal.is_none() && !commit.erased.is_empty()).then(|| commit.erased.iter().map(|erased| &erased.delete).collect());
    for (id, delete) in Arc::make_mut(&mut snapshot.deletes) {
        let mut gone = 0;
        delete.todo.retain(|block| {
            let stays = !commit.removes.contains(block);
            gone += u64::from(!stays);
            stays
        });
        if gone == 0 {
            continue;
        }
        if replaced_for.as_ref().is_some_and(|by| !by.contains(id)) {
            // other deletes' work, this one may have been ordered since it began: what took the block's place is still to be looked at
            delete.todo.extend(commit.adds.iter().map(|meta| meta.id.clone()).collect::<Vec<BlockId>>());
        } else {
            delete.n_blocks += gone;
        }
    }
}

/// Ends the deletes that have nothing left to do on any node.
pub(super) fn end(snapshot: &mut Snapshot, now_nanos: i64) {
    let is_over = |delete: &Delete| delete.ended_at_nanos.is_none() && delete.todo.is_empty() && snapshot.nodes_behind(delete).next().is_none();
    let over: Vec<CommitId> = snapshot
        .deletes
        .iter()
        .filter(|(_, delete)| is_over(delete))
        .map(|(id, _)| id.clone())
        .collect();
    if over.is_empty() {
        return;
    }
    let missed: Vec<NodeId> = over.iter().flat_map(|id| snapshot.given_up_behind(&snapshot.deletes[id])).collect();
    for node in missed {
        if let Some(Away::GivenUp { missed, .. }) = Arc::make_mut(&mut snapshot.nodes).get_mut(&node).and_then(|state| state.away.as_mut()) {
            *missed += 1;
        }
    }
    let deletes = Arc::make_mut(&mut snapshot.deletes);
    for id in over {
        if let Some(delete) = deletes.get_mut(&id) {
            delete.ended_at_nanos = Some(now_nanos);
        }
    }
    let mut ended: Vec<(i64, CommitId)> = deletes.iter().filter_map(|(id, delete)| Some((delete.ended_at_nanos?, id.clone()))).collect();
    ended.sort_unstable();
    for (_, id) in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT)) {
        deletes.remove(id);
    }
}

#[cfg(test)]
mod tests;
