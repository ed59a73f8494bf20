//! What the same rows cost the parts beneath a block when each is used alone, as a first program would use it: tantivy with
//! documents of owned values, Parquet with default column settings.

use std::time::Instant;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tantivy::directory::RamDirectory;
use tantivy::schema::{IndexRecordOption, JsonObjectOptions, OwnedValue, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::{Index, IndexSettings, TantivyDocument};
use tracelake::block::RowText;
use tracelake::model::{Rows, Table};

/// CPU seconds of the whole process, all threads.
pub(crate) fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the CPU clock has no safe door in std")]
    // SAFETY: the pointer is to a timespec of ours that lives through the call
    unsafe {
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time);
    }
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// One line: records a second of wall time, CPU seconds a million.
pub(crate) fn report(what: &str, n: usize, wall: f64, cpu: f64) {
    println!("{what}: {:.0} records/s, {:.2} CPU s per million", n as f64 / wall, cpu * 1e6 / n as f64);
}

/// What a part alone took and made.
pub(crate) struct Alone {
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// Bytes it wrote.
    pub(crate) bytes: usize,
    /// The same of tantivy by the ending of its files.
    pub(crate) by_ending: Vec<(String, usize)>,
}

/// Tantivy alone, and the index it made.
pub(crate) fn raw_tantivy(parts: &[Rows], n: usize) -> (Alone, Index) {
    let positions = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let raw = TextFieldIndexing::default().set_tokenizer("raw").set_index_option(IndexRecordOption::Basic);
    let mut schema = Schema::builder();
    let body = schema.add_text_field("body", TextOptions::default().set_indexing_options(positions));
    let trace_id = schema.add_text_field("trace_id", STRING);
    let severity = schema.add_text_field("severity", STRING);
    let service = schema.add_text_field("service", STRING);
    let attributes = schema.add_json_field("attributes", JsonObjectOptions::default().set_indexing_options(raw));
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let mut writer = Index::builder()
        .schema(schema.build())
        .settings(IndexSettings::default())
        .single_segment_index_writer::<TantivyDocument>(RamDirectory::create(), 1 << 30)
        .expect("a writer");
    for part in parts {
        let rows = RowText::new(Table::Logs, part.batch()).expect("text");
        let mut scratch = String::new();
        for row in 0..part.len() {
            let mut document = TantivyDocument::new();
            document.add_text(body, rows.text(row, &mut scratch));
            rows.for_each_field(row, &mut |field, value| match field.name() {
                "trace_id" => document.add_text(trace_id, value),
                "severity_number" => document.add_text(severity, value),
                _ => {}
            });
            document.add_text(service, part.context(row).and_then(|context| context.service_name()).unwrap_or_default());
            let mut pairs = Vec::new();
            rows.for_each_pair(row, &mut |key, value| pairs.push((key.to_string(), OwnedValue::Str(value.to_string()))));
            document.add_field_value(attributes, &OwnedValue::Object(pairs));
            writer.add_document(document).expect("indexed");
        }
    }
    let index = writer.finalize().expect("an index");
    let cpu = cpu_seconds() - cpu;
    report("tantivy alone", n, wall.elapsed().as_secs_f64(), cpu);
    let of_file = |name: &std::path::PathBuf| {
        let file = tantivy::Directory::open_read(index.directory(), name).ok()?;
        let ending = name.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        Some((ending.to_string(), tantivy::HasLen::len(&file)))
    };
    let by_ending: Vec<(String, usize)> = index.directory().list_managed_files().iter().filter_map(of_file).collect();
    let bytes: usize = by_ending.iter().map(|(_, bytes)| bytes).sum();
    println!("  {:.1} B a record", bytes as f64 / n as f64);
    let alone = Alone { cpu, bytes, by_ending };
    for (ending, bytes) in &alone.by_ending {
        println!("    .{ending} {:.1}", *bytes as f64 / n as f64);
    }
    (alone, index)
}

/// Parquet alone, and the file it made.
pub(crate) fn raw_parquet(parts: &[Rows], n: usize) -> (Alone, Vec<u8>) {
    let batches: Vec<RecordBatch> = parts.iter().map(|part| part.to_batch(None).expect("stored")).collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).expect("a writer");
    for batch in &batches {
        writer.write(batch).expect("written");
    }
    let file = writer.into_inner().expect("a file");
    let bytes = file.len();
    let cpu = cpu_seconds() - cpu;
    report("Parquet alone", n, wall.elapsed().as_secs_f64(), cpu);
    println!("  {:.1} B a record", bytes as f64 / n as f64);
    let by_ending = Vec::new();
    (Alone { cpu, bytes, by_ending }, file)
}
