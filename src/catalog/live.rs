//! What is live, and how a record changes it: the one function that every node runs over the same log.
//! What it does to deletes by query stands in [`super::deletes`].

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::record::{FORMAT_VERSION, Record, VERSION_OF_DELETES, VERSION_OF_LEAVING};
use super::{Away, Commit, CommitId, CommitKind, Delete, Forgotten, Gone, Incarnation, NodeId, NodeState, OpenIntent, Removed, Snapshot, deletes};
use crate::block::{BlockId, BlockMeta, Level};
use crate::model::Table;
use crate::storage::Key;

/// How long a removed block is remembered, counted in the records' own times. Longer than any grace period, and than
/// the age from which an unnamed object is an orphan.
pub(super) const REMOVED_KEPT_NANOS: i64 = 25 * 3_600_000_000_000;
/// Commits remembered by name, so that one that comes again is recognised. A caller that tries again does so at once.
const COMMITS_REMEMBERED: usize = 4096;

/// A checkpoint: everything live after one record.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Checkpoint {
    /// The oldest version in which it can be said.
    v: u32,
    pub(super) seq: u64,
    blocks: Vec<Arc<BlockMeta>>,
    nodes: BTreeMap<NodeId, NodeState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<NodeId>,
    #[serde(default)]
    removed: Vec<Removed>,
    #[serde(default)]
    intents: BTreeMap<CommitId, OpenIntent>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    deletes: BTreeMap<CommitId, Delete>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gone: BTreeMap<Table, Gone>,
}

impl Checkpoint {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let has_deletes = !snapshot.deletes.is_empty() || snapshot.all_blocks().any(|meta| !meta.hidden.is_empty());
        let says = [
            (snapshot.nodes.values().any(|node| !node.state_parts.is_empty()), FORMAT_VERSION),
            (snapshot.nodes.values().any(|node| node.away.is_some()), VERSION_OF_LEAVING),
            (has_deletes, VERSION_OF_DELETES),
        ];
        Self {
            v: says.iter().find(|(is_said, _)| *is_said).map_or(1, |(_, version)| *version),
            seq: snapshot.seq,
            blocks: snapshot.all_blocks().cloned().collect(),
            nodes: snapshot.nodes.as_ref().clone(),
            leader: snapshot.leader.clone(),
            removed: snapshot.removed.as_ref().clone(),
            intents: snapshot.intents.as_ref().clone(),
            deletes: snapshot.deletes.as_ref().clone(),
            gone: snapshot.gone.as_ref().clone(),
        }
    }
}

/// The newest snapshot, and what is needed to make the next.
#[derive(Debug, Default)]
pub(super) struct Live {
    snapshot: Snapshot,
    table_of: HashMap<BlockId, Table>,
    committed: HashSet<CommitId>,
    committed_in_order: VecDeque<CommitId>,
}

impl Live {
    /// What a checkpoint holds. The message says what contradicts.
    pub(super) fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self, String> {
        let mut live = Live::default();
        live.snapshot.seq = checkpoint.seq;
        live.snapshot.nodes = Arc::new(checkpoint.nodes);
        live.snapshot.leader = checkpoint.leader;
        live.snapshot.removed = Arc::new(checkpoint.removed);
        live.snapshot.intents = Arc::new(checkpoint.intents);
        live.snapshot.deletes = Arc::new(checkpoint.deletes);
        live.snapshot.gone = Arc::new(checkpoint.gone);
        let mut tables: [Vec<Arc<BlockMeta>>; Table::ALL.len()] = Default::default();
        for meta in checkpoint.blocks {
            if live.table_of.insert(meta.id.clone(), meta.table).is_some() {
                return Err(format!("block {} is there twice", meta.id.as_str()));
            }
            tables[meta.table as usize].push(meta);
        }
        live.snapshot.tables = tables.map(|mut blocks| {
            sort(&mut blocks);
            Arc::new(blocks)
        });
        Ok(live)
    }

