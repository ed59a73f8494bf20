//! A node's name: made once, kept in its data directory.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::{Error, Result};

/// What is said of a damaged file: a new name would make the rows in the log another node's.
const NOT_A_NAME: &str = "this is no name of a node (26 lower-case letters and digits). Put the name back that it had: it stands under _catalog/node/ and in every record \
     under _catalog/log/ of the store. Nothing was changed";
/// What is said of a file that is not as it was written.
const TORN: &str = "its checksum is not that of the lines before it: the file was torn or damaged, or changed by hand (then leave out its last line)";
/// Begins the last line of a file: the CRC32C of the lines before it, in hex.
const CHECKSUM: &str = "crc32c ";
/// File in the data directory that holds the name.
pub(super) const FILE_NAME: &str = "node_id";

/// A node's name (a ULID, 26 lower-case characters): whose WAL a record speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeId(String);

impl NodeId {
    /// Reads a name; `None` unless it is 26 lower-case letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())).then(|| Self(text.to_string()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the name in `data_dir`, or makes one there, durable before this returns. A file that holds anything else
    /// is an error: with another name the node would not find its own WAL position and would write its rows twice. A name that was
    /// damaged into another is found out by its checksum, and in files of before, which have none, by the log, which knows whose it is
    /// ([`crate::wal::Error::ForeignNode`]).
    pub fn load_or_create(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE_NAME);
        let load = || -> io::Result<NodeId> {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let name = checked(&text).map_err(|torn| invalid(&format!("{torn}. {NOT_A_NAME}")))?;
                    return NodeId::parse(name.trim()).ok_or_else(|| invalid(NOT_A_NAME));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            fs::create_dir_all(data_dir)?;
            let id = NodeId(ulid::Ulid::from_bytes(rand::random()).to_string().to_lowercase());
            write_durably(&path, &with_checksum(&format!("{id}\n")))?;
            Ok(id)
        };
        load().map_err(|source| Error::Node { path: path.clone(), source })
    }
}

pub(super) fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Lines, and one more that tells whether they are whole.
pub(super) fn with_checksum(lines: &str) -> String {
    format!("{lines}{CHECKSUM}{:08x}\n", crc32c::crc32c(lines.as_bytes()))
}

/// The lines of [`with_checksum`]; those of a file of before, without a checksum, as they are. What is wrong, if they are not as they
/// were written.
pub(super) fn checked(text: &str) -> Result<&str, &'static str> {
    let Some(at) = text.find(CHECKSUM) else { return Ok(text) };
    let (lines, checksum) = text.split_at(at);
    let expected = u32::from_str_radix(checksum[CHECKSUM.len()..].trim_end(), 16);
    match expected == Ok(crc32c::crc32c(lines.as_bytes())) {
        true => Ok(lines),
        false => Err(TORN),
    }
}

/// Puts a file in the place of the one that may be there; durable when it returns.
pub(super) fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let temp = path.with_extension("new");
    let mut file = File::create(&temp)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // an empty one would only be in the way
        let _ = fs::remove_file(&temp);
        return Err(error);
    }
    fs::rename(&temp, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("data");
        let id = NodeId::load_or_create(&data_dir).expect("made");
        assert_eq!(NodeId::load_or_create(&data_dir).expect("read"), id);
        assert_eq!(NodeId::parse(id.as_str()), Some(id.clone()));
        let path = data_dir.join(FILE_NAME);
        let written = fs::read_to_string(&path).expect("a file");
        // a letter that is another name; a checksum that is cut; no name at all
        let other = written.replacen(|c: char| c != 'z', "z", 1);
        for (torn, told) in [
            (&other[..], "torn or damaged"),
            (&written[..written.len() - 3], "torn or damaged"),
            (&written[..written.len() - 12], "no name of a node"),
            ("torn", "no name of a node"),
            ("", "no name of a node"),
        ] {
            fs::write(&path, torn).expect("written");
            match NodeId::load_or_create(&data_dir) {
                Err(error @ Error::Node { .. }) => assert!(error.to_string().contains(told), "{torn:?}: {error}"),
                other => panic!("{torn:?}: {other:?}"),
            }
            assert_eq!(fs::read_to_string(&path).expect("a file"), torn, "nothing is changed");
        }
        for of_before in [id.as_str().to_string(), format!("{id}\n")] {
            fs::write(&path, of_before).expect("written");
            assert_eq!(NodeId::load_or_create(&data_dir).expect("read"), id);
        }
    }
}
