//! Root causes: where in a trace its faults, its errors and its response time come from, as summaries tell them.
//!
//! | of | the way |
//! |---|---|
//! | a fault, an error | for each span that has the flag and no child that has it: the spans above it that have the flag too, without a gap, down to it. Errors that are faults as well are faults |
//! | the response time | from the root to the child that takes longest, as long as that takes at least half of its parent's time |
//!
//! A way is told as services, each with its entities: the segment or subsegments on the way that are of it. If it ends in the call of
//! somebody who sends no segments, that inferred service is its end. What the last entity raised are its exceptions. A cause impacts the
//! client when the way begins at the trace's root.
//!
//! At most [`MAX_CAUSES`] of a kind are told, equal ones once; of a way longer than [`MAX_PATH`] its end.

use serde_json::{Value, json};

use super::expression::CauseKind;
use super::facts::{self, Service, TraceFacts};
use crate::query::SpanHit;

/// Root causes of one kind in one trace.
pub const MAX_CAUSES: usize = 20;
/// Spans of one way.
pub const MAX_PATH: usize = 100;

/// A root cause.
#[derive(Clone, Debug, PartialEq)]
pub struct RootCause<'a> {
    /// The way, from outside to inside.
    pub services: Vec<CauseService<'a>>,
    /// Whether it begins at the root.
    pub client_impacting: bool,
}

/// A service on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseService<'a> {
    /// Who.
    pub service: &'a Service,
    /// Of a service that sends no segments.
    pub is_inferred: bool,
    /// Its segment and subsegments on the way.
    pub entities: Vec<Entity<'a>>,
}

/// A segment or subsegment on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is a call.
    pub is_remote: bool,
    /// Its share of the root's time; of response times alone.
    pub coverage: Option<f64>,
    /// Type and message of each.
    pub exceptions: Vec<(&'a str, &'a str)>,
}

impl TraceFacts<'_> {
    /// The root causes of a kind.
    pub fn root_causes(&self, kind: CauseKind) -> Vec<RootCause<'_>> {
        let ways = match kind {
            CauseKind::Fault => self.ways(|span| facts::flags(span).fault),
            CauseKind::Error => self.ways(|span| {
                let flags = facts::flags(span);
                flags.error && !flags.fault
            }),
            CauseKind::ResponseTime => self.slowest_way().into_iter().collect(),
        };
        let mut causes: Vec<RootCause<'_>> = Vec::new();
        for way in ways {
            let cause = self.told(&way, kind);
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        causes
    }

    /// Of each span that is bad and has no bad child, the numbers of those on the way to it.
    fn ways(&self, is_bad: impl Fn(&SpanHit) -> bool) -> Vec<Vec<usize>> {
        let spans = &self.trace.spans;
        let bad: Vec<bool> = spans.iter().map(|placed| is_bad(&placed.span)).collect();
        let mut has_bad_child = vec![false; spans.len()];
        for (at, placed) in spans.iter().enumerate() {
            if let Some(parent) = placed.parent.filter(|_| bad[at]) {
                has_bad_child[parent] = true;
            }
        }
        let ends = (0..spans.len()).filter(|at| bad[*at] && !has_bad_child[*at]);
        let way = |end: usize| {
            let mut way = vec![end];
            let mut above = spans[end].parent;
            while let Some(at) = above.filter(|at| bad[*at]) {
                way.push(at);
                above = spans[at].parent;
            }
            way.reverse();
            way
        };
        ends.take(MAX_CAUSES).map(way).collect()
    }

    /// From the root down to where its time goes.
    fn slowest_way(&self) -> Option<Vec<usize>> {
        let spans = &self.trace.spans;
        let root = self.segments[self.root?].span;
        if spans[root].span.in_progress || spans[root].span.duration_nano <= 0 {
            return None;
        }
        // children stand behind their parents
        let mut longest: Vec<Option<usize>> = vec![None; spans.len()];
        for (at, placed) in spans.iter().enumerate() {
            let Some(parent) = placed.parent.filter(|_| !placed.span.in_progress) else {
                continue;
            };
            let is_longer = |known: usize| placed.span.duration_nano > spans[known].span.duration_nano;
            if longest[parent].is_none_or(is_longer) {
                longest[parent] = Some(at);
            }
        }
        let mut way = vec![root];
        let mut at = root;
        while let Some(child) = longest[at].filter(|child| spans[*child].span.duration_nano >= spans[at].span.duration_nano / 2) {
            way.push(child);
            at = child;
        }
        Some(way)
    }

    fn told(&self, way: &[usize], kind: CauseKind) -> RootCause<'_> {
        let spans = &self.trace.spans;
        let root = self.root.map(|root| self.segments[root].span);
        let client_impacting = way.first().copied() == root;
        let root_nanos = root.map_or(0, |root| spans[root].span.duration_nano).max(1) as f64;
        let way = &way[way.len().saturating_sub(MAX_PATH)..];
        let mut services: Vec<CauseService<'_>> = Vec::new();
        let mut last_segment = None;
        for (nth, at) in way.iter().enumerate() {
            let span = &spans[*at].span;
            let segment = self.segment_of[*at];
            let entity = Entity {
                name: self.entity_name(*at),
                is_remote: facts::is_call(span),
                coverage: (kind == CauseKind::ResponseTime).then(|| (span.duration_nano as f64 / root_nanos).min(1.0)),
                exceptions: if nth + 1 == way.len() { exceptions(span) } else { Vec::new() },
            };
            if last_segment != Some(segment) {
                services.push(CauseService {
                    service: self.service(&self.segments[segment]),
                    is_inferred: false,
                    entities: Vec::new(),
                });
            }
            let Some(service) = services.last_mut() else { continue };
            // the segment around a call that is in none
            if self.is_split(*at) {
                service.entities.push(Entity {
                    name: &service.service.name,
                    is_remote: false,
                    coverage: entity.coverage,
                    exceptions: Vec::new(),
                });
            }
            service.entities.push(entity);
            last_segment = Some(segment);
        }
        let end = way.last().copied();
        if let Some(inferred) = self.segments.iter().find(|segment| segment.is_inferred && Some(segment.span) == end) {
            let service = self.service(inferred);
            let coverage = services.last().and_then(|service| service.entities.last()).and_then(|entity| entity.coverage);
            services.push(CauseService {
                service,
                is_inferred: true,
                entities: vec![Entity {
                    name: &service.name,
                    is_remote: false,
                    coverage,
                    exceptions: Vec::new(),
                }],
            });
        }
        RootCause { services, client_impacting }
    }

    /// A segment is named as its service, a subsegment as its span.
    fn entity_name(&self, at: usize) -> &str {
        let segment = &self.segments[self.segment_of[at]];
        match segment.span == at && !self.is_split(at) {
            true => &self.service(segment).name,
            false => &self.trace.spans[at].span.name,
        }
    }
}

