//! Finds objects that nothing names: what a crash between put and commit, or a lost delete, left behind.

use std::collections::HashSet;

use super::document::copy_of;
use super::live::REMOVED_KEPT_NANOS;
use super::{Catalog, NodeState, Result, block_path};
use crate::model::Table;
use crate::storage::paths::{self, BlockPath, CatalogPath};
use crate::storage::{Key, Listed};

/// Age from which an object that nothing names is an orphan. A flush or merge puts its objects and commits within
/// minutes, and has to give up within half of this.
pub const ORPHAN_AGE_NANOS: i64 = 24 * 3_600_000_000_000;
const _: () = assert!(REMOVED_KEPT_NANOS > ORPHAN_AGE_NANOS, "a removed block would be swept within its grace");

impl Catalog {
    /// Lists objects of blocks and states that no record names, older than [`ORPHAN_AGE_NANOS`] at `now_nanos`. Objects
    /// that are not named as ours are not ours. Lists the whole store: once a day is enough.
    pub async fn orphans(&self, now_nanos: i64) -> Result<Vec<Listed>> {
        let mut old = Vec::new();
        let block_prefixes = Table::ALL.into_iter().flat_map(paths::block_prefixes);
        for prefix in block_prefixes.chain([CatalogPath::STATE_PREFIX.to_string(), paths::PROBE_PREFIX.to_string()]) {
            let listed = self.store().list(&prefix, None).await?;
            old.extend(
                listed
                    .into_iter()
                    .filter(|object| object.modified_nanos < now_nanos.saturating_sub(ORPHAN_AGE_NANOS)),
            );
        }
        // after listing: what was listed and committed since is named by now
        let snapshot = self.refresh().await?;
        let metas = snapshot.all_blocks().chain(snapshot.removed().iter().map(|removed| &removed.meta));
        let mut named: HashSet<Key> = metas
            .flat_map(|meta| {
                let path = block_path(meta);
                [path.data(), path.index()]
            })
            .collect();
        named.extend(snapshot.nodes().values().flat_map(NodeState::states).cloned());
        let under_way = snapshot.deletes().values().filter(|delete| delete.ended_at_nanos.is_none());
        named.extend(under_way.map(|delete| delete.order.query.clone()));
        let copies: Vec<Key> = named.iter().filter_map(copy_of).collect();
        named.extend(copies);
        old.retain(|object| {
            let ours = BlockPath::parse(&object.key).is_some_and(|(path, _)| path.block_id.len() == 26)
                || matches!(CatalogPath::parse(&object.key), Some(CatalogPath::State(_)))
                || object.key.as_str().starts_with(paths::PROBE_PREFIX);
            ours && !named.contains(&object.key)
        });
        Ok(old)
    }
}
