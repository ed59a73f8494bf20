//! Indexes become one index: postings are copied under new document numbers; no text is cut into words again.
//!
//! Rows keep their order within each block, so a block's postings stay ascending under their new numbers, and those of several
//! blocks are merged in one pass. Terms of context numbers are the only ones that change.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::path::Path;

use tantivy::columnar::ColumnarWriter;
use tantivy::directory::TerminatingWrite;
use tantivy::fieldnorm::FieldNormsSerializer;
use tantivy::index::SegmentComponent;
use tantivy::postings::{FieldSerializer, InvertedIndexSerializer, Postings, SegmentPostings, TermInfo};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Directory, DocSet, Index, IndexMeta, InvertedIndexReader, TERMINATED};

use super::super::build::index_settings;
use super::super::dictionary::{self, Terms, with_prefix};
use super::super::directory::ScratchDirectory;
use super::super::document::{self, TERMS, TEXT};
use super::super::terms::{context_prefix, context_term, value_of};
use super::super::{Error, Result};
use crate::storage::Scratch;

/// The new number of a row that goes.
pub(super) const GONE: u32 = u32::MAX;

/// One of the indexes.
pub(super) struct Input<'a> {
    pub text: &'a InvertedIndexReader,
    pub terms: &'a InvertedIndexReader,
    /// The new number of each row, ascending among those that stay; [`GONE`] of the others.
    pub rows: &'a [u32],
    /// The new number of each context; of one that no row is left of, none.
    pub contexts: &'a [Option<u32>],
}

/// The context number of each row of an index.
pub(in super::super) fn contexts_of_rows(terms: &InvertedIndexReader, n_rows: usize, n_contexts: usize) -> Result<Vec<u32>> {
    let mut contexts = vec![u32::MAX; n_rows];
    let prefix = context_prefix();
    let mut stream = with_prefix(terms, &prefix)?;
    while stream.advance()? {
        let number = number_of_context(stream.key(), &prefix)?;
        let mut postings = postings(terms, stream.value(), IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            if let Some(context) = contexts.get_mut(postings.doc() as usize) {
                *context = number;
            }
            postings.advance();
        }
    }
    match contexts.iter().all(|context| (*context as usize) < n_contexts) {
        true => Ok(contexts),
        false => Err(Error::index("a row has no context")),
    }
}

fn number_of_context(term: &[u8], prefix: &str) -> Result<u32> {
    let text = std::str::from_utf8(term).map_err(Error::index)?;
    value_of(text, prefix).parse().map_err(|_| Error::index("a context has no number"))
}

fn postings(reader: &InvertedIndexReader, term: &TermInfo, option: IndexRecordOption) -> Result<SegmentPostings> {
    reader.read_postings_from_terminfo(term, option).map_err(Error::index)
}

