//! Pages over rows that take longer than there is time for.

use std::time::{Duration, Instant};

use super::super::error::Error;
use super::super::events::{Asked, Streams};
use super::super::pages::{Page, Place, Searched, gather};
use super::*;
use crate::model::TimeRange;
use crate::query::{self, Coverage, Cursor, Extent, Hit, LogHit, Order, ProblemKind, SearchRequest, SearchResponse};

/// Rows a millisecond apart, in blocks of fifty, of which a search has time for so many. Two blocks are looked at together.
struct Slow {
    n_rows: i64,
    time_for: i64,
    /// Rows from here on cannot be read.
    away_from: i64,
    /// Each row is there twice, as of two nodes that give the same IDs.
    is_doubled: bool,
    /// As a call sees them.
    patience: Duration,
    max_time: Duration,
    /// No search ends.
    is_stuck: bool,
}

impl Default for Slow {
    fn default() -> Slow {
        Slow {
            n_rows: 1_000,
            time_for: 10_000,
            away_from: i64::MAX,
            is_doubled: false,
            patience: Duration::from_secs(3_600),
            max_time: Duration::from_secs(3_600),
            is_stuck: false,
        }
    }
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
        if self.is_stuck {
            std::future::pending::<()>().await;
        }
        let (mut spent, mut n_blocks) = (0, 0);
        let copies = if self.is_doubled { 2 } else { 1 };
        for block in rows.chunk_by(|a, b| a / BLOCK == b / BLOCK) {
            if n_blocks % 2 == 0 && answer.hits.len() > request.limit {
                break;
            }
            n_blocks += 1;
            spent += block.len() as i64;
            let number = block[0] / BLOCK;
            let first = match request.order {
                Order::OldestFirst => number * BLOCK,
                Order::NewestFirst => (number + 1) * BLOCK - 1,
            };
            let is_away = block.iter().any(|row| *row >= self.away_from);
            if is_away || spent > self.time_for {
                answer.whole_until = Some(time_of(first));
                if is_away {
                    answer.coverage.incomplete(ProblemKind::Unreachable, "a block", "the store is away");
                }
                // what it has of the rest is not all of it
                answer.hits.extend(block.iter().copied().filter(|row| matches(*row)).skip(1).map(hit));
                break;
            }
            let matching = block.iter().copied().filter(|row| matches(*row));
            answer.hits.extend(matching.flat_map(|row| std::iter::repeat_n(hit(row), copies)));
        }
        // time may be up just as the last row is read
        if spent >= self.time_for {
            answer.coverage.incomplete(ProblemKind::Timeout, "time limit", "time was up");
        }
        // what costs no row changes nothing
        answer
            .coverage
            .note(ProblemKind::Corrupt, "an object", "it was damaged here, and fetched again");
        if answer.hits.len() > request.limit {
            // copies come together
            answer.hits.truncate(request.limit - request.limit % copies);
            answer.next_cursor = answer.hits.last().map(|hit| Cursor {
                time_unix_nano: hit.time_unix_nano(),
                ingest_id: hit.ingest_id(),
            });
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
        self.patience
    }

