//! Rows as they are acknowledged, for those who watch.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::TailEvent;

/// New rows that match, at most one event every 250 ms; ends when the server drains.
pub struct Tail {
    pub(super) events: Pin<Box<dyn Stream<Item = TailEvent> + Send>>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tail")
    }
}

impl Stream for Tail {
    type Item = TailEvent;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TailEvent>> {
        self.events.as_mut().poll_next(context)
    }
}
