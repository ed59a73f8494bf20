//! Lists of JSON that are read up to a limit.

use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// A list of which at most `MAX` items and one more are kept; the others are counted only. `["","",…]` would take many
/// times its own bytes in memory.
#[derive(Debug)]
pub struct AtMost<T, const MAX: usize> {
    kept: Vec<T>,
    count: usize,
}

impl<T, const MAX: usize> AtMost<T, MAX> {
    /// How many items there are, kept or not.
    pub fn count(&self) -> usize {
        self.count
    }
    /// The items, or how many there are when they are too many.
    pub fn all(self) -> Result<Vec<T>, usize> {
        if self.count > MAX { Err(self.count) } else { Ok(self.kept) }
    }
    /// The items that were kept.
    pub fn kept(&self) -> &[T] {
        &self.kept
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Of<T, MAX> {
            type Value = AtMost<T, MAX>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() <= MAX
                    && let Some(item) = items.next_element()?
                {
                    kept.push(item);
                }
                let mut count = kept.len();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(AtMost { kept, count })
            }
        }
        deserializer.deserialize_seq(Of(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted_and_not_kept() {
        let read = |text: &str| serde_json::from_str::<AtMost<u8, 2>>(text);
        assert_eq!(read("[1,2]").expect("a list").all(), Ok(vec![1, 2]));
        let long = read("[1,2,3,\"four\",{}]").expect("a list");
        assert_eq!((long.kept(), long.count()), (&[1, 2, 3][..], 5));
        assert_eq!(long.all(), Err(5));
        assert!(read("[1,\"two\"]").is_err());
        assert!(read("{}").is_err());
    }
}
