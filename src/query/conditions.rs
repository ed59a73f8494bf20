//! Tests of one value, one token, one text: what a condition asks of what it looks at.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, Input};
use memchr::memmem;

use super::addresses::Network;
use crate::block::{Pattern, tokenizer};
use crate::model::json;

/// An attribute name with what is needed to see quickly that a JSON body cannot have it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// The longest piece of it that stands contiguously in any JSON text that has the key unescaped.
    segment: memmem::Finder<'static>,
}

impl Key {
    pub(super) fn new(name: &str) -> Self {
        let longest = name.split('.').max_by_key(|segment| segment.len()).unwrap_or_default();
        Self {
            name: name.to_string(),
            segment: memmem::Finder::new(longest).into_owned(),
        }
    }

    /// Whether a JSON body may have the key.
    pub(super) fn may_be_in(&self, body: &str) -> bool {
        self.segment.find(body.as_bytes()).is_some() || memchr::memchr(b'\\', body.as_bytes()).is_some()
    }

    /// Whether what stands under `name` has a value of this key that passes: the value itself, or one inside of it.
    pub(super) fn passes(&self, name: &str, value: &str, test: &ValueTest) -> bool {
        match self.name.strip_prefix(name) {
            Some("") => test.passes_itself_or_inside(value),
            Some(rest) => rest.strip_prefix('.').is_some_and(|path| test.passes_inside(value, path)),
            None => false,
        }
    }

    /// The names under which an object may stand that has the key inside, each with the path from there.
    pub(super) fn parents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.name.match_indices('.').map(|(at, _)| (&self.name[..at], &self.name[at + 1..]))
    }
}

/// A test of one value's canonical text.
#[derive(Clone, Debug)]
pub(super) enum ValueTest {
    Any,
    Is(String),
    /// One of many.
    OneOf(Arc<HashSet<String>>),
    Like(Box<Pattern>, String),
    Find(regex::Regex),
    Within(NumberRange),
    Alike(Alike),
    /// An address inside stands in it.
    Address(Network),
    /// This text stands in it, to the letter.
    Holds(memmem::Finder<'static>),
    /// What a condition of SQL makes of it.
    By(Judge),
}

/// A test that was made elsewhere.
#[derive(Clone)]
pub(super) struct Judge(pub(super) Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judge")
    }
}

impl ValueTest {
    pub(super) fn passes(&self, value: &str) -> bool {
        match self {
            ValueTest::Any => true,
            ValueTest::Is(expected) => value == expected,
            ValueTest::OneOf(expected) => expected.contains(value),
            ValueTest::Like(pattern, _) => pattern.matches(value),
            ValueTest::Find(regex) => regex.is_match(value),
            ValueTest::Within(range) => Number::read(value).is_some_and(|number| range.contains(number)),
            ValueTest::Alike(alike) => alike.is_like(value),
            ValueTest::Address(network) => network.is_in(value),
            ValueTest::Holds(finder) => finder.find(value.as_bytes()).is_some(),
            ValueTest::By(judge) => (judge.0)(value),
        }
    }

    /// Whether a value passes, or an element of the array that it is.
    pub(super) fn passes_itself_or_inside(&self, value: &str) -> bool {
        self.passes(value) || self.passes_inside(value, "")
    }

    /// Whether a value is an array or object of JSON in which a value at `path` passes; without a path, an element of an
    /// array. Arrays have no names of their own, as in bodies.
    pub(super) fn passes_inside(&self, value: &str, path: &str) -> bool {
        let is_array = match (value.as_bytes(), path) {
            ([b'[', .., b']'], _) => true,
            // nothing in an object is without a path
            ([b'{', .., b'}'], path) if !path.is_empty() => false,
            _ => return false,
        };
        if serde_json::from_str::<serde::de::IgnoredAny>(value).is_err() {
            return false;
        }
        let mut found = false;
        if is_array {
            json::for_each_leaf(&format!("{{\"_\":{value}}}"), &mut |name, leaf| {
                let at = name.strip_prefix('_').map(|at| at.strip_prefix('.').unwrap_or(at));
                found = found || (at == Some(path) && self.passes(leaf));
            });
        } else {
            json::for_each_leaf(value, &mut |name, leaf| found = found || (name == path && self.passes(leaf)));
        }
        found
    }
}

