//! Cuts a script into tokens, each with its place; on demand, since only the parser knows where a `/` begins a regular
//! expression.

use std::sync::Arc;

use super::Malformed;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Letters, digits, `_`, `@`, `.`, `$`, beginning with no digit: a field, function or keyword.
    Word(String),
    /// In backticks.
    Ticked(String),
    /// In quotes.
    Quoted(String),
    /// `5`, `1.5e3`.
    Number(String),
    /// `5m`: digits and letters.
    Period(String),
    /// A sign or two.
    Sign(&'static str),
    End,
}

/// A token and the characters it takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    /// Whether it is this word, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(written) if written.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(&self.kind, Kind::Sign(written) if *written == sign)
    }
}

/// Longer ones first.
const SIGNS: [&str; 21] = [
    "!=", "<=", ">=", "=~", "=", "<", ">", "|", "(", ")", "[", "]", ",", "+", "-", "*", "/", "^", "%", ":", ";",
];

/// A script and a place in it.
#[derive(Clone, Debug)]
pub(super) struct Lexer {
    characters: Arc<[char]>,
    at: usize,
    /// Where the last token that was taken ended.
    ended: usize,
    /// The token at the place, if it was looked at.
    next: Option<Token>,
}

pub(super) fn malformed<T>(message: impl Into<String>, start: usize, end: usize) -> Result<T, Malformed> {
    Err(Malformed {
        message: message.into(),
        start,
        end: end.max(start),
    })
}

fn is_word_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '.' | '$')
}

impl Lexer {
    pub(super) fn new(text: &str) -> Self {
        Self {
            characters: text.chars().collect(),
            at: 0,
            ended: 0,
            next: None,
        }
    }

    /// Where the next token begins.
    pub(super) fn place(&mut self) -> Result<usize, Malformed> {
        Ok(self.peek()?.start)
    }

    /// The text between two places, without spaces around and with comments left in.
    pub(super) fn text(&self, start: usize, end: usize) -> String {
        let text: String = self.characters[start.min(end)..end.min(self.characters.len())].iter().collect();
        text.trim().to_string()
    }

    /// Where the token before ended.
    pub(super) fn end_before(&self) -> usize {
        self.ended
    }

    /// The word here and what stands in parentheses right behind it, and the lexer as it is after them.
    pub(super) fn call_text(&mut self) -> Result<Option<(String, Lexer)>, Malformed> {
        let mut after = self.clone();
        let start = after.next()?.start;
        if !after.peek()?.is_sign("(") {
            return Ok(None);
        }
        let mut open = 0;
        loop {
            // what is no token of calls is none of a name either
            let Ok(token) = after.next() else { return Ok(None) };
            match token.kind {
                Kind::Sign("(") => open += 1,
                Kind::Sign(")") => open -= 1,
                Kind::End => return Ok(None),
                _ => {}
            }
            if open == 0 {
                return Ok(Some((self.text(start, token.end), after)));
            }
        }
    }

    pub(super) fn peek(&mut self) -> Result<&Token, Malformed> {
        let token = match self.next.take() {
            Some(token) => token,
            None => self.read()?,
        };
        Ok(self.next.insert(token))
    }

    pub(super) fn next(&mut self) -> Result<Token, Malformed> {
        let token = match self.next.take() {
            Some(token) => token,
            None => self.read()?,
        };
        self.at = token.end;
        self.ended = token.end;
        Ok(token)
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.characters.get(self.at) {
            match c {
                '#' => {
                    while self.characters.get(self.at).is_some_and(|c| *c != '\n') {
                        self.at += 1;
                    }
                }
                c if c.is_whitespace() => self.at += 1,
                _ => break,
            }
        }
    }

    fn take_while(&self, from: usize, passes: impl Fn(char) -> bool) -> usize {
        let n = self.characters[from..].iter().take_while(|c| passes(**c)).count();
        from + n
    }

