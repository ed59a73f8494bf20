//! All tokens of a block as one text, kept for whoever looks for a piece of one next.
//!
//! `like "rare"`, a term of a filter pattern: such a question is about pieces of words, and an index only knows whole ones. Walking
//! all tokens of a dictionary finds those with the piece; decoding them is most of the work. So the first walk leaves the tokens
//! behind, one after the other, and later ones search that text as a whole, at the speed of memory. Bounded in bytes, the least
//! lately used go first. Which tokens hold the last few pieces is kept too: people ask for the same again and again.
//!
//! Of large blocks, whose texts do not fit side by side, a [`Chart`] stays, which takes a small part of the bytes: a part of the bound
//! is for charts alone, so that no text pushes them out. It is asked first, as it leaves nearly nothing to be searched of most pieces.

use std::ops::Range;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::chart::{Chart, Charting};
use super::metrics::METRICS;
use super::recent::Recent;
use super::{BlockId, Result, tokenizer};

/// Stands before each token and behind the last; no token has it.
const SEPARATOR: u8 = b'\n';
/// Tokens at least so long may have been cut: what they went on with is not known.
pub const MAYBE_CUT_BYTES: usize = tokenizer::MAX_TOKEN_BYTES - 3;
/// One part in so many of the bound is for charts, the rest for texts.
const CHARTS_PART: usize = 4;
/// Places that a chart in the making may have, for each byte that the finished one may: most of them become bits.
const PLACES_A_BYTE: usize = 2;
/// A text larger than one part in this many of their bound is not kept, nor is such a chart.
const LARGEST_PART: usize = 2;
/// A piece that more tokens hold is found by walking all.
const MAX_HOLDING: usize = 4_096;
/// Pieces whose tokens are known, of one block.
const MAX_PIECES: usize = 4;
/// Longer pieces are not kept.
const MAX_PIECE_BYTES: usize = 256;
/// What a text costs besides its bytes, about: its books, and the pieces that are known.
const ENTRY_BYTES: usize = 4_096;

/// Tokens of any number of blocks.
#[derive(Debug)]
pub struct TokenCache {
    texts: Recent<u128, Arc<TokenText>>,
    charts: Recent<u128, Arc<TokenChart>>,
    /// Tokens of dictionaries that were decoded for questions about pieces: a test tells by it what was walked.
    #[cfg(test)]
    looked_at: AtomicU64,
}

impl TokenCache {
    /// An empty one; with a bound of 0 it stays empty.
    pub fn new(max_bytes: usize) -> Arc<TokenCache> {
        let for_charts = max_bytes / CHARTS_PART;
        Arc::new(TokenCache {
            texts: Recent::new(max_bytes - for_charts, LARGEST_PART),
            charts: Recent::new(for_charts, LARGEST_PART),
            #[cfg(test)]
            looked_at: AtomicU64::new(0),
        })
    }

    /// Bytes of what is kept.
    pub fn n_bytes(&self) -> usize {
        self.texts.n_bytes() + self.charts.n_bytes()
    }

    fn looks_at_one(&self) {
        #[cfg(test)]
        self.looked_at.fetch_add(1, Ordering::Relaxed);
    }

    /// Tokens that were looked at so far.
    #[cfg(test)]
    pub(crate) fn n_looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }
}

/// A block's place in a cache.
#[derive(Clone, Debug)]
pub(super) struct BlockTokens {
    cache: Arc<TokenCache>,
    block: u128,
}

/// Reads the tokens of a dictionary from one on up to, but without, another.
pub(super) type ReadTokens<'a> = dyn FnMut(&str, Option<&str>, &mut dyn FnMut(&str)) -> Result<()> + 'a;

impl BlockTokens {
    pub(super) fn new(cache: &Arc<TokenCache>, id: &BlockId) -> Self {
        Self {
            cache: cache.clone(),
            block: xxh3_128(id.as_str().as_bytes()),
        }
    }

    /// Whether some walk left something behind.
    pub(super) fn is_known(&self) -> bool {
        self.chart().is_some() || self.text().is_some()
    }

    fn text(&self) -> Option<Arc<TokenText>> {
        self.cache.texts.get(&self.block)
    }

    fn chart(&self) -> Option<Arc<TokenChart>> {
        self.cache.charts.get(&self.block)
    }

    /// The tokens that hold a piece, and those that may have been cut; `None` where only a walk can say, or they are too many.
    pub(super) fn holding(&self, piece: &str, read: &mut ReadTokens<'_>) -> Result<Holding> {
        if let Some(chart) = self.chart() {
            if let Some(holding) = chart.pieces.get(piece) {
                return Ok(holding);
            }
            if let Some(stretches) = chart.chart.stretches(piece) {
                let holding = self.read_stretches(&chart, &stretches, piece, read)?;
                chart.pieces.keep(piece, &holding);
                return Ok(holding);
            }
        }
        Ok(self.text().and_then(|text| text.holding(piece)))
    }

