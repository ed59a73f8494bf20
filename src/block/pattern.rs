//! Patterns with `*` and `?`.

use memchr::memmem::Finder;

/// A pattern over a whole text: `*` stands for any run of characters, `?` for one, `\` takes the next character as is.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Part>,
    prefix: String,
    /// Finds the longest run of plain characters behind the prefix: a text without it need not be looked at closely.
    within: Option<Finder<'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    One,
    Many,
}

impl Pattern {
    /// Reads a pattern; every text is one.
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            parts.push(match character {
                '*' => Part::Many,
                '?' => Part::One,
                '\\' => Part::Char(characters.next().unwrap_or('\\')),
                other => Part::Char(other),
            });
        }
        parts.dedup_by(|a, b| *a == Part::Many && *b == Part::Many);
        let prefix = parts
            .iter()
            .map_while(|part| match part {
                Part::Char(character) => Some(*character),
                _ => None,
            })
            .collect();
        let runs = parts.split(|part| !matches!(part, Part::Char(_))).skip(1);
        let longest = runs.max_by_key(|run| run.len()).filter(|run| !run.is_empty());
        let within = longest.map(|run| {
            let text: String = run
                .iter()
                .filter_map(|part| match part {
                    Part::Char(character) => Some(*character),
                    _ => None,
                })
                .collect();
            Finder::new(text.as_bytes()).into_owned()
        });
        Self { parts, prefix, within }
    }

    /// The text every match begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The longest text that every match holds behind [`prefix`](Self::prefix), if it has one.
    pub fn piece(&self) -> Option<&str> {
        std::str::from_utf8(self.within.as_ref()?.needle()).ok()
    }

    /// The one text it matches, if it has no wildcard.
    pub fn literal(&self) -> Option<&str> {
        self.parts.iter().all(|part| matches!(part, Part::Char(_))).then_some(&self.prefix)
    }

    /// Whether all of `text` matches. Takes time in the product of both lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        if self.within.as_ref().is_some_and(|within| within.find(rest.as_bytes()).is_none()) {
            return false;
        }
        let parts = &self.parts[self.prefix.chars().count()..];
        let mut characters = rest.chars();
        let mut at = 0;
        // where to go on after the last `*` when a later part fails: one character further
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = characters.clone();
            match (parts.get(at), characters.next()) {
                (None, None) => return true,
                (Some(Part::Many), _) => {
                    characters = before.clone();
                    at += 1;
                    retry = Some((at, before));
                }
                (Some(Part::One), Some(_)) => at += 1,
                (Some(Part::Char(want)), Some(got)) if *want == got => at += 1,
                _ => {
                    let Some((part, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (at, characters) = (*part, from.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_what_they_say() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("ab*", "ab", true),
            ("ab*", "abxyz", true),
            ("*c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxxb", true),
            ("*a*b", "bbbba", false),
            ("", "", true),
            ("*", "", true),
            ("**", "x", true),
            ("?", "", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
        assert_eq!(Pattern::new("ab?d").prefix(), "ab");
        assert_eq!((Pattern::new("ab").literal(), Pattern::new("a*").literal()), (Some("ab"), None));
    }

    proptest::proptest! {
        #[test]
        fn patterns_agree_with_regex(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let regex: String = pattern.chars().map(|c| match c { '*' => "(?s:.*)".to_string(), '?' => "(?s:.)".into(), c => c.to_string() }).collect();
            let regex = regex::Regex::new(&format!("^{regex}$")).expect("a regex");
            proptest::prop_assert_eq!(Pattern::new(&pattern).matches(&text), regex.is_match(&text));
        }
    }
}
