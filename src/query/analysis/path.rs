//! Where the time of a trace went, and where its error began.
//!
//! The critical path is what Jaeger calls so: walking back from the end of the trace's longest root, the span that finished last before
//! the point reached is what was waited for; between such children it is their parent itself. A child that runs beyond what its parent
//! waited for is on no path. The sections of the path follow each other without a gap from the root's start to its end.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::pool::Priority;
use super::super::{Engine, Result, Trace, TraceSpan};

/// A stretch of the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The span that was worked on: its index among the trace's.
    pub span: usize,
    /// From here, nanoseconds since the epoch,
    pub start_unix_nano: i64,
    /// up to here.
    pub end_unix_nano: i64,
}

/// The spans of a trace that do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationTime {
    /// Empty where a span has none.
    pub service: String,
    /// The spans' name.
    pub name: String,
    /// How many.
    pub spans: usize,
    /// How long they took, their children's time left out, nanoseconds.
    pub self_nano: i64,
    /// How much of the critical path is theirs, nanoseconds.
    pub critical_nano: i64,
}

/// A trace, analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// In order of time.
    pub critical_path: Vec<Section>,
    /// Most of the critical path first, then most time of their own.
    pub operations: Vec<OperationTime>,
    /// The spans from a root down to where the error began; empty if no span failed.
    pub error_path: Vec<usize>,
}

fn start(span: &TraceSpan) -> i64 {
    span.span.start_time_unix_nano
}

fn end(span: &TraceSpan) -> i64 {
    start(span).saturating_add(span.span.duration_nano.max(0))
}

fn has_failed(span: &TraceSpan) -> bool {
    span.span.status_code == "ERROR"
}

impl Engine {
    /// Looks through a trace on the threads of questions, as it may have a hundred thousand spans. Gives it back, and what was found as JSON too.
    pub async fn analyze(&self, trace: Trace) -> Result<(Trace, Analysis, Value)> {
        let work = move || {
            let analysis = Analysis::of(&trace);
            let told = analysis.to_json(&trace);
            Ok((trace, analysis, told))
        };
        self.workers(Priority::Interactive).run(work).await
    }
}

impl Analysis {
    /// Of a trace. Takes time and memory in the number of its spans, but for sorting.
    pub fn of(trace: &Trace) -> Analysis {
        let spans = &trace.spans;
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        for (number, span) in spans.iter().enumerate() {
            if let Some(parent) = span.parent {
                children[parent].push(number);
            }
        }
        let critical_path = critical_path(spans, &children);
        Analysis {
            operations: operations(spans, &children, &critical_path),
            error_path: error_path(spans),
            critical_path,
        }
    }

    /// The API's answer, without what is known of other traces.
    pub fn to_json(&self, trace: &Trace) -> Value {
        let span = |number: usize| {
            let (service, span) = (trace.spans[number].service(), &trace.spans[number].span);
            json!({
                "span_id": span.span_id,
                "service": service,
                "name": span.name,
                "status_code": span.status_code,
                "status_message": span.status_message,
            })
        };
        let with = |mut value: Value, more: Value| {
            if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
                value.extend(more);
            }
            value
        };
        let sections = self.critical_path.iter().map(|section| {
            let times = json!({
                "start_offset_nano": section.start_unix_nano.saturating_sub(trace.start_unix_nano),
                "duration_nano": section.end_unix_nano.saturating_sub(section.start_unix_nano),
            });
            with(span(section.span), times)
        });
        let operations = self.operations.iter().map(|operation| {
            json!({
                "service": operation.service,
                "name": operation.name,
                "spans": operation.spans,
                "self_nano": operation.self_nano,
                "critical_nano": operation.critical_nano,
            })
        });
        json!({
            "trace_id": trace.trace_id.to_string(),
            "duration_nano": trace.duration_nano,
            "critical_path": sections.collect::<Vec<_>>(),
            "operations": operations.collect::<Vec<_>>(),
            "error_origin": self.error_path.last().map(|origin| {
                let path: Vec<Value> = self.error_path.iter().map(|number| span(*number)).collect();
                with(span(*origin), json!({ "path": path }))
            }),
        })
    }
}

