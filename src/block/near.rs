//! Tokens in order with others between them, found by their positions, as a tantivy query.
//!
//! Tantivy's own phrase with slop lets tokens change places; here the order is kept, as [`IndexQuery::Near`] says.
//!
//! [`IndexQuery::Near`]: super::IndexQuery::Near

use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, Term};

/// At least one term, all of one field with positions.
#[derive(Clone, Debug)]
pub(super) struct Near {
    pub terms: Vec<Term>,
    /// Most other tokens between them, altogether.
    pub between: u32,
}

impl Query for Near {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Near {
    fn scorer(&self, reader: &SegmentReader, _: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut postings = Vec::with_capacity(self.terms.len());
        for term in &self.terms {
            let index = reader.inverted_index(term.field())?;
            match index.read_postings(term, IndexRecordOption::WithFreqsAndPositions)? {
                Some(found) => postings.push(found),
                None => return Ok(Box::new(EmptyScorer)),
            }
        }
        let Some((lead, _)) = postings.iter().enumerate().min_by_key(|(_, postings)| postings.doc_freq()) else {
            return Ok(Box::new(EmptyScorer));
        };
        let mut scorer = NearScorer {
            positions: vec![Vec::new(); postings.len()],
            at: vec![0; postings.len()],
            postings,
            lead,
            most: self.between.saturating_add(self.terms.len() as u32 - 1),
            doc: 0,
        };
        scorer.doc = scorer.find();
        Ok(Box::new(scorer))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("near", 1.0))
    }
}

struct NearScorer {
    /// In the order of the tokens.
    postings: Vec<SegmentPostings>,
    /// The rarest of them.
    lead: usize,
    /// From the first token to the last.
    most: u32,
    positions: Vec<Vec<u32>>,
    at: Vec<usize>,
    doc: DocId,
}

impl NearScorer {
    /// The first match from where the rarest token stands.
    fn find(&mut self) -> DocId {
        'documents: loop {
            let candidate = self.postings[self.lead].doc();
            if candidate == TERMINATED {
                return TERMINATED;
            }
            for n in 0..self.postings.len() {
                if n == self.lead {
                    continue;
                }
                let mut doc = self.postings[n].doc();
                if doc < candidate {
                    doc = self.postings[n].seek(candidate);
                }
                if doc == TERMINATED {
                    return TERMINATED;
                }
                if doc > candidate {
                    self.postings[self.lead].seek(doc);
                    continue 'documents;
                }
            }
            if self.is_near() {
                return candidate;
            }
            self.postings[self.lead].advance();
        }
    }

    /// Whether the document on which all stand has the tokens near enough. From each place of the first token the nearest
    /// place of each next one is taken, which only moves on.
    fn is_near(&mut self) -> bool {
        for (postings, positions) in self.postings.iter_mut().zip(&mut self.positions) {
            postings.positions(positions);
        }
        self.at.fill(0);
        let Some((first, rest)) = self.positions.split_first() else { return false };
        for begin in first {
            let mut last = *begin;
            for (positions, at) in rest.iter().zip(&mut self.at) {
                while positions.get(*at).is_some_and(|position| *position <= last) {
                    *at += 1;
                }
                match positions.get(*at) {
                    Some(position) => last = *position,
                    None => return false,
                }
            }
            if last - begin <= self.most {
                return true;
            }
        }
        false
    }
}

impl DocSet for NearScorer {
    fn advance(&mut self) -> DocId {
        if self.doc != TERMINATED {
            self.postings[self.lead].advance();
            self.doc = self.find();
        }
        self.doc
    }
    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc < target {
            if self.postings[self.lead].doc() < target {
                self.postings[self.lead].seek(target);
            }
            self.doc = self.find();
        }
        self.doc
    }
    fn doc(&self) -> DocId {
        self.doc
    }
    fn size_hint(&self) -> u32 {
        self.postings[self.lead].size_hint()
    }
}

impl Scorer for NearScorer {
    fn score(&mut self) -> Score {
        1.0
    }
}
