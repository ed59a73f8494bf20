//! Reads scripts: expressions, loosest binding first.
//!
//! `or`, `and`, `not`, comparisons (`=`, `like`, `in`, …; they do not chain), `+ -`, `* / %`, the minus before, `^` (from the
//! right), then values, fields, calls and parentheses.

use std::sync::Arc;

use regex::Regex;

use super::functions::{self, Takes};
use super::lexer::{Kind, Token, malformed};
use super::parser::{Parser, Result};
use super::syntax::{AggregateCall, AggregateKind, Arithmetic, Comparison, Expression, FieldName, Sought};
use super::value::{Number, Value, is_long, negative_of_long};
use crate::model::Table;
use crate::query;

/// Deepest nesting of expressions, and longest chain of arithmetic.
const MAX_DEPTH: usize = 64;
/// Values in `in [...]`.
const MAX_LIST: usize = 1_000;

impl Parser {
    /// An expression.
    pub(super) fn expression(&mut self) -> Result<Expression> {
        let start = self.lexer.place()?;
        self.depth += 1;
        let parsed = match self.depth > MAX_DEPTH {
            true => malformed(format!("the expression nests deeper than {MAX_DEPTH} levels"), start, start + 1),
            false => self.any_of(),
        };
        self.depth -= 1;
        parsed
    }