/// See the page of this file.
fn critical_path(spans: &[TraceSpan], children: &[Vec<usize>]) -> Vec<Section> {
    let roots = (0..spans.len()).filter(|number| spans[*number].parent.is_none());
    let Some(root) = roots.max_by_key(|number| (spans[*number].span.duration_nano, std::cmp::Reverse(*number))) else {
        return Vec::new();
    };
    let by_end = |number: usize| {
        let mut by_end = children[number].clone();
        by_end.sort_by_key(|child| std::cmp::Reverse((end(&spans[*child]), start(&spans[*child]), *child)));
        by_end.into_iter()
    };
    let mut sections: Vec<Section> = Vec::new();
    let mut add = |span: usize, start_unix_nano: i64, end_unix_nano: i64| {
        if start_unix_nano < end_unix_nano {
            sections.push(Section {
                span,
                start_unix_nano,
                end_unix_nano,
            });
        }
    };
    // a span, up to where it is looked at, from where on, and its children that finished before
    let mut walk = vec![(root, end(&spans[root]), start(&spans[root]), by_end(root))];
    while let Some((span, until, from, left)) = walk.last_mut() {
        let (span, from) = (*span, *from);
        match left.find(|child| end(&spans[*child]) <= *until) {
            // clocks differ: a child has no time outside of its parent's
            Some(child) if end(&spans[child]) > from => {
                let (child_start, child_end) = (start(&spans[child]).max(from), end(&spans[child]));
                add(span, child_end, *until);
                *until = child_start;
                walk.push((child, child_end, child_start, by_end(child)));
            }
            _ => {
                add(span, from, *until);
                walk.pop();
            }
        }
    }
    sections.reverse();
    sections
}

fn operations(spans: &[TraceSpan], children: &[Vec<usize>], critical_path: &[Section]) -> Vec<OperationTime> {
    let mut critical: Vec<i64> = vec![0; spans.len()];
    for section in critical_path {
        critical[section.span] = critical[section.span].saturating_add(section.end_unix_nano.saturating_sub(section.start_unix_nano));
    }
    let mut by_operation: HashMap<(&str, &str), OperationTime> = HashMap::new();
    for (number, span) in spans.iter().enumerate() {
        let service = span.service();
        let name = span.span.name.as_str();
        let operation = by_operation.entry((service, name)).or_insert_with(|| OperationTime {
            service: service.into(),
            name: name.into(),
            spans: 0,
            self_nano: 0,
            critical_nano: 0,
        });
        operation.spans += 1;
        operation.self_nano = operation
            .self_nano
            .saturating_add(self_nanos(span, children[number].iter().map(|child| &spans[*child])));
        operation.critical_nano = operation.critical_nano.saturating_add(critical[number]);
    }
    let mut operations: Vec<OperationTime> = by_operation.into_values().collect();
    operations.sort_by(|a, b| {
        let most = (b.critical_nano, b.self_nano).cmp(&(a.critical_nano, a.self_nano));
        most.then_with(|| (&a.service, &a.name).cmp(&(&b.service, &b.name)))
    });
    operations
}

/// How long a span took in which none of its children ran.
fn self_nanos<'s>(span: &TraceSpan, children: impl Iterator<Item = &'s TraceSpan>) -> i64 {
    let (from, until) = (start(span), end(span));
    let mut taken: Vec<(i64, i64)> = children
        .map(|child| (start(child).max(from), end(child).min(until)))
        .filter(|(from, until)| from < until)
        .collect();
    taken.sort_unstable();
    let (mut own, mut at) = (0i64, from);
    for (start, end) in taken {
        own = own.saturating_add((start - at).max(0));
        at = at.max(end);
    }
    own.saturating_add((until - at).max(0))
}