/// Merges indexes to one of `n_rows` documents, in a directory of its own.
pub(super) fn merge(inputs: &[Input<'_>], n_rows: u32, scratch: &Scratch) -> Result<(Index, ScratchDirectory)> {
    let directory = ScratchDirectory::new(scratch.clone());
    let index = Index::create(directory.clone(), document::schema(), index_settings()).map_err(Error::index)?;
    let segment = index.new_segment().with_max_doc(n_rows);
    let mut serializer = InvertedIndexSerializer::open(&segment).map_err(Error::index)?;
    let text: Vec<Source<'_>> = inputs
        .iter()
        .map(|input| Source::new(input.text, input.rows, IndexRecordOption::WithFreqsAndPositions))
        .collect();
    merge_field(&mut serializer, TEXT, &text, |writer| merge_terms(writer, &text, None))?;
    let terms: Vec<Source<'_>> = inputs
        .iter()
        .map(|input| Source::new(input.terms, input.rows, IndexRecordOption::Basic))
        .collect();
    merge_field(&mut serializer, TERMS, &terms, |writer| {
        merge_contexts(writer, inputs, &terms)?;
        merge_terms(writer, &terms, Some(&context_prefix()))
    })?;
    serializer.close().map_err(Error::index)?;

    // opening a segment asks for these, though nothing is in them
    let mut columns = segment.open_write(SegmentComponent::FastFields).map_err(Error::index)?;
    ColumnarWriter::default().serialize(n_rows, None, &mut columns).map_err(Error::index)?;
    columns.terminate().map_err(Error::index)?;
    let norms = segment.open_write(SegmentComponent::FieldNorms).map_err(Error::index)?;
    FieldNormsSerializer::from_write(norms)
        .and_then(FieldNormsSerializer::close)
        .map_err(Error::index)?;
    let meta = IndexMeta {
        index_settings: index.settings().clone(),
        persisted_custom_extensions: Vec::new(),
        segments: vec![segment.meta().clone()],
        schema: index.schema(),
        opstamp: 0,
        payload: None,
    };
    let json = serde_json::to_vec_pretty(&meta).map_err(Error::index)?;
    index.directory().atomic_write(Path::new("meta.json"), &json).map_err(Error::index)?;
    Ok((index, directory))
}

/// A field of one of the indexes.
struct Source<'a> {
    reader: &'a InvertedIndexReader,
    rows: &'a [u32],
    option: IndexRecordOption,
}

impl<'a> Source<'a> {
    fn new(reader: &'a InvertedIndexReader, rows: &'a [u32], option: IndexRecordOption) -> Self {
        Self { reader, rows, option }
    }

    fn cursor(&self, term: &TermInfo) -> Result<Option<Cursor<'a>>> {
        let mut cursor = Cursor {
            postings: postings(self.reader, term, self.option)?,
            rows: self.rows,
            row: GONE,
        };
        Ok(cursor.settle()?.then_some(cursor))
    }
}

/// Postings of a term under new numbers.
struct Cursor<'a> {
    postings: SegmentPostings,
    rows: &'a [u32],
    row: u32,
}

impl Cursor<'_> {
    /// Goes on to a row that stays, if it is not at one; gives whether there is one.
    fn settle(&mut self) -> Result<bool> {
        loop {
            let doc = self.postings.doc();
            if doc == TERMINATED {
                return Ok(false);
            }
            let row = self.rows.get(doc as usize).ok_or_else(|| Error::index("a document is behind the last row"))?;
            if *row != GONE {
                self.row = *row;
                return Ok(true);
            }
            self.postings.advance();
        }
    }

    fn advance(&mut self) -> Result<bool> {
        self.postings.advance();
        self.settle()
    }
}

fn merge_field(
    serializer: &mut InvertedIndexSerializer,
    field: Field,
    sources: &[Source<'_>],
    write: impl FnOnce(&mut Writer<'_>) -> Result<()>,
) -> Result<()> {
    // as many as there were, without those of rows that go: it is only told to scoring, which there is none of
    let n_tokens = sources.iter().map(|source| source.reader.total_num_tokens()).sum();
    if sources.iter().all(|source| source.reader.terms().num_terms() == 0) {
        return Ok(());
    }
    let mut writer = Writer {
        field: serializer.new_field(field, n_tokens, None).map_err(Error::index)?,
        has_positions: field == TEXT,
        positions: Vec::new(),
    };
    write(&mut writer)?;
    writer.field.close().map_err(Error::index)
}

/// Writes the terms of one field.
struct Writer<'a> {
    field: FieldSerializer<'a>,
    has_positions: bool,
    positions: Vec<u32>,
}

impl Writer<'_> {
    /// Writes a term, if any of its rows stays.
    fn term(&mut self, term: &[u8], cursors: &mut Vec<Cursor<'_>>) -> Result<()> {
        if cursors.is_empty() {
            return Ok(());
        }
        self.field.new_term(term, 0, self.has_positions).map_err(Error::index)?;
        while let Some(at) = first(cursors) {
            // up to where the next one begins: blocks mostly follow each other
            let end = cursors.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, cursor)| cursor.row).min();
            let end = end.unwrap_or(GONE);
            loop {
                let cursor = &mut cursors[at];
                if self.has_positions {
                    cursor.postings.positions(&mut self.positions);
                    to_deltas(&mut self.positions);
                    self.field.write_doc(cursor.row, cursor.postings.term_freq(), &self.positions);
                } else {
                    self.field.write_doc(cursor.row, 0, &[]);
                }
                if !cursor.advance()? {
                    cursors.swap_remove(at);
                    break;
                }
                if cursor.row > end {
                    break;
                }
            }
        }
        self.field.close_term().map_err(Error::index)
    }
}

