//! A page of events: helpings of rows, each verified, until there are as many as were asked for, or the call has worked enough.
//!
//! A client waits a minute for an answer, and asks the same again when it has none. So what there is no time for is no failure: the page
//! ends, perhaps empty, and its token goes on behind what was looked at ([`SearchResponse::whole_until`]). Where time was up before anything
//! was looked at whole, the next call asks for a quarter of the range, and so on ([`Place::halvings`]); what is still too much then
//! is the store's fault, and is told as one. A call begins no further search when half of its time is over, and waits for none beyond
//! [`MAX_TIME`].

use std::time::{Duration, Instant};

use super::super::answer::BUSY_RETRY_AFTER;
use super::Registry;
use super::error::{Error, Result};
use super::events::{Asked, Event};
use crate::decode::awslogs::EVENT_OVERHEAD_BYTES;
use crate::model::{Table, TimeRange};
use crate::query::{self, Coverage, Cursor, Engine, Extent, Order, SearchRequest, SearchResponse};

/// Bytes of a page's messages, each with its overhead.
const MAX_PAGE_BYTES: usize = 1_048_576;
/// Rows asked for at a time.
const HELPING: usize = if cfg!(test) { 8 } else { 2_500 };
/// Rows that are looked at for one page; then it ends, and its token goes on.
const MAX_LOOKED_AT: usize = 50_000;
/// How long a call may take: clients wait a minute.
pub(super) const MAX_TIME: Duration = Duration::from_secs(55);
/// How often a range is halved at most, and how often at once.
pub(super) const MAX_HALVINGS: u8 = 12;
const HALVINGS_AT_ONCE: u8 = 2;

/// Where events come from.
pub(super) trait Searched: Sync {
    fn search(&self, request: &SearchRequest) -> impl Future<Output = query::Result<SearchResponse>> + Send;
    fn extent(&self, range: TimeRange) -> Extent;
    /// How long a search may take.
    fn patience(&self) -> Duration;
    /// How long all of a call's may take.
    fn max_time(&self) -> Duration {
        MAX_TIME
    }
}

impl Searched for Engine {
    async fn search(&self, request: &SearchRequest) -> query::Result<SearchResponse> {
        Engine::search(self, request).await
    }
    fn extent(&self, range: TimeRange) -> Extent {
        Engine::extent(self, Table::Logs, range)
    }
    fn patience(&self) -> Duration {
        Duration::from_secs(self.config().timeout_seconds)
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The last row that was looked at; `None` = at the beginning.
    pub(super) cursor: Option<Cursor>,
    /// How often what is left was halved, since there was no time for more.
    pub(super) halvings: u8,
}

impl Place {
    /// What is left of a range.
    fn left(self, range: TimeRange, order: Order) -> TimeRange {
        match (self.cursor, order) {
            (None, _) => range,
            (Some(at), Order::OldestFirst) => TimeRange::new(range.start_nanos.max(at.time_unix_nano), range.end_nanos),
            (Some(at), Order::NewestFirst) => TimeRange::new(range.start_nanos, range.end_nanos.min(at.time_unix_nano.saturating_add(1))),
        }
    }

    /// What of that is asked for at once.
    fn slice(self, left: TimeRange, order: Order, rows: &impl Searched) -> TimeRange {
        if self.halvings == 0 {
            return left;
        }
        let there = rows.extent(left);
        let (first, end) = (there.first_nanos.max(left.start_nanos), there.last_nanos.saturating_add(1).min(left.end_nanos));
        if first >= end {
            return left;
        }
        let width = (end.saturating_sub(first) >> self.halvings).max(1);
        match order {
            Order::OldestFirst => TimeRange::new(left.start_nanos, first.saturating_add(width)),
            Order::NewestFirst => TimeRange::new(end.saturating_sub(width), left.end_nanos),
        }
    }

