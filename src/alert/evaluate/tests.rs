use proptest::prelude::*;

use super::super::rule::{self, Rule};
use super::Outcome::{Met, NotMet, Unknown};
use super::*;

const SECOND: i64 = 1_000_000_000;

fn rule_of(more: &str) -> Rule {
    let kind = if more.contains("spike_height") { "spike" } else { "frequency" };
    let kind = if more.contains("above") || more.contains("operator") {
        "threshold"
    } else {
        kind
    };
    let query = if more.contains("metric:") { "" } else { "query: x\n" };
    let timeframe = if more.contains("timeframe") { "" } else { "timeframe: 1m\n" };
    rule::parse("r.yaml", &format!("name: r\ntype: {kind}\n{query}{timeframe}{more}\n"), &|_, _| Ok(())).expect("a rule")
}

fn seen(current: f64) -> Observation {
    Observation {
        current: Some(current),
        reference: None,
        complete: true,
        reference_filled: true,
    }
}

fn outcome(rule: &Rule, current: f64, reference: f64) -> Outcome {
    let observation = Observation {
        reference: Some(reference),
        ..seen(current)
    };
    judge(rule, &observation).outcome
}

/// Runs outcomes at the given seconds; gives the states and what was told when.
fn story(rule: &Rule, steps: &[(i64, Outcome)]) -> (Vec<State>, Vec<(i64, Tell)>) {
    let mut standing = Standing::default();
    let (mut states, mut told) = (Vec::new(), Vec::new());
    for (second, outcome) in steps {
        let step = step(rule, &standing, *outcome, second * SECOND);
        states.push(step.standing.state);
        told.extend(step.tell.map(|tell| (*second, tell)));
        standing = step.standing;
    }
    (states, told)
}

#[test]
fn the_window_ends_at_now_minus_the_delay() {
    let window = window(&rule_of("num_events: 1\ndelay: 10s"), 1_000 * SECOND, std::time::Duration::ZERO);
    assert_eq!(window.current, TimeRange::new(930 * SECOND, 990 * SECOND));
    assert_eq!(window.reference, TimeRange::new(870 * SECOND, 930 * SECOND));
}

#[test]
fn frequency_is_met_at_its_number() {
    let rule = rule_of("num_events: 10");
    assert_eq!(outcome(&rule, 9.0, 0.0), NotMet);
    assert_eq!(outcome(&rule, 10.0, 0.0), Met);
    assert_eq!(judge(&rule, &seen(14.0)).text, "14 matching log records in 1m, limit 10");
}

#[test]
fn spikes_go_up_down_or_both_and_need_their_minimum() {
    let up = rule_of("spike_height: 3\nspike_type: up");
    let down = rule_of("spike_height: 3\nspike_type: down");
    let both = rule_of("spike_height: 3\nspike_type: both\nthreshold_ref: 10");
    let fresh = rule_of("spike_height: 3\nspike_type: up\nthreshold_ref: 0\nthreshold_cur: 5");
    for (rule, current, reference, expected) in [
        (&up, 30.0, 10.0, Met),
        (&up, 29.0, 10.0, NotMet),
        (&up, 3.0, 30.0, NotMet),
        (&up, 100.0, 0.0, NotMet),
        (&up, 0.0, 0.0, NotMet),
        (&down, 10.0, 30.0, Met),
        (&down, 11.0, 30.0, NotMet),
        (&down, 0.0, 1.0, Met),
        (&down, 0.0, 0.0, NotMet),
        (&both, 30.0, 10.0, Met),
        (&both, 27.0, 9.0, NotMet),
        (&both, 3.0, 10.0, Met),
        (&both, 10.0, 10.0, NotMet),
        (&fresh, 5.0, 0.0, Met),
        (&fresh, 4.0, 0.0, NotMet),
    ] {
        assert_eq!(
            outcome(rule, current, reference),
            expected,
            "{current} after {reference}: {}",
            rule.condition_text()
        );
    }
}

#[test]
fn a_reference_window_that_the_data_does_not_fill_makes_no_spike() {
    let observation = Observation {
        reference: Some(10.0),
        reference_filled: false,
        ..seen(100.0)
    };
    let verdict = judge(&rule_of("spike_height: 3\nspike_type: up"), &observation);
    assert_eq!(verdict.outcome, NotMet);
    assert!(verdict.text.contains("before the data"), "{}", verdict.text);
}

#[test]
fn thresholds_compare_and_nan_is_never_bad() {
    let metric = "metric: {name: depth, aggregation: max}\n";
    let above = rule_of(&format!("{metric}above: 100"));
    assert_eq!(outcome(&above, 100.0, 0.0), NotMet);
    assert_eq!(outcome(&above, 100.5, 0.0), Met);
    assert_eq!(judge(&above, &seen(100.5)).text, "max(depth) is 100.5 over 1m, limit > 100");
    for sign in [">", ">=", "<", "<=", "==", "!="] {
        let rule = rule_of(&format!("{metric}operator: '{sign}'\nvalue: 1"));
        assert_eq!(outcome(&rule, f64::NAN, 0.0), NotMet, "{sign}");
    }
    let nothing = Observation {
        complete: true,
        ..Observation::default()
    };
    assert_eq!(judge(&above, &nothing).outcome, NotMet);
}

