//! Pages over rows that take longer than there is time for.

use std::time::Duration;

use super::super::error::Error;
use super::super::events::{Asked, Streams};
use super::super::pages::{Page, Place, Searched, gather};
use super::*;
use crate::model::TimeRange;
use crate::query::{self, Coverage, Cursor, Extent, Hit, LogHit, Order, ProblemKind, SearchRequest, SearchResponse};

/// Rows a millisecond apart, in blocks of fifty, of which a search has time for so many.
struct Slow {
    n_rows: i64,
    time_for: i64,
    /// Rows from here on cannot be read.
    away_from: i64,
    /// Each row is there twice, as of two nodes that give the same IDs.
    is_doubled: bool,
}

const BLOCK: i64 = 50;
const START: i64 = NOW_MILLIS * 1_000_000;

fn time_of(row: i64) -> i64 {
    START + row * 1_000_000
}

fn hit(row: i64) -> Hit {
    Hit::Log(Box::new(LogHit {
        ingest_id: row,
        time_unix_nano: time_of(row),
        observed_time_micros: Some(time_of(row) / 1_000),
        body: Some(format!("line {row}")),
        resource_attributes: vec![("aws.log.group.names".into(), "g".into()), ("aws.log.stream.names".into(), "s".into())],
        ..LogHit::default()
    }))
}

/// What a filter is for: few rows match.
fn matches(row: i64) -> bool {
    row % 17 == 3 || row % 100 == 0
}

impl Searched for Slow {
    async fn search(&self, request: &SearchRequest) -> query::Result<SearchResponse> {
        let is_behind = |row: &i64| {
            request.cursor.is_none_or(|cursor| match request.order {
                Order::OldestFirst => (time_of(*row), *row) > (cursor.time_unix_nano, cursor.ingest_id),
                Order::NewestFirst => (time_of(*row), *row) < (cursor.time_unix_nano, cursor.ingest_id),
            })
        };
        let mut rows: Vec<i64> = (0..self.n_rows).filter(|row| request.range.contains(time_of(*row)) && is_behind(row)).collect();
        if request.order == Order::NewestFirst {
            rows.reverse();
        }
        let mut answer = SearchResponse {
            hits: Vec::new(),
            next_cursor: None,
            whole_until: None,
            coverage: Coverage::new(request.range),
            took: Duration::ZERO,
        };
        let mut spent = 0;
        for block in rows.chunk_by(|a, b| a / BLOCK == b / BLOCK) {
            spent += block.len() as i64;
            let number = block[0] / BLOCK;
            let first = match request.order {
                Order::OldestFirst => number * BLOCK,
                Order::NewestFirst => (number + 1) * BLOCK - 1,
            };
            let is_away = block.iter().any(|row| *row >= self.away_from);
            if is_away || spent > self.time_for {
                answer.whole_until = Some(time_of(first));
                match is_away {
                    true => answer.coverage.incomplete(ProblemKind::Unreachable, "a block", "the store is away"),
                    false => answer.coverage.incomplete(ProblemKind::Timeout, "time limit", "time was up"),
                }
                // what it has of the rest is not all of it
                answer.hits.extend(block.iter().copied().filter(|row| matches(*row)).skip(1).map(hit));
                return Ok(answer);
            }
            let copies = if self.is_doubled { 2 } else { 1 };
            let matching = block.iter().copied().filter(|row| matches(*row));
            answer.hits.extend(matching.flat_map(|row| std::iter::repeat_n(hit(row), copies)));
            if answer.hits.len() > request.limit {
                // copies come together
                answer.hits.truncate(request.limit - request.limit % copies);
                answer.next_cursor = answer.hits.last().map(|hit| Cursor {
                    time_unix_nano: hit.time_unix_nano(),
                    ingest_id: hit.ingest_id(),
                });
                return Ok(answer);
            }
        }
        Ok(answer)
    }

    fn extent(&self, range: TimeRange) -> Extent {
        let blocks = (0..self.n_rows / BLOCK).filter(|block| {
            let (first, last) = (time_of(block * BLOCK), time_of(block * BLOCK + BLOCK - 1));
            first < range.end_nanos && last >= range.start_nanos
        });
        let blocks: Vec<i64> = blocks.collect();
        Extent {
            first_nanos: blocks.first().map_or(i64::MAX, |block| time_of(block * BLOCK)),
            last_nanos: blocks.last().map_or(i64::MIN, |block| time_of(block * BLOCK + BLOCK - 1)),
            rows: blocks.len() as u64 * BLOCK.cast_unsigned(),
            bytes: 0,
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3_600)
    }
}

