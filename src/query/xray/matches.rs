//! Whether a filter expression holds of a trace.

use super::causes::{self, RootCause};
use super::expression::{CauseKind, CausePart, Expression, Flag, Id, Keyword, Number, Operator, Test, TextOf, Value};
use super::facts::{self, Annotation, Flags, Segment, Service, TraceFacts, names};
use crate::query::SpanHit;

/// Of what a condition is asked.
#[derive(Clone, Copy)]
enum Subject<'a> {
    /// The whole trace.
    Trace,
    /// A segment, with its subsegments.
    Segment(usize, &'a Segment),
    /// The call that led to a segment: its number, the segment, the span that calls.
    Call(usize, &'a Segment, usize),
    /// A part of a root cause.
    Element(Element<'a>),
}

/// A part of a root cause, and its place among those beside it.
#[derive(Clone, Copy)]
struct Element<'a> {
    name: &'a str,
    kind: &'a str,
    message: Option<&'a str>,
    is_remote: bool,
    is_inferred: bool,
    coverage: Option<f64>,
    index: usize,
    count: usize,
}

/// The parts of a root cause that are asked about.
fn elements<'a>(cause: &'a RootCause<'_>, part: CausePart) -> Vec<Element<'a>> {
    let mut out = Vec::new();
    for (index, service) in cause.services.iter().enumerate() {
        let of_service = Element {
            name: &service.service.name,
            kind: &service.service.kind,
            message: None,
            is_remote: false,
            is_inferred: service.is_inferred,
            coverage: service.entities.first().and_then(|entity| entity.coverage),
            index,
            count: cause.services.len(),
        };
        if part == CausePart::Service {
            out.push(of_service);
            continue;
        }
        for (index, entity) in service.entities.iter().enumerate() {
            let of_entity = Element {
                name: entity.name,
                is_remote: entity.is_remote,
                coverage: entity.coverage,
                index,
                count: service.entities.len(),
                ..of_service
            };
            if part == CausePart::Entity {
                out.push(of_entity);
                continue;
            }
            let exceptions = entity.exceptions.iter().enumerate().map(|(index, (name, message))| Element {
                name,
                message: Some(*message),
                index,
                count: entity.exceptions.len(),
                ..of_entity
            });
            out.extend(exceptions);
        }
    }
    out
}

impl Expression {
    /// Whether it holds of a trace.
    pub fn holds(&self, trace: &TraceFacts<'_>) -> bool {
        self.holds_of(trace, Subject::Trace)
    }

    // as deep as the parser lets it be
    fn holds_of(&self, trace: &TraceFacts<'_>, subject: Subject<'_>) -> bool {
        match self {
            Expression::All => true,
            Expression::And(all) => all.iter().all(|part| part.holds_of(trace, subject)),
            Expression::Or(any) => any.iter().any(|part| part.holds_of(trace, subject)),
            Expression::Not(inner) => !inner.holds_of(trace, subject),
            Expression::Condition(keyword, test) => condition(trace, subject, keyword, test),
            // the clients outside stand for the requests that come from there: those of segments without a caller
            Expression::Service(id, inner) if id.is_client() => {
                let mut entries = trace.segments.iter().enumerate().filter(|(_, segment)| id.is_client_of(trace, segment));
                entries.any(|(at, segment)| inner.holds_of(trace, Subject::Segment(at, segment)))
            }
            Expression::Service(id, inner) => {
                let of_id = trace.segments.iter().enumerate().filter(|(_, segment)| id.is_of(trace.service(segment)));
                of_id.into_iter().any(|(at, segment)| inner.holds_of(trace, Subject::Segment(at, segment)))
            }
            Expression::Edge(from, to, inner) => trace.segments.iter().enumerate().any(|(at, segment)| {
                // that of the client outside too: of one that is not named, or is by its type
                let may_be_client = from.is_client() || (from.name.is_none() && from.kind.is_none());
                if may_be_client && from.is_client_of(trace, segment) {
                    return to.is_of(trace.service(segment)) && inner.holds_of(trace, Subject::Segment(at, segment));
                }
                let call = segment.caller.zip(segment.call);
                call.is_some_and(|(caller, call)| {
                    from.is_of(trace.service(&trace.segments[caller]))
                        && to.is_of(trace.service(segment))
                        && inner.holds_of(trace, Subject::Call(at, segment, call))
                })
            }),
            Expression::RootCause(kind, part, inner) => {
                let causes = trace.root_causes(*kind);
                let mut parts = causes.iter().flat_map(|cause| elements(cause, *part));
                parts.any(|element| inner.holds_of(trace, Subject::Element(element)))
            }
            Expression::RootCauseJson(patterns, is_like) => {
                let of_kind = |kind: CauseKind| trace.root_causes(kind).iter().map(RootCause::to_json).collect::<Vec<_>>();
                let told: Vec<_> = CauseKind::ALL.into_iter().flat_map(of_kind).collect();
                let is_there = patterns.iter().any(|pattern| told.iter().any(|cause| causes::is_like(cause, pattern)));
                is_there == *is_like
            }
        }
    }
}

impl Id {
    /// Whether a service is meant.
    pub fn is_of(&self, service: &Service) -> bool {
        let is = |asked: &Option<String>, value: &str| asked.as_ref().is_none_or(|asked| asked == value);
        is(&self.name, &service.name) && is(&self.kind, &service.kind) && is(&self.account_id, &service.account_id)
    }

    /// Whether a client outside is meant, as service graphs have one before each service that is called from there.
    fn is_client(&self) -> bool {
        self.kind.as_deref() == Some(facts::CLIENT)
    }

    /// Whether it is the one that calls this segment.
    fn is_client_of(&self, trace: &TraceFacts<'_>, segment: &Segment) -> bool {
        let is_called = segment.caller.is_none() && matches!(trace.span(segment).kind.as_str(), "SERVER" | "CONSUMER");
        is_called && self.is_of(&facts::client_of(trace.service(segment)))
    }
}

fn condition(trace: &TraceFacts<'_>, subject: Subject<'_>, keyword: &Keyword, test: &Test) -> bool {
    match keyword {
        Keyword::Flag(flag) => {
            let is = flag_of(trace, subject, *flag);
            let expected = test.value == Value::Boolean(true);
            (is == expected) == (test.operator == Operator::Equal)
        }
        Keyword::Number(number) => numbers(trace, subject, *number).any(|value| test.passes_number(value)),
        Keyword::Text(text) => texts(trace, subject, *text).any(|value| test.passes_text(value)),
        // of groups that nobody named
        Keyword::Group(_) => false,
        Keyword::Annotation(key) => {
            let of_key = spans(trace, subject).flat_map(facts::annotations).filter(|one| one.is_called(key));
            of_key.into_iter().any(|one| test.passes_annotation(one))
        }
    }
}

/// The spans that a condition looks at: of a segment with its subsegments, but of an inferred one the call alone.
fn spans<'t>(trace: &'t TraceFacts<'_>, subject: Subject<'t>) -> Box<dyn Iterator<Item = &'t SpanHit> + 't> {
    match subject {
        Subject::Trace => Box::new(trace.trace.spans.iter().map(|placed| &placed.span)),
        Subject::Segment(_, segment) if segment.is_inferred => Box::new(std::iter::once(trace.span(segment))),
        Subject::Segment(at, _) => Box::new(trace.spans_of[at].iter().map(|span| &trace.trace.spans[*span].span)),
        Subject::Call(_, _, call) => Box::new(std::iter::once(&trace.trace.spans[call].span)),
        Subject::Element(_) => Box::new(std::iter::empty()),
    }
}

