//! The jobs: begun when they are heard of, begun again when they change, ended when they are gone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{self, Checkpoint};
use super::dead::DeadLetters;
use super::follower::{CAME_FROM_THERE, Common, Follower, Job, Progress, Task};
use super::lake::{EngineLake, Lake};
use super::sink::{AwsSinks, Destination, Service, Sinks};
use super::{Config, RowsConfig, Subscription, Subscriptions, metrics};
use crate::ingest::{INGEST_ID_ROW_BITS, Sent, last_ingest_id_of};
use crate::model::{Clock, format_time};

/// Of a page under way, a stop waits for one call.
const STOP_PATIENCE: Duration = Duration::from_secs(12);

/// What deliveries are made of.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// Rows and checkpoints.
    pub lake: EngineLake,
    /// Dead letters go into its folder `deliver`.
    pub data_dir: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Every delivery of this node.
#[derive(Debug)]
pub struct Deliveries {
    config: Config,
    lake: Arc<dyn Lake>,
    sinks: Arc<dyn Sinks>,
    dead: DeadLetters,
    clock: Arc<dyn Clock>,
    wait_scale: f64,
    /// Where what has no checkpoint yet begins: no row of this life came before.
    began_at: i64,
    /// How far rows may be read.
    settled: AtomicI64,
    known: OnceLock<Arc<dyn Subscriptions>>,
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    job: Job,
    progress: Arc<Mutex<Progress>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How one delivery goes, for the status.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// `rows NAME` or `subscription GROUP FILTER`.
    pub job: String,
    /// `firehose` or `kinesis`.
    pub service: Service,
    /// The stream's name.
    pub stream: String,
    /// Rows taken by the destination.
    pub delivered: u64,
    /// Rows that are dead letters, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Rows not sent since they came by this very stream.
    pub came_from_there: u64,
    /// Log positions behind; an idle one is a few behind, since checkpoints are positions too.
    pub positions_behind: u64,
    /// Since when the destination has taken nothing.
    pub failing_since: Option<String>,
    /// When it last took something, in this life.
    pub delivered_at: Option<String>,
    /// What went wrong last, if nothing has gone well since.
    pub error: Option<String>,
}

/// Rows that are dead letters.
fn letters(sent: &Sent) -> BTreeMap<String, u64> {
    let letters = sent.undelivered.iter().filter(|(reason, _)| *reason != CAME_FROM_THERE);
    letters.map(|(reason, rows)| (reason.clone(), *rows)).collect()
}

impl Deliveries {
    /// Deliveries that wait for [`Deliveries::run`]. Rows that come from here on are delivered, whenever that is.
    pub async fn open(parts: Parts) -> Self {
        let sinks = Arc::new(AwsSinks::new(&parts.config));
        let dead = DeadLetters::new(&parts.data_dir.join("deliver"), parts.config.max_dead_letter_bytes);
        Self::over(parts.config, Arc::new(parts.lake), sinks, dead, parts.clock, 1.0).await
    }

    pub(super) async fn over(config: Config, lake: Arc<dyn Lake>, sinks: Arc<dyn Sinks>, dead: DeadLetters, clock: Arc<dyn Clock>, wait_scale: f64) -> Self {
        let began_at = lake.settled(i64::MIN).await;
        Self {
            config,
            began_at,
            settled: AtomicI64::new(began_at),
            lake,
            sinks,
            dead,
            clock,
            wait_scale,
            known: OnceLock::new(),
            running: Mutex::default(),
        }
    }

    /// Who can reach destinations.
    pub fn sinks(&self) -> Arc<dyn Sinks> {
        self.sinks.clone()
    }

    /// Follows these subscription filters too.
    pub fn follow(&self, known: Arc<dyn Subscriptions>) {
        // a second one knows the same
        let _ = self.known.set(known);
    }

