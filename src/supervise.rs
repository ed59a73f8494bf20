//! Work that goes on for as long as the server does: begun, watched, and begun again should it panic.
//!
//! In: a name and a function that begins the work ([`Supervisor::run`]). Out: how each goes ([`Work`]), for the status and
//! for readiness. A panic is logged with its text, counted, and the work begins again after a pause, from [`FIRST_PAUSE`],
//! doubled with each further panic in a row up to [`LONGEST_PAUSE`]. What the work held (locks, permits) is given back as the
//! panic unwinds; what it was half-way through is for the work itself to find again, as after a crash.
//!
//! Loops inside a part, which are to go on whatever one turn does, use [`caught`].

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::telemetry::register;

/// Pause after the first panic.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });
/// The longest of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Work that has gone on for so long is well again: the next panic is a first one.
const STEADY: Duration = Duration::from_secs(60);

/// `work`: the name of the work (`flush`, `maintenance`, `nodes`, `deliveries`, `collect`, `alerts`, `self_telemetry`, `mapped_memory`,
/// `xray_udp`), or of the turn of a
/// loop (`alert_rule`, `notification`, `xray_batch`, `wal_keeper`, `insights_query`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabels {
    work: &'static str,
}

static PANICS: LazyLock<Family<WorkLabels, Counter>> =
    LazyLock::new(|| register("background_panics", "Panics of background work, which began again", Family::default()));

/// What a piece of work is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its work.
    Running,
    /// Nothing: it panicked, and begins again after a pause.
    Waiting,
    /// Nothing more: it came to its end, or was stopped.
    Ended,
}

/// One piece of work, as it is now.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Work {
    /// Its name.
    pub name: &'static str,
    /// What it is doing.
    pub state: State,
    /// How often it has panicked since the start.
    pub panics: u64,
    /// What the last panic said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_panic: Option<String>,
    #[serde(skip)]
    in_a_row: u32,
    #[serde(skip)]
    since: Instant,
}

impl Work {
    /// Whether it does not get on: it waits to begin again, or has lately panicked twice in a row.
    pub fn is_down(&self) -> bool {
        match self.state {
            State::Waiting => true,
            State::Running => self.in_a_row > 1 && self.since.elapsed() < STEADY,
            State::Ended => false,
        }
    }

    /// What is wrong, for people; `None` if nothing is.
    pub fn problem(&self) -> Option<String> {
        let panic = self.last_panic.as_ref().filter(|_| self.is_down())?;
        Some(format!(
            "{} has panicked {} times and is begun again: {panic}; the log has the place, please report it",
            self.name, self.panics
        ))
    }
}

/// All work of a server.
#[derive(Debug, Default)]
pub struct Supervisor {
    works: Mutex<BTreeMap<&'static str, Work>>,
}

