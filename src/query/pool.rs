//! The threads that queries compute on: as many as there are cores, twice.
//!
//! A search, a count, a trace is *interactive*: somebody waits, and it takes milliseconds. SQL, and whatever reads much, is
//! *batch*. Each kind has its own workers; those of batch work run at a lower priority of the operating system (on Linux),
//! so that however much SQL there is, a search gets the cores at once, and SQL gets what is left, which is everything when
//! nobody searches. Nothing here waits for the store: objects are fetched elsewhere.
//!
//! How much may be queued is bounded by who may ask ([`super::limits::Gate`]): a query keeps no more pieces of work here than
//! there are workers. Work whose query is gone does not start.

use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use super::metrics::{METRICS, Workers as Labels};
use super::{Error, Result};
use crate::supervise::step_back;

/// Who waits for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Priority {
    /// Somebody, now.
    Interactive,
    /// A report, or nobody in particular.
    Batch,
}

/// Both kinds of workers.
#[derive(Debug)]
pub(super) struct Pool {
    interactive: Option<Runtime>,
    batch: Option<Runtime>,
    n_threads: usize,
}

/// The workers of one priority. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    handle: Handle,
    n_threads: usize,
    /// Pieces of work they have.
    work: Gauge,
}

/// Counts a piece of work until it is dropped, which is when it is done, or when nobody wants it any more and the thread that
/// was at it has let go.
struct Counted(Gauge);

impl Counted {
    fn new(work: &Gauge) -> Self {
        work.inc();
        Self(work.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Pool {
    /// Starts `n_threads` workers of each kind; 0 = as many as there are cores.
    pub(super) fn start(n_threads: usize) -> Pool {
        let n_threads = match n_threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n_threads => n_threads,
        };
        let start = |name: &str, prepare: fn()| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(n_threads).thread_name(name).on_thread_start(prepare).enable_all();
            Some(builder.build().expect("a process that cannot start a few threads cannot run at all"))
        };
        Pool {
            interactive: start("query", || {}),
            batch: start("query-batch", || step_back(BATCH_NICENESS)),
            n_threads,
        }
    }

    /// The workers of a priority.
    pub(super) fn workers(&self, priority: Priority) -> Workers {
        let (runtime, workers) = match priority {
            Priority::Interactive => (&self.interactive, "interactive"),
            Priority::Batch => (&self.batch, "batch"),
        };
        Workers {
            handle: runtime.as_ref().expect("they are taken only when the pool is dropped").handle().clone(),
            n_threads: self.n_threads,
            work: METRICS.work.get_or_create_owned(&Labels { workers }),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // waiting for threads is forbidden to a future, which may be who drops this
        for runtime in [self.interactive.take(), self.batch.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

impl Workers {
    /// How many there are.
    pub(super) fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs work that computes. If the caller is dropped before it has begun, it never does.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.drive(async move { work() }).await
    }

    /// Runs pieces of work, which do not wait for one another; what they give, in order.
    pub(super) async fn run_all<T: Send + 'static>(&self, pieces: impl IntoIterator<Item = impl FnOnce() -> T + Send + 'static>) -> Result<Vec<T>> {
        let running: Vec<_> = pieces.into_iter().map(|piece| self.run(move || Ok(piece()))).collect();
        futures::future::try_join_all(running).await
    }

    /// Drives a future that computes between its waits. If the caller is dropped, it is too.
    pub(super) async fn drive<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let counted = Counted::new(&self.work);
        let work = async move {
            let _counted = counted;
            work.await
        };
        match AbortOnDropHandle::new(self.handle.spawn(work)).await {
            Ok(done) => done,
            Err(ended) => Err(Error::internal(ended)),
        }
    }
}

/// How much batch work yields: at 10, a core is shared about nine to one.
const BATCH_NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn batch_work_on_every_worker_leaves_interactive_work_its_own() {
        let pool = Pool::start(2);
        let (batch, interactive) = (pool.workers(Priority::Batch), pool.workers(Priority::Interactive));
        let mut ends = Vec::new();
        let mut stuck = Vec::new();
        for _ in 0..4 {
            let (end, wait) = mpsc::sync_channel::<()>(1);
            ends.push(end);
            let batch = batch.clone();
            stuck.push(tokio::spawn(async move { batch.run(move || Ok(wait.recv().is_err())).await }));
        }
        // would hang if they shared workers: nothing ends the batch work before this is done
        assert_eq!(interactive.run(|| Ok(7)).await.expect("done"), 7);
        drop(ends);
        for piece in stuck {
            assert!(piece.await.expect("no panic").expect("done"));
        }
    }

    #[tokio::test]
    async fn queued_work_of_a_dropped_caller_never_starts() {
        let pool = Pool::start(1);
        let workers = pool.workers(Priority::Interactive);
        let (end, wait) = mpsc::sync_channel::<()>(1);
        // both are queued when they are first polled, and there is one worker
        let mut first = Box::pin(workers.run(move || Ok(wait.recv().is_err())));
        assert!(futures::poll!(&mut first).is_pending());
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = ran.clone();
        let mut second = Box::pin(workers.run(move || Ok(counted.fetch_add(1, Ordering::SeqCst))));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        drop(end);
        assert!(first.await.expect("done"));
        workers.run(|| Ok(())).await.expect("done");
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_costs_no_worker() {
        let pool = Pool::start(1);
        let workers = pool.workers(Priority::Interactive);
        assert!(workers.run(|| -> Result<()> { panic!("on purpose") }).await.is_err());
        assert_eq!(workers.run_all([1, 2, 3].map(|n| move || n * 2)).await.expect("done"), [2, 4, 6]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn batch_workers_have_a_lower_priority() {
        fn niceness() -> Result<i64> {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").map_err(Error::internal)?;
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
            // the 19th field; the first two stand before the bracket
            let nice = fields.and_then(|fields| fields.get(16)?.parse().ok());
            nice.ok_or_else(|| Error::internal("no niceness"))
        }
        let pool = Pool::start(1);
        let interactive = pool.workers(Priority::Interactive).run(niceness).await.expect("a number");
        let batch = pool.workers(Priority::Batch).run(niceness).await.expect("a number");
        assert_eq!(batch, (interactive + i64::from(BATCH_NICENESS)).min(19));
    }
}
