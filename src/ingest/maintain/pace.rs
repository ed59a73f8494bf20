//! How fast merges read and write blocks, so that a busy disk or link is left to clients and queries.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets so many bytes a second through, object by object: an object goes at once if those before it are paid for, so one alone is never held up.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When all that went through is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    /// 0: no bound.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid: Mutex::default(),
        }
    }

    /// Waits until an object of so many bytes may be read or written.
    pub(super) async fn take(&self, n_bytes: u64) {
        let wait = self.wait(Instant::now(), n_bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn wait(&self, now: Instant, n_bytes: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let mut paid = self.paid.lock();
        let start = paid.map_or(now, |paid| paid.max(now));
        let costs = Duration::from_secs_f64(n_bytes as f64 / self.bytes_per_second as f64);
        // a cost beyond all time: nothing after it goes
        *paid = Some(start.checked_add(costs).unwrap_or(start));
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_wait_for_those_before_them() {
        let (pace, now) = (Pace::new(1_000), Instant::now());
        let after = |seconds: f64| now + Duration::from_secs_f64(seconds);
        assert_eq!(pace.wait(now, 5_000), Duration::ZERO, "one alone goes at once");
        assert_eq!(pace.wait(now, 1_000), Duration::from_secs(5));
        assert_eq!(pace.wait(after(2.0), 500), Duration::from_secs(4));
        assert_eq!(pace.wait(after(60.0), 1), Duration::ZERO, "what is not used is not saved up");
        assert_eq!(pace.wait(after(60.0), 1_000), Duration::from_millis(1));
        assert_eq!(pace.wait(after(60.0), u64::MAX).as_secs(), 1);
    }

    #[test]
    fn zero_is_no_bound() {
        let (pace, now) = (Pace::new(0), Instant::now());
        assert_eq!(pace.wait(now, u64::MAX) + pace.wait(now, u64::MAX), Duration::ZERO);
    }
}
