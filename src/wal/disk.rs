//! The few things the log asks of the operating system, so that tests can let them fail.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::{Error, Result};

/// The disk as the writer and the keeper see it; a test's own overrides single methods.
pub(super) trait Disk: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Makes the file's data durable.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Takes the room of a new file, in one piece if the file system can.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // the zeros written after this take the room as well
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            taken => Ok(taken?),
        }
    }

    /// Bytes free for us under the folder.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let answer = rustix::fs::statvfs(dir)?;
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }
}

/// The disk itself.
pub(super) struct SystemDisk;

impl Disk for SystemDisk {}

/// Makes the folder durable: names of files made, renamed or removed in it.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the folder if need be and takes it for this process, until the file is dropped.
pub(super) fn lock_folder(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).map_err(|e| io_error("make", dir, e))?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_folder(parent).map_err(|e| io_error("sync", parent, e))?;
    }
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| io_error("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: dir.to_path_buf() }),
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path, e)),
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// What failed on the disk, in a form that can be told to each waiter of a group.
#[derive(Debug)]
pub(super) struct Failure {
    pub action: &'static str,
    pub path: PathBuf,
    pub error: io::Error,
}

impl Failure {
    pub(super) fn new(action: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        Self { action, path, error }
    }

    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// The error for one waiter; `free` is what the disk has left.
    pub(super) fn to_error(&self, dir: &Path, free: u64) -> Error {
        if self.is_disk_full() {
            let path = dir.to_path_buf();
            return Error::DiskFull { path, free };
        }
        let source = match self.error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.error.kind(), self.error.to_string()),
        };
        io_error(self.action, &self.path, source)
    }
}
