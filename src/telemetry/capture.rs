//! Our own log lines and spans, caught for whoever keeps them: a layer that puts them into a bounded queue and never waits.
//!
//! What is not caught: more than `max_records_per_second` in a second, what finds the queue full (both counted), and, so
//! that keeping them does not make more of them, all that happens inside a span of the target [`UNHEARD`].

use std::fmt::Debug;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Config;
use super::register;
use crate::model::{Clock, SystemClock};

/// Target of spans that are kept; the log on standard error does not show them.
pub const SPANS: &str = "tracelake::spans";
/// Target of spans that mark work on what was kept: nothing inside is kept.
pub const UNHEARD: &str = "tracelake::unheard";

/// One label, `outcome`: `kept`, `queue_full`, `too_many`.
static RECORDS: LazyLock<Family<[(&'static str, &'static str); 1], Counter>> = LazyLock::new(|| {
    register(
        "telemetry_own_records",
        "Own log lines and spans, by outcome: kept, queue_full, too_many",
        Family::default(),
    )
});

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// Text, and whatever else can only be shown.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
}

/// Fields by name.
pub type Fields = Vec<(&'static str, FieldValue)>;

/// The span that something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 16 bytes.
    pub trace_id: u128,
    /// 8 bytes.
    pub span_id: u64,
}

/// A log line or a span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Captured {
    /// A log line.
    Line {
        /// Nanoseconds since the epoch.
        at_nanos: i64,
        /// How grave.
        level: Level,
        /// The module.
        target: &'static str,
        /// What it says.
        message: String,
        /// The rest.
        fields: Fields,
        /// The span around it.
        place: Option<Place>,
    },
    /// A span.
    Span {
        /// What it is of.
        name: String,
        /// Its own.
        place: Place,
        /// The span around it.
        parent: Option<u64>,
        /// Nanoseconds since the epoch.
        start_nanos: i64,
        /// Nanoseconds since the epoch.
        end_nanos: i64,
        /// What is known of it.
        fields: Fields,
    },
}

/// A span that has not ended.
struct Open {
    place: Place,
    parent: Option<u64>,
    start_nanos: i64,
    fields: Fields,
}

/// The layer.
pub(super) struct Capture {
    queue: mpsc::Sender<Captured>,
    max_per_second: u64,
    second: AtomicI64,
    n_this_second: AtomicU64,
}

impl Capture {
    pub(super) fn new(config: &Config) -> (Self, mpsc::Receiver<Captured>) {
        let (queue, captured) = mpsc::channel(config.queue_records.max(1));
        let capture = Self {
            queue,
            max_per_second: config.max_records_per_second,
            second: AtomicI64::new(0),
            n_this_second: AtomicU64::new(0),
        };
        (capture, captured)
    }

