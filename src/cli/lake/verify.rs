//! `lake verify`: the catalog's own objects are checked against their checksums; every object that it names is fetched, checked
//! against its checksum, decoded whole and compared with its index; objects that it does not name are counted.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};

use super::super::serve::Place;
use super::super::{Outcome, print};
use crate::block::{self, BlockMeta};
use crate::catalog::{self, Catalog, Snapshot, block_path};
use crate::config::Errors;
use crate::model::Table;
use crate::storage::paths::block_prefixes;
use crate::storage::{self, Key, Store};

/// Blocks fetched and decoded at a time: bounds the memory to so many times a block's files and one batch of rows each.
const AT_A_TIME: usize = 2;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was read.
#[derive(Debug, Default, serde::Serialize)]
struct Report {
    store: String,
    /// Records of the catalog.
    catalog_seq: u64,
    /// What is damaged of the catalog's own objects, and what makes up for it.
    catalog_flaws: Vec<String>,
    blocks: u64,
    rows: u64,
    bytes: u64,
    /// Blocks that are damaged or missing.
    damaged: Vec<Damaged>,
    /// Objects that look like a block's but that the catalog does not name: what a crash left behind, or what a server is
    /// writing right now. The server removes them after a day.
    unlisted_objects: u64,
}

impl Report {
    fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.catalog_flaws.is_empty()
    }
}

