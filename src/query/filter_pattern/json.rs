//! Patterns over events that are one JSON object: `{ $.a.b[0] = "x*" && ($.n > 5 || $.x IS NULL) }`.
//!
//! | write | passes if the selected value |
//! |---|---|
//! | `$.a = "text"`, `$.a != "text"` | is, or is not, this text; a `*` is any run of characters, `\*` a star; without quotes only letters, digits and `_ . - + : / *` |
//! | `$.a = 5`, `!=`, `<`, `<=`, `>`, `>=` with `-1.5e+3` | is a number that compares so; `=` and `!=` without quotes also compare the text of a string |
//! | `$.a = *` | is a text, a number or a flag |
//! | `$.a = %regex%`, `$.a != %regex%` | is a text, or a number as written here, in which it is found, or is not |
//! | `$.a IS NULL`, `IS TRUE`, `IS FALSE` | is this |
//! | `$.a NOT EXISTS` | is not there |
//!
//! Selectors: `$.name` of letters, digits, `_` and `-`; `$.['any name']` or `$["any name"]`; `[0]`; one wildcard each, `.*` any member,
//! `[*]` any item, of which one must pass; three in a pattern. Comparisons never pass on `null`, objects, arrays or what
//! is not there, `!=` included. `&&` binds tighter than `||`; parentheses group.
//!
//! The event is walked once, with what no selector names passed over; nothing of it is kept. Of a name that stands twice in an
//! object either value may pass. Nesting beyond what serde_json reads (128 levels) is no JSON.

use std::collections::BTreeMap;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cursor::Cursor;
use super::glob::{Glob, body_holds};
use super::regex::Regex;
use super::{Condition, Error, MAX_REGEXES, Result};
use crate::query::conditions::Number;
use crate::query::{Bound, Query, Test};

/// Wildcards of one selector and of one pattern.
const MAX_WILDCARDS: (usize, usize) = (1, 3);
/// Steps of a selector that the index answers for: names of fields in bodies go no deeper.
const MAX_INDEXED_STEPS: usize = 31;

/// A JSON pattern.
#[derive(Clone, Debug)]
pub struct JsonPattern {
    tests: Vec<SelectorTest>,
    /// Over the numbers of tests.
    condition: Condition<usize>,
    n_regexes: usize,
}

#[derive(Clone, Debug)]
struct SelectorTest {
    /// As written.
    written: String,
    steps: Vec<Step>,
    value: ValueTest,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Item(usize),
    AnyMember,
    AnyItem,
}

#[derive(Clone, Debug)]
enum ValueTest {
    /// A text in quotes, or without.
    Text {
        glob: Glob,
        is_quoted: bool,
        negated: bool,
    },
    Number {
        operator: Comparison,
        number: Number,
        written: String,
    },
    Found {
        regex: Regex,
        negated: bool,
    },
    Null,
    Flag(bool),
    NotThere,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The operator at the cursor.
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("!=", Comparison::NotEqual),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find_map(|(sign, operator)| cursor.eat(sign).then_some(operator))
    }

    fn passes(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// `5`, `-1.5`, `+1e-3`.
fn read_number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit()) && unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    // a double too large for one is no number here
    Number::read(text).filter(|number| is_number && !matches!(number, Number::Double(double) if double.is_infinite()))
}

