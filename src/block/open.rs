//! Opens a block whose objects need not be here: of the index no more than its tail is fetched, of the Parquet object nothing,
//! where the index tells what both must be.

use std::sync::Arc;

use super::{Block, BlockIndex, BlockMeta, Error};
use crate::storage::paths::BlockPath;
use crate::storage::{self, Cache, Demand, Key};

/// Why a block could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// An object could not be had, or is damaged.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// They are not what the catalog says.
    #[error(transparent)]
    Block(#[from] Error),
    /// A defect of ours.
    #[error("opening failed: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

/// Opens the block that lies at `path`, on behalf of `demand`; also says, in words, why it is opened without an index that it has.
pub async fn open_in_parts(cache: &Arc<Cache>, path: &BlockPath, meta: &Arc<BlockMeta>, demand: &Arc<Demand>) -> Result<(Block, Option<Arc<str>>), Unopened> {
    let data = path.data();
    let (index, index_problem) = match meta.has_index() {
        false => (None, None),
        true => match open_index(cache, meta, &path.index(), demand).await {
            Ok(index) => (Some(index), None),
            Err(problem) => (None, Some(Arc::<str>::from(problem))),
        },
    };
    let checksums = index.as_ref().and_then(BlockIndex::parquet_checksums);
    let parquet = match checksums.filter(|checksums| checksums.n_bytes() == meta.parquet_bytes) {
        Some(checksums) => cache.object_in_chunks(&data, meta.parquet_bytes, meta.parquet_crc32c, checksums).await?,
        None => {
            let whole = cache.map_for(&data, meta.parquet_bytes, Some(meta.parquet_crc32c), Some(demand));
            whole.await?.into()
        }
    };
    let of = meta.clone();
    let opening = tokio::task::spawn_blocking(move || match Block::over(of.clone(), parquet.clone(), index) {
        Err(error) if error.is_index() => {
            let block = Block::over(of, parquet, None)?;
            Ok((block, Some(error.to_string().into())))
        }
        opened => opened.map(|block| (block, None)),
    });
    let (block, damaged) = opening.await??;
    let index_problem = index_problem.or(damaged);
    if let Some(problem) = &index_problem {
        tracing::warn!(block = meta.id.as_str(), %problem, "the index cannot be used; the block is scanned");
    }
    Ok((block, index_problem))
}

/// Opens an index. What is wrong with a tail that was just fetched may have gone wrong on the way: it is fetched once more.
async fn open_index(cache: &Arc<Cache>, meta: &Arc<BlockMeta>, key: &Key, demand: &Arc<Demand>) -> Result<BlockIndex, String> {
    let mut tries_left = 1;
    loop {
        let object = cache.object(key, meta.index_bytes, meta.index_crc32c, meta.index_tail_bytes, Some(demand));
        let object = object.await.map_err(|error| error.to_string())?;
        let is_checked = object.whole().is_some();
        let of = meta.clone();
        let opened = tokio::task::spawn_blocking(move || BlockIndex::open(&of, object)).await;
        match opened {
            Ok(Ok(index)) => return Ok(index),
            Ok(Err(error)) if is_checked || tries_left == 0 => return Err(error.to_string()),
            Err(panic) => return Err(format!("opening failed: {panic}")),
            Ok(Err(error)) => {
                tracing::warn!(%key, %error, "the tail of an index is damaged and is fetched again");
                cache.forget(key).await;
                tries_left -= 1;
            }
        }
    }
}