    pub(super) fn seq(&self) -> u64 {
        self.snapshot.seq
    }
    /// Cheap: blocks are shared.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }
    /// Whether a commit of this name has happened, as far as is remembered.
    pub(super) fn has_committed(&self, id: &CommitId) -> bool {
        self.committed.contains(id)
    }

    /// Whether another life than this writes as `node` by now. One that does not say which it is always may.
    pub(super) fn is_superseded(&self, node: &NodeId, incarnation: Option<&Incarnation>) -> bool {
        match (incarnation, self.snapshot.incarnation(node)) {
            (Some(ours), Some(last)) => ours != last,
            _ => false,
        }
    }

    /// How many deletes ended without `node`, which was given up, if that keeps it from committing this: it may only begin, with
    /// nothing in its log that they could mean.
    pub(super) fn missed_by(&self, node: &NodeId, commit: &Commit) -> Option<u64> {
        let missed = self.snapshot.missed_deletes(node);
        let is_without_log = commit.begins.as_ref().is_some_and(|begin| begin.lsn <= self.snapshot.flushed_lsn(node));
        (missed > 0 && !is_without_log).then_some(missed)
    }

    /// Whether `node` may commit this now, in this life; else what contradicts.
    pub(super) fn check(&self, node: &NodeId, incarnation: Option<&Incarnation>, commit: &Commit) -> Result<(), String> {
        match &commit.begins {
            Some(begin) if begin.from.as_ref() != self.snapshot.incarnation(node) => return Err("another process has begun to write as this node".into()),
            None if self.is_superseded(node, incarnation) => return Err("another process writes as this node".into()),
            _ => {}
        }
        if let Some(missed) = self.missed_by(node, commit) {
            return Err(format!("the node was given up, and {missed} deletes have ended without it"));
        }
        if let Some(given_up) = &commit.gives_up
            && (given_up == node || !self.snapshot.nodes.contains_key(given_up))
        {
            return Err(format!("node {given_up} is this one, or none that ever committed"));
        }
        let mut seen = HashSet::new();
        for id in &commit.removes {
            if !self.table_of.contains_key(id) {
                return Err(format!("block {} to be removed is not live", id.as_str()));
            }
            if !seen.insert(id) {
                return Err(format!("block {} is removed twice", id.as_str()));
            }
        }
        for meta in &commit.adds {
            if self.table_of.contains_key(&meta.id) || !seen.insert(&meta.id) {
                return Err(format!("block {} to be added exists", meta.id.as_str()));
            }
        }
        let open_intent = |id| self.snapshot.intents.get(id).ok_or("the intent is not open");
        if let Some(withdrawn) = &commit.withdraws {
            open_intent(withdrawn)?;
        }
        if let Some(ended) = &commit.ends {
            let is_fulfilled = !commit.removes.is_empty() || !commit.adds.is_empty();
            match (is_fulfilled, open_intent(ended)?.is_withdrawn) {
                (true, true) => return Err("the intent is withdrawn".into()),
                (false, false) => return Err("the intent is neither fulfilled nor withdrawn".into()),
                _ => {}
            }
        }
        if let Some(intent) = &commit.intent {
            let mut claimed: HashSet<&BlockId> = self.snapshot.intents.values().flat_map(|open| &open.intent.inputs).collect();
            for id in &intent.inputs {
                if !self.table_of.contains_key(id) || !claimed.insert(id) {
                    return Err(format!("block {} is gone, or another intent has it", id.as_str()));
                }
            }
        }
        if let Some(lead) = &commit.lead
            && (lead.from != self.snapshot.leader || lead.from_state.as_ref() != lead.from.as_ref().and_then(|from| self.snapshot.state(from)))
        {
            return Err("the lead, or its state, has changed".into());
        }
        for Forgotten { node, state } in &commit.forgets {
            if self.snapshot.state(node) != Some(state) || self.snapshot.leader.as_ref() == Some(node) {
                return Err(format!("the state of node {node} has changed, or it leads"));
            }
        }
        // a sweep may have taken what is not the node's any more
        let is_ours = |part: &Key| self.snapshot.nodes.get(node).is_some_and(|node| node.states().any(|state| state == part));
        if !commit.state_parts.is_empty() && (commit.state.is_none() || !commit.state_parts.iter().all(is_ours)) {
            return Err("the node's state is not the one to which changes are said: another node has taken it over".into());
        }
        if let Some(wal) = commit.wal {
            let flushed = self.snapshot.flushed_lsn(node);
            if wal.from > wal.to || wal.from <= flushed {
                return Err(format!(
                    "WAL positions {} to {} do not follow {flushed}, up to which blocks cover it",
                    wal.from, wal.to
                ));
            }
        }
        self.check_hidden(commit)?;
        deletes::check(&self.snapshot, node, commit)
    }

