//! An [`IndexQuery`] becomes a tantivy query over one block.
//!
//! Some terms stand for more values than one (they were cut), so a leaf can be known only within bounds: rows that may
//! match, and rows that surely do. Negation swaps the two, which is why both are made here; what leaves is always the
//! rows that may match.

use std::sync::Arc;

use tantivy::postings::TermInfo;
use tantivy::query::{AllQuery, BitSetDocSet, BooleanQuery, ConstScorer, EnableScoring, Explanation, Occur, PhraseQuery, Query, Scorer, TermQuery, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocSet, InvertedIndexReader, Score, SegmentReader, Term};
use tantivy_common::BitSet;

use super::dictionary::{between, find, with_prefix};
use super::document::{TERMS, TEXT};
use super::index::MAX_TERMS;
use super::near::Near;
use super::terms::{TermText, context_term, field_term, is_cut, key_prefix, pair_term, value_of};
use super::{BlockIndex, Error, IndexQuery, Pattern, Result, tokenizer};

/// Up to so many terms are walked lazily, which finds the first rows soonest; more are gathered into one bitmap.
const MAX_LAZY_TERMS: usize = 16;
/// Up to so many rows a term is read by what was found of it; that of more is looked up once more by tantivy's own query.
const MAX_FOUND_ROWS: u32 = 10_000;

/// Rows that match.
pub(super) enum Answer {
    All,
    None,
    Query(Box<dyn Query>),
}

/// Which bound of the rows is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Rows that may match.
    Upper,
    /// Rows that surely match.
    Lower,
}

