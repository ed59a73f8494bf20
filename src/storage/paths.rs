//! Every key of the store, each with its constructor and its parser; nobody formats a key elsewhere.
//!
//! | key | is |
//! |---|---|
//! | `logs/dt=2026-11-22/hour=05/<block>.parquet` | a sealed block of an hourly table; daily tables have no `hour=` |
//! | `_index/logs/dt=2026-11-22/hour=05/<block>.idx` | its index |
//! | `_l0/logs/dt=…/hour=…/<block>.parquet` | a block of a running hour |
//! | `_l0/_index/logs/dt=…/hour=…/<block>.idx` | its index |
//! | `_catalog/log/<20 digits>.json` | one record of the catalog |
//! | `_catalog/copy/<4 digits>.json` | one of the last records again |
//! | `_catalog/checkpoint/<20 digits>.json` | all that is live after that record |
//! | `_catalog/state/<name>.json` | a node's state or a part of it, named by the record that committed it, or its copy |
//! | `_catalog/probe/<name>` | short-lived, written at start to see whether the store keeps its promises |

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate};

use crate::model::Table;

/// Copies of records kept: of more than lie between the two checkpoints that are kept and the newest record.
const RECORD_COPIES: u64 = 1024;

/// Longest key we make or take, bytes (S3's own bound is 1024).
const MAX_KEY_BYTES: usize = 512;

/// The name of an object, relative to the store: segments of `A-Z a-z 0-9 _ - . =` joined by `/`, none of them empty
/// or starting with a dot. Such a key can neither leave a directory nor need escaping anywhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

impl Key {
    /// Takes a key as it was listed or stored; `None` if no store of ours could hold it.
    pub fn parse(text: &str) -> Option<Key> {
        let legal = |segment: &str| {
            !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'='))
        };
        (text.len() <= MAX_KEY_BYTES && text.split('/').all(legal)).then(|| Key(text.into()))
    }
    fn made(text: String) -> Key {
        debug_assert!(Key::parse(&text).is_some(), "an illegal key was made: {text:?}");
        Key(text.into())
    }
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Key::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an object key")))
    }
}

/// Whether foreign readers look there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Under `_l0/`: not yet in the lake.
    L0,
    /// In the lake proper.
    Lake,
}

/// Which of a block's two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The Parquet file.
    Data,
    /// The index bundle.
    Index,
}

/// Where a block's objects lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockPath {
    /// Its table.
    pub table: Table,
    /// L0 or lake.
    pub tier: Tier,
    /// Start of its UTC hour (hourly tables) or day, nanoseconds.
    pub partition_nanos: i64,
    /// Its name: letters and digits.
    pub block_id: String,
}

impl BlockPath {
    /// The key of one of its objects.
    pub fn key(&self, part: Part) -> Key {
        let tier = match self.tier {
            Tier::L0 => "_l0/",
            Tier::Lake => "",
        };
        let (folder, ending) = match part {
            Part::Data => ("", "parquet"),
            Part::Index => ("_index/", "idx"),
        };
        let partition = partition_folder(self.table, self.partition_nanos);
        Key::made(format!("{tier}{folder}{}/{partition}/{}.{ending}", self.table.name(), self.block_id))
    }
    /// The key of the Parquet file.
    pub fn data(&self) -> Key {
        self.key(Part::Data)
    }
    /// The key of the index bundle.
    pub fn index(&self) -> Key {
        self.key(Part::Index)
    }
    /// Reads either key back; `None` for any other key.
    pub fn parse(key: &Key) -> Option<(BlockPath, Part)> {
        let (tier, rest) = match key.as_str().strip_prefix("_l0/") {
            Some(rest) => (Tier::L0, rest),
            None => (Tier::Lake, key.as_str()),
        };
        let (part, rest) = match rest.strip_prefix("_index/") {
            Some(rest) => (Part::Index, rest),
            None => (Part::Data, rest),
        };
        let (table, rest) = rest.split_once('/')?;
        let table = Table::from_name(table)?;
        let (partition, file) = rest.rsplit_once('/')?;
        let (date, hour) = match partition.split_once('/') {
            Some((date, hour)) => (date, hour.strip_prefix("hour=")?.parse::<u32>().ok()?),
            None => (partition, 0),
        };
        let date = NaiveDate::parse_from_str(date.strip_prefix("dt=")?, "%Y-%m-%d").ok()?;
        let partition_nanos = date.and_hms_opt(hour, 0, 0)?.and_utc().timestamp_nanos_opt()?;
        let (block_id, _) = file.rsplit_once('.')?;
        if !block_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let path = BlockPath {
            table,
            tier,
            partition_nanos,
            block_id: block_id.to_string(),
        };
        // one spelling a key: what would not be written like this was not written by us
        (path.key(part) == *key).then_some((path, part))
    }
}