/// A segment's place among those of the trace.
fn place(trace: &TraceFacts<'_>, subject: Subject<'_>) -> Option<(usize, usize)> {
    let count = trace.segments.len();
    match subject {
        Subject::Trace => None,
        Subject::Segment(at, _) | Subject::Call(at, ..) => Some((at, count)),
        Subject::Element(element) => Some((element.index, element.count)),
    }
}

/// The one span that says how it went: the root's, the segment's, or the called segment's.
fn chief<'t>(trace: &TraceFacts<'t>, subject: Subject<'_>) -> Option<&'t SpanHit> {
    match subject {
        Subject::Trace => trace.root_span(),
        Subject::Element(_) => None,
        Subject::Segment(_, segment) | Subject::Call(_, segment, _) => Some(trace.span(segment)),
    }
}

fn flag_of(trace: &TraceFacts<'_>, subject: Subject<'_>, flag: Flag) -> bool {
    match (flag, subject) {
        (Flag::First, _) => return place(trace, subject).is_some_and(|(at, _)| at == 0),
        (Flag::Last, _) => return place(trace, subject).is_some_and(|(at, count)| at + 1 == count),
        (Flag::Remote, Subject::Element(element)) => return element.is_remote,
        (Flag::Inferred, Subject::Element(element)) => return element.is_inferred,
        (_, Subject::Element(_)) => return false,
        _ => {}
    }
    let flags = match subject {
        Subject::Trace => trace.flags(),
        Subject::Segment(_, segment) => facts::flags(trace.span(segment)),
        // as the caller saw it, and as the callee says
        Subject::Call(_, segment, call) => {
            let (caller, callee) = (facts::flags(&trace.trace.spans[call].span), facts::flags(trace.span(segment)));
            Flags {
                error: caller.error || callee.error,
                fault: caller.fault || callee.fault,
                throttle: caller.throttle || callee.throttle,
            }
        }
        Subject::Element(_) => Flags::default(),
    };
    let inferred = |segment: &Segment| segment.is_inferred || facts::of_span(trace.span(segment), &["aws.xray.inferred"]) == Some("true");
    match flag {
        Flag::Ok => flags.is_ok(),
        Flag::Error => flags.error,
        Flag::Fault => flags.fault,
        Flag::Throttle => flags.throttle,
        Flag::Partial => match subject {
            Subject::Trace => trace.is_partial(),
            _ => chief(trace, subject).is_some_and(|span| span.in_progress),
        },
        Flag::Inferred => match subject {
            Subject::Trace => trace.segments.iter().any(inferred),
            Subject::Segment(_, segment) | Subject::Call(_, segment, _) => inferred(segment),
            Subject::Element(_) => false,
        },
        Flag::Remote => match subject {
            Subject::Trace => trace.segments.iter().any(|segment| segment.is_inferred),
            Subject::Segment(_, segment) | Subject::Call(_, segment, _) => segment.is_inferred,
            Subject::Element(_) => false,
        },
        Flag::First | Flag::Last => false,
        Flag::Root => match subject {
            Subject::Trace => trace.root.is_some(),
            Subject::Segment(at, _) => trace.root == Some(at),
            Subject::Call(..) | Subject::Element(_) => false,
        },
    }
}