/// From a root down to the deepest span that failed; of several as deep, the one that had failed first.
fn error_path(spans: &[TraceSpan]) -> Vec<usize> {
    let failed = (0..spans.len()).filter(|number| has_failed(&spans[*number]));
    let Some(origin) = failed.min_by_key(|number| (std::cmp::Reverse(spans[*number].depth), end(&spans[*number]), *number)) else {
        return Vec::new();
    };
    // parents stand before their children, so this ends
    let mut path: Vec<usize> = std::iter::successors(Some(origin), |number| spans[*number].parent).collect();
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{TimeRange, TraceId};
    use crate::query::{Coverage, Hit, SpanHit};

    fn span(id: u64, parent: Option<u64>, start: i64, duration: i64, name: &str) -> SpanHit {
        SpanHit {
            span_id: format!("{id:016x}"),
            parent_span_id: parent.map(|parent| format!("{parent:016x}")),
            start_time_unix_nano: start,
            duration_nano: duration,
            name: name.into(),
            status_code: if name.ends_with('!') { "ERROR".into() } else { "UNSET".into() },
            ..SpanHit::default()
        }
    }

    fn trace(spans: Vec<SpanHit>) -> Trace {
        let hits = spans.into_iter().map(|span| Hit::Span(Box::new(span))).collect();
        let id = TraceId::from_bytes(&[1; 16]).expect("not zero");
        Trace::assemble(id, hits, Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO).expect("a trace")
    }

    fn sections(trace: &Trace) -> Vec<(String, i64, i64)> {
        let named = |section: &Section| (trace.spans[section.span].span.name.clone(), section.start_unix_nano, section.end_unix_nano);
        Analysis::of(trace).critical_path.iter().map(named).collect()
    }

    fn named(expected: &[(&str, i64, i64)]) -> Vec<(String, i64, i64)> {
        expected.iter().map(|(name, start, end)| (name.to_string(), *start, *end)).collect()
    }

    #[test]
    fn what_finished_last_was_waited_for() {
        // b and c run side by side, d after both; e goes on beyond its parent
        let of = trace(vec![
            span(1, None, 0, 100, "a"),
            span(2, Some(1), 10, 20, "b"),
            span(3, Some(1), 10, 40, "c"),
            span(4, Some(1), 60, 30, "d"),
            span(5, Some(4), 70, 90, "e"),
        ]);
        assert_eq!(
            sections(&of),
            named(&[("a", 0, 10), ("c", 10, 50), ("a", 50, 60), ("d", 60, 90), ("a", 90, 100)])
        );
        let analysis = Analysis::of(&of);
        let of_a = analysis.operations.iter().find(|operation| operation.name == "a").expect("it is there");
        assert_eq!((of_a.self_nano, of_a.critical_nano), (30, 30));
        // e takes the last twenty of d
        let of_d = analysis.operations.iter().find(|operation| operation.name == "d").expect("it is there");
        assert_eq!((of_d.self_nano, of_d.critical_nano), (10, 30));
    }

    #[test]
    fn an_error_began_in_the_deepest_span_that_failed_and_there_first() {
        let of = trace(vec![
            span(1, None, 0, 100, "a!"),
            span(2, Some(1), 10, 20, "b!"),
            span(3, Some(1), 10, 60, "c!"),
            span(4, Some(3), 30, 30, "d!"),
            span(5, Some(3), 30, 10, "e!"),
            span(6, Some(5), 30, 10, "fine"),
        ]);
        let names: Vec<&str> = Analysis::of(&of).error_path.iter().map(|number| of.spans[*number].span.name.as_str()).collect();
        assert_eq!(names, ["a!", "c!", "e!"]);
        assert_eq!(Analysis::of(&trace(vec![span(1, None, 0, 1, "a")])).error_path, Vec::<usize>::new());
    }

    #[test]
    fn a_chain_of_fifty_thousand_spans_is_walked() {
        let spans = (1..=50_000u64).map(|id| span(id, (id > 1).then(|| id - 1), id as i64, 200_000 - 2 * id as i64, "x"));
        let of = trace(spans.collect());
        let path = Analysis::of(&of).critical_path;
        assert_eq!(path.len(), 99_999);
        assert!(path.windows(2).all(|pair| pair[0].end_unix_nano == pair[1].start_unix_nano));
    }

    proptest! {
        #[test]
        fn the_path_covers_its_root_without_gap_and_own_time_is_within_the_spans(
            spans in proptest::collection::vec((0..8u64, -20..100i64, 0..80i64), 1..20)
        ) {
            let spans = (1..).zip(&spans).map(|(id, (parent, start, duration))| span(id, (*parent > 0).then_some(*parent), *start, *duration, "x"));
            let of = trace(spans.collect());
            let analysis = Analysis::of(&of);
            let longest = of.spans.iter().filter(|span| span.parent.is_none()).map(|span| span.span.duration_nano).max().expect("a root");
            let path = &analysis.critical_path;
            let covered: i64 = path.iter().map(|section| section.end_unix_nano - section.start_unix_nano).sum();
            prop_assert_eq!(covered, longest);
            prop_assert!(path.windows(2).all(|pair| pair[0].end_unix_nano == pair[1].start_unix_nano));
            for section in path {
                let span = &of.spans[section.span];
                prop_assert!(start(span) <= section.start_unix_nano && section.end_unix_nano <= end(span));
            }
            let (own, all): (i64, i64) = (analysis.operations.iter().map(|operation| operation.self_nano).sum(), of.spans.iter().map(|span| span.span.duration_nano).sum());
            prop_assert!(0 <= own && own <= all);
            prop_assert_eq!(analysis.operations.iter().map(|operation| operation.critical_nano).sum::<i64>(), covered);
        }
    }
}
