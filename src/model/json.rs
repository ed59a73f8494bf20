//! The fields inside a JSON log body.
//!
//! A log body that is one JSON object keeps its text untouched; its leaves are *virtual attributes*: searched, shown,
//! correlated and counted like attributes, but never stored a second time. Everyone who needs them (correlation, the
//! index builder, the scan, the API) walks the text with [`for_each_leaf`], so that all agree on names and values.
//!
//! Names: object keys joined with dots; array items carry their array's name, so a field may have several values.
//! Values: the canonical text of [`Value`]; `null` and empty containers have none. Bounds: [`MAX_DEPTH`] levels and
//! [`MAX_LEAVES`] leaves are walked, the rest of the text is not visited (it stays searchable as text).

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Value;

/// Levels of nesting that are walked; deeper values are passed over.
pub const MAX_DEPTH: usize = 32;
/// Leaves of one body that are walked.
pub const MAX_LEAVES: usize = 65_536;

/// Whether a body can be a JSON object at all: the first thing in it is `{`, the last is `}`.
pub fn looks_like_object(body: &str) -> bool {
    let trimmed = body.trim_ascii();
    trimmed.starts_with('{') && trimmed.ends_with('}')
}

/// Calls `leaf(name, value)` for every leaf of `body` in order, if it is one JSON object; returns whether it is.
///
/// A text that turns out to be malformed half-way returns `false`, though leaves may have been visited already; callers
/// that must not act on those collect first. Duplicate keys are visited as often as they stand there.
pub fn for_each_leaf(body: &str, leaf: &mut dyn FnMut(&str, &str)) -> bool {
    if !looks_like_object(body) {
        return false;
    }
    let mut walk = Walk {
        path: String::with_capacity(64),
        scratch: String::new(),
        depth: 0,
        leaves: 0,
        leaf,
    };
    let mut json = serde_json::Deserializer::from_str(body.trim_ascii());
    Node(&mut walk).deserialize(&mut json).is_ok() && json.end().is_ok()
}

/// All leaves of `body`, or `None` when it is not one well-formed JSON object.
pub fn leaves(body: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    for_each_leaf(body, &mut |name, value| out.push((name.to_string(), value.to_string()))).then_some(out)
}

struct Walk<'f> {
    path: String,
    scratch: String,
    depth: usize,
    leaves: usize,
    leaf: &'f mut dyn FnMut(&str, &str),
}

impl Walk<'_> {
    fn emit(&mut self, value: Value<'_>) {
        // a bare scalar at the root is not an object and has no name
        if self.path.is_empty() || self.leaves >= MAX_LEAVES {
            return;
        }
        self.leaves += 1;
        let text = value.text(&mut self.scratch);
        (self.leaf)(&self.path, text);
    }
}

struct Node<'a, 'f>(&'a mut Walk<'f>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.emit(Value::Bool(value));
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.emit(Value::Int(value));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.0.emit(Value::Int(value)),
            Err(_) => self.0.emit(Value::Str(itoa::Buffer::new().format(value))),
        }
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.emit(Value::Double(value));
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.0.emit(Value::Str(value));
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let walk = self.0;
        if walk.path.is_empty() {
            return Err(A::Error::custom("an array is not an object"));
        }
        if walk.depth >= MAX_DEPTH {
            while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        walk.depth += 1;
        while items.next_element_seed(Node(walk))?.is_some() {}
        walk.depth -= 1;
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let walk = self.0;
        if walk.depth >= MAX_DEPTH || walk.leaves >= MAX_LEAVES {
            while entries.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        walk.depth += 1;
        let parent = walk.path.len();
        while let Some(key) = entries.next_key_seed(Key)? {
            if parent > 0 {
                walk.path.push('.');
            }
            walk.path.push_str(&key);
            entries.next_value_seed(Node(walk))?;
            walk.path.truncate(parent);
        }
        walk.depth -= 1;
        Ok(())
    }
}

/// An object key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(key.into())
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(key.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(body: &str) -> Option<String> {
        Some(leaves(body)?.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn leaves_are_named_by_their_path() {
        assert_eq!(
            pairs(r#" {"a":1,"b":{"c":"x","d":[1,2.5,{"e":true}]},"n":null,"big":18446744073709551615,"k.l":"\u00e9"} "#).as_deref(),
            Some("a=1 b.c=x b.d=1 b.d=2.5 b.d.e=true big=18446744073709551615 k.l=é")
        );
        assert_eq!(pairs("{}").as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_one_object_has_no_fields() {
        for body in ["", "plain", "[1]", "{\"a\":1} trailing}", "{\"a\":}", "{\"a\":1", "\"{}\"", "{a}"] {
            assert_eq!(pairs(body), None, "{body}");
        }
    }

    #[test]
    fn depth_and_leaves_are_bounded() {
        let deep = "{\"a\":".repeat(100) + "1" + &"}".repeat(100);
        assert_eq!(pairs(&deep).as_deref(), Some(""));
        let wide = format!("{{{}}}", (0..70_000).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(","));
        assert_eq!(leaves(&wide).map(|all| all.len()), Some(MAX_LEAVES));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = leaves(&text);
            let _ = leaves(&format!("{{{text}}}"));
        }
    }
}
