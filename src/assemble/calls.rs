//! What one trace, or many, say of who called whom: sums that can be added, and taken back.
//!
//! Each segment of a trace, sent or inferred, is one request to its service. Its row is told by minute, caller, service and operation, and
//! by the classes ([`super::latency`]) of the time that the caller waited and that the callee took: so one row serves for the edge
//! as either side saw it, for the service, and for its operations. All figures are whole numbers that are summed: rows of many traces
//! add up in any order, and a trace that turns out to be more than it seemed is taken back and put in anew, without remainder.

use std::collections::BTreeMap;

use super::latency::class_of;
use crate::query::SpanHit;
pub use crate::query::xray::facts::CLIENT;
use crate::query::xray::facts::{self, Service, TraceFacts};

/// A minute.
pub const MINUTE_NANOS: i64 = 60_000_000_000;
/// Bytes of an operation's name; some clients put whole statements there.
const MAX_OPERATION_BYTES: usize = 200;
/// Longer times are counted as this, two years: their sum must fit.
const MAX_NANOS: i64 = 1 << 56;

/// What tells rows apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKey {
    /// Start of the minute in which the request began, nanoseconds since the epoch.
    pub minute_nanos: i64,
    /// Who called. Of a request from outside, a service of type [`CLIENT`] with the called one's name; `None`: nobody called.
    pub client: Option<Service>,
    /// Who was called.
    pub server: Service,
    /// What for, as the callee names it; of one that sends no segments, as the caller does.
    pub operation: String,
    /// Class of the time that the caller waited, if it says so and is done.
    pub caller_class: Option<i32>,
    /// Class of the time that the callee took, likewise.
    pub callee_class: Option<i32>,
}

/// Sums of a row. A request is a fault, or else an error, or neither; throttles are errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many.
    pub requests: i64,
    /// Errors, as the callee says; of one that sends no segments, as the caller does.
    pub errors: i64,
    /// Faults, likewise.
    pub faults: i64,
    /// Throttles, likewise.
    pub throttles: i64,
    /// Errors, as the caller saw them.
    pub caller_errors: i64,
    /// Faults, likewise.
    pub caller_faults: i64,
    /// Throttles, likewise.
    pub caller_throttles: i64,
    /// What callers waited, nanoseconds.
    pub caller_nanos: i64,
    /// What callees took, nanoseconds.
    pub callee_nanos: i64,
}

impl Figures {
    /// How many there are.
    pub const N: usize = 9;

    /// In the order of their columns.
    pub fn to_array(self) -> [i64; Self::N] {
        [
            self.requests,
            self.errors,
            self.faults,
            self.throttles,
            self.caller_errors,
            self.caller_faults,
            self.caller_throttles,
            self.caller_nanos,
            self.callee_nanos,
        ]
    }

    /// Reads [`Self::to_array`].
    pub fn from_array(figures: [i64; Self::N]) -> Figures {
        let [
            requests,
            errors,
            faults,
            throttles,
            caller_errors,
            caller_faults,
            caller_throttles,
            caller_nanos,
            callee_nanos,
        ] = figures;
        Figures {
            requests,
            errors,
            faults,
            throttles,
            caller_errors,
            caller_faults,
            caller_throttles,
            caller_nanos,
            callee_nanos,
        }
    }

    fn each(self, other: Figures, with: fn(i64, i64) -> i64) -> Figures {
        let (a, b) = (self.to_array(), other.to_array());
        Figures::from_array(std::array::from_fn(|i| with(a[i], b[i])))
    }
}

/// Rows, none of which is all zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    rows: BTreeMap<CallKey, Figures>,
}