    fn max_time(&self) -> Duration {
        self.max_time
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
        let Page { events, next, .. } = match gather(slow, server.receiver.registry(), asked, place, Instant::now()).await {
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
    for time_for in [1, 3, 20, 50, 70, 300, 1_000, 10_000] {
        let slow = Slow { time_for, ..Slow::default() };
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
            time_for,
            is_doubled: true,
            ..Slow::default()
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
        away_from: 400,
        ..Slow::default()
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
        time_for: 0,
        ..Slow::default()
    };
    let (found, error) = pages(&server, &stuck, &asked).await.expect_err("no time for anything");
    assert!(found.concat().is_empty() && found.len() < 10, "{found:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

/// Goes through a stream with `GetLogEvents` until the token stays: the messages of each page, in the order of the stream.
async fn stream_pages(server: &Server, slow: &Slow, order: Order, limit: i64) -> Result<Vec<Vec<String>>, (Vec<Vec<String>>, Error)> {
    let mut call = wire::GetLogEvents {
        log_group_name: Some("g".into()),
        log_stream_name: Some("s".into()),
        start_from_head: Some(order == Order::OldestFirst),
        limit: Some(limit),
        ..wire::GetLogEvents::default()
    };
    let direction = match order {
        Order::OldestFirst => "nextForwardToken",
        Order::NewestFirst => "nextBackwardToken",
    };
    let mut pages = Vec::new();
    loop {
        let answer = match server.receiver.get_log_events_of(Ok(slow), &call).await {
            Ok(answer) => answer,
            Err(error) => return Err((pages, error)),
        };
        let page: Vec<String> = names(&answer["events"], "message");
        let token = answer[direction].as_str().expect("a token").to_string();
        assert!(pages.len() < 10_000, "no end: {token}");
        if call.next_token.as_ref() == Some(&token) {
            assert!(page.is_empty(), "the token stays behind events: {page:?}");
            return Ok(pages);
        }
        pages.push(page);
        call.next_token = Some(token);
    }
}

#[tokio::test]
async fn a_stream_that_there_is_no_time_for_comes_page_by_page_too() {
    let server = Server::with_stream().await;
    let all: Vec<String> = (0..1_000).filter(|row| matches(*row)).map(|row| format!("line {row}")).collect();
    for (time_for, patience) in [(1, 3_600), (3, 3_600), (20, 3_600), (70, 3_600), (10_000, 3_600), (70, 0), (10_000, 0)] {
        let slow = Slow {
            time_for,
            patience: Duration::from_secs(patience),
            ..Slow::default()
        };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for limit in [3, 10_000] {
                let mut pages = stream_pages(&server, &slow, order, limit).await.expect("pages");
                // nothing could be looked at: that is a page, and no reason to go on within the call
                assert_eq!(pages[0].is_empty(), time_for < BLOCK, "{time_for} {order:?} {limit}: {:?}", pages[0]);
                if order == Order::NewestFirst {
                    pages.reverse();
                }
                assert_eq!(pages.concat(), all, "{time_for} {patience} {order:?} {limit}");
            }
        }
    }
    // each page asks for less, until there is nothing less
    let slow = Slow {
        time_for: 0,
        ..Slow::default()
    };
    let (found, error) = stream_pages(&server, &slow, Order::NewestFirst, 10).await.expect_err("no time for anything");
    assert!(found.concat().is_empty() && (4..10).contains(&found.len()), "{found:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn whoever_goes_forward_from_a_page_without_time_misses_nothing_that_comes() {
    let server = Server::with_stream().await;
    let mut slow = Slow {
        time_for: 1,
        ..Slow::default()
    };
    let mut call = wire::GetLogEvents {
        log_group_name: Some("g".into()),
        log_stream_name: Some("s".into()),
        ..wire::GetLogEvents::default()
    };
    let answer = server.receiver.get_log_events_of(Ok(&slow), &call).await.expect("a page");
    assert_eq!(answer["events"], json!([]));
    call.next_token = answer["nextForwardToken"].as_str().map(String::from);
    (slow.n_rows, slow.time_for) = (1_050, 10_000);
    let answer = server.receiver.get_log_events_of(Ok(&slow), &call).await.expect("a page");
    let expected: Vec<String> = (1_000..1_050).filter(|row| matches(*row)).map(|row| format!("line {row}")).collect();
    assert_eq!(names(&answer["events"], "message"), expected);
}

#[tokio::test]
async fn no_search_is_begun_in_the_second_half_of_the_time() {
    let server = Server::with_stream().await;
    let expected: Vec<i64> = (0..1_000).filter(|row| matches(*row)).collect();
    let none = Duration::ZERO;
    let long = Duration::from_secs(3_600);
    for (patience, max_time) in [(none, long), (long, long)] {
        let slow = Slow {
            patience,
            max_time,
            ..Slow::default()
        };
        let pages = pages(&server, &slow, &asked(TimeRange::ALL, Order::OldestFirst, 10_000)).await.expect("pages");
        assert_eq!(pages.concat(), expected);
        // a helping is of eight rows here
        let (n_pages, of) = if patience == none {
            (expected.len().div_ceil(8), 8)
        } else {
            (1, expected.len())
        };
        assert!(pages.len() == n_pages && pages.iter().all(|page| page.len() <= of), "{pages:?}");
    }
}

#[tokio::test]
async fn no_search_is_waited_for_longer_than_a_client_waits() {
    let server = Server::with_stream().await;
    // whatever a search may take
    let slow = Slow {
        max_time: Duration::from_millis(1),
        is_stuck: true,
        ..Slow::default()
    };
    let asked = asked(TimeRange::ALL, Order::OldestFirst, 10_000);
    let page = gather(&slow, server.receiver.registry(), &asked, Place::default(), Instant::now())
        .await
        .expect("a page");
    assert!(page.events.is_empty() && page.is_late, "{page:?}");
    assert!(page.next.is_some_and(|next| next.halvings > 0), "{page:?}");
    let (found, error) = pages(&server, &slow, &asked).await.expect_err("no time for anything");
    assert!(found.concat().is_empty() && found.len() < 10, "{found:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}
