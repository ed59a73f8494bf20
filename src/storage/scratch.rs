//! Files without a name, in which large objects are made: a merge of some million rows would else hold the block that it makes in
//! memory, and its index twice.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::mapped::Maps;

/// Bytes that are written to a file at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Where objects are made before they are put: in memory, or in files of a folder, which have no name there and go with their last
/// reader or with the process.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    folder: Option<Folder>,
}

#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    maps: Arc<Maps>,
}

impl Scratch {
    /// In memory.
    pub fn memory() -> Self {
        Self::default()
    }

    /// In files of a folder, which is made when it is needed.
    pub(super) fn in_folder(path: PathBuf, maps: Arc<Maps>) -> Self {
        Self {
            folder: Some(Folder { path, maps }),
        }
    }

    /// A new file; in memory it has room for `expected_bytes`. Fails where the folder cannot be written to.
    pub fn file(&self, expected_bytes: usize) -> io::Result<ScratchFile> {
        let Some(folder) = &self.folder else {
            return Ok(ScratchFile(Content::Memory(Vec::with_capacity(expected_bytes))));
        };
        let file = match tempfile::tempfile_in(&folder.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder.path)?;
                tempfile::tempfile_in(&folder.path)
            }
            file => file,
        }?;
        Ok(ScratchFile(Content::File {
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
            maps: Arc::clone(&folder.maps),
        }))
    }
}

/// A file being written, which becomes bytes. Never synced: what is made of it is put elsewhere.
#[derive(Debug)]
pub struct ScratchFile(Content);

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    File { writer: BufWriter<File>, maps: Arc<Maps> },
}

impl ScratchFile {
    /// What is written, as long as anybody holds it: a file's bytes are mapped.
    pub fn finish(self) -> io::Result<Bytes> {
        match self.0 {
            Content::Memory(bytes) => Ok(bytes.into()),
            Content::File { writer, maps } => {
                let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
                maps.map_file(&file)
            }
        }
    }

    /// Gives what is written so far to `read`, which must not keep it: then memory is not copied.
    pub fn read_back<T>(&mut self, read: impl FnOnce(&Bytes) -> T) -> io::Result<T> {
        match &mut self.0 {
            Content::Memory(bytes) => {
                let so_far = Bytes::from(std::mem::take(bytes));
                let answer = read(&so_far);
                *bytes = Vec::from(so_far);
                Ok(answer)
            }
            Content::File { writer, maps } => {
                writer.flush()?;
                Ok(read(&maps.map_file(writer.get_ref())?))
            }
        }
    }
}

impl Write for ScratchFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Content::Memory(content) => content.write(bytes),
            Content::File { writer, .. } => writer.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Content::Memory(content) => content.write_all(bytes),
            Content::File { writer, .. } => writer.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Content::Memory(_) => Ok(()),
            Content::File { writer, .. } => writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scratch: &Scratch) {
        let mut file = scratch.file(0).expect("a file");
        let chunk: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
        for _ in 0..5 {
            file.write_all(&chunk).expect("written");
        }
        let before = file.read_back(|bytes| bytes.len()).expect("read");
        assert_eq!(before, 500_000);
        // more may come behind what was read
        file.write_all(b"end").expect("written");
        let sum = file.read_back(|bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()).expect("read");
        let bytes = file.finish().expect("mapped");
        assert_eq!(bytes.len(), 500_003);
        assert!(bytes.chunks(100_000).take(5).all(|part| part == chunk));
        assert_eq!(&bytes[500_000..], b"end");
        assert_eq!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), sum);
        assert!(scratch.file(10).expect("a file").finish().expect("mapped").is_empty());
    }

    #[test]
    fn what_is_written_is_read_back_from_memory_and_from_files() {
        check(&Scratch::memory());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/when/needed");
        check(&Scratch::in_folder(path.clone(), Arc::default()));
        assert_eq!(fs::read_dir(path).expect("it is there").count(), 0, "a file has a name");
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, b"x").expect("written");
        assert!(Scratch::in_folder(path.join("below"), Arc::default()).file(0).is_err());
    }
}