    fn meta(&self, id: &BlockId) -> Option<&Arc<BlockMeta>> {
        self.snapshot.block(*self.table_of.get(id)?, id)
    }

    fn check_hidden(&self, commit: &Commit) -> Result<(), String> {
        for hide in &commit.hides {
            let meta = self
                .meta(&hide.block)
                .ok_or_else(|| format!("block {} whose rows are to be hidden is not live", hide.block.as_str()))?;
            if hide.rows.iter().any(|row| u64::from(*row) >= meta.n_rows) {
                return Err(format!("block {} has no such row to hide", hide.block.as_str()));
            }
        }
        if commit.adds.is_empty() {
            return Ok(());
        }
        for id in &commit.removes {
            let n_hidden = self.meta(id).map_or(0, |meta| meta.hidden.len() as u64);
            if n_hidden != commit.saw_hidden.get(id).copied().unwrap_or_default() {
                return Err(format!("rows of block {} were hidden meanwhile", id.as_str()));
            }
        }
        Ok(())
    }

    /// Makes the next record happen; changes nothing if it contradicts.
    pub(super) fn apply(&mut self, record: Record) -> Result<(), String> {
        if record.seq != self.snapshot.seq + 1 {
            return Err(format!("it says it is record {}, after {}", record.seq, self.snapshot.seq));
        }
        self.check(&record.node, record.incarnation.as_ref(), &record.commit)?;
        let commit = record.commit;
        deletes::apply(&mut self.snapshot, &record.node, &commit);
        self.remove(&record.node, &commit);
        if let Some(open) = commit.withdraws.as_ref().and_then(|id| Arc::make_mut(&mut self.snapshot.intents).get_mut(id)) {
            open.is_withdrawn = true;
        }
        if let Some(ended) = &commit.ends {
            Arc::make_mut(&mut self.snapshot.intents).remove(ended);
        }
        if let Some(intent) = commit.intent {
            let open = OpenIntent {
                intent,
                node: record.node.clone(),
                at_nanos: commit.at_nanos,
                is_withdrawn: false,
            };
            Arc::make_mut(&mut self.snapshot.intents).insert(commit.id.clone(), open);
        }
        for hide in commit.hides {
            self.hide(&hide.block, hide.rows);
        }
        let mut changed = HashSet::new();
        for meta in commit.adds {
            self.table_of.insert(meta.id.clone(), meta.table);
            changed.insert(meta.table);
            Arc::make_mut(&mut self.snapshot.tables[meta.table as usize]).push(Arc::new(meta));
        }
        for table in changed {
            let blocks: &mut Vec<_> = Arc::make_mut(&mut self.snapshot.tables[table as usize]);
            sort(blocks);
        }
        if commit.lead.is_some() {
            self.snapshot.leader = Some(record.node.clone());
        }
        for Forgotten { node, .. } in commit.forgets {
            let node = Arc::make_mut(&mut self.snapshot.nodes).entry(node).or_default();
            (node.state, node.state_parts) = (None, Vec::new());
        }
        if let Some(given_up) = commit.gives_up
            && let Some(node) = Arc::make_mut(&mut self.snapshot.nodes).get_mut(&given_up)
        {
            // one that left has nothing to give up
            node.away.get_or_insert(Away::GivenUp {
                at_nanos: commit.at_nanos,
                missed: 0,
            });
        }
        let is_about_node = commit.wal.is_some() || commit.state.is_some() || commit.ledger.is_some() || commit.begins.is_some() || commit.leaves;
        if is_about_node || self.snapshot.nodes.get(&record.node).is_none_or(|node| node.away.is_some()) {
            let node = Arc::make_mut(&mut self.snapshot.nodes).entry(record.node).or_default();
            if commit.begins.is_some() || record.incarnation.is_none() {
                // an older program knows of no lives: which one it is, nobody can tell
                node.incarnation = record.incarnation;
            }
            node.flushed_lsn = commit.wal.map_or(node.flushed_lsn, |wal| wal.to);
            if commit.state.is_some() {
                (node.state, node.state_parts) = (commit.state, commit.state_parts);
            }
            node.ledger = commit.ledger.or(node.ledger.take());
            node.away = commit.leaves.then_some(Away::Left { at_nanos: commit.at_nanos });
        }
        deletes::end(&mut self.snapshot, commit.at_nanos);
        self.snapshot.seq = record.seq;
        self.remember(commit.id);
        Ok(())
    }

