//! One trace in one row: what it was, who took part, how it went.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::calls::Calls;
use crate::model::{TraceId, format_time};
use crate::query::Logged;
use crate::query::SpanHit;
use crate::query::xray::facts::{self, Flags, TraceFacts, names};

/// Values of a list in one row; a trace of a hundred thousand spans may have as many users.
const MAX_VALUES: usize = 100;

/// A trace's summary, without its place in the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    /// Which.
    pub(super) trace_id: TraceId,
    /// First start of a span.
    pub(super) start_unix_nano: i64,
    /// From there to the last end.
    pub(super) duration_nano: i64,
    /// What the root took; `None` while it is in progress.
    pub(super) response_time_nano: Option<i64>,
    /// The service in which it begins.
    pub(super) root_service: Option<String>,
    /// The operation in which it begins.
    pub(super) root_name: Option<String>,
    /// Services, inferred ones too, in order of name.
    pub(super) services: Vec<String>,
    /// Error and fault of the root; a throttle anywhere.
    pub(super) flags: Flags,
    /// A part is in progress, or it was too much to read.
    pub(super) is_partial: bool,
    /// `http.*` of the root.
    pub(super) http_method: Option<String>,
    /// The root's URL.
    pub(super) http_url: Option<String>,
    /// The root's answer.
    pub(super) http_status_code: Option<i32>,
    /// The client's program.
    pub(super) user_agent: Option<String>,
    /// The client's address.
    pub(super) client_ip: Option<String>,
    /// Whom the requests were for.
    pub(super) users: Vec<String>,
    /// X-Ray's annotations; of a key with several values, the first in order of text. One whose key X-Ray's rule changes (`order-id`) stands under
    /// the changed one (`order_id`) too, as `annotation[…]` finds it by either.
    pub(super) annotations: BTreeMap<String, String>,
    /// Spans and subsegments.
    pub(super) span_count: usize,
    /// Those with status ERROR.
    pub(super) error_count: usize,
    /// Those that name a parent which is not here.
    pub(super) missing_parents: usize,
    /// Its log records, as far as they lie near its spans.
    pub(super) logged: Logged,
    /// Who called whom in it.
    pub(super) calls: Calls,
}

impl Summary {
    /// The summary of a trace.
    pub(super) fn of(trace: &TraceFacts<'_>, logged: Logged) -> Summary {
        let root = trace.root_span();
        let of_root = |names: &[&str]| root.and_then(|root| facts::of_span(root, names)).map(str::to_string);
        let spans = || trace.trace.spans.iter().map(|placed| &placed.span);
        let mut annotations: BTreeMap<String, String> = BTreeMap::new();
        for one in spans().flat_map(facts::annotations) {
            // as filter expressions know it: by the key that was sent, and by the one that clients see
            let (sent, seen) = (one.key, one.name());
            let keys = [sent, seen.as_ref()];
            for key in &keys[..if sent == seen { 1 } else { 2 }] {
                let is_full = annotations.len() >= MAX_VALUES;
                match annotations.get_mut(*key) {
                    Some(known) if known.as_str() <= one.value => {}
                    Some(known) => *known = one.value.to_string(),
                    None if is_full => {}
                    None => {
                        annotations.insert((*key).to_string(), one.value.to_string());
                    }
                }
            }
        }
        let user = |span: &'_ SpanHit| facts::of_span(span, names::USER).map(str::to_string);
        Summary {
            trace_id: trace.trace.trace_id,
            start_unix_nano: trace.trace.start_unix_nano,
            duration_nano: trace.trace.duration_nano,
            response_time_nano: root.filter(|root| !root.in_progress).map(|root| root.duration_nano),
            root_service: trace.root.map(|root| trace.service(&trace.segments[root]).name.clone()),
            root_name: root.map(|root| root.name.clone()),
            services: some_of(trace.services.iter().map(|service| service.name.clone())),
            flags: trace.flags(),
            is_partial: trace.is_partial(),
            http_method: of_root(names::METHOD),
            http_url: of_root(names::URL),
            http_status_code: of_root(names::STATUS).and_then(|status| status.parse().ok()),
            user_agent: of_root(names::USER_AGENT),
            client_ip: of_root(names::CLIENT_IP),
            users: some_of(spans().filter_map(user)),
            annotations,
            span_count: trace.trace.spans.len(),
            error_count: trace.trace.n_errors,
            missing_parents: trace.trace.spans.iter().filter(|placed| placed.missing_parent).count(),
            logged,
            calls: Calls::of(trace),
        }
    }

    /// The summary of a trace that has lost all of its spans: nothing but its name, in the place of what was known of it, until
    /// its rows are deleted.
    pub(super) fn of_nothing(trace_id: TraceId, start_unix_nano: i64) -> Summary {
        Summary {
            trace_id,
            start_unix_nano,
            duration_nano: 0,
            response_time_nano: None,
            root_service: None,
            root_name: None,
            services: Vec::new(),
            flags: Flags::default(),
            is_partial: false,
            http_method: None,
            http_url: None,
            http_status_code: None,
            user_agent: None,
            client_ip: None,
            users: Vec::new(),
            annotations: BTreeMap::new(),
            span_count: 0,
            error_count: 0,
            missing_parents: 0,
            logged: Logged::default(),
            calls: Calls::default(),
        }
    }

    /// Tells whether a trace has changed since its row was written.
    pub(super) fn digest(&self) -> i64 {
        // the same fields print the same
        xxhash_rust::xxh3::xxh3_64(format!("{self:?}").as_bytes()).cast_signed()
    }
}

/// A trace's summary for people and tools, with the names of the table `traces`; without its log records, which are not a part of a trace of
/// spans. Times since the epoch are text.
pub fn summary_json(trace: &TraceFacts<'_>) -> Value {
    let summary = Summary::of(trace, Logged::default());
    json!({
        "trace_id": summary.trace_id.to_string(),
        "xray_trace_id": summary.trace_id.to_xray(),
        "time": format_time(summary.start_unix_nano),
        "time_unix_nano": summary.start_unix_nano.to_string(),
        "duration_nano": summary.duration_nano,
        "response_time_nano": summary.response_time_nano,
        "root_service": summary.root_service,
        "root_name": summary.root_name,
        "services": summary.services,
        "has_error": summary.flags.error,
        "has_fault": summary.flags.fault,
        "has_throttle": summary.flags.throttle,
        "is_partial": summary.is_partial,
        "http_method": summary.http_method,
        "http_url": summary.http_url,
        "http_status_code": summary.http_status_code,
        "user_agent": summary.user_agent,
        "client_ip": summary.client_ip,
        "users": summary.users,
        "annotations": summary.annotations,
        "span_count": summary.span_count,
        "error_count": summary.error_count,
        "missing_parents": summary.missing_parents,
    })
}

/// Each value once, in order.
fn some_of(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut values: Vec<String> = values.collect();
    values.sort_unstable();
    values.dedup();
    values.truncate(MAX_VALUES);
    values
}
