//! Blocks become one block.
use std::sync::Arc;

use super::{Block, BuiltBlock, Level, Result, Settings};

/// Builds one block of all rows of `blocks`, which are of one table and partition; `None` when no row is left.
pub fn merge(_blocks: &[Arc<Block>], _level: Level, _partition_nanos: i64, _settings: &Settings, _now_nanos: i64) -> Result<Option<BuiltBlock>> {
    todo!()
}