/// The cursor at the least row.
fn first(cursors: &[Cursor<'_>]) -> Option<usize> {
    (0..cursors.len()).min_by_key(|at| cursors[*at].row)
}

fn to_deltas(positions: &mut [u32]) {
    let mut before = 0;
    for position in positions {
        let here = *position;
        *position = here.wrapping_sub(before);
        before = here;
    }
}

/// Where the stream of one source is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    term: Vec<u8>,
    source: usize,
}

/// Merges all terms behind those that begin with `behind`.
fn merge_terms(writer: &mut Writer<'_>, sources: &[Source<'_>], behind: Option<&str>) -> Result<()> {
    let mut streams: Vec<Terms> = Vec::with_capacity(sources.len());
    let mut heap = BinaryHeap::with_capacity(sources.len());
    for (source, of) in sources.iter().enumerate() {
        let mut stream = match behind {
            Some(prefix) if dictionary::before(of.reader, prefix)?.advance()? => {
                return Err(Error::index("it has terms of an unknown kind"));
            }
            Some(prefix) => dictionary::behind(of.reader, prefix)?,
            None => with_prefix(of.reader, "")?,
        };
        if stream.advance()? {
            let term = stream.key().to_vec();
            heap.push(Reverse(Head { term, source }));
        }
        streams.push(stream);
    }
    let mut term = Vec::new();
    let mut cursors: Vec<Cursor<'_>> = Vec::new();
    loop {
        term.clear();
        match heap.peek() {
            Some(Reverse(head)) => term.extend_from_slice(&head.term),
            None => return Ok(()),
        }
        cursors.clear();
        while let Some(mut top) = heap.peek_mut() {
            let Reverse(head) = &mut *top;
            if head.term != term {
                break;
            }
            let stream = &mut streams[head.source];
            cursors.extend(sources[head.source].cursor(stream.value())?);
            if stream.advance()? {
                head.term.clear();
                head.term.extend_from_slice(stream.key());
            } else {
                PeekMut::pop(top);
            }
        }
        writer.term(&term, &mut cursors)?;
    }
}

/// Writes the terms of the contexts, by their new numbers.
fn merge_contexts(writer: &mut Writer<'_>, inputs: &[Input<'_>], sources: &[Source<'_>]) -> Result<()> {
    let prefix = context_prefix();
    let mut renumbered: Vec<(String, usize, TermInfo)> = Vec::new();
    for (source, input) in inputs.iter().enumerate() {
        let mut stream = with_prefix(input.terms, &prefix)?;
        while stream.advance()? {
            let number = number_of_context(stream.key(), &prefix)?;
            let number = input.contexts.get(number as usize).ok_or_else(|| Error::index("a context is not there"))?;
            if let Some(number) = number {
                renumbered.push((context_term(*number), source, stream.value().clone()));
            }
        }
    }
    renumbered.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for same in renumbered.chunk_by(|a, b| a.0 == b.0) {
        let mut cursors = Vec::with_capacity(same.len());
        for (_, source, info) in same {
            cursors.extend(sources[*source].cursor(info)?);
        }
        writer.term(same[0].0.as_bytes(), &mut cursors)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_become_differences() {
        let mut positions = vec![3, 3, 10];
        to_deltas(&mut positions);
        assert_eq!(positions, [3, 0, 7]);
    }
}
