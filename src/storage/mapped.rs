//! The maps of a process's files, and how much of them is in its memory.
//!
//! Pages of a mapped file that were read count as memory of the process until somebody takes them back. They are the page cache's
//! and cost nobody anything, but without a bound the figure that people watch grows with the store. So [`Maps::give_back`], called
//! once a second, unmaps the pages (not the maps) when they exceed the bound: they stay in the page cache, and the next read finds them
//! there by a minor fault, some microseconds for 64 KiB.

use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;

use super::metrics;

/// Every map that lives.
#[derive(Debug, Default)]
pub(super) struct Maps {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    whole: Vec<Weak<Mmap>>,
    partial: Vec<Weak<MmapRaw>>,
    /// So many were alive when the dead were last swept out.
    n_alive: usize,
}

impl Maps {
    /// Maps a whole file.
    #[expect(unsafe_code, reason = "the one place that maps files; the proof stands at the call")]
    pub(super) fn map_file(&self, file: &File) -> io::Result<Bytes> {
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: a map is sound while nobody changes or truncates the file. All files that come here get their name
        // by rename or link only after they are whole, and are not written any more (a partial copy, which is written while it is
        // mapped, has its own kind of map; it gets its name when all of it is present): objects are immutable, and
        // replacing or deleting one changes the name, while the map holds on to the old inode. Or they have no name (a scratch
        // file), so that only their one writer reaches them, which writes behind what is mapped and nowhere else. Another program
        // that writes into our data directory in place breaks this, as it would break any database.
        let map = Arc::new(unsafe { Mmap::map(file)? });
        self.add(&map);
        Ok(Bytes::from_owner(MappedFile(map)))
    }

    /// Knows of a map of a whole file.
    fn add(&self, map: &Arc<Mmap>) {
        let mut known = self.known.lock();
        known.whole.push(Arc::downgrade(map));
        known.sweep();
    }

    /// Knows of a map of a partial copy.
    pub(super) fn add_partial(&self, map: &Arc<MmapRaw>) {
        let mut known = self.known.lock();
        known.partial.push(Arc::downgrade(map));
        known.sweep();
    }

    /// If more than `max_bytes` of mapped files are in memory, gives their pages back to the system; whether it did. Does nothing where
    /// the system does not say how much there is.
    pub(super) fn give_back(&self, max_bytes: u64) -> bool {
        let Some(bytes) = resident_bytes() else { return false };
        metrics::mapped_bytes(bytes);
        if bytes <= max_bytes {
            return false;
        }
        // held until the advice is given, not while it is given: others map files meanwhile
        let (whole, partial) = {
            let known = self.known.lock();
            let whole: Vec<_> = known.whole.iter().filter_map(Weak::upgrade).collect();
            let partial: Vec<_> = known.partial.iter().filter_map(Weak::upgrade).collect();
            (whole, partial)
        };
        let given = whole.iter().map(|map| unmap_pages(map));
        for given in given.chain(partial.iter().map(|map| unmap_pages_of_partial(map))) {
            if let Err(error) = given {
                tracing::debug!(%error, "pages of a mapped file are not given back");
            }
        }
        true
    }
}

/// The bytes of a map that is known to the [`Maps`].
struct MappedFile(Arc<Mmap>);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Known {
    /// Sweeps out what is gone once that may be half.
    fn sweep(&mut self) {
        if self.whole.len() + self.partial.len() > 2 * self.n_alive + 64 {
            self.whole.retain(|map| map.strong_count() > 0);
            self.partial.retain(|map| map.strong_count() > 0);
            self.n_alive = self.whole.len() + self.partial.len();
        }
    }
}

#[expect(unsafe_code, reason = "the proof stands at the call")]
fn unmap_pages(map: &Mmap) -> io::Result<()> {
    // SAFETY: the advice is unsound where a page's content would be lost or change: in private or anonymous maps. This one is shared,
    // read only, and of a file that is not changed while it is mapped (see [`Maps::map_file`]): a page that is read again comes
    // from that file with the same bytes, also to a reader on another thread at this moment.
    unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }
}

#[expect(unsafe_code, reason = "the proof stands at the call")]
fn unmap_pages_of_partial(map: &MmapRaw) -> io::Result<()> {
    // SAFETY: as above: a shared map for reading; what is present in a partial copy is not written again (see `partial::Here`), and
    // is written through the file, whose pages these are.
    unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }
}

/// Bytes of files that are mapped and in this process's memory, its own program among them.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of_files = status.lines().find_map(|line| line.strip_prefix("RssFile:"))?;
    let kib: u64 = of_files.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Bytes of a map in this process's memory.
    fn in_memory(map: &Mmap) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let its_start = format!("{:x}-", map.as_ptr() as usize);
        let of_it = smaps.lines().skip_while(|line| !line.starts_with(&its_start));
        let rss = of_it.filter_map(|line| line.strip_prefix("Rss:")).next().expect("its size in memory");
        rss.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    #[test]
    fn pages_are_given_back_beyond_the_bound_and_read_the_same_again() {
        let mut file = tempfile::tempfile().expect("file");
        let bytes: Vec<u8> = (0..32u32 << 20).map(|at| (at >> 9) as u8).collect();
        file.write_all(&bytes).expect("write");
        // SAFETY: nobody changes the file
        #[expect(unsafe_code, reason = "a test's own file")]
        let map = Arc::new(unsafe { Mmap::map(&file) }.expect("map"));
        let maps = Maps::default();
        maps.add(&map);
        assert!(map[..] == bytes[..]);
        assert!(resident_bytes().expect("known") >= bytes.len() as u64);
        assert!(!maps.give_back(u64::MAX));
        assert_eq!(in_memory(&map), bytes.len());
        assert!(maps.give_back(0));
        assert_eq!(in_memory(&map), 0);
        assert!(map[..] == bytes[..]);
    }

    #[test]
    fn maps_that_are_gone_are_forgotten() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(4096).expect("length");
        let maps = Maps::default();
        for _ in 0..1_000 {
            // SAFETY: nobody changes the file
            #[expect(unsafe_code, reason = "a test's own file")]
            maps.add(&Arc::new(unsafe { Mmap::map(&file) }.expect("map")));
        }
        assert!(maps.known.lock().whole.len() <= 65);
    }
}
