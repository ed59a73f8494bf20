//! A directory as a store: every write is a temporary file, fsynced, then given its name, and the name fsynced.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::{Error, ErrorKind, Key, Listed, Result, Store};
use crate::model::{Clock, SystemClock};

/// Folder of files on their way; its name starts with a dot, which no key can, and which readers of lakes skip.
const TEMP_FOLDER: &str = ".tmp";
/// A temporary file this old belongs to a process that died: another process of the same directory would not take so long.
const TEMP_ABANDONED_NANOS: i64 = 3_600_000_000_000;
/// Tries to write into a folder that a `delete` of its last file may remove meanwhile.
const FOLDER_TRIES: usize = 5;

/// A directory of this machine (or a POSIX file system mounted on it).
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Canonical: no symbolic link in it.
    root: PathBuf,
    url: String,
}

impl LocalStore {
    /// Opens a directory, making it if need be, and sweeps out what a crash left half written.
    pub fn open(root: &Path) -> Result<Self> {
        let shown = root.display().to_string();
        let open = || -> io::Result<PathBuf> {
            fs::create_dir_all(root)?;
            let root = root.canonicalize()?;
            create_folder(&root, &root.join(TEMP_FOLDER))?;
            Ok(root)
        };
        let root = open().map_err(|source| Error::io("open", shown, source))?;
        let url = format!("file://{}", root.display());
        sweep_temporary_files(&root.join(TEMP_FOLDER), SystemClock.now_nanos());
        Ok(Self {
            inner: Arc::new(Inner { root, url }),
        })
    }

    /// Runs file work where blocking is allowed.
    async fn blocking<T: Send + 'static>(&self, action: &'static str, key: &str, work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result.map_err(|source| Error::io(action, key, source)),
            Err(ended) => Err(Error::new(ErrorKind::Other, action, key, ended)),
        }
    }
}

impl Inner {
    /// The file of a key. The key has no `..`; a symbolic link in the directory could still lead out, and is refused.
    fn path(&self, key: &Key) -> io::Result<PathBuf> {
        let path = self.root.join(key.as_str());
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.canonicalize()?.starts_with(&self.root) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a symbolic link leads out of the store"));
        }
        Ok(path)
    }

    /// Writes a temporary file and gives it its name by `publish`, which must fail if it is not the one to do so.
    fn write<T>(&self, key: &Key, bytes: &[u8], publish: impl Fn(&Path, &Path) -> io::Result<T>) -> io::Result<T> {
        let temp = self.root.join(TEMP_FOLDER).join(ulid::Ulid::from_bytes(rand::random()).to_string());
        let result = self.write_through(&temp, key, bytes, publish);
        if let Err(error) = fs::remove_file(&temp)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %temp.display(), %error, "a temporary file stays behind");
        }
        result
    }

    fn write_through<T>(&self, temp: &Path, key: &Key, bytes: &[u8], publish: impl Fn(&Path, &Path) -> io::Result<T>) -> io::Result<T> {
        let mut file = File::create_new(temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        let target = self.root.join(key.as_str());
        let folder = target.parent().unwrap_or(&self.root);
        for tries_left in (0..FOLDER_TRIES).rev() {
            create_folder(&self.root, folder)?;
            match self.path(key).and_then(|target| publish(temp, &target)) {
                Ok(value) => {
                    sync_folder(folder)?;
                    return Ok(value);
                }
                // the folder was empty and was removed between the two calls
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries_left > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the folder vanishes as soon as it is made"))
    }

    fn list(&self, prefix: &str, after: Option<&Key>) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut folders = vec![prefix.trim_end_matches('/').to_string()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let text = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
                let Some(key) = Key::parse(&text) else { continue };
                // symbolic links are neither files nor folders here: they are not followed
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(text);
                } else if kind.is_file() && after.is_none_or(|after| key > *after) {
                    match entry.metadata() {
                        Ok(metadata) => found.push(Listed {
                            key,
                            n_bytes: metadata.len(),
                            modified_nanos: modified_nanos(&metadata),
                        }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &Key) -> io::Result<()> {
        match self.path(key).and_then(fs::remove_file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        // an hour's folder that became empty goes with its last file; `remove_dir` refuses any other
        let mut folder = self.root.join(key.as_str());
        while folder.pop() && folder != self.root && fs::remove_dir(&folder).is_ok() {}
        Ok(())
    }
}

#[async_trait::async_trait]
impl Store for LocalStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let name = key.clone();
        self.blocking("put", key.as_str(), move |inner| {
            inner.write(&name, &bytes, |temp, target| fs::rename(temp, target))
        })
        .await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let name = key.clone();
        // a hard link fails if the name is taken: unlike a rename, it can have only one winner
        let publish = |temp: &Path, target: &Path| match fs::hard_link(temp, target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        };
        self.blocking("put", key.as_str(), move |inner| inner.write(&name, &bytes, publish)).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        let name = key.clone();
        self.blocking("read", key.as_str(), move |inner| fs::read(inner.path(&name)?).map(Bytes::from))
            .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let name = key.clone();
        let work = move |inner: &Inner| {
            let mut file = File::open(inner.path(&name)?)?;
            // known before anything is allocated
            if range.start > range.end || range.end > file.metadata()?.len() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the range ends behind the object"));
            }
            file.seek(SeekFrom::Start(range.start))?;
            let n_bytes = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; n_bytes];
            file.read_exact(&mut bytes)?;
            Ok(Bytes::from(bytes))
        };
        self.blocking("read", key.as_str(), work).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        let (folder, after) = (prefix.to_string(), after.cloned());
        self.blocking("list", prefix, move |inner| inner.list(&folder, after.as_ref())).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let name = key.clone();
        self.blocking("delete", key.as_str(), move |inner| inner.delete(&name)).await
    }

    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.inner.root.join(key.as_str()))
    }

    fn url(&self) -> &str {
        &self.inner.url
    }
}

