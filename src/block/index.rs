//! The index of an opened block.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::buffer::{BooleanBuffer, Buffer};
use bytes::Bytes;
use tantivy::postings::TermInfo;
use tantivy::query::{EnableScoring, Query};
use tantivy::schema::{IndexRecordOption, Schema};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocSet, TERMINATED};
use tantivy::{Index, InvertedIndexReader, SegmentReader};

use super::build::panic_text;
use super::bundle::{Bundle, Seconds};
use super::dictionary::with_prefix;
use super::document::{TERMS, TEXT, schema, tokenizers};
use super::evaluate::{Answer, Evaluator};
use super::hidden::fill;
use super::merge::contexts_of_rows;
use super::terms::{self, key_prefix, value_of};
use super::words::BlockTokens;
use super::{BlockMeta, Error, HiddenRows, IndexQuery, RawField, Result, tokenizer};
use crate::model::Context;
use crate::storage::{Checksums, Demand, Object, on_behalf_of};

/// Different terms that one pattern, test or listing of values may walk in one block.
pub const MAX_TERMS: usize = 100_000;

/// The index of one block: answers which rows match an [`IndexQuery`].
///
/// Answers of [`first`](Self::first), [`bitmap`](Self::bitmap) and [`count`](Self::count) are exact where
/// [`is_exact`](Self::is_exact) says so; else they may hold rows too many (never too few), which the caller verifies:
/// attribute terms over 255 bytes are indexed by their beginning only.
///
/// Rows that are hidden are in no answer and in no count.
#[derive(Clone)]
pub struct BlockIndex {
    opened: Arc<Opened>,
    hidden: HiddenRows,
    /// Who reads.
    demand: Option<Arc<Demand>>,
    /// Where its tokens are kept.
    tokens: Option<BlockTokens>,
}

/// The one segment of an index.
pub(super) struct Segment {
    segment: SegmentReader,
    schema: Schema,
    text: Arc<InvertedIndexReader>,
    pub(super) terms: Arc<InvertedIndexReader>,
}

struct Opened {
    bundle: Bundle,
    segment: SegmentReader,
    schema: Schema,
    text: Arc<InvertedIndexReader>,
    terms: Arc<InvertedIndexReader>,
    parquet_checksums: Option<Checksums>,
    contexts: Vec<Arc<Context>>,
    seconds: Seconds,
    n_rows: u32,
    memory_bytes: usize,
}

impl std::fmt::Debug for BlockIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockIndex").field("n_rows", &self.opened.n_rows).finish_non_exhaustive()
    }
}

/// Runs what reads bytes that may be damaged or far away: tantivy panics on some damage, and that is an error like any other.
fn guard<T>(demand: Option<&Arc<Demand>>, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, failure) = on_behalf_of(demand, || {
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(Error::index(panic_text(&panic))))
    });
    // why a read failed, in the words of the store and not of those that stand between
    done.map_err(|error| failure.map_or(error, Error::index_unread))
}

/// Opens the segment in a bundle.
pub(super) fn open_segment(bundle: Bundle) -> Result<Segment> {
    let mut index = Index::open(bundle).map_err(Error::index)?;
    if index.schema() != schema() {
        return Err(Error::index("its fields are not known here"));
    }
    index.set_tokenizers(tokenizers());
    let segments = index.searchable_segments().map_err(Error::index)?;
    let [segment] = &segments[..] else {
        return Err(Error::index(format!("it has {} segments, not one", segments.len())));
    };
    let segment = SegmentReader::open(segment).map_err(Error::index)?;
    Ok(Segment {
        schema: index.schema(),
        text: segment.inverted_index(TEXT).map_err(Error::index)?,
        terms: segment.inverted_index(TERMS).map_err(Error::index)?,
        segment,
    })
}

