//! What this part counts: commits by kind and outcome, lost races, and what is live.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{CommitKind, Error, Result, Snapshot};
use crate::block::Level;
use crate::model::Table;
use crate::telemetry::register;

/// `kind`: see [`CommitKind::name`]. `outcome`: `ok`, `conflict` (it contradicted what is live), `failed` (a retry may help) or `damaged`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// `object`: `record`, `checkpoint` or `state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DamagedLabels {
    object: &'static str,
}

/// `table`: see [`Table::name`]. `level`: `l0` or `sealed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlockLabels {
    table: &'static str,
    level: &'static str,
}

static COMMITS: LazyLock<Family<CommitLabels, Counter>> = LazyLock::new(|| register("catalog_commits", "Commits, by kind and outcome", Family::default()));
static RACES_LOST: LazyLock<Counter> = LazyLock::new(|| register("catalog_races_lost", "Times another commit took the number we wanted", Counter::default()));
static DAMAGED: LazyLock<Family<DamagedLabels, Counter>> = LazyLock::new(|| {
    register(
        "catalog_damaged_objects",
        "Objects of the catalog that were read and are damaged",
        Family::default(),
    )
});
static RECORD: LazyLock<Gauge> = LazyLock::new(|| register("catalog_record", "Number of the newest record this node has read", Gauge::default()));
static BLOCKS: LazyLock<Family<BlockLabels, Gauge>> = LazyLock::new(|| register("catalog_blocks", "Live blocks", Family::default()));
static BLOCK_ROWS: LazyLock<Family<BlockLabels, Gauge>> = LazyLock::new(|| register("catalog_block_rows", "Rows in live blocks", Family::default()));
static BLOCK_BYTES: LazyLock<Family<BlockLabels, Gauge>> =
    LazyLock::new(|| register("catalog_block_bytes", "Bytes of live blocks, Parquet and index", Family::default()));

/// Counts one commit.
pub(super) fn commit<T>(kind: CommitKind, result: &Result<T>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(Error::Conflict { .. } | Error::Superseded { .. }) => "conflict",
        Err(error) if error.retry_helps() => "failed",
        Err(_) => "damaged",
    };
    COMMITS.get_or_create(&CommitLabels { kind: kind.name(), outcome }).inc();
}

/// Counts one lost race.
pub(super) fn race_lost() {
    RACES_LOST.inc();
}

/// Counts a damaged object, whatever came of it.
pub(super) fn damaged(object: &'static str) {
    DAMAGED.get_or_create(&DamagedLabels { object }).inc();
}

/// Says what is live.
pub(super) fn live(snapshot: &Snapshot) {
    let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    RECORD.set(gauge(snapshot.seq()));
    for table in Table::ALL {
        for (level, name) in [(Level::L0, "l0"), (Level::Sealed, "sealed")] {
            let labels = BlockLabels {
                table: table.name(),
                level: name,
            };
            let (mut n_blocks, mut n_rows, mut n_bytes) = (0, 0, 0);
            for meta in snapshot.blocks(table).iter().filter(|meta| meta.level == level) {
                n_blocks += 1;
                n_rows += meta.n_visible_rows();
                n_bytes += meta.parquet_bytes + meta.index_bytes;
            }
            BLOCKS.get_or_create(&labels).set(gauge(n_blocks));
            BLOCK_ROWS.get_or_create(&labels).set(gauge(n_rows));
            BLOCK_BYTES.get_or_create(&labels).set(gauge(n_bytes));
        }
    }
}
