//! Tests of one value, one token, one text: what a condition asks of what it looks at.

use std::ops::RangeInclusive;

use aho_corasick::AhoCorasick;
use memchr::memmem;

use crate::block::{Pattern, tokenizer};

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
}

/// A test of one value's canonical text.
#[derive(Clone, Debug)]
pub(super) enum ValueTest {
    Any,
    Is(String),
    Like(Box<Pattern>, String),
    Find(regex::Regex),
    Within(NumberRange),
}

impl ValueTest {
    pub(super) fn passes(&self, value: &str) -> bool {
        match self {
            ValueTest::Any => true,
            ValueTest::Is(expected) => value == expected,
            ValueTest::Like(pattern, _) => pattern.matches(value),
            ValueTest::Find(regex) => regex.is_match(value),
            ValueTest::Within(range) => Number::read(value).is_some_and(|number| range.contains(number)),
        }
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

    fn compare(self, other: Number) -> std::cmp::Ordering {
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

/// Tokens to be found one after the other.
#[derive(Clone, Debug)]
pub(super) struct Phrase {
    pub(super) tokens: Vec<TokenTest>,
    /// A token that any ASCII text with the phrase holds, case ignored.
    needle: Option<Needle>,
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
}

impl TokenTest {
    fn passes(&self, token: &str) -> bool {
        match self {
            TokenTest::Is(expected) => expected == token,
            TokenTest::Like(pattern, _) => pattern.matches(token),
        }
    }
}

impl Phrase {
    pub(super) fn new(tokens: Vec<TokenTest>) -> Self {
        let longest = tokens
            .iter()
            .filter_map(|token| match token {
                TokenTest::Is(token) if token.is_ascii() => Some(token),
                _ => None,
            })
            .max_by_key(|token| token.len());
        let needle = longest.and_then(|token| {
            let finder = AhoCorasick::builder().ascii_case_insensitive(true).build([token]).ok()?;
            let may_hide_outside_ascii = token.contains(['k', 'i']);
            Some(Needle {
                finder,
                may_hide_outside_ascii,
            })
        });
        Self { tokens, needle }
    }

    /// Whether the tokens of `text` hold the phrase.
    pub(super) fn is_in(&self, text: &str) -> bool {
        if let Some(needle) = &self.needle
            && !needle.finder.is_match(text)
            && (!needle.may_hide_outside_ascii || text.is_ascii())
        {
            return false;
        }
        // bit n of `begun`: the first n + 1 tokens of the phrase end at the last token of the text
        let (mut begun, mut found) = (0u128, false);
        let last = 1u128 << (self.tokens.len() - 1);
        tokenizer::for_each_token(text, &mut |token| {
            if found {
                return;
            }
            let mut open = (begun << 1) | 1;
            begun = 0;
            while open != 0 {
                let n = open.trailing_zeros() as usize;
                open &= open - 1;
                if self.tokens.get(n).is_some_and(|test| test.passes(token.text)) {
                    begun |= 1 << n;
                }
            }
            found = begun & last != 0;
        });
        found
    }
}
