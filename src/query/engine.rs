//! The door: one method a kind of question.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::anchor::Asker;
use super::answer::{
    CountGroup, CountRequest, CountResponse, Counted, CountedBy, Cursor, Facets, FacetsRequest, Histogram, HistogramRequest, SearchRequest, SearchResponse,
    SpanTraces, SqlRequest, SqlResponse,
};
use super::blocks::Blocks;
use super::fields;
use super::filter::{Filter, Leaf};
use super::histogram::{self, Buckets};
use super::job::Job;
use super::limits::{Gate, Stop};
use super::linked::Most;
use super::metrics::{Kind, Labels, METRICS};
use super::pool::{Pool, Priority, Workers};
use super::report::{self, Taker};
use super::told::Told;
use super::{Config, Coverage, Error, ErrorKind, Order, ProblemKind, Query, Record, Result, Source, Tail, View, count, search, sql};
use crate::catalog::NodeId;
use crate::ingest::INGEST_ID_ROW_BITS;
use crate::model::{Clock, Rows, Table, TimeRange};
use crate::storage::Cache;

/// The bound's name in answers that it cut.
pub(super) const MAX_ANSWER_BYTES: &str = "query.max_answer_bytes";

/// Facets over more rows of blocks than this are batch work.
pub(super) const INTERACTIVE_FACET_ROWS: u64 = 10_000_000;

/// How much lies in the blocks and parts of the head that have rows of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Time of the first row of them; `i64::MAX` if there is none.
    pub first_nanos: i64,
    /// Time of the last one.
    pub last_nanos: i64,
    /// Rows of them, also outside the range.
    pub rows: u64,
    /// Bytes of blocks, with their indexes.
    pub bytes: u64,
}

/// Answers questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Arc<dyn Source>,
    blocks: Arc<Blocks>,
    config: Config,
    clock: Arc<dyn Clock>,
    gate: Gate,
    pool: Pool,
    told: Told,
    /// Places for live tails.
    tails: Arc<Semaphore>,
    /// Where SQL puts what its memory does not hold.
    spill: OnceLock<PathBuf>,
}

impl Engine {
    /// An engine over what `source` shows, reading block objects through `cache`.
    pub fn new(source: Arc<dyn Source>, cache: Arc<Cache>, config: Config, clock: Arc<dyn Clock>) -> Engine {
        let blocks = Arc::new(Blocks::new(cache.clone(), &config));
        let open = Arc::downgrade(&blocks);
        cache.when_full(move || {
            if let Some(blocks) = open.upgrade() {
                blocks.close_all();
            }
        });
        Engine {
            inner: Arc::new(Inner {
                source,
                blocks,
                gate: Gate::new(&config),
                pool: Pool::start(config.threads),
                told: Told::default(),
                tails: Arc::new(Semaphore::new(config.max_tails)),
                spill: OnceLock::new(),
                config,
                clock,
            }),
        }
    }

    /// Lets SQL put into `folder` what its memory does not hold. Removes first whatever is there: an earlier process left it.
    /// Without this, a statement that needs more memory than it may have fails.
    pub fn spill_to(&self, folder: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(folder)?;
        // a second call names the same folder, or comes too late
        let _ = self.inner.spill.set(folder.to_path_buf());
        Ok(())
    }

