//! On whose behalf a thread reads objects that are only partly here: what was fetched for them, and until when they wait.
//!
//! Libraries that read through us know nothing of questions; so whoever works on one says so for the time of a call
//! ([`on_behalf_of`]), and what [`Object`](super::Object) fetches meanwhile is counted there. Libraries also turn errors
//! into words of their own: the one that a read failed with is kept aside and given back whole.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Error, Fetched};

/// Damages that are listed for one question; further ones are not.
const MAX_DAMAGES: usize = 100;

/// A question that needs objects.
pub struct Demand {
    gets: AtomicU64,
    bytes: AtomicU64,
    is_over: Box<dyn Fn() -> bool + Send + Sync>,
    /// Objects found damaged, and how.
    damaged: Mutex<Vec<(String, String)>>,
}

impl std::fmt::Debug for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demand")
            .field("gets", &self.gets)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Demand {
    /// A question that waits until `is_over` says that nobody does any more.
    pub fn new(is_over: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            gets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_over: Box::new(is_over),
            damaged: Mutex::default(),
        })
    }

    /// What was fetched since this was last asked.
    pub fn take_fetched(&self) -> Fetched {
        Fetched {
            gets: self.gets.swap(0, Ordering::Relaxed),
            bytes: self.bytes.swap(0, Ordering::Relaxed),
        }
    }

    /// Objects found damaged since this was last asked, and how.
    pub fn take_damaged(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.damaged.lock())
    }

    pub(super) fn has_asked(&self, gets: u64) {
        self.gets.fetch_add(gets, Ordering::Relaxed);
    }
    pub(super) fn has_fetched(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn has_found_damaged(&self, what: &str, how: String) {
        let mut damaged = self.damaged.lock();
        if damaged.len() < MAX_DAMAGES && !damaged.iter().any(|(known, _)| known == what) {
            damaged.push((what.to_string(), how));
        }
    }
    pub(super) fn is_over(&self) -> bool {
        (self.is_over)()
    }
}

/// What a thread is at.
#[derive(Default)]
struct AtWork {
    demand: Option<Arc<Demand>>,
    failure: Option<Error>,
}

thread_local! {
    static AT_WORK: RefCell<AtWork> = RefCell::default();
}

/// Puts back what the thread was at before, even behind a panic.
struct Before(Option<AtWork>);

impl Drop for Before {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            AT_WORK.with(|at_work| *at_work.borrow_mut() = before);
        }
    }
}

/// Works on behalf of a question (or of nobody); gives the last failure of reading an object beside what `work` gave.
pub fn on_behalf_of<T>(demand: Option<&Arc<Demand>>, work: impl FnOnce() -> T) -> (T, Option<Error>) {
    let now = AtWork {
        demand: demand.cloned(),
        failure: None,
    };
    let mut before = Before(Some(AT_WORK.with(|at_work| at_work.replace(now))));
    let done = work();
    let now = AT_WORK.with(|at_work| at_work.replace(before.0.take().unwrap_or_default()));
    (done, now.failure)
}

/// Whom this thread works for.
pub(super) fn current() -> Option<Arc<Demand>> {
    AT_WORK.with(|at_work| at_work.borrow().demand.clone())
}

/// Keeps an error aside for whoever called [`on_behalf_of`].
pub(super) fn has_failed(error: Error) {
    AT_WORK.with(|at_work| at_work.borrow_mut().failure = Some(error));
}

#[cfg(test)]
mod tests {
    use super::super::ErrorKind;
    use super::*;

    #[test]
    fn what_fails_within_is_given_to_whoever_asked_and_to_nobody_else() {
        let (outer, inner) = (Demand::new(|| false), Demand::new(|| true));
        let ((), failure) = on_behalf_of(Some(&outer), || {
            let (over, failure) = on_behalf_of(Some(&inner), || {
                has_failed(Error::new(ErrorKind::Corrupt, "read", "a", "b"));
                current().is_some_and(|demand| demand.is_over())
            });
            assert!(over && failure.is_some_and(|error| error.kind() == ErrorKind::Corrupt));
            assert!(current().is_some_and(|demand| !demand.is_over()));
        });
        assert!(failure.is_none() && current().is_none());
        let _ = std::panic::catch_unwind(|| on_behalf_of(Some(&Demand::new(|| false)), || panic!("on purpose")));
        assert!(current().is_none(), "a panic leaves nothing behind");
    }
}
