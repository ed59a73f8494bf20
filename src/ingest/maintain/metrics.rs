//! What is counted of maintenance.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::policy::Swap;
use crate::telemetry::register;

/// Steps of a round: the `step` label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Refresh,
    GiveUp,
    Expire,
    Erase,
    Seal,
    Merge,
    Rewrite,
    Delete,
    Sweep,
}

impl Step {
    pub(super) fn of(swap: Swap) -> Step {
        match swap {
            Swap::Seal => Step::Seal,
            Swap::Merge => Step::Merge,
            Swap::Rewrite => Step::Rewrite,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Step::Refresh => "refresh",
            Step::GiveUp => "give_up",
            Step::Expire => "expire",
            Step::Erase => "erase",
            Step::Seal => "seal",
            Step::Merge => "merge",
            Step::Rewrite => "rewrite",
            Step::Delete => "delete",
            Step::Sweep => "sweep",
        }
    }
}

/// `swap`: `seal`, `merge` or `rewrite`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SwapLabels {
    pub(super) swap: &'static str,
}

/// `step`: see [`Step::name`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StepLabels {
    pub(super) step: &'static str,
}

/// `reason`: `removed` or `orphan`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DeleteLabels {
    pub(super) reason: &'static str,
}

pub(super) static SWAPS: LazyLock<Family<SwapLabels, Counter>> = LazyLock::new(|| {
    register(
        "maintain_swaps",
        "Groups of blocks that became one block, by seal, merge, or rewrite of one without its hidden rows",
        Family::default(),
    )
});
pub(super) static FAILURES: LazyLock<Family<StepLabels, Counter>> =
    LazyLock::new(|| register("maintain_failures", "Steps that failed and are tried again", Family::default()));
pub(super) static OBJECTS_DELETED: LazyLock<Family<DeleteLabels, Counter>> =
    LazyLock::new(|| register("maintain_objects_deleted", "Objects deleted from the store", Family::default()));
