//! A second, dearer question to a block's index: which rows can hold a text that begins or ends inside of a word.
//!
//! `like "rare"` is no question about words: `unrarely` holds it too. The first plan ([`super::plan`]) asks only for what an index
//! finds at once (whole words inside of the text, beginnings), and all other rows are read. Where those are many, all different
//! tokens of the block are looked through once instead: rows with none that could hold the text's end go unread. What is left is
//! verified on the rows, since the index knows no case.
//!
//! | of the sought text | a token must |
//! |---|---|
//! | a token with signs on both sides | be it |
//! | the first token, signs behind it | end with it |
//! | the last token, signs before it | begin with it |
//! | the only token, no sign around it | have it inside |
//!
//! A token of hex digits beside a `-`, or at an end, may also stand inside of a UUID, which is one token. A token that was cut may
//! hold anything at its end.

use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::conditions::ValueTest;
use super::filter::{Filter, Leaf};
use crate::block::{BlockIndex, IndexQuery, MAYBE_CUT_BYTES, tokenizer};

/// Shorter pieces of words stand in too many tokens.
const MIN_PIECE_BYTES: usize = 3;
/// Tokens a row, on average, beyond which looking through all of the block is dearer than reading the rows.
const MAX_TOKENS_A_ROW: usize = 4;
/// Times that all tokens are looked through for one filter.
const MAX_WALKS: usize = 8;
/// Where the rows with the asked tokens are at most one in so many, the block's other rows are left out by them.
const FEW_ONE_IN: u64 = 32;
const UUID_BYTES: usize = 36;

