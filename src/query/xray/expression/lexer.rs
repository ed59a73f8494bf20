//! The pieces of a filter expression.

use super::{ExpressionError, MAX_CHARS, Operator};

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A run of letters, digits, `_`, `.`, `-` and what stands between brackets.
    Word(String),
    Text(String),
    Number(f64),
    Operator(Operator),
    /// What stands behind a `#`.
    Json(serde_json::Value),
    Sign(char),
    End,
}

/// A piece and where it stands.
pub(super) struct Lexed {
    pub(super) token: Token,
    /// Characters before it, and one.
    pub(super) at: usize,
}

pub(super) fn fault(at: usize, message: impl Into<String>) -> ExpressionError {
    ExpressionError { at, message: message.into() }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// The pieces of an expression; the last is the end.
pub(super) fn lex(text: &str) -> Result<Vec<Lexed>, ExpressionError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > MAX_CHARS {
        return Err(fault(MAX_CHARS + 1, format!("it is longer than {MAX_CHARS} characters")));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        let start = at;
        let token = match c {
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            '"' => {
                let mut out = String::new();
                at += 1;
                loop {
                    match (chars.get(at), chars.get(at + 1)) {
                        (None, _) => return Err(fault(start + 1, "a text has no closing quote")),
                        (Some('"'), _) => break,
                        (Some('\\'), Some(escaped @ ('"' | '\\'))) => {
                            out.push(*escaped);
                            at += 2;
                        }
                        (Some(c), _) => {
                            out.push(*c);
                            at += 1;
                        }
                    }
                }
                at += 1;
                Token::Text(out)
            }
            '!' if next == Some('=') => two(&mut at, Operator::NotEqual),
            '<' if next == Some('=') => two(&mut at, Operator::LessOrEqual),
            '>' if next == Some('=') => two(&mut at, Operator::GreaterOrEqual),
            '=' => one(&mut at, Operator::Equal),
            '<' => one(&mut at, Operator::Less),
            '>' => one(&mut at, Operator::Greater),
            '(' | ')' | '{' | '}' | ',' | ':' | '!' => {
                at += 1;
                Token::Sign(c)
            }
            c if c.is_ascii_digit() || ((c == '-' || c == '.') && next.is_some_and(|next| next.is_ascii_digit())) => {
                while at < chars.len() && (chars[at].is_ascii_alphanumeric() || matches!(chars[at], '.' | '-' | '+')) {
                    at += 1;
                }
                let text: String = chars[start..at].iter().collect();
                Token::Number(text.parse().map_err(|_| fault(start + 1, format!("{text} is no number")))?)
            }
            c if is_word(c) => {
                while at < chars.len() && is_word(chars[at]) {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                if word.eq_ignore_ascii_case("annotation") && chars.get(at) == Some(&'[') {
                    let close = (at..chars.len()).find(|i| chars[*i] == ']');
                    let close = close.ok_or_else(|| fault(at + 1, "the bracket is not closed"))?;
                    let key: String = chars[at + 1..close].iter().collect();
                    at = close + 1;
                    Token::Word(format!("annotation.{}", key.trim().trim_matches('"')))
                } else {
                    Token::Word(word)
                }
            }
            '#' => {
                let rest: String = chars[at + 1..].iter().collect();
                let mut values = serde_json::Deserializer::from_str(&rest).into_iter();
                let value = match values.next() {
                    Some(Ok(value)) => value,
                    Some(Err(error)) => return Err(fault(start + 1, format!("what stands behind # is no JSON: {error}"))),
                    None => return Err(fault(start + 1, "JSON is expected behind #")),
                };
                at += 1 + rest[..values.byte_offset()].chars().count();
                Token::Json(value)
            }
            other => return Err(fault(start + 1, format!("{other:?} is not understood here"))),
        };
        tokens.push(Lexed { token, at: start + 1 });
    }
    tokens.push(Lexed {
        token: Token::End,
        at: chars.len() + 1,
    });
    Ok(tokens)
}

fn one(at: &mut usize, operator: Operator) -> Token {
    *at += 1;
    Token::Operator(operator)
}

fn two(at: &mut usize, operator: Operator) -> Token {
    *at += 2;
    Token::Operator(operator)
}