pub(super) struct Evaluator<'a> {
    index: &'a BlockIndex,
    exact: bool,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(index: &'a BlockIndex) -> Self {
        Self { index, exact: true }
    }

    /// Rows that may match, and whether they surely do.
    pub(super) fn evaluate(mut self, query: &IndexQuery) -> Result<(Answer, bool)> {
        let answer = self.answer(query, Bound::Upper)?;
        Ok((answer, self.exact))
    }

    fn answer(&mut self, query: &IndexQuery, bound: Bound) -> Result<Answer> {
        match query {
            IndexQuery::All => Ok(Answer::All),
            IndexQuery::None => Ok(Answer::None),
            IndexQuery::Token(token) => self.token(token),
            IndexQuery::Phrase(tokens) => match &tokens[..] {
                [] => Ok(Answer::All),
                [token] => self.token(token),
                tokens => {
                    let terms: Vec<Term> = tokens.iter().map(|token| Term::from_field_text(TEXT, token_term(token))).collect();
                    Ok(Answer::Query(Box::new(PhraseQuery::new(terms))))
                }
            },
            IndexQuery::Near { tokens, between } => Ok(match &tokens[..] {
                [] => Answer::All,
                [token] => return self.token(token),
                tokens => Answer::Query(Box::new(Near {
                    terms: tokens.iter().map(|token| Term::from_field_text(TEXT, token_term(token))).collect(),
                    between: *between,
                })),
            }),
            IndexQuery::TokenMatching(test) => self.walk(TEXT, "", &mut |token| test(token)),
            IndexQuery::TokenWith { piece, test } => self.tokens_with(piece, &**test),
            IndexQuery::TokenPattern(pattern) => {
                let pattern = Pattern::new(&tokenizer::lowercase(pattern));
                match (pattern.literal(), pattern.piece()) {
                    (Some(token), _) => self.token(token),
                    // all tokens are looked through: the next question is spared that
                    (None, Some(piece)) if pattern.prefix().is_empty() => self.tokens_with(piece, &|token| pattern.matches(token)),
                    (None, _) => self.walk(TEXT, pattern.prefix(), &mut |token| pattern.matches(token)),
                }
            }
            IndexQuery::Term { field, value } => self.value(&field_term(*field, value), bound),
            IndexQuery::TermPattern { field, pattern } => {
                let start = field_term(*field, "").text;
                self.pattern(&start, pattern, bound)
            }
            IndexQuery::TermMatching { field, test } => {
                let start = field_term(*field, "").text;
                self.values(&start, &start, bound, &|value| test(value))
            }
            IndexQuery::KeyValue { key, value } => self.value(&pair_term(key, value), bound),
            IndexQuery::KeyOneOf { key, values } => self.one_of(key, values, bound),
            IndexQuery::KeyPattern { key, pattern } => self.keyed(key, bound, |this, prefix| this.pattern(prefix, pattern, bound)),
            IndexQuery::KeyExists(key) => self.keyed(key, bound, |this, prefix| this.walk(TERMS, prefix, &mut |_| true)),
            IndexQuery::KeyMatching { key, test } => self.keyed(key, bound, |this, prefix| this.values(prefix, prefix, bound, &|value| test(value))),
            IndexQuery::KeyInside { key, test } => self.keyed(key, bound, |this, prefix| {
                let mut clauses = Vec::new();
                for open in ['[', '{'] {
                    match this.values(prefix, &format!("{prefix}{open}"), bound, &|value| test(value))? {
                        Answer::All => return Ok(Answer::All),
                        Answer::None => {}
                        Answer::Query(query) => clauses.push((Occur::Should, query)),
                    }
                }
                Ok(if clauses.is_empty() { Answer::None } else { boolean(clauses) })
            }),
            IndexQuery::Contexts(numbers) => self.contexts(numbers),
            IndexQuery::Ranges(ranges) => {
                let mut rows = BitSet::with_max_value(self.index.n_rows());
                let n_rows = self.index.n_rows();
                ranges
                    .iter()
                    .flat_map(|range| range.start..range.end.min(n_rows))
                    .for_each(|row| _ = rows.insert(row));
                Ok(if rows.len() == 0 {
                    Answer::None
                } else {
                    Answer::Query(Box::new(Rows(Arc::new(rows))))
                })
            }
            IndexQuery::And(all) => {
                let mut clauses = Vec::with_capacity(all.len());
                for query in all {
                    match query {
                        IndexQuery::Not(query) => match self.answer(query, opposite(bound))? {
                            Answer::All => return Ok(Answer::None),
                            Answer::None => {}
                            Answer::Query(query) => clauses.push((Occur::MustNot, steady(query))),
                        },
                        query => match self.answer(query, bound)? {
                            Answer::All => {}
                            Answer::None => return Ok(Answer::None),
                            Answer::Query(query) => clauses.push((Occur::Must, query)),
                        },
                    }
                }
                Ok(boolean(clauses))
            }
            IndexQuery::Or(any) => {
                let mut clauses = Vec::with_capacity(any.len());
                for query in any {
                    match self.answer(query, bound)? {
                        Answer::All => return Ok(Answer::All),
                        Answer::None => {}
                        Answer::Query(query) => clauses.push((Occur::Should, query)),
                    }
                }
                Ok(if clauses.is_empty() { Answer::None } else { boolean(clauses) })
            }
            IndexQuery::Not(query) => Ok(match self.answer(query, opposite(bound))? {
                Answer::All => Answer::None,
                Answer::None => Answer::All,
                Answer::Query(query) => boolean(vec![(Occur::MustNot, steady(query))]),
            }),
        }
    }

    fn token(&mut self, token: &str) -> Result<Answer> {
        self.term(TEXT, token_term(token))
    }

    /// Rows with a token that passes a test, which holds a piece or may have been cut. A walk leaves behind what spares the next.
    fn tokens_with(&mut self, piece: &str, test: &dyn Fn(&str) -> bool) -> Result<Answer> {
        let Some(place) = self.index.tokens_place() else {
            return self.walk(TEXT, "", &mut |token| test(token));
        };
        match place.holding(piece, &mut |from, to, each| self.tokens_between(from, to, each))? {
            Some(tokens) => self.any_term(TEXT, tokens.iter().map(|token| &**token).filter(|token| test(token))),
            None => {
                let mut gathering = place.gather(self.index.n_tokens());
                let answer = self.walk(TEXT, "", &mut |token| {
                    gathering.add(token);
                    test(token)
                })?;
                gathering.finish();
                Ok(answer)
            }
        }
    }

    /// The tokens of the dictionary from one on up to, but without, another.
    fn tokens_between(&self, from: &str, to: Option<&str>, each: &mut dyn FnMut(&str)) -> Result<()> {
        let mut stream = between(self.reader(TEXT), from, to)?;
        while stream.advance()? {
            each(std::str::from_utf8(stream.key()).map_err(Error::index)?);
        }
        Ok(())
    }

    /// No fewer rows than match, if that can be said without looking at rows: of questions about tokens that are at hand, or nearly.
    pub(super) fn at_most(&self, query: &IndexQuery) -> Result<u64> {
        let all = u64::from(self.index.n_rows());
        let rows_of = |token: &str| {
            let info = find(self.reader(TEXT), token_term(token))?;
            Ok::<_, Error>(info.map_or(0, |info| u64::from(info.doc_freq)))
        };
        Ok(match query {
            IndexQuery::None => 0,
            IndexQuery::Token(token) => rows_of(token)?,
            IndexQuery::TokenWith { piece, test } => {
                let Some(place) = self.index.tokens_place() else { return Ok(all) };
                match place.holding(piece, &mut |from, to, each| self.tokens_between(from, to, each))? {
                    Some(tokens) => {
                        let mut rows = 0;
                        for token in tokens.iter().filter(|token| test(token)) {
                            rows += rows_of(token)?;
                        }
                        rows.min(all)
                    }
                    None => all,
                }
            }
            IndexQuery::And(parts) => parts.iter().try_fold(all, |least, part| Ok::<_, Error>(least.min(self.at_most(part)?)))?,
            IndexQuery::Or(parts) => parts.iter().try_fold(0, |sum, part| Ok::<_, Error>(all.min(sum + self.at_most(part)?)))?,
            _ => all,
        })
    }

    fn term(&mut self, field: Field, text: &str) -> Result<Answer> {
        Ok(match find(self.reader(field), text)? {
            None => Answer::None,
            // a term of each row says no more than none
            Some(info) if info.doc_freq == self.index.n_rows() => Answer::All,
            Some(info) => Answer::Query(of_term(field, text, info)),
        })
    }

    /// One raw term, which may stand for other values too.
    fn value(&mut self, term: &TermText, bound: Bound) -> Result<Answer> {
        let found = self.term(TERMS, &term.text)?;
        if term.clean || matches!(found, Answer::None) {
            return Ok(found);
        }
        self.exact = false;
        Ok(match bound {
            Bound::Upper => found,
            Bound::Lower => Answer::None,
        })
    }

    /// One of several values of a key: most blocks have the key not at all, which one look says.
    fn one_of(&mut self, key: &str, values: &[String], bound: Bound) -> Result<Answer> {
        if !with_prefix(self.reader(TERMS), &key_prefix(key).text)?.advance()? {
            return Ok(Answer::None);
        }
        let mut clauses = Vec::new();
        for value in values {
            match self.value(&pair_term(key, value), bound)? {
                Answer::All => return Ok(Answer::All),
                Answer::None => {}
                Answer::Query(query) => clauses.push((Occur::Should, query)),
            }
        }
        Ok(if clauses.is_empty() { Answer::None } else { boolean(clauses) })
    }

    /// What concerns one key: of a key that was cut, only rows that may have it are known.
    fn keyed(&mut self, key: &str, bound: Bound, rest: impl FnOnce(&mut Self, &str) -> Result<Answer>) -> Result<Answer> {
        let prefix = key_prefix(key);
        if prefix.clean {
            return rest(self, &prefix.text);
        }
        let found = self.walk(TERMS, &prefix.text, &mut |_| true)?;
        if matches!(found, Answer::None) {
            return Ok(found);
        }
        self.exact = false;
        Ok(match bound {
            Bound::Upper => found,
            Bound::Lower => Answer::None,
        })
    }

    /// Values behind `prefix` that match a pattern.
    fn pattern(&mut self, prefix: &str, pattern: &str, bound: Bound) -> Result<Answer> {
        let pattern = Pattern::new(pattern);
        let start = format!("{prefix}{}", pattern.prefix());
        if start.len() + 4 > super::terms::CUT_TERM_BYTES {
            // longer than what is surely indexed: what was cut behind the prefix may be it too
            return self.values(prefix, prefix, bound, &|value| pattern.matches(value));
        }
        self.values(prefix, &start, bound, &|value| pattern.matches(value))
    }

    /// Values behind `prefix`, of terms that begin with `start`, that pass a test.
    fn values(&mut self, prefix: &str, start: &str, bound: Bound, test: &dyn Fn(&str) -> bool) -> Result<Answer> {
        let mut exact = true;
        let answer = self.walk(TERMS, start, &mut |term| {
            if is_cut(term) {
                exact = false;
                return bound == Bound::Upper;
            }
            test(value_of(term, prefix))
        })?;
        self.exact &= exact;
        Ok(answer)
    }

    /// Rows that have any of the terms which begin with `prefix` and pass the test.
    fn walk(&mut self, field: Field, prefix: &str, test: &mut dyn FnMut(&str) -> bool) -> Result<Answer> {
        let reader = self.reader(field);
        let mut stream = with_prefix(reader, prefix)?;
        let mut found: Vec<TermInfo> = Vec::new();
        let mut lazy = Vec::new();
        while stream.advance()? {
            let term = std::str::from_utf8(stream.key()).map_err(Error::index)?;
            if !test(term) {
                continue;
            }
            if found.len() == MAX_TERMS {
                return Err(Error::TooManyTerms { limit: MAX_TERMS });
            }
            if found.len() < MAX_LAZY_TERMS {
                lazy.push((Occur::Should, of_term(field, term, stream.value().clone())));
            }
            found.push(stream.value().clone());
        }
        match found.len() {
            0 => Ok(Answer::None),
            n if n <= MAX_LAZY_TERMS => Ok(boolean(lazy)),
            _ => self.gather(reader, found.iter()),
        }
    }

    /// Rows that have any of some terms.
    fn any_term<'t>(&self, field: Field, terms: impl Iterator<Item = &'t str>) -> Result<Answer> {
        let reader = self.reader(field);
        let mut found = Vec::new();
        for term in terms {
            found.extend(find(reader, term)?.map(|info| (term, info)));
        }
        if found.len() > MAX_LAZY_TERMS {
            return self.gather(reader, found.iter().map(|(_, info)| info));
        }
        Ok(match found.len() {
            0 => Answer::None,
            _ => boolean(found.into_iter().map(|(term, info)| (Occur::Should, of_term(field, term, info))).collect()),
        })
    }

    /// The union of posting lists, as a bitmap.
    fn gather<'t>(&self, reader: &InvertedIndexReader, terms: impl Iterator<Item = &'t TermInfo>) -> Result<Answer> {
        let mut rows = BitSet::with_max_value(self.index.n_rows());
        for info in terms {
            let mut postings = reader.read_block_postings_from_terminfo(info, IndexRecordOption::Basic).map_err(Error::index)?;
            loop {
                let documents = postings.docs();
                if documents.is_empty() {
                    break;
                }
                for row in documents {
                    if *row >= self.index.n_rows() {
                        return Err(Error::index("a posting names a row that is not there"));
                    }
                    rows.insert(*row);
                }
                postings.advance();
            }
        }
        Ok(Answer::Query(Box::new(Rows(Arc::new(rows)))))
    }

    fn contexts(&mut self, numbers: &[u32]) -> Result<Answer> {
        let n = self.index.contexts().len() as u32;
        let mut numbers: Vec<u32> = numbers.iter().copied().filter(|number| *number < n).collect();
        numbers.sort_unstable();
        numbers.dedup();
        match &numbers[..] {
            [] => return Ok(Answer::None),
            all if all.len() == n as usize => return Ok(Answer::All),
            [one] => return self.term(TERMS, &context_term(*one)),
            _ => {}
        }
        let terms: Vec<String> = numbers.iter().map(|number| context_term(*number)).collect();
        self.any_term(TERMS, terms.iter().map(String::as_str))
    }

    fn reader(&self, field: Field) -> &'a InvertedIndexReader {
        if field == TEXT { self.index.text() } else { self.index.terms() }
    }
}

