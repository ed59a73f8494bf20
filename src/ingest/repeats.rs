//! Requests that come again: recognised, acknowledged, and not stored twice.
//!
//! A client whose answer was lost on the way sends the same request again. Where a protocol's requests can be told apart
//! ([`crate::decode::Identity`]), one that was acknowledged within [`super::Config::repeat_window_seconds`] is known: its
//! repetition is a success that adds no row and is counted as `repeated`. Who sends the same on purpose within the window, to the
//! same place, with the same times and texts, sends it once: in milliseconds, nobody tells that from a repetition.
//!
//! - Two of the same at once: the second waits for the first. It is a repetition once the first is durable, and takes its place if
//!   the first is refused. Nothing is acknowledged before it is durable.
//! - What is known after a restart: frames of the log say it again at replay, and those that blocks cover lie in the state document
//!   [`REPEATS_KEY`] of the flush that covered them. Replay itself leaves nothing out: what was acknowledged comes back.
//! - Each node knows its own. A repetition that comes to another node is stored there.
//! - At most `max_remembered_requests` are known, about 100 bytes each; then the oldest are forgotten before their time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics;
use crate::decode::Identity;

/// The key under which they are stored with the state documents: for each, when it was received (nanoseconds, i64) and its identity
/// (u128), little-endian.
pub(super) const REPEATS_KEY: &str = "repeats";

/// Bytes of one in the document.
const STORED_BYTES: usize = 24;

/// The requests of late.
#[derive(Debug)]
pub(super) struct Repeats {
    window_nanos: i64,
    max: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Those that are not durable yet; the channel closes when their fate is known.
    under_way: HashMap<Identity, watch::Receiver<()>>,
    /// When those that are durable were received.
    kept: HashMap<Identity, i64>,
    /// The same in the order in which they became so, and those that came again after their time.
    by_age: VecDeque<(i64, Identity)>,
}

/// A request that may be taken. While it lives, the same one waits.
#[derive(Debug)]
pub(super) struct Claim {
    repeats: Arc<Repeats>,
    identity: Identity,
    /// Closes the channel that others wait at.
    _fate: watch::Sender<()>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.repeats.books.lock().under_way.remove(&self.identity);
    }
}

impl Repeats {
    /// Knows nothing yet; of a window of 0 it never will.
    pub(super) fn new(window_seconds: u64, max: usize) -> Arc<Self> {
        Arc::new(Self {
            window_nanos: i64::try_from(window_seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX),
            max,
            books: Mutex::default(),
        })
    }

    fn is_on(&self) -> bool {
        self.window_nanos > 0 && self.max > 0
    }

    /// Whether to take a request that came now: `Ok` with a claim (none if this is off), or `Err` if it is one that is durable already
    /// and was received at `since_nanos` or later. Waits for the same one that is under way.
    pub(super) async fn claim(self: &Arc<Self>, identity: Identity, since_nanos: i64, now_nanos: i64) -> Result<Option<Claim>, IsRepeat> {
        if !self.is_on() {
            return Ok(None);
        }
        loop {
            let mut other = {
                let mut books = self.books.lock();
                let window_start = now_nanos.saturating_sub(self.window_nanos);
                books.forget_before(window_start);
                // one may be kept beyond its time behind another that a clock ahead of its time dated
                if books.kept.get(&identity).is_some_and(|received| *received >= since_nanos.max(window_start)) {
                    return Err(IsRepeat);
                }
                match books.under_way.get(&identity) {
                    Some(other) => other.clone(),
                    None => {
                        let (fate, fates) = watch::channel(());
                        books.under_way.insert(identity, fates);
                        return Ok(Some(Claim {
                            repeats: self.clone(),
                            identity,
                            _fate: fate,
                        }));
                    }
                }
            };
            // never a value: it ends when the other one is told
            let _ = other.changed().await;
        }
    }

    /// A request is durable, and was received at this time.
    pub(super) fn note(&self, identity: Identity, received_nanos: i64) {
        if !self.is_on() {
            return;
        }
        let mut books = self.books.lock();
        books.kept.insert(identity, received_nanos);
        books.by_age.push_back((received_nanos, identity));
        while books.by_age.len() > self.max {
            books.forget_oldest();
            metrics::REPEATS_FORGOTTEN.inc();
        }
    }