impl JsonPattern {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text);
        cursor.expect("{")?;
        let (mut tests, mut n_wildcards, mut n_regexes) = (Vec::new(), 0, 0);
        let condition = Condition::read(&mut cursor, 0, &mut |cursor| {
            let test = SelectorTest::read(cursor)?;
            n_wildcards += test.n_wildcards();
            n_regexes += usize::from(matches!(test.value, ValueTest::Found { .. }));
            tests.push(test);
            Ok(tests.len() - 1)
        })?;
        cursor.skip_space();
        cursor.expect("}")?;
        cursor.skip_space();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("nothing behind `}`"));
        }
        if n_wildcards > MAX_WILDCARDS.1 {
            return Err(Error::new(format_args!("it has more than {} wildcard selectors", MAX_WILDCARDS.1)));
        }
        if n_regexes > MAX_REGEXES {
            return Err(Error::new(format_args!("it has more than {MAX_REGEXES} regular expressions")));
        }
        Ok(Self { tests, condition, n_regexes })
    }

    /// Selectors without conditions, each of one value.
    pub(super) fn of_selectors(written: &[&str]) -> Result<Self> {
        let read = |written: &&str| {
            let mut cursor = Cursor::new(written);
            let test = SelectorTest {
                written: written.to_string(),
                steps: selector(&mut cursor)?,
                value: ValueTest::NotThere,
            };
            if cursor.peek().is_some() {
                return Err(cursor.unexpected("nothing behind the selector"));
            }
            match test.n_wildcards() {
                0 => Ok(test),
                _ => Err(Error::new(format_args!("{written} selects more than one value"))),
            }
        };
        Ok(Self {
            tests: written.iter().map(read).collect::<Result<_>>()?,
            condition: Condition::And(Vec::new()),
            n_regexes: 0,
        })
    }

    pub(super) fn n_regexes(&self) -> usize {
        self.n_regexes
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let mut passed = vec![false; self.tests.len()];
        let is_object = walk(message, &self.tests, &mut |number, found| {
            passed[number] = passed[number] || self.tests[number].value.passes(found);
        });
        let holds = |number: &usize| match self.tests[*number].value {
            ValueTest::NotThere => !passed[*number],
            _ => passed[*number],
        };
        is_object && self.condition.holds(&holds)
    }

    /// The first scalar of each selector.
    pub(super) fn extract(&self, message: &str) -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> = BTreeMap::new();
        walk(message, &self.tests, &mut |number, found| {
            let written = &self.tests[number].written;
            if let Some(text) = found.text().filter(|_| !out.contains_key(written)) {
                out.insert(written.clone(), text);
            }
        });
        out
    }

    pub(super) fn prefilter(&self) -> Query {
        self.condition.prefilter(&|number| self.tests[*number].prefilter())
    }
}

impl SelectorTest {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let before = cursor.rest();
        let steps = selector(cursor)?;
        let written = before[..before.len() - cursor.rest().len()].to_string();
        cursor.skip_space();
        let test = Self {
            written,
            steps,
            value: ValueTest::read(cursor)?,
        };
        if test.n_wildcards() > MAX_WILDCARDS.0 {
            return Err(Error::new(format_args!("the selector {} has more than one wildcard", test.written)));
        }
        Ok(test)
    }

    fn n_wildcards(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::AnyMember | Step::AnyItem)).count()
    }

    /// The name that the index knows the selected values by; items of arrays have their array's.
    fn indexed_name(&self) -> Option<String> {
        if self.steps.len() > MAX_INDEXED_STEPS {
            return None;
        }
        let mut name = String::from("$");
        for step in &self.steps {
            match step {
                Step::Member(key) if !key.is_empty() => {
                    name.push('.');
                    name.push_str(key);
                }
                Step::Item(_) | Step::AnyItem => {}
                Step::Member(_) | Step::AnyMember => return None,
            }
        }
        (name.len() > 2).then_some(name)
    }

    fn prefilter(&self) -> Query {
        // a null has no value in the index; its word stands in the text whatever wrote it
        if let ValueTest::Null = self.value {
            return body_holds("null");
        }
        let Some(name) = self.indexed_name() else { return Query::All };
        let field = |test: Test| Query::Field { name: name.clone(), test };
        let number = || field(Test::Regex("^-?[0-9]".into()));
        match &self.value {
            ValueTest::Null | ValueTest::NotThere => Query::All,
            ValueTest::Flag(flag) => field(Test::Equals(flag.to_string())),
            ValueTest::Text { negated: true, .. } | ValueTest::Found { negated: true, .. } => field(Test::Exists),
            ValueTest::Text { glob, .. } if glob.is_anything() => field(Test::Exists),
            // a number's text may be written otherwise in the index
            ValueTest::Text { glob, is_quoted: false, .. } if glob.may_be_number() => Query::Or(vec![field(glob.test()), number()]),
            ValueTest::Text { glob, .. } => field(glob.test()),
            ValueTest::Found { regex, .. } => Query::Or(vec![field(regex.test()), number()]),
            ValueTest::Number { operator, number, written } => {
                let included = || Bound::Included(number.text());
                let excluded = || Bound::Excluded(number.text());
                let range = |from, to| field(Test::Range { from, to });
                match operator {
                    Comparison::Equal => Query::Or(vec![range(included(), included()), field(Test::Equals(written.clone()))]),
                    Comparison::NotEqual => field(Test::Exists),
                    Comparison::Less => range(Bound::Open, excluded()),
                    Comparison::LessOrEqual => range(Bound::Open, included()),
                    Comparison::Greater => range(excluded(), Bound::Open),
                    Comparison::GreaterOrEqual => range(included(), Bound::Open),
                }
            }
        }
    }
}

