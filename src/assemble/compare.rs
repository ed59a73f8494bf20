//! What a trace is, against what its rows say: the difference is what is to be written.
//!
//! Of a trace that several nodes were sent parts of, each of them writes rows, and none may take back what another has added: that would be
//! taken back twice. So a row's `calls` are what its node's rows have added to the edges, all in all; the newest of each node together are what
//! is there. A row without a node's name stands for all with a smaller revision: rows of before nodes were named, and those that are
//! written because the others are deleted.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::calls::Calls;
use super::summary::Summary;
use crate::catalog::NodeId;
use crate::model::TraceId;
use crate::query::Logged;
use crate::query::Trace;
use crate::query::xray::TraceFacts;

/// A row of `traces`, as far as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WrittenRow {
    pub(super) node: Option<NodeId>,
    pub(super) start_nanos: i64,
    pub(super) revision: i32,
    pub(super) digest: i64,
    pub(super) calls: Calls,
}

/// What the newest rows of a trace say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written {
    /// First start.
    pub(super) start_nanos: i64,
    /// Greatest revision.
    pub(super) revision: i32,
    /// Of the row that has it; `None` if there are two.
    pub(super) digest: Option<i64>,
    /// What is in `service_edges`.
    pub(super) calls: Calls,
    /// What this node's rows have added.
    pub(super) own: Calls,
    /// Whose rows count.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Rows that count.
    pub(super) n_counted: usize,
}

impl Written {
    /// Of the newest rows of each node; `None` if there is none.
    pub(super) fn of(rows: &[WrittenRow], us: &NodeId) -> Option<Written> {
        let newest_of = |node: &Option<NodeId>| rows.iter().filter(|row| row.node == *node).map(|row| row.revision).max();
        let whole = newest_of(&None);
        let counts = |row: &&WrittenRow| newest_of(&row.node) == Some(row.revision) && (row.node.is_none() || Some(row.revision) > whole);
        let revision = rows.iter().map(|row| row.revision).max()?;
        let mut top = rows.iter().filter(|row| row.revision == revision);
        let mut written = Written {
            start_nanos: rows.iter().map(|row| row.start_nanos).min()?,
            revision,
            digest: top.next().map(|row| row.digest).filter(|_| top.next().is_none()),
            ..Written::default()
        };
        for row in rows.iter().filter(counts) {
            written.calls.add(&row.calls);
            written.n_counted += 1;
            if row.node.as_ref() == Some(us) {
                written.own.add(&row.calls);
            }
            written.nodes.extend(row.node.clone());
        }
        Some(written)
    }
}

/// A row to be written.
#[derive(Clone, Debug)]
pub(super) struct Correction {
    pub(super) summary: Summary,
    pub(super) revision: i32,
    /// `None`: it stands for all before it.
    pub(super) node: Option<NodeId>,
    /// What the node's rows, this one among them, have added to the edges.
    pub(super) calls: Calls,
}

/// Rows that are too old: of each trace those below a revision.
pub(super) type Old = Vec<(TraceId, i32)>;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// At most one a trace.
    pub(super) rows: Vec<Correction>,
    /// What is added to the edges, and taken from them.
    pub(super) change: Calls,
    /// Every trace that was read, with its first start and its last end.
    pub(super) extents: Vec<(TraceId, i64, i64)>,
    /// Of traces that have lost spans.
    pub(super) old: Old,
}