fn numbers<'t>(trace: &'t TraceFacts<'_>, subject: Subject<'t>, number: Number) -> Box<dyn Iterator<Item = f64> + 't> {
    let took = || {
        let chief = chief(trace, subject).filter(|span| !span.in_progress);
        chief.map(|span| facts::seconds(span.duration_nano))
    };
    match (number, subject) {
        (Number::Index, _) => Box::new(place(trace, subject).map(|(at, _)| at as f64).into_iter()),
        (Number::Coverage, Subject::Element(element)) => Box::new(element.coverage.into_iter()),
        (Number::Coverage, _) => Box::new(std::iter::empty()),
        (Number::ResponseTime, Subject::Trace) => Box::new(trace.response_time().into_iter()),
        (Number::Duration, Subject::Trace) => Box::new(std::iter::once(trace.duration())),
        // as the caller waited
        (Number::ResponseTime, Subject::Call(_, _, call)) => {
            let call = Some(&trace.trace.spans[call].span).filter(|span| !span.in_progress);
            Box::new(call.map(|span| facts::seconds(span.duration_nano)).into_iter())
        }
        (Number::ResponseTime | Number::Duration, _) => Box::new(took().into_iter()),
        (Number::HttpStatus, _) => Box::new(spans(trace, subject).filter_map(|span| facts::of_span(span, names::STATUS)?.parse().ok())),
    }
}

