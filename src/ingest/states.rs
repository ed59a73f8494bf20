//! Small durable documents of other parts (log groups and streams, alert states), and how they lie in the store: of hundreds of thousands
//! few change between two flushes, and only those are written.
//!
//! A node's state is one object or several ([`crate::catalog::NodeState::states`]), each a JSON object of key → base64, or `null` for what
//! is no more. The first holds documents, each later one the changes to those before it. A commit writes what has changed since the last
//! one as a new part, together with the last parts that are not much larger: so there are few, each larger than those after it, and a
//! document is written again about as often as the logarithm of their number. What is small is written whole.
//!
//! Each change has a number, its *generation*: a commit ends one. What a part says is what changed after the generation that the part
//! before it ends. A commit that failed, or whose answer was lost, changes nothing here: the next one says it again.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::storage::Key;

/// Documents copied at a time: the lock is free in between.
const AT_A_TIME: usize = 4_096;
/// A state of up to so many bytes is written whole.
const WHOLE_BYTES: u64 = if cfg!(test) { 256 } else { 64 << 10 };
/// Parts that a state has at the most.
const MAX_PARTS: usize = 12;

/// A document as it is now.
#[derive(Debug)]
struct Document {
    /// `None`: it was removed, which the parts in the store do not all say.
    value: Option<Bytes>,
    /// When it changed.
    generation: u64,
}

/// The documents by key.
#[derive(Debug)]
pub(super) struct Documents {
    all: BTreeMap<String, Document>,
    /// That of a change from now on.
    generation: u64,
    /// That of the last change.
    changed: u64,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            generation: 1,
            changed: 0,
        }
    }
}

impl Documents {
    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        self.all.get(key)?.value.as_ref()
    }

    /// Those whose key starts with `prefix`, in order of key.
    pub(super) fn under(&self, prefix: &str) -> impl Iterator<Item = (&String, &Bytes)> {
        let from = self.all.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(|(key, document)| Some((key, document.value.as_ref()?)))
    }

    /// Sets a document, or removes it.
    pub(super) fn set(&mut self, key: impl Into<String> + AsRef<str>, value: Option<Bytes>) {
        if self.get(key.as_ref()) == value.as_ref() {
            return;
        }
        self.changed = self.generation;
        let generation = self.generation;
        self.all.insert(key.into(), Document { value, generation });
    }

    /// Takes up a part of the state as it was stored, and gives the generation that the part ends.
    pub(super) fn load(&mut self, part: BTreeMap<String, Option<Bytes>>) -> u64 {
        let generation = self.generation;
        let documents = part.into_iter().map(|(key, value)| (key, Document { value, generation }));
        self.all.extend(documents);
        self.changed = generation;
        self.generation += 1;
        generation
    }

    /// One state says all that changed up to here: nobody need be told any more what was removed.
    fn forget_removed(&mut self, up_to: u64) {
        self.all.retain(|_, document| document.value.is_some() || document.generation > up_to);
    }
}

/// A part of the state as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its object.
    pub(super) key: Key,
    /// The object's size.
    pub(super) bytes: u64,
    /// The generation that it ends.
    pub(super) up_to: u64,
}

/// What a commit is to say.
#[derive(Debug)]
pub(super) struct Draft {
    /// The new part.
    pub(super) bytes: Bytes,
    /// The parts to which it says the changes; none if it says all.
    pub(super) parts: Vec<Part>,
    /// The generation that it ends.
    pub(super) up_to: u64,
}

/// Whether anything has changed since the last of these parts.
pub(super) fn has_changed(documents: &Mutex<Documents>, parts: &[Part]) -> bool {
    parts.last().is_none_or(|last| documents.lock().changed > last.up_to)
}

/// Writes what has changed since `parts`, and what of them is to be written with it. It may take long.
///
/// Each document is read as it stands when its turn comes. One that changed after the flush's cut is therefore newer than the cut,
/// which does no harm: the log has the change too, and says it again at the next start; and the next commit says it again.
pub(super) fn draft(documents: &Mutex<Documents>, mut parts: Vec<Part>) -> Result<Draft, serde_json::Error> {
    let up_to = {
        let mut documents = documents.lock();
        documents.generation += 1;
        documents.generation - 1
    };
    let mut bytes = 0;
    each_after(documents, end_of(&parts), |key, value| {
        bytes += (key.len() + value.map_or(0, |value| value.len().div_ceil(3) * 4) + 6) as u64;
        Ok(())
    })?;
    if bytes + parts.iter().map(|part| part.bytes).sum::<u64>() <= WHOLE_BYTES {
        parts.clear();
    }
    while let Some(last) = parts.pop_if(|last| last.bytes <= 2 * bytes) {
        bytes += last.bytes;
    }
    parts.truncate(MAX_PARTS - 1);
    let mut out = vec![b'{'];
    each_after(documents, end_of(&parts), |key, value| {
        if value.is_none() && parts.is_empty() {
            return Ok(());
        }
        if out.len() > 1 {
            out.push(b',');
        }
        write(&mut out, key, value)
    })?;
    out.push(b'}');
    Ok(Draft {
        bytes: out.into(),
        parts,
        up_to,
    })
}

/// The generation that the last of these parts ends.
fn end_of(parts: &[Part]) -> u64 {
    parts.last().map_or(0, |last| last.up_to)
}

/// The parts of the state once a draft is committed under a name.
pub(super) fn committed(documents: &Mutex<Documents>, draft: Draft, key: Key) -> Vec<Part> {
    let Draft { bytes, mut parts, up_to } = draft;
    if parts.is_empty() {
        documents.lock().forget_removed(up_to);
    }
    parts.push(Part {
        key,
        bytes: bytes.len() as u64,
        up_to,
    });
    parts
}

/// Calls with each document that changed after a generation, in order of key.
fn each_after(
    documents: &Mutex<Documents>,
    generation: u64,
    mut tell: impl FnMut(&str, Option<&Bytes>) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    let mut after: Option<String> = None;
    loop {
        let mut some: Vec<(String, Option<Bytes>)> = Vec::new();
        let last = {
            let documents = documents.lock();
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut last = None;
            for (key, document) in documents.all.range::<str, _>((from, Bound::Unbounded)).take(AT_A_TIME) {
                if document.generation > generation {
                    some.push((key.clone(), document.value.clone()));
                }
                last = Some(key);
            }
            last.cloned()
        };
        for (key, value) in &some {
            tell(key, value.as_ref())?;
        }
        match last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn write(out: &mut Vec<u8>, key: &str, value: Option<&Bytes>) -> Result<(), serde_json::Error> {
    use base64::Engine as _;
    serde_json::to_writer(&mut *out, key)?;
    match value {
        Some(value) => {
            out.extend_from_slice(b":\"");
            out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(value).as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b":null"),
    }
    Ok(())
}

/// Reads one part of a state; `None` for what it removes.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Option<Bytes>>, serde_json::Error> {
    use base64::Engine as _;
    use serde::de::Error as _;
    let map: BTreeMap<String, Option<String>> = serde_json::from_slice(bytes)?;
    let value = |text: String| base64::engine::general_purpose::STANDARD.decode(text).map_err(serde_json::Error::custom);
    map.into_iter()
        .map(|(key, text)| Ok((key, text.map(value).transpose()?.map(Bytes::from))))
        .collect()
}

#[cfg(test)]
mod tests;
