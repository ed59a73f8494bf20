//! Which rows a delete means: the same filter that a search has, over rows of the head and over blocks.

use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::BooleanBuffer;

use super::fields;
use super::filter::Filter;
use super::limits::Stop;
use super::matcher::Matcher;
use super::parse::parse;
use super::scan::{self, Chunk};
use crate::block::Block;
use crate::ingest::{Finder, RowTest};
use crate::model::{Rows, Table, TimeRange};

/// A block is looked at as long as it takes: an answer cut short would leave rows.
const PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads the search language for deletes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchLanguage;

impl Finder for SearchLanguage {
    fn compile(&self, table: Table, query: &str, now_nanos: i64) -> Result<Arc<dyn RowTest>, String> {
        let query = parse(query, table).map_err(|error| error.to_string())?;
        let filter = fields::compile(&query, table, now_nanos).map_err(|mistake| mistake.message)?;
        Ok(Arc::new(FilterTest(filter)))
    }
}

#[derive(Debug)]
struct FilterTest(Filter);

impl RowTest for FilterTest {
    fn in_rows(&self, rows: &Rows, range: &TimeRange) -> Result<BooleanBuffer, String> {
        scan::within(&self.0, Chunk::Memory(rows), &scan::in_range(rows, range)).map_err(|error| error.to_string())
    }

    fn in_block(&self, block: &Block, range: &TimeRange) -> Result<BooleanBuffer, String> {
        let (stop, _guard) = Stop::after(PATIENCE);
        let found = || Matcher::new(block, &self.0, &stop)?.all(block.rows_in(range)?);
        found().map_err(|error| error.to_string())
    }
}