fn texts<'t>(trace: &'t TraceFacts<'_>, subject: Subject<'t>, text: TextOf) -> Box<dyn Iterator<Item = &'t str> + 't> {
    let of_spans = |names: &'static [&'static str]| spans(trace, subject).filter_map(move |span| facts::of_span(span, names));
    let of_resources = |names: &'static [&'static str]| spans(trace, subject).filter_map(move |span| facts::of_resource(span, names));
    let service = move |of: fn(&Service) -> &String| -> Box<dyn Iterator<Item = &'t str> + 't> {
        match subject {
            Subject::Trace => Box::new(trace.services.iter().map(move |service| of(service).as_str())),
            Subject::Element(_) => Box::new(std::iter::empty()),
            Subject::Segment(_, segment) | Subject::Call(_, segment, _) => Box::new(std::iter::once(of(&trace.services[segment.service]).as_str())),
        }
    };
    if let Subject::Element(element) = subject {
        let value = match text {
            TextOf::Name => Some(element.name),
            TextOf::Type => Some(element.kind),
            TextOf::Message => element.message,
            _ => None,
        };
        return Box::new(value.filter(|value| !value.is_empty()).into_iter());
    }
    match text {
        TextOf::Url => Box::new(of_spans(names::URL)),
        TextOf::Method => Box::new(of_spans(names::METHOD)),
        TextOf::UserAgent => Box::new(of_spans(names::USER_AGENT)),
        TextOf::ClientIp => Box::new(of_spans(names::CLIENT_IP)),
        TextOf::User => Box::new(of_spans(names::USER)),
        TextOf::Name => service(|service| &service.name),
        TextOf::Type => service(|service| &service.kind),
        TextOf::Message => Box::new(spans(trace, subject).flat_map(|span| {
            let exceptions = span
                .events
                .iter()
                .filter_map(|event| facts::attribute(&event.attributes, &["exception.message"]));
            span.status_message.as_deref().into_iter().chain(exceptions)
        })),
        TextOf::AvailabilityZone => Box::new(of_resources(&["cloud.availability_zone"])),
        TextOf::InstanceId => Box::new(of_resources(&["host.id"])),
        TextOf::ResourceArn => Box::new(of_resources(&["aws.xray.resource_arn", "cloud.resource_id"])),
    }
}

impl Test {
    fn passes_number(&self, value: f64) -> bool {
        let Value::Number(asked) = self.value else { return false };
        match self.operator {
            Operator::Equal => value == asked,
            Operator::NotEqual => value != asked,
            Operator::Less => value < asked,
            Operator::LessOrEqual => value <= asked,
            Operator::Greater => value > asked,
            Operator::GreaterOrEqual => value >= asked,
            Operator::Contains | Operator::BeginsWith | Operator::EndsWith => false,
        }
    }

    pub(super) fn passes_text(&self, value: &str) -> bool {
        let Value::Text(asked) = &self.value else { return false };
        match self.operator {
            Operator::Equal => value == asked,
            Operator::NotEqual => value != asked,
            Operator::Contains => value.contains(asked.as_str()),
            Operator::BeginsWith => value.starts_with(asked.as_str()),
            Operator::EndsWith => value.ends_with(asked.as_str()),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => false,
        }
    }

    /// The store keeps annotations as text: what reads as a number is one, unless it came as text.
    fn passes_annotation(&self, Annotation { value, is_text, .. }: Annotation<'_>) -> bool {
        match &self.value {
            Value::Text(_) => self.passes_text(value),
            Value::Number(_) | Value::Boolean(_) if is_text => false,
            Value::Number(_) => value.parse().is_ok_and(|number| self.passes_number(number)),
            Value::Boolean(asked) => (value == if *asked { "true" } else { "false" }) == (self.operator == Operator::Equal),
        }
    }
}

#[cfg(test)]
mod tests;
