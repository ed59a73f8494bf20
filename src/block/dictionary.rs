//! Reads tantivy's term dictionaries: one term, or those with a prefix in order.
//!
//! tantivy-sstable can do both, but makes a zstd context for each dictionary block of 4 KB, which costs more than inflating it (in a
//! virtual machine, where `cpuid` traps, several times more), makes room for 1 MiB, and decodes what it says of all terms of the
//! block, though mostly one or none is asked for. Looking up terms was 58 % of the CPU time of opening a trace. Here a thread
//! keeps one context, and what is said of a term is decoded when it is found.
//!
//! Format: [tantivy-sstable's README](https://docs.rs/crate/tantivy-sstable/0.27.0/source/README.md), "SSTBlock"; the values of a
//! block are the number of its terms, where postings and positions of the first begin, and of each term how many documents
//! have it, how many bytes of postings, and how many of positions (`TermInfoValueReader` of tantivy 0.27). A test compares both readers.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::ops::Bound;

use tantivy::InvertedIndexReader;
use tantivy::postings::TermInfo;
use tantivy_common::OwnedBytes;
use zstd::bulk::Decompressor;

use super::{Error, Result};

/// Inflated blocks that claim to be larger are damaged: one ends with the term that reaches 4,000 bytes, and a term is at most 64 KiB.
const MAX_BLOCK_BYTES: u64 = 1 << 20;
/// Says that a delta's two lengths follow as numbers of their own.
const LONG_DELTA: u8 = 1;

thread_local! {
    static INFLATER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn damaged() -> Error {
    Error::index("its dictionary of terms is damaged")
}

/// What the dictionary says of a term, if it has it.
pub(super) fn find(reader: &InvertedIndexReader, term: &str) -> Result<Option<TermInfo>> {
    let wanted = term.as_bytes();
    let range = (Bound::Included(wanted), Bound::Included(wanted));
    let mut bytes = reader.terms().file_slice_for_range(range, None).read_bytes().map_err(Error::index)?;
    let mut block = Block::default();
    if !block.inflate(&mut bytes)? {
        return Ok(None);
    }
    // so many bytes of the wanted term the last one began with
    let mut shared = 0;
    while let Some((kept, suffix)) = block.next_delta()? {
        match kept.cmp(&shared) {
            // it differs where the last one did, which was before the wanted one
            Ordering::Greater => continue,
            Ordering::Less => return Ok(None),
            Ordering::Equal => {}
        }
        let rest = &wanted[shared..];
        let same = suffix.iter().zip(rest).take_while(|(a, b)| a == b).count();
        match (suffix.get(same), rest.get(same)) {
            (None, None) => return Ok(Some(block.info()?)),
            (None, Some(_)) => {}
            (Some(_), None) => return Ok(None),
            (Some(it), Some(wanted)) if it > wanted => return Ok(None),
            (Some(_), Some(_)) => {}
        }
        shared += same;
    }
    Ok(None)
}

/// The terms that begin with a prefix, in order; without one, all.
pub(super) fn with_prefix(reader: &InvertedIndexReader, prefix: &str) -> Result<Terms> {
    // terms are UTF-8, in which no byte is this high
    let end = [prefix.as_bytes(), &[0xff]].concat();
    let end = if prefix.is_empty() { Bound::Unbounded } else { Bound::Excluded(&end[..]) };
    Terms::between(reader, Bound::Included(prefix.as_bytes()), end)
}

/// The terms from one on up to, but without, another.
pub(super) fn between(reader: &InvertedIndexReader, from: &str, to: Option<&str>) -> Result<Terms> {
    let end = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.as_bytes()));
    Terms::between(reader, Bound::Included(from.as_bytes()), end)
}

/// All terms behind those that begin with a prefix.
pub(super) fn behind(reader: &InvertedIndexReader, prefix: &str) -> Result<Terms> {
    let start = [prefix.as_bytes(), &[0xff]].concat();
    Terms::between(reader, Bound::Included(&start), Bound::Unbounded)
}

