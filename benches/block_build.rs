//! What a block costs to build: `cargo bench --bench block_build [-- RECORDS]`.
//!
//! Seeded log rows become a block, then the very same rows are given to tantivy alone and to a Parquet writer alone, as a
//! first program would use them: documents of owned values with the default tokenizer, and default column settings.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use tracelake::block::{Block, Level, Settings, build, merge};
use tracelake::model::{Rows, Table};
use tracelake::storage::Scratch;

#[path = "support/raw.rs"]
mod raw;
mod support;

use raw::{cpu_seconds, raw_parquet, raw_tantivy, report};

fn main() {
    let n = support::records(500_000);
    let parts = support::shop_logs(n, 7);
    let text: usize = parts
        .iter()
        .map(|part| part.batch().column_by_name("body").map_or(0, |body| body.as_string::<i32>().value_data().len()))
        .sum();
    let per = |bytes: usize| bytes as f64 / n as f64;
    println!("{n} log records, bodies of {:.0} B on average", per(text));

    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let built = build(Table::Logs, 0, Level::L0, &parts, &Settings::default(), 0).expect("a block");
    let (wall, ours) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    report("block", n, wall, ours);
    let index = built.index.clone().expect("logs are indexed");
    println!(
        "  {:.1} B a record: Parquet {:.1}, index {:.1}",
        per(built.parquet.len() + index.len()),
        per(built.parquet.len()),
        per(index.len())
    );
    for (name, bytes) in tracelake::block::index_parts(&index).expect("what was built") {
        println!("    {name}: {:.1}", per(bytes as usize));
    }
    columns(&built.parquet, n);

    let settings = Settings {
        index: false,
        ..Settings::default()
    };
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    build(Table::Logs, 0, Level::L0, &parts, &settings, 0).expect("a block");
    report("  the same without index", n, wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let our_bytes = built.parquet.len() + index.len();
    drop((built, index));

    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let sealed = build(Table::Logs, 0, Level::Sealed, &parts, &Settings::default(), 0).expect("a block");
    report("  the same as a sealed block", n, wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!("    Parquet {:.1} B a record", per(sealed.parquet.len()));
    let cpu_anew = cpu_seconds() - cpu;
    drop(sealed);

    for zstd_level in [1, 3, 6, 9, 12] {
        let settings = Settings {
            index: false,
            zstd_level,
            ..Settings::default()
        };
        // as flushes are at full speed
        let flushes = parts.chunks(parts.len().div_ceil(5));
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let built = flushes.map(|rows| build(Table::Logs, 0, Level::L0, rows, &settings, 0).expect("a block").parquet.len());
        let bytes: usize = built.sum();
        report(
            &format!("  five blocks without index, zstd level {zstd_level}"),
            n,
            wall.elapsed().as_secs_f64(),
            cpu_seconds() - cpu,
        );
        println!("    Parquet {:.1} B a record", per(bytes));
    }

    let blocks: Vec<Arc<Block>> = parts.chunks(parts.len().div_ceil(8)).map(block_of).collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let merged = merge(&blocks, Level::Sealed, 0, &Settings::default(), &Scratch::memory(), 0)
        .expect("merged")
        .expect("rows");
    let cpu_merge = cpu_seconds() - cpu;
    report("eight blocks merged to a sealed one", n, wall.elapsed().as_secs_f64(), cpu_merge);
    println!(
        "    {:.2} of the CPU of building it of its rows; Parquet {:.1} B a record",
        cpu_merge / cpu_anew,
        per(merged.parquet.len())
    );
    drop((blocks, merged));

    let (tantivy, _) = raw_tantivy(&parts, n);
    let (parquet, _) = raw_parquet(&parts, n);
    let bytes = our_bytes as f64 / (tantivy.bytes + parquet.bytes) as f64;
    println!(
        "ratio to tantivy alone + Parquet alone: {:.2} of the CPU, {bytes:.2} of the bytes",
        ours / (tantivy.cpu + parquet.cpu)
    );
}

fn block_of(rows: &[Rows]) -> Arc<Block> {
    let built = build(Table::Logs, 0, Level::L0, rows, &Settings::default(), 0).expect("a block");
    Arc::new(Block::open(Arc::new(built.meta), built.parquet, built.index).expect("it opens"))
}

fn columns(parquet: &bytes::Bytes, n: usize) {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(parquet.clone()).expect("parquet");
    let mut sizes = std::collections::BTreeMap::<String, i64>::new();
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        *sizes.entry(column.column_path().string()).or_default() += column.compressed_size();
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, bytes)| -bytes);
    let text: Vec<String> = sizes
        .iter()
        .take(12)
        .map(|(name, bytes)| format!("{name} {:.1}", *bytes as f64 / n as f64))
        .collect();
    println!("    columns: {}", text.join(", "));
}
