//! A text in which `*` stands for any run of characters.

use memchr::memmem;

use crate::query::{Query, Test, Wildcards};

/// Pieces between stars, in order; one piece means no star.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    pieces: Vec<String>,
}

impl Glob {
    /// From characters; an escaped star is a star.
    pub(super) fn new(characters: impl IntoIterator<Item = (char, bool)>) -> Self {
        let mut pieces = vec![String::new()];
        for (character, is_escaped) in characters {
            match (character, pieces.last_mut()) {
                ('*', _) if !is_escaped => pieces.push(String::new()),
                (other, Some(piece)) => piece.push(other),
                (_, None) => {}
            }
        }
        Self { pieces }
    }

    /// Of a text without quotes.
    pub(super) fn bare(text: &str) -> Self {
        Self::new(text.chars().map(|character| (character, false)))
    }

    /// Whether it is nothing but stars.
    pub(super) fn is_anything(&self) -> bool {
        self.pieces.len() > 1 && self.pieces.iter().all(String::is_empty)
    }

    /// The text, if there is no star.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.pieces[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether a number can be of this pattern.
    pub(super) fn may_be_number(&self) -> bool {
        self.pieces
            .iter()
            .flat_map(|piece| piece.bytes())
            .all(|b| b.is_ascii_digit() || b".-+eE".contains(&b))
    }

    /// The longest text between stars.
    pub(super) fn longest_piece(&self) -> &str {
        self.pieces.iter().max_by_key(|piece| piece.len()).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, last) = match &self.pieces[..] {
            [] => return false,
            [only] => return only == text,
            [first, .., last] => (first, last),
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(rest) = rest.strip_suffix(last.as_str()) else { return false };
        // each piece as far to the left as it is found: what is left for the others is the most
        let mut rest = rest.as_bytes();
        for piece in &self.pieces[1..self.pieces.len() - 1] {
            match memmem::find(rest, piece.as_bytes()) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }

    /// The same as a test of a field's value.
    pub(super) fn test(&self) -> Test {
        if let Some(text) = self.literal() {
            return Test::Equals(text.to_string());
        }
        let mut pattern = String::new();
        for (i, piece) in self.pieces.iter().enumerate() {
            if i > 0 {
                pattern.push('*');
            }
            for character in piece.chars() {
                if matches!(character, '*' | '?' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(character);
            }
        }
        Test::Matches(Wildcards::new(pattern))
    }
}

/// Rows whose body holds a text to the letter.
pub(super) fn body_holds(text: &str) -> Query {
    match text.is_empty() {
        true => Query::All,
        false => Query::Field {
            name: "body".into(),
            test: Test::Exact(text.to_string()),
        },
    }
}
