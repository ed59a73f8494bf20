//! What the house knows of itself, as tables of SQL: where every record ended, and which objects hold the rows.
//!
//! | table | a row is |
//! |---|---|
//! | `ledger` | how many records of a node, receiver, signal and sender had one outcome, for one reason |
//! | `blocks` | a block: its objects in the store, and which rows are in it |
//!
//! A record is in the block of its table whose `min_ingest_id` to `max_ingest_id` and `min_time` to `max_time` hold its own; before it is
//! flushed it is in none, and is in memory and in the log. Several nodes may give the same `ingest_id`, so the times count too.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::datasource::MemTable;

use super::{Error, Result};
use crate::block::{BlockMeta, Level};
use crate::catalog::{Snapshot, block_path};
use crate::decode::Sender;
use crate::ingest::LedgerEntry;

/// The name of the ledger's table.
pub(super) const LEDGER: &str = "ledger";
/// The name of the blocks' table.
pub(super) const BLOCKS: &str = "blocks";

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn one_batch(batch: RecordBatch) -> Result<MemTable> {
    MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(Error::internal)
}

/// The ledger as a table.
pub(super) fn ledger_table(ledger: &[LedgerEntry]) -> Result<MemTable> {
    let optional = |of: fn(&LedgerEntry) -> Option<&String>| -> ArrayRef { Arc::new(ledger.iter().map(of).collect::<StringArray>()) };
    let given = |of: fn(&LedgerEntry) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(ledger.iter().map(of))) };
    let whose = |of: fn(&Sender) -> &String| -> ArrayRef {
        let names = ledger.iter().map(|entry| entry.sender.as_ref().map(of).filter(|name| !name.is_empty()));
        Arc::new(names.collect::<StringArray>())
    };
    one_batch(RecordBatch::try_from_iter_with_nullable([
        ("node", optional(|entry| entry.node.as_ref()), true),
        ("receiver", optional(|entry| entry.receiver.as_ref()), true),
        ("signal", given(|entry| &entry.signal), false),
        ("service_name", whose(|sender| &sender.service), true),
        ("log_group", whose(|sender| &sender.log_group), true),
        ("outcome", given(|entry| entry.outcome), false),
        ("reason", optional(|entry| entry.reason.as_ref()), true),
        (
            "records",
            Arc::new(Int64Array::from_iter_values(ledger.iter().map(|entry| count(entry.records)))),
            false,
        ),
    ])?)
}

/// The blocks as a table, as the catalog has them.
pub(super) fn blocks_table(snapshot: &Snapshot) -> Result<MemTable> {
    let blocks: Vec<&Arc<BlockMeta>> = snapshot.all_blocks().collect();
    let text = |of: &dyn Fn(&BlockMeta) -> Option<String>| -> ArrayRef { Arc::new(blocks.iter().map(|block| of(block)).collect::<StringArray>()) };
    let number = |of: fn(&BlockMeta) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(blocks.iter().map(|block| of(block)))) };
    let time = |of: fn(&BlockMeta) -> i64| -> ArrayRef {
        let times = blocks.iter().map(|block| of(block).div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let has_index = |block: &BlockMeta| block.index_bytes > 0;
    one_batch(RecordBatch::try_from_iter_with_nullable([
        ("block", text(&|block| Some(block.id.as_str().to_string())), false),
        ("table_name", text(&|block| Some(block.table.name().into())), false),
        (
            "level",
            text(&|block| {
                let level = match block.level {
                    Level::L0 => "fresh",
                    Level::Sealed => "sealed",
                };
                Some(level.into())
            }),
            false,
        ),
        ("parquet", text(&|block| Some(block_path(block).data().to_string())), false),
        ("index", text(&|block| has_index(block).then(|| block_path(block).index().to_string())), true),
        ("rows", number(|block| count(block.n_rows)), false),
        ("hidden_rows", number(|block| count(block.hidden.len() as u64)), false),
        ("min_time", time(|block| block.min_time_nanos), false),
        ("max_time", time(|block| block.max_time_nanos), false),
        ("min_ingest_id", number(|block| block.min_ingest_id), false),
        ("max_ingest_id", number(|block| block.max_ingest_id), false),
        ("parquet_bytes", number(|block| count(block.parquet_bytes)), false),
        ("index_bytes", number(|block| count(block.index_bytes)), false),
        ("schema_version", number(|block| i64::from(block.schema_version)), false),
    ])?)
}
