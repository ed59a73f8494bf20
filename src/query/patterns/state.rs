//! How a pattern's count stands to its count of another time; the rule stands on the module's page.

/// How a pattern stands to before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There was none.
    New,
    /// Many more than were to be expected.
    Surging,
    /// There is none any more.
    Vanished,
    /// About as before.
    Steady,
}

/// Fewer rows are no surge.
const MIN_SURGE_ROWS: u64 = 10;
/// A surge has so many times the rows that were to be expected.
const SURGE_RATIO: f64 = 2.0;
/// A surge is so many standard deviations from what was to be expected.
const SURGE_DEVIATIONS: f64 = 3.0;
/// Of fewer rows to be expected there may be none by chance.
const MIN_VANISHED_ROWS: f64 = 3.0;

impl State {
    /// All, in the order of answers.
    pub const ALL: [State; 4] = [State::New, State::Surging, State::Vanished, State::Steady];

    /// The state of a pattern with so many rows now and before, `ratio` being the length of now by that of before.
    pub fn of(now: u64, before: u64, ratio: f64) -> State {
        let expected = before as f64 * ratio;
        match (now, before) {
            (_, 0) => State::New,
            (0, _) if expected >= MIN_VANISHED_ROWS => State::Vanished,
            (0, _) => State::Steady,
            // roots of counts vary alike, however large they are (Anscombe)
            _ => {
                let difference = (now as f64 + 0.375).sqrt() - ((before as f64 + 0.375) * ratio).sqrt();
                let deviations = 2.0 * difference / (1.0 + ratio).sqrt();
                match now >= MIN_SURGE_ROWS && now as f64 >= SURGE_RATIO * expected && deviations >= SURGE_DEVIATIONS {
                    true => State::Surging,
                    false => State::Steady,
                }
            }
        }
    }

    /// What can be said where not all texts of a side, now or before, were told apart: of that side none is known to be lacking.
    pub fn unless_cut(self, [now, before]: [bool; 2]) -> State {
        match self {
            State::New if before => State::Steady,
            State::Vanished if now => State::Steady,
            other => other,
        }
    }

    /// As it stands in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Surging => "surging",
            State::Vanished => "vanished",
            State::Steady => "steady",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_lacks_nothing_for_certain() {
        let states = |cut| State::ALL.map(|state| state.unless_cut(cut));
        assert_eq!(states([false, false]), State::ALL);
        assert_eq!(states([false, true]), [State::Steady, State::Surging, State::Vanished, State::Steady]);
        assert_eq!(states([true, false]), [State::New, State::Surging, State::Steady, State::Steady]);
    }

    #[test]
    fn a_state_needs_evidence() {
        for (now, before, ratio, state) in [
            (1, 0, 1.0, State::New),
            (0, 1, 1.0, State::Steady),
            (0, 3, 1.0, State::Vanished),
            (0, 30, 0.01, State::Steady),
            (5, 1, 1.0, State::Steady),
            (20, 5, 1.0, State::Surging),
            (12, 5, 1.0, State::Steady),
            (1_900, 1_000, 1.0, State::Steady),
            (2_100, 1_000, 1.0, State::Surging),
            // an hour against a day
            (100, 2_400, 1.0 / 24.0, State::Steady),
            (220, 2_400, 1.0 / 24.0, State::Surging),
            // a day against an hour in which there were two
            (60, 2, 24.0, State::Steady),
        ] {
            assert_eq!(State::of(now, before, ratio), state, "{now} after {before}, {ratio}");
        }
    }
}
