//! X-Ray's filter expressions: `service("api") { fault = true AND responsetime > 2 } AND annotation.tenant = "a"`.
//!
//! ```text
//! or          = and { OR and }
//! and         = not { [AND] not }                      side by side means AND
//! not         = ( "!" | NOT ) not | "(" or ")" | complex | condition
//! complex     = ( service "(" [id] ")" | edge "(" [id] "," [id] ")" ) [ "{" or "}" ]
//! id          = "name" | id "(" name|type|account.id ":" "value" { "," … } ")"
//! condition   = keyword [ operator value ]             a boolean keyword alone means = true
//! keyword     = name | annotation.key | annotation[key]
//! operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | CONTAINS | BEGINSWITH | ENDSWITH
//! value       = "text" | number | true | false
//! ```
//!
//! Keywords and words are of any case, texts are compared to the letter. Of a keyword with many values one that passes is enough, and one
//! without any passes no test. `group.name` and `group.arn` are of the groups whose expression lets the trace through
//! ([`Expression::with_groups`]). Not built, and refused by name: `rootcause.*`, `first`, `last`, `remote`, `index`, `coverage`.

use std::fmt;

/// Longest expression, characters, as the service has it.
pub const MAX_CHARS: usize = 2_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 50;

/// Why a text is no filter expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid filter expression at character {at}: {message}")]
pub struct ExpressionError {
    /// Characters before the fault, and one.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

/// A parsed filter expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// Every trace.
    All,
    /// All of these.
    And(Vec<Expression>),
    /// One of these.
    Or(Vec<Expression>),
    /// Not this.
    Not(Box<Expression>),
    /// A keyword passes a test.
    Condition(Keyword, Test),
    /// A service of which this holds.
    Service(Id, Box<Expression>),
    /// A call between services of which this holds.
    Edge(Id, Id, Box<Expression>),
}

/// Which services are meant; all, if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Id {
    /// The name.
    pub name: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// The account.
    pub account_id: Option<String>,
}

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keyword {
    /// True or false.
    Flag(Flag),
    /// A number.
    Number(Number),
    /// A text.
    Text(TextOf),
    /// An annotation, by its key.
    Annotation(String),
    /// A group that the trace is of.
    Group(GroupOf),
}

/// By what a group is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOf {
    /// `group.name`.
    Name,
    /// `group.arn`.
    Arn,
}

/// A group: a name for an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedGroup {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What lets its traces through; one that asks for groups itself lets none through.
    pub expression: Expression,
}

/// Keywords that are true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "X-Ray's own words")]
pub enum Flag {
    Ok,
    Error,
    Throttle,
    Fault,
    Partial,
    Inferred,
    Root,
}

/// Keywords that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "X-Ray's own words")]
pub enum Number {
    ResponseTime,
    Duration,
    HttpStatus,
}

/// Keywords that are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "X-Ray's own words")]
pub enum TextOf {
    Url,
    Method,
    UserAgent,
    ClientIp,
    User,
    Name,
    Type,
    Message,
    AvailabilityZone,
    InstanceId,
    ResourceArn,
}

