//! Parts of a trace sent to several nodes that see each other's rows late, live and die as they please: in the end the tables say what
//! all the spans say.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::super::assembler::{Assembler, Checkpoint};
use super::super::compare::WrittenRow;
use super::super::lake::Lake;
use super::super::others::Others;
use super::super::summary::Summary;
use super::random::{NOW, arrived_of, calls_of, node, now, random_trace, rows_of, starting, web};
use super::*;
use crate::catalog::NodeId;
use crate::ingest::{Lost, Refused};
use crate::model::{Clock, ManualClock, Rows, Table};
use crate::query::{Arrived, Logged};

/// A row of `traces`: who wrote it, at which of its positions, of which trace.
type Row = (usize, i64, TraceId, WrittenRow);

#[derive(Debug)]
struct Shared {
    spans: Vec<(usize, SpanHit)>,
    rows: Vec<Row>,
    edges: Calls,
    last_lsn: Vec<i64>,
    /// How far each sees each.
    visible: Vec<Vec<i64>>,
    /// What each believes to live.
    alive: Vec<Vec<bool>>,
    /// What each kept, and what of that survives a crash.
    kept: Vec<(Option<Checkpoint>, Option<Checkpoint>)>,
}

impl Shared {
    fn sees(&self, us: usize, writer: usize, lsn: i64) -> bool {
        us == writer || lsn <= self.visible[us][writer]
    }

    fn put(&mut self, to: usize, mut span: SpanHit) {
        self.last_lsn[to] += 1;
        // no two alike: which of two that are the same span counts is decided by it
        span.ingest_id = (self.last_lsn[to] << 20) + to as i64;
        self.spans.push((to, span));
    }

    /// `us` sees all that `writer` wrote.
    fn show(&mut self, us: usize, writer: usize) {
        self.visible[us][writer] = self.last_lsn[writer];
    }

    fn show_all(&mut self) {
        let all = self.last_lsn.clone();
        self.visible.fill(all);
    }

    /// What the tables are to say.
    fn recomputed(&self) -> (Calls, BTreeMap<String, Summary>) {
        let (mut calls, mut summaries) = (Calls::default(), BTreeMap::new());
        for id in self.spans.iter().map(|(_, span)| span.trace_id.clone()) {
            summaries.entry(id).or_insert_with_key(|id| {
                let spans = self.spans.iter().filter(|(_, span)| span.trace_id == *id);
                let trace = trace_of(id, spans.map(|(_, span)| span)).expect("it has spans");
                let summary = Summary::of(&TraceFacts::of(&trace), Logged::default());
                calls.add(&summary.calls);
                summary
            });
        }
        (calls, summaries)
    }

    fn check(&self, seed: u64) {
        let (calls, summaries) = self.recomputed();
        assert_eq!(self.edges, calls, "seed {seed}: the edges");
        for (id, summary) in &summaries {
            let of_trace = || self.rows.iter().filter(|(_, _, of, _)| of.to_string() == *id).map(|(.., row)| row);
            let revision = of_trace().map(|row| row.revision).max();
            let digests: Vec<i64> = of_trace().filter(|row| Some(row.revision) == revision).map(|row| row.digest).collect();
            assert_eq!(digests, [summary.digest()], "seed {seed}: trace {id}");
        }
    }
}

fn trace_of<'a>(id: &str, spans: impl Iterator<Item = &'a SpanHit>) -> Option<Trace> {
    let spans = spans.map(|span| Hit::Span(Box::new(span.clone()))).collect();
    let id = TraceId::from_hex(id).expect("an ID");
    Trace::assemble(id, spans, Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO)
}

/// The lake as one of the nodes sees it.
#[derive(Debug)]
struct OneOf {
    shared: Arc<Mutex<Shared>>,
    number: usize,
}

fn last_id(lsn: i64) -> i64 {
    ((lsn + 1) << 20) - 1
}

fn number_of(node: &NodeId) -> usize {
    usize::from(node.as_str().as_bytes()[0] - b'a')
}