#[test]
fn an_incomplete_answer_proves_only_what_more_rows_could_not_undo() {
    let partial = |current| Observation {
        complete: false,
        ..seen(current)
    };
    let frequency = rule_of("num_events: 10");
    assert_eq!(judge(&frequency, &partial(10.0)).outcome, Met);
    assert_eq!(judge(&frequency, &partial(9.0)).outcome, Unknown);
    let below = rule_of("operator: '<'\nvalue: 5");
    assert_eq!(judge(&below, &partial(1.0)).outcome, Unknown);
    assert_eq!(judge(&below, &seen(1.0)).outcome, Met);
    let metric = rule_of("metric: {name: depth, aggregation: max}\nabove: 100");
    assert_eq!(judge(&metric, &partial(101.0)).outcome, Unknown);
    assert_eq!(judge(&rule_of("spike_height: 2\nspike_type: up"), &partial(10.0)).outcome, Unknown);
}

#[test]
fn a_rule_without_for_fires_at_once_and_is_told_again_after_realert() {
    let rule = rule_of("num_events: 1\nrealert: 1m");
    let (states, told) = story(&rule, &[(0, NotMet), (5, Met), (10, Met), (64, Met), (65, Met), (70, NotMet), (75, NotMet)]);
    use State::{Firing, Inactive, Resolved};
    assert_eq!(states, [Inactive, Firing, Firing, Firing, Firing, Resolved, Resolved]);
    assert_eq!(told, [(5, Tell::Firing), (65, Tell::Firing), (70, Tell::Resolved)]);
}

#[test]
fn for_holds_the_alert_pending_and_a_gap_starts_it_anew() {
    let rule = rule_of("num_events: 1\nfor: 30s");
    let (states, told) = story(&rule, &[(0, Met), (20, Met), (25, NotMet), (30, Met), (55, Met), (60, Met), (65, Met)]);
    use State::{Firing, Inactive, Pending};
    assert_eq!(states, [Pending, Pending, Inactive, Pending, Pending, Firing, Firing]);
    assert_eq!(told, [(60, Tell::Firing)]);
}

#[test]
fn flapping_is_told_once_within_realert_and_its_end_once() {
    let rule = rule_of("num_events: 1\nrealert: 5m");
    let (states, told) = story(
        &rule,
        &[
            (0, Met),
            (10, NotMet),
            (20, Met),
            (30, NotMet),
            (40, Met),
            (200, Met),
            (300, Met),
            (310, NotMet),
        ],
    );
    assert_eq!(states.last(), Some(&State::Resolved));
    assert_eq!(told, [(0, Tell::Firing), (10, Tell::Resolved), (300, Tell::Firing), (310, Tell::Resolved)]);
}

#[test]
fn resolve_after_bridges_short_gaps() {
    let rule = rule_of("num_events: 1\nresolve_after: 1m");
    let (states, told) = story(
        &rule,
        &[(0, Met), (10, NotMet), (50, NotMet), (55, Met), (60, NotMet), (114, NotMet), (115, NotMet)],
    );
    use State::{Firing, Resolved};
    assert_eq!(states, [Firing, Firing, Firing, Firing, Firing, Firing, Resolved]);
    assert_eq!(told, [(0, Tell::Firing), (115, Tell::Resolved)]);
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let rule = rule_of("num_events: 1");
    let (states, told) = story(&rule, &[(0, Unknown), (5, Met), (10, Unknown), (15, Unknown), (20, NotMet)]);
    use State::{Firing, Inactive, Resolved};
    assert_eq!(states, [Inactive, Firing, Firing, Firing, Resolved]);
    assert_eq!(told.len(), 2);
}

#[test]
fn the_end_is_not_told_if_the_rule_says_so() {
    let (_, told) = story(&rule_of("num_events: 1\nnotify_resolved: false"), &[(0, Met), (5, NotMet)]);
    assert_eq!(told, [(0, Tell::Firing)]);
}

proptest! {
    /// Whatever happens, and wherever a restart comes: no two "firing" within realert, "resolved" only after "firing" and
    /// once, and a firing alert never stays untold for longer than realert.
    #[test]
    fn no_story_repeats_or_forgets(
        steps in proptest::collection::vec((1i64..40, 0u8..5, any::<bool>()), 1..80),
        hold in 0u64..60, realert in 0u64..200, resolve_after in 0u64..60,
    ) {
        let rule = rule_of(&format!("num_events: 1\nfor: {hold}s\nrealert: {realert}s\nresolve_after: {resolve_after}s"));
        let mut standing = Standing::default();
        let (mut now, mut last_firing, mut open) = (0i64, None::<i64>, false);
        for (gap, kind, restart) in steps {
            now += gap * SECOND;
            if restart {
                let kept = serde_json::to_string(&standing).expect("plain data");
                standing = serde_json::from_str::<Standing>(&kept).expect("reads back").restored(now);
            }
            let outcome = match kind { 0 | 1 => Met, 2 | 3 => NotMet, _ => Unknown };
            let next = step(&rule, &standing, outcome, now);
            match next.tell {
                Some(Tell::Firing) => {
                    prop_assert!(last_firing.is_none_or(|last| now - last >= nanos(rule.realert)));
                    prop_assert_eq!(next.standing.state, State::Firing);
                    (last_firing, open) = (Some(now), true);
                }
                Some(Tell::Resolved) => {
                    prop_assert!(open && next.standing.state == State::Resolved);
                    open = false;
                }
                None => {
                    let told = last_firing.is_some_and(|last| now - last < nanos(rule.realert));
                    prop_assert!(outcome != Met || next.standing.state != State::Firing || told);
                }
            }
            standing = next.standing;
        }
    }
}