    fn offer(&self, now_nanos: i64, captured: Captured) {
        let second = now_nanos.div_euclid(1_000_000_000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.n_this_second.store(0, Ordering::Relaxed);
        }
        let outcome = if self.n_this_second.fetch_add(1, Ordering::Relaxed) >= self.max_per_second {
            "too_many"
        } else if self.queue.try_send(captured).is_err() {
            "queue_full"
        } else {
            "kept"
        };
        RECORDS.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// Whether `span` or one around it is [`UNHEARD`].
fn is_unheard<'a, S: LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> bool {
    span.scope().any(|span| span.metadata().target() == UNHEARD)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if span.metadata().target() != SPANS {
            return;
        }
        let around = span.parent().and_then(|parent| {
            let mut scope = parent.scope();
            scope.find_map(|span| span.extensions().get::<Open>().map(|open| open.place))
        });
        let mut fields = Fields::new();
        attributes.record(&mut Visitor(&mut fields));
        span.extensions_mut().insert(Open {
            place: Place {
                trace_id: around.map_or_else(|| rand::random::<u128>().max(1), |around| around.trace_id),
                span_id: rand::random::<u64>().max(1),
            },
            parent: around.map(|around| around.span_id),
            start_nanos: SystemClock.now_nanos(),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut Visitor(&mut open.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let place = match context.event_span(event) {
            Some(span) if is_unheard(&span) => return,
            _ => context.event_span(event).and_then(|span| {
                let mut scope = span.scope();
                scope.find_map(|span| span.extensions().get::<Open>().map(|open| open.place))
            }),
        };
        let mut fields = Fields::new();
        event.record(&mut Visitor(&mut fields));
        let message = match fields.iter().position(|(name, _)| *name == "message").map(|index| fields.remove(index)) {
            Some((_, FieldValue::Text(message))) => message,
            _ => String::new(),
        };
        let at_nanos = SystemClock.now_nanos();
        let line = Captured::Line {
            at_nanos,
            level: *event.metadata().level(),
            target: event.metadata().target(),
            message,
            fields,
            place,
        };
        self.offer(at_nanos, line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        if is_unheard(&span) {
            return;
        }
        let mut fields = open.fields;
        let named = fields.iter().position(|(name, _)| *name == "otel.name").map(|index| fields.remove(index));
        let name = match named {
            Some((_, FieldValue::Text(name))) => name,
            _ => context.metadata(&id).map_or("", |metadata| metadata.name()).to_string(),
        };
        let end_nanos = SystemClock.now_nanos().max(open.start_nanos);
        let span = Captured::Span {
            name,
            place: open.place,
            parent: open.parent,
            start_nanos: open.start_nanos,
            end_nanos,
            fields,
        };
        self.offer(end_nanos, span);
    }
}

/// Takes fields; one that is recorded again has its last value.
struct Visitor<'a>(&'a mut Fields);

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: FieldValue) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, FieldValue::Double(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, FieldValue::Int(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(
            field,
            i64::try_from(value).map_or_else(|_| FieldValue::Text(value.to_string()), FieldValue::Int),
        );
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, FieldValue::Bool(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, FieldValue::Text(value.to_string()));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, FieldValue::Text(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn caught(config: &Config, work: impl FnOnce()) -> Vec<Captured> {
        let (capture, mut queue) = Capture::new(config);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(capture), work);
        std::iter::from_fn(|| queue.try_recv().ok()).collect()
    }

    #[test]
    fn lines_and_spans_are_caught_with_their_place() {
        let all = caught(&Config::default(), || {
            let outer = tracing::info_span!(target: SPANS, "request", otel.name = "GET /x", http.response.status_code = tracing::field::Empty);
            outer.in_scope(|| {
                tracing::info_span!(target: SPANS, "inner").in_scope(|| tracing::warn!(count = 3, path = "/x", "it rains"));
            });
            outer.record("http.response.status_code", 200);
        });
        let [
            Captured::Line {
                level, message, fields, place, ..
            },
            Captured::Span {
                name: inner,
                place: inner_place,
                parent,
                ..
            },
            Captured::Span {
                name,
                place: outer_place,
                fields: outer_fields,
                ..
            },
        ] = &all[..]
        else {
            panic!("{all:?}")
        };
        assert_eq!((*level, message.as_str()), (Level::WARN, "it rains"));
        assert_eq!(fields, &[("count", FieldValue::Int(3)), ("path", FieldValue::Text("/x".into()))]);
        assert_eq!((inner.as_str(), name.as_str()), ("inner", "GET /x"));
        assert_eq!((place.as_ref(), parent), (Some(inner_place), &Some(outer_place.span_id)));
        assert_eq!(inner_place.trace_id, outer_place.trace_id);
        assert_eq!(outer_fields, &[("http.response.status_code", FieldValue::Int(200))]);
    }

    #[test]
    fn work_on_what_was_kept_is_not_heard() {
        let all = caught(&Config::default(), || {
            tracing::info_span!(target: UNHEARD, "keeping").in_scope(|| {
                tracing::error!("not this");
                tracing::info_span!(target: SPANS, "nor this").in_scope(|| tracing::error!("nor that"));
            });
            tracing::info!("this");
        });
        assert!(matches!(&all[..], [Captured::Line { message, .. }] if message == "this"), "{all:?}");
    }

    #[test]
    fn queue_and_rate_are_bounded() {
        let small = Config {
            queue_records: 3,
            ..Config::default()
        };
        assert_eq!(caught(&small, || (0..10).for_each(|n| tracing::info!(n, "line"))).len(), 3);
        let slow = Config {
            max_records_per_second: 5,
            ..Config::default()
        };
        // a second may end in between
        let n = caught(&slow, || (0..100).for_each(|n| tracing::info!(n, "line"))).len();
        assert!((5..=10).contains(&n), "{n}");
    }
}