fn exceptions(span: &SpanHit) -> Vec<(&str, &str)> {
    let raised = span.events.iter().filter(|event| event.name.as_deref() == Some("exception"));
    raised
        .map(|event| {
            let of = |name: &str| facts::attribute(&event.attributes, &[name]).unwrap_or_default();
            (of("exception.type"), of("exception.message"))
        })
        .collect()
}

impl RootCause<'_> {
    /// As `FaultRootCause` and its like of the API.
    pub fn to_json(&self) -> Value {
        let entity = |entity: &Entity<'_>| {
            let mut out = json!({ "Name": entity.name, "Remote": entity.is_remote });
            match entity.coverage {
                Some(coverage) => out["Coverage"] = coverage.into(),
                None => {
                    let exceptions = entity.exceptions.iter().map(|(name, message)| json!({ "Name": name, "Message": message }));
                    out["Exceptions"] = exceptions.collect();
                }
            }
            out
        };
        let service = |service: &CauseService<'_>| {
            let mut out = service.service.to_json();
            out["Inferred"] = service.is_inferred.into();
            out["EntityPath"] = service.entities.iter().map(entity).collect();
            out
        };
        json!({
            "Services": self.services.iter().map(service).collect::<Vec<_>>(),
            "ClientImpacting": self.client_impacting,
        })
    }
}

/// Whether a root cause, as the API tells it, looks like a pattern: see [`super::expression`].
pub fn is_like(told: &Value, pattern: &Value) -> bool {
    match (told, pattern) {
        (_, Value::String(any)) if any == "*" => true,
        (Value::Object(told), Value::Object(pattern)) => pattern.iter().all(|(member, pattern)| match told.get(member) {
            Some(value) => is_like(value, pattern),
            None => pattern.is_null(),
        }),
        (Value::Array(told), Value::Array(pattern)) => told.len() == pattern.len() && told.iter().zip(pattern).all(|(told, pattern)| is_like(told, pattern)),
        (Value::Number(told), Value::Number(pattern)) => told.as_f64() == pattern.as_f64(),
        (told, pattern) => told == pattern,
    }
}