impl BlockIndex {
    /// Opens an index object and checks that it is of the rows that `meta` tells of. Reads no more than its tail, if it has
    /// one ([`BlockMeta::index_tail_bytes`]).
    pub fn open(meta: &BlockMeta, data: impl Into<Object>) -> Result<Self> {
        let data = data.into();
        guard(None, || {
            let bundle = Bundle::open(data)?;
            let contents = bundle.contents();
            if (contents.n_rows, contents.min_time_nanos, contents.max_time_nanos) != (meta.n_rows, meta.min_time_nanos, meta.max_time_nanos) {
                return Err(Error::index("it is of other rows than the catalog says"));
            }
            if contents.tokenizer_version != tokenizer::VERSION {
                return Err(Error::index(format!(
                    "its tokenizer, version {}, is not known here",
                    contents.tokenizer_version
                )));
            }
            let contexts = bundle.contexts()?;
            let seconds = bundle.seconds()?;
            let parquet_checksums = bundle.checksums()?.map(|(_, of_parquet)| of_parquet);
            let opened = open_segment(bundle.clone())?;
            if u64::from(opened.segment.max_doc()) != meta.n_rows || opened.segment.has_deletes() {
                return Err(Error::index("its documents are not the rows"));
            }
            let n_sums = parquet_checksums.as_ref().map_or(0, |sums| sums.crc32c().len());
            let memory_bytes = contexts.iter().map(|context| context.memory_bytes()).sum::<usize>() + 20_000 + 4 * n_sums;
            let opened = Opened {
                n_rows: opened.segment.max_doc(),
                bundle,
                segment: opened.segment,
                schema: opened.schema,
                text: opened.text,
                terms: opened.terms,
                parquet_checksums,
                contexts,
                seconds,
                memory_bytes,
            };
            Ok(Self {
                opened: Arc::new(opened),
                hidden: meta.hidden.clone(),
                demand: None,
                tokens: None,
            })
        })
    }

    /// What the chunks of the Parquet object must be; `None` if this index is older than such checksums.
    pub fn parquet_checksums(&self) -> Option<&Checksums> {
        self.opened.parquet_checksums.as_ref()
    }

    /// The end of the Parquet object, if the index holds it.
    pub(super) fn parquet_foot(&self) -> Result<Option<Bytes>> {
        self.opened.bundle.foot()
    }

    pub(super) fn bundle(&self) -> &Bundle {
        &self.opened.bundle
    }

    /// The same index, read on behalf of a question.
    pub(super) fn read_for(mut self, demand: &Arc<Demand>) -> Self {
        self.demand = Some(demand.clone());
        self
    }