    /// Delivers until `stop`; then waits for calls under way, so that what was taken is known as taken.
    pub async fn run(&self, stop: CancellationToken) {
        let (settled, _) = watch::channel(self.began_at);
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.every_millis.max(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // of an earlier turn that panicked
        self.stop_all().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let subscriptions = self.known.get().map(|known| known.subscriptions()).unwrap_or_default();
            if !subscriptions.is_empty() || !self.config.rows.is_empty() {
                let before = self.settled.load(Ordering::Relaxed);
                let now = self.lake.settled(before).await;
                self.settled.store(now, Ordering::Relaxed);
                settled.send_if_modified(|known| std::mem::replace(known, now) != now);
            }
            let jobs = self.jobs(subscriptions);
            self.adjust(jobs, &settled).await;
        }
        self.stop_all().await;
    }

    /// What there is to deliver.
    fn jobs(&self, subscriptions: Vec<Subscription>) -> BTreeMap<String, Job> {
        let node = self.lake.node();
        let of_filters = subscriptions.into_iter().map(|one| self.of_subscription(one, &node));
        let of_rows = self.config.rows.iter().filter_map(|rows| self.of_rows(rows));
        of_filters.chain(of_rows).map(|job| (job.name.clone(), job)).collect()
    }

    fn of_subscription(&self, one: Subscription, node: &str) -> Job {
        Job {
            name: format!("subscription {} {}", one.log_group, one.name),
            id: format!("{} made {}", one.name, one.created_millis),
            destination: one.destination.clone(),
            begins_after: match one.since.node == node {
                true => last_ingest_id_of(one.since.lsn),
                // another node's: what came here before it was heard of came before it
                false => self.settled.load(Ordering::Relaxed),
            },
            task: Task::Subscription(one),
        }
    }

    fn of_rows(&self, rows: &RowsConfig) -> Option<Job> {
        let table = rows.table()?;
        Some(Job {
            name: format!("rows {}", rows.name),
            id: String::new(),
            task: Task::Rows {
                table,
                // checked with the settings
                query: crate::query::parse(&rows.query, table).ok()?,
            },
            destination: Destination {
                service: Service::Firehose,
                stream: rows.stream.clone(),
                account: String::new(),
                region: String::new(),
                own_region: rows.region.clone(),
                own_endpoint_url: rows.endpoint_url.clone(),
            },
            begins_after: self.began_at,
        })
    }

    /// Begins, changes and ends followers so that they are those of `jobs`.
    async fn adjust(&self, jobs: BTreeMap<String, Job>, settled: &watch::Sender<i64>) {
        let mut gone = Vec::new();
        let mut failing = 0;
        {
            let mut running = self.running.lock();
            running.retain(|name, one| {
                let wanted = jobs.get(name);
                if wanted.is_none_or(|job| !is_same(job, &one.job)) {
                    one.stop.cancel();
                }
                if !one.task.is_finished() {
                    return true;
                }
                if wanted.is_none() {
                    gone.push(name.clone());
                }
                false
            });
            for (name, job) in &jobs {
                if !running.contains_key(name) {
                    running.insert(name.clone(), self.begin(job.clone(), settled.subscribe()));
                }
            }
            failing += running
                .values()
                .filter(|one| one.progress.lock().checkpoint.failing_since_nanos.is_some())
                .count();
        }
        metrics::failing(failing);
        for name in gone {
            self.forget(&checkpoint::key(&name)).await;
        }
    }

