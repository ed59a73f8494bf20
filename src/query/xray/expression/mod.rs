//! X-Ray's filter expressions: `service("api") { fault = true AND responsetime > 2 } AND annotation.tenant = "a"`.
//!
//! ```text
//! or          = and { OR and }
//! and         = not { [AND] not }                      side by side means AND
//! not         = ( "!" | NOT ) not | "(" or ")" | complex | condition
//! complex     = ( service "(" [id] ")" | edge "(" [id] "," [id] ")" | rootcause.KIND.PART ) [ "{" or "}" ]
//! id          = "name" | id "(" name|type|account.id ":" "value" { "," … } ")"
//! condition   = keyword [ operator value ]             a boolean keyword alone means = true
//!             | rootcause.json ( "=" | "!=" ) "#" JSON
//! keyword     = name | annotation.key | annotation[key]
//! operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | CONTAINS | BEGINSWITH | ENDSWITH
//! value       = "text" | number | true | false
//! KIND        = fault | error | responsetime
//! PART        = service | entity | exception
//! ```
//!
//! Keywords and words are of any case, texts are compared to the letter. Of a keyword with many values one that passes is enough, and one
//! without any passes no test. `group.name` and `group.arn` are of the groups whose expression lets the trace through
//! ([`Expression::with_groups`]).
//!
//! # Elements of lists
//!
//! `first`, `last` and `index` (from 0) are of the element that braces ask about: a service of a root cause, an entity of its service's
//! path, an exception of its entity; outside of root causes, a segment among those of the trace, in order of display. `remote` is of an
//! entity, or of a segment that was called and sends none itself; `coverage` is of an entity of a response time's root cause.
//!
//! # Root causes as JSON
//!
//! `rootcause.json = #[{"Services": [{"Name": "api", "EntityPath": [{"Name": "api"}, {"Name": "*"}]}]}]`: a root cause, of a fault, an error or
//! a response time, as summaries show it. Members that are not named are not looked at, lists have as many elements, and `"*"` is anything.

mod lexer;
mod parser;

use std::fmt;

/// Longest expression, characters, as the service has it.
pub const MAX_CHARS: usize = 2_000;

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
    /// A part of a root cause of which this holds.
    RootCause(CauseKind, CausePart, Box<Expression>),
    /// A root cause that looks like one of these, or with `false` none.
    RootCauseJson(Vec<serde_json::Value>, bool),
}

/// Root causes of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseKind {
    /// Of a fault.
    Fault,
    /// Of an error.
    Error,
    /// Of the response time.
    ResponseTime,
}

impl CauseKind {
    /// All of them.
    pub const ALL: [CauseKind; 3] = [CauseKind::Fault, CauseKind::Error, CauseKind::ResponseTime];
}

/// What of a root cause is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CausePart {
    /// A service on the way.
    Service,
    /// A segment or subsegment of such a service.
    Entity,
    /// An exception of such an entity.
    Exception,
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
    First,
    Last,
    Remote,
}

/// Keywords that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "X-Ray's own words")]
pub enum Number {
    ResponseTime,
    Duration,
    HttpStatus,
    Index,
    Coverage,
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

impl Expression {
    /// Whether it asks for groups.
    pub fn names_groups(&self) -> bool {
        match self {
            Expression::All => false,
            Expression::And(parts) | Expression::Or(parts) => parts.iter().any(Expression::names_groups),
            Expression::Not(inner) | Expression::Service(_, inner) | Expression::Edge(_, _, inner) | Expression::RootCause(_, _, inner) => inner.names_groups(),
            Expression::RootCauseJson(..) => false,
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
            Expression::RootCause(kind, part, inner) => Expression::RootCause(kind, part, Box::new(inner.with_groups(groups))),
            Expression::All | Expression::Condition(..) | Expression::RootCauseJson(..) => self,
        }
    }
}

#[cfg(test)]
mod tests;
