//! The masks, and how they are written: lists fold.

/// What stands for a variable part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mask {
    /// A value of whatever kind.
    Any,
    /// A number.
    Number,
    /// A number with a unit of time.
    Duration,
    /// A number with a unit of size.
    Size,
    /// A date, a time, or both.
    Time,
    /// A UUID.
    Uuid,
    /// Hex digits.
    Hex,
    /// Letters and digits.
    Id,
    /// An IPv4 or IPv6 address.
    Ip,
    /// The address of a network card.
    Mac,
    /// Numbers by dots.
    Version,
    /// A mail address.
    Email,
    /// What stands in quotes.
    Quoted,
    /// Indented lines.
    Lines,
    /// What was not looked at.
    More,
}

impl Mask {
    const ALL: [Mask; 15] = [
        Mask::Any,
        Mask::Number,
        Mask::Duration,
        Mask::Size,
        Mask::Time,
        Mask::Uuid,
        Mask::Hex,
        Mask::Id,
        Mask::Ip,
        Mask::Mac,
        Mask::Version,
        Mask::Email,
        Mask::Quoted,
        Mask::Lines,
        Mask::More,
    ];

    /// As it stands in templates.
    pub fn text(self) -> &'static str {
        match self {
            Mask::Any => "<*>",
            Mask::Number => "<num>",
            Mask::Duration => "<duration>",
            Mask::Size => "<size>",
            Mask::Time => "<time>",
            Mask::Uuid => "<uuid>",
            Mask::Hex => "<hex>",
            Mask::Id => "<id>",
            Mask::Ip => "<ip>",
            Mask::Mac => "<mac>",
            Mask::Version => "<version>",
            Mask::Email => "<email>",
            Mask::Quoted => "<str>",
            Mask::Lines => "<lines>",
            Mask::More => "<...>",
        }
    }

    /// The mask that a text begins with.
    pub fn at_start(text: &str) -> Option<Mask> {
        if !text.starts_with('<') {
            return None;
        }
        Mask::ALL.into_iter().find(|mask| text.starts_with(mask.text()))
    }

    /// Whether it stands for a value that another text of the kind might not have had to hide.
    pub(super) fn is_value(self) -> bool {
        !matches!(self, Mask::Lines | Mask::More)
    }
}

/// Masks of one kind that stand side by side, apart by spaces.
const MAX_RUN: usize = 4;

/// A template under way: masks that fold are not written.
#[derive(Debug)]
pub(super) struct Template<'o> {
    pub(super) out: &'o mut String,
    /// The last mask, where it ends, and how many of its kind there are side by side.
    last: Option<(Mask, usize, usize)>,
}

impl<'o> Template<'o> {
    pub(super) fn new(out: &'o mut String) -> Self {
        Self { out, last: None }
    }

    /// Writes a mask, in quotes of a kind if such are given.
    pub(super) fn mask(&mut self, mask: Mask, quote: Option<char>) {
        let mut run = 1;
        if let Some((last, end, side_by_side)) = self.last
            && last == mask
        {
            let folds = match &self.out[end..] {
                ", " | "," | "; " | ";" | "-" | "." | ":" | "_" => true,
                " " if mask == Mask::Time => true,
                " " => {
                    run = side_by_side + 1;
                    side_by_side >= MAX_RUN
                }
                _ => false,
            };
            if folds {
                self.out.truncate(end);
                return;
            }
        }
        self.out.extend(quote);
        self.out.push_str(mask.text());
        self.out.extend(quote);
        self.last = Some((mask, self.out.len(), run));
    }

    /// No list goes on from here.
    pub(super) fn ends_list(&mut self) {
        self.last = None;
    }
}