    fn read_stretches(&self, chart: &TokenChart, stretches: &[Range<usize>], piece: &str, read: &mut ReadTokens<'_>) -> Result<Holding> {
        let finder = memmem::Finder::new(piece.as_bytes());
        let mut found: Vec<Box<str>> = chart.long.clone();
        for stretches in stretches {
            let (from, to) = chart.chart.bounds(stretches);
            read(from, to, &mut |token| {
                self.cache.looks_at_one();
                // long ones are listed already
                if found.len() <= MAX_HOLDING && token.len() < MAYBE_CUT_BYTES && finder.find(token.as_bytes()).is_some() {
                    found.push(token.into());
                }
            })?;
            if found.len() > MAX_HOLDING {
                return Ok(None);
            }
        }
        Ok(Some(found.into()))
    }

    /// Takes tokens as a walk meets them, in order; the block has `n_tokens`.
    pub(super) fn gather(&self, n_tokens: usize) -> Gathering<'_> {
        let charts = &self.cache.charts;
        let charted = Charting::is_worth(n_tokens) && charts.takes(ENTRY_BYTES) && self.chart().is_none();
        Gathering {
            of: self,
            text: self.cache.texts.takes(ENTRY_BYTES).then(|| vec![SEPARATOR]),
            chart: charted.then(|| Charting::new(PLACES_A_BYTE * charts.largest())),
            long: Vec::new(),
        }
    }
}

/// A text and a chart in the making; `None` once they are too large.
pub(super) struct Gathering<'a> {
    of: &'a BlockTokens,
    text: Option<Vec<u8>>,
    chart: Option<Charting>,
    long: Vec<Box<str>>,
}

impl Gathering<'_> {
    pub(super) fn add(&mut self, token: &str) {
        self.of.cache.looks_at_one();
        if token.len() >= MAYBE_CUT_BYTES {
            if self.text.is_some() || self.chart.is_some() {
                self.long.push(token.into());
            }
        } else if let Some(text) = &mut self.text {
            text.extend_from_slice(token.as_bytes());
            text.push(SEPARATOR);
        }
        let of_long = self.long.len() * 2 * MAYBE_CUT_BYTES + ENTRY_BYTES;
        if self.text.as_ref().is_some_and(|text| !self.of.cache.texts.takes(text.len() + of_long)) {
            self.text = None;
        }
        // long ones stand in stretches too, so that these begin where a dictionary can be read from
        if self.chart.as_mut().is_some_and(|chart| !chart.add(token)) || !self.of.cache.charts.takes(of_long) {
            self.chart = None;
        }
        if self.text.is_none() && self.chart.is_none() {
            self.long = Vec::new();
        }
    }

    /// Keeps what fits; all tokens of the block have been added.
    pub(super) fn finish(self) {
        let cache = &self.of.cache;
        let of_long = self.long.len() * 2 * MAYBE_CUT_BYTES + ENTRY_BYTES;
        if let Some(chart) = self.chart.map(Charting::finish).filter(Chart::is_useful) {
            let n_bytes = chart.n_bytes() + of_long;
            let chart = TokenChart {
                chart,
                long: self.long.clone(),
                pieces: Pieces::default(),
            };
            cache.charts.keep(self.of.block, Arc::new(chart), n_bytes);
        }
        if let Some(mut text) = self.text {
            text.shrink_to_fit();
            let n_bytes = text.len() + of_long;
            let text = TokenText {
                text,
                long: self.long,
                pieces: Pieces::default(),
            };
            cache.texts.keep(self.of.block, Arc::new(text), n_bytes);
        }
        METRICS.token_cache_bytes.set(i64::try_from(cache.n_bytes()).unwrap_or(i64::MAX));
    }
}

/// Tokens, or `None` where they are too many.
type Holding = Option<Arc<[Box<str>]>>;

/// The pieces that were asked for last, the latest at the end.
#[derive(Debug, Default)]
struct Pieces(Mutex<Vec<(Box<str>, Holding)>>);

impl Pieces {
    fn get(&self, piece: &str) -> Option<Holding> {
        let pieces = self.0.lock();
        pieces.iter().find(|(known, _)| **known == *piece).map(|(_, holding)| holding.clone())
    }

    fn keep(&self, piece: &str, holding: &Holding) {
        if piece.len() > MAX_PIECE_BYTES {
            return;
        }
        let mut pieces = self.0.lock();
        if pieces.len() >= MAX_PIECES {
            pieces.remove(0);
        }
        pieces.push((piece.into(), holding.clone()));
    }
}

/// Where tokens of a block are.
#[derive(Debug)]
struct TokenChart {
    chart: Chart,
    /// Tokens that may have been cut.
    long: Vec<Box<str>>,
    pieces: Pieces,
}

/// All tokens of a block.
#[derive(Debug)]
struct TokenText {
    text: Vec<u8>,
    /// Tokens that may have been cut.
    long: Vec<Box<str>>,
    pieces: Pieces,
}