/// A text that may be mistyped.
#[derive(Clone, Debug)]
pub(super) struct Alike {
    text: Vec<char>,
    mistakes: usize,
}

impl Alike {
    /// Longest text, characters.
    pub(super) const MAX_CHARS: usize = 128;
    /// Most mistakes.
    pub(super) const MAX_MISTAKES: usize = 2;

    /// A text of at most [`Self::MAX_CHARS`]; of longer ones the beginning.
    pub(super) fn new(text: &str, mistakes: usize) -> Self {
        Self {
            text: text.chars().take(Self::MAX_CHARS).collect(),
            mistakes: mistakes.min(Self::MAX_MISTAKES),
        }
    }

    /// Whether `other` is it but for so many mistakes, each a character too many, too few, wrong, or swapped with its
    /// neighbour. Takes time in the length of `other`.
    pub(super) fn is_like(&self, other: &str) -> bool {
        const FAR: u8 = u8::MAX / 2;
        let (n, most) = (self.text.len(), self.mistakes);
        if other.len() + most < n || other.len() > 4 * (n + most) {
            return false;
        }
        // rows of the table of distances between beginnings; only the diagonal and `most` cells on both sides matter
        let mut before = [FAR; Self::MAX_CHARS + 2];
        let mut above = [FAR; Self::MAX_CHARS + 2];
        let mut row = [FAR; Self::MAX_CHARS + 2];
        (0..=n.min(most)).for_each(|column| above[column] = column as u8);
        let (mut last, mut length) = ('\0', 0);
        for character in other.chars() {
            length += 1;
            if length > n + most {
                return false;
            }
            let (first, end) = (length.saturating_sub(most), n.min(length + most));
            match first {
                0 => row[0] = length as u8,
                first => row[first - 1] = FAR,
            }
            let mut least = if first == 0 { row[0] } else { FAR };
            for column in first.max(1)..=end {
                let wanted = self.text[column - 1];
                let mut distance = above[column - 1] + u8::from(wanted != character);
                distance = distance.min(above[column] + 1).min(row[column - 1] + 1);
                if column > 1 && length > 1 && wanted == last && self.text[column - 2] == character {
                    distance = distance.min(before[column - 2] + 1);
                }
                row[column] = distance.min(FAR);
                least = least.min(distance);
            }
            row[end + 1] = FAR;
            if usize::from(least) > most {
                return false;
            }
            (before, above, row) = (above, row, before);
            last = character;
        }
        length + most >= n && usize::from(above[n]) <= most
    }
}

/// A number as written: whole where it is, else a double; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    Double(f64),
}

impl Number {
    pub(super) fn read(text: &str) -> Option<Number> {
        let first = text.bytes().next()?;
        // most values are words: do not try to parse them
        if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.' | b'i' | b'I')) {
            return None;
        }
        if let Ok(whole) = text.parse::<i128>() {
            return Some(Number::Whole(whole));
        }
        text.parse::<f64>().ok().filter(|number| !number.is_nan()).map(Number::Double)
    }

    pub(super) fn compare(self, other: Number) -> std::cmp::Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (a, b) => a.as_f64().total_cmp(&b.as_f64()),
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            // -0 equals 0
            Number::Double(double) => double + 0.0,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Number::Whole(whole) => whole.to_string(),
            Number::Double(double) => double.to_string(),
        }
    }
}

/// Ends and whether they lie inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NumberRange {
    pub(super) from: Option<(Number, bool)>,
    pub(super) to: Option<(Number, bool)>,
}

impl NumberRange {
    pub(super) fn contains(&self, number: Number) -> bool {
        let above = self.from.is_none_or(|(end, included)| {
            let order = number.compare(end);
            order.is_gt() || (included && order.is_eq())
        });
        let below = self.to.is_none_or(|(end, included)| {
            let order = number.compare(end);
            order.is_lt() || (included && order.is_eq())
        });
        above && below
    }