    /// Behind all rows before a time, in an order, and before those of it.
    fn at(self, time_unix_nano: i64, order: Order) -> Place {
        let ingest_id = match order {
            Order::OldestFirst => i64::MIN,
            Order::NewestFirst => i64::MAX,
        };
        let cursor = Some(Cursor { time_unix_nano, ingest_id });
        Place { cursor, ..self }
    }

    /// Behind a slice.
    fn behind(self, slice: TimeRange, order: Order) -> Place {
        let place = match order {
            Order::OldestFirst => self.at(slice.end_nanos, order),
            Order::NewestFirst => self.at(slice.start_nanos.saturating_sub(1), order),
        };
        Place {
            // what follows may be quicker
            halvings: self.halvings.saturating_sub(1),
            ..place
        }
    }

    /// The same for less of what is left; `None` if that is in vain.
    fn narrower(self, left: TimeRange, order: Order, rows: &impl Searched) -> Option<Place> {
        let place = match (self.cursor, order) {
            (Some(_), _) => self,
            (None, Order::OldestFirst) => self.at(left.start_nanos, order),
            (None, Order::NewestFirst) => {
                // behind what there is, and before what comes: who goes on from here the other way misses nothing
                let last = rows.extent(left).last_nanos.max(left.start_nanos);
                self.at(last.min(left.end_nanos.saturating_sub(1)), order)
            }
        };
        let halvings = self.halvings + HALVINGS_AT_ONCE;
        (halvings <= MAX_HALVINGS).then_some(Place { halvings, ..place })
    }
}

/// A page, in the order asked for.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// Where the next one begins, if there may be more.
    pub(super) next: Option<Place>,
    /// Whether time ended it: there is none for another.
    pub(super) is_late: bool,
}

impl Page {
    fn upto(events: Vec<Event>, next: Option<Place>) -> Page {
        Page { events, next, is_late: false }
    }

    fn late(events: Vec<Event>, next: Place) -> Page {
        Page {
            events,
            next: Some(next),
            is_late: true,
        }
    }
}

/// How much of an answer counts.
enum Whole {
    All,
    /// The rows before this time, in the order asked for.
    Until(i64),
    /// Nothing, since there was no time.
    Nothing,
}

/// What of an answer that may lack rows is sure to be all there is.
fn whole(answer: &SearchResponse, left: TimeRange, order: Order) -> Result<Whole> {
    if answer.coverage.complete {
        return Ok(Whole::All);
    }
    if !answer.coverage.is_time_up() {
        return Err(unread(&answer.coverage));
    }
    let is_further = |time: i64| match order {
        Order::OldestFirst => time > left.start_nanos,
        Order::NewestFirst => time < left.end_nanos.saturating_sub(1),
    };
    let ends_before = |time: i64| answer.next_cursor.is_some_and(|cursor| comes_before(cursor.time_unix_nano, time, order));
    let lacks_time_alone = answer.coverage.lacks_time_alone();
    match answer.whole_until {
        // time was up as the last row was read
        None if lacks_time_alone => Ok(Whole::All),
        // the page was full before: there may be more rows between its last one and what was not looked at
        Some(time) if ends_before(time) => Ok(Whole::All),
        Some(time) if is_further(time) => Ok(Whole::Until(time)),
        Some(_) if lacks_time_alone => Ok(Whole::Nothing),
        _ => Err(unread(&answer.coverage)),
    }
}

