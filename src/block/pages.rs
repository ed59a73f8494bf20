//! Pages of Parquet columns, decompressed and kept for whoever reads rows nearby next.
//!
//! A few rows here and there cost the pages they stand on: 3,072 rows of every column, most of it decompressing. People ask
//! for the same rows again and again (a page that refreshes, the next page of an answer, a trace), so that work is kept,
//! within a bound in bytes. Scans do not come here: they would push out what point reads need.
//!
//! Pages are known by the block's name, which is never given twice, the column chunk and the page's number; a block that is
//! closed and opened again finds its pages.

use std::sync::Arc;

use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::Result;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;
use xxhash_rust::xxh3::xxh3_128;

use super::metrics::METRICS;
use super::recent::Recent;
use super::{Block, BlockId};

/// What a kept page costs besides its bytes, about.
const ENTRY_BYTES: usize = 256;
/// A page larger than one part in this many of the bound is not kept.
const LARGEST_PART: usize = 4;
/// The number of a dictionary page.
const DICTIONARY: u32 = u32::MAX;

/// Decompressed pages of any number of blocks, the least lately used of which go when there are too many bytes.
#[derive(Debug)]
pub struct PageCache {
    kept: Recent<PageKey, Page>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    block: u128,
    group: u32,
    leaf: u32,
    page: u32,
}

fn page_bytes(page: &Page) -> usize {
    page.buffer().len() + ENTRY_BYTES
}

impl PageCache {
    /// An empty one; with a bound of 0 it stays empty.
    pub fn new(max_bytes: usize) -> Arc<PageCache> {
        Arc::new(PageCache {
            kept: Recent::new(max_bytes, LARGEST_PART),
        })
    }

    /// Bytes of the kept pages.
    pub fn n_bytes(&self) -> usize {
        self.kept.n_bytes()
    }

    fn get(&self, key: PageKey) -> Option<Page> {
        self.kept.get(&key)
    }

    fn keep(&self, key: PageKey, page: &Page) {
        let n_bytes = self.kept.keep(key, page.clone(), page_bytes(page));
        METRICS.page_cache_bytes.set(i64::try_from(n_bytes).unwrap_or(i64::MAX));
    }
}

/// A block's pages in a cache.
#[derive(Clone, Debug)]
pub(super) struct BlockPages {
    cache: Arc<PageCache>,
    block: u128,
}

impl BlockPages {
    pub(super) fn new(cache: Arc<PageCache>, id: &BlockId) -> Self {
        Self {
            cache,
            block: xxh3_128(id.as_str().as_bytes()),
        }
    }
}

/// Some row groups of a block, whose pages are looked for in the cache before they are decompressed.
pub(super) struct CachedGroups<'a> {
    block: &'a Block,
    pages: &'a BlockPages,
    groups: Arc<[usize]>,
}

impl<'a> CachedGroups<'a> {
    /// `None` if a row group has no page locations: then pages cannot be told apart without reading them.
    pub(super) fn try_new(block: &'a Block, pages: &'a BlockPages, groups: &[usize]) -> Option<Self> {
        let located = block.footer().metadata().offset_index()?;
        groups
            .iter()
            .all(|group| located.get(*group).is_some_and(|leaves| !leaves.is_empty()))
            .then(|| Self {
                block,
                pages,
                groups: groups.into(),
            })
    }
}

impl RowGroups for CachedGroups<'_> {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| usize::try_from(group.num_rows()).unwrap_or_default()).sum()
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            block: self.block.clone(),
            pages: self.pages.clone(),
            groups: self.groups.clone(),
            next: 0,
            leaf,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.groups.iter().map(|group| self.metadata().row_group(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.block.footer().metadata()
    }
}

/// The chunks of one column, row group after row group.
struct Chunks {
    block: Block,
    pages: BlockPages,
    groups: Arc<[usize]>,
    next: usize,
    leaf: usize,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = *self.groups.get(self.next)?;
        self.next += 1;
        Some(Ok(Box::new(ChunkPages::new(self.block.clone(), self.pages.clone(), group, self.leaf))))
    }
}

impl PageIterator for Chunks {}

/// The pages of one column chunk, in order; those that are skipped are not touched.
struct ChunkPages {
    block: Block,
    pages: BlockPages,
    group: usize,
    leaf: usize,
    has_dictionary: bool,
    next: usize,
}

