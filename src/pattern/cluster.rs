//! Templates that differ in a word alone become one, in which that place is `<*>`.
//!
//! | templates | become |
//! |---|---|
//! | `user alice logged in`, `user bob logged in`, `user carol logged in` | `user <*> logged in` |
//! | `connection opened`, `connection closed` | themselves: two words are a choice rather than a name |
//! | `charged <num>`, `charged <hex>` | `charged <*>`: an ID may happen to be a number |
//!
//! Templates are alike if they have the same signs, keys and number of words. Of alike ones a place where some differ is *open* if it
//! has three words or more, or a mask. Where all such places are open, and at least as many words stand fast (two of them, or one if
//! each of those places has ten words), all become one; otherwise the place with fewest words parts them, and each part is looked at
//! again. What comes out depends on the set of templates alone: not on their order, nor on how often each was seen.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::text::CLASS;
use super::text::class::{ALNUM, JOINT};
use super::{Mask, PatternId};

/// A place with so many words is one of names.
const OPEN_FROM_WORDS: usize = 3;
/// A place with so many words needs but one other that stands fast.
const SURELY_OPEN_FROM_WORDS: usize = 10;

/// Words that are never a name.
const LEVELS: [&str; 12] = [
    "trace", "debug", "info", "notice", "warn", "warning", "error", "err", "severe", "critical", "fatal", "panic",
];

/// A template, and which others it may become one with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape<'t> {
    /// The template.
    pub template: &'t str,
    /// Shapes of different groups stay apart.
    pub group: u8,
}

/// Templates that became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What they have in common.
    pub template: String,
    /// The ID of that; of one template alone, its own.
    pub id: PatternId,
    /// Which they are, ascending.
    pub members: Vec<usize>,
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Piece<'t> {
    /// Signs, spaces, keys, levels.
    Fixed(&'t str),
    /// A word.
    Word(&'t str),
    /// A variable part.
    Mask(Mask),
}

impl<'t> Piece<'t> {
    /// As it stands in the template.
    pub fn text(self) -> &'t str {
        match self {
            Piece::Fixed(text) | Piece::Word(text) => text,
            Piece::Mask(mask) => mask.text(),
        }
    }
}

/// The parts of a template, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces<'t>(pub Vec<Piece<'t>>);

impl<'t> Pieces<'t> {
    /// Cuts a template.
    pub fn of(template: &'t str) -> Self {
        let bytes = template.as_bytes();
        let class = |at: usize| bytes.get(at).map_or(0, |byte| CLASS[*byte as usize]);
        let mut pieces = Vec::new();
        let (mut at, mut fixed) = (0, 0);
        let push = |pieces: &mut Vec<Piece<'t>>, fixed: &mut usize, from: usize, piece: Piece<'t>| {
            if *fixed < from {
                pieces.push(Piece::Fixed(&template[*fixed..from]));
            }
            *fixed = from + piece.text().len();
            pieces.push(piece);
        };
        while at < bytes.len() {
            if class(at) & ALNUM != 0 {
                let length = bytes[at..].iter().take_while(|byte| CLASS[**byte as usize] & (ALNUM | JOINT) != 0).count();
                let word = template[at..at + length].trim_end_matches(['.', '-', '_']);
                let end = at + word.len();
                let is_key = bytes.get(end) == Some(&b'=') || bytes[end..].starts_with(b"\":");
                if !is_key && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
                    push(&mut pieces, &mut fixed, at, Piece::Word(word));
                }
                at = end;
            } else if bytes[at] == b'<'
                && let Some(mask) = Mask::at_start(&template[at..])
            {
                if mask.is_value() {
                    push(&mut pieces, &mut fixed, at, Piece::Mask(mask));
                }
                at += mask.text().len();
            } else {
                at += 1;
            }
        }
        if fixed < template.len() {
            pieces.push(Piece::Fixed(&template[fixed..]));
        }
        Self(pieces)
    }

    /// What must be the same in alike templates.
    fn signature(&self) -> String {
        let fixed = self.0.iter().map(|piece| match piece {
            Piece::Fixed(text) => text,
            _ => "\0",
        });
        fixed.collect()
    }

    fn places(&self) -> impl Iterator<Item = Piece<'t>> {
        self.0.iter().copied().filter(|piece| !matches!(piece, Piece::Fixed(_)))
    }
}