/// Makes `folder` and those above it, down from `root`, and fsyncs each folder that got a new entry.
fn create_folder(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() || folder == root {
        return Ok(());
    }
    let above = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_folder(root, above)?;
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn modified_nanos(metadata: &fs::Metadata) -> i64 {
    let since_epoch = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_epoch.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn sweep_temporary_files(folder: &Path, now_nanos: i64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let abandoned = entry
            .metadata()
            .is_ok_and(|metadata| modified_nanos(&metadata) < now_nanos - TEMP_ABANDONED_NANOS);
        if abandoned && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "an abandoned temporary file stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    fn key(text: &str) -> Key {
        Key::parse(text).expect("a legal key")
    }

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        let dir = tempfile::tempdir().expect("a directory");
        conformance::check(Arc::new(LocalStore::open(dir.path()).expect("opens"))).await;
        let left: Vec<_> = fs::read_dir(dir.path().join(TEMP_FOLDER)).expect("exists").collect();
        assert!(left.is_empty(), "temporary files stay: {left:?}");
    }

    #[tokio::test]
    async fn a_symbolic_link_does_not_lead_out() {
        let (dir, outside) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let store = LocalStore::open(dir.path()).expect("opens");
        std::os::unix::fs::symlink(outside.path(), dir.path().join("logs")).expect("a link");
        fs::write(outside.path().join("secret"), "x").expect("written");
        let denied = |result: Result<()>| assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Denied));
        denied(store.put(&key("logs/new"), Bytes::from_static(b"x")).await);
        denied(store.put_if_absent(&key("logs/new"), Bytes::from_static(b"x")).await.map(drop));
        denied(store.get(&key("logs/secret")).await.map(drop));
        denied(store.delete(&key("logs/secret")).await);
        assert_eq!(store.list("", None).await.expect("lists"), []);
        assert!(outside.path().join("secret").exists() && !outside.path().join("new").exists());
    }

    #[tokio::test]
    async fn files_that_are_not_ours_and_folders_left_empty_are_not_listed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(dir.path()).expect("opens");
        for name in [".hidden", "a b", "ok"] {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        store
            .put(&key("logs/dt=2026-11-22/hour=05/a.parquet"), Bytes::from_static(b"x"))
            .await
            .expect("put");
        store.delete(&key("logs/dt=2026-11-22/hour=05/a.parquet")).await.expect("deleted");
        assert!(!dir.path().join("logs").exists());
        let keys: Vec<_> = store.list("", None).await.expect("lists").into_iter().map(|listed| listed.key).collect();
        assert_eq!(keys, [key("ok")]);
    }

    #[test]
    fn only_abandoned_temporary_files_are_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("t"), "x").expect("written");
        let now = SystemClock.now_nanos();
        sweep_temporary_files(dir.path(), now);
        assert!(dir.path().join("t").exists());
        sweep_temporary_files(dir.path(), now + 2 * TEMP_ABANDONED_NANOS);
        assert!(!dir.path().join("t").exists());
    }
}