/// The events behind a place, for a call that began then.
pub(super) async fn gather(rows: &impl Searched, registry: &Registry, asked: &Asked<'_>, from: Place, begun: Instant) -> Result<Page> {
    let (query, order) = (asked.query(), asked.order);
    let mut place = from;
    let mut events: Vec<Event> = Vec::new();
    let (mut bytes, mut looked_at) = (0, 0);
    // behind the last row of another time or ID
    let mut before = place;
    // as many as are wanted, if all that the index gives are; else more each time
    let mut helping = asked.limit.min(HELPING);
    loop {
        let left = place.left(asked.range, order);
        let slice = place.slice(left, order, rows);
        let request = SearchRequest {
            table: Table::Logs,
            query: query.clone(),
            range: slice,
            limit: helping,
            cursor: place.cursor,
            order,
        };
        let found = tokio::time::timeout(rows.max_time().saturating_sub(begun.elapsed()), rows.search(&request)).await;
        let (mut answer, whole) = match found {
            Ok(answer) => {
                let answer = answer?;
                let whole = whole(&answer, left, order);
                (answer, whole)
            }
            // the searches before took some of its time
            Err(_) if place != from => return Ok(Page::late(events, place)),
            Err(_) => match place.narrower(left, order, rows) {
                Some(next) => return Ok(Page::late(events, next)),
                None => return Err(unavailable("time was up")),
            },
        };
        let until = match whole {
            Ok(Whole::All) => None,
            Ok(Whole::Until(time)) => {
                answer.hits.retain(|hit| comes_before(hit.time_unix_nano(), time, order));
                Some(time)
            }
            // what was found is found; the next call says what is wrong
            Err(_) if !events.is_empty() => return Ok(Page::upto(events, Some(place))),
            Err(error) => return Err(error),
            Ok(Whole::Nothing) => match place.narrower(left, order, rows) {
                Some(next) => return Ok(Page::late(events, next)),
                None if !events.is_empty() => return Ok(Page::late(events, place)),
                None => return Err(unread(&answer.coverage)),
            },
        };
        let is_last = until.is_none() && answer.next_cursor.is_none() && slice == left;
        for hit in answer.hits {
            let at = Some(Cursor {
                time_unix_nano: hit.time_unix_nano(),
                ingest_id: hit.ingest_id(),
            });
            looked_at += 1;
            if place.cursor != at {
                before = place;
            }
            let Some(event) = Event::of(hit).filter(|event| asked.is_wanted(event, registry)) else {
                place.cursor = at;
                continue;
            };
            let event_bytes = event.message.len() + EVENT_OVERHEAD_BYTES;
            let has_room = events.len() < asked.limit && (events.is_empty() || bytes + event_bytes <= MAX_PAGE_BYTES);
            if !has_room {
                // of two nodes' rows of one time and ID, between which no cursor stands, both come on the next page
                let twins = events.iter().rev().take_while(|event| Some(event.cursor()) == at).count();
                if twins < events.len() {
                    events.truncate(events.len() - twins);
                    place = before;
                }
                return Ok(Page::upto(events, Some(place)));
            }
            place.cursor = at;
            bytes += event_bytes;
            events.push(event);
        }
        match until {
            Some(time) => return Ok(Page::late(events, place.at(time, order))),
            None if is_last => return Ok(Page::upto(events, None)),
            None if answer.next_cursor.is_none() => place = place.behind(slice, order),
            None => {}
        }
        // another helping may take all of its time
        if begun.elapsed() >= rows.patience().min(rows.max_time()) / 2 {
            return Ok(Page::late(events, place));
        }
        if looked_at >= MAX_LOOKED_AT || events.len() == asked.limit {
            return Ok(Page::upto(events, Some(place)));
        }
        helping = (helping * 4).min(HELPING);
    }
}

fn comes_before(one: i64, other: i64, order: Order) -> bool {
    match order {
        Order::OldestFirst => one < other,
        Order::NewestFirst => one > other,
    }
}

/// Not all there is could be read.
pub(super) fn unread(coverage: &Coverage) -> Error {
    let why = coverage
        .problems
        .first()
        .map_or("not everything could be read", |problem| problem.message.as_str());
    unavailable(why)
}

fn unavailable(why: &str) -> Error {
    Error::Unavailable {
        message: format!("The log events could not all be read: {why}"),
        retry_after: BUSY_RETRY_AFTER,
    }
}
