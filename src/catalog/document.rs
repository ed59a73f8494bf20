//! The catalog's documents as bytes: each says what its bytes must be, and what is damaged is told from what is whole.
//!
//! | document | where its CRC32C stands |
//! |---|---|
//! | record, checkpoint | before all else, of all that follows: `{"crc32c":"0a1b2c3d","v":1,…}` |
//! | state, query | of all of it, at the end of its name, which a record gives: `_catalog/state/<26 characters><8 digits>.json` |
//!
//! A record or checkpoint that begins with `{"v":`, and a state whose name has 26 characters, are of a program before there were
//! checksums: they are read for ever, and taken at their word. That program in turn reads ours: it overlooks the field. No
//! single flipped bit makes the one beginning of the other.

use crate::storage::Key;
use crate::storage::paths::CatalogPath;

use super::record::FORMAT_VERSION;
use super::{Error, Result};

/// How a document with a checksum begins, up to its eight digits.
const SEALED: &[u8] = b"{\"crc32c\":\"";
/// How one without begins.
const UNSEALED: &[u8] = b"{\"v\":";
/// What stands between the digits and what they are of.
const BEHIND: &[u8] = b"\",";
const DIGITS: usize = 8;
/// Length of a state's own name.
const NAME: usize = 26;
/// What the copy of a state has behind its name.
const COPY: &str = "copy";

fn digits(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// What went wrong with an object, of which nothing is used.
pub(super) fn damaged(key: &Key, why: impl ToString) -> Error {
    Error::Corrupt {
        key: key.clone(),
        why: why.to_string(),
    }
}

/// A record or checkpoint (`v` is its first field) with its checksum.
pub(super) fn seal(document: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(document)?;
    let content = json.get(1..).unwrap_or_default();
    Ok([SEALED, digits(content).as_bytes(), BEHIND, content].concat())
}

/// Whether a record's or checkpoint's bytes are those that were written, as far as they tell; else what is wrong.
fn check(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.starts_with(UNSEALED) {
        return Ok(());
    }
    let sealed = bytes.strip_prefix(SEALED).and_then(|rest| rest.split_at_checked(DIGITS));
    let (sum, content) = sealed.ok_or("it begins neither with a checksum nor with a version")?;
    match content.strip_prefix(BEHIND) {
        Some(content) if digits(content).as_bytes() == sum => Ok(()),
        _ => Err("its bytes are not those of its checksum"),
    }
}

/// Reads a record or checkpoint. Its version is looked at before its content: a newer one need not look like ours.
pub(super) fn open<T: serde::de::DeserializeOwned>(key: &Key, bytes: &[u8]) -> Result<T> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let checked = check(bytes);
    // a flipped bit in a version must not send anybody looking for a newer program
    if checked.is_ok() || !bytes.starts_with(SEALED) {
        match serde_json::from_slice(bytes) {
            Ok(Version { v }) if v > FORMAT_VERSION => {
                return Err(Error::Newer {
                    key: key.clone(),
                    found: v,
                    known: FORMAT_VERSION,
                });
            }
            Ok(_) => {}
            Err(error) => return Err(damaged(key, checked.err().map_or_else(|| error.to_string(), str::to_string))),
        }
    }
    checked.map_err(|why| damaged(key, why))?;
    serde_json::from_slice(bytes).map_err(|error| damaged(key, error))
}

/// A new name for a state or query, with its checksum.
pub(super) fn name_of(bytes: &[u8]) -> Key {
    let name = ulid::Ulid::from_bytes(rand::random()).to_string().to_lowercase();
    CatalogPath::State(name + &digits(bytes)).key()
}

/// Where the copy of a state or query lies; `None`: it was written by a program that made none.
pub(super) fn copy_of(key: &Key) -> Option<Key> {
    match CatalogPath::parse(key) {
        Some(CatalogPath::State(name)) if name.len() == NAME + DIGITS => Some(CatalogPath::State(name + COPY).key()),
        _ => None,
    }
}

/// Whether a state's or query's bytes are those of the name a record gives, as far as it tells; else what is wrong.
pub(super) fn check_named(key: &Key, bytes: &[u8]) -> Result<(), &'static str> {
    match CatalogPath::parse(key) {
        Some(CatalogPath::State(name)) if name.len() == NAME + DIGITS && !name.ends_with(&digits(bytes)) => {
            Err("its bytes are not those of the checksum in its name")
        }
        _ => Ok(()),
    }
}