impl ChunkPages {
    fn new(block: Block, pages: BlockPages, group: usize, leaf: usize) -> Self {
        let mut chunk = Self {
            block,
            pages,
            group,
            leaf,
            has_dictionary: false,
            next: 0,
        };
        let (start, _) = chunk.block.footer().metadata().row_group(group).column(leaf).byte_range();
        // what stands before the first page is its dictionary
        chunk.has_dictionary = chunk.locations().first().is_some_and(|first| u64::try_from(first.offset) != Ok(start));
        chunk
    }

    fn locations(&self) -> &[PageLocation] {
        let located = self.block.footer().metadata().offset_index();
        let leaf = located.and_then(|groups| groups.get(self.group)?.get(self.leaf));
        leaf.map_or(&[], |leaf| leaf.page_locations())
    }

    fn n_rows(&self) -> usize {
        usize::try_from(self.block.footer().metadata().row_group(self.group).num_rows()).unwrap_or_default()
    }

    /// A page from the cache, or from the file and then in the cache.
    fn page(&self, number: u32) -> Result<Option<Page>> {
        let key = PageKey {
            block: self.pages.block,
            group: self.group as u32,
            leaf: self.leaf as u32,
            page: number,
        };
        if let Some(page) = self.pages.cache.get(key) {
            METRICS.page_cache_hits.inc();
            return Ok(Some(page));
        }
        METRICS.page_cache_misses.inc();
        let locations = self.locations();
        let is_dictionary = number == DICTIONARY;
        let one = if is_dictionary { locations.first() } else { locations.get(number as usize) };
        let Some(one) = one else { return Ok(None) };
        let chunk = self.block.footer().metadata().row_group(self.group).column(self.leaf);
        let (start, _) = chunk.byte_range();
        let mut reader = SerializedPageReader::new(Arc::new(self.block.parquet().clone()), chunk, self.n_rows(), Some(vec![one.clone()]))?;
        // such a reader takes all that stands before its one page for the dictionary
        if !is_dictionary && u64::try_from(one.offset) != Ok(start) {
            reader.skip_next_page()?;
        }
        let page = reader.get_next_page()?;
        if let Some(page) = &page {
            self.pages.cache.keep(key, page);
        }
        Ok(page)
    }
}

impl Iterator for ChunkPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ChunkPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        if self.has_dictionary {
            self.has_dictionary = false;
            return self.page(DICTIONARY);
        }
        let page = self.page(self.next as u32)?;
        self.next += 1;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        if self.has_dictionary {
            return Ok(Some(PageMetadata {
                num_rows: None,
                num_levels: None,
                is_dict: true,
            }));
        }
        let locations = self.locations();
        let Some(page) = locations.get(self.next) else { return Ok(None) };
        let first = |page: &PageLocation| usize::try_from(page.first_row_index).unwrap_or_default();
        let end = locations.get(self.next + 1).map_or_else(|| self.n_rows(), first);
        Ok(Some(PageMetadata {
            num_rows: Some(end.saturating_sub(first(page))),
            num_levels: None,
            is_dict: false,
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        if self.has_dictionary {
            self.has_dictionary = false;
        } else {
            self.next += 1;
        }
        Ok(())
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        // pages of ours begin with a row: the offset index rests on it
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::basic::Encoding;

    use super::*;

    fn page(n_bytes: usize) -> Page {
        Page::DictionaryPage {
            buf: Bytes::from(vec![7; n_bytes]),
            num_values: 1,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        }
    }

    fn key(page: u32) -> PageKey {
        PageKey {
            block: 1,
            group: 0,
            leaf: 0,
            page,
        }
    }

    #[test]
    fn the_least_lately_used_pages_go_and_the_bound_holds() {
        let cache = PageCache::new(100_000);
        for number in 0..500 {
            cache.keep(key(number), &page(1_000));
            // the first one is used all the time
            assert!(cache.get(key(0)).is_some(), "{number}");
            assert!(cache.n_bytes() <= 100_000);
        }
        assert!(cache.get(key(499)).is_some() && cache.get(key(1)).is_none());
    }

    #[test]
    fn a_page_that_would_push_out_all_others_is_not_kept() {
        let cache = PageCache::new(10_000);
        cache.keep(key(1), &page(9_000));
        assert!(cache.get(key(1)).is_none() && cache.n_bytes() == 0);
        let none = PageCache::new(0);
        none.keep(key(1), &page(0));
        assert!(none.get(key(1)).is_none());
    }

    #[test]
    fn the_same_page_kept_twice_counts_once() {
        let cache = PageCache::new(100_000);
        cache.keep(key(1), &page(1_000));
        cache.keep(key(1), &page(1_000));
        assert_eq!(cache.n_bytes(), 1_000 + ENTRY_BYTES);
    }
}