fn opposite(bound: Bound) -> Bound {
    match bound {
        Bound::Upper => Bound::Lower,
        Bound::Lower => Bound::Upper,
    }
}

/// A token as it is indexed.
fn token_term(token: &str) -> &str {
    &token[..token.floor_char_boundary(tokenizer::MAX_TOKEN_BYTES)]
}

/// A boolean query; without clauses, every row. Tantivy's matches nothing where nothing is demanded.
fn boolean(mut clauses: Vec<(Occur, Box<dyn Query>)>) -> Answer {
    if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
        if clauses.is_empty() {
            return Answer::All;
        }
        clauses.push((Occur::Must, Box::new(AllQuery)));
    }
    if clauses.len() == 1
        && let Some((_, query)) = clauses.pop()
    {
        return Answer::Query(query);
    }
    Answer::Query(Box::new(BooleanQuery::new(clauses)))
}

/// Rows of a term that was found.
fn of_term(field: Field, text: &str, info: TermInfo) -> Box<dyn Query> {
    match info.doc_freq {
        0..=MAX_FOUND_ROWS => Box::new(Found { field, info }),
        // tantivy walks common terms together faster if they are its own
        _ => Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic)),
    }
}

/// Rows of a term that was looked up already, as a query.
#[derive(Clone, Debug)]
struct Found {
    field: Field,
    info: TermInfo,
}

