//! All traces of a time frame, page by page, whole: what a list of them and `GetTraceSummaries` go through.
//!
//! It goes through spans of the time frame, newest first, and reads of them the trace IDs alone; then the traces are read. Of a filter
//! expression the index is asked what some span of each trace must meet ([`Expression::needs`]): if few enough spans meet that, only
//! those are gone through, within a day before and after the time frame, since they need not be in it themselves. Or the caller says
//! which spans ([`Walk::begin`]). The first page decides; its token says what it decided.
//!
//! A trace is told on the page on which the newest of the spans lies that are gone through, and on no later one, whatever comes between two
//! pages. It stands where the newest of its spans stands that were there when the first page was asked for: their `ingest_id` is not above the
//! greatest one of then, as the token says; a trace that came later, where the newest of all stands. That tells late spans of one node; of other nodes'
//! spans it tells nothing, nor of a row in progress that was told and is replaced. So what was told is remembered too ([`crate::query::told`]), unless it
//! is forgotten (by a restart, on another node, in a walk through very many traces).

use std::collections::{HashMap, HashSet};

use super::Expression;
use crate::model::{Table, TimeRange, TraceId, format_time};
use crate::query::{Bound, Coverage, Cursor, Engine, Error, ProblemKind, Query, Result, Test, Trace, TraceIds};

/// Spans gone through for one page. (Few in tests.)
pub const SPANS_A_PAGE: usize = if cfg!(test) { 6 } else { 2_000 };
/// Needs of one expression that are counted.
const MAX_NEEDS: usize = 8;
/// Spans looked at in one go, to find which traces an earlier page told.
const EARLIER_AT_ONCE: usize = 20_000;
/// Work on a trace of more spans than this is done aside, so as not to hold up others.
const SPANS_INLINE: usize = 500;
/// Segments that ended in a time frame may have begun so long before it, and spans of its traces come so long after it.
pub const LONGEST_SEGMENT_NANOS: i64 = 86_400_000_000_000;

/// The spans that are gone through where nothing else chooses them.
#[derive(Clone, Debug, PartialEq)]
pub struct LookedAt {
    /// Of a time,
    pub range: TimeRange,
    /// those that meet this.
    pub spans: Query,
}

impl LookedAt {
    /// Those that begin or end in a time, and few others: of what began up to [`LONGEST_SEGMENT_NANOS`] before it, all that ended since. One in
    /// progress ends when it begins.
    pub fn events(range: TimeRange) -> LookedAt {
        let since = |name: &str, from: String| Query::Field {
            name: name.into(),
            test: Test::Range {
                from: Bound::Included(from),
                to: Bound::Open,
            },
        };
        // ends are kept to the microsecond
        let micro_nanos = range.start_nanos.div_euclid(1_000).saturating_mul(1_000);
        LookedAt {
            range: TimeRange::new(range.start_nanos.saturating_sub(LONGEST_SEGMENT_NANOS), range.end_nanos),
            spans: Query::Or(vec![
                since("start_time_unix_nano", range.start_nanos.to_string()),
                since("end_time", format_time(micro_nanos)),
            ]),
        }
    }
}

impl From<TimeRange> for LookedAt {
    fn from(range: TimeRange) -> Self {
        LookedAt { range, spans: Query::All }
    }
}

/// How many traces are read in one go: fewer once they were too much for that, and then by and by as many again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    now: usize,
    most: usize,
}

impl AtOnce {
    /// So many, at the most.
    pub fn most(most: usize) -> AtOnce {
        AtOnce {
            now: most.max(1),
            most: most.max(1),
        }
    }

    /// How many now.
    pub fn get(self) -> usize {
        self.now
    }

    /// So many were too many.
    pub fn too_many(&mut self, tried: usize) {
        self.now = (tried / 8).max(1);
    }

    /// They could be read.
    pub fn done(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.most);
    }
}

/// Which spans are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All that are looked at.
    All,
    /// Those that the caller asks for, of the time frame.
    Asked,
    /// Those that meet the expression's need of this number.
    Need(usize),
}

#[derive(Debug)]
struct Plan {
    way: Way,
    query: Query,
    range: TimeRange,
}

