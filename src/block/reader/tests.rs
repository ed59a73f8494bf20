use super::*;
use crate::block::{Level, Settings, build};
use crate::model::{LogRecord, LogsBuilder, Table};

fn block_of_small_groups() -> Block {
    let mut builder = LogsBuilder::default();
    let context = builder.context(crate::model::ContextBuilder::new().build());
    for n in 0..1_000i64 {
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: 1_000 - n,
                body: Some(&format!("row {n}")),
                // only in the first groups
                event_name: (n < 250).then_some("early"),
                ..LogRecord::default()
            },
        );
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(1);
    let settings = Settings {
        row_group_rows: 100,
        ..Settings::default()
    };
    let built = build(Table::Logs, 0, Level::L0, &[rows], &settings, 0).expect("a block");
    Block::open(Arc::new(built.meta), built.parquet, built.index).expect("a block")
}

#[test]
fn columns_without_values_are_not_decoded_and_read_as_null() {
    let block = block_of_small_groups();
    let schema = block.project(&[]).expect("all columns");
    let descriptor = block.inner.footer.parquet_schema();
    let root = |name: &str| {
        descriptor
            .root_schema()
            .get_fields()
            .iter()
            .position(|root| root.name() == name)
            .expect("a column")
    };
    let event_name = root("event_name");
    assert_eq!(
        [&[0][..], &[2], &[3], &[2, 3], &[7, 9]].map(|groups| block.is_null_in(event_name, groups)),
        [false, false, true, false, true]
    );
    let n_null = (0..schema.fields().len()).filter(|root| block.is_null_in(*root, &[5])).count();
    assert!(n_null > 5, "{n_null} of {}", schema.fields().len());
    let names = block.read(&[10, 249, 250, 999], &["event_name", "body"]).expect("rows");
    let names: Vec<_> = names.column(0).as_string::<i32>().iter().collect();
    assert_eq!(names, [Some("early"), Some("early"), None, None]);
    let only_null = block.read(&[300, 999], &["event_name"]).expect("rows");
    assert_eq!((only_null.num_rows(), only_null.column(0).null_count()), (2, 2));
    assert_eq!(
        block
            .scan(300..1_000, &["event_name"])
            .expect("a scan")
            .map(|batch| batch.expect("rows").num_rows())
            .sum::<usize>(),
        700
    );
}

#[test]
fn what_comes_from_the_page_cache_is_what_the_file_says() {
    let mut builder = LogsBuilder::default();
    let context = builder.context(crate::model::ContextBuilder::new().build());
    for n in 0..1_000i64 {
        for key in 0..n % 4 {
            builder.attribute(&format!("key.{key}"), crate::model::Value::Str(&format!("value {}", n % (key + 7))));
        }
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: 1_000 - n,
                body: (n % 5 > 0).then_some(&*format!("row {n}")),
                severity_number: (n % 20) as i32,
                event_name: (n < 250).then_some("early"),
                ..LogRecord::default()
            },
        );
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(1);
    let settings = Settings {
        row_group_rows: 300,
        page_rows: 16,
        ..Settings::default()
    };
    let built = build(Table::Logs, 0, Level::L0, &[rows], &settings, 0).expect("a block");
    let meta = Arc::new(built.meta);
    let plain = Block::open(meta.clone(), built.parquet.clone(), None).expect("a block");
    let cache = PageCache::new(8 << 20);
    let cached = plain.clone().with_page_cache(&cache);
    // nothing but the footer is left: what is read from this was in the cache
    let mut damaged = built.parquet.to_vec();
    let footer = damaged.len() - 8 - u32::from_le_bytes(damaged[damaged.len() - 8..damaged.len() - 4].try_into().expect("4 bytes")) as usize;
    let indexes = plain.footer().metadata().row_groups().iter().flat_map(|group| group.columns());
    let data_end = indexes.filter_map(|leaf| leaf.offset_index_offset()).min().expect("an offset index") as usize;
    assert!(data_end < footer);
    damaged[4..data_end].fill(0xff);
    let empty = Block::open(meta, damaged.into(), None).expect("a footer").with_page_cache(&cache);
    let wanted: [Vec<u32>; 6] = [
        vec![0],
        vec![999],
        vec![15, 16, 17, 298, 299, 300, 301],
        (100..180).collect(),
        (0..1_000).step_by(37).collect(),
        (0..1_000).collect(),
    ];
    for rows in &wanted {
        let expected = plain.read(rows, &[]).expect("rows");
        assert_eq!(cached.read(rows, &[]).expect("rows"), expected);
        assert_eq!(empty.read(rows, &[]).expect("rows from the cache"), expected);
        let columns = ["attributes", "body"];
        assert_eq!(empty.read(rows, &columns).expect("rows"), plain.read(rows, &columns).expect("rows"));
    }
    assert!(cache.n_bytes() > 0);
}

#[test]
fn rows_of_many_groups_come_in_order() {
    let block = block_of_small_groups();
    for rows in [vec![0], vec![5, 999], (0..1_000).step_by(37).collect::<Vec<u32>>(), (0..1_000).collect()] {
        let read = block.read(&rows, &[]).expect("rows");
        let bodies: Vec<_> = read
            .column_by_name("body")
            .expect("bodies")
            .as_string::<i32>()
            .iter()
            .flatten()
            .map(str::to_string)
            .collect();
        let expected: Vec<String> = rows.iter().map(|row| format!("row {row}")).collect();
        assert_eq!(bodies, expected);
        let times: Vec<i64> = read
            .column_by_name("time_unix_nano")
            .expect("times")
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        assert!(times.is_sorted_by(|a, b| a > b));
    }
}
