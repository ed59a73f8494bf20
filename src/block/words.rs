//! All tokens of a block as one text, kept for whoever looks for a piece of one next.
//!
//! `like "rare"`, a term of a filter pattern: such a question is about pieces of words, and an index only knows whole ones. Walking
//! all tokens of a dictionary finds those with the piece; decoding them is most of the work. So the first walk leaves the tokens
//! behind, one after the other, and later ones search that text as a whole, at the speed of memory. Bounded in bytes, the least
//! lately used go first. Which tokens hold the last few pieces is kept too: people ask for the same again and again.

use std::sync::Arc;

use memchr::memmem;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::metrics::METRICS;
use super::recent::Recent;
use super::{BlockId, tokenizer};

/// Stands before each token and behind the last; no token has it.
const SEPARATOR: u8 = b'\n';
/// Tokens at least so long may have been cut: what they went on with is not known.
pub const MAYBE_CUT_BYTES: usize = tokenizer::MAX_TOKEN_BYTES - 3;
/// A text larger than one part in this many of the bound is not kept.
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
    kept: Recent<u128, Arc<TokenText>>,
}

impl TokenCache {
    /// An empty one; with a bound of 0 it stays empty.
    pub fn new(max_bytes: usize) -> Arc<TokenCache> {
        Arc::new(TokenCache {
            kept: Recent::new(max_bytes, LARGEST_PART),
        })
    }

    /// Bytes of the kept texts.
    pub fn n_bytes(&self) -> usize {
        self.kept.n_bytes()
    }
}

/// A block's place in a cache.
#[derive(Clone, Debug)]
pub(super) struct BlockTokens {
    cache: Arc<TokenCache>,
    block: u128,
}

impl BlockTokens {
    pub(super) fn new(cache: &Arc<TokenCache>, id: &BlockId) -> Self {
        Self {
            cache: cache.clone(),
            block: xxh3_128(id.as_str().as_bytes()),
        }
    }

    pub(super) fn get(&self) -> Option<Arc<TokenText>> {
        self.cache.kept.get(&self.block)
    }

    /// Takes tokens as a walk meets them.
    pub(super) fn gather(&self) -> Gathering<'_> {
        Gathering {
            of: self,
            text: vec![SEPARATOR],
            long: Vec::new(),
            is_too_large: !self.cache.kept.takes(ENTRY_BYTES),
        }
    }
}

/// A text in the making.
pub(super) struct Gathering<'a> {
    of: &'a BlockTokens,
    text: Vec<u8>,
    long: Vec<Box<str>>,
    is_too_large: bool,
}

impl Gathering<'_> {
    pub(super) fn add(&mut self, token: &str) {
        if self.is_too_large {
            return;
        }
        if token.len() >= MAYBE_CUT_BYTES {
            self.long.push(token.into());
        } else {
            self.text.extend_from_slice(token.as_bytes());
            self.text.push(SEPARATOR);
        }
        if !self.of.cache.kept.takes(self.text.len() + self.long.len() * 2 * MAYBE_CUT_BYTES + ENTRY_BYTES) {
            self.is_too_large = true;
            self.text = Vec::new();
            self.long = Vec::new();
        }
    }

    /// Keeps the text; all tokens of the block have been added.
    pub(super) fn finish(mut self) {
        if self.is_too_large {
            return;
        }
        self.text.shrink_to_fit();
        let n_bytes = self.text.len() + self.long.len() * 2 * MAYBE_CUT_BYTES + ENTRY_BYTES;
        let text = TokenText {
            text: self.text,
            long: self.long,
            pieces: Mutex::default(),
        };
        let n_bytes = self.of.cache.kept.keep(self.of.block, Arc::new(text), n_bytes);
        METRICS.token_cache_bytes.set(i64::try_from(n_bytes).unwrap_or(i64::MAX));
    }
}

/// Tokens, or `None` where they are too many.
type Holding = Option<Arc<[Box<str>]>>;

/// All tokens of a block.
#[derive(Debug)]
pub(super) struct TokenText {
    text: Vec<u8>,
    /// Tokens that may have been cut.
    long: Vec<Box<str>>,
    /// The pieces that were asked for last, the latest at the end.
    pieces: Mutex<Vec<(Box<str>, Holding)>>,
}

impl TokenText {
    /// The tokens that hold a piece, and those that may have been cut; `None` where they are too many.
    pub(super) fn holding(&self, piece: &str) -> Holding {
        if let Some((_, holding)) = self.pieces.lock().iter().find(|(known, _)| **known == *piece) {
            return holding.clone();
        }
        let holding = self.find(piece);
        if piece.len() <= MAX_PIECE_BYTES {
            let mut pieces = self.pieces.lock();
            if pieces.len() >= MAX_PIECES {
                pieces.remove(0);
            }
            pieces.push((piece.into(), holding.clone()));
        }
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
        let mut gathering = place.gather();
        for token in tokens {
            gathering.add(token);
        }
        gathering.finish();
        place.get()
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
}
