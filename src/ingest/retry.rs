//! When a flush that failed is tried again, though nothing new has come: its rows wait in memory and in the log.

use parking_lot::Mutex;

/// First and longest wait. All that was cut is built anew each time.
const FIRST_SECONDS: i64 = 1;
const LAST_SECONDS: i64 = 60;

/// Set from a flush that failed until one that does not.
#[derive(Debug, Default)]
pub(super) struct Retry(Mutex<Option<Wait>>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    seconds: i64,
    until_nanos: i64,
}

impl Retry {
    /// A flush has failed: each wait is twice as long as the one before.
    pub(super) fn later(&self, now_nanos: i64) {
        let mut wait = self.0.lock();
        let seconds = wait.map_or(FIRST_SECONDS, |wait| (wait.seconds * 2).min(LAST_SECONDS));
        *wait = Some(Wait {
            seconds,
            until_nanos: now_nanos.saturating_add(seconds * 1_000_000_000),
        });
    }

    /// A flush has ended well.
    pub(super) fn never(&self) {
        *self.0.lock() = None;
    }

    /// Whether to try again now; `None` where none has failed.
    pub(super) fn is_due(&self, now_nanos: i64) -> Option<bool> {
        let wait = *self.0.lock();
        // a clock that was set back by more than a wait must not make it longer
        wait.map(|wait| now_nanos >= wait.until_nanos || now_nanos < wait.until_nanos - LAST_SECONDS * 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn waits_grow_to_a_bound_and_end_with_a_success() {
        let retry = Retry::default();
        assert_eq!(retry.is_due(0), None);
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            retry.later(now);
            assert_eq!(retry.is_due(now + seconds * SECOND - 1), Some(false));
            assert_eq!(retry.is_due(now + seconds * SECOND), Some(true));
            assert_eq!(retry.is_due(now - 100 * SECOND), Some(true), "the clock was set back");
            now += seconds * SECOND;
        }
        retry.never();
        assert_eq!(retry.is_due(now), None);
        retry.later(now);
        assert_eq!(retry.is_due(now + SECOND), Some(true));
    }
}
