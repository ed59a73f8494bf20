//! A data directory and a store of format 1, for ever: the files of a server of 2026-11-23, before documents had checksums. It had
//! flushed each of the requests below once, taken them again, and was killed with the second ones in its log alone.

use super::*;
use arrow::array::Array as _;
use arrow::datatypes::{Float64Type, Int64Type};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format_v1").join(name)
}

async fn open_fixture(dir: &Path) -> (Ingest, Arc<dyn Store>) {
    copy(&fixture("node"), dir);
    let store: Arc<dyn Store> = Arc::new(storage::LocalStore::open(&dir.join("store")).expect("a store"));
    let node = std::fs::read_to_string(dir.join("node_id")).expect("a name");
    let wal = wal::Config {
        node: xxhash_rust::xxh3::xxh3_64(node.trim().as_bytes()),
        ..wal::Config::default()
    };
    (open_on(wal, Config::default(), dir, store.clone(), clock()).await, store)
}

async fn check(ingest: &Ingest, store: &dyn Store) {
    // the segment of the log, and the blocks that the records of the catalog name
    let twice = |texts: [&str; 2]| texts.into_iter().flat_map(|text| [text.to_string(), text.to_string()]).collect::<Vec<_>>();
    let logs = seen(ingest, store, Table::Logs).await;
    assert_eq!(texts(&logs, "body"), twice(["first fixture record", "second fixture record"]));
    assert_eq!(texts(&seen(ingest, store, Table::Spans).await, "name"), ["fixture span", "fixture span"]);
    // the files of metrics
    let points = seen(ingest, store, Table::MetricPoints).await;
    let mut values: Vec<String> = Vec::new();
    for rows in &points {
        let column = |name| rows.batch().column_by_name(name).expect("a column").clone();
        let (doubles, ints) = (column("value"), column("value_int"));
        for row in 0..rows.len() {
            let (doubles, ints) = (doubles.as_primitive::<Float64Type>(), ints.as_primitive::<Int64Type>());
            let double = doubles.is_valid(row).then(|| doubles.value(row));
            let int = ints.is_valid(row).then(|| ints.value(row));
            values.push(format!("{double:?} {int:?}"));
        }
    }
    values.sort();
    let (double, int, sum) = ("Some(1.5) None", "Some(7.0) Some(7)", "Some(42.0) None");
    assert_eq!(values, [double, double, sum, sum, int, int]);
    let histograms = seen(ingest, store, Table::MetricHistograms).await;
    assert_eq!(histograms.iter().map(Rows::len).sum::<usize>(), 2);
    let mut metrics = texts(&seen(ingest, store, Table::MetricSeries).await, "metric_name");
    metrics.dedup();
    assert_eq!(metrics, ["fixture.gauge", "fixture.histogram", "fixture.sum"]);
    // the state document
    let groups = ingest.states("loggroup/");
    let group: serde_json::Value = serde_json::from_slice(&groups[0].1).expect("JSON");
    assert_eq!(
        (groups.len(), groups[0].0.as_str(), &group["retention_days"]),
        (1, "loggroup//fixture/group", &30.into())
    );
    let streams = ingest.states("logstream/");
    assert_eq!((streams.len(), streams[0].0.as_str()), (1, "logstream//fixture/group\0stream"));
    let sums = ingest.ledger().sums();
    let of_logs = sums
        .iter()
        .find(|(receiver, signal, _)| (receiver.as_str(), signal.as_str()) == ("otlp", "logs"));
    assert_eq!(of_logs.expect("counted").2.accepted, 4);
}

#[tokio::test]
async fn a_node_of_format_1_goes_on_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ingest, store) = open_fixture(dir.path()).await;
    let snapshot = ingest.catalog().snapshot();
    assert_eq!(
        (snapshot.seq(), snapshot.all_blocks().count(), snapshot.flushed_lsn(ingest.catalog().node())),
        (6, 5, 7)
    );
    assert_eq!((ingest.inner.replay.corrupt_frames, ingest.inner.replay.undecodable_frames), (0, 0));
    for meta in snapshot.all_blocks() {
        let path = block_path(meta);
        let parquet = store.get(&path.data()).await.expect("there");
        let index = match meta.has_index() {
            true => Some(store.get(&path.index()).await.expect("there")),
            false => None,
        };
        assert_eq!(block::verify(meta, &parquet, index.as_ref()), Vec::<String>::new());
    }
    check(&ingest, &*store).await;
    // what it writes now stands beside what it wrote then
    ingest.drain(Duration::from_secs(60)).await;
    drop(ingest);
    let ingest = open_on(
        wal::Config {
            node: xxhash_rust::xxh3::xxh3_64(b"3j2atpkj2czyak1w1r0914sy50"),
            ..wal::Config::default()
        },
        Config::default(),
        dir.path(),
        store.clone(),
        clock(),
    )
    .await;
    assert_eq!(ingest.status().head_rows, 0);
    check(&ingest, &*store).await;
    assert_eq!(
        Catalog::flaws(&*store, Some(&ingest.catalog().snapshot())).await.expect("looked at"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_checkpoint_of_format_1_is_read_for_ever() {
    let store = memory();
    let bytes = std::fs::read(fixture("checkpoint.json")).expect("a fixture");
    let key = Key::parse("_catalog/checkpoint/00000000000000000256.json").expect("legal");
    store.put(&key, bytes.into()).await.expect("put");
    let snapshot = Catalog::read(&*store).await.expect("reads");
    assert_eq!((snapshot.seq(), snapshot.all_blocks().count()), (256, 5));
    let node = NodeId::parse("3j2atpkj2czyak1w1r0914sy50").expect("legal");
    let state = &snapshot.nodes()[&node];
    assert!(state.state.is_some() && state.incarnation.is_some() && state.ledger.is_some());
    assert_eq!((snapshot.flushed_lsn(&node), snapshot.leader()), (7, Some(&node)));
}