    fn any_of(&mut self) -> Result<Expression> {
        let mut parts = vec![self.all_of()?];
        while self.eat_word("or")? {
            parts.push(self.all_of()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    fn all_of(&mut self) -> Result<Expression> {
        let mut parts = vec![self.negation()?];
        while self.eat_word("and")? {
            parts.push(self.negation()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn negation(&mut self) -> Result<Expression> {
        let start = self.lexer.place()?;
        let mut negated = false;
        let mut n = 0;
        while self.eat_word("not")? {
            negated = !negated;
            n += 1;
            if n > MAX_DEPTH {
                return malformed("too many `not` in a row", start, self.lexer.place()?);
            }
        }
        let inner = self.comparison()?;
        Ok(match negated {
            true => Expression::Not(Box::new(inner)),
            // two of them still make a condition
            false if n > 0 => Expression::Not(Box::new(Expression::Not(Box::new(inner)))),
            false => inner,
        })
    }

    fn comparison(&mut self) -> Result<Expression> {
        let left = self.sum()?;
        let token = self.lexer.peek()?.clone();
        let operator = match &token.kind {
            Kind::Sign("=") => Some(Comparison::Equal),
            Kind::Sign("!=") => Some(Comparison::NotEqual),
            Kind::Sign("<") => Some(Comparison::Less),
            Kind::Sign("<=") => Some(Comparison::LessOrEqual),
            Kind::Sign(">") => Some(Comparison::Greater),
            Kind::Sign(">=") => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        if let Some(operator) = operator {
            self.lexer.next()?;
            let right = self.sum()?;
            return Ok(Expression::Compare(operator, Box::new((left, right))));
        }
        if token.is_sign("=~") {
            self.lexer.next()?;
            let sought = self.sought()?;
            return Ok(Expression::Like {
                value: Box::new(left),
                sought,
                negated: false,
            });
        }
        let mut negated = false;
        if token.is_word("not") {
            self.lexer.next()?;
            negated = true;
        }
        let value = Box::new(left);
        if self.eat_word("like")? {
            let sought = self.sought()?;
            return Ok(Expression::Like { value, sought, negated });
        }
        if self.eat_word("in")? {
            return self.membership(value, negated);
        }
        match negated {
            true => {
                let token = self.lexer.next()?;
                self.unexpected(&token, "`like` or `in` behind `not`")
            }
            false => Ok(*value),
        }
    }

    fn sought(&mut self) -> Result<Sought> {
        if let Some(regex) = self.regex()? {
            return Ok(Sought::Regex(regex));
        }
        Ok(match self.sum()? {
            Expression::Literal(Value::Text(text)) => Sought::Text(text),
            other => Sought::Computed(Box::new(other)),
        })
    }

    fn membership(&mut self, value: Box<Expression>, negated: bool) -> Result<Expression> {
        let open = self.lexer.next()?;
        if open.is_sign("(") {
            let first = self.lexer.peek()?;
            if matches!(first.kind, Kind::Quoted(_) | Kind::Number(_)) {
                return malformed("a list is written `[..]`; in parentheses stands a subquery", open.start, first.end);
            }
            let subscript = self.inner_script(open.start, super::MAX_IN_VALUES, true)?;
            return Ok(Expression::InAnswer { value, subscript, negated });
        }
        if !open.is_sign("[") {
            return self.unexpected(&open, "a list `[..]` or a subquery `(..)`");
        }
        let mut list = Vec::new();
        loop {
            list.push(self.sum()?);
            if list.len() > MAX_LIST {
                return malformed(format!("a list has at most {MAX_LIST} values"), open.start, self.lexer.place()?);
            }
            let token = self.lexer.next()?;
            if token.is_sign("]") {
                return Ok(Expression::In { value, list, negated });
            }
            if !token.is_sign(",") {
                return self.unexpected(&token, "`,` or `]`");
            }
        }
    }

    /// A chain of operators that bind as tightly as each other, from the left.
    fn chain(&mut self, operator: fn(&Token) -> Option<Arithmetic>, next: fn(&mut Self) -> Result<Expression>) -> Result<Expression> {
        let mut left = next(self)?;
        let mut n = 0;
        while let Some(sign) = operator(self.lexer.peek()?) {
            let token = self.lexer.next()?;
            n += 1;
            if n > MAX_DEPTH {
                return malformed(format!("more than {MAX_DEPTH} operators in a row"), token.start, token.end);
            }
            let right = next(self)?;
            left = Expression::Arithmetic(sign, Box::new((left, right)));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expression> {
        let operator = |token: &Token| match token.kind {
            Kind::Sign("+") => Some(Arithmetic::Add),
            Kind::Sign("-") => Some(Arithmetic::Subtract),
            _ => None,
        };
        self.chain(operator, Self::product)
    }

    fn product(&mut self) -> Result<Expression> {
        let operator = |token: &Token| match token.kind {
            Kind::Sign("*") => Some(Arithmetic::Multiply),
            Kind::Sign("/") => Some(Arithmetic::Divide),
            Kind::Sign("%") => Some(Arithmetic::Remainder),
            _ => None,
        };
        self.chain(operator, Self::power)
    }

    fn power(&mut self) -> Result<Expression> {
        if self.lexer.peek()?.is_sign("-") {
            let token = self.lexer.next()?;
            self.depth += 1;
            let inner = match self.depth > MAX_DEPTH {
                true => malformed(format!("the expression nests deeper than {MAX_DEPTH} levels"), token.start, token.end),
                false => self.power(),
            };
            self.depth -= 1;
            return Ok(match inner? {
                Expression::Literal(Value::Whole(whole)) => Expression::Literal(Value::Whole(whole.wrapping_neg())),
                Expression::Literal(Value::Double(double)) => Expression::Literal(Value::Double(-double)),
                Expression::Literal(Value::Text(text)) if is_long(&text) => Expression::Literal(negative_of_long(&text)),
                other => Expression::Negative(Box::new(other)),
            });
        }
        let base = self.primary()?;
        if !self.lexer.peek()?.is_sign("^") {
            return Ok(base);
        }
        let token = self.lexer.next()?;
        self.depth += 1;
        let exponent = match self.depth > MAX_DEPTH {
            true => malformed(format!("the expression nests deeper than {MAX_DEPTH} levels"), token.start, token.end),
            false => self.power(),
        };
        self.depth -= 1;
        Ok(Expression::Arithmetic(Arithmetic::Power, Box::new((base, exponent?))))
    }

    fn primary(&mut self) -> Result<Expression> {
        if let Some(column) = self.column_as_written()? {
            return Ok(Expression::Field(FieldName::plain(&column)));
        }
        let token = self.lexer.next()?;
        match &token.kind {
            Kind::Number(text) => match Number::read(text) {
                // all its digits count, as those of the texts that it is compared with
                Some(_) if is_long(text) => Ok(Expression::Literal(Value::text(text.as_str()))),
                Some(number) => Ok(Expression::Literal(number.into())),
                None => malformed(format!("'{text}' is no number"), token.start, token.end),
            },
            Kind::Quoted(text) => Ok(Expression::Literal(Value::text(text.as_str()))),
            Kind::Sign("(") => {
                let inner = self.expression()?;
                self.expect_sign(")")?;
                Ok(inner)
            }
            Kind::Period(text) => malformed(format!("a period such as '{text}' stands only in functions of time"), token.start, token.end),
            Kind::Word(name) => {
                let next = self.lexer.peek()?;
                if next.is_sign("(") {
                    return self.call(name, &token);
                }
                match name.to_ascii_lowercase().as_str() {
                    "true" => Ok(Expression::Literal(Value::Flag(true))),
                    "false" => Ok(Expression::Literal(Value::Flag(false))),
                    "null" => Ok(Expression::Literal(Value::Null)),
                    "and" | "or" | "not" | "in" | "like" | "as" | "by" => self.unexpected(&token, "a value"),
                    _ => self.field_from(token).map(Expression::Field),
                }
            }
            Kind::Ticked(_) => self.field_from(token).map(Expression::Field),
            _ => self.unexpected(&token, "a value"),
        }
    }

    /// A field that `stats` gave under a name that reads like a call: `count(*)`, `bin(5m)`.
    fn column_as_written(&mut self) -> Result<Option<Arc<str>>> {
        // in `stats` itself a call is one
        let is_call = self.aggregates.is_some() && !self.in_aggregate;
        if is_call || self.columns.is_empty() || !matches!(self.lexer.peek()?.kind, Kind::Word(_)) {
            return Ok(None);
        }
        let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let Some((text, lexer)) = self.lexer.call_text()? else {
            return Ok(None);
        };
        let text = squeeze(&text);
        let found = self.columns.iter().find(|column| squeeze(column) == text).cloned();
        if found.is_some() {
            self.lexer = lexer;
        }
        Ok(found)
    }

    fn call(&mut self, name: &str, token: &Token) -> Result<Expression> {
        self.depth += 1;
        let parsed = match self.depth > MAX_DEPTH {
            true => malformed(format!("the expression nests deeper than {MAX_DEPTH} levels"), token.start, token.end),
            false => self.call_of(name, token),
        };
        self.depth -= 1;
        parsed
    }

    fn call_of(&mut self, name: &str, token: &Token) -> Result<Expression> {
        self.expect_sign("(")?;
        let plain = name.to_ascii_lowercase().replace('_', "");
        if is_aggregate(&plain) {
            return self.aggregate(&plain, name, token);
        }
        if plain == "bin" {
            if !self.columns.is_empty() && !self.columns.iter().any(|column| **column == *"@timestamp") {
                let message = "`bin` needs `@timestamp`, which the `stats` before does not give";
                return malformed(message, token.start, token.end);
            }
            let period = self.period()?;
            self.expect_sign(")")?;
            let Some(function) = functions::find("datefloor") else {
                return self.unexpected(token, "a function");
            };
            return Ok(Expression::Call {
                function,
                arguments: vec![Expression::Field(self.named(FieldName::new(["@timestamp"])))],
                period: Some(period),
                regex: None,
            });
        }
        if plain == "search" {
            return self.search(token);
        }
        let Some(function) = functions::find(&plain) else {
            return malformed(format!("there is no function '{name}'"), token.start, token.end);
        };
        let (mut arguments, mut period, mut regex) = (Vec::new(), None, None);
        let mut n = 0;
        if !self.eat_sign(")")? {
            loop {
                match function.takes {
                    Takes::Period(place) if place == n => period = Some(self.period()?),
                    Takes::Regex(place) if place == n => regex = Some(self.regex_argument()?),
                    _ => arguments.push(self.expression()?),
                }
                n += 1;
                let next = self.lexer.next()?;
                if next.is_sign(")") {
                    break;
                }
                if !next.is_sign(",") {
                    return self.unexpected(&next, "`,` or `)`");
                }
            }
        }
        let end = self.lexer.end_before();
        let (least, most) = function.arguments;
        if n < least || n > most {
            let expected = match (least, most) {
                (least, most) if least == most => format!("{least}"),
                (least, usize::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return malformed(format!("'{}' takes {expected} arguments, and these are {n}", function.name), token.start, end);
        }
        if let Some(Expression::Literal(Value::Text(format))) = arguments.get(1)
            && let Some(letter) = functions::unknown_letter(function, format)
        {
            return malformed(
                format!("the letter '{letter}' is not supported in the format '{format}' of {name}"),
                token.start,
                end,
            );
        }
        if arguments.is_empty() && plain == "messagesize" {
            arguments.push(Expression::Field(self.named(FieldName::new(["@message"]))));
        }
        Ok(Expression::Call {
            function,
            arguments,
            period,
            regex,
        })
    }

    /// `search('…')`, behind its parenthesis.
    fn search(&mut self, token: &Token) -> Result<Expression> {
        let words = self.lexer.next()?;
        let Kind::Quoted(text) = &words.kind else {
            return self.unexpected(&words, "a query in quotes, as in search('trace:(service:frontend duration>500ms error:true)')");
        };
        let query = match query::parse(text, Table::Logs) {
            Ok(query) => query,
            Err(error) => {
                let message = format!("search: {} (at character {} of its query)", error.message, error.position);
                return malformed(message, words.start, words.end);
            }
        };
        self.expect_sign(")")?;
        self.searches.push((token.start, self.lexer.end_before()));
        Ok(Expression::Found(Arc::new(query)))
    }

    fn regex_argument(&mut self) -> Result<Regex> {
        if let Some(regex) = self.regex()? {
            return Ok(regex);
        }
        let token = self.lexer.next()?;
        match &token.kind {
            Kind::Quoted(text) => self.compile(&text.clone(), token.start, token.end),
            _ => self.unexpected(&token, "a regular expression in quotes or between slashes"),
        }
    }

    fn aggregate(&mut self, plain: &str, name: &str, token: &Token) -> Result<Expression> {
        if self.aggregates.is_none() {
            return malformed(format!("'{name}' is an aggregate, and stands only in `stats`"), token.start, token.end);
        }
        if self.in_aggregate {
            return malformed(format!("'{name}' cannot stand inside another aggregate"), token.start, token.end);
        }
        self.in_aggregate = true;
        let call = self.aggregate_of(plain, name, token);
        self.in_aggregate = false;
        let call = call?;
        self.expect_sign(")")?;
        let Some(aggregates) = &mut self.aggregates else {
            return malformed("an aggregate stands only in `stats`", token.start, token.end);
        };
        aggregates.push(call);
        Ok(Expression::Aggregate(aggregates.len() - 1))
    }

    fn aggregate_of(&mut self, plain: &str, name: &str, token: &Token) -> Result<AggregateCall> {
        let of_rows = |kind: AggregateKind| Ok(AggregateCall { kind, of: None });
        let next = self.lexer.peek()?.clone();
        if matches!(plain, "count" | "countovertime") {
            if next.is_sign("*") {
                self.lexer.next()?;
                return of_rows(AggregateKind::Count);
            }
            if next.is_sign(")") {
                return of_rows(AggregateKind::Count);
            }
        }
        if next.is_sign(")") {
            return malformed(format!("'{name}' needs a field"), token.start, next.end);
        }
        if plain == "topk" {
            let k = self.count(10_000)?;
            self.expect_sign(",")?;
            let of = self.expression()?;
            return Ok(AggregateCall {
                kind: AggregateKind::TopValues(k),
                of: Some(of),
            });
        }
        let of = self.expression()?;
        let kind = match plain {
            "count" | "countovertime" => AggregateKind::Count,
            "countdistinct" => AggregateKind::CountDistinct,
            "sum" | "sumovertime" => AggregateKind::Sum,
            "avg" => AggregateKind::Average,
            "min" => AggregateKind::Minimum,
            "max" => AggregateKind::Maximum,
            "stddev" => AggregateKind::Deviation,
            "variance" => AggregateKind::Variance,
            "values" => AggregateKind::Values,
            "earliest" => AggregateKind::Earliest,
            "latest" => AggregateKind::Latest,
            "sortsfirst" => AggregateKind::SortsFirst,
            "sortslast" => AggregateKind::SortsLast,
            "pct" => {
                self.expect_sign(",")?;
                let token = self.lexer.next()?;
                let percent = match &token.kind {
                    Kind::Number(text) => text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent)),
                    _ => return self.unexpected(&token, "a number from 0 to 100"),
                };
                match percent {
                    Some(percent) => AggregateKind::Percentile(percent),
                    None => return malformed("a percentile lies from 0 to 100", token.start, token.end),
                }
            }
            "rate" => {
                self.expect_sign(",")?;
                AggregateKind::Rate(self.period()?)
            }
            "histogram" => {
                self.expect_sign(",")?;
                AggregateKind::Histogram(self.count(1_000)?)
            }
            _ => return malformed(format!("there is no aggregate '{name}'"), token.start, token.end),
        };
        Ok(AggregateCall { kind, of: Some(of) })
    }
}

/// Names without `_`, in lower case.
fn is_aggregate(plain: &str) -> bool {
    matches!(
        plain,
        "count"
            | "countovertime"
            | "countdistinct"
            | "sum"
            | "sumovertime"
            | "avg"
            | "min"
            | "max"
            | "stddev"
            | "variance"
            | "values"
            | "topk"
            | "earliest"
            | "latest"
            | "sortsfirst"
            | "sortslast"
            | "pct"
            | "rate"
            | "histogram"
    )
}