impl Plan {
    fn of(filter: &Expression, asked: &Query, way: Way, looked_at: &LookedAt) -> Option<Plan> {
        let range = looked_at.range;
        let (query, range) = match way {
            Way::All => (looked_at.spans.clone(), range),
            Way::Asked => (asked.clone(), range),
            Way::Need(number) => (filter.needs().into_iter().take(MAX_NEEDS).nth(number)?, Plan::around_of(range)),
        };
        Some(Plan { way, query, range })
    }

    /// Where spans lie that meet a need of traces of a time.
    fn around_of(range: TimeRange) -> TimeRange {
        TimeRange::new(
            range.start_nanos.saturating_sub(LONGEST_SEGMENT_NANOS),
            range.end_nanos.saturating_add(LONGEST_SEGMENT_NANOS),
        )
    }

    /// The one with the fewest spans; all that are looked at, unless another has less than half of them.
    async fn best(engine: &Engine, filter: &Expression, asked: &Query, looked_at: &LookedAt) -> Result<Option<Plan>> {
        if *asked != Query::All {
            return Ok(Plan::of(filter, asked, Way::Asked, looked_at));
        }
        let mut best = Plan::of(filter, asked, Way::All, looked_at);
        let needs = filter.needs();
        if needs.is_empty() {
            return Ok(best);
        }
        let n_all = engine.count(Table::Spans, &looked_at.spans, looked_at.range).await?.count;
        let around = Plan::around_of(looked_at.range);
        if let Some(need) = fewest(engine, &needs, around, n_all).await? {
            best = Plan::of(filter, asked, Way::Need(need), looked_at);
        }
        Ok(best)
    }

