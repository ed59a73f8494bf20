//! What the API defines and this server keeps: sampling rules, groups.
//!
//! In memory, so that every call can ask; each change is durable before it is acknowledged or seen. One JSON document each, under
//! the prefix of its kind and its name.
//!
//! Definitions are facts about the store: every node takes over what others know ([`crate::ingest::Facts`]). Of two versions the
//! greater wins, on every node the same. What was deleted leaves a document without a definition behind, so that another node does
//! not bring it back; it is kept [`KEPT_NANOS`], and [`MAX_GONE`] of a kind at the most.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::super::Intake;
use super::Result;

/// What is gone is remembered so long: other nodes have learnt of it.
const KEPT_NANOS: i64 = 30 * 86_400_000_000_000;
/// Names that are remembered as gone.
const MAX_GONE: usize = 1_000;

/// A definition as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Document<T> {
    /// Grows with each change.
    version: u64,
    changed_nanos: i64,
    /// `None`: it was deleted.
    definition: Option<T>,
}

/// Definitions of one kind, by name.
#[derive(Debug)]
pub(super) struct Definitions<T> {
    intake: Arc<dyn Intake>,
    prefix: &'static str,
    known: RwLock<BTreeMap<String, Document<T>>>,
    changing: Mutex<()>,
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Definitions<T> {
    /// Reads back what an earlier life stored under a prefix.
    pub(super) fn open(intake: Arc<dyn Intake>, prefix: &'static str) -> Self {
        let mut known = BTreeMap::new();
        for (key, value) in intake.states(prefix) {
            match serde_json::from_slice::<Document<T>>(&value) {
                Ok(document) => {
                    known.insert(key[prefix.len()..].to_string(), document);
                }
                Err(error) => tracing::error!(key, %error, "a stored definition is damaged and is left out"),
            }
        }
        Self {
            intake,
            prefix,
            known: RwLock::new(known),
            changing: Mutex::default(),
        }
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<T> {
        self.known.read().get(name)?.definition.clone()
    }

    /// All, by name.
    pub(super) fn all(&self) -> Vec<(String, T)> {
        let known = self.known.read();
        let with_name = |(name, document): (&String, &Document<T>)| Some((name.clone(), document.definition.clone()?));
        known.iter().filter_map(with_name).collect()
    }

    /// When one was made, changed or deleted last.
    pub(super) fn last_change_nanos(&self) -> Option<i64> {
        self.known.read().values().map(|document| document.changed_nanos).max()
    }

    /// Changes what has this name: `change` is given it and how many there are, and says what there is from now on.
    pub(super) async fn change(&self, name: &str, now_nanos: i64, change: impl FnOnce(Option<&T>, usize) -> Result<Option<T>>) -> Result<()> {
        let _changing = self.changing.lock().await;
        let document = {
            let known = self.known.read();
            let n_defined = known.values().filter(|document| document.definition.is_some()).count();
            let document = known.get(name);
            let before = document.and_then(|document| document.definition.as_ref());
            let definition = change(before, n_defined)?;
            if definition.as_ref() == before {
                return Ok(());
            }
            Document {
                version: document.map_or(0, |document| document.version) + 1,
                changed_nanos: now_nanos,
                definition,
            }
        };
        self.intake.put_state(&self.key(name), Some(to_json(&document).into())).await?;
        self.known.write().insert(name.to_string(), document);
        self.forget_gone(now_nanos).await;
        Ok(())
    }

    /// Takes over what another node knows, if it is news.
    pub(super) async fn learn(&self, name: &str, value: &Bytes) {
        let Ok(document) = serde_json::from_slice::<Document<T>>(value) else {
            return tracing::error!(name, prefix = self.prefix, "another node's definition is damaged and is left out");
        };
        let _changing = self.changing.lock().await;
        let mut known = self.known.write();
        let rank = |document: &Document<T>| (document.version, document.changed_nanos, to_json(document));
        if known.get(name).is_some_and(|own| rank(own) >= rank(&document)) {
            return;
        }
        known.insert(name.to_string(), document);
        self.intake.put_state_relaxed(&self.key(name), value.clone());
    }

    async fn forget_gone(&self, now_nanos: i64) {
        let forgotten: Vec<String> = {
            let mut known = self.known.write();
            let mut gone: Vec<(i64, String)> = known
                .iter()
                .filter(|(_, document)| document.definition.is_none())
                .map(|(name, document)| (document.changed_nanos, name.clone()))
                .collect();
            gone.sort_unstable();
            let n_beyond = gone.len().saturating_sub(MAX_GONE);
            let is_old = |changed_nanos: i64| now_nanos.saturating_sub(changed_nanos) > KEPT_NANOS;
            let forgotten = gone.into_iter().enumerate().filter(|(at, (changed, _))| *at < n_beyond || is_old(*changed));
            let forgotten: Vec<String> = forgotten.map(|(_, (_, name))| name).collect();
            for name in &forgotten {
                known.remove(name);
            }
            forgotten
        };
        for name in forgotten {
            // one that stays behind says nothing, and is tried again by the next life
            let _ = self.intake.put_state(&self.key(&name), None).await;
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("a definition has text keys and plain values")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Memory;
    use super::super::Error;
    use super::*;

    const PREFIX: &str = "test/";

    async fn put(definitions: &Definitions<String>, name: &str, value: Option<&str>, now: i64) {
        let changed = definitions.change(name, now, |_, _| Ok(value.map(str::to_string))).await;
        changed.expect("changed");
    }

    fn documents(definitions: &Definitions<String>) -> Vec<(String, Bytes)> {
        definitions.intake.states(PREFIX)
    }

    #[tokio::test]
    async fn definitions_survive_a_restart_and_what_is_refused_changes_nothing() {
        let memory = Arc::new(Memory::default());
        let definitions = Definitions::<String>::open(memory.clone(), PREFIX);
        put(&definitions, "a", Some("one"), 1).await;
        put(&definitions, "b", Some("two"), 2).await;
        put(&definitions, "b", None, 3).await;
        memory.refuse(1);
        assert!(definitions.change("a", 4, |_, _| Ok(Some("other".into()))).await.is_err());
        let said = definitions.change("a", 4, |_, n| Err(Error::InvalidRequest(n.to_string()))).await;
        assert_eq!(said.expect_err("refused").to_string(), "1");
        let again = Definitions::<String>::open(Arc::new(memory.surviving()), PREFIX);
        for definitions in [definitions, again] {
            assert_eq!(definitions.all(), [("a".to_string(), "one".to_string())]);
            assert_eq!(definitions.last_change_nanos(), Some(3));
        }
    }

    #[tokio::test]
    async fn two_nodes_come_to_know_the_same_and_nothing_comes_back() {
        let nodes = [0; 2].map(|_| Definitions::<String>::open(Arc::new(Memory::default()), PREFIX));
        put(&nodes[0], "a", Some("one"), 1).await;
        put(&nodes[1], "a", Some("other"), 1).await;
        put(&nodes[0], "b", Some("short"), 2).await;
        let stale = documents(&nodes[0]);
        put(&nodes[0], "b", None, 3).await;
        for (from, to) in [(0, 1), (1, 0)] {
            for (key, value) in documents(&nodes[from]).into_iter().chain(stale.clone()) {
                nodes[to].learn(&key[PREFIX.len()..], &value).await;
            }
        }
        assert_eq!(documents(&nodes[0]), documents(&nodes[1]));
        assert_eq!(nodes[0].all(), nodes[1].all());
        assert_eq!(nodes[1].get("b"), None);
        nodes[0].learn("c", &Bytes::from_static(b"?")).await;
        assert_eq!(nodes[0].all().len(), 1);
    }

    #[tokio::test]
    async fn what_is_gone_is_forgotten_in_time() {
        let definitions = Definitions::<String>::open(Arc::new(Memory::default()), PREFIX);
        put(&definitions, "a", Some("x"), 1).await;
        put(&definitions, "a", None, 2).await;
        put(&definitions, "b", Some("x"), KEPT_NANOS).await;
        assert_eq!(documents(&definitions).len(), 2);
        put(&definitions, "b", Some("y"), KEPT_NANOS + 3).await;
        assert_eq!(documents(&definitions).len(), 1);
    }
}
