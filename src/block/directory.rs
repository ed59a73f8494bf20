//! tantivy's files while an index is made: write once, in memory or in [`Scratch`] files.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tantivy::Directory;
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{AntiCallToken, FileHandle, OwnedBytes, TerminatingWrite, WatchCallback, WatchHandle, WritePtr};

use super::bundle::Pinned;
use crate::storage::{Scratch, ScratchFile};

/// A directory of its own for one index. Clones are the same directory.
#[derive(Clone, Debug)]
pub(super) struct ScratchDirectory {
    scratch: Scratch,
    files: Arc<Mutex<HashMap<PathBuf, Bytes>>>,
}

impl ScratchDirectory {
    pub(super) fn new(scratch: Scratch) -> Self {
        Self {
            scratch,
            files: Arc::default(),
        }
    }

    /// Takes a file out: it goes with the bytes.
    pub(super) fn take(&self, path: &Path) -> Option<Bytes> {
        self.files.lock().remove(path)
    }

    /// Bytes of all files that are written.
    pub(super) fn n_bytes(&self) -> usize {
        self.files.lock().values().map(Bytes::len).sum()
    }

    fn get(&self, path: &Path) -> Result<Bytes, OpenReadError> {
        let found = self.files.lock().get(path).cloned();
        found.ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_path_buf()))
    }
}

impl Directory for ScratchDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        Ok(Arc::new(OwnedBytes::new(Pinned(self.get(path)?))))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        match self.take(path) {
            Some(_) => Ok(()),
            None => Err(DeleteError::FileDoesNotExist(path.to_path_buf())),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.files.lock().contains_key(path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let mut files = self.files.lock();
        if files.contains_key(path) {
            return Err(OpenWriteError::FileAlreadyExists(path.to_path_buf()));
        }
        let file = self.scratch.file(0).map_err(|error| OpenWriteError::wrap_io_error(error, path.to_path_buf()))?;
        files.insert(path.to_path_buf(), Bytes::new());
        Ok(BufWriter::new(Box::new(Writer {
            path: path.to_path_buf(),
            file: Some(file),
            directory: self.clone(),
        })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.get(path).map(|bytes| bytes.to_vec())
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.files.lock().insert(path.to_path_buf(), Bytes::copy_from_slice(data));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// A file being written; it can be read once it is terminated.
struct Writer {
    path: PathBuf,
    file: Option<ScratchFile>,
    directory: ScratchDirectory,
}

impl Writer {
    fn file(&mut self) -> io::Result<&mut ScratchFile> {
        self.file.as_mut().ok_or_else(|| io::Error::other("it was terminated"))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        // what is flushed cannot be read before it is terminated
        Ok(())
    }
}

impl TerminatingWrite for Writer {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        let file = self.file.take().ok_or_else(|| io::Error::other("it was terminated"))?;
        let bytes = file.finish()?;
        self.directory.files.lock().insert(std::mem::take(&mut self.path), bytes);
        Ok(())
    }
}
