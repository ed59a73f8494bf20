//! Rules that change between a request and its replay.

use super::*;
use crate::metric_filter::{Definition, Filters};
use crate::query::SearchLanguage;

async fn open_ruled(dir: &Path, store: &Arc<dyn Store>, filters: &Arc<Filters>) -> Ingest {
    let node = NodeId::load_or_create(dir).expect("a node");
    let catalog = Catalog::open(store.clone(), node).await.expect("a catalog");
    let plain = parts(wal::Config::default(), Config::default(), dir, store.clone(), catalog, clock());
    let ruled = Parts {
        rules: filters.clone(),
        finder: Arc::new(SearchLanguage),
        ..plain
    };
    Ingest::open(ruled).await.expect("opens")
}

fn count_as(value: &str) -> Vec<Definition> {
    vec![Definition {
        pattern: "ERROR".into(),
        metric: "Errors".into(),
        namespace: "Shop".into(),
        value: value.into(),
        ..Definition::default()
    }]
}

async fn put(ingest: &Ingest, text: &str) {
    let body = serde_json::json!({"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": START / 1_000_000, "message": text}]}).to_string();
    let context = Context {
        received_at_nanos: START,
        retention_days: 0,
    };
    let decoded = decode::decode(Kind::PutLogEvents, body.as_bytes(), &context).expect("decodes");
    ingest.accept(Received::plain(Kind::PutLogEvents, context, body), decoded).await.expect("taken");
}

/// Value and ingest ID of each point in memory.
fn points(ingest: &Ingest) -> Vec<(f64, i64)> {
    let view = ingest.view();
    let rows = view.head.iter().filter(|rows| rows.table() == Table::MetricPoints);
    rows.flat_map(|rows| {
        let values = rows
            .batch()
            .column_by_name("value")
            .expect("a column")
            .as_primitive::<arrow::datatypes::Float64Type>();
        values
            .values()
            .iter()
            .copied()
            .zip(rows.ingest_ids().values().iter().copied())
            .collect::<Vec<_>>()
    })
    .collect()
}

#[tokio::test]
async fn a_replay_makes_the_points_of_then_whatever_the_filters_are_now() {
    let store = memory();
    let dir = tempfile::tempdir().expect("a directory");
    let filters = Arc::<Filters>::default();
    let ingest = open_ruled(dir.path(), &store, &filters).await;
    put(&ingest, "ERROR before any filter").await;
    filters.set("g", &count_as("1"));
    put(&ingest, "ERROR one").await;
    put(&ingest, "fine").await;
    filters.set("g", &count_as("2"));
    put(&ingest, "ERROR two").await;
    filters.set("g", &[]);
    put(&ingest, "ERROR behind all filters").await;
    let made = points(&ingest);
    assert_eq!(made.iter().map(|(value, _)| *value).collect::<Vec<_>>(), [1.0, 2.0]);
    let metrics = |ingest: &Ingest| -> u64 {
        let sums = ingest.ledger().sums();
        sums.iter()
            .filter(|(_, signal, _)| signal == "metrics")
            .map(|(_, _, outcomes)| outcomes.accepted)
            .sum()
    };
    assert_eq!(metrics(&ingest), 2);
    for now in [vec![], count_as("3")] {
        let image = tempfile::tempdir().expect("a directory");
        copy(dir.path(), image.path());
        let filters = Arc::<Filters>::default();
        filters.set("g", &now);
        let again = open_ruled(image.path(), &store, &filters).await;
        assert_eq!((points(&again), again.status().replay.undecodable_frames), (made.clone(), 0));
        assert_eq!(metrics(&again), 2);
    }
    // a server that knows no rules keeps the records
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    let without = open(image.path(), store.clone(), clock()).await;
    assert_eq!((without.status().head_rows, points(&without).len()), (5, 0));
}
