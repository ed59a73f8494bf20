//! One log group: where it is, and which window comes next.

use serde::{Deserialize, Serialize};

use super::MAX_WINDOW_EVENTS;
use super::board::{GroupStatus, Stage};
use super::seen::Seen;

const SECOND: i64 = 1_000;
/// The first window of a backfill, and the longest.
const FIRST_STEP: i64 = 3_600 * SECOND;
const LONGEST_STEP: i64 = 86_400 * SECOND;
/// No window is cut shorter.
const SHORTEST_STEP: i64 = SECOND;

/// What is saved of a log group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// All before this is kept.
    pub(super) position_millis: i64,
    /// Where its backfill began.
    pub(super) since_millis: i64,
    /// Events kept.
    pub(super) events: u64,
    /// Whether `until` was reached, and nothing late is looked for any more.
    #[serde(default)]
    pub(super) is_done: bool,
    /// When it was last gone back to look for what came late; 0 = not yet.
    #[serde(default)]
    pub(super) went_back_millis: i64,
}

/// A time to be read, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: i64,
    pub(super) to: i64,
    /// Whether it reaches the time that is now.
    pub(super) is_last: bool,
}

/// A log group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
    /// As saved last.
    pub(super) saved: Option<Checkpoint>,
    pub(super) seen: Seen,
    step: i64,
    overlap: i64,
    /// How late events may come and still be found; 0 = no later than the overlap.
    late: i64,
    until: Option<i64>,
    /// Not before this.
    pub(super) due_millis: i64,
    pub(super) error: Option<String>,
    /// Whether the window that was read last reached the time that was now.
    is_near_now: bool,
    /// What looks for late events, while it does.
    pub(super) back: Option<Box<Group>>,
}

impl Group {
    pub(super) fn new(name: &str, checkpoint: Checkpoint, (overlap, late): (i64, i64), until: Option<i64>) -> Group {
        Group {
            name: name.to_string(),
            checkpoint,
            saved: None,
            seen: Seen::default(),
            step: FIRST_STEP,
            overlap,
            late,
            until,
            due_millis: i64::MIN,
            error: None,
            is_near_now: false,
            back: None,
        }
    }

    /// What is to be read now.
    pub(super) fn window(&self, now: i64) -> Window {
        let Checkpoint {
            position_millis, since_millis, ..
        } = self.checkpoint;
        let end = self.until.map_or(now, |until| until.min(now));
        if end.saturating_sub(position_millis) > self.step.max(self.overlap) {
            return Window {
                from: position_millis,
                to: position_millis + self.step - 1,
                is_last: false,
            };
        }
        Window {
            from: position_millis.saturating_sub(self.overlap).max(since_millis).max(0),
            to: end,
            is_last: true,
        }
    }

    /// A window has more events than it should: the next one is shorter, if this one may end early.
    pub(super) fn is_too_much(&mut self, window: &Window, n_events: usize) -> bool {
        let is_cut = !window.is_last && n_events > MAX_WINDOW_EVENTS && self.step > SHORTEST_STEP;
        if is_cut {
            self.step = (self.step / 4).max(SHORTEST_STEP);
        }
        is_cut
    }

    /// A window was read to its end, and all of it is kept.
    pub(super) fn is_read(&mut self, window: &Window, n_events: usize, now: i64) {
        if !window.is_last && n_events < MAX_WINDOW_EVENTS / 8 {
            self.step = (self.step * 2).min(LONGEST_STEP);
        }
        self.checkpoint.position_millis = self.checkpoint.position_millis.max(window.to + i64::from(!window.is_last));
        self.is_near_now = window.is_last;
        if window.is_last {
            self.seen.forget_before(self.window(now).from);
            self.go_back(now);
        }
        self.checkpoint.is_done = window.is_last && self.until.is_some_and(|until| window.to >= until && now >= until.saturating_add(self.overlap));
    }

    /// As often as events may be late, twice that time is read again, beside following: what came within it is found then at the latest.
    fn go_back(&mut self, now: i64) {
        if self.late == 0 || self.until.is_some() || self.back.is_some() {
            return;
        }
        let Checkpoint {
            position_millis, since_millis, ..
        } = self.checkpoint;
        match self.checkpoint.went_back_millis {
            // all before now has just been read
            0 => self.checkpoint.went_back_millis = now,
            last if now.saturating_sub(last) >= self.late => {
                let from = position_millis.saturating_sub(self.late.saturating_mul(2)).max(since_millis).max(0);
                // what is newer is looked at while following, and known there
                let until = position_millis.saturating_sub(self.overlap).saturating_sub(1);
                let checkpoint = Checkpoint {
                    position_millis: from,
                    since_millis: from,
                    ..Checkpoint::default()
                };
                self.back = Some(Box::new(Group::new(&self.name, checkpoint, (0, 0), Some(until))));
            }
            _ => {}
        }
    }

    /// The next window of one that goes back; `None` when it is through.
    pub(super) fn window_back(&self) -> Option<Window> {
        let from = self.checkpoint.position_millis;
        let until = self.until.filter(|until| from <= *until)?;
        Some(Window {
            from,
            to: until.min(from.saturating_add(self.step - 1)),
            is_last: false,
        })
    }

    /// What went back is through, and has found so many events.
    pub(super) fn is_back(&mut self, events: u64, now: i64) {
        self.checkpoint.went_back_millis = now;
        self.checkpoint.events += events;
    }

    pub(super) fn stage(&self) -> Stage {
        match () {
            () if self.checkpoint.is_done => Stage::Done,
            () if self.error.is_some() => Stage::Failing,
            () if self.is_near_now => Stage::Follow,
            () => Stage::Backfill,
        }
    }

