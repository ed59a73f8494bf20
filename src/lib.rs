//! tracelake: logs, metrics and traces from AWS and OpenTelemetry clients, correlated by trace ID, searchable at once,
//! kept as Parquet that Athena, Redshift, Spark and DuckDB read.
//!
//! # The way of one batch
//!
//! ```text
//!  client ──▶ receive ──▶ decode ──▶ ingest: admit ─▶ WAL append + fsync ─▶ correlate ─▶ head ─▶ ACK
//!             cap, inflate  bytes →                    (survives kill -9)   (trace IDs,  (a query
//!             answer in the Batch +                                          severity)    sees it)
//!             client's words rejected                                                     │ by size or age
//!                                                                                         ▼
//!  people  ◀── serve ◀── query: one AST over head + blocks ◀── catalog ◀── block: Parquet + tantivy, row n = document n
//!  SNS     ◀── alert ◀───┘                                  one commit: blocks + WAL position, then the WAL is cut
//! ```
//!
//! 1. A receiver ([`receive`]) reads a request under its size caps and hands the bytes to the pure decoder of its
//!    protocol ([`decode`]), which gives a [`model::Batch`] and a list of what it rejected, each with a reason.
//! 2. [`ingest`] admits the batch against its bounds, appends the *request's own bytes* to the log ([`wal`]) and waits
//!    for the group's fsync. From here on the batch survives `kill -9`: a restart decodes the same bytes again.
//! 3. [`correlate`] gives each log row its trace ID and severity, found in its text or fields if need be, or by the request or span
//!    that it names, and the ID of its text's [`pattern`]; [`emf`] adds the metrics that lines hold, and metric filters
//!    ([`metric_filter`]) their points: the frame holds the filters as they were, and what was known of names, since those change and
//!    a replay must make the same of the same frame.
//! 4. The rows join the head, where queries see them; then the client gets its acknowledgement. A log row there that names a request
//!    gets its trace from what later requests tell.
//! 5. By size or age the head up to one log position is sorted into blocks ([`block`]): one Parquet file and one tantivy
//!    bundle each, newest row first. They are put into the store ([`storage`]), then one catalog record ([`catalog`])
//!    names all blocks of the cut and the log position they cover. That record is the only commit point: a crash before
//!    it replays the rows, a crash after it starts behind them. Either way each row is in Parquet once.
//! 6. When an hour is over and quiet, its small blocks are merged into the lake proper (`logs/dt=…/hour=…/`).
//! 7. Every question, from the page, the API, SQL, the CLI or an alert rule, is answered by [`query`] from one view:
//!    the head and the catalog's snapshot, taken together. An answer always states its coverage.
//!
//! # The map, in the order of the data; a module knows only those above it
//!
//! | module | is |
//! |---|---|
//! | [`model`] | what flows: IDs, times, values, schemas, rows; no I/O |
//! | [`telemetry`] | our own logs and metrics |
//! | [`fail_point`] | places at which a test lets the process die |
//! | [`supervise`] | long-lived work: begun, watched, begun again after a panic |
//! | [`net`] | sockets, TLS, body caps, capped decompression, the drain signal |
//! | [`aws`] | clients of AWS's own services: how they are reached, when to try again |
//! | [`storage`] | the bucket or directory, its keys, and the local cache of its objects |
//! | [`access`] | who calls on the AWS faces: access keys, SigV4, rights |
//! | [`decode`] | bytes of a protocol to a batch, pure |
//! | [`wal`] | the log ahead of the blocks; knows bytes, not rows |
//! | [`pattern`] | what a log text says once its variable parts are taken out, and its stable ID; pure |
//! | [`correlate`] | trace ID, severity, pattern and fields of each record |
//! | [`emf`] | the metrics inside log lines |
//! | [`block`] | immutable files of rows: Parquet and tantivy, built and read |
//! | [`catalog`] | which blocks exist: a commit log in the bucket |
//! | [`ingest`] | the write path as one story, and the view that queries read |
//! | [`query`] | one AST, its languages, and its execution over head and blocks; SQL |
//! | [`assemble`] | traces put together: summaries, service graphs, figures by service and operation |
//! | [`deliver`] | rows that go on to Firehose and Kinesis as they come in |
//! | [`metric_filter`] | what metric filters make of log records |
//! | [`receive`] | the protocols: OTLP, CloudWatch Logs, X-Ray, Firehose |
//! | [`collect`] | events pulled out of CloudWatch Logs, backfilled and followed |
//! | [`alert`] | rules, their states, and SNS |
//! | [`serve`] | HTTP for people and tools: API, health, pages |
//! | [`config`] | all settings, read and checked together |
//! | [`app`] | builds the parts, starts them, drains them in the order of the data |
//! | [`generate`] | the seeded load generator, the shop that `demo` simulates, and the demo itself |
//! | [`cli`] | the command line |
//!
//! # Invariants
//!
//! - Success is sent only after fsync. Overload is told in the protocol's own words. Every record ends in one counted
//!   outcome.
//! - Row n of a block's Parquet file is document n of its index, and both are newest first.
//! - `decode` and `model` never await and never read the clock: decoding the same bytes at the same received time gives
//!   the same batch, which is what replay rests on.
//! - `receive` never names `wal`, `block`, or of `storage` more than its secrets; `wal` never names a protocol; `query` never names `receive`.
//! - Text means the same in the head, in the index and in a scan: one tokenizer, one canonical form of every value.
//! - Every buffer, body, queue, cache and query has a bound with a stated default.

pub mod model;
pub mod telemetry;
pub mod fail_point;
pub mod supervise;
pub mod net;
pub mod aws;
pub mod storage;
pub mod access;
pub mod decode;
pub mod wal;
pub mod pattern;
pub mod correlate;
pub mod emf;
pub mod block;
pub mod catalog;
pub mod ingest;
pub mod query;
pub mod assemble;
pub mod deliver;
pub mod metric_filter;
pub mod receive;
pub mod collect;
pub mod alert;
pub mod serve;
pub mod config;
pub mod app;
pub mod generate;
pub mod cli;