    /// The whole numbers inside.
    pub(super) fn whole(&self) -> RangeInclusive<i64> {
        let from = self.from.map_or(i64::MIN, |(number, included)| match number {
            Number::Whole(whole) => clamp(whole.saturating_add(i128::from(!included))),
            Number::Double(double) if included || double.fract() != 0.0 => double.ceil() as i64,
            Number::Double(double) => (double as i64).saturating_add(1),
        });
        let to = self.to.map_or(i64::MAX, |(number, included)| match number {
            Number::Whole(whole) => clamp(whole.saturating_sub(i128::from(!included))),
            Number::Double(double) if included || double.fract() != 0.0 => double.floor() as i64,
            Number::Double(double) => (double as i64).saturating_sub(1),
        });
        // a bound beyond what a column can hold leaves nothing
        let beyond = |end: Option<(Number, bool)>, is_beyond: fn(f64) -> bool| end.is_some_and(|(number, _)| is_beyond(number.as_f64()));
        if beyond(self.from, |end| end > i64::MAX as f64) || beyond(self.to, |end| end < i64::MIN as f64) {
            #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is meant")]
            return 1..=0;
        }
        from..=to
    }
}

fn clamp(whole: i128) -> i64 {
    whole.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// What is looked for in a text.
#[derive(Clone, Debug)]
pub(super) struct Phrase {
    pub(super) sought: Sought,
    /// A token that any ASCII text with the phrase holds, case ignored. Made when rows are looked at: an index often answers alone.
    needle: OnceLock<Option<Needle>>,
}

/// What a text must have.
#[derive(Clone, Debug)]
pub(super) enum Sought {
    /// Tokens one after the other.
    InARow(Vec<TokenTest>),
    /// Tokens in this order, with at most so many others between them, altogether.
    Near(Vec<String>, u32),
    /// An address inside.
    Address(Network),
}

#[derive(Clone, Debug)]
struct Needle {
    finder: AhoCorasick,
    /// Two characters outside ASCII are `k` and `i` in lower case.
    may_hide_outside_ascii: bool,
}

/// A test of one token.
#[derive(Clone, Debug)]
pub(super) enum TokenTest {
    Is(String),
    Like(Box<Pattern>, String),
    Alike(Alike),
}

impl TokenTest {
    fn passes(&self, token: &str) -> bool {
        match self {
            TokenTest::Is(expected) => expected == token,
            TokenTest::Like(pattern, _) => pattern.matches(token),
            TokenTest::Alike(alike) => alike.is_like(token),
        }
    }
}

impl Phrase {
    /// Tokens one after the other, at most 128.
    pub(super) fn new(tokens: Vec<TokenTest>) -> Self {
        Self::of(Sought::InARow(tokens))
    }

    /// Tokens in order, with at most `between` others among them.
    pub(super) fn near(tokens: Vec<String>, between: u32) -> Self {
        Self::of(Sought::Near(tokens, between))
    }

    /// An address of a network.
    pub(super) fn address(network: Network) -> Self {
        Self::of(Sought::Address(network))
    }

    fn of(sought: Sought) -> Self {
        Self {
            sought,
            needle: OnceLock::new(),
        }
    }

    fn needle(&self) -> Option<&Needle> {
        let make = || match &self.sought {
            Sought::InARow(tokens) => Needle::of(tokens.iter().filter_map(|token| match token {
                TokenTest::Is(token) => Some(token),
                _ => None,
            })),
            Sought::Near(tokens, _) => Needle::of(tokens.iter()),
            Sought::Address(_) => None,
        };
        self.needle.get_or_init(make).as_ref()
    }

    /// Calls `row` with the number of each text that may hold it: text n lies at `offsets[n]..offsets[n + 1]` of `texts`. One
    /// search runs through all of them, which is much quicker than one in each. `false` if it cannot tell: then any may.
    pub(super) fn may_be_in(&self, texts: &[u8], offsets: &[i32], row: &mut dyn FnMut(usize)) -> bool {
        let Some(needle) = self.needle() else { return false };
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return true;
        };
        let (mut at, end) = (*first as usize, *last as usize);
        if needle.may_hide_outside_ascii && !texts[at..end].is_ascii() {
            return false;
        }
        let mut number = 0;
        while let Some(found) = needle.finder.find(Input::new(texts).range(at..end)) {
            let is_behind = |offset: &i32| *offset as usize <= found.start();
            number += offsets[number + 1..].partition_point(is_behind);
            // what goes over the end of a text is in none, but the next may begin inside of it
            let end_of_text = offsets[number + 1] as usize;
            if found.end() <= end_of_text {
                row(number);
            }
            at = end_of_text;
        }
        true
    }

    /// Whether `text` holds it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        if let Some(needle) = self.needle()
            && !needle.finder.is_match(text)
            && (!needle.may_hide_outside_ascii || text.is_ascii())
        {
            return false;
        }
        self.is_sought_in(text)
    }

    /// Whether `text` holds it, without a look for the needle first.
    pub(super) fn is_sought_in(&self, text: &str) -> bool {
        match &self.sought {
            Sought::InARow(tokens) => are_in_a_row(tokens, text),
            Sought::Near(tokens, between) => are_near(tokens, *between, text),
            Sought::Address(network) => network.is_in(text),
        }
    }
}