/// `$.a['b'][0]`.
fn selector(cursor: &mut Cursor<'_>) -> Result<Vec<Step>> {
    cursor.skip_space();
    if !cursor.eat("$") {
        return Err(cursor.unexpected("a selector such as `$.name`"));
    }
    let mut steps = Vec::new();
    loop {
        let has_dot = cursor.eat(".");
        if cursor.eat("[") {
            cursor.skip_space();
            let step = match cursor.peek() {
                Some(quote @ ('"' | '\'')) => {
                    let key = cursor.quoted(quote)?;
                    Step::Member(key.into_iter().map(|(character, _)| character).collect())
                }
                Some('*') => {
                    cursor.next();
                    Step::AnyItem
                }
                _ => {
                    let digits = cursor.take_while(|c| c.is_ascii_digit());
                    Step::Item(digits.parse().map_err(|_| cursor.unexpected("a number, `*` or a name in quotation marks"))?)
                }
            };
            cursor.skip_space();
            cursor.expect("]")?;
            steps.push(step);
        } else if has_dot {
            if cursor.eat("*") {
                steps.push(Step::AnyMember);
                continue;
            }
            let key = cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            if key.is_empty() {
                return Err(cursor.unexpected("a name; one with other signs is written $.['name']"));
            }
            steps.push(Step::Member(key.to_string()));
        } else {
            break;
        }
    }
    match steps.is_empty() {
        true => Err(cursor.unexpected("a name behind `$`")),
        false => Ok(steps),
    }
}

impl ValueTest {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        if let Some(operator) = Comparison::read(cursor) {
            cursor.skip_space();
            return Self::compared(cursor, operator);
        }
        let mut word = || {
            cursor.skip_space();
            cursor.take_while(char::is_alphabetic).to_ascii_uppercase()
        };
        match (word().as_str(), word().as_str()) {
            ("IS", "NULL") => Ok(ValueTest::Null),
            ("IS", "TRUE") => Ok(ValueTest::Flag(true)),
            ("IS", "FALSE") => Ok(ValueTest::Flag(false)),
            ("NOT", "EXISTS") => Ok(ValueTest::NotThere),
            ("IS", _) => Err(Error::new("`IS` is followed by NULL, TRUE or FALSE")),
            ("EXISTS", _) => Err(Error::new("`EXISTS` is not supported; compare with `= *`")),
            _ => Err(Error::new(
                "a selector is followed by an operator (= != < <= > >=), IS NULL, IS TRUE, IS FALSE or NOT EXISTS",
            )),
        }
    }

    /// What stands behind an operator.
    fn compared(cursor: &mut Cursor<'_>, operator: Comparison) -> Result<Self> {
        let is_equality = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        let negated = operator == Comparison::NotEqual;
        match cursor.peek() {
            Some('%') if is_equality => {
                return Ok(ValueTest::Found {
                    regex: Regex::read(cursor)?,
                    negated,
                });
            }
            Some('"') if is_equality => {
                return Ok(ValueTest::Text {
                    glob: Glob::new(cursor.quoted('"')?),
                    is_quoted: true,
                    negated,
                });
            }
            _ => {}
        }
        let at = cursor.clone();
        let written = cursor.take_while(|c| c.is_alphanumeric() || "_.-+:/*".contains(c));
        if written.is_empty() {
            return Err(at.unexpected(if is_equality { "a value" } else { "a number" }));
        }
        match read_number(written) {
            Some(number) => Ok(ValueTest::Number {
                operator,
                number,
                written: written.to_string(),
            }),
            None if is_equality => Ok(ValueTest::Text {
                glob: Glob::bare(written),
                is_quoted: false,
                negated,
            }),
            None => Err(at.unexpected("a number")),
        }
    }

    fn passes(&self, found: &Found<'_>) -> bool {
        match (self, found) {
            (ValueTest::NotThere, _) => true,
            (_, Found::Container) => false,
            (ValueTest::Null, found) => matches!(found, Found::Null),
            (_, Found::Null) => false,
            (ValueTest::Flag(flag), found) => matches!(found, Found::Flag(other) if other == flag),
            (ValueTest::Text { glob, negated, .. }, Found::Text(text)) => glob.matches(text) != *negated,
            (ValueTest::Text { glob, negated, .. }, Found::Flag(_)) => glob.is_anything() != *negated,
            (ValueTest::Text { glob, is_quoted, negated }, Found::Number(number)) => {
                let is_match = glob.is_anything() || (!is_quoted && glob.matches(&number.text()));
                is_match != *negated
            }
            (ValueTest::Number { operator, number, .. }, Found::Number(other)) => operator.passes(other.compare(*number)),
            (ValueTest::Number { operator, written, .. }, Found::Text(text)) => match operator {
                Comparison::Equal => written == text,
                Comparison::NotEqual => written != text,
                _ => false,
            },
            (ValueTest::Number { operator, .. }, Found::Flag(_)) => *operator == Comparison::NotEqual,
            (ValueTest::Found { regex, negated }, Found::Text(text)) => regex.is_match(text) != *negated,
            (ValueTest::Found { regex, negated }, Found::Number(number)) => regex.is_match(&number.text()) != *negated,
            (ValueTest::Found { negated, .. }, Found::Flag(_)) => *negated,
        }
    }
}