    fn begin(&self, job: Job, settled: watch::Receiver<i64>) -> Running {
        let (progress, stop) = (Arc::<Mutex<Progress>>::default(), CancellationToken::new());
        let known: Arc<dyn Subscriptions> = self.known.get().cloned().unwrap_or_else(|| Arc::new(Nobody));
        let follower = Follower {
            job: job.clone(),
            common: Arc::new(Common {
                lake: self.lake.clone(),
                sinks: self.sinks.clone(),
                known,
                dead: self.dead.clone(),
                clock: self.clock.clone(),
                longest_wait: Duration::from_secs(self.config.longest_wait_seconds.max(1)),
                give_up_nanos: i64::try_from(self.config.give_up_hours.saturating_mul(3_600_000_000_000)).unwrap_or(i64::MAX),
                wait_scale: self.wait_scale,
            }),
            progress: progress.clone(),
            stop: stop.clone(),
            kept_at_nanos: self.clock.now_nanos(),
        };
        Running {
            job,
            progress,
            stop,
            // one that panics is begun again at the next look
            task: tokio::spawn(follower.run(settled)),
        }
    }

    /// Adds what a job that is no more had delivered to the sums of all such, and removes its checkpoint.
    async fn forget(&self, key: &str) {
        let Some(checkpoint) = self.lake.states(key).into_iter().find(|(name, _)| name == key) else {
            return;
        };
        let Ok(checkpoint) = serde_json::from_slice::<Checkpoint>(&checkpoint.1) else {
            return;
        };
        let ended_key = checkpoint::ended_key(&checkpoint.sent.signal);
        let ended = self.lake.states(&ended_key).into_iter().next();
        let mut ended: Sent = ended.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        ended.signal.clone_from(&checkpoint.sent.signal);
        ended.add(&checkpoint.sent);
        let written = serde_json::to_vec(&ended).expect("sums have text keys and plain values");
        let mut kept = self.lake.put(&ended_key, Some(written.into())).await;
        if kept.is_ok() {
            kept = self.lake.put(key, None).await;
        }
        if let Err(error) = kept {
            tracing::warn!(key, error, "the checkpoint of a delivery that is no more stays");
        }
    }

    async fn stop_all(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        running.values().for_each(|one| one.stop.cancel());
        let tasks = futures::future::join_all(running.into_values().map(|one| one.task));
        if tokio::time::timeout(STOP_PATIENCE, tasks).await.is_err() {
            tracing::warn!("deliveries did not end in time; what they were about is delivered again");
        }
    }

    /// How each goes, in order of name.
    pub fn reports(&self) -> Vec<Report> {
        let running = self.running.lock();
        let reports = running.iter().map(|(name, one)| {
            let progress = one.progress.lock();
            let checkpoint = &progress.checkpoint;
            let behind = self.settled.load(Ordering::Relaxed).saturating_sub(checkpoint.done).max(0) >> INGEST_ID_ROW_BITS;
            Report {
                job: name.clone(),
                service: one.job.destination.service,
                stream: one.job.destination.stream.clone(),
                delivered: checkpoint.sent.delivered,
                came_from_there: checkpoint.sent.undelivered.get(CAME_FROM_THERE).copied().unwrap_or_default(),
                dead_letters: letters(&checkpoint.sent),
                positions_behind: u64::try_from(behind).unwrap_or_default(),
                failing_since: checkpoint.failing_since_nanos.map(format_time),
                delivered_at: progress.delivered_at_nanos.map(format_time),
                error: progress.error.clone(),
            }
        });
        reports.collect()
    }
}

/// Whether a follower of one does the other's work: where it began is no part of it.
fn is_same(a: &Job, b: &Job) -> bool {
    (&a.name, &a.id, &a.task, &a.destination) == (&b.name, &b.id, &b.task, &b.destination)
}

/// Knows no subscription filter.
#[derive(Debug)]
struct Nobody;

impl Subscriptions for Nobody {
    fn subscriptions(&self) -> Vec<Subscription> {
        Vec::new()
    }
    fn shows(&self, _log_group: &str, _log_stream: &str, _ingestion_millis: i64) -> bool {
        false
    }
    fn account_id(&self) -> &str {
        ""
    }
}

#[cfg(test)]
impl Deliveries {
    /// Ends every follower where it is, as the end of the process does.
    pub(super) fn kill(&self) {
        self.running.lock().values().for_each(|one| one.task.abort());
    }
}
