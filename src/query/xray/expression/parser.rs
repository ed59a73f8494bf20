//! From text to [`Expression`].

use super::lexer::{Lexed, Token, fault, lex};
use super::{CauseKind, CausePart, Expression, ExpressionError, Flag, GroupOf, Id, Keyword, Number, Operator, Test, TextOf, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 50;

const FLAGS: [(&str, Flag); 10] = [
    ("ok", Flag::Ok),
    ("error", Flag::Error),
    ("throttle", Flag::Throttle),
    ("fault", Flag::Fault),
    ("partial", Flag::Partial),
    ("inferred", Flag::Inferred),
    ("root", Flag::Root),
    ("first", Flag::First),
    ("last", Flag::Last),
    ("remote", Flag::Remote),
];
const NUMBERS: [(&str, Number); 5] = [
    ("responsetime", Number::ResponseTime),
    ("duration", Number::Duration),
    ("http.status", Number::HttpStatus),
    ("index", Number::Index),
    ("coverage", Number::Coverage),
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

const CAUSE_KINDS: [(&str, CauseKind); 3] = [
    ("fault", CauseKind::Fault),
    ("error", CauseKind::Error),
    ("responsetime", CauseKind::ResponseTime),
];
const CAUSE_PARTS: [(&str, CausePart); 3] = [
    ("service", CausePart::Service),
    ("entity", CausePart::Entity),
    ("exception", CausePart::Exception),
];

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

fn told(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Text(text) => format!("{text:?}"),
        Token::Number(number) => number.to_string(),
        Token::Operator(operator) => operator.to_string(),
        Token::Json(value) => format!("#{value}"),
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
            "rootcause.json" => self.root_cause_json(),
            _ => match lower.strip_prefix("rootcause.") {
                Some(asked) => self.root_cause(at, &word, asked),
                None => self.condition(at, &word, &lower),
            },
        }
    }

    fn root_cause(&mut self, at: usize, word: &str, asked: &str) -> Parsed {
        let (kind, part) = asked.split_once('.').unwrap_or((asked, ""));
        match (of(&CAUSE_KINDS, kind), of(&CAUSE_PARTS, part)) {
            (Some(kind), Some(part)) => Ok(Expression::RootCause(kind, part, Box::new(self.inner()?))),
            _ => Err(fault(at, format!("{word} is no keyword"))),
        }
    }

    fn root_cause_json(&mut self) -> Parsed {
        let at = self.at();
        let is_like = match self.take() {
            Token::Operator(Operator::Equal) => true,
            Token::Operator(Operator::NotEqual) => false,
            other => return Err(fault(at, format!("= or != is expected after rootcause.json, not {}", told(&other)))),
        };
        let at = self.at();
        match self.take() {
            Token::Json(serde_json::Value::Array(causes)) => Ok(Expression::RootCauseJson(causes, is_like)),
            Token::Json(cause) => Ok(Expression::RootCauseJson(vec![cause], is_like)),
            other => Err(fault(at, format!("#[…] is expected, not {}", told(&other)))),
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
        let keyword = keyword(word, lower).ok_or_else(|| fault(at, format!("{word} is no keyword")))?;
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

fn of<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning)
}

fn keyword(word: &str, lower: &str) -> Option<Keyword> {
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
