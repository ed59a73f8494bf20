//! When a notification is tried, tried again, and given up.
//!
//! The notifications lie inside their alerts ([`super::state`]); this room only decides. Per alert the oldest pending one
//! goes first, so "resolved" never overtakes "firing". Per target one delivery runs at a time, so a target that hangs
//! holds up nobody else. A failed try is followed by another after twice the wait, from [`FIRST_WAIT`](crate::aws::FIRST_WAIT)
//! to [`LONGEST_WAIT`](crate::aws::LONGEST_WAIT), ± 20 %; after [`GIVE_UP_AFTER`] it is failed for good, with the last error.

use std::time::Duration;

use super::evaluate::nanos;
use super::notify::{SendError, Sent};
use super::state::{Notification, Status};
use crate::aws::wait_after;

/// Age at which a notification is given up: by then nobody is helped by it.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);
/// Deliveries under way at a time, over all targets.
pub const MAX_IN_FLIGHT: usize = 16;

/// Enters the outcome of one try at `now`. `jitter` is from -1 to 1.
pub fn settle(notification: &mut Notification, sent: Sent, now_nanos: i64, jitter: f64) {
    notification.attempts = notification.attempts.saturating_add(1);
    match sent {
        Ok(message_id) => {
            notification.status = Status::Delivered;
            notification.delivered_at_nanos = Some(now_nanos);
            notification.message_id = message_id;
            notification.error = None;
        }
        Err(SendError { message, retry_may_help }) => {
            notification.error = Some(message);
            let wait = wait_after(notification.attempts, retry_may_help).mul_f64(1.0 + 0.2 * jitter.clamp(-1.0, 1.0));
            let next = now_nanos.saturating_add(nanos(wait));
            if next.saturating_sub(notification.created_at_nanos) > nanos(GIVE_UP_AFTER) {
                notification.status = Status::Failed;
            } else {
                notification.next_attempt_nanos = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evaluate::Tell;
    use super::*;
    use crate::aws::LONGEST_WAIT;

    #[test]
    fn waits_double_up_to_the_longest_and_end_after_a_day() {
        let waits: Vec<u64> = (1..12).map(|attempts| wait_after(attempts, true).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!((wait_after(1, false), wait_after(u32::MAX, true)), (LONGEST_WAIT, LONGEST_WAIT));
        let mut notification = Notification {
            id: "i".into(),
            tell: Tell::Firing,
            created_at_nanos: 0,
            channel: "sns".into(),
            target: "t".into(),
            subject: "s".into(),
            message: "m".into(),
            attributes: vec![],
            status: Status::Pending,
            attempts: 0,
            next_attempt_nanos: 0,
            error: None,
            delivered_at_nanos: None,
            message_id: None,
        };
        let error = SendError {
            message: "away".into(),
            retry_may_help: true,
        };
        let mut now = 0;
        while notification.status == Status::Pending {
            settle(&mut notification, Err(error.clone()), now, 1.0);
            assert!(notification.attempts < 1_000);
            now = notification.next_attempt_nanos.max(now + 1);
        }
        assert_eq!((notification.status, notification.error.as_deref()), (Status::Failed, Some("away")));
        assert!(
            now <= nanos(GIVE_UP_AFTER) && notification.attempts > 200,
            "{} tries until {now}",
            notification.attempts
        );
    }
}