/// The test.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    BeginsWith,
    EndsWith,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"text"`.
    Text(String),
    /// `1.5`.
    Number(f64),
    /// `true`.
    Boolean(bool),
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Contains => "CONTAINS",
            Operator::BeginsWith => "BEGINSWITH",
            Operator::EndsWith => "ENDSWITH",
        })
    }
}

const FLAGS: [(&str, Flag); 7] = [
    ("ok", Flag::Ok),
    ("error", Flag::Error),
    ("throttle", Flag::Throttle),
    ("fault", Flag::Fault),
    ("partial", Flag::Partial),
    ("inferred", Flag::Inferred),
    ("root", Flag::Root),
];
const NUMBERS: [(&str, Number); 3] = [
    ("responsetime", Number::ResponseTime),
    ("duration", Number::Duration),
    ("http.status", Number::HttpStatus),
];
const TEXTS: [(&str, TextOf); 11] = [
    ("http.url", TextOf::Url),
    ("http.method", TextOf::Method),
    ("http.useragent", TextOf::UserAgent),
    ("http.clientip", TextOf::ClientIp),
    ("user", TextOf::User),
    ("name", TextOf::Name),
    ("type", TextOf::Type),
    ("message", TextOf::Message),
    ("availabilityzone", TextOf::AvailabilityZone),
    ("instance.id", TextOf::InstanceId),
    ("resource.arn", TextOf::ResourceArn),
];
const GROUPS: [(&str, GroupOf); 2] = [("group.name", GroupOf::Name), ("group.arn", GroupOf::Arn)];
const NOT_BUILT: [&str; 5] = ["first", "last", "remote", "index", "coverage"];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A run of letters, digits, `_`, `.`, `-` and what stands between brackets.
    Word(String),
    Text(String),
    Number(f64),
    Operator(Operator),
    Sign(char),
    End,
}

struct Lexed {
    token: Token,
    /// Characters before it, and one.
    at: usize,
}

fn fault(at: usize, message: impl Into<String>) -> ExpressionError {
    ExpressionError { at, message: message.into() }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn lex(text: &str) -> Result<Vec<Lexed>, ExpressionError> {
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

struct Parser {
    tokens: Vec<Lexed>,
    next: usize,
    depth: usize,
}

type Parsed<T = Expression> = Result<T, ExpressionError>;

impl Expression {
    /// Reads an expression; a blank one is every trace.
    pub fn parse(text: &str) -> Parsed {
        let mut parser = Parser {
            tokens: lex(text)?,
            next: 0,
            depth: 0,
        };
        if *parser.peek() == Token::End {
            return Ok(Expression::All);
        }
        let expression = parser.or()?;
        match parser.peek() {
            Token::End => Ok(expression),
            other => Err(parser.fault(format!("{} is not expected here", told(other)))),
        }
    }
}

impl Expression {
    /// Whether it asks for groups.
    pub fn names_groups(&self) -> bool {
        match self {
            Expression::All => false,
            Expression::And(parts) | Expression::Or(parts) => parts.iter().any(Expression::names_groups),
            Expression::Not(inner) | Expression::Service(_, inner) | Expression::Edge(_, _, inner) => inner.names_groups(),
            Expression::Condition(keyword, _) => matches!(keyword, Keyword::Group(_)),
        }
    }

    /// The same with the expressions of these groups where it asks for them. Without it, it holds of no group.
    pub fn with_groups(self, groups: &[NamedGroup]) -> Expression {
        let all = |parts: Vec<Expression>| parts.into_iter().map(|part| part.with_groups(groups)).collect();
        match self {
            Expression::And(parts) => Expression::And(all(parts)),
            Expression::Or(parts) => Expression::Or(all(parts)),
            Expression::Not(inner) => Expression::Not(Box::new(inner.with_groups(groups))),
            Expression::Service(id, inner) => Expression::Service(id, Box::new(inner.with_groups(groups))),
            Expression::Edge(from, to, inner) => Expression::Edge(from, to, Box::new(inner.with_groups(groups))),
            Expression::Condition(Keyword::Group(of), test) => {
                let is_asked_for = |group: &&NamedGroup| {
                    test.passes_text(match of {
                        GroupOf::Name => &group.name,
                        GroupOf::Arn => &group.arn,
                    })
                };
                Expression::Or(groups.iter().filter(is_asked_for).map(|group| group.expression.clone()).collect())
            }
            Expression::All | Expression::Condition(..) => self,
        }
    }
}

fn told(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Text(text) => format!("{text:?}"),
        Token::Number(number) => number.to_string(),
        Token::Operator(operator) => operator.to_string(),
        Token::Sign(sign) => sign.to_string(),
        Token::End => "the end".into(),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].token
    }
    fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].at
    }
    fn fault(&self, message: impl Into<String>) -> ExpressionError {
        fault(self.at(), message)
    }
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }
    fn takes(&mut self, sign: char) -> bool {
        let is_it = *self.peek() == Token::Sign(sign);
        self.next += usize::from(is_it);
        is_it
    }
    fn expect(&mut self, sign: char) -> Parsed<()> {
        match self.takes(sign) {
            true => Ok(()),
            false => Err(self.fault(format!("{sign} is expected, not {}", told(self.peek())))),
        }
    }
    fn is_word(&self, expected: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(expected))
    }
    fn takes_word(&mut self, expected: &str) -> bool {
        let is_it = self.is_word(expected);
        self.next += usize::from(is_it);
        is_it
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(format!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn or(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut any = vec![parser.and()?];
            while parser.takes_word("or") {
                any.push(parser.and()?);
            }
            Ok(only(any, Expression::Or))
        })
    }

    fn and(&mut self) -> Parsed {
        let mut all = vec![self.not()?];
        loop {
            let said = self.takes_word("and");
            let begins = match self.peek() {
                Token::Word(_) => !self.is_word("or"),
                Token::Sign(sign) => matches!(sign, '(' | '!'),
                _ => false,
            };
            if !said && !begins {
                return Ok(only(all, Expression::And));
            }
            all.push(self.not()?);
        }
    }

    fn not(&mut self) -> Parsed {
        if self.takes('!') || self.takes_word("not") {
            let inner = self.deeper(Parser::not)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.takes('(') {
            let inner = self.or()?;
            self.expect(')')?;
            return Ok(inner);
        }
        let at = self.at();
        let word = match self.take() {
            Token::Word(word) => word,
            other => return Err(fault(at, format!("a keyword is expected, not {}", told(&other)))),
        };
        let lower = word.to_lowercase();
        match lower.as_str() {
            "service" => {
                self.expect('(')?;
                let id = self.id(')')?;
                self.expect(')')?;
                Ok(Expression::Service(id, Box::new(self.inner()?)))
            }
            "edge" => {
                self.expect('(')?;
                // edge() is any edge
                let from = self.id(',')?;
                let to = match self.takes(',') {
                    true => self.id(')')?,
                    false => Id::default(),
                };
                self.expect(')')?;
                Ok(Expression::Edge(from, to, Box::new(self.inner()?)))
            }
            _ => self.condition(at, &word, &lower),
        }
    }

    /// What holds of a service or an edge.
    fn inner(&mut self) -> Parsed {
        if !self.takes('{') {
            return Ok(Expression::All);
        }
        if self.takes('}') {
            return Ok(Expression::All);
        }
        let inner = self.or()?;
        self.expect('}')?;
        Ok(inner)
    }

    fn id(&mut self, end: char) -> Parsed<Id> {
        let mut id = Id::default();
        if matches!(self.peek(), Token::Sign(sign) if *sign == end || *sign == ')') {
            return Ok(id);
        }
        let at = self.at();
        match self.take() {
            Token::Text(name) => id.name = Some(name),
            Token::Word(word) if word.eq_ignore_ascii_case("id") => {
                self.expect('(')?;
                loop {
                    let at = self.at();
                    let member = self.take();
                    self.expect(':')?;
                    let Token::Text(value) = self.take() else {
                        return Err(fault(at, "a text in double quotes is expected"));
                    };
                    // an empty text says nothing
                    let value = Some(value).filter(|value| !value.is_empty());
                    match member {
                        Token::Word(word) if word.eq_ignore_ascii_case("name") => id.name = value,
                        Token::Word(word) if word.eq_ignore_ascii_case("type") => id.kind = value,
                        Token::Word(word) if word.eq_ignore_ascii_case("account.id") => id.account_id = value,
                        other => return Err(fault(at, format!("id has name, type and account.id, not {}", told(&other)))),
                    }
                    if !self.takes(',') {
                        break;
                    }
                }
                self.expect(')')?;
            }
            other => {
                return Err(fault(
                    at,
                    format!("a service's name in double quotes or id(…) is expected, not {}", told(&other)),
                ));
            }
        }
        Ok(id)
    }

    fn condition(&mut self, at: usize, word: &str, lower: &str) -> Parsed {
        let keyword = keyword(word, lower).ok_or_else(|| match is_not_built(lower) {
            true => fault(at, format!("{word} is not supported here")),
            false => fault(at, format!("{word} is no keyword")),
        })?;
        let operator_at = self.at();
        let operator = match self.peek().clone() {
            Token::Operator(operator) => Some(operator),
            Token::Word(word) => match word.to_lowercase().as_str() {
                "contains" => Some(Operator::Contains),
                "beginswith" => Some(Operator::BeginsWith),
                "endswith" => Some(Operator::EndsWith),
                _ => None,
            },
            _ => None,
        };
        let Some(operator) = operator else {
            return match keyword {
                Keyword::Flag(_) => Ok(Expression::Condition(
                    keyword,
                    Test {
                        operator: Operator::Equal,
                        value: Value::Boolean(true),
                    },
                )),
                _ => Err(fault(operator_at, format!("an operator is expected after {word}"))),
            };
        };
        self.next += 1;
        let value_at = self.at();
        let value = match self.take() {
            Token::Text(text) => Value::Text(text),
            Token::Number(number) => Value::Number(number),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Value::Boolean(false),
            other => return Err(fault(value_at, format!("a value is expected, not {}", told(&other)))),
        };
        let of_number = matches!(operator, Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual);
        let of_text = matches!(operator, Operator::Contains | Operator::BeginsWith | Operator::EndsWith);
        let fits = match (&keyword, &value) {
            (Keyword::Flag(_), Value::Boolean(_)) => !of_number && !of_text,
            (Keyword::Number(_), Value::Number(_)) => !of_text,
            (Keyword::Text(_) | Keyword::Group(_), Value::Text(_)) => !of_number,
            (Keyword::Annotation(_), Value::Text(_)) => !of_number,
            (Keyword::Annotation(_), Value::Number(_)) => !of_text,
            (Keyword::Annotation(_), Value::Boolean(_)) => !of_number && !of_text,
            (Keyword::Flag(_), _) => return Err(fault(value_at, format!("{word} is true or false"))),
            (Keyword::Number(_), _) => return Err(fault(value_at, format!("{word} is a number"))),
            (Keyword::Text(_) | Keyword::Group(_), _) => return Err(fault(value_at, format!("{word} is a text in double quotes"))),
        };
        match fits {
            true => Ok(Expression::Condition(keyword, Test { operator, value })),
            false => Err(fault(operator_at, format!("{operator} does not go with {word} and this value"))),
        }
    }
}

fn only(mut parts: Vec<Expression>, all: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => all(parts),
    }
}

fn is_not_built(lower: &str) -> bool {
    NOT_BUILT.contains(&lower) || lower.starts_with("rootcause.")
}

fn keyword(word: &str, lower: &str) -> Option<Keyword> {
    fn of<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
        table.iter().find(|(name, _)| *name == word).map(|(_, keyword)| *keyword)
    }
    if lower.starts_with("annotation.") {
        let key = &word["annotation.".len()..];
        return (!key.is_empty()).then(|| Keyword::Annotation(key.to_string()));
    }
    of(&FLAGS, lower)
        .map(Keyword::Flag)
        .or_else(|| of(&NUMBERS, lower).map(Keyword::Number))
        .or_else(|| of(&TEXTS, lower).map(Keyword::Text))
        .or_else(|| of(&GROUPS, lower).map(Keyword::Group))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_say_where_they_are() {
        for (text, at, message) in [
            ("speed > 2", 1, "speed is no keyword"),
            ("fault AND speed", 11, "speed is no keyword"),
            ("responsetime", 13, "an operator is expected after responsetime"),
            ("responsetime > \"2\"", 16, "responsetime is a number"),
            ("fault = 1", 9, "fault is true or false"),
            ("user = alice", 8, "a value is expected, not alice"),
            ("user > \"a\"", 6, "> does not go with user and this value"),
            ("http.status CONTAINS 2", 13, "CONTAINS does not go with http.status and this value"),
            ("(fault", 7, ") is expected, not the end"),
            ("service(\"api\"", 14, ") is expected, not the end"),
            ("service(api)", 9, "a service's name in double quotes or id(…) is expected, not api"),
            ("service(id(colour: \"x\"))", 12, "id has name, type and account.id, not colour"),
            ("service(\"api\") { fault", 23, "} is expected, not the end"),
            ("user = \"a", 8, "a text has no closing quote"),
            ("annotation[x = 1", 11, "the bracket is not closed"),
            ("fault ; error", 7, "';' is not understood here"),
            ("fault )", 7, ") is not expected here"),
            ("rootcause.fault.service { name = \"x\" }", 1, "rootcause.fault.service is not supported here"),
            ("group.name = 1", 14, "group.name is a text in double quotes"),
            ("group.colour = \"x\"", 1, "group.colour is no keyword"),
            ("AND fault", 1, "AND is no keyword"),
            ("fault AND", 10, "a keyword is expected, not the end"),
            ("duration > 1s", 12, "1s is no number"),
        ] {
            assert_eq!(Expression::parse(text), Err(ExpressionError { at, message: message.into() }), "{text}");
        }
        assert!(Expression::parse(&"(".repeat(1_500)).is_err());
        assert!(Expression::parse(&"!".repeat(1_500)).is_err());
        assert!(Expression::parse(&"x".repeat(MAX_CHARS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z(){}!=<>\",:. 0-9\\[\\]]{0,60}|.{0,40}") {
            let _ = Expression::parse(&text);
        }
    }
}