    fn read(&mut self) -> Result<Token, Malformed> {
        self.skip_space();
        let start = self.at;
        let Some(&first) = self.characters.get(start) else {
            return Ok(Token {
                kind: Kind::End,
                start,
                end: start,
            });
        };
        let token = |kind: Kind, end: usize| Ok(Token { kind, start, end });
        match first {
            '\'' | '"' => {
                let (text, end) = self.quoted(first)?;
                token(Kind::Quoted(text), end)
            }
            '`' => {
                let end = self.take_while(start + 1, |c| c != '`');
                if end >= self.characters.len() {
                    return malformed("the backtick is not closed", start, end);
                }
                let name: String = self.characters[start + 1..end].iter().collect();
                match name.is_empty() {
                    true => malformed("there is no name between the backticks", start, end + 1),
                    false => token(Kind::Ticked(name), end + 1),
                }
            }
            c if c.is_ascii_digit() || (c == '.' && self.characters.get(start + 1).is_some_and(char::is_ascii_digit)) => {
                let (kind, end) = self.number(start);
                token(kind, end)
            }
            c if is_word_character(c) => {
                let end = self.take_while(start, is_word_character);
                token(Kind::Word(self.characters[start..end].iter().collect()), end)
            }
            _ => {
                let stands_here = |sign: &&str| sign.chars().enumerate().all(|(i, c)| self.characters.get(start + i) == Some(&c));
                match SIGNS.into_iter().find(stands_here) {
                    Some(sign) => token(Kind::Sign(sign), start + sign.len()),
                    None => {
                        let instead = match first {
                            '!' => ": write `not`, or `!=`",
                            '&' => ": write `and`",
                            _ => "",
                        };
                        malformed(format!("unexpected character '{first}'{instead}"), start, start + 1)
                    }
                }
            }
        }
    }

    fn number(&self, start: usize) -> (Kind, usize) {
        let is_digit = |c: char| c.is_ascii_digit();
        let mut end = self.take_while(start, is_digit);
        if self.characters.get(end) == Some(&'.') && self.characters.get(end + 1).is_some_and(char::is_ascii_digit) {
            end = self.take_while(end + 1, is_digit);
        }
        let written = |end: usize| self.characters[start..end].iter().collect::<String>();
        if let Some('e' | 'E') = self.characters.get(end) {
            let sign = usize::from(matches!(self.characters.get(end + 1), Some('+' | '-')));
            let digits = end + 1 + sign;
            let after = self.take_while(digits.min(self.characters.len()), is_digit);
            if after > digits {
                return (Kind::Number(written(after)), after);
            }
        }
        let letters = self.take_while(end, is_word_character);
        match letters > end {
            true => (Kind::Period(written(letters)), letters),
            false => (Kind::Number(written(end)), end),
        }
    }

    /// A text in quotes that begins at the place. `\` before a quote, `\`, `n`, `t` and `r` means what it does elsewhere, and
    /// before others it is itself, so that regular expressions stand as they are.
    fn quoted(&self, quote: char) -> Result<(String, usize), Malformed> {
        let start = self.at;
        let mut text = String::new();
        let mut at = start + 1;
        while let Some(&c) = self.characters.get(at) {
            at += 1;
            match c {
                '\\' => match self.characters.get(at) {
                    Some(&escaped @ ('\\' | '"' | '\'')) => {
                        text.push(escaped);
                        at += 1;
                    }
                    Some('n') => {
                        text.push('\n');
                        at += 1;
                    }
                    Some('t') => {
                        text.push('\t');
                        at += 1;
                    }
                    Some('r') => {
                        text.push('\r');
                        at += 1;
                    }
                    _ => text.push('\\'),
                },
                c if c == quote => return Ok((text, at)),
                c => text.push(c),
            }
        }
        malformed("the quotation mark is not closed", start, at)
    }

    /// A regular expression between slashes, if one begins here; `\/` is a slash in it.
    pub(super) fn regex(&mut self) -> Result<Option<(String, usize, usize)>, Malformed> {
        if !self.peek()?.is_sign("/") {
            return Ok(None);
        }
        let start = self.peek()?.start;
        let mut text = String::new();
        let mut at = start + 1;
        while let Some(&c) = self.characters.get(at) {
            at += 1;
            match (c, self.characters.get(at)) {
                ('\\', Some('/')) => {
                    text.push('/');
                    at += 1;
                }
                ('\\', Some(&escaped)) => {
                    text.extend(['\\', escaped]);
                    at += 1;
                }
                ('/', _) => {
                    self.next = None;
                    self.at = at;
                    self.ended = at;
                    return Ok(Some((text, start, at)));
                }
                ('\n', _) => break,
                (c, _) => text.push(c),
            }
        }
        malformed("the regular expression is not closed by `/`", start, at)
    }
}