    /// The bounds in force.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The newest, or oldest, rows that match.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchResponse> {
        self.search_at("search", Priority::Interactive, request).await
    }

    /// The same for a report that asks page after page: it takes the place and the threads of no question that somebody waits for.
    pub async fn search_for_report(&self, request: &SearchRequest) -> Result<SearchResponse> {
        self.search_at("search_for_report", Priority::Batch, request).await
    }

    async fn search_at(&self, kind: &'static str, priority: Priority, request: &SearchRequest) -> Result<SearchResponse> {
        let answer = self.search_once(kind, priority, request).await?;
        match self.lacks_what_was_replaced(&answer.coverage) {
            true => self.search_once(kind, priority, request).await,
            false => Ok(answer),
        }
    }

    async fn search_once(&self, kind: &'static str, priority: Priority, request: &SearchRequest) -> Result<SearchResponse> {
        self.timed_by(
            kind,
            priority,
            |answer: &SearchResponse| answer.coverage.complete,
            async |begun, stop| {
                let limit = request.limit.clamp(1, self.inner.config.max_limit);
                let mut job = self.job(priority, request.table, &request.query, request.range, stop).await?;
                let bounds = search::Bounds {
                    rows: limit,
                    bytes: self.inner.config.max_answer_bytes,
                };
                let page = search::page(&mut job, &self.inner.blocks, request.order, bounds, request.cursor).await?;
                if page.is_cut {
                    let message = format!("the page ends after {} rows; the next one goes on behind them", page.hits.len());
                    job.coverage.note(ProblemKind::Limit, MAX_ANSWER_BYTES, message);
                }
                Ok(page.answer(job.coverage, begun))
            },
        )
        .await
    }

    /// Rows that came with these `ingest_id`s and match, in order of time, behind `after`. A report, as above; blocks and parts of the
    /// head that hold no such row are not looked at, and no block while `node`'s own rows of these positions are all in the head:
    /// two nodes on one store may give the same `ingest_id`s.
    pub async fn arrived(
        &self,
        node: &NodeId,
        table: Table,
        query: &Query,
        positions: RangeInclusive<i64>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<SearchResponse> {
        let (first, last) = (*positions.start(), *positions.end());
        self.timed_by(
            "arrived",
            Priority::Batch,
            |answer: &SearchResponse| answer.coverage.complete,
            async |begun, stop| {
                let came = Filter::leaf(Leaf::Numbers("ingest_id", vec![positions]));
                let filter = Filter::And(vec![came, self.compile(table, query)?]);
                let view = self.view();
                let is_flushed = (first >> INGEST_ID_ROW_BITS).cast_unsigned() <= view.snapshot.flushed_lsn(node);
                let mut job = Job::new(&view, table, filter, TimeRange::ALL, stop, self.workers(Priority::Batch));
                drop(view);
                job.metas.retain(|meta| is_flushed && meta.max_ingest_id >= first && meta.min_ingest_id <= last);
                let has_some = |rows: &Rows| rows.ingest_ids().values().iter().any(|id| (first..=last).contains(id));
                job.head = Arc::new(job.head.iter().filter(|rows| has_some(rows)).cloned().collect());
                let bounds = search::Bounds {
                    rows: limit.clamp(1, self.inner.config.max_limit),
                    bytes: self.inner.config.max_answer_bytes,
                };
                let page = search::page(&mut job, &self.inner.blocks, Order::OldestFirst, bounds, after).await?;
                Ok(page.answer(job.coverage, begun))
            },
        )
        .await
    }

    /// Hands every row of `logs` that may match to takers, in no order, with some of its columns; gives the takers back, and what was
    /// read. Who takes verifies: rows may be too many, never too few where the coverage is complete.
    pub(super) async fn share_for_report<T: Taker>(
        &self,
        query: &Query,
        range: TimeRange,
        columns: &Arc<[&'static str]>,
        taker: impl Fn() -> T,
    ) -> Result<(Vec<T>, Coverage)> {
        self.timed_by(
            "share_for_report",
            Priority::Batch,
            |(_, coverage): &(Vec<T>, Coverage)| coverage.complete,
            async |_, stop| {
                let filter = self.compile(Table::Logs, query)?;
                let mut job = Job::new(&self.view(), Table::Logs, filter, range, stop, self.workers(Priority::Batch));
                let takers = report::share(&mut job, &self.inner.blocks, columns, taker).await?;
                Ok((takers, job.coverage))
            },
        )
        .await
    }

    /// Computes what a report makes of its rows, on the threads of reports.
    pub(super) async fn compute_for_report<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.workers(Priority::Batch).run(work).await
    }

    /// What there is in a range of time: when, and how much.
    pub fn extent(&self, table: Table, range: TimeRange) -> Extent {
        let view = self.view();
        let head = view.head.iter().filter(|rows| rows.table() == table && rows.overlaps(&range));
        let head = head.filter_map(|rows| Some((rows.time_bounds()?, rows.len() as u64, 0)));
        let metas = view.snapshot.prune(table, range);
        let blocks = metas
            .iter()
            .map(|meta| ((meta.min_time_nanos, meta.max_time_nanos), meta.n_rows, meta.parquet_bytes + meta.index_bytes));
        let nothing = Extent {
            first_nanos: i64::MAX,
            last_nanos: i64::MIN,
            rows: 0,
            bytes: 0,
        };
        head.chain(blocks).fold(nothing, |extent, ((first, last), rows, bytes)| Extent {
            first_nanos: extent.first_nanos.min(first),
            last_nanos: extent.last_nanos.max(last),
            rows: extent.rows + rows,
            bytes: extent.bytes + bytes,
        })
    }

    /// The greatest `ingest_id` of a table's rows that a view has by now; `i64::MIN` of none. Other nodes count by themselves: of theirs,
    /// what was flushed.
    pub fn newest_ingest_id(&self, table: Table) -> i64 {
        let view = self.view();
        let head = view.head.iter().filter(|rows| rows.table() == table);
        let of_head = head.filter_map(|rows| rows.ingest_ids().values().iter().max().copied());
        let of_blocks = view.snapshot.blocks(table).iter().map(|meta| meta.max_ingest_id).max();
        of_head.chain(of_blocks).max().unwrap_or(i64::MIN)
    }

    /// Rows over time.
    pub async fn histogram(&self, request: &HistogramRequest) -> Result<Histogram> {
        self.timed(
            "histogram",
            |answer: &Histogram| &answer.coverage,
            async |begun, stop| {
                let mut job = self.job(Priority::Interactive, request.table, &request.query, request.range, stop).await?;
                job.close_range();
                let buckets = Buckets::over(&job.range, request.buckets);
                let counted = histogram::histogram(&mut job, &self.inner.blocks, buckets).await?;
                Ok(Histogram {
                    start_unix_nano: job.range.start_nanos,
                    end_unix_nano: job.range.end_nanos,
                    bucket_nanos: buckets.width,
                    series: histogram::series(request.table),
                    total: counted.iter().flat_map(|bucket| &bucket.counts).sum(),
                    buckets: counted,
                    coverage: job.coverage,
                    took: begun.elapsed(),
                })
            },
        )
        .await
    }

    /// How many rows match.
    pub async fn count(&self, table: Table, query: &Query, range: TimeRange) -> Result<Counted> {
        self.timed(
            "count",
            |answer: &Counted| &answer.coverage,
            async |_, stop| {
                let mut job = self.job(Priority::Interactive, table, query, range, stop).await?;
                let count = count::count(&mut job, &self.inner.blocks).await?;
                Ok(Counted { count, coverage: job.coverage })
            },
        )
        .await
    }

    /// How many rows match, by the values of `fields`: the `limit` groups with most rows.
    pub async fn count_by(&self, table: Table, query: &Query, range: TimeRange, fields: &[String], limit: usize) -> Result<CountedBy> {
        self.timed(
            "count_by",
            |answer: &CountedBy| &answer.coverage,
            async |_, stop| {
                let mut job = self.job(Priority::Interactive, table, query, range, stop).await?;
                let counted = count::count_by(&mut job, &self.inner.blocks, fields, None, limit, self.inner.config.max_groups).await?;
                Ok(CountedBy {
                    groups: counted.groups.into_iter().map(|(_, values, rows)| (values, rows)).collect(),
                    other: counted.other,
                    coverage: job.coverage,
                })
            },
        )
        .await
    }

    /// How many rows match, by the values of fields and by time; without either, in all.
    pub async fn count_groups(&self, request: &CountRequest) -> Result<CountResponse> {
        self.timed(
            "count_groups",
            |answer: &CountResponse| &answer.coverage,
            async |begun, stop| {
                let mut job = self.job(Priority::Interactive, request.table, &request.query, request.range, stop).await?;
                let (count, groups, other) = if request.by.is_empty() && request.bucket_nanos.is_none() {
                    (count::count(&mut job, &self.inner.blocks).await?, Vec::new(), 0)
                } else {
                    let (limit, max_groups) = (request.limit, self.inner.config.max_groups);
                    let counted = count::count_by(&mut job, &self.inner.blocks, &request.by, request.bucket_nanos, limit, max_groups).await?;
                    let listed: u64 = counted.groups.iter().map(|(_, _, rows)| rows).sum();
                    let group = |(start_unix_nano, values, count)| CountGroup {
                        start_unix_nano,
                        values,
                        count,
                    };
                    (listed + counted.other, counted.groups.into_iter().map(group).collect(), counted.other)
                };
                Ok(CountResponse {
                    count,
                    bucket_nanos: request.bucket_nanos,
                    by: request.by.clone(),
                    groups,
                    other,
                    coverage: job.coverage,
                    took: begun.elapsed(),
                })
            },
        )
        .await
    }

    /// The values of fields of matching rows.
    pub async fn facets(&self, request: &FacetsRequest) -> Result<Facets> {
        let priority = self.priority_of_facets(request);
        self.timed_by(
            "facets",
            priority,
            |answer: &Facets| answer.coverage.complete,
            async |begun, stop| {
                let mut job = self.job(priority, request.table, &request.query, request.range, stop).await?;
                let facets = count::facets(&mut job, &self.inner.blocks, &request.fields, request.limit, self.inner.config.max_groups).await?;
                Ok(Facets {
                    facets,
                    coverage: job.coverage,
                    took: begun.elapsed(),
                })
            },
        )
        .await
    }

    /// The traces of the newest spans that match, behind a cursor. Reads no more of them than that.
    pub async fn traces_of_spans(&self, query: &Query, range: TimeRange, n_spans: usize, cursor: Option<Cursor>) -> Result<SpanTraces> {
        self.timed(
            "traces_of_spans",
            |answer: &SpanTraces| &answer.coverage,
            async |_, stop| {
                let mut job = self.job(Priority::Interactive, Table::Spans, query, range, stop).await?;
                let (spans, next_cursor) = search::traces(&mut job, &self.inner.blocks, n_spans, cursor).await?;
                Ok(SpanTraces {
                    spans,
                    next_cursor,
                    coverage: job.coverage,
                })
            },
        )
        .await
    }

    /// One row by its ID and time; `None` if there is none, [`Error::Unread`] if that cannot be said.
    pub async fn record(&self, table: Table, ingest_id: i64, time_unix_nano: i64) -> Result<Option<Record>> {
        self.timed_by(
            "record",
            Priority::Interactive,
            |answer: &Option<Record>| answer.as_ref().is_none_or(|record| record.coverage.complete),
            async |_, stop| {
                let filter = Filter::leaf(Leaf::Numbers("ingest_id", vec![ingest_id..=ingest_id]));
                let range = TimeRange::new(time_unix_nano, time_unix_nano.saturating_add(1));
                let mut job = Job::new(&self.view(), table, filter, range, stop, self.workers(Priority::Interactive));
                let bounds = search::Bounds {
                    rows: 1,
                    bytes: self.inner.config.max_answer_bytes,
                };
                let mut page = search::page(&mut job, &self.inner.blocks, Order::NewestFirst, bounds, None).await?;
                match page.hits.pop() {
                    None if !job.coverage.complete => Err(Error::Unread {
                        what: format!("record {ingest_id}"),
                        coverage: Box::new(job.coverage),
                    }),
                    found => Ok(found.map(|hit| Record { hit, coverage: job.coverage })),
                }
            },
        )
        .await
    }

    /// A read-only SQL statement over all tables.
    pub async fn sql(&self, request: &SqlRequest) -> Result<SqlResponse> {
        let answer = self.sql_once(request).await?;
        match self.lacks_what_was_replaced(&answer.coverage) {
            true => self.sql_once(request).await,
            false => Ok(answer),
        }
    }

    async fn sql_once(&self, request: &SqlRequest) -> Result<SqlResponse> {
        self.timed_by(
            "sql",
            Priority::Batch,
            |answer: &SqlResponse| answer.coverage.complete,
            async |begun, stop| {
                let workers = self.workers(Priority::Batch);
                let statement = sql::Statement {
                    request: request.clone(),
                    view: self.view(),
                    ledger: self.inner.source.ledger(),
                    blocks: self.inner.blocks.clone(),
                    config: self.inner.config.clone(),
                    spill: self.inner.spill.get().cloned(),
                    begun,
                    stop,
                    workers: workers.clone(),
                    now_nanos: self.inner.clock.now_nanos(),
                };
                workers.drive(sql::run(statement)).await
            },
        )
        .await
    }

    /// Whether an answer lacks blocks that are live no more, since others replaced them while it was made: asked again, once, it is whole.
    /// Another node deletes what it replaced without knowing what is read here.
    pub(super) fn lacks_what_was_replaced(&self, coverage: &Coverage) -> bool {
        if coverage.complete {
            return false;
        }
        let view = self.view();
        let mut unread = coverage.problems.iter().filter(|problem| problem.kind != ProblemKind::Timeout);
        unread.any(|problem| view.snapshot.removed().iter().any(|removed| removed.meta.id.as_str() == problem.what))
    }

    /// Runs a report's statement over tables of its own making, for as long as `patience` lasts. It takes no place of those that
    /// statements of people wait for: whoever asks bounds how many there are.
    pub(super) async fn sql_for_report<T, W>(&self, patience: Duration, work: impl FnOnce(sql::Ground) -> W) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        // the guard cancels what runs on other threads if this future is dropped
        let (stop, _guard) = Stop::after(patience);
        let workers = self.workers(Priority::Batch);
        let ground = sql::Ground {
            view: self.view(),
            blocks: self.inner.blocks.clone(),
            config: self.inner.config.clone(),
            spill: self.inner.spill.get().cloned(),
            stop,
            workers: workers.clone(),
        };
        let begun = Instant::now();
        let done = workers.drive(work(ground)).await;
        let (kind, outcome) = ("sql_for_report", if done.is_ok() { "complete" } else { "failed" });
        METRICS.queries.get_or_create(&Labels { kind, outcome }).inc();
        METRICS.seconds.get_or_create(&Kind { kind }).observe(begun.elapsed().as_secs_f64());
        done
    }

    /// Rows of `table` that match, as they come; [`Error::TooManyTails`] at the bound. Needs a tokio runtime.
    pub fn tail(&self, table: Table, query: Query) -> Result<Tail> {
        let filter = self.compile(table, &query)?;
        let Ok(permit) = self.inner.tails.clone().try_acquire_owned() else {
            METRICS.queries.get_or_create(&Labels { kind: "tail", outcome: "busy" }).inc();
            return Err(Error::TooManyTails {
                max: self.inner.config.max_tails,
            });
        };
        let batches = self.inner.source.subscribe();
        Ok(Tail::start(
            batches,
            table,
            filter,
            self.inner.config.tail_rows_per_second,
            self.workers(Priority::Interactive),
            permit,
        ))
    }

    /// Facets of a page are for somebody who waits; those over very many rows are a report.
    fn priority_of_facets(&self, request: &FacetsRequest) -> Priority {
        let blocks = self.view().snapshot.prune(request.table, request.range);
        match blocks.iter().map(|meta| meta.n_rows).sum::<u64>() {
            ..=INTERACTIVE_FACET_ROWS => Priority::Interactive,
            _ => Priority::Batch,
        }
    }

    /// What walks through traces told.
    pub(super) fn told(&self) -> &Told {
        &self.inner.told
    }

    /// The blocks that are open.
    pub(super) fn blocks(&self) -> &Arc<Blocks> {
        &self.inner.blocks
    }

    /// What a question is answered from.
    pub(super) fn view(&self) -> View {
        let view = self.inner.source.view();
        self.inner.blocks.close_removed(&view.snapshot);
        view
    }

    pub(super) fn workers(&self, priority: Priority) -> Workers {
        self.inner.pool.workers(priority)
    }

    pub(super) fn compile(&self, table: Table, query: &Query) -> Result<Filter> {
        Ok(fields::compile(query, table, self.inner.clock.now_nanos())?)
    }

    /// Finds first the traces that conditions on them mean, in the same view.
    pub(super) async fn job(&self, priority: Priority, table: Table, query: &Query, range: TimeRange, stop: Stop) -> Result<Job> {
        let (view, workers) = (self.view(), self.workers(priority));
        let asker = Asker {
            view: &view,
            blocks: &self.inner.blocks,
            workers: &workers,
            stop: &stop,
            max_traces: self.inner.config.max_anchor_traces,
            most: Most::of(&self.inner.config),
            now_nanos: self.inner.clock.now_nanos(),
        };
        let found = asker.resolve(query, table, range, &Filter::All).await?;
        let filter = fields::compile_with(query, table, asker.now_nanos, &found.anchors)?;
        let mut job = Job::new(&view, table, filter, range, stop.clone(), workers);
        if let Some(coverage) = found.coverage {
            job.coverage.rests_on(coverage);
        }
        Ok(job)
    }

    async fn timed<T, C, W>(&self, kind: &'static str, coverage: C, work: W) -> Result<T>
    where
        C: Fn(&T) -> &Coverage,
        W: AsyncFnOnce(Instant, Stop) -> Result<T>,
    {
        self.timed_by(kind, Priority::Interactive, |answer| coverage(answer).complete, work).await
    }

    /// Waits for a place, works under a deadline, counts.
    pub(super) async fn timed_by<T, C, W>(&self, kind: &'static str, priority: Priority, is_complete: C, work: W) -> Result<T>
    where
        C: Fn(&T) -> bool,
        W: AsyncFnOnce(Instant, Stop) -> Result<T>,
    {
        let begun = Instant::now();
        let patience = Duration::from_secs(self.inner.config.timeout_seconds);
        // the guard cancels what runs on other threads if this future is dropped
        let (stop, _guard) = Stop::after(patience);
        let answer = match self.inner.gate.enter(priority, patience).await {
            Ok(_permit) => work(begun, stop).await,
            Err(busy) => Err(busy),
        };
        let outcome = match &answer {
            Ok(answer) if is_complete(answer) => "complete",
            Ok(_) => "partial",
            Err(error) => match error.kind() {
                ErrorKind::BadQuery | ErrorKind::NotFound => "bad_query",
                ErrorKind::Busy => "busy",
                ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Internal => "failed",
            },
        };
        METRICS.queries.get_or_create(&Labels { kind, outcome }).inc();
        METRICS.seconds.get_or_create(&Kind { kind }).observe(begun.elapsed().as_secs_f64());
        answer
    }
}