fn asked(range: TimeRange, order: Order, limit: usize) -> Asked<'static> {
    Asked {
        group: "g",
        streams: Streams::All,
        range,
        order,
        limit,
        pattern: None,
    }
}

/// All pages; the rows of each.
async fn pages(server: &Server, slow: &Slow, asked: &Asked<'_>) -> Result<Vec<Vec<i64>>, (Vec<Vec<i64>>, Error)> {
    let mut place = Place::default();
    let mut pages = Vec::new();
    loop {
        let Page { events, next, .. } = match gather(slow, server.receiver.registry(), asked, place).await {
            Ok(page) => page,
            Err(error) => return Err((pages, error)),
        };
        pages.push(events.iter().map(|event| event.id.ingest_id).collect());
        assert!(pages.len() < 10_000, "no end: {place:?} {next:?}");
        let Some(next) = next else { return Ok(pages) };
        assert!(next.cursor.is_some() && next != place, "{place:?}");
        place = next;
    }
}

#[tokio::test]
async fn what_there_is_no_time_for_comes_page_by_page_and_each_event_once() {
    let server = Server::with_stream().await;
    for time_for in [1, 3, 20, 50, 70, 300, 10_000] {
        let slow = Slow {
            n_rows: 1_000,
            time_for,
            away_from: i64::MAX,
            is_doubled: false,
        };
        for (range, limit) in [
            (TimeRange::ALL, 10_000),
            (TimeRange::ALL, 3),
            (TimeRange::new(time_of(120), time_of(777)), 10_000),
            (TimeRange::new(time_of(120), i64::MAX), 10),
        ] {
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let asked = asked(range, order, limit);
                let pages = pages(&server, &slow, &asked).await.expect("pages");
                let found: Vec<i64> = pages.concat();
                let mut expected: Vec<i64> = (0..1_000).filter(|row| matches(*row) && range.contains(time_of(*row))).collect();
                if order == Order::NewestFirst {
                    expected.reverse();
                }
                assert_eq!(found, expected, "{time_for} {range:?} {order:?} {limit}");
                assert!(pages.iter().all(|page| page.len() <= limit));
                if time_for == 10_000 && limit == 10_000 {
                    assert_eq!(pages.len(), 1, "there was time for all");
                }
            }
        }
    }
}

#[tokio::test]
async fn rows_of_two_nodes_that_have_one_time_and_id_are_on_one_page() {
    let server = Server::with_stream().await;
    for (limit, time_for) in [(2, 10_000), (3, 10_000), (7, 90), (10_000, 90)] {
        let slow = Slow {
            n_rows: 1_000,
            time_for,
            away_from: i64::MAX,
            is_doubled: true,
        };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut found: Vec<i64> = pages(&server, &slow, &asked(TimeRange::ALL, order, limit)).await.expect("pages").concat();
            found.sort_unstable();
            let expected: Vec<i64> = (0..1_000).filter(|row| matches(*row)).flat_map(|row| [row, row]).collect();
            assert_eq!(found, expected, "{limit} {time_for} {order:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_told_behind_what_was_found() {
    let server = Server::with_stream().await;
    let mut slow = Slow {
        n_rows: 1_000,
        time_for: 10_000,
        away_from: 400,
        is_doubled: false,
    };
    let asked = asked(TimeRange::ALL, Order::OldestFirst, 10_000);
    let expected: Vec<i64> = (0..400).filter(|row| matches(*row)).collect();
    let (found, error) = pages(&server, &slow, &asked).await.expect_err("the store is away");
    assert!(expected.starts_with(&found.concat()), "{found:?}");
    assert!(
        matches!(&error, Error::Unavailable { message, .. } if message.contains("the store is away")),
        "{error:?}"
    );
    // pages that time ended before are as good as any
    slow.time_for = 120;
    let (found, error) = pages(&server, &slow, &asked).await.expect_err("the store is away");
    assert!(found.len() > 2 && expected.starts_with(&found.concat()), "{found:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    // and what is too much however little is asked for ends too
    let stuck = Slow {
        n_rows: 1_000,
        time_for: 0,
        away_from: i64::MAX,
        is_doubled: false,
    };
    let (found, error) = pages(&server, &stuck, &asked).await.expect_err("no time for anything");
    assert!(found.concat().is_empty() && found.len() < 10, "{found:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}