    pub(super) fn status(&self, now: i64) -> GroupStatus {
        let Checkpoint {
            position_millis,
            since_millis,
            events,
            ..
        } = self.checkpoint;
        let end = self.until.map_or(now, |until| until.min(now));
        let stage = self.stage();
        let share = (position_millis - since_millis) as f64 / (end - since_millis).max(1) as f64;
        GroupStatus {
            log_group: self.name.clone(),
            stage,
            position_millis,
            percent: match stage {
                Stage::Follow | Stage::Done => 100.0,
                _ => (share.clamp(0.0, 1.0) * 1_000.0).round() / 10.0,
            },
            events,
            error: self.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600 * SECOND;
    const NOW: i64 = 1_795_323_600_000;

    fn group(behind: i64, until: Option<i64>) -> Group {
        let checkpoint = Checkpoint {
            position_millis: NOW - behind,
            since_millis: NOW - behind,
            ..Checkpoint::default()
        };
        Group::new("g", checkpoint, (300 * SECOND, 12 * HOUR), until)
    }

    #[test]
    fn backfill_windows_follow_one_another_without_a_gap_and_end_in_following() {
        let mut group = group(5 * HOUR, None);
        let (mut at, mut windows) = (NOW - 5 * HOUR, 0);
        loop {
            let window = group.window(NOW);
            if window.is_last {
                assert!(window.from <= at && window.to == NOW, "{window:?}");
                group.is_read(&window, 0, NOW);
                break;
            }
            assert_eq!(window.from, at);
            at = window.to + 1;
            windows += 1;
            assert!(group.stage() == Stage::Backfill && group.status(NOW).percent < 100.0);
            group.is_read(&window, 10, NOW);
            assert_eq!(group.checkpoint.position_millis, at);
        }
        assert!((1..5).contains(&windows));
        assert_eq!((group.stage(), group.status(NOW).percent), (Stage::Follow, 100.0));
        let next = group.window(NOW + 10 * SECOND);
        assert_eq!((next.from, next.to, next.is_last), (NOW - 300 * SECOND, NOW + 10 * SECOND, true));
    }

    #[test]
    fn what_comes_late_is_looked_for_as_often_as_it_may_be_late_and_following_goes_on() {
        let mut group = group(48 * HOUR, None);
        let (mut now, mut began) = (NOW, Vec::new());
        while now < NOW + 30 * HOUR {
            let window = group.window(now);
            group.is_read(&window, 0, now);
            if !window.is_last {
                continue;
            }
            assert_eq!((group.stage(), group.status(now).percent), (Stage::Follow, 100.0));
            if let Some(mut back) = group.back.take() {
                began.push((now - NOW) / HOUR);
                let (mut at, end) = (group.checkpoint.position_millis - 24 * HOUR, group.checkpoint.position_millis - 300 * SECOND);
                while let Some(window) = back.window_back() {
                    // without a gap, and never as long as is not cut
                    assert!(window.from == at && !window.is_last && window.to < end, "{window:?}");
                    at = window.to + 1;
                    back.is_read(&window, 0, now);
                }
                assert_eq!(at, end);
                group.is_back(7, now);
            }
            now += 600 * SECOND;
        }
        assert_eq!((began, group.checkpoint.events), (vec![12, 24], 14));
        let gone_back = |since: i64, late: i64| {
            let checkpoint = Checkpoint {
                position_millis: NOW,
                since_millis: NOW - since,
                went_back_millis: NOW - 12 * HOUR,
                ..Checkpoint::default()
            };
            let mut group = Group::new("g", checkpoint, (300 * SECOND, late), None);
            group.is_read(&group.window(NOW), 0, NOW);
            group.back.map(|back| back.checkpoint.position_millis)
        };
        assert_eq!(gone_back(48 * HOUR, 12 * HOUR), Some(NOW - 24 * HOUR));
        assert_eq!(gone_back(HOUR, 12 * HOUR), Some(NOW - HOUR), "not before the beginning");
        assert_eq!(gone_back(48 * HOUR, 0), None);
    }

    #[test]
    fn following_looks_back_but_not_before_the_beginning() {
        let group = group(10 * SECOND, None);
        assert_eq!(group.window(NOW).from, NOW - 10 * SECOND);
    }

    #[test]
    fn a_window_with_too_much_in_it_is_cut_down_to_a_second_and_no_further() {
        let mut group = group(48 * HOUR, None);
        let mut cuts = 0;
        while group.is_too_much(&group.window(NOW), MAX_WINDOW_EVENTS + 1) {
            cuts += 1;
        }
        let window = group.window(NOW);
        assert_eq!((window.to - window.from + 1, cuts), (SECOND, 6));
        assert!(!group.is_too_much(&window, MAX_WINDOW_EVENTS));
    }

    #[test]
    fn collecting_ends_at_until_once_nothing_late_can_come() {
        let mut group = group(HOUR, Some(NOW - 100 * SECOND));
        group.is_read(
            &Window {
                from: NOW - HOUR,
                to: NOW - HOUR / 2,
                is_last: false,
            },
            0,
            NOW,
        );
        let window = group.window(NOW);
        assert_eq!(window.to, NOW - 100 * SECOND);
        group.is_read(&window, 0, NOW);
        assert_eq!(group.stage(), Stage::Follow);
        let later = NOW + 200 * SECOND;
        let window = group.window(later);
        group.is_read(&window, 0, later);
        assert_eq!(group.stage(), Stage::Done);
    }
}