    /// What a flush stores: all that is known, in the moment of its cut.
    pub(super) fn to_bytes(&self, now_nanos: i64) -> Option<Vec<u8>> {
        let mut books = self.books.lock();
        books.forget_before(now_nanos.saturating_sub(self.window_nanos));
        let mut bytes = Vec::with_capacity(books.by_age.len() * STORED_BYTES);
        for (received_nanos, identity) in &books.by_age {
            bytes.extend_from_slice(&received_nanos.to_le_bytes());
            bytes.extend_from_slice(&identity.0.to_le_bytes());
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Takes up what an earlier life stored.
    pub(super) fn restore(&self, bytes: &[u8]) {
        for stored in bytes.chunks_exact(STORED_BYTES) {
            let (time, digest) = stored.split_at(8);
            if let (Ok(time), Ok(digest)) = (time.try_into(), digest.try_into()) {
                self.note(Identity(u128::from_le_bytes(digest)), i64::from_le_bytes(time));
            }
        }
    }
}

/// The request is durable already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IsRepeat;

impl Books {
    fn forget_before(&mut self, nanos: i64) {
        while self.by_age.front().is_some_and(|(received, _)| *received < nanos) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((received, identity)) = self.by_age.pop_front() else { return };
        // it may have come again since
        if self.kept.get(&identity) == Some(&received) {
            self.kept.remove(&identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn id(n: u128) -> Identity {
        Identity(n)
    }

    #[tokio::test]
    async fn a_request_is_known_for_the_window_and_not_longer() {
        let repeats = Repeats::new(10, 100);
        let claim = repeats.claim(id(1), i64::MIN, 0).await.expect("new").expect("on");
        repeats.note(id(1), 0);
        drop(claim);
        assert_eq!(repeats.claim(id(1), i64::MIN, 10 * SECOND).await.err(), Some(IsRepeat));
        assert!(repeats.claim(id(2), i64::MIN, 0).await.is_ok());
        // what it brought was deleted since
        assert!(repeats.claim(id(1), 1, SECOND).await.is_ok());
        assert!(repeats.claim(id(1), i64::MIN, 10 * SECOND + 1).await.is_ok());
        // behind one that a clock ahead of its time dated
        repeats.note(id(3), 1_000 * SECOND);
        repeats.note(id(4), 11 * SECOND);
        assert!(repeats.claim(id(4), i64::MIN, 22 * SECOND).await.is_ok());
        assert_eq!(repeats.claim(id(4), i64::MIN, 21 * SECOND).await.err(), Some(IsRepeat));
        // and once more from then on
        repeats.note(id(1), 11 * SECOND);
        assert_eq!(repeats.claim(id(1), i64::MIN, 20 * SECOND).await.err(), Some(IsRepeat));
    }

    #[tokio::test]
    async fn the_second_of_two_at_once_waits_for_the_fate_of_the_first() {
        for is_taken in [true, false] {
            let repeats = Repeats::new(10, 100);
            let first = repeats.claim(id(1), i64::MIN, 0).await.expect("new");
            let its = repeats.clone();
            let mut second = tokio::spawn(async move { its.claim(id(1), i64::MIN, 0).await.is_err() });
            tokio::task::yield_now().await;
            assert!(!second.is_finished());
            if is_taken {
                repeats.note(id(1), 0);
            }
            drop(first);
            assert_eq!((&mut second).await.expect("no panic"), is_taken);
        }
    }

    #[test]
    fn no_more_are_known_than_may_be_and_the_oldest_go_first() {
        let repeats = Repeats::new(10, 3);
        for n in 0..5 {
            repeats.note(id(n), n as i64);
        }
        let books = repeats.books.lock();
        assert_eq!((books.kept.len(), books.by_age.len()), (3, 3));
        assert!(!books.kept.contains_key(&id(1)) && books.kept.contains_key(&id(2)));
    }

    #[tokio::test]
    async fn what_was_known_is_known_in_the_next_life() {
        let repeats = Repeats::new(10, 100);
        repeats.note(id(u128::MAX), 5);
        repeats.note(id(7), 4 * SECOND);
        let bytes = repeats.to_bytes(11 * SECOND).expect("one is known still");
        assert_eq!(bytes.len(), STORED_BYTES);
        let next = Repeats::new(10, 100);
        next.restore(&bytes);
        assert!(next.claim(id(7), i64::MIN, 14 * SECOND).await.is_err());
        assert!(next.claim(id(u128::MAX), i64::MIN, 14 * SECOND).await.is_ok());
        let off = Repeats::new(0, 100);
        off.restore(&bytes);
        assert!(off.claim(id(7), i64::MIN, 4 * SECOND).await.expect("off").is_none());
        assert_eq!(off.to_bytes(0), None);
    }
}
