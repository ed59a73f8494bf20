//! Settings of the builder.

/// How blocks are made. The defaults are measured (engine.md §2.2 and §3.2); none changes what a reader must know.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// zstd level of Parquet pages, 1 to 22. 1 costs 25 % less CPU than 3 for 1 % more bytes.
    pub zstd_level: i32,
    /// Rows of a Parquet row group.
    pub row_group_rows: usize,
    /// Rows of a Parquet page: the least that a point read decodes.
    pub page_rows: usize,
    /// Bytes at which a column's dictionary is given up for plain values.
    pub dictionary_page_bytes: usize,
    /// Bytes of memory the index writer may take before it complains; it never spills, so this bounds nothing smaller
    /// than the rows of one block do (284 MiB for 1M rows, measured).
    pub index_memory_bytes: usize,
    /// Rows sorted, indexed and encoded at a time.
    pub chunk_rows: usize,
    /// Whether searchable tables get an index.
    pub index: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            zstd_level: 1,
            row_group_rows: 128 * 1024,
            page_rows: 2 * 1024,
            dictionary_page_bytes: 128 * 1024,
            index_memory_bytes: 1 << 30,
            chunk_rows: 16 * 1024,
            index: true,
        }
    }
}
