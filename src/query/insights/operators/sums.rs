//! Sums of doubles that do not depend on the order of what is summed, as far as a double shows: shares of a run end in any order, and
//! the same question over the same rows should have the same answer, digit for digit.
//!
//! A sum is two doubles, the second what the first has no room for ("double-double": T. J. Dekker, "A floating-point technique for
//! extending the available precision", 1971; `two_sum` is Knuth's).

/// A sum of doubles, about 32 digits long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExactSum {
    high: f64,
    low: f64,
}

/// The sum, and what it lacks.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

impl ExactSum {
    pub(super) fn add(&mut self, number: f64) {
        self.absorb(Self { high: number, low: 0.0 });
    }

    /// Adds a number's square.
    pub(super) fn add_square(&mut self, number: f64) {
        let square = number * number;
        let low = number.mul_add(number, -square);
        self.absorb(Self { high: square, low });
    }

    pub(super) fn absorb(&mut self, more: Self) {
        let (high, lacks) = two_sum(self.high, more.high);
        if !high.is_finite() {
            *self = Self { high, low: 0.0 };
            return;
        }
        let (low, lacks_more) = two_sum(self.low, more.low);
        let (high, lacks) = two_sum(high, lacks + low);
        *self = Self { high, low: lacks + lacks_more };
    }

    /// As a double; infinite, or none, beyond what a double holds.
    pub(super) fn value(self) -> f64 {
        match self.high.is_finite() {
            true => self.high + self.low,
            false => self.high,
        }
    }

    /// With a whole number added.
    pub(super) fn with_whole(mut self, whole: i128) -> f64 {
        let high = whole as f64;
        self.add(high);
        // what a double had no room for has room now, of sums of as many 64-bit numbers as there are
        self.add((whole - high as i128) as f64);
        self.value()
    }
}

/// The variance of `n` numbers, of which these are the sum and the sum of squares; not a number where squares are beyond what a double holds.
pub(super) fn variance(n: u64, sum: ExactSum, squares: ExactSum) -> f64 {
    let n = n as f64;
    // the square of the sum, divided by n, to as many digits
    let square = sum.high * sum.high;
    let lacks = sum.high.mul_add(sum.high, -square) + 2.0 * sum.high * sum.low;
    let high = square / n;
    let low = ((-high).mul_add(n, square) + lacks) / n;
    let variance = ((squares.high - high) + (squares.low - low)) / n;
    // beyond what a double holds there is none, and not 0
    if variance.is_finite() { variance.max(0.0) } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum
    }

    #[test]
    fn small_numbers_do_not_vanish_beside_large_ones() {
        assert_eq!(sum_of(&[1e16, 1.0, -1e16]).value(), 1.0);
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(sum_of(&[0.5]).with_whole(i128::from(i64::MAX) * 4 + 1), 4.0 * 2f64.powi(63));
        assert_eq!(sum_of(&[-2f64.powi(70), 0.25]).with_whole((1 << 70) + 1), 1.25);
    }

    #[test]
    fn a_variance_far_from_zero_is_that_of_the_same_numbers_near_zero() {
        let of = |base: f64| {
            let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
            for number in [1.0, 2.0, 3.0, 4.0] {
                sum.add(base + number);
                squares.add_square(base + number);
            }
            variance(4, sum, squares)
        };
        assert_eq!((of(0.0), of(1e9), of(-1e12)), (1.25, 1.25, 1.25));
        assert!(of(1e200).is_nan() && of(f64::MAX).is_nan());
    }

    proptest! {
        #[test]
        fn order_and_shares_do_not_matter(numbers in proptest::collection::vec(-1e9..1e9f64, 1..200), cut in 0..200usize, seed in any::<u64>()) {
            let mut mixed = numbers.clone();
            mixed.sort_by_key(|number| number.to_bits().wrapping_mul(seed | 1));
            let (left, right) = mixed.split_at(cut.min(mixed.len()));
            let mut shared = sum_of(right);
            shared.absorb(sum_of(left));
            prop_assert_eq!(sum_of(&numbers).value(), shared.value());
        }
    }
}