/// Puts templates together; gives the clusters in the order of their templates.
pub fn cluster(shapes: &[Shape<'_>]) -> Vec<Cluster> {
    let pieces: Vec<Pieces<'_>> = shapes.iter().map(|shape| Pieces::of(shape.template)).collect();
    let places: Vec<Vec<Piece<'_>>> = pieces.iter().map(|pieces| pieces.places().collect()).collect();
    let mut alike: HashMap<(u8, String), Vec<usize>> = HashMap::new();
    for (number, (shape, pieces)) in shapes.iter().zip(&pieces).enumerate() {
        alike.entry((shape.group, pieces.signature())).or_default().push(number);
    }
    // two groups may come to the same
    let mut clusters: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for members in alike.into_values() {
        let mut parts = vec![members];
        while let Some(part) = parts.pop() {
            match parting_place(&part, &places) {
                None => clusters.entry(merged(&part, &pieces, &places)).or_default().extend(part),
                Some(place) => {
                    let mut by_word: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
                    for member in part {
                        let word = match places[member][place] {
                            Piece::Mask(_) => None,
                            piece => Some(piece.text()),
                        };
                        by_word.entry(word).or_default().push(member);
                    }
                    parts.extend(by_word.into_values());
                }
            }
        }
    }
    let cluster = |(template, mut members): (String, Vec<usize>)| {
        members.sort_unstable();
        Cluster {
            id: PatternId::of_template(&template),
            template,
            members,
        }
    };
    clusters.into_iter().map(cluster).collect()
}

/// The place that parts templates; `None` if they are one.
fn parting_place(part: &[usize], places: &[Vec<Piece<'_>>]) -> Option<usize> {
    let (first, others) = part.split_first()?;
    if others.is_empty() {
        return None;
    }
    let mut n_fast = 0;
    // of the places that differ: how many words, whether there is a mask, and which place
    let mut varying: Vec<(usize, bool, usize)> = Vec::new();
    for (place, piece) in places[*first].iter().enumerate() {
        if others.iter().all(|other| places[*other][place] == *piece) {
            n_fast += usize::from(matches!(piece, Piece::Word(_)));
            continue;
        }
        let mut words: HashSet<&str> = HashSet::new();
        let mut has_mask = false;
        for member in part {
            match places[*member][place] {
                Piece::Mask(_) => has_mask = true,
                piece => {
                    words.insert(piece.text());
                }
            }
        }
        if !words.is_empty() {
            varying.push((words.len(), has_mask, place));
        }
    }
    let are_open = varying.iter().all(|(words, has_mask, _)| *has_mask || *words >= OPEN_FROM_WORDS);
    let are_surely_open = varying.iter().all(|(words, _, _)| *words >= SURELY_OPEN_FROM_WORDS);
    let n_needed = if are_surely_open { 1 } else { 2 };
    if varying.is_empty() || (are_open && n_fast >= n_needed && n_fast >= varying.len()) {
        return None;
    }
    varying
        .into_iter()
        .min_by_key(|(words, has_mask, place)| (words + usize::from(*has_mask), *place))
        .map(|(_, _, place)| place)
}

/// What templates have in common.
fn merged(part: &[usize], pieces: &[Pieces<'_>], places: &[Vec<Piece<'_>>]) -> String {
    let Some((first, others)) = part.split_first() else { return String::new() };
    let mut place = 0;
    let mut template = String::new();
    for piece in &pieces[*first].0 {
        if matches!(piece, Piece::Fixed(_)) {
            template.push_str(piece.text());
            continue;
        }
        let is_same = others.iter().all(|other| places[*other][place] == *piece);
        template.push_str(if is_same { piece.text() } else { Mask::Any.text() });
        place += 1;
    }
    template
}