impl TokenText {
    /// The tokens that hold a piece, and those that may have been cut; `None` where they are too many.
    fn holding(&self, piece: &str) -> Holding {
        if let Some(holding) = self.pieces.get(piece) {
            return holding;
        }
        let holding = self.find(piece);
        self.pieces.keep(piece, &holding);
        holding
    }

    fn find(&self, piece: &str) -> Holding {
        let mut found: Vec<Box<str>> = Vec::new();
        let finder = memmem::Finder::new(piece.as_bytes());
        let mut at = 0;
        while let Some(hit) = finder.find(&self.text[at..]).map(|hit| at + hit) {
            // a separator stands before the first token and behind each
            let start = memchr::memrchr(SEPARATOR, &self.text[..hit]).map_or(0, |before| before + 1);
            let end = memchr::memchr(SEPARATOR, &self.text[hit..]).map_or(self.text.len(), |behind| hit + behind);
            if found.len() + self.long.len() >= MAX_HOLDING {
                return None;
            }
            found.extend(std::str::from_utf8(&self.text[start..end]).ok().map(Box::from));
            at = end;
        }
        found.extend(self.long.iter().cloned());
        Some(found.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tokens: &[&str], max_bytes: usize) -> Option<Arc<TokenText>> {
        let place = BlockTokens::new(&TokenCache::new(max_bytes), &BlockId::new(1));
        let mut gathering = place.gather(tokens.len());
        for token in tokens {
            gathering.add(token);
        }
        gathering.finish();
        place.text()
    }

    #[test]
    fn tokens_with_a_piece_are_found_once_each_wherever_it_stands() {
        let long = "x".repeat(MAYBE_CUT_BYTES);
        let text = of(&["alpha", "alphabet", "bet", "betabet", "é漢é", &long], 1 << 20).expect("it fits");
        let holding = |piece: &str| {
            text.holding(piece)
                .map(|tokens| tokens.iter().map(|token| token.to_string()).collect::<Vec<_>>())
        };
        let with = |tokens: &[&str]| Some(tokens.iter().map(|token| token.to_string()).chain([long.clone()]).collect::<Vec<_>>());
        assert_eq!(holding("alpha"), with(&["alpha", "alphabet"]));
        assert_eq!(holding("bet"), with(&["alphabet", "bet", "betabet"]));
        assert_eq!(holding("bet"), with(&["alphabet", "bet", "betabet"]), "asked again");
        assert_eq!(holding("漢"), with(&["é漢é"]));
        assert_eq!(holding("habe"), with(&["alphabet"]));
        assert_eq!(holding("nothing"), with(&[]));
        assert_eq!(of(&[], 1 << 20).expect("it fits").holding("a").map(|tokens| tokens.len()), Some(0));
    }

    #[test]
    fn too_many_tokens_are_not_listed_and_a_text_beyond_the_bound_is_not_kept() {
        let tokens: Vec<String> = (0..=MAX_HOLDING).map(|number| format!("t{number}")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let text = of(&tokens, 1 << 20).expect("it fits");
        assert_eq!((text.holding("t"), text.holding("t409").map(|tokens| tokens.len())), (None, Some(8)));
        assert!(of(&tokens, 16 << 10).is_none() && of(&[], 0).is_none());
    }

    #[test]
    fn where_the_text_is_too_large_the_chart_says_where_to_look() {
        let mut tokens: Vec<String> = (0..6_000u64)
            .map(|number| format!("{:022o}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        tokens.extend(["heliotrope".into(), "unheliotropes".into(), "z".repeat(MAYBE_CUT_BYTES)]);
        tokens.sort();
        let cache = TokenCache::new(320 << 10);
        let place = BlockTokens::new(&cache, &BlockId::new(1));
        let mut gathering = place.gather(tokens.len());
        tokens.iter().for_each(|token| gathering.add(token));
        gathering.finish();
        assert!(place.text().is_none() && place.is_known());
        let (walked, mut n_read) = (cache.n_looked_at(), 0);
        let mut read = |from: &str, to: Option<&str>, each: &mut dyn FnMut(&str)| -> Result<()> {
            let between = |token: &&String| token.as_str() >= from && to.is_none_or(|to| token.as_str() < to);
            tokens.iter().filter(between).for_each(|token| {
                n_read += 1;
                each(token);
            });
            Ok(())
        };
        for _ in 0..2 {
            let mut found: Vec<String> = place
                .holding("heliotrope", &mut read)
                .expect("read")
                .expect("few")
                .iter()
                .map(|t| t.to_string())
                .collect();
            found.sort();
            assert_eq!(found, ["heliotrope", "unheliotropes", tokens.last().expect("one")]);
        }
        assert!(place.holding("a", &mut read).expect("read").is_none(), "a piece of nearly all is walked for");
        assert!(
            n_read > 0 && n_read < 300 && cache.n_looked_at() - walked == n_read,
            "{n_read}, the second time none"
        );
    }
}
