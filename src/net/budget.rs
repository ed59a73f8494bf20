//! Memory that requests may hold at once: one budget for all receivers.
//!
//! A request's [`Share`] grows with what it holds: the bytes of its body as they arrive, the inflated body, the structs and
//! columns made of it. Nobody waits for a share: when the budget is spent the request is told so at once, and what it
//! held is free again. A share gives back what it holds when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be held at once.
#[derive(Debug)]
pub struct Budget {
    max_bytes: usize,
    held: AtomicUsize,
}

/// What one request holds of a [`Budget`].
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// The budget does not have the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Other requests hold them: a retry helps.
    #[error("requests in flight hold the {max_bytes} bytes of memory that receive.max_memory_bytes allows")]
    Busy {
        /// All that there is.
        max_bytes: usize,
    },
    /// There are not so many: a retry does not help.
    #[error("reading the request takes about {bytes} bytes of memory, receive.max_memory_bytes is {max_bytes}")]
    TooLarge {
        /// What one request wants to hold.
        bytes: usize,
        /// All that there is.
        max_bytes: usize,
    },
}

impl Budget {
    /// A budget of which nothing is held.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            held: AtomicUsize::new(0),
        })
    }

    /// A share that holds nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes held by all shares.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` in all, more or less than before. When they cannot be had, the share is as it was.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let Budget { max_bytes, held } = &*self.budget;
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => {
                let fits = |held: usize| held.checked_add(more).filter(|sum| sum <= max_bytes);
                held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| {
                    if bytes > *max_bytes {
                        Exhausted::TooLarge { bytes, max_bytes: *max_bytes }
                    } else {
                        Exhausted::Busy { max_bytes: *max_bytes }
                    }
                })?;
            }
            None => _ = held.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Holds `bytes` beside those held already.
    pub fn hold_also(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.hold(self.bytes.saturating_add(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_give_back_what_they_held() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.hold(60).expect("free");
        assert_eq!(other.hold(41), Err(Exhausted::Busy { max_bytes: 100 }));
        assert_eq!((other.bytes(), budget.held_bytes()), (0, 60), "a refusal changes nothing");
        other.hold(30).expect("free");
        other.hold_also(10).expect("free");
        assert!(one.hold_also(1).is_err());
        assert_eq!(one.hold(101), Err(Exhausted::TooLarge { bytes: 101, max_bytes: 100 }));
        assert!(matches!(one.hold_also(usize::MAX), Err(Exhausted::TooLarge { .. })));
        one.hold(10).expect("less");
        other.hold(90).expect("given back");
        drop(one);
        assert_eq!(budget.held_bytes(), 90);
        drop(other);
        assert_eq!(budget.held_bytes(), 0);
    }
}
