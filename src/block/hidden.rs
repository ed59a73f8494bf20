//! Rows of a block that no answer has: a small list beside a block that never changes.

use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::{BooleanBuffer, Buffer};

/// Numbers of rows that are hidden, ascending, each once. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct HiddenRows(Arc<[u32]>);

impl HiddenRows {
    /// These rows, and those in `more`, in any order.
    pub fn with(&self, more: impl IntoIterator<Item = u32>) -> Self {
        let mut rows: Vec<u32> = self.0.iter().copied().chain(more).collect();
        rows.sort_unstable();
        rows.dedup();
        Self(rows.into())
    }
    /// Whether every row is seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many are hidden.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// The rows.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
    /// Whether this row is hidden.
    pub fn contains(&self, row: u32) -> bool {
        self.0.binary_search(&row).is_ok()
    }
    /// The hidden rows of a range.
    pub fn inside(&self, rows: &Range<u32>) -> &[u32] {
        let first = self.0.partition_point(|row| *row < rows.start);
        let end = self.0.partition_point(|row| *row < rows.end);
        &self.0[first..end.max(first)]
    }
    /// Clears the bits of hidden rows.
    pub(super) fn clear(&self, words: &mut [u64]) {
        for row in self.0.iter() {
            if let Some(word) = words.get_mut(*row as usize / 64) {
                *word &= !(1 << (row % 64));
            }
        }
    }
    /// The rows of a range that are seen, as bits over `n_rows` rows.
    pub(super) fn visible(&self, rows: Range<u32>, n_rows: u32) -> BooleanBuffer {
        let mut words = vec![0u64; (n_rows as usize).div_ceil(64)];
        fill(&mut words, rows.start.min(n_rows)..rows.end.min(n_rows));
        self.clear(&mut words);
        BooleanBuffer::new(Buffer::from_vec(words), 0, n_rows as usize)
    }
}

/// Sets the bits of a range.
pub(super) fn fill(words: &mut [u64], rows: Range<u32>) {
    for (i, word) in words.iter_mut().enumerate() {
        let first = i as u32 * 64;
        let (from, to) = (rows.start.saturating_sub(first).min(64), rows.end.saturating_sub(first).min(64));
        if from < to {
            *word |= (u64::MAX >> (64 - (to - from))) << from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_rows_are_kept_in_order_and_taken_out_of_ranges() {
        let hidden = HiddenRows::default().with([70, 3, 3]).with([5]);
        assert_eq!(
            (hidden.as_slice(), hidden.len(), hidden.contains(5), hidden.contains(4)),
            (&[3, 5, 70][..], 3, true, false)
        );
        assert_eq!((hidden.inside(&(4..70)), hidden.inside(&(71..99))), (&[5][..], &[][..]));
        let visible: Vec<usize> = hidden.visible(2..7, 100).set_indices().collect();
        assert_eq!(visible, [2, 4, 6]);
        assert_eq!(hidden.visible(0..100, 71).count_set_bits(), 68);
    }
}
