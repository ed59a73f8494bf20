//! What an engine of a bench reads from: one view, for ever.

use std::sync::Arc;

use tokio::sync::broadcast;
use tracelake::model::Batch;
use tracelake::query::{Source, View};

/// A view, and nothing that comes after it.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// What queries see.
    pub(crate) view: View,
    /// Nobody sends.
    pub(crate) batches: broadcast::Sender<Arc<Batch>>,
}

impl Source for Fixed {
    fn view(&self) -> View {
        self.view.clone()
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }
}