/// The questions that rows must pass which match a filter, of its parts that are about pieces of words; each by itself.
pub(super) fn questions(filter: &Filter) -> Vec<IndexQuery> {
    let parts = match filter {
        Filter::And(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut questions: Vec<IndexQuery> = parts.iter().map(of_filter).filter(|query| !matches!(query, IndexQuery::All)).collect();
    questions.retain(|query| n_walks(query) <= MAX_WALKS);
    questions
}

/// The rows that pass all of the questions, as bits over the block; `None` if that is too dear to say.
pub(super) fn rows(questions: &[IndexQuery], index: &BlockIndex) -> Option<BooleanBuffer> {
    let is_dear = !index.knows_tokens() && index.n_tokens() > MAX_TOKENS_A_ROW * index.n_rows() as usize;
    if questions.is_empty() || is_dear {
        return None;
    }
    let mut left: Option<BooleanBuffer> = None;
    let mut questions: Vec<&IndexQuery> = questions.iter().collect();
    questions.sort_by_cached_key(|question| index.at_most(question).unwrap_or(u64::MAX));
    for question in questions {
        // what the rarest tokens leave is few enough: gathering the rows of frequent ones would be dearer
        if left.is_some() && !is_about_few(question, index) {
            continue;
        }
        // one that too many tokens pass says nothing; one that cannot be read is the rows' matter
        let Ok(found) = index.bitmap(question, 0..index.n_rows()) else { continue };
        left = Some(left.map_or_else(|| found.clone(), |left| &left & &found));
    }
    left
}

/// Of the questions those that few rows pass, where the block's tokens are at hand or nearly; may be none.
pub(super) fn about_few(mut questions: Vec<IndexQuery>, index: &BlockIndex) -> Vec<IndexQuery> {
    questions.retain(|question| index.knows_tokens() && is_about_few(question, index));
    questions
}

fn is_about_few(question: &IndexQuery, index: &BlockIndex) -> bool {
    index
        .at_most(question)
        .is_ok_and(|rows| rows.saturating_mul(FEW_ONE_IN) <= u64::from(index.n_rows()))
}

fn n_walks(query: &IndexQuery) -> usize {
    match query {
        IndexQuery::TokenWith { .. } => 1,
        IndexQuery::And(parts) | IndexQuery::Or(parts) => parts.iter().map(n_walks).sum(),
        _ => 0,
    }
}

fn of_filter(filter: &Filter) -> IndexQuery {
    match filter {
        Filter::And(parts) => all(parts.iter().map(of_filter)),
        Filter::Or(parts) => any(parts.iter().map(of_filter)),
        Filter::Leaf(leaf) => match &**leaf {
            Leaf::WholeText(ValueTest::Holds(text)) => std::str::from_utf8(text.needle()).map_or(IndexQuery::All, of_text),
            Leaf::WholeText(ValueTest::Find(regex)) => {
                let parsed = regex_syntax::Parser::new().parse(regex.as_str());
                parsed.map_or(IndexQuery::All, |hir| of_regex(&hir))
            }
            _ => IndexQuery::All,
        },
        Filter::All | Filter::None | Filter::Not(_) => IndexQuery::All,
    }
}

fn all(parts: impl Iterator<Item = IndexQuery>) -> IndexQuery {
    let mut asked: Vec<IndexQuery> = parts.filter(|part| !matches!(part, IndexQuery::All)).collect();
    match asked.len() {
        0 => IndexQuery::All,
        1 => asked.swap_remove(0),
        _ => IndexQuery::And(asked),
    }
}

fn any(parts: impl Iterator<Item = IndexQuery>) -> IndexQuery {
    let parts: Vec<IndexQuery> = parts.collect();
    match parts.iter().any(|part| matches!(part, IndexQuery::All)) {
        true => IndexQuery::All,
        false => IndexQuery::Or(parts),
    }
}

/// What a text has that a regular expression is found in.
fn of_regex(hir: &Hir) -> IndexQuery {
    match hir.kind() {
        HirKind::Concat(parts) => {
            // letters in either case stand as classes of two
            let (mut asked, mut text) = (Vec::new(), String::new());
            for part in parts {
                match letters(part) {
                    Some(letters) => text.push_str(&letters),
                    None => {
                        asked.push(of_text(&std::mem::take(&mut text)));
                        asked.push(of_regex(part));
                    }
                }
            }
            asked.push(of_text(&text));
            all(asked.into_iter())
        }
        HirKind::Capture(group) => of_regex(&group.sub),
        HirKind::Repetition(repeated) if repeated.min > 0 => of_regex(&repeated.sub),
        HirKind::Alternation(parts) => any(parts.iter().map(of_regex)),
        _ => letters(hir).map_or(IndexQuery::All, |text| of_text(&text)),
    }
}

/// The text that it is, but for case as tokens have it.
fn letters(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(str::to_string),
        HirKind::Class(Class::Unicode(class)) => {
            let mut folded: Option<String> = None;
            let n_characters: u32 = class.ranges().iter().map(|range| u32::from(range.end()) - u32::from(range.start()) + 1).sum();
            if n_characters > 4 {
                return None;
            }
            for character in class.ranges().iter().flat_map(|range| range.start()..=range.end()) {
                let lower = tokenizer::lowercase(character.encode_utf8(&mut [0; 4]));
                match &folded {
                    Some(other) if *other != lower => return None,
                    _ => folded = Some(lower),
                }
            }
            folded
        }
        _ => None,
    }
}

/// What tokens rows have whose text holds another, in whatever case.
fn of_text(text: &str) -> IndexQuery {
    let mut asked = Vec::new();
    tokenizer::for_each_token(text, &mut |token| {
        let before = text[..token.start].chars().next_back();
        let after = text[token.end..].chars().next();
        let is_hex = token.text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let is_whole = before.is_some() && after.is_some();
        // what goes on with a `-` may be a piece of a UUID, and a UUID may be none with what stands around it
        let is_in_uuid = is_hex && (before == Some('-') || after == Some('-'));
        let may_be_none = token.text.contains('-') && !is_whole;
        match is_whole && !is_in_uuid {
            _ if may_be_none => {}
            true => asked.push(IndexQuery::Token(token.text.to_string())),
            false if token.text.len() < MIN_PIECE_BYTES => {}
            // behind where it is cut nothing is known
            false if token.text.len() >= MAYBE_CUT_BYTES => {}
            false => asked.push(with_piece(token.text.to_string(), before.is_some(), after.is_some(), is_in_uuid)),
        }
    });
    all(asked.into_iter())
}

/// A token of which a piece is: it begins there, ends there, or both; or it is a UUID around the piece.
fn with_piece(piece: String, begins: bool, ends: bool, is_in_uuid: bool) -> IndexQuery {
    let finder = memmem::Finder::new(piece.as_bytes()).into_owned();
    let sought = piece.clone();
    let test = move |token: &str| {
        let may_be_cut = token.len() >= MAYBE_CUT_BYTES;
        let fits = match (begins, ends) {
            (true, true) => token == piece,
            (true, false) => token.starts_with(&piece),
            (false, true) => may_be_cut || token.ends_with(&piece),
            (false, false) => may_be_cut || finder.find(token.as_bytes()).is_some(),
        };
        let is_uuid = || token.len() == UUID_BYTES && token.as_bytes()[8] == b'-';
        fits || (is_in_uuid && is_uuid() && finder.find(token.as_bytes()).is_some())
    };
    IndexQuery::TokenWith {
        piece: sought,
        test: Arc::new(test),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    /// Whether a text has tokens that pass a question.
    fn passes(query: &IndexQuery, text: &str) -> bool {
        let tokens = tokenizer::tokens(text);
        match query {
            IndexQuery::All => true,
            IndexQuery::Token(token) => tokens.contains(token),
            IndexQuery::TokenWith { piece, test } => {
                // what only a look at every token would find is no answer of it
                let is_listed = |token: &String| token.contains(piece.as_str()) || token.len() >= MAYBE_CUT_BYTES;
                assert!(tokens.iter().all(|token| is_listed(token) || !test(token)), "{piece} in {tokens:?}");
                tokens.iter().any(|token| test(token))
            }
            IndexQuery::And(parts) => parts.iter().all(|part| passes(part, text)),
            IndexQuery::Or(parts) => parts.iter().any(|part| passes(part, text)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_is_asked_for_by_its_whole_words_and_the_pieces_at_its_ends() {
        for (sought, passed, refused) in [
            ("rare", &["a rare one", "unRarely", "rare"][..], &["ra re", "rar e"][..]),
            (
                "set by pee",
                &["reset by peer", "set  by; peel"],
                &["settle by peer", "set bye peer", "reset by a rope"],
            ),
            ("#404", &["x#404", "#4040"], &["14040", "40 4"]),
            (
                "e89b-12d3",
                &["id 123e4567-e89b-12d3-a456-426614174000.", "xe89b-12d3", "e89b 12d34"],
                &["e89b", "id 123e4567-e89b-12d4-a456-426614174000"],
            ),
            (
                "a-123e",
                &["a-123e4567-e89b-12d3-a456-426614174000", "ba-123e"],
                &["a-124e4567-e89b-12d3-a456-426614174000 ab 12"],
            ),
        ] {
            let query = of_text(sought);
            for text in passed {
                assert!(passes(&query, text), "{sought} in {text}: {query:?}");
            }
            for text in refused {
                assert!(!passes(&query, text), "{sought} in {text}: {query:?}");
            }
        }
        let cut = "x".repeat(200);
        assert!(passes(&of_text("rare"), &cut) && passes(&of_text(&format!("{cut}rare ")), &format!("{cut}rare ")));
    }

    #[test]
    fn a_regular_expression_is_asked_for_in_either_case_and_by_any_of_its_branches() {
        let asked = |regex: &str| of_regex(&regex_syntax::Parser::new().parse(regex).expect("a regex"));
        for (regex, passed, refused) in [
            ("(?i)Error", &["an ERROR", "terrorize"][..], &["eror"][..]),
            ("panic|timeout", &["panicked", "a timeout"], &["time out"]),
            ("(?i)fatal (error|crash)", &["nonfatal crashes", "FATAL error"], &["fatal end", "error"]),
            (r"user=\w+ failed", &["user=ann failed"], &["users ann failed"]),
            ("", &["", "x"], &[]),
            ("a|b?", &["x"], &[]),
        ] {
            let query = asked(regex);
            for text in passed {
                assert!(passes(&query, text), "{regex} in {text}: {query:?}");
            }
            for text in refused {
                assert!(!passes(&query, text), "{regex} in {text}: {query:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_that_holds_another_is_refused(text in "[a-c0-9Aéßſ東 .-]{0,60}", from in 0usize..60, length in 1usize..40) {
            let characters: Vec<char> = text.chars().collect();
            let from = from.min(characters.len());
            let sought: String = characters[from..(from + length).min(characters.len())].iter().collect();
            proptest::prop_assert!(passes(&of_text(&sought), &text), "{:?}", sought);
            let regex = Regex::new(&format!("(?i){}", regex::escape(&sought))).expect("a regex");
            let asked = of_regex(&regex_syntax::Parser::new().parse(regex.as_str()).expect("a regex"));
            for text in [text.to_uppercase(), text] {
                proptest::prop_assert!(!regex.is_match(&text) || passes(&asked, &text), "{:?} in {:?}", sought, text);
            }
        }

        #[test]
        fn no_piece_around_a_uuid_is_refused(before in "[0-9a-f-]{0,6}", after in "[0-9a-f-]{0,6}", from in 0usize..48, length in 1usize..48) {
            let text = format!("{before}123e4567-e89b-12d3-a456-426614174000{after}");
            let from = from.min(text.len());
            let sought = &text[from..(from + length).min(text.len())];
            proptest::prop_assert!(passes(&of_text(sought), &text), "{} in {}", sought, text);
        }
    }
}
