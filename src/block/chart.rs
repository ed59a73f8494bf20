//! Where in a dictionary the tokens with a piece can be: in which stretches of it any three bytes stand in a row.
//!
//! A dictionary is in order, so words that are alike stand together, and of request numbers, hashes and the like, which are
//! most of a large one, none holds `hel`. A chart takes a small part of the bytes of the tokens, and stays where their
//! text is too large to be kept: a later question decodes the few stretches that can have an answer.

use std::ops::Range;

/// Bytes in a row that a chart knows.
const GRAM_BYTES: usize = 3;
/// Classes of bytes: letters and digits each have one of their own.
const CLASSES: u32 = 64;
const N_GRAMS: usize = (CLASSES * CLASSES * CLASSES) as usize;
/// Bytes of tokens after which a stretch ends. (Few in tests, which have few tokens.)
const STRETCH_BYTES: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };
/// Where more stretches than one in so many can have the piece, a chart says nothing of use.
const SELECTIVE_ONE_IN: usize = 8;
/// A token that is longer is rare.
const MANY_BYTES_A_TOKEN: usize = 32;
/// So few are soon read however few there are.
const ALWAYS_FEW: usize = 4;

/// The class of a byte; tokens have no upper case.
fn class(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' => u32::from(byte - b'a'),
        b'0'..=b'9' => u32::from(byte - b'0') + 26,
        other => 36 + u32::from(other) % (CLASSES - 36),
    }
}

/// The grams of a text, by number.
fn grams(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    text.windows(GRAM_BYTES)
        .map(|gram| gram.iter().fold(0, |number, byte| number * CLASSES + class(*byte)) as usize)
}

/// The stretches in which a gram stands: their numbers in order, or, where that is no shorter, a bit for each stretch. Bits are
/// as long as [`Chart::n_words`], numbers are fewer.
#[derive(Clone, Copy)]
struct Places<'a> {
    written: &'a [u16],
    are_bits: bool,
}

impl Places<'_> {
    fn have(&self, stretch: u16) -> bool {
        match self.are_bits {
            true => self.written[usize::from(stretch) / 16] & (1 << (stretch % 16)) != 0,
            false => self.written.binary_search(&stretch).is_ok(),
        }
    }
}

/// A chart of the tokens of one block.
#[derive(Debug)]
pub(super) struct Chart {
    /// The first token of each stretch.
    starts: Vec<Box<str>>,
    /// Grams, by number, and where their places end in `places`.
    grams: Vec<(u32, u32)>,
    places: Vec<u16>,
}

impl Chart {
    /// Sixteen stretches each.
    fn n_words(&self) -> usize {
        self.starts.len().div_ceil(16)
    }

    fn places(&self, gram: usize) -> Option<Places<'_>> {
        let at = self.grams.binary_search_by_key(&gram, |(number, _)| *number as usize).ok()?;
        let start = at.checked_sub(1).map_or(0, |before| self.grams[before].1 as usize);
        let written = &self.places[start..self.grams[at].1 as usize];
        Some(Places {
            written,
            are_bits: written.len() == self.n_words(),
        })
    }

    /// Whether it is of use: what has few stretches is soon walked.
    pub(super) fn is_useful(&self) -> bool {
        self.starts.len() > ALWAYS_FEW
    }

    /// Stretches, as numbers of neighbours, in which tokens with a piece can stand; `None` where that leaves too many of them.
    pub(super) fn stretches(&self, piece: &str) -> Option<Vec<Range<usize>>> {
        let mut wanted = Vec::new();
        for gram in grams(piece.as_bytes()) {
            match self.places(gram) {
                Some(places) => wanted.push(places),
                None => return Some(Vec::new()),
            }
        }
        // the rarest says most
        wanted.sort_by_key(|places| (places.are_bits, places.written.len()));
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut n_found = 0;
        for stretch in 0..self.starts.len() {
            if !u16::try_from(stretch).is_ok_and(|stretch| wanted.iter().all(|places| places.have(stretch))) {
                continue;
            }
            n_found += 1;
            match found.last_mut() {
                Some(last) if last.end == stretch => last.end += 1,
                _ => found.push(stretch..stretch + 1),
            }
        }
        (n_found <= ALWAYS_FEW || n_found * SELECTIVE_ONE_IN <= self.starts.len()).then_some(found)
    }

    /// The first token of some stretches, and the first behind them.
    pub(super) fn bounds(&self, stretches: &Range<usize>) -> (&str, Option<&str>) {
        let start = |number: usize| self.starts.get(number).map(|token| &**token);
        (start(stretches.start).unwrap_or_default(), start(stretches.end))
    }

    pub(super) fn n_bytes(&self) -> usize {
        let starts: usize = self.starts.iter().map(|token| token.len() + size_of::<Box<str>>()).sum();
        starts + self.grams.len() * size_of::<(u32, u32)>() + self.places.len() * size_of::<u16>()
    }
}

/// A chart in the making.
pub(super) struct Charting {
    starts: Vec<Box<str>>,
    /// By number of the gram, the stretches that are over.
    places: Vec<Vec<u16>>,
    /// The grams of the stretch under way: a bit for each, and those that are set.
    seen: Vec<u64>,
    fresh: Vec<u32>,
    bytes_of_stretch: usize,
    previous: Vec<u8>,
    n_places: usize,
    max_places: usize,
}

