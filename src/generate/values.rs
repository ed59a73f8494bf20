//! Values out of one seeded stream.
//!
//! The stream is SplitMix64, written out here, because the generators of the `rand` crate may change from one version to
//! the next, and with them every fixture and expected answer.

use std::cell::Cell;

/// A seeded stream of values; equal seeds give equal streams for ever. Drawing needs no `&mut`, so that
/// a drawn value may stand among the arguments of a call; one task draws at a time.
#[derive(Clone, Debug)]
pub struct Values(Cell<u64>);

const ADJECTIVES: [&str; 10] = [
    "vintage", "cobalt", "lunar", "cedar", "arctic", "saffron", "granite", "velvet", "copper", "misty",
];
const NOUNS: [&str; 10] = [
    "telescope",
    "lantern",
    "backpack",
    "binoculars",
    "compass",
    "tripod",
    "kettle",
    "jacket",
    "tent",
    "camera",
];

impl Values {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// Another stream, independent of how far this one is read later.
    pub fn fork(&self) -> Self {
        Self::new(self.next())
    }

    /// 64 random bits.
    pub fn next(&self) -> u64 {
        let mut z = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(z);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to `high`, both inclusive.
    pub fn range(&self, low: i64, high: i64) -> i64 {
        let width = high.saturating_sub(low).max(0) as u64;
        if width == u64::MAX {
            return self.next() as i64;
        }
        low.wrapping_add(((u128::from(self.next()) * u128::from(width + 1)) >> 64) as i64)
    }

    /// True so often.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them. Panics if there is none: lists here are constants.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.range(0, items.len() as i64 - 1) as usize]
    }

    /// Random bytes, never all zero.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0u8; N];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        out[0] |= 1;
        out
    }

    /// So many hex digits.
    pub fn hex(&self, digits: usize) -> String {
        let mut out = String::with_capacity(digits + 15);
        while out.len() < digits {
            out.push_str(&format!("{:016x}", self.next()));
        }
        out.truncate(digits);
        out
    }

    /// A version-4 UUID.
    pub fn uuid(&self) -> String {
        let h = self.hex(32);
        format!("{}-{}-4{}-a{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..])
    }

    /// An address in 10.0.0.0/8.
    pub fn ip(&self) -> String {
        let bits = self.next();
        format!("10.{}.{}.{}", bits >> 16 & 255, bits >> 8 & 255, bits & 255)
    }

    /// Any address.
    pub fn public_ip(&self) -> String {
        let bits = self.next();
        format!("{}.{}.{}.{}", bits >> 24 & 255, bits >> 16 & 255, bits >> 8 & 255, bits & 255)
    }

    /// A user, some far more often than others.
    pub fn user(&self) -> String {
        format!("u-{:07}", (self.unit() * self.unit() * 2_000_000.0) as u64)
    }

    /// `SKU-` and six hex digits.
    pub fn sku(&self) -> String {
        format!("SKU-{}", self.hex(6).to_uppercase())
    }

    /// Something to buy.
    pub fn product(&self) -> String {
        format!("{} {}", self.pick(&ADJECTIVES), self.pick(&NOUNS))
    }

    /// Milliseconds with a long tail, from about 3 to about 800.
    pub fn milliseconds(&self) -> f64 {
        let exponent = 1.0 + 4.2 * self.unit() * self.unit() + 1.5 * self.unit();
        (exponent.exp() * 1_000.0).round() / 1_000.0
    }

    /// Nanoseconds around a median, log-normal: now and then three times as long, hardly ever ten times.
    pub fn around(&self, median_millis: f64) -> i64 {
        // the sum of twelve uniform values is normal enough
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        (median_millis * (0.45 * normal).exp() * 1e6) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let values = Values::new(42);
        assert_eq!(values.next(), 13_679_457_532_755_275_413);
        assert_eq!(values.hex(5).len(), 5);
        let (one, two) = (Values::new(7), Values::new(7));
        for _ in 0..100 {
            assert_eq!((one.uuid(), one.ip(), one.around(5.0)), (two.uuid(), two.ip(), two.around(5.0)));
        }
    }

    #[test]
    fn ranges_hold_their_ends() {
        let values = Values::new(1);
        let drawn: Vec<i64> = (0..1_000).map(|_| values.range(-1, 1)).collect();
        assert!(drawn.contains(&-1) && drawn.contains(&1) && drawn.iter().all(|n| (-1..=1).contains(n)));
        assert_eq!(values.range(5, 5), 5);
        assert_eq!(values.range(5, 1), 5);
        assert_ne!(values.bytes::<16>(), [0u8; 16]);
    }
}