#[async_trait]
impl Lake for OneOf {
    async fn settled(&self, _before: i64) -> i64 {
        last_id(self.shared.lock().last_lsn[self.number])
    }
    async fn arrived(&self, table: Table, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        let shared = self.shared.lock();
        let ours = shared.spans.iter().filter(|(to, _)| table == Table::Spans && *to == self.number);
        let rows = ours.map(|(_, span)| {
            let id = TraceId::from_hex(&span.trace_id).expect("an ID");
            let start = span.start_time_unix_nano;
            (span.ingest_id, id, start, start + span.duration_nano)
        });
        Ok(arrived_of(rows, positions))
    }
    async fn traces(&self, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>, String> {
        let shared = self.shared.lock();
        let trace = |id: &TraceId| {
            let id = id.to_string();
            let seen = shared.spans.iter().filter(|(to, span)| {
                let is_seen = shared.sees(self.number, *to, span.ingest_id >> 20);
                is_seen && span.trace_id == id && range.contains(span.start_time_unix_nano)
            });
            trace_of(&id, seen.map(|(_, span)| span))
        };
        Ok(Some(ids.iter().filter_map(trace).collect()))
    }
    async fn logged(&self, _ids: &[TraceId], _range: TimeRange) -> Result<HashMap<TraceId, Logged>, String> {
        Ok(HashMap::new())
    }
    async fn written(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Vec<WrittenRow>>, String> {
        let shared = self.shared.lock();
        let mut found: HashMap<TraceId, Vec<WrittenRow>> = HashMap::new();
        let seen = shared.rows.iter().filter(|(writer, lsn, id, row)| {
            let is_seen = shared.sees(self.number, *writer, *lsn);
            is_seen && ids.contains(id) && range.contains(row.start_nanos)
        });
        for (_, _, id, row) in seen {
            let newest = found.entry(*id).or_default();
            if newest.iter().all(|other| other.node != row.node || other.revision <= row.revision) {
                newest.retain(|other| other.node != row.node || other.revision >= row.revision);
                newest.push(row.clone());
            }
        }
        Ok(found)
    }
    fn node(&self) -> NodeId {
        node(self.number as u8)
    }
    fn others(&self) -> Others {
        let shared = self.shared.lock();
        let others = || (0..shared.last_lsn.len()).filter(|number| *number != self.number);
        Others {
            alive: others()
                .filter(|other| shared.alive[self.number][*other])
                .map(|other| node(other as u8))
                .collect(),
            seen: others().map(|other| (node(other as u8), last_id(shared.visible[self.number][other]))).collect(),
            lag_nanos: 5 * SECOND,
        }
    }
    async fn arrived_elsewhere(&self, of: &NodeId, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        let shared = self.shared.lock();
        let theirs = shared
            .rows
            .iter()
            .filter(|(writer, lsn, ..)| *writer == number_of(of) && shared.sees(self.number, *writer, *lsn));
        Ok(arrived_of(
            theirs.map(|(_, lsn, id, row)| (lsn << 20, *id, row.start_nanos, row.start_nanos)),
            positions,
        ))
    }
    async fn write(&self, tables: Vec<Rows>) -> Result<(), Refused> {
        let mut shared = self.shared.lock();
        shared.last_lsn[self.number] += 1;
        let lsn = shared.last_lsn[self.number];
        for rows in tables {
            if rows.table() == Table::ServiceEdges {
                shared.edges.add(&calls_of(&rows));
                continue;
            }
            shared.rows.extend(rows_of(&rows).into_iter().map(|(id, row)| (self.number, lsn, id, row)));
        }
        Ok(())
    }
    fn lost(&self) -> Vec<(String, Lost)> {
        Vec::new()
    }
    async fn forget_lost(&self, _key: &str) -> Result<(), String> {
        Ok(())
    }
    fn may_delete_old(&self) -> Result<(), String> {
        Ok(())
    }
    async fn delete_old(&self, _below: &[(TraceId, i32)], _range: TimeRange) -> Result<(), String> {
        Ok(())
    }
    fn newest_start(&self) -> i64 {
        let shared = self.shared.lock();
        let seen = shared.rows.iter().filter(|(writer, lsn, ..)| shared.sees(self.number, *writer, *lsn));
        seen.map(|(.., row)| row.start_nanos).max().unwrap_or(i64::MIN)
    }
    async fn with_rows(&self, range: TimeRange, most: usize) -> Result<Option<HashMap<TraceId, Arrived>>, String> {
        let shared = self.shared.lock();
        let seen = shared.rows.iter().filter(|(writer, lsn, ..)| shared.sees(self.number, *writer, *lsn));
        // they end within an hour
        Ok(starting(seen.map(|(_, _, id, row)| (*id, row.start_nanos, row.start_nanos)), range, most))
    }
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.lock().kept[self.number].0.clone()
    }
    fn beginning(&self) -> (i64, bool) {
        (-1, true)
    }
    async fn keep(&self, checkpoint: Checkpoint) -> Result<(), String> {
        self.shared.lock().kept[self.number] = (Some(checkpoint.clone()), Some(checkpoint));
        Ok(())
    }
    fn keep_relaxed(&self, checkpoint: Checkpoint) {
        self.shared.lock().kept[self.number].0 = Some(checkpoint);
    }
}

struct World {
    shared: Arc<Mutex<Shared>>,
    clock: Arc<ManualClock>,
    nodes: Vec<Assembler>,
}

impl World {
    fn of(n_nodes: usize) -> World {
        let shared = Shared {
            spans: Vec::new(),
            rows: Vec::new(),
            edges: Calls::default(),
            last_lsn: vec![0; n_nodes],
            visible: vec![vec![0; n_nodes]; n_nodes],
            alive: vec![vec![true; n_nodes]; n_nodes],
            kept: vec![(None, None); n_nodes],
        };
        let mut world = World {
            shared: Arc::new(Mutex::new(shared)),
            clock: Arc::new(ManualClock::new(NOW)),
            nodes: Vec::new(),
        };
        world.nodes = (0..n_nodes).map(|number| world.start(number)).collect();
        world
    }