impl Query for Found {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Found {
    fn scorer(&self, reader: &SegmentReader, score: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let index = reader.inverted_index(self.field)?;
        let postings = index.read_postings_from_terminfo(&self.info, IndexRecordOption::Basic)?;
        Ok(Box::new(ConstScorer::new(postings, score)))
    }
    fn count(&self, _: &SegmentReader) -> tantivy::Result<u32> {
        Ok(self.info.doc_freq)
    }
    fn explain(&self, _: &SegmentReader, _: u32) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("term", 1.0))
    }
}

/// Rows known beforehand, as a query.
#[derive(Clone, Debug)]
struct Rows(Arc<BitSet>);

impl Query for Rows {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Rows {
    fn scorer(&self, _: &SegmentReader, score: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let rows = BitSet::clone(&self.0);
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(rows), score)))
    }
    fn count(&self, _: &SegmentReader) -> tantivy::Result<u32> {
        Ok(self.0.len() as u32)
    }
    fn explain(&self, _: &SegmentReader, _: u32) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("rows", 1.0))
    }
}

/// Makes a query fit to be excluded: tantivy asks an excluded scorer for documents behind which it already stands, which
/// a phrase's or intersection's `seek_danger` does not allow, but `doc` and `seek` do.
fn steady(query: Box<dyn Query>) -> Box<dyn Query> {
    if query.is::<TermQuery>() || query.is::<Found>() || query.is::<Rows>() {
        return query;
    }
    Box::new(Steady(query))
}