    /// Where each of some traces stands, as far as the rows say: at the newest of its spans that were there when the first page was asked for; of
    /// a trace without such, at the newest.
    async fn places(&self, engine: &Engine, ids: &[TraceId], up_to: i64) -> Result<HashMap<TraceId, Cursor>> {
        let is_one = Query::Or(ids.iter().map(|id| Query::equals("trace_id", id.to_string())).collect());
        let query = self.query.clone().and(is_one);
        // of each, its newest span of then, and of all
        let mut newest: HashMap<TraceId, (Option<Cursor>, Cursor)> = HashMap::new();
        let mut cursor = None;
        loop {
            let page = engine.traces_of_spans(&query, self.range, EARLIER_AT_ONCE, cursor).await?;
            if !page.coverage.complete {
                return Err(Error::Unread {
                    what: "what earlier pages told".into(),
                    coverage: Box::new(page.coverage),
                });
            }
            for (place, id) in page.spans {
                let (of_then, _) = newest.entry(id).or_insert((None, place));
                if place.ingest_id <= up_to {
                    of_then.get_or_insert(place);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let place = |(id, (of_then, of_all)): (TraceId, (Option<Cursor>, Cursor))| (id, of_then.unwrap_or(of_all));
        Ok(newest.into_iter().map(place).collect())
    }
}

/// The number of the need that fewest spans of a time meet, if those are less than half of so many, and these more than a page.
async fn fewest(engine: &Engine, needs: &[Query], around: TimeRange, n_all: u64) -> Result<Option<usize>> {
    if n_all <= SPANS_A_PAGE as u64 {
        return Ok(None);
    }
    let (mut best, mut fewest) = (None, n_all / 2);
    for (number, need) in needs.iter().enumerate().take(MAX_NEEDS) {
        let n_spans = engine.count(Table::Spans, need, around).await?.count;
        if n_spans < fewest {
            (best, fewest) = (Some(number), n_spans);
        }
    }
    Ok(best)
}

/// The traces, of those with a span in `range`, that an expression may let through, as long as their spans of `around` are all that it is asked of;
/// others may be told too. At most so many, then the coverage says so.
pub async fn traces_that_may_pass(engine: &Engine, filter: &Expression, range: TimeRange, around: TimeRange, max_traces: usize) -> Result<TraceIds> {
    let mut needs = filter.needs();
    if needs.is_empty() {
        return engine.trace_ids(range, max_traces).await;
    }
    let n_all = engine.count(Table::Spans, &Query::All, range).await?.count;
    match fewest(engine, &needs, around, n_all).await? {
        Some(number) => engine.trace_ids_meeting(&needs.swap_remove(number), around, range, max_traces).await,
        None => engine.trace_ids(range, max_traces).await,
    }
}

/// A place in the order of spans: greater for what comes sooner.
fn rank(place: Cursor) -> (i64, i64) {
    (place.time_unix_nano, place.ingest_id)
}

/// What a page's token says: the way, the walk's number, the greatest `ingest_id` when the first page was asked for, and where the next page
/// begins.
fn read_token(text: &str) -> Option<(Way, u64, i64, Cursor)> {
    let (way, rest) = text.split_once('.')?;
    let (number, rest) = rest.split_once('.')?;
    let (up_to, cursor) = rest.split_once('.')?;
    let way = match way {
        "a" => Way::All,
        "q" => Way::Asked,
        number => Way::Need(number.parse().ok()?),
    };
    Some((way, u64::from_str_radix(number, 16).ok()?, up_to.parse().ok()?, cursor.parse().ok()?))
}

/// One way through the traces of a time frame.
#[derive(Debug)]
pub struct Walk {
    plan: Plan,
    /// By which what it told is remembered.
    number: u64,
    /// The greatest `ingest_id` when the first page was asked for.
    up_to: i64,
    /// Where the next page begins, unless it is the first.
    cursor: Option<Cursor>,
    is_over: bool,
}

/// One page: which traces it has, each with its newest span that was gone through.
#[derive(Debug)]
pub struct Page {
    newest: Vec<(Cursor, TraceId)>,
    /// How many of them were read.
    n_read: usize,
    /// Traces that are read in one go.
    at_once: AtOnce,
    /// Where the next page begins.
    end: Option<Cursor>,
    /// When the oldest span began that was gone through.
    pub begun_nanos: Option<i64>,
    /// Spans gone through.
    pub n_spans: usize,
    /// What the choice of traces rests on.
    pub coverage: Coverage,
}

impl Page {
    /// How many of its traces are told if `last` is the last of them, and where the next page begins; none if nothing follows.
    fn told_up_to(&self, last: Option<TraceId>) -> (usize, Option<Cursor>) {
        let last = last.and_then(|last| self.newest.iter().position(|(_, id)| *id == last));
        let last = last.filter(|last| last + 1 < self.newest.len());
        let n_told = last.map_or(self.newest.len(), |last| last + 1);
        (n_told, last.map(|last| self.newest[last].0).or(self.end))
    }
}

impl Walk {
    /// The first page is next: traces of which a span of the time meets `asked`, and perhaps `filter`, which the caller asks of each.
    pub async fn begin(engine: &Engine, filter: &Expression, asked: &Query, looked_at: impl Into<LookedAt>) -> Result<Walk> {
        let looked_at = looked_at.into();
        let up_to = engine.newest_ingest_id(Table::Spans);
        let plan = Plan::best(engine, filter, asked, &looked_at).await?;
        Ok(Walk {
            plan: plan.ok_or_else(|| Error::internal("an expression's needs have changed"))?,
            number: rand::random(),
            up_to,
            cursor: None,
            is_over: false,
        })
    }

    /// The page of a token is next; `None` if it is none of this question's.
    pub fn resume(filter: &Expression, asked: &Query, looked_at: impl Into<LookedAt>, token: &str) -> Option<Walk> {
        let (way, number, up_to, cursor) = read_token(token)?;
        if (way == Way::Asked) != (*asked != Query::All) {
            return None;
        }
        Some(Walk {
            plan: Plan::of(filter, asked, way, &looked_at.into())?,
            number,
            up_to,
            cursor: Some(cursor),
            is_over: false,
        })
    }

    /// The next page's token; `None` behind the last one, and before the first.
    pub fn token(&self) -> Option<String> {
        let cursor = self.cursor.filter(|_| !self.is_over)?;
        let way = match self.plan.way {
            Way::All => "a".to_string(),
            Way::Asked => "q".to_string(),
            Way::Need(number) => number.to_string(),
        };
        Some(format!("{way}.{:x}.{}.{cursor}", self.number, self.up_to))
    }

    /// Whether there is no further page.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes through the spans of the next page; its traces are then read `at_once` in one go.
    pub async fn page(&self, engine: &Engine, at_once: usize) -> Result<Page> {
        let found = engine.traces_of_spans(&self.plan.query, self.plan.range, SPANS_A_PAGE, self.cursor).await?;
        let begun_nanos = found.spans.last().map(|(place, _)| place.time_unix_nano);
        let n_spans = found.spans.len();
        let mut seen = HashSet::new();
        let mut newest: Vec<(Cursor, TraceId)> = found.spans.into_iter().filter(|(_, id)| seen.insert(*id)).collect();
        let is_behind_page = |place: Cursor| found.next_cursor.is_some_and(|end| rank(place) < rank(end));
        let ids: Vec<TraceId> = newest.iter().map(|(_, id)| *id).collect();
        let told = match self.cursor {
            None => Some(HashSet::new()),
            Some(began) => engine.told().before(self.number, began, ids.iter().copied()),
        };
        let sort = |newest: &mut Vec<(Cursor, TraceId)>| newest.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(rank(*place)));
        if let Some(told) = told {
            newest.retain(|(_, id)| !told.contains(id));
            // a late span moves no trace: where the rows say that it stands, they go on saying should this be forgotten
            let late: Vec<TraceId> = newest.iter().filter(|(place, _)| place.ingest_id > self.up_to).map(|(_, id)| *id).collect();
            if !late.is_empty() {
                let places = self.plan.places(engine, &late, self.up_to).await?;
                // one that by the rows an earlier page has told was not told, and is now
                let is_on_page = |place: &Cursor| self.cursor.is_none_or(|began| rank(*place) < rank(began));
                let moved = |id: &TraceId| places.get(id).copied().filter(is_on_page);
                newest.iter_mut().for_each(|(place, id)| *place = moved(id).unwrap_or(*place));
                newest.retain(|(place, _)| !is_behind_page(*place));
                sort(&mut newest);
            }
        } else if let Some(began) = self.cursor {
            let places = self.plan.places(engine, &ids, self.up_to).await?;
            newest.iter_mut().for_each(|(place, id)| *place = *places.get(id).unwrap_or(place));
            newest.retain(|(place, _)| rank(*place) < rank(began) && !is_behind_page(*place));
            sort(&mut newest);
        }
        Ok(Page {
            newest,
            n_read: 0,
            at_once: AtOnce::most(at_once),
            end: found.next_cursor,
            begun_nanos,
            n_spans,
            coverage: found.coverage,
        })
    }

    /// The next traces of a page, those with the newest spans first; `None` behind its last. A trace too large for one answer is cut, as its
    /// coverage says; one of which something cannot be read is an error.
    pub async fn read(&self, engine: &Engine, page: &mut Page) -> Result<Option<Vec<Trace>>> {
        loop {
            let waiting = &page.newest[page.n_read..];
            let some: Vec<TraceId> = waiting.iter().take(page.at_once.get()).map(|(_, id)| *id).collect();
            let read: Vec<Trace> = match some[..] {
                [] => return Ok(None),
                // a large one, within the bounds of an answer
                [id] => engine.spans_of_trace(id).await?.map(whole_or_cut).transpose()?.into_iter().collect(),
                _ => match engine.spans_of_traces(&some).await? {
                    Some(traces) => traces,
                    None => {
                        page.at_once.too_many(some.len());
                        continue;
                    }
                },
            };
            page.n_read += some.len();
            page.at_once.done();
            return Ok(Some(read));
        }
    }

    /// The next page begins behind this one, or already behind `last` of its traces, if others follow that.
    pub fn go_behind(&mut self, engine: &Engine, page: &Page, last: Option<TraceId>) {
        let (n_told, next) = page.told_up_to(last);
        self.is_over = next.is_none();
        if let Some(next) = next {
            let told = page.newest[..n_told].iter().map(|(place, id)| (*id, *place));
            engine.told().keep(self.number, self.cursor, told, next);
        }
        self.cursor = next.or(self.cursor);
    }
}

/// A trace all of which was read, or as much as an answer may hold; of another nothing is said.
pub fn whole_or_cut(trace: Trace) -> Result<Trace> {
    let coverage = &trace.coverage;
    let is_cut = coverage.further_problems == 0 && coverage.problems.iter().all(|problem| problem.kind == ProblemKind::Limit);
    match coverage.complete || is_cut {
        true => Ok(trace),
        false => Err(Error::Unread {
            what: format!("trace {}", trace.trace_id),
            coverage: Box::new(trace.coverage),
        }),
    }
}

/// Does what looks at a whole trace; of a large one on another thread. Needs a tokio runtime.
pub async fn aside<T: Send + 'static>(trace: Trace, work: impl FnOnce(&Trace) -> T + Send + 'static) -> Result<T> {
    if trace.spans.len() <= SPANS_INLINE {
        return Ok(work(&trace));
    }
    let worked = tokio::task::spawn_blocking(move || work(&trace)).await;
    worked.map_err(|ended| Error::internal(format!("the work on a trace ended: {ended}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_trace_of_the_last_page_there_is_no_token() {
        let ids = [1u8, 2, 3].map(|n| TraceId::from_bytes(&[n; 16]).expect("an ID"));
        let places = [30, 20, 10].map(|time_unix_nano| Cursor { time_unix_nano, ingest_id: 1 });
        let page = |end| Page {
            newest: places.into_iter().zip(ids).collect(),
            n_read: 0,
            at_once: AtOnce::most(1),
            end,
            begun_nanos: None,
            n_spans: 3,
            coverage: Coverage::new(TimeRange::ALL),
        };
        let further = Cursor {
            time_unix_nano: 5,
            ingest_id: 1,
        };
        for (end, last, expected) in [
            (None, None, None),
            (None, Some(ids[0]), Some(places[0])),
            (None, Some(ids[1]), Some(places[1])),
            (None, Some(ids[2]), None),
            (Some(further), Some(ids[1]), Some(places[1])),
            (Some(further), Some(ids[2]), Some(further)),
            (Some(further), None, Some(further)),
        ] {
            assert_eq!(page(end).told_up_to(last).1, expected, "{end:?} {last:?}");
        }
    }

    #[test]
    fn one_trace_that_was_too_large_slows_down_a_few_only() {
        let mut at_once = AtOnce::most(50);
        at_once.too_many(50);
        assert_eq!(at_once.get(), 6);
        at_once.too_many(6);
        let mut taken = Vec::new();
        for _ in 0..8 {
            taken.push(at_once.get());
            at_once.done();
        }
        assert_eq!(taken, [1, 2, 4, 8, 16, 32, 50, 50]);
        assert_eq!(AtOnce::most(0).get(), 1);
    }

    #[test]
    fn tokens_say_what_the_first_page_decided() {
        let cursor = Cursor {
            time_unix_nano: -5,
            ingest_id: 7,
        };
        let filter = Expression::parse("fault").expect("an expression");
        let asked = Query::equals("service", "api");
        for (way, asked) in [(Way::All, &Query::All), (Way::Need(0), &Query::All), (Way::Asked, &asked)] {
            let walk = Walk {
                plan: Plan::of(&filter, asked, way, &TimeRange::ALL.into()).expect("a plan"),
                number: u64::MAX,
                up_to: -9,
                cursor: Some(cursor),
                is_over: false,
            };
            let token = walk.token().expect("a token");
            let again = Walk::resume(&filter, asked, TimeRange::ALL, &token).expect("the same walk");
            assert_eq!((again.plan.way, again.number), (way, u64::MAX), "{token}");
            assert_eq!((again.up_to, again.cursor), (-9, Some(cursor)), "{token}");
            assert!(Walk { is_over: true, ..walk }.token().is_none());
        }
        for bad in [
            "",
            "a",
            "a.",
            "x.1.1.1.2",
            "1.2",
            "a.1.1.2",
            "-1.1.1.1.2",
            "q.1.1.1.2",
            "1.1.-9.-5.7",
            "a.-1.1.1.2",
        ] {
            assert!(Walk::resume(&filter, &Query::All, TimeRange::ALL, bad).is_none(), "{bad}");
        }
        assert!(
            Walk::resume(&filter, &asked, TimeRange::ALL, "a.1.1.1.2").is_none(),
            "a token of another question"
        );
    }
}