    fn guard<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        guard(self.demand.as_ref(), read)
    }

    /// The same index, with these rows hidden.
    pub(super) fn hiding(&self, hidden: &HiddenRows) -> Self {
        Self {
            opened: Arc::clone(&self.opened),
            hidden: hidden.clone(),
            demand: self.demand.clone(),
            tokens: self.tokens.clone(),
        }
    }

    /// The same index, whose tokens are kept in a place once all were looked through.
    pub(super) fn with_tokens_in(mut self, place: BlockTokens) -> Self {
        self.tokens = Some(place);
        self
    }

    pub(super) fn tokens_place(&self) -> Option<&BlockTokens> {
        self.tokens.as_ref()
    }

    /// Whether a question about pieces of tokens ([`IndexQuery::TokenWith`]) is answered without walking all of them.
    pub fn knows_tokens(&self) -> bool {
        self.tokens.as_ref().is_some_and(BlockTokens::is_known)
    }

    /// No fewer rows than match, for questions about tokens only; else, and where it costs something to say, all rows.
    pub fn at_most(&self, query: &IndexQuery) -> Result<u64> {
        self.guard(|| Evaluator::new(self).at_most(query))
    }

    /// The contexts of the block's rows, by number.
    pub fn contexts(&self) -> &[Arc<Context>] {
        &self.opened.contexts
    }
    /// The context number of each row, hidden ones too.
    pub(super) fn contexts_of_rows(&self) -> Result<Vec<u32>> {
        let (n_rows, n_contexts) = (self.opened.n_rows as usize, self.opened.contexts.len());
        self.guard(|| contexts_of_rows(&self.opened.terms, n_rows, n_contexts))
    }
    /// Text and terms, hidden rows and all.
    pub(super) fn readers(&self) -> (&InvertedIndexReader, &InvertedIndexReader) {
        (&self.opened.text, &self.opened.terms)
    }
    /// Rows of the block.
    pub fn n_rows(&self) -> u32 {
        self.opened.n_rows
    }
    pub(super) fn memory_bytes(&self) -> usize {
        self.opened.memory_bytes
    }
    /// Rows within which the first row older than `nanos` lies.
    pub(super) fn rows_around(&self, nanos: i64) -> Range<u32> {
        self.opened.seconds.around(nanos, self.opened.n_rows)
    }
    pub(super) fn text(&self) -> &InvertedIndexReader {
        &self.opened.text
    }
    pub(super) fn terms(&self) -> &InvertedIndexReader {
        &self.opened.terms
    }

    /// How many different tokens the table's text has.
    pub fn n_tokens(&self) -> usize {
        self.opened.text.terms().num_terms()
    }

    /// Whether the answers to `query` need no verification of rows.
    pub fn is_exact(&self, query: &IndexQuery) -> Result<bool> {
        if query.is_exact_anywhere() {
            return Ok(true);
        }
        self.guard(|| Ok(Evaluator::new(self).evaluate(query)?.1))
    }

    /// The first `k` matching rows of `rows`, ascending (newest first), found without looking at the rest.
    pub fn first(&self, query: &IndexQuery, rows: Range<u32>, k: usize) -> Result<Vec<u32>> {
        let rows = self.clip(rows);
        self.guard(|| {
            let mut found = Vec::with_capacity(k.min(1024));
            match self.answer(query)? {
                Answer::None => {}
                Answer::All => found.extend(rows.filter(|row| !self.hidden.contains(*row)).take(k)),
                Answer::Query(query) => {
                    let mut documents = self.documents(&*query, rows.start)?;
                    let mut row = documents.doc();
                    while row < rows.end && found.len() < k {
                        if !self.hidden.contains(row) {
                            found.push(row);
                        }
                        row = documents.advance();
                    }
                }
            }
            Ok(found)
        })
    }

    /// Matching rows of `rows`, as bits over the whole block.
    pub fn bitmap(&self, query: &IndexQuery, rows: Range<u32>) -> Result<BooleanBuffer> {
        let rows = self.clip(rows);
        self.guard(|| {
            let mut words = vec![0u64; (self.opened.n_rows as usize).div_ceil(64)];
            match self.answer(query)? {
                Answer::None => {}
                Answer::All => fill(&mut words, rows),
                Answer::Query(query) => self.for_each_block(&*query, rows, &mut |found| {
                    for row in found {
                        words[*row as usize / 64] |= 1 << (row % 64);
                    }
                })?,
            }
            self.hidden.clear(&mut words);
            Ok(BooleanBuffer::new(Buffer::from_vec(words), 0, self.opened.n_rows as usize))
        })
    }

    /// How many rows of `rows` match; of a single term over the whole block, without reading postings.
    pub fn count(&self, query: &IndexQuery, rows: Range<u32>) -> Result<u64> {
        let rows = self.clip(rows);
        if !self.hidden.is_empty() {
            return Ok(self.bitmap(query, rows)?.count_set_bits() as u64);
        }
        self.guard(|| {
            Ok(match self.answer(query)? {
                Answer::None => 0,
                Answer::All => rows.len() as u64,
                Answer::Query(query) if rows == (0..self.opened.n_rows) => {
                    let weight = query.weight(EnableScoring::disabled_from_schema(&self.opened.schema)).map_err(Error::index)?;
                    u64::from(weight.count(&self.opened.segment).map_err(Error::index)?)
                }
                Answer::Query(query) => {
                    let mut count = 0;
                    self.for_each_block(&*query, rows, &mut |found| count += found.len() as u64)?;
                    count
                }
            })
        })
    }

    /// Values of an attribute and how many rows have each, by value; a value too long to be indexed whole is its
    /// beginning. [`Error::TooManyTerms`] beyond [`MAX_TERMS`].
    pub fn key_values(&self, key: &str) -> Result<Vec<(String, u64)>> {
        self.values(&key_prefix(key).text)
    }

    /// Values of a field and how many rows have each, by value. [`Error::TooManyTerms`] beyond [`MAX_TERMS`].
    pub fn term_values(&self, field: RawField) -> Result<Vec<(String, u64)>> {
        self.values(&terms::field_term(field, "").text)
    }

    fn values(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let mut values: Vec<(String, u64)> = Vec::new();
        self.walk(prefix, &mut |term, rows| {
            let value = value_of(term, prefix);
            match values.last_mut() {
                // two long values with one beginning
                Some(last) if last.0 == value => last.1 += rows,
                _ => values.push((value.to_string(), rows)),
            }
        })?;
        Ok(values)
    }

    /// Calls `found(context, rows)` with rows of each context that has some, several times for one with many; a row comes
    /// once.
    pub fn each_context_row(&self, rows: Range<u32>, found: &mut dyn FnMut(u32, &[u32])) -> Result<()> {
        let n_contexts = self.opened.contexts.len();
        let mut unknown = false;
        self.each_row_of_terms(&terms::context_prefix(), rows, &mut |number, rows| match number.parse::<u32>() {
            Ok(number) if (number as usize) < n_contexts => found(number, rows),
            _ => unknown = true,
        })?;
        if unknown {
            return Err(Error::index("it names a context that it does not have"));
        }
        Ok(())
    }

    /// Calls `found(value, rows)` with rows of each value of a field, several times for one with many.
    pub fn each_term_row(&self, field: RawField, rows: Range<u32>, found: &mut dyn FnMut(&str, &[u32])) -> Result<()> {
        self.each_row_of_terms(&terms::field_term(field, "").text, rows, found)
    }

    /// Walks the postings of all terms with a prefix; terms come as what stands behind it.
    fn each_row_of_terms(&self, prefix: &str, rows: Range<u32>, found: &mut dyn FnMut(&str, &[u32])) -> Result<()> {
        let rows = self.clip(rows);
        self.guard(|| {
            let mut stream = with_prefix(&self.opened.terms, prefix)?;
            let mut buffer = [TERMINATED; COLLECT_BLOCK_BUFFER_LEN];
            let mut walked = 0;
            while stream.advance()? {
                walked += 1;
                if walked > MAX_TERMS {
                    return Err(Error::TooManyTerms { limit: MAX_TERMS });
                }
                let term = std::str::from_utf8(stream.key()).map_err(Error::index)?;
                let value = value_of(term, prefix);
                let postings = self.opened.terms.read_postings_from_terminfo(stream.value(), IndexRecordOption::Basic);
                let mut postings = postings.map_err(Error::index)?;
                if postings.doc() < rows.start {
                    postings.seek(rows.start);
                }
                loop {
                    let n = postings.fill_buffer(&mut buffer);
                    let inside = buffer[..n].partition_point(|row| *row < rows.end);
                    if self.hidden.is_empty() {
                        if inside > 0 {
                            found(value, &buffer[..inside]);
                        }
                    } else {
                        let seen: Vec<u32> = buffer[..inside].iter().copied().filter(|row| !self.hidden.contains(*row)).collect();
                        if !seen.is_empty() {
                            found(value, &seen);
                        }
                    }
                    if inside < COLLECT_BLOCK_BUFFER_LEN {
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    /// How many rows each context has, by number.
    pub fn context_counts(&self) -> Result<Vec<u64>> {
        let prefix = terms::context_prefix();
        let mut counts = vec![0; self.opened.contexts.len()];
        self.walk(&prefix, &mut |term, rows| {
            let number = value_of(term, &prefix).parse::<usize>();
            if let Some(count) = number.ok().and_then(|number| counts.get_mut(number)) {
                *count += rows;
            }
        })?;
        Ok(counts)
    }

    /// Calls `term(text, rows)` for each term of `terms` that begins with `prefix`, in order.
    fn walk(&self, prefix: &str, term: &mut dyn FnMut(&str, u64)) -> Result<()> {
        self.guard(|| {
            let mut stream = with_prefix(&self.opened.terms, prefix)?;
            let mut walked = 0;
            while stream.advance()? {
                walked += 1;
                if walked > MAX_TERMS {
                    return Err(Error::TooManyTerms { limit: MAX_TERMS });
                }
                let rows = u64::from(stream.value().doc_freq) - self.n_hidden_of(stream.value())?;
                if rows > 0 {
                    term(std::str::from_utf8(stream.key()).map_err(Error::index)?, rows);
                }
            }
            Ok(())
        })
    }

    /// How many hidden rows have a term.
    fn n_hidden_of(&self, term: &TermInfo) -> Result<u64> {
        if self.hidden.is_empty() {
            return Ok(0);
        }
        let postings = self.opened.terms.read_postings_from_terminfo(term, IndexRecordOption::Basic);
        let mut postings = postings.map_err(Error::index)?;
        let mut n_rows = 0;
        for row in self.hidden.as_slice() {
            if postings.doc() < *row {
                postings.seek(*row);
            }
            match postings.doc() {
                TERMINATED => break,
                at => n_rows += u64::from(at == *row),
            }
        }
        Ok(n_rows)
    }

    fn clip(&self, rows: Range<u32>) -> Range<u32> {
        let end = rows.end.min(self.opened.n_rows);
        rows.start.min(end)..end
    }

    fn answer(&self, query: &IndexQuery) -> Result<Answer> {
        Ok(Evaluator::new(self).evaluate(query)?.0)
    }

    /// The rows a query matches, from row `start` on.
    fn documents(&self, query: &dyn Query, start: u32) -> Result<Box<dyn DocSet>> {
        let weight = query.weight(EnableScoring::disabled_from_schema(&self.opened.schema)).map_err(Error::index)?;
        let mut scorer = weight.scorer(&self.opened.segment, 1.0).map_err(Error::index)?;
        if scorer.doc() < start {
            scorer.seek(start);
        }
        Ok(Box::new(scorer))
    }

    fn for_each_block(&self, query: &dyn Query, rows: Range<u32>, block: &mut dyn FnMut(&[u32])) -> Result<()> {
        let mut documents = self.documents(query, rows.start)?;
        let mut buffer = [TERMINATED; COLLECT_BLOCK_BUFFER_LEN];
        loop {
            let n = documents.fill_buffer(&mut buffer);
            let found = &buffer[..n];
            let inside = found.partition_point(|row| *row < rows.end);
            block(&found[..inside]);
            if inside < COLLECT_BLOCK_BUFFER_LEN {
                return Ok(());
            }
        }
    }
}