/// All terms before a prefix.
pub(super) fn before(reader: &InvertedIndexReader, prefix: &str) -> Result<Terms> {
    Terms::between(reader, Bound::Unbounded, Bound::Excluded(prefix.as_bytes()))
}

/// Terms in order.
pub(super) struct Terms {
    /// Blocks that were not inflated yet.
    bytes: OwnedBytes,
    block: Block,
    infos: Infos,
    key: Vec<u8>,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Terms {
    fn between(reader: &InvertedIndexReader, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Terms> {
        let slice = reader.terms().file_slice_for_range((start, end), None);
        let of = |bound: Bound<&[u8]>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        Ok(Terms {
            bytes: slice.read_bytes().map_err(Error::index)?,
            block: Block::default(),
            infos: Infos::default(),
            key: Vec::new(),
            start: of(start).unwrap_or_default(),
            end: of(end),
        })
    }

    /// Goes on to the next term; false behind the last.
    pub(super) fn advance(&mut self) -> Result<bool> {
        loop {
            let Some((kept, suffix)) = self.block.next_delta()? else {
                if !self.block.inflate(&mut self.bytes)? {
                    return Ok(false);
                }
                self.infos = self.block.infos()?;
                self.key.clear();
                continue;
            };
            if kept > self.key.len() {
                return Err(damaged());
            }
            self.key.truncate(kept);
            self.key.extend_from_slice(suffix);
            self.infos.advance(&self.block.content)?;
            if self.key < self.start {
                continue;
            }
            return Ok(self.end.as_ref().is_none_or(|end| self.key < *end));
        }
    }

    /// The term.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What is said of it.
    pub(super) fn value(&self) -> &TermInfo {
        &self.infos.info
    }
}

/// A block of the dictionary, inflated.
#[derive(Default)]
struct Block {
    content: Vec<u8>,
    /// Where the next term stands.
    at: usize,
    /// Terms that were read.
    n_read: usize,
}

impl Block {
    /// Takes the next block from the front of `bytes`; false if there is none.
    fn inflate(&mut self, bytes: &mut OwnedBytes) -> Result<bool> {
        *self = Block {
            content: std::mem::take(&mut self.content),
            ..Block::default()
        };
        self.content.clear();
        // behind the last block stands an empty one, which a range may not hold
        let Some(length) = bytes.first_chunk::<4>() else {
            return if bytes.is_empty() { Ok(false) } else { Err(damaged()) };
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length <= 1 {
            return Ok(false);
        }
        let block = bytes.get(4..).and_then(|rest| rest.get(..length)).ok_or_else(damaged)?;
        match block.split_first() {
            Some((0, plain)) => self.content.extend_from_slice(plain),
            Some((1, packed)) => {
                let n_bytes = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
                let n_bytes = n_bytes.filter(|n| *n <= MAX_BLOCK_BYTES).ok_or_else(damaged)?;
                self.content.reserve(n_bytes as usize);
                INFLATER.with_borrow_mut(|inflater| {
                    let inflater = match inflater {
                        Some(inflater) => inflater,
                        None => inflater.insert(Decompressor::new().map_err(Error::index)?),
                    };
                    inflater.decompress_to_buffer(packed, &mut self.content).map_err(Error::index)
                })?;
            }
            _ => return Err(damaged()),
        }
        bytes.advance(4 + length);
        let mut infos = self.infos()?;
        let n_numbers = infos.n_terms.checked_mul(3).ok_or_else(damaged)?;
        infos.skip_numbers(&self.content, n_numbers)?;
        self.at = infos.at;
        Ok(true)
    }

    /// The next term: how many bytes it has of the last one, and what follows.
    fn next_delta(&mut self) -> Result<Option<(usize, &[u8])>> {
        let Some(first) = self.content.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let (kept, length) = match *first {
            LONG_DELTA => (self.length()?, self.length()?),
            both => (usize::from(both & 15), usize::from(both >> 4)),
        };
        let end = self.at.checked_add(length).ok_or_else(damaged)?;
        let suffix = self.content.get(self.at..end).ok_or_else(damaged)?;
        self.at = end;
        self.n_read += 1;
        Ok(Some((kept, suffix)))
    }

    /// A length of a long delta: seven bits a byte, the high bit says that more follow.
    fn length(&mut self) -> Result<usize> {
        let mut value = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = *self.content.get(self.at).ok_or_else(damaged)?;
            self.at += 1;
            value |= usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// What is said of its terms, from the first on.
    fn infos(&self) -> Result<Infos> {
        let mut infos = Infos::default();
        infos.n_terms = infos.number(&self.content)?;
        let (postings, positions) = (infos.number(&self.content)?, infos.number(&self.content)?);
        infos.info.postings_range = postings..postings;
        infos.info.positions_range = positions..positions;
        Ok(infos)
    }

    /// What is said of the last term that was read.
    fn info(&self) -> Result<TermInfo> {
        let mut infos = self.infos()?;
        for _ in 0..self.n_read {
            infos.advance(&self.content)?;
        }
        Ok(infos.info)
    }
}

/// A place among what is said of a block's terms.
#[derive(Default)]
struct Infos {
    n_terms: usize,
    at: usize,
    info: TermInfo,
}

impl Infos {
    fn advance(&mut self, content: &[u8]) -> Result<()> {
        self.info.doc_freq = u32::try_from(self.number(content)?).map_err(|_| damaged())?;
        let (postings, positions) = (self.number(content)?, self.number(content)?);
        for (range, length) in [(&mut self.info.postings_range, postings), (&mut self.info.positions_range, positions)] {
            *range = range.end..range.end.checked_add(length).ok_or_else(damaged)?;
        }
        Ok(())
    }

    /// A number: seven bits a byte, the high bit says that it was the last.
    fn number(&mut self, content: &[u8]) -> Result<usize> {
        let mut value = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = *content.get(self.at).ok_or_else(damaged)?;
            self.at += 1;
            value |= usize::from(byte & 127) << shift;
            if byte & 128 != 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn skip_numbers(&mut self, content: &[u8], n_numbers: usize) -> Result<()> {
        let mut left = n_numbers;
        while left > 0 {
            let byte = *content.get(self.at).ok_or_else(damaged)?;
            self.at += 1;
            left -= usize::from(byte >> 7);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tantivy::schema::IndexRecordOption;
    use tantivy::tokenizer::{TextAnalyzer, WhitespaceTokenizer};
    use tantivy::{Index, TantivyDocument};

    use super::super::document::{TEXT, schema};
    use super::*;

    fn reader_of(terms: &BTreeSet<String>) -> std::sync::Arc<InvertedIndexReader> {
        let index = Index::create_in_ram(schema());
        for name in ["log1", "terms"] {
            index.tokenizers().register(name, TextAnalyzer::builder(WhitespaceTokenizer::default()).build());
        }
        let mut writer = index.writer_with_num_threads::<TantivyDocument>(1, 15_000_000).expect("memory");
        let all: Vec<&str> = terms.iter().map(String::as_str).collect();
        for words in all.chunks(50).chain(all.chunks(7).step_by(3)) {
            let mut document = TantivyDocument::default();
            document.add_text(TEXT, words.join(" "));
            writer.add_document(document).expect("it takes it");
        }
        writer.commit().expect("it commits");
        let reader = index.reader().expect("it opens").searcher();
        let segment = reader.segment_readers().first().expect("one");
        assert_eq!(reader.segment_readers().len(), 1);
        segment.inverted_index(TEXT).expect("the field")
    }

    /// Terms as tantivy's own reader tells them.
    fn all_of(reader: &InvertedIndexReader) -> Vec<(String, TermInfo)> {
        let mut stream = reader.terms().stream().expect("terms");
        let mut all = Vec::new();
        while stream.advance() {
            let term = std::str::from_utf8(stream.key()).expect("text");
            all.push((term.to_string(), stream.value().clone()));
        }
        all
    }

    fn walked(mut terms: Terms) -> Vec<(String, TermInfo)> {
        let mut all = Vec::new();
        while terms.advance().expect("sound") {
            all.push((std::str::from_utf8(terms.key()).expect("text").to_string(), terms.value().clone()));
        }
        all
    }

    fn check(terms: &BTreeSet<String>, asked: &[String]) {
        let reader = reader_of(terms);
        let all = all_of(&reader);
        assert_eq!(walked(with_prefix(&reader, "").expect("all")), all);
        for text in asked.iter().chain(terms.iter().step_by(97)).filter(|text| !text.is_empty()) {
            let same = reader.get_term_info(&tantivy::Term::from_field_text(TEXT, text)).expect("sound");
            assert_eq!(find(&reader, text).expect("sound"), same, "{text:?}");
            let of = |is: &dyn Fn(&str) -> bool| all.iter().filter(|(term, _)| is(term)).cloned().collect::<Vec<_>>();
            assert_eq!(
                walked(with_prefix(&reader, text).expect("some")),
                of(&|term| term.starts_with(text)),
                "{text:?}"
            );
            assert_eq!(walked(before(&reader, text).expect("some")), of(&|term| term < text.as_str()), "{text:?}");
            let to = format!("{text}c");
            let some = of(&|term| term >= text.as_str() && term < to.as_str());
            assert_eq!(walked(between(&reader, text, Some(&to)).expect("some")), some, "{text:?}");
            let after = of(&|term| term > text.as_str() && !term.starts_with(text));
            assert_eq!(walked(behind(&reader, text).expect("some")), after, "{text:?}");
        }
        if let Some((_, info)) = all.last() {
            let mut postings = reader.read_postings_from_terminfo(info, IndexRecordOption::Basic).expect("postings");
            let mut n = 0;
            while tantivy::DocSet::doc(&postings) != tantivy::TERMINATED {
                n += 1;
                tantivy::DocSet::advance(&mut postings);
            }
            assert_eq!(n, info.doc_freq);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn terms_are_found_as_tantivy_finds_them(
            words in proptest::collection::btree_set("[abé]{1,6}", 0..300),
            long in proptest::collection::vec("[a-c]{1,3}", 0..4),
            asked in proptest::collection::vec("[abcé]{0,7}", 20),
        ) {
            // some share or add more than fifteen bytes, one fills a dictionary block alone
            let long = long.iter().flat_map(|word| [word.repeat(40), format!("{}x", word.repeat(40)), word.repeat(1_500)]);
            let terms = words.into_iter().chain(long).collect();
            check(&terms, &asked);
        }
    }

    #[test]
    fn of_many_dictionary_blocks_too() {
        let terms: BTreeSet<String> = (0..6_000u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let asked: Vec<String> = (0..8).map(|n| format!("{n:x}f")).collect();
        check(&terms, &asked);
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let terms: BTreeSet<String> = (0..500).map(|n| format!("word{n}")).collect();
        let reader = reader_of(&terms);
        let range = (Bound::<&[u8]>::Unbounded, Bound::Unbounded);
        let sound = reader.terms().file_slice_for_range(range, None).read_bytes().expect("memory").to_vec();
        let read = |bytes: Vec<u8>| {
            let mut terms = Terms {
                bytes: OwnedBytes::new(bytes),
                block: Block::default(),
                infos: Infos::default(),
                key: Vec::new(),
                start: Vec::new(),
                end: None,
            };
            let mut n = 0;
            while terms.advance()? {
                n += 1;
            }
            Ok::<_, Error>(n)
        };
        assert_eq!(read(sound.clone()).expect("sound"), 500);
        let mut n_errors = 0;
        for at in 0..sound.len() {
            for bit in [1, 128] {
                let mut bytes = sound.clone();
                bytes[at] ^= bit;
                n_errors += usize::from(read(bytes).is_err());
            }
            n_errors += usize::from(read(sound[..at].to_vec()).is_err());
        }
        assert!(n_errors > sound.len(), "{n_errors} of {}", sound.len());
    }
}