/// `dt=2026-11-22/hour=05`, or the day alone.
fn partition_folder(table: Table, partition_nanos: i64) -> String {
    let time = DateTime::from_timestamp_nanos(partition_nanos);
    let format = if table.is_hourly() { "dt=%Y-%m-%d/hour=%H" } else { "dt=%Y-%m-%d" };
    time.format(format).to_string()
}

/// The catalog's own objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CatalogPath {
    /// The record with this number.
    Log(u64),
    /// The copy of a record, by the last digits of its number: see [`CatalogPath::copy_of_record`].
    Copy(u16),
    /// All that is live after the record with this number.
    Checkpoint(u64),
    /// A node's state.
    State(String),
    /// A node's heartbeat.
    Node(String),
}

impl CatalogPath {
    /// Prefix of all records, for listing.
    pub const LOG_PREFIX: &str = "_catalog/log/";
    /// Prefix of all copies of records.
    pub const COPY_PREFIX: &str = "_catalog/copy/";
    /// Prefix of all checkpoints.
    pub const CHECKPOINT_PREFIX: &str = "_catalog/checkpoint/";
    /// Prefix of all states.
    pub const STATE_PREFIX: &str = "_catalog/state/";
    /// Prefix of all heartbeats.
    pub const NODE_PREFIX: &str = "_catalog/node/";

    /// Where the copy of a record lies, until that of the record 1,024 later takes its place.
    pub fn copy_of_record(seq: u64) -> Self {
        CatalogPath::Copy((seq % RECORD_COPIES) as u16)
    }

    /// Its key. Numbers have 20 digits, so that names sort as numbers do.
    pub fn key(&self) -> Key {
        Key::made(match self {
            CatalogPath::Log(seq) => format!("{}{seq:020}.json", Self::LOG_PREFIX),
            CatalogPath::Copy(place) => format!("{}{place:04}.json", Self::COPY_PREFIX),
            CatalogPath::Checkpoint(seq) => format!("{}{seq:020}.json", Self::CHECKPOINT_PREFIX),
            CatalogPath::State(name) => format!("{}{name}.json", Self::STATE_PREFIX),
            CatalogPath::Node(name) => format!("{}{name}.json", Self::NODE_PREFIX),
        })
    }
    /// Reads a key back; `None` for any other.
    pub fn parse(key: &Key) -> Option<CatalogPath> {
        let name = key.as_str().strip_suffix(".json")?;
        let number = |text: &str| (text.len() == 20).then(|| text.parse::<u64>().ok()).flatten();
        if let Some(place) = name.strip_prefix(Self::COPY_PREFIX) {
            (place.len() == 4).then(|| place.parse().ok().map(CatalogPath::Copy)).flatten()
        } else if let Some(seq) = name.strip_prefix(Self::LOG_PREFIX) {
            number(seq).map(CatalogPath::Log)
        } else if let Some(seq) = name.strip_prefix(Self::CHECKPOINT_PREFIX) {
            number(seq).map(CatalogPath::Checkpoint)
        } else {
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| text.to_string());
            match name.strip_prefix(Self::NODE_PREFIX) {
                Some(node) => plain(node).map(CatalogPath::Node),
                None => plain(name.strip_prefix(Self::STATE_PREFIX)?).map(CatalogPath::State),
            }
        }
    }
}

/// Prefix of probe objects.
pub const PROBE_PREFIX: &str = "_catalog/probe/";

/// The key of a probe object called `name` (letters and digits).
pub fn probe_key(name: &str) -> Key {
    Key::made(format!("{PROBE_PREFIX}{name}"))
}

