//! Local copies of bucket objects, mapped into memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Key, Result, Store};

/// Local copies of bucket objects.
#[derive(Debug)]
pub struct Cache {}

impl Cache {
    /// Opens the cache in `dir`, with what an earlier process left there.
    pub fn open(_store: Arc<dyn Store>, _dir: &Path, _max_bytes: u64) -> Result<Arc<Cache>> {
        todo!()
    }
    /// The bytes of an object, mapped.
    pub async fn map(&self, _key: &Key, _expect_bytes: u64, _expect_crc32c: Option<u32>) -> Result<Bytes> {
        todo!()
    }
    /// Takes a copy of what was just put.
    pub async fn seed(&self, _key: &Key, _bytes: Bytes) {
        todo!()
    }
    /// Forgets a copy, because its object is deleted.
    pub async fn forget(&self, _key: &Key) {
        todo!()
    }
}