impl Charting {
    /// Whether so many tokens can be more than a few stretches: a table for all grams is not made for fewer.
    pub(super) fn is_worth(n_tokens: usize) -> bool {
        n_tokens * MANY_BYTES_A_TOKEN > ALWAYS_FEW * STRETCH_BYTES
    }

    /// A chart with so many places at most.
    pub(super) fn new(max_places: usize) -> Self {
        Self {
            starts: Vec::new(),
            places: vec![Vec::new(); N_GRAMS],
            seen: vec![0; N_GRAMS / 64],
            fresh: Vec::new(),
            bytes_of_stretch: 0,
            previous: Vec::new(),
            n_places: 0,
            max_places,
        }
    }

    /// The next token, in order; `false` once they are too many or too different.
    pub(super) fn add(&mut self, token: &str) -> bool {
        let is_first = self.starts.is_empty() || self.bytes_of_stretch >= STRETCH_BYTES;
        if is_first {
            self.end_stretch();
            self.starts.push(token.into());
            self.previous.clear();
        }
        let token = token.as_bytes();
        // what the token before had too is known
        let common = token.iter().zip(&self.previous).take_while(|(a, b)| a == b).count();
        for gram in grams(&token[(common + 1).saturating_sub(GRAM_BYTES)..]) {
            let (word, bit) = (gram / 64, 1 << (gram % 64));
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                self.fresh.push(gram as u32);
            }
        }
        self.bytes_of_stretch += token.len() + 1;
        self.previous.clear();
        self.previous.extend_from_slice(token);
        self.n_places <= self.max_places && self.starts.len() <= usize::from(u16::MAX)
    }

    fn end_stretch(&mut self) {
        let Some(stretch) = self.starts.len().checked_sub(1) else { return };
        self.n_places += self.fresh.len();
        for gram in self.fresh.drain(..) {
            self.seen[gram as usize / 64] = 0;
            self.places[gram as usize].push(stretch as u16);
        }
        self.bytes_of_stretch = 0;
    }

    /// All tokens have been added.
    pub(super) fn finish(mut self) -> Chart {
        self.end_stretch();
        let mut chart = Chart {
            starts: self.starts,
            grams: Vec::new(),
            places: Vec::new(),
        };
        let n_words = chart.n_words();
        for (gram, places) in (0u32..).zip(self.places).filter(|(_, places)| !places.is_empty()) {
            if places.len() < n_words {
                chart.places.extend(places);
            } else {
                let bits = chart.places.len();
                chart.places.resize(bits + n_words, 0);
                places
                    .iter()
                    .for_each(|place| chart.places[bits + usize::from(*place) / 16] |= 1 << (place % 16));
            }
            chart.grams.push((gram, chart.places.len() as u32));
        }
        chart.grams.shrink_to_fit();
        chart.places.shrink_to_fit();
        chart
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn chart(tokens: &BTreeSet<String>) -> Chart {
        let mut charting = Charting::new(usize::MAX);
        assert!(tokens.iter().all(|token| charting.add(token)));
        charting.finish()
    }

    /// The tokens of the stretches that a piece leaves; `None` where it leaves too many.
    fn left<'t>(chart: &Chart, tokens: &'t BTreeSet<String>, piece: &str) -> Option<Vec<&'t str>> {
        let stretches = chart.stretches(piece)?;
        let of = |stretches: &Range<usize>| {
            let (from, to) = chart.bounds(stretches);
            tokens
                .iter()
                .map(String::as_str)
                .filter(|token| *token >= from && to.is_none_or(|to| *token < to))
                .collect::<Vec<_>>()
        };
        Some(stretches.iter().flat_map(of).collect())
    }

    #[test]
    fn a_word_among_many_numbers_leaves_few_of_them() {
        let numbers = (0..5_000u64).map(|number| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let tokens: BTreeSet<String> = numbers.chain(["heliotrope", "unheliotropes"].map(String::from)).collect();
        let chart = chart(&tokens);
        assert!(chart.starts.len() > 80);
        let found = left(&chart, &tokens, "heliotrope").expect("few");
        assert!(
            found.len() < 200 && found.contains(&"heliotrope") && found.contains(&"unheliotropes"),
            "{found:?}"
        );
        assert_eq!(left(&chart, &tokens, "violet"), Some(vec![]));
        assert_eq!(left(&chart, &tokens, "a"), None, "shorter than what is known");
        assert!(chart.n_bytes() < 100_000, "{}", chart.n_bytes());
    }

    #[test]
    fn one_with_too_many_places_is_given_up() {
        let mut charting = Charting::new(100);
        let tokens: BTreeSet<String> = (0..5_000u64).map(|number| number.to_string()).collect();
        assert!(!tokens.iter().all(|token| charting.add(token)));
    }

    proptest::proptest! {
        #[test]
        fn no_token_with_a_piece_is_left_out(
            tokens in proptest::collection::btree_set("[a-c0-1é漢_.-]{1,12}", 1..200),
            of in proptest::prelude::any::<proptest::sample::Index>(),
            from in 0usize..12,
            length in 1usize..8,
        ) {
            let chart = chart(&tokens);
            let token: Vec<char> = of.get(&tokens.iter().collect::<Vec<_>>()).chars().collect();
            let from = from.min(token.len());
            let piece: String = token[from..(from + length).min(token.len())].iter().collect();
            if let Some(left) = left(&chart, &tokens, &piece) {
                for token in tokens.iter().filter(|token| token.contains(&piece)) {
                    proptest::prop_assert!(left.contains(&token.as_str()), "{:?} with {:?}", token, piece);
                }
            }
        }
    }
}