impl Calls {
    /// What a trace says.
    pub fn of(trace: &TraceFacts<'_>) -> Calls {
        let mut calls = Calls::default();
        for segment in &trace.segments {
            let span = trace.span(segment);
            let server = trace.service(segment).clone();
            let client = match segment.caller {
                Some(caller) => Some(trace.service(&trace.segments[caller]).clone()),
                None => matches!(span.kind.as_str(), "SERVER" | "CONSUMER").then(|| facts::client_of(&server)),
            };
            let callee = (!segment.is_inferred).then_some(span);
            // what stands above a segment need not be a call: some clients send none
            let caller = segment.call.map(|at| &trace.trace.spans[at].span).filter(|span| facts::is_call(span));
            let [errors, faults, throttles] = callee.or(caller).map_or([0; 3], outcome);
            let [caller_errors, caller_faults, caller_throttles] = caller.map_or([0; 3], outcome);
            let (caller_nanos, callee_nanos) = (caller.and_then(took), callee.and_then(took));
            let key = CallKey {
                minute_nanos: minute_of(span.start_time_unix_nano),
                client,
                server,
                operation: operation(span),
                caller_class: caller_nanos.map(class_of),
                callee_class: callee_nanos.map(class_of),
            };
            let figures = Figures {
                requests: 1,
                errors,
                faults,
                throttles,
                caller_errors,
                caller_faults,
                caller_throttles,
                caller_nanos: caller_nanos.unwrap_or(0),
                callee_nanos: callee_nanos.unwrap_or(0),
            };
            calls.add_row(key, figures);
        }
        calls
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&CallKey, &Figures)> {
        self.rows.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds one row.
    pub fn add_row(&mut self, key: CallKey, figures: Figures) {
        let sum = self.rows.get(&key).copied().unwrap_or_default().each(figures, i64::wrapping_add);
        match sum == Figures::default() {
            true => self.rows.remove(&key),
            false => self.rows.insert(key, sum),
        };
    }

    /// Adds all rows of another.
    pub fn add(&mut self, other: &Calls) {
        other.rows().for_each(|(key, figures)| self.add_row(key.clone(), *figures));
    }

    /// What must be added to `before` to have this.
    pub fn since(&self, before: &Calls) -> Calls {
        let mut change = self.clone();
        let taken = |figures: &Figures| Figures::default().each(*figures, i64::wrapping_sub);
        before.rows().for_each(|(key, figures)| change.add_row(key.clone(), taken(figures)));
        change
    }

    /// Keeps the rows of some minutes.
    pub fn retain(&mut self, keeps: impl Fn(&CallKey) -> bool) {
        self.rows.retain(|key, _| keeps(key));
    }

    /// As kept with a trace's summary: a JSON array of arrays.
    pub fn to_json(&self) -> String {
        let service = |service: &Service| (service.name.clone(), service.kind.clone(), service.account_id.clone());
        let row = |(key, figures): (&CallKey, &Figures)| -> StoredCall {
            let client = key.client.as_ref().map(service);
            let classes = (key.caller_class, key.callee_class);
            (
                key.minute_nanos,
                client,
                service(&key.server),
                key.operation.clone(),
                classes.0,
                classes.1,
                figures.to_array(),
            )
        };
        let rows: Vec<StoredCall> = self.rows().map(row).collect();
        serde_json::to_string(&rows).expect("texts and numbers have a JSON form")
    }

    /// Reads [`Self::to_json`]; `None` of anything else.
    pub fn from_json(text: &str) -> Option<Calls> {
        let rows: Vec<StoredCall> = serde_json::from_str(text).ok()?;
        let service = |(name, kind, account_id): StoredService| Service { name, kind, account_id };
        let mut calls = Calls::default();
        for (minute_nanos, client, server, operation, caller_class, callee_class, figures) in rows {
            let key = CallKey {
                minute_nanos,
                client: client.map(service),
                server: service(server),
                operation,
                caller_class,
                callee_class,
            };
            calls.add_row(key, Figures::from_array(figures));
        }
        Some(calls)
    }
}

type StoredService = (String, String, String);
type StoredCall = (i64, Option<StoredService>, StoredService, String, Option<i32>, Option<i32>, [i64; Figures::N]);

/// Start of the minute of a time.
pub fn minute_of(nanos: i64) -> i64 {
    nanos.div_euclid(MINUTE_NANOS).saturating_mul(MINUTE_NANOS)
}

/// How long a span took; `None` while it is in progress.
fn took(span: &SpanHit) -> Option<i64> {
    (!span.in_progress).then(|| span.duration_nano.clamp(0, MAX_NANOS))
}

/// Errors, faults, throttles of one request.
fn outcome(span: &SpanHit) -> [i64; 3] {
    let flags = facts::flags(span);
    let is_error = flags.error && !flags.fault;
    [is_error, flags.fault, is_error && flags.throttle].map(i64::from)
}

/// What a span is for. X-Ray names segments after services: there the request's method, or the operation of an AWS call, says more.
fn operation(span: &SpanHit) -> String {
    let told = match facts::of_span(span, &["aws.xray.type"]) {
        Some(_) => facts::of_span(span, &["aws.operation"]).or_else(|| facts::of_span(span, facts::names::METHOD)),
        None => None,
    };
    let name = told.unwrap_or(&span.name);
    name[..name.floor_char_boundary(MAX_OPERATION_BYTES)].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_that_is_told_alone_is_no_success() {
        let told = |more: &[(&str, &str)]| {
            outcome(&SpanHit {
                attributes: more.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect(),
                ..SpanHit::default()
            })
        };
        assert_eq!(told(&[("aws.xray.throttle", "true"), ("http.status_code", "429")]), [1, 0, 1]);
        assert_eq!(told(&[("aws.xray.throttle", "true"), ("aws.xray.error", "true")]), [1, 0, 1]);
        assert_eq!(told(&[("http.status_code", "429")]), [1, 0, 1]);
        assert_eq!(told(&[("aws.xray.throttle", "false")]), [0, 0, 0]);
    }
}