/// Prefixes under which blocks of `table` lie, all tiers and parts, for listing.
pub fn block_prefixes(table: Table) -> [String; 4] {
    let name = table.name();
    [
        format!("{name}/"),
        format!("_index/{name}/"),
        format!("_l0/{name}/"),
        format!("_l0/_index/{name}/"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn path(table: Table, tier: Tier) -> BlockPath {
        BlockPath {
            table,
            tier,
            // 2026-11-22T05:00:00Z
            partition_nanos: if table.is_hourly() {
                1_795_323_600_000_000_000
            } else {
                1_795_305_600_000_000_000
            },
            block_id: "01kanvp1zz0000000000000000".into(),
        }
    }

    #[test]
    fn keys_are_those_of_the_layout() {
        let id = "01kanvp1zz0000000000000000";
        for (key, expected) in [
            (path(Table::Logs, Tier::Lake).data(), format!("logs/dt=2026-11-22/hour=05/{id}.parquet")),
            (path(Table::Logs, Tier::Lake).index(), format!("_index/logs/dt=2026-11-22/hour=05/{id}.idx")),
            (path(Table::Spans, Tier::L0).data(), format!("_l0/spans/dt=2026-11-22/hour=05/{id}.parquet")),
            (path(Table::Spans, Tier::L0).index(), format!("_l0/_index/spans/dt=2026-11-22/hour=05/{id}.idx")),
            (
                path(Table::MetricPoints, Tier::Lake).data(),
                format!("metric_points/dt=2026-11-22/{id}.parquet"),
            ),
            (CatalogPath::Log(7).key(), "_catalog/log/00000000000000000007.json".into()),
            (CatalogPath::copy_of_record(1031).key(), "_catalog/copy/0007.json".into()),
            (CatalogPath::Checkpoint(256).key(), "_catalog/checkpoint/00000000000000000256.json".into()),
            (CatalogPath::State("01k".into()).key(), "_catalog/state/01k.json".into()),
            (CatalogPath::Node("01k".into()).key(), "_catalog/node/01k.json".into()),
        ] {
            assert_eq!(key.as_str(), expected);
        }
    }

    #[test]
    fn keys_parse_back_to_what_made_them() {
        for table in Table::ALL {
            for tier in [Tier::L0, Tier::Lake] {
                for part in [Part::Data, Part::Index] {
                    let path = path(table, tier);
                    assert_eq!(BlockPath::parse(&path.key(part)), Some((path.clone(), part)));
                    assert!(block_prefixes(table).iter().any(|prefix| path.key(part).as_str().starts_with(prefix)));
                }
            }
        }
        for path in [
            CatalogPath::Log(u64::MAX),
            CatalogPath::Copy(0),
            CatalogPath::copy_of_record(u64::MAX),
            CatalogPath::Checkpoint(0),
            CatalogPath::State("x".into()),
            CatalogPath::Node("x".into()),
        ] {
            assert_eq!(CatalogPath::parse(&path.key()), Some(path));
        }
    }

    #[test]
    fn a_key_cannot_leave_its_store() {
        for text in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "a/./b",
            ".hidden",
            "a\\b",
            "a b",
            "a\0b",
            "ä",
            "a%2fb",
        ] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn foreign_objects_are_not_taken_for_ours() {
        for text in [
            "logs/dt=2026-11-22/01kanvp1zz.parquet",
            "logs/dt=2026-11-22/hour=5/01kanvp1zz.parquet",
            "logs/dt=2026-11-22/hour=24/01kanvp1zz.parquet",
            "metric_points/dt=2026-11-22/hour=05/01kanvp1zz.parquet",
            "logs/dt=2026-11-22/hour=05/part-0001.parquet",
            "logs/dt=2026-11-22/hour=05/01kanvp1zz.idx",
            "logs/dt=2026-11-22/hour=05/deeper/01kanvp1zz.parquet",
            "other/dt=2026-11-22/01kanvp1zz.parquet",
            "_catalog/log/7.json",
        ] {
            let key = Key::parse(text).expect("a legal key");
            assert_eq!(BlockPath::parse(&key), None, "{text}");
            assert_eq!(CatalogPath::parse(&key), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            if let Some(key) = Key::parse(&text) {
                let _ = (BlockPath::parse(&key), CatalogPath::parse(&key));
            }
        }

        #[test]
        fn every_hour_has_its_own_folder(hour in -100_000i64..2_000_000) {
            let path = BlockPath { partition_nanos: hour * HOUR, ..path(Table::Logs, Tier::Lake) };
            proptest::prop_assert_eq!(BlockPath::parse(&path.data()), Some((path.clone(), Part::Data)));
        }
    }
}
