//! Rows that other nodes write of the same traces.
//!
//! Two nodes that were sent parts of a trace may both look at it before either sees the other's row, and add it twice. Each look is exact
//! as to what it sees, so it takes one more, once both rows are seen: that of the node with the smallest name of those that have rows and live. It follows
//! the rows of the others for that; the others do not follow its rows, or two would correct each other for ever.

use std::collections::BTreeMap;

use super::assembler::{Assembler, Open, POSITION_BITS, POSITIONS_AT_ONCE, State, TRACES_AT_ONCE};
use super::compare::Written;
use super::reread::REACH_NANOS;
use crate::catalog::NodeId;
use crate::model::{TimeRange, TraceId};
use crate::query::Arrived;

/// Positions of another node's log that are followed in one go: few of them have rows of `traces`.
const OTHERS_POSITIONS_AT_ONCE: i64 = 64 * POSITIONS_AT_ONCE;
/// How much more than the time after which rows are seen elsewhere a node waits for those before it.
const MARGIN_NANOS: i64 = 2_000_000_000;

/// The other nodes on the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Those that live, as far as is known.
    pub(super) alive: Vec<NodeId>,
    /// Of each, living or gone, the last `ingest_id` up to which its rows are seen.
    pub(super) seen: BTreeMap<NodeId, i64>,
    /// How long after it is written a row of a living one is seen, in ordinary times, nanoseconds.
    pub(super) lag_nanos: i64,
}

impl Others {
    /// How much longer than the first of those that live a node waits, to see what that one wrote.
    pub(super) fn wait_nanos(&self, us: &NodeId) -> i64 {
        let before = self.alive.iter().filter(|node| *node < us).count();
        self.lag_nanos
            .saturating_add(MARGIN_NANOS)
            .saturating_mul(i64::try_from(before).unwrap_or(i64::MAX))
    }

    /// Whether it is for this node to look once more at a trace of which several have rows.
    fn is_for(&self, us: &NodeId, written: &Written) -> bool {
        let first = written.nodes.iter().find(|node| *node == us || self.alive.contains(node));
        written.nodes.len() > 1 && first == Some(us)
    }
}

impl Assembler {
    /// Opens the traces that other nodes have written too, where that is for this node to settle.
    pub(super) async fn follow_others(&self, state: &mut State, others: &Others) -> Result<(), String> {
        for (node, seen) in &others.seen {
            loop {
                // one that came later is followed from its first row on
                let before = state.others.get(node).copied().unwrap_or(-1);
                if before >= *seen {
                    break;
                }
                let up_to = (*seen).min(before.saturating_add(OTHERS_POSITIONS_AT_ONCE << POSITION_BITS));
                let arrived = self.lake().arrived_elsewhere(node, before.saturating_add(1)..=up_to).await?;
                // of those that are open the rows are asked for anyway
                let maybe_ours = |(id, arrived): &(TraceId, Arrived)| !state.known.is_surely_new(id, arrived.first_nanos) && !state.open.contains_key(id);
                let mut maybe_ours: Vec<(TraceId, Arrived)> = arrived.into_iter().filter(maybe_ours).collect();
                maybe_ours.sort_unstable_by_key(|(id, arrived)| (arrived.first_nanos, *id.as_bytes()));
                for some in maybe_ours.chunks(TRACES_AT_ONCE) {
                    self.reopen(state, others, some, (node, before)).await?;
                }
                state.others.insert(node.clone(), up_to);
            }
        }
        Ok(())
    }

    async fn reopen(&self, state: &mut State, others: &Others, some: &[(TraceId, Arrived)], told_by: (&NodeId, i64)) -> Result<(), String> {
        let ids: Vec<TraceId> = some.iter().map(|(id, _)| *id).collect();
        let (start, end) = state.known.extent_of_all(some);
        let range = TimeRange::new(start.saturating_sub(REACH_NANOS), end.saturating_add(REACH_NANOS));
        let written = self.written(&ids, range).await?;
        let now_nanos = self.clock().now_nanos();
        for (id, arrived) in some {
            if written.get(id).is_some_and(|written| others.is_for(self.us(), written)) {
                // its spans came elsewhere: no position of ours waits for it
                let arrived = Arrived {
                    first_ingest_id: i64::MAX,
                    ..*arrived
                };
                let mut open = Open::new(arrived, now_nanos);
                open.told_by = Some((told_by.0.clone(), told_by.1));
                state.open.insert(*id, open);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(letter: char) -> NodeId {
        NodeId::parse(&letter.to_string().repeat(26)).expect("a name")
    }

    #[test]
    fn one_node_settles_a_trace_and_the_later_ones_wait() {
        let others = |alive: &str| Others {
            alive: alive.chars().map(node).collect(),
            lag_nanos: 20,
            ..Others::default()
        };
        let of = |nodes: &str| Written {
            nodes: nodes.chars().map(node).collect(),
            ..Written::default()
        };
        for (us, alive, nodes, expected) in [
            ('a', "bc", "ab", true),
            ('b', "ac", "ab", false),
            ('b', "c", "ab", true),
            ('b', "ac", "bc", true),
            ('a', "bc", "bc", false),
            ('a', "bc", "a", false),
        ] {
            assert_eq!(others(alive).is_for(&node(us), &of(nodes)), expected, "{us} beside {alive} of {nodes}");
        }
        assert_eq!(others("").wait_nanos(&node('c')), 0);
        assert_eq!(others("bc").wait_nanos(&node('a')), 0);
        assert_eq!(others("ab").wait_nanos(&node('c')), 2 * (20 + MARGIN_NANOS));
    }
}