    fn remove(&mut self, node: &NodeId, commit: &Commit) {
        let is_old = |removed: &Removed| removed.at_nanos < commit.at_nanos.saturating_sub(REMOVED_KEPT_NANOS);
        if commit.removes.is_empty() && !self.snapshot.removed.iter().any(is_old) {
            return;
        }
        let gone: HashSet<&BlockId> = commit.removes.iter().collect();
        let tables: HashSet<Table> = gone.iter().filter_map(|id| self.table_of.remove(*id)).collect();
        let removed = Arc::make_mut(&mut self.snapshot.removed);
        removed.retain(|removed| !is_old(removed));
        // what becomes nothing had hidden rows only
        let is_emptied = commit.adds.is_empty() && matches!(commit.kind, CommitKind::Seal | CommitKind::Merge);
        let is_replaced = is_emptied || commit.adds.iter().any(|meta| meta.level == Level::Sealed) || !commit.erased.is_empty();
        let is_retention = commit.kind == CommitKind::Retention;
        // in the order of tables, so that every node has the same list
        for table in Table::ALL.into_iter().filter(|table| tables.contains(table)) {
            let blocks = Arc::make_mut(&mut self.snapshot.tables[table as usize]);
            if is_retention {
                let of_table = blocks.iter().filter(|meta| gone.contains(&meta.id));
                let left: u64 = commit.adds.iter().filter(|meta| meta.table == table).map(|meta| meta.n_visible_rows()).sum();
                let n_rows = of_table.map(|meta| meta.n_visible_rows()).sum::<u64>().saturating_sub(left);
                Arc::make_mut(&mut self.snapshot.gone).entry(table).or_default().expired += n_rows;
            }
            removed.extend(blocks.extract_if(.., |meta| gone.contains(&meta.id)).map(|meta| Removed {
                leaves_the_lake: is_replaced && meta.level == Level::Sealed,
                meta,
                node: node.clone(),
                at_nanos: commit.at_nanos,
            }));
        }
    }

    fn hide(&mut self, id: &BlockId, rows: Vec<u32>) {
        let Some(table) = self.table_of.get(id) else { return };
        let blocks = Arc::make_mut(&mut self.snapshot.tables[*table as usize]);
        if let Some(meta) = blocks.iter_mut().find(|meta| meta.id == *id) {
            // older snapshots have the block as it was
            let meta = Arc::make_mut(meta);
            meta.hidden = meta.hidden.with(rows);
        }
    }

    fn remember(&mut self, id: CommitId) {
        if self.committed_in_order.len() == COMMITS_REMEMBERED
            && let Some(oldest) = self.committed_in_order.pop_front()
        {
            self.committed.remove(&oldest);
        }
        self.committed.insert(id.clone());
        self.committed_in_order.push_back(id);
    }
}

fn sort(blocks: &mut [Arc<BlockMeta>]) {
    blocks.sort_by(|a, b| b.max_time_nanos.cmp(&a.max_time_nanos).then_with(|| a.id.cmp(&b.id)));
}