#[derive(Debug, serde::Serialize)]
struct Damaged {
    table: &'static str,
    block: String,
    key: String,
    flaws: Vec<String>,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<Outcome> {
    let json = args.json;
    let (config, mut problems) = args.place.config()?;
    problems.extend(config.problems());
    if !problems.is_empty() {
        return Err(Errors(problems).into());
    }
    let has_own_folder = config.store.url.is_empty();
    if has_own_folder && !config.server.data_dir.is_dir() {
        print::error(&format!(
            "there is no data folder {}: name it with --data-dir, or the store with --store",
            config.server.data_dir.display()
        ));
        return Ok(Outcome::Unusable);
    }
    let store = storage::open(&config.store, &config.server.data_dir).await.context("cannot open the store")?;
    let report = verify(&store).await?;
    if json {
        print::line(&serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    Ok(if report.is_whole() { Outcome::Done } else { Outcome::Failed })
}

async fn verify(store: &Arc<dyn Store>) -> anyhow::Result<Report> {
    let mut report = Report {
        store: store.url().to_string(),
        ..Report::default()
    };
    let (snapshot, unreadable) = match Catalog::read(store.as_ref()).await {
        Ok(snapshot) => (Some(snapshot), None),
        Err(error @ catalog::Error::Corrupt { .. }) => (None, Some(error)),
        Err(error) => return Err(error).context("cannot read the catalog"),
    };
    let flaws = Catalog::flaws(store.as_ref(), snapshot.as_deref()).await;
    report.catalog_flaws = flaws.context("cannot read the catalog")?;
    report.catalog_flaws.extend(unreadable.map(|error| error.to_string()));
    // which blocks there are, nobody knows then
    let Some(snapshot) = snapshot else { return Ok(report) };
    report.catalog_seq = snapshot.seq();
    let blocks: Vec<Arc<BlockMeta>> = snapshot.all_blocks().cloned().collect();
    let n_blocks = blocks.len();
    let mut checked = futures::stream::iter(blocks)
        .map(|meta| async move { anyhow::Ok((check(store, &meta).await?, meta)) })
        .buffered(AT_A_TIME);
    let mut damaged = Vec::new();
    let is_watched = std::io::stderr().is_terminal();
    while let Some((flaws, meta)) = checked.try_next().await? {
        report.blocks += 1;
        report.rows += meta.n_rows;
        report.bytes += meta.parquet_bytes + meta.index_bytes;
        if !flaws.is_empty() {
            damaged.push((
                meta.clone(),
                Damaged {
                    table: meta.table.name(),
                    block: meta.id.as_str().to_string(),
                    key: block_path(&meta).data().as_str().to_string(),
                    flaws,
                },
            ));
        }
        if is_watched && report.blocks.is_multiple_of(10) {
            print::error(&format!("{} of {n_blocks} blocks", report.blocks));
        }
    }
    if !damaged.is_empty() {
        // what was merged away or expired since the catalog was read is no longer anybody's
        let now = Catalog::read(store.as_ref()).await?;
        damaged.retain(|(meta, _)| now.block(meta.table, &meta.id).is_some());
    }
    report.damaged = damaged.into_iter().map(|(_, damaged)| damaged).collect();
    report.unlisted_objects = unlisted(store.as_ref(), &snapshot).await?;
    Ok(report)
}

/// What is wrong with a block; an error only when the store does not answer.
async fn check(store: &Arc<dyn Store>, meta: &Arc<BlockMeta>) -> anyhow::Result<Vec<String>> {
    let path = block_path(meta);
    let parquet = match fetch(store, &path.data()).await? {
        Ok(bytes) => bytes,
        Err(flaw) => return Ok(vec![flaw]),
    };
    let mut flaws = Vec::new();
    let mut index = None;
    if meta.has_index() {
        match fetch(store, &path.index()).await? {
            Ok(bytes) => index = Some(bytes),
            Err(flaw) => flaws.push(flaw),
        }
    }
    let meta = meta.clone();
    flaws.extend(tokio::task::spawn_blocking(move || block::verify(&meta, &parquet, index.as_ref())).await?);
    Ok(flaws)
}

async fn fetch(store: &Arc<dyn Store>, key: &Key) -> anyhow::Result<Result<bytes::Bytes, String>> {
    match store.get(key).await {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) if error.is_not_found() => Ok(Err(format!("{key} is missing"))),
        Err(error) => Err(error).with_context(|| format!("cannot read {key}")),
    }
}

/// Objects under the blocks' prefixes that no live or lately removed block, and no work that is announced, accounts for.
async fn unlisted(store: &dyn Store, snapshot: &Snapshot) -> anyhow::Result<u64> {
    let removed = snapshot.removed().iter().map(|removed| &removed.meta);
    let blocks = snapshot.all_blocks().chain(removed).map(|meta| block_path(meta));
    let mut known: HashSet<Key> = blocks.flat_map(|path| [path.data(), path.index()]).collect();
    known.extend(snapshot.intents().values().flat_map(|open| open.intent.outputs.iter().cloned()));
    let mut unlisted = 0;
    for table in Table::ALL {
        for prefix in block_prefixes(table) {
            for object in store.list(&prefix, None).await? {
                unlisted += u64::from(!known.contains(&object.key));
            }
        }
    }
    Ok(unlisted)
}

fn show(report: &Report) {
    print::line(&format!(
        "{}: {} blocks, {} rows, {} bytes; catalog record {}",
        report.store, report.blocks, report.rows, report.bytes, report.catalog_seq
    ));
    report.catalog_flaws.iter().for_each(|flaw| print::error(&format!("catalog: {flaw}")));
    for damaged in &report.damaged {
        print::error(&format!("{} block {} ({})", damaged.table, damaged.block, damaged.key));
        damaged.flaws.iter().for_each(|flaw| print::error(&format!("  {flaw}")));
    }
    if report.unlisted_objects > 0 {
        print::line(&format!(
            "{} objects are in no catalog record: left by a crash, or being written right now; the server removes them after a day",
            report.unlisted_objects
        ));
    }
    if report.is_whole() {
        print::line("the catalog and every block are whole, and each index is of its rows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Level, Settings, build};
    use crate::catalog::{Commit, CommitKind, NodeId};
    use crate::model::{ContextBuilder, LogRecord, LogsBuilder, TraceId};
    use crate::storage::LocalStore;
    use crate::storage::paths::CatalogPath;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_whole_lake_is_told_from_one_with_a_damaged_or_missing_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(folder.path()).expect("a store"));
        let catalog = Catalog::open(store.clone(), NodeId::parse(&"n".repeat(26)).expect("a name"))
            .await
            .expect("a catalog");
        let mut paths = Vec::new();
        for number in 1..=2u8 {
            let mut builder = LogsBuilder::with_capacity(1);
            let context = builder.context(ContextBuilder::new().build());
            let record = LogRecord {
                time_unix_nano: i64::from(number),
                trace_id: TraceId::from_bytes(&[number; 16]),
                body: Some("a line"),
                ..LogRecord::default()
            };
            builder.push(context, &record);
            let rows = builder.finish().expect("rows").with_ingest_ids(1 << 20);
            let built = build(Table::Logs, 0, Level::L0, &[rows], &Settings::default(), 0).expect("a block");
            let path = block_path(&built.meta);
            store.put(&path.data(), built.parquet).await.expect("put");
            store.put(&path.index(), built.index.expect("an index")).await.expect("put");
            if number == 1 {
                let mut commit = Commit::new(CommitKind::Flush, 0);
                commit.adds.push(built.meta);
                catalog.commit(commit).await.expect("a commit");
            }
            paths.push(path);
        }
        let whole = verify(&store).await.expect("a report");
        assert_eq!((whole.blocks, whole.rows, whole.damaged.len(), whole.unlisted_objects), (1, 1, 0, 2));

        let index = store.get(&paths[0].index()).await.expect("an index");
        store.put(&paths[0].index(), index.slice(..index.len() - 1)).await.expect("put");
        let torn = verify(&store).await.expect("a report");
        assert!(torn.damaged[0].flaws[0].contains("index: "), "{torn:?}");

        store.delete(&paths[0].data()).await.expect("deleted");
        let missing = verify(&store).await.expect("a report");
        assert!(missing.damaged[0].flaws[0].contains("is missing"), "{missing:?}");
        assert!(missing.catalog_flaws.is_empty());

        for (prefix, what) in [
            (CatalogPath::LOG_PREFIX, "is whole and is used"),
            (CatalogPath::COPY_PREFIX, "no start gets past it"),
        ] {
            let object = store.list(prefix, None).await.expect("listed").remove(0);
            store.put(&object.key, Bytes::from_static(b"{")).await.expect("put");
            let damaged = verify(&store).await.expect("a report all the same");
            assert!(!damaged.is_whole() && damaged.catalog_flaws[0].contains(what), "{damaged:?}");
        }
    }
}
