//! A store whose objects were written when a test's clock says so, not the machine's: what goes by the age of objects is
//! then the same on any day.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Key, Listed, Result, Store};
use crate::model::Clock;

/// Another store, by another clock.
#[derive(Debug)]
pub(crate) struct DatedStore {
    inner: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    written: Mutex<HashMap<Key, i64>>,
}

impl DatedStore {
    /// Over a store that is empty.
    pub(crate) fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            clock,
            written: Mutex::default(),
        })
    }

    fn has_put(&self, key: &Key) {
        self.written.lock().insert(key.clone(), self.clock.now_nanos());
    }
}

#[async_trait::async_trait]
impl Store for DatedStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await?;
        self.has_put(key);
        Ok(())
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let created = self.inner.put_if_absent(key, bytes).await?;
        if created {
            self.has_put(key);
        }
        Ok(created)
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        let mut listed = self.inner.list(prefix, after).await?;
        let written = self.written.lock();
        for object in &mut listed {
            // one that is being put just now
            object.modified_nanos = written.get(&object.key).copied().unwrap_or_else(|| self.clock.now_nanos());
        }
        Ok(listed)
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}