/// What a selector selects.
enum Found<'a> {
    Text(&'a str),
    Number(Number),
    Flag(bool),
    Null,
    /// An object or an array.
    Container,
}

impl Found<'_> {
    fn text(&self) -> Option<String> {
        match self {
            Found::Text(text) => Some(text.to_string()),
            Found::Number(number) => Some(number.text()),
            Found::Flag(flag) => Some(flag.to_string()),
            Found::Null | Found::Container => None,
        }
    }
}

/// Calls `seen(test, value)` for all that the tests' selectors select, if the text is one JSON object; returns whether it is.
fn walk(message: &str, tests: &[SelectorTest], seen: &mut dyn FnMut(usize, &Found<'_>)) -> bool {
    if !crate::model::json::looks_like_object(message) {
        return false;
    }
    let mut json = serde_json::Deserializer::from_str(message);
    let mut walk = Walk { tests, seen };
    let root = Node {
        walk: &mut walk,
        open: (0..tests.len()).map(|test| (test, 0)).collect(),
    };
    root.deserialize(&mut json).is_ok() && json.end().is_ok()
}

struct Walk<'a> {
    tests: &'a [SelectorTest],
    seen: &'a mut dyn FnMut(usize, &Found<'_>),
}

/// A value on the way of some selectors: tests, each with how many of its steps lead here.
struct Node<'a, 'w> {
    walk: &'a mut Walk<'w>,
    open: Vec<(usize, usize)>,
}

impl Node<'_, '_> {
    fn tell(&mut self, found: &Found<'_>) {
        for (test, taken) in &self.open {
            if self.walk.tests[*test].steps.len() == *taken {
                (self.walk.seen)(*test, found);
            }
        }
    }
}

/// The selectors that go on through a step.
fn beyond(tests: &[SelectorTest], open: &[(usize, usize)], is_taken: impl Fn(&Step) -> bool) -> Vec<(usize, usize)> {
    let next = |(test, taken): &(usize, usize)| {
        let step = tests[*test].steps.get(*taken)?;
        is_taken(step).then_some((*test, taken + 1))
    };
    open.iter().filter_map(next).collect()
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.tell(&Found::Flag(value));
        Ok(())
    }
    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.tell(&Found::Number(Number::Whole(value.into())));
        Ok(())
    }
    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.tell(&Found::Number(Number::Whole(value.into())));
        Ok(())
    }
    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.tell(&Found::Number(Number::Double(value)));
        Ok(())
    }
    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.tell(&Found::Text(value));
        Ok(())
    }
    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.tell(&Found::Null);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.tell(&Found::Container);
        let is_of_items = |step: &Step| matches!(step, Step::Item(_) | Step::AnyItem);
        let wanted: Vec<(usize, usize)> = beyond(self.walk.tests, &self.open, is_of_items)
            .into_iter()
            .map(|(test, taken)| (test, taken - 1))
            .collect();
        for number in 0.. {
            let open = beyond(self.walk.tests, &wanted, |step| matches!(step, Step::AnyItem) || *step == Step::Item(number));
            let has_more = match open.is_empty() {
                true => items.next_element::<IgnoredAny>()?.is_some(),
                false => items.next_element_seed(Node { walk: self.walk, open })?.is_some(),
            };
            if !has_more {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.tell(&Found::Container);
        let tests = self.walk.tests;
        while let Some(open) = members.next_key_seed(Name { tests, open: &self.open })? {
            match open.is_empty() {
                true => drop(members.next_value::<IgnoredAny>()?),
                false => members.next_value_seed(Node { walk: self.walk, open })?,
            }
        }
        Ok(())
    }
    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<(), E> {
        Err(E::custom("bytes are no JSON"))
    }
}

/// A member's name; gives the selectors that go on through it.
struct Name<'a> {
    tests: &'a [SelectorTest],
    open: &'a [(usize, usize)],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Vec<(usize, usize)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Vec<(usize, usize)>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(beyond(self.tests, self.open, |step| match step {
            Step::Member(key) => key == name,
            Step::AnyMember => true,
            Step::Item(_) | Step::AnyItem => false,
        }))
    }
}