impl Supervisor {
    /// Does the work until it comes to its end; begins it again for as long as it panics and `stop` is not cancelled.
    pub async fn run<F: Future<Output = ()>>(&self, name: &'static str, stop: CancellationToken, mut begin: impl FnMut() -> F) {
        let mut work = Work {
            name,
            state: State::Running,
            panics: 0,
            last_panic: None,
            in_a_row: 0,
            since: Instant::now(),
        };
        loop {
            (work.state, work.since) = (State::Running, Instant::now());
            self.note(&work);
            let Err(panic) = caught(name, async { begin().await }).await else { break };
            work.in_a_row = if work.since.elapsed() < STEADY { work.in_a_row + 1 } else { 1 };
            work.panics += 1;
            work.last_panic = Some(panic);
            work.state = State::Waiting;
            self.note(&work);
            let pause = pause_after(work.in_a_row);
            tracing::warn!(
                work = name,
                panics = work.panics,
                again_in_seconds = pause.as_secs(),
                "background work begins again"
            );
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        work.state = State::Ended;
        self.note(&work);
    }

    fn note(&self, work: &Work) {
        self.works.lock().insert(work.name, work.clone());
    }

    /// How each goes, by name.
    pub fn works(&self) -> Vec<Work> {
        self.works.lock().values().cloned().collect()
    }
}

/// How long work waits that has panicked so often in a row.
fn pause_after(in_a_row: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// One turn of a loop that is to go on whatever happens: a panic is logged and counted under `name`, and its text given.
pub async fn caught<T>(name: &'static str, turn: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(turn).catch_unwind().await.map_err(|panic| note(name, &*panic))
}

/// Logs and counts a panic that was caught elsewhere, under `name`, and gives its text.
pub fn note(name: &'static str, panic: &(dyn Any + Send)) -> String {
    let panic = panic_text(panic);
    PANICS.get_or_create(&WorkLabels { work: name }).inc();
    tracing::error!(work = name, panic, "background work panicked");
    panic
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
    literal
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it said nothing".into())
}

/// Lets this thread, and those that it begins from now on, step back behind others of the machine; 19 is the most.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the priority of a thread has no safe door in std")]
pub fn step_back(niceness: i32) {
    // SAFETY: the call takes and touches no memory; on Linux it is of the calling thread alone, and relative to what the
    // process was started with. It may fail, and then nothing changed.
    unsafe {
        libc::nice(niceness);
    }
}

/// Elsewhere a priority is of the whole process, and stays.
#[cfg(not(target_os = "linux"))]
pub fn step_back(_niceness: i32) {}

/// Does work on a thread of its own that steps back ([`step_back`]), and waits for it. A panic of it goes on here.
pub fn stepping_back<T: Send>(niceness: i32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let stepped_back = scope.spawn(move || {
            step_back(niceness);
            work()
        });
        stepped_back.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn work_that_steps_back_has_a_lower_priority_and_its_caller_has_not() {
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a file");
            let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
            fields.split_whitespace().nth(16).and_then(|nice| nice.parse::<i32>().ok()).expect("a number")
        };
        let before = niceness();
        assert_eq!(stepping_back(5, niceness), (before + 5).min(19));
        assert_eq!(niceness(), before);
        assert!(std::panic::catch_unwind(|| stepping_back(5, || panic!("on purpose"))).is_err());
    }

    fn works(supervisor: &Supervisor) -> Option<Work> {
        supervisor.works().pop()
    }

    async fn until(supervisor: &Supervisor, is_so: impl Fn(&Work) -> bool) -> Work {
        loop {
            if let Some(work) = works(supervisor).filter(&is_so) {
                return work;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn work_that_panics_begins_again_and_says_why() {
        let (supervisor, stop, begun) = (Arc::new(Supervisor::default()), CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let running = tokio::spawn({
            let (supervisor, stop, begun) = (supervisor.clone(), stop.clone(), begun.clone());
            async move {
                let begin = || {
                    let (stop, n) = (stop.clone(), begun.fetch_add(1, Ordering::SeqCst) + 1);
                    async move {
                        assert!(n > 3, "no {n}");
                        stop.cancelled().await;
                    }
                };
                supervisor.run("test_a", stop.clone(), begin).await;
            }
        });
        let work = until(&supervisor, |work| work.state == State::Waiting).await;
        let problem = work.problem().expect("it is down");
        assert!(problem.contains("test_a") && problem.contains("no "), "{problem}");
        let mut work = until(&supervisor, |work| work.state == State::Running && work.panics == 3).await;
        assert_eq!((begun.load(Ordering::SeqCst), work.last_panic.as_deref()), (4, Some("no 3")));
        assert!(work.problem().is_some(), "it may panic again at once");
        work.since = work.since.checked_sub(STEADY).expect("the machine has run for longer");
        assert_eq!(work.problem(), None);
        stop.cancel();
        running.await.expect("ends");
        assert_eq!(works(&supervisor).expect("work").state, State::Ended);
        let metrics = crate::telemetry::render();
        assert!(metrics.contains("tracelake_background_panics_total{work=\"test_a\"} 3"), "{metrics}");
    }

    #[tokio::test]
    async fn a_stop_ends_work_that_always_panics() {
        let (supervisor, stop) = (Supervisor::default(), CancellationToken::new());
        let stopping = async {
            until(&supervisor, |work| work.panics == 3).await;
            stop.cancel();
        };
        let begin = || async { panic!("always") };
        tokio::join!(supervisor.run("test_b", stop.clone(), begin), stopping);
        let work = works(&supervisor).expect("work");
        assert_eq!((work.state, work.problem()), (State::Ended, None));
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let pauses: Vec<u32> = [1, 2, 3, 5].map(|n| (pause_after(n).as_millis() / FIRST_PAUSE.as_millis()) as u32).into();
        assert_eq!(pauses, [1, 2, 4, 16]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_panic_is_told_in_its_words() {
        let said = |panic: fn()| panic_text(&*std::panic::catch_unwind(panic).expect_err("it panics"));
        assert_eq!(said(|| panic!("a literal")), "a literal");
        assert_eq!(said(|| panic!("{} arguments", std::hint::black_box(2))), "2 arguments");
        assert_eq!(said(|| std::panic::panic_any(7)), "it said nothing");
    }
}