/// Compares traces with their rows; of those that have lost spans also tells which rows are too old, and what is left of those of
/// which nothing is.
pub(super) fn compare(us: &NodeId, traces: &[Trace], logged: &HashMap<TraceId, Logged>, written: &HashMap<TraceId, Written>, have_lost: bool) -> Compared {
    let mut out = Compared::default();
    let mut seen = HashSet::new();
    let nothing = Written::default();
    for trace in traces.iter().filter(|trace| seen.insert(trace.trace_id)) {
        let id = trace.trace_id;
        let summary = Summary::of(&TraceFacts::of(trace), logged.get(&id).copied().unwrap_or_default());
        let end_nanos = summary.start_unix_nano.saturating_add(summary.duration_nano);
        out.extents.push((id, summary.start_unix_nano, end_nanos));
        let known = written.get(&id).unwrap_or(&nothing);
        let change = summary.calls.since(&known.calls);
        // rows of others are deleted with what they added only if one stands for them
        let is_apart = have_lost && known.n_counted > 1;
        if known.digest == Some(summary.digest()) && change.is_empty() && !is_apart {
            continue;
        }
        let (node, calls) = match have_lost {
            true => (None, summary.calls.clone()),
            false => {
                let mut calls = known.own.clone();
                calls.add(&change);
                (Some(us.clone()), calls)
            }
        };
        out.change.add(&change);
        out.rows.push(Correction {
            summary,
            revision: known.revision.saturating_add(1),
            node,
            calls,
        });
    }
    if !have_lost {
        return out;
    }
    let corrected: HashMap<TraceId, i32> = out.rows.iter().map(|row| (row.summary.trace_id, row.revision)).collect();
    for (id, written) in written {
        if seen.contains(id) {
            let newest = corrected.get(id).copied().unwrap_or(written.revision);
            out.old.extend((newest > 1).then_some((*id, newest)));
            continue;
        }
        // what it had added is taken back once: a look that is repeated finds this row
        let nothing = Summary::of_nothing(*id, written.start_nanos);
        if written.digest != Some(nothing.digest()) || !written.calls.is_empty() {
            out.change.add(&nothing.calls.since(&written.calls));
            out.rows.push(Correction {
                calls: nothing.calls.clone(),
                summary: nothing,
                revision: written.revision.saturating_add(1),
                node: None,
            });
        }
        out.old.push((*id, i32::MAX));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::calls::{CallKey, Figures};
    use super::*;

    fn node(letter: char) -> NodeId {
        NodeId::parse(&letter.to_string().repeat(26)).expect("a name")
    }

    fn row(of: Option<char>, revision: i32, requests: i64) -> WrittenRow {
        let mut calls = Calls::default();
        let figures = Figures {
            requests,
            ..Figures::default()
        };
        calls.add_row(CallKey::default(), figures);
        WrittenRow {
            node: of.map(node),
            start_nanos: i64::from(10 - revision),
            revision,
            digest: i64::from(revision),
            calls,
        }
    }

    #[test]
    fn rows_of_nodes_add_up_and_one_without_a_name_stands_for_those_before_it() {
        let told = |rows: &[WrittenRow]| {
            let written = Written::of(rows, &node('b')).expect("rows");
            let requests = |calls: &Calls| calls.rows().map(|(_, figures)| figures.requests).sum::<i64>();
            let nodes: String = written.nodes.iter().map(|node| &node.as_str()[..1]).collect();
            (requests(&written.calls), requests(&written.own), nodes, written.revision, written.digest)
        };
        assert_eq!(Written::of(&[], &node('b')), None);
        assert_eq!(told(&[row(Some('a'), 1, 3), row(Some('b'), 2, 4)]), (7, 4, "ab".into(), 2, Some(2)));
        assert_eq!(told(&[row(Some('b'), 1, 3), row(Some('b'), 2, -4)]), (-4, -4, "b".into(), 2, Some(2)));
        // neither is the newest
        assert_eq!(told(&[row(Some('a'), 1, 3), row(Some('b'), 1, 4)]), (7, 4, "ab".into(), 1, None));
        assert_eq!(told(&[row(None, 1, 5), row(Some('b'), 2, 4)]), (9, 4, "b".into(), 2, Some(2)));
        assert_eq!(
            told(&[row(Some('a'), 1, 3), row(Some('b'), 3, 4), row(None, 2, 5)]),
            (9, 4, "b".into(), 3, Some(3))
        );
        // of before nodes were named: both were added
        assert_eq!(told(&[row(None, 1, 5), row(None, 1, 6)]), (11, 0, String::new(), 1, None));
    }
}