    fn start(&self, number: usize) -> Assembler {
        let lake = Arc::new(OneOf {
            shared: self.shared.clone(),
            number,
        });
        Assembler::new(Config::default(), lake, self.clock.clone() as Arc<dyn Clock>)
    }

    /// All see all, and all look, none seeing what the others write meanwhile; gives the rows that are written.
    async fn round(&self, order: &[usize]) -> usize {
        let before = {
            let mut shared = self.shared.lock();
            shared.show_all();
            shared.rows.len()
        };
        for number in order {
            self.nodes[*number].step(0).await.expect("a step");
        }
        self.shared.lock().rows.len() - before
    }
}

async fn check(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let n_nodes = rng.random_range(2..4usize);
    let mut world = World::of(n_nodes);
    for node in &world.nodes {
        node.step(0).await.expect("begins");
    }
    let mut spans: Vec<SpanHit> = (0..rng.random_range(1..8)).flat_map(|number| random_trace(&mut rng, number)).collect();
    spans.shuffle(&mut rng);
    for span in spans {
        let (one, other) = (rng.random_range(0..n_nodes), rng.random_range(0..n_nodes));
        world.shared.lock().put(one, span);
        match rng.random_range(0..12) {
            0..=4 => {
                let quiet = if rng.random_bool(0.5) { 0 } else { 5 * SECOND };
                world.nodes[other].step(quiet).await.expect("a step");
            }
            5 => world.nodes[one] = world.start(one),
            6 => {
                let kept = &mut world.shared.lock().kept[one];
                kept.0 = kept.1.clone();
            }
            7 => world.shared.lock().alive[one][other] = rng.random_bool(0.5),
            8 => {
                world.clock.advance(rng.random_range(0..20) * SECOND);
            }
            _ => world.shared.lock().show(one, other),
        }
        if rng.random_bool(0.1) {
            world.nodes[one] = world.start(one);
        }
    }
    world.shared.lock().alive = vec![vec![true; n_nodes]; n_nodes];
    let mut order: Vec<usize> = (0..n_nodes).collect();
    for _ in 0..5 {
        order.shuffle(&mut rng);
        world.round(&order).await;
    }
    assert_eq!(world.round(&order).await, 0, "seed {seed}: nobody corrects what is right");
    world.shared.lock().check(seed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn what_several_nodes_keep_is_what_all_their_spans_say(seed: u64) {
        now(check(seed));
    }
}

fn pair() -> (SpanHit, SpanHit) {
    let caller = web(1, 1, NOW);
    let mut called = span(2, Some(1), "pay", "SERVER", NOW + 5, SECOND / 2);
    called.trace_id = caller.trace_id.clone();
    (caller, called)
}

#[test]
fn two_who_looked_at_once_are_put_right_by_one_of_them() {
    now(async {
        let world = World::of(2);
        world.round(&[0, 1]).await;
        let (caller, called) = pair();
        world.shared.lock().put(0, caller);
        world.shared.lock().put(1, called);
        // neither sees the other: what was called seems to have been called from outside
        for node in &world.nodes {
            node.step(0).await.expect("a step");
        }
        {
            let shared = world.shared.lock();
            assert_ne!(shared.edges, shared.recomputed().0);
        }
        assert_eq!(world.round(&[1, 0]).await, 1);
        world.shared.lock().check(0);
        assert_eq!(world.round(&[0, 1]).await, 0);
    });
}

#[test]
fn the_second_node_waits_until_it_sees_what_the_first_wrote() {
    now(async {
        let world = World::of(2);
        world.round(&[0, 1]).await;
        let (caller, called) = pair();
        world.shared.lock().put(0, caller);
        world.shared.lock().put(1, called);
        let step = async |number: usize| world.nodes[number].step(10 * SECOND).await.expect("a step");
        step(0).await;
        step(1).await;
        world.clock.advance(10 * SECOND);
        step(0).await;
        step(1).await;
        assert_eq!(world.shared.lock().rows.len(), 1, "the first has written, the second waits");
        world.shared.lock().show_all();
        world.clock.advance(7 * SECOND);
        step(0).await;
        step(1).await;
        assert_eq!(world.shared.lock().rows.len(), 2);
        world.shared.lock().check(0);
    });
}
