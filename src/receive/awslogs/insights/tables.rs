//! Lookup tables: CSV files of one folder, `[insights] lookup_folder`.
//!
//! A table's name is its file's, without `.csv`: letters, digits and `_`, as at AWS. It is read when a query begins that asks for it, so
//! that a file may be replaced at any time (by a rename). AWS' bounds hold: a file has 10 MB at most.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::super::aside;
use super::super::error::{Error, Result};
use crate::query::insights::{LookupTable, Script};

/// Bytes of a table.
const MAX_TABLE_BYTES: u64 = 10 << 20;
/// Bytes of the tables of one query.
const MAX_QUERY_BYTES: u64 = 32 << 20;
const MAX_NAME: usize = 256;

/// A script over its lookup tables.
pub(super) async fn with_tables(script: Script, folder: &str) -> Result<Script> {
    let names = script.tables();
    if names.is_empty() {
        return Ok(script);
    }
    let folder = PathBuf::from(folder);
    let tables = aside(move || read_all(&names, &folder)).await?;
    script.with_tables(&|name| tables.get(name).cloned()).map_err(Error::MalformedQuery)
}

/// The tables that there are, of those names.
fn read_all(names: &[Arc<str>], folder: &Path) -> Result<HashMap<Arc<str>, Arc<LookupTable>>> {
    let (mut tables, mut left) = (HashMap::new(), MAX_QUERY_BYTES);
    for name in names.iter().filter(|_| !folder.as_os_str().is_empty()) {
        let is_name = name.len() <= MAX_NAME && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            continue;
        }
        let wrong = |why: &str| Error::InvalidParameter(format!("The lookup table {name} cannot be read: {why}."));
        let file = match std::fs::File::open(folder.join(format!("{name}.csv"))) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(wrong(&error.to_string())),
        };
        let mut text = String::new();
        file.take(MAX_TABLE_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|error| wrong(&error.to_string()))?;
        let n_bytes = text.len() as u64;
        if n_bytes > MAX_TABLE_BYTES {
            return Err(wrong("it has more than 10 MB"));
        }
        left = left.checked_sub(n_bytes).ok_or_else(|| wrong("the tables of the query have more than 32 MB"))?;
        let table = LookupTable::read(&text).map_err(|why| wrong(&why))?;
        tables.insert(name.clone(), Arc::new(table));
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_are_files_of_the_folder_and_of_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = folder.path().join("tables");
        std::fs::create_dir(&tables).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(tables.join(name), text).expect("a file");
        write("users.csv", "id,name\n1,ann\n");
        write("bad.csv", "id,id\n");
        write("large.csv", &format!("id\n{}", "x".repeat(10 << 20)));
        std::fs::write(folder.path().join("secret.csv"), "id\n").expect("a file");
        let asked = async |table: &str, folder: &Path| {
            let script = Script::parse(&format!("lookup {table} id OUTPUT name")).expect("a script");
            with_tables(script, &folder.to_string_lossy())
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(asked("users", &tables).await, Ok(()));
        for (table, part) in [
            ("bad", "twice"),
            ("large", "10 MB"),
            ("nosuch", "there is no lookup table"),
            ("`../secret`", "there is no lookup table"),
        ] {
            let error = asked(table, &tables).await.expect_err(table);
            assert!(error.contains(part), "{table}: {error}");
        }
        assert!(asked("users", Path::new("")).await.is_err(), "no folder is configured");
    }
}
