//! The service's regular expressions, `%…%`.

use super::cursor::Cursor;
use super::{Error, Result};
use crate::query::{Query, Test};

/// Compiled size, bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Signs that mean themselves, and operators.
const SIGNS: &str = " :_#=@/;,-^$?[]{}|*+.";

/// A regular expression.
#[derive(Clone, Debug)]
pub(super) struct Regex {
    compiled: regex::Regex,
    /// Whether it says something about where a text begins or ends.
    is_anchored: bool,
}

impl Regex {
    /// Reads `%…%`, which stands at the cursor.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        cursor.expect("%")?;
        let unclosed = || Error::new("a regular expression is not closed by `%`");
        Self::new(cursor.take_until('%').ok_or_else(unclosed)?)
    }

    fn new(written: &str) -> Result<Self> {
        if written.is_empty() {
            return Err(Error::new("a regular expression is empty"));
        }
        let (translated, is_anchored) = translate(written)?;
        let compiled = regex::RegexBuilder::new(&translated).size_limit(MAX_COMPILED_BYTES).build();
        let compiled = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Error::new(format_args!("the regular expression '{written}' is too large")),
            _ => Error::new(format_args!("'{written}' is no regular expression")),
        })?;
        Ok(Self { compiled, is_anchored })
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// Rows in whose body it is found.
    pub(super) fn in_body(&self) -> Query {
        Query::Field {
            name: "body".into(),
            test: self.test(),
        }
    }

    /// The same, of bodies in a part of which it is found.
    pub(super) fn in_part_of_body(&self) -> Query {
        if self.is_anchored { Query::All } else { self.in_body() }
    }

    pub(super) fn test(&self) -> Test {
        Test::Regex(self.compiled.as_str().to_string())
    }
}

/// As the regex crate reads it: classes mean ASCII, and a bracket inside of brackets is itself. Also whether it has anchors.
fn translate(written: &str) -> Result<(String, bool)> {
    let mut out = String::with_capacity(written.len() * 2);
    let (mut in_class, mut is_anchored) = (false, false);
    let mut characters = written.chars().peekable();
    let refuse = |what: String| Err(Error::new(format_args!("{what} cannot be used in the regular expression '{written}'")));
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let Some(escaped) = characters.next() else {
                    return refuse("a backslash at the end".into());
                };
                let class = match escaped.to_ascii_lowercase() {
                    'd' => "0-9",
                    'w' => "0-9A-Za-z_",
                    's' => r" \t\n\x0B\x0C\r",
                    'x' if escaped == 'x' => {
                        let digits: String = characters.by_ref().take(2).collect();
                        match u8::from_str_radix(&digits, 16) {
                            Ok(code) if digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()) && code.is_ascii() => {
                                out.push_str(&format!(r"\x{code:02x}"));
                                continue;
                            }
                            _ => return refuse(format!("\\x{digits}")),
                        }
                    }
                    _ if escaped.is_ascii_punctuation() => {
                        out.push('\\');
                        // these two the regex crate takes for something else
                        if matches!(escaped, '<' | '>') {
                            out.pop();
                        }
                        out.push(escaped);
                        continue;
                    }
                    _ => return refuse(format!("\\{escaped}")),
                };
                match (escaped.is_ascii_uppercase(), in_class) {
                    (true, _) => out.push_str(&format!("[^{class}]")),
                    (false, true) => out.push_str(class),
                    (false, false) => out.push_str(&format!("[{class}]")),
                }
            }
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // the first bracket closes nothing
                if characters.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // two in a row would be a difference of classes
            '-' if in_class && characters.peek() == Some(&'-') => out.push_str(r"\-"),
            '^' | '$' => {
                is_anchored = is_anchored || !in_class;
                out.push(character);
            }
            letter if letter.is_ascii_alphanumeric() || SIGNS.contains(letter) => out.push(letter),
            other => return refuse(format!("'{other}'")),
        }
    }
    Ok((out, is_anchored))
}