impl Needle {
    /// Finds the longest of tokens that are all needed.
    fn of<'a>(tokens: impl Iterator<Item = &'a String>) -> Option<Needle> {
        let longest = tokens.filter(|token| token.is_ascii()).max_by_key(|token| token.len())?;
        let finder = AhoCorasick::builder().ascii_case_insensitive(true).build([longest]).ok()?;
        Some(Needle {
            finder,
            may_hide_outside_ascii: longest.contains(['k', 'i']),
        })
    }
}

fn are_in_a_row(tokens: &[TokenTest], text: &str) -> bool {
    // bit n of `begun`: the first n + 1 tokens of the phrase end at the last token of the text
    let (mut begun, mut found) = (0u128, false);
    let last = 1u128 << (tokens.len() - 1);
    tokenizer::for_each_token(text, &mut |token| {
        if found {
            return;
        }
        let mut open = (begun << 1) | 1;
        begun = 0;
        while open != 0 {
            let n = open.trailing_zeros() as usize;
            open &= open - 1;
            if tokens.get(n).is_some_and(|test| test.passes(token.text)) {
                begun |= 1 << n;
            }
        }
        found = begun & last != 0;
    });
    found
}

fn are_near(tokens: &[String], between: u32, text: &str) -> bool {
    // where the latest beginning is after which the first n + 1 tokens have come in order
    let mut begun: Vec<Option<u64>> = vec![None; tokens.len()];
    let (mut position, mut found) = (0u64, false);
    let most = u64::from(between) + tokens.len() as u64 - 1;
    tokenizer::for_each_token(text, &mut |token| {
        if found {
            return;
        }
        for n in (0..tokens.len()).rev() {
            if tokens[n] == token.text {
                begun[n] = if n == 0 { Some(position) } else { begun[n - 1].or(begun[n]) };
            }
        }
        let whole = begun.last().copied().flatten();
        found = tokens.last().is_some_and(|last| last == token.text) && whole.is_some_and(|begin| position - begin <= most);
        position += 1;
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The distance by its definition.
    fn distance(a: &[char], b: &[char]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, n) | (n, 0) => n,
                    _ => {
                        let mut least = (table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                            .min(table[i - 1][j] + 1)
                            .min(table[i][j - 1] + 1);
                        if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                            least = least.min(table[i - 2][j - 2] + 1);
                        }
                        least
                    }
                };
            }
        }
        table[a.len()][b.len()]
    }

    #[test]
    fn a_mistyped_word_is_alike() {
        for (word, other, mistakes, expected) in [
            ("connection", "conection", 1, true),
            ("connection", "conenction", 1, true),
            ("connection", "connexion", 1, false),
            ("connection", "connexion", 2, true),
            ("größe", "grösse", 1, false),
            ("größe", "grösse", 2, true),
            ("a", "", 1, true),
            ("", "a", 1, true),
            ("日本", "日本語", 1, true),
        ] {
            assert_eq!(Alike::new(word, mistakes).is_like(other), expected, "{word} {other} {mistakes}");
        }
        assert!(Alike::new(&"x".repeat(128), 2).is_like(&"x".repeat(130)));
    }

    #[test]
    fn values_inside_of_json_are_found_by_their_path() {
        let is = |text: &str| ValueTest::Is(text.into());
        for (value, path, wanted, expected) in [
            (r#"["a","b"]"#, "", "b", true),
            (r#"["a",["b"]]"#, "", "b", true),
            (r#"[{"x":1}]"#, "x", "1", true),
            (r#"[{"x":1}]"#, "", "1", false),
            (r#"{"a":{"b":1}}"#, "a.b", "1", true),
            (r#"{"a":{"b":[1,2]}}"#, "a.b", "2", true),
            (r#"{"a":1}"#, "", "1", false),
            (r#"{"":1}"#, "", "1", false),
            (r#"[1],"_":[2]"#, "", "2", false),
            ("[ERROR] x]", "", "ERROR", false),
            ("plain", "", "plain", false),
        ] {
            assert_eq!(is(wanted).passes_inside(value, path), expected, "{wanted} at {path:?} of {value}");
        }
    }

    proptest! {
        #[test]
        fn one_search_through_all_texts_finds_what_a_search_in_each_finds(
            texts in proptest::collection::vec("[aAbkKiI .\u{212a}\u{130}é]{0,5}", 0..12),
            words in proptest::collection::vec("[abki]{1,3}", 1..3),
            skipped in 0..3usize,
        ) {
            let phrase = Phrase::new(words.into_iter().map(TokenTest::Is).collect());
            let mut offsets = vec![0i32];
            for text in &texts {
                offsets.push(offsets[offsets.len() - 1] + text.len() as i32);
            }
            // slices of a column do not begin at 0
            let skipped = skipped.min(texts.len());
            let all = texts.concat();
            let mut candidates = Vec::new();
            let knows = phrase.may_be_in(all.as_bytes(), &offsets[skipped..], &mut |row| candidates.push(row));
            prop_assert!(knows || !all.is_ascii());
            prop_assert!(candidates.is_sorted_by(|a, b| a < b));
            for (number, text) in texts[skipped..].iter().enumerate() {
                let by_itself = phrase.is_in(text);
                prop_assert_eq!(phrase.is_sought_in(text), by_itself);
                prop_assert!(!by_itself || !knows || candidates.contains(&number), "{} in {}", number, text);
            }
        }

        #[test]
        fn likeness_is_distance(a in "[abé]{0,7}", b in "[abé]{0,7}", mistakes in 0..3usize) {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Alike::new(&a, mistakes).is_like(&b), distance(&chars(&a), &chars(&b)) <= mistakes);
        }

        #[test]
        fn nearness_is_what_every_choice_of_places_says(text in "[abc ]{0,14}", tokens in proptest::collection::vec("[abc]", 2..4), between in 0..4u32) {
            fn any(words: &[String], tokens: &[String], from: usize, left: i64) -> bool {
                let Some((first, rest)) = tokens.split_first() else { return true };
                (from..words.len()).any(|at| words[at] == *first && (at - from) as i64 <= left && any(words, rest, at + 1, left - (at - from) as i64))
            }
            let spaced: String = text.chars().flat_map(|c| [c, ' ']).collect();
            let words = tokenizer::tokens(&spaced);
            let expected = (0..words.len()).any(|at| words[at] == tokens[0] && any(&words, &tokens[1..], at + 1, i64::from(between)));
            prop_assert_eq!(Phrase::near(tokens, between).is_in(&spaced), expected);
        }
    }
}
