//! How long calls took, as a histogram that can be added to and taken from: each time is counted in one of some 250 classes.
//!
//! Times below 4 ns are classes of their own. Above, each doubling is divided into four classes of equal width, so that the middle of a
//! class is at most an eighth away from any time in it. Counts of classes are sums: a time that turns out wrong is taken back exactly.

use std::collections::BTreeMap;

/// The class of a time; below zero, as zero.
pub(super) fn class_of(nanos: i64) -> i32 {
    let nanos = nanos.max(0);
    if nanos < 4 {
        return nanos as i32;
    }
    let doublings = 63 - nanos.leading_zeros() as i32;
    4 * (doublings - 1) + ((nanos >> (doublings - 2)) & 3) as i32
}

/// The middle of a class, nanoseconds.
pub fn middle_of(class: i32) -> f64 {
    if class < 4 {
        return f64::from(class.max(0));
    }
    let width = f64::from(class / 4 - 1).exp2();
    f64::from(4 + class % 4) * width + width / 2.0
}

/// Counts by class.
pub type Histogram = BTreeMap<i32, i64>;

/// The time that a share of them (0 to 1) stays below, about, nanoseconds; `None` of none.
pub fn quantile(histogram: &Histogram, share: f64) -> Option<f64> {
    let total: i64 = histogram.values().sum();
    let wanted = ((total as f64 * share).ceil() as i64).clamp(1, total.max(1));
    let mut passed = 0;
    let class = histogram.iter().find(|(_, count)| {
        passed += **count;
        passed >= wanted
    });
    class.map(|(class, _)| middle_of(*class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_rise_with_time_and_their_middles_are_near() {
        let mut before = -1;
        for nanos in (0..5_000).chain([1 << 20, 1_000_000_007, i64::MAX / 3, i64::MAX]) {
            let class = class_of(nanos);
            assert!(class >= before, "{nanos}");
            assert!(
                (middle_of(class) - nanos as f64).abs() <= nanos as f64 / 8.0 + 0.5,
                "{nanos}: {}",
                middle_of(class)
            );
            before = class;
        }
        assert_eq!((class_of(-5), class_of(0), class_of(3), class_of(4)), (0, 0, 3, 4));
    }

    #[test]
    fn quantiles_are_those_of_the_counts() {
        let mut times = Histogram::new();
        for nanos in 1..=1_000i64 {
            *times.entry(class_of(nanos * 1_000)).or_default() += 1;
        }
        for (share, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.0, 1_000.0)] {
            let found = quantile(&times, share).expect("some");
            assert!((found - expected).abs() <= expected / 7.0, "{share}: {found}");
        }
        assert_eq!(quantile(&Histogram::new(), 0.5), None);
    }
}