#[derive(Debug)]
struct Steady(Box<dyn Query>);

impl Clone for Steady {
    fn clone(&self) -> Self {
        Self(self.0.box_clone())
    }
}

impl Query for Steady {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(SteadyWeight(self.0.weight(scoring)?)))
    }
}

struct SteadyWeight(Box<dyn Weight>);

impl Weight for SteadyWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(Box::new(SteadyScorer(self.0.scorer(reader, boost)?)))
    }
    fn explain(&self, reader: &SegmentReader, document: u32) -> tantivy::Result<Explanation> {
        self.0.explain(reader, document)
    }
}

/// All but `seek_danger`, whose default goes by `doc` and `seek`.
struct SteadyScorer(Box<dyn Scorer>);

impl DocSet for SteadyScorer {
    fn advance(&mut self) -> u32 {
        self.0.advance()
    }
    fn seek(&mut self, target: u32) -> u32 {
        self.0.seek(target)
    }
    fn fill_buffer(&mut self, buffer: &mut [u32; COLLECT_BLOCK_BUFFER_LEN]) -> usize {
        self.0.fill_buffer(buffer)
    }
    fn doc(&self) -> u32 {
        self.0.doc()
    }
    fn size_hint(&self) -> u32 {
        self.0.size_hint()
    }
    fn cost(&self) -> u64 {
        self.0.cost()
    }
}

impl Scorer for SteadyScorer {
    fn score(&mut self) -> Score {
        self.0.score()
    }
}
