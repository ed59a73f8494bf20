//! Settings of the builder.

use super::Level;

/// Below this the index writer refuses to start.
const MIN_INDEX_MEMORY_BYTES: usize = 15_000_000;

/// How blocks are made. The defaults are measured (engine.md §2.2 and §3.2); none changes what a reader must know.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// zstd level of the bodies of records and the documents of segments in fresh blocks, 1 to 22; their other columns are at 1. Of a million
    /// records of 240 B, 6 against 1 takes 2 B a record off for one CPU-second; 3 is larger than 1. IDs are at 1 in all blocks, which packs
    /// random digits best.
    pub zstd_level: i32,
    /// zstd level of the pages of sealed blocks, which are written once and kept: 9 takes off 0.2 B a record more than 6 for
    /// 1.4 CPU-seconds a million, 12 another 0.3 for 8. Reading costs the same.
    pub sealed_zstd_level: i32,
    /// Rows of a Parquet row group.
    pub row_group_rows: usize,
    /// Rows of a Parquet page: the least that a point read decodes. 2,048 are 0.8 B a record larger: each page of each column has a
    /// header and a place in the page index, and is compressed by itself.
    pub page_rows: usize,
    /// Bytes at which a column's dictionary is given up for plain values. With 128 KiB values of attributes outgrow it, which is 0.9 B a
    /// record larger.
    pub dictionary_page_bytes: usize,
    /// Bytes of memory the index writer may take before it complains; it never spills, so this bounds nothing smaller
    /// than the rows of one block do (284 MiB for 1M rows, measured).
    pub index_memory_bytes: usize,
    /// Rows sorted, indexed and encoded at a time.
    pub chunk_rows: usize,
    /// Whether searchable tables get an index.
    pub index: bool,
}

impl Settings {
    /// What is wrong with them: a block that cannot be written would be found out only when rows wait for it.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, level) in [("zstd_level", self.zstd_level), ("sealed_zstd_level", self.sealed_zstd_level)] {
            if !(1..=22).contains(&level) {
                problems.push(format!("[block] {key} is from 1 to 22, not {level}"));
            }
        }
        let counts = [
            ("row_group_rows", self.row_group_rows),
            ("page_rows", self.page_rows),
            ("dictionary_page_bytes", self.dictionary_page_bytes),
            ("chunk_rows", self.chunk_rows),
        ];
        let none = counts.iter().filter(|(_, count)| *count == 0);
        problems.extend(none.map(|(key, _)| format!("[block] {key} must be positive")));
        if self.index_memory_bytes < MIN_INDEX_MEMORY_BYTES {
            problems.push(format!("[block] index_memory_bytes must be at least {MIN_INDEX_MEMORY_BYTES}"));
        }
        problems
    }

    /// zstd level of the Parquet pages of a block.
    pub(super) fn zstd_level_of(&self, level: Level) -> i32 {
        match level {
            Level::L0 => self.zstd_level,
            Level::Sealed => self.sealed_zstd_level,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            zstd_level: 6,
            sealed_zstd_level: 6,
            row_group_rows: 128 * 1024,
            page_rows: 3 * 1024,
            dictionary_page_bytes: 512 * 1024,
            index_memory_bytes: 1 << 30,
            chunk_rows: 16 * 1024,
            index: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_no_block_can_be_written_with_are_refused() {
        assert_eq!(Settings::default().problems(), Vec::<String>::new());
        let wrong = Settings {
            zstd_level: 0,
            sealed_zstd_level: 23,
            page_rows: 0,
            index_memory_bytes: 1,
            ..Settings::default()
        };
        let problems = wrong.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        for key in ["zstd_level", "sealed_zstd_level", "page_rows", "index_memory_bytes"] {
            assert!(
                problems.iter().any(|problem| problem.starts_with(&format!("[block] {key} "))),
                "{key}: {problems:?}"
            );
        }
    }

    #[test]
    fn sealed_blocks_have_a_level_of_their_own() {
        let settings = Settings {
            zstd_level: 1,
            sealed_zstd_level: 9,
            ..Settings::default()
        };
        assert_eq!((settings.zstd_level_of(Level::L0), settings.zstd_level_of(Level::Sealed)), (1, 9));
    }
}
