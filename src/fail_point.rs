//! Named places at which a test lets the process die, so that every step of the write path is shown to survive it.
//!
//! Compiled into every build: what is shipped is what was tested. Nothing happens unless [`arm`] was called, and only
//! `serve --fail-points` does, a flag that no help shows and no file or environment variable sets; until then a point costs
//! one relaxed load. A point ends the process as `kill -9` does: nothing is written, flushed, or dropped. Armed with `=panic`,
//! it panics instead, as a defect there would.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// All points, in the order of the data. Between any two of them lies a step that leaves a trace outside the process.
pub const POINTS: &[&str] = &[
    "flush.after_cut",
    "flush.before_index",
    "flush.after_announcement",
    "flush.after_index_put",
    "flush.after_parquet_put",
    "flush.before_commit",
    "flush.after_commit",
    "flush.after_truncation",
    "delete.after_query_put",
    "delete.after_order",
    "delete.after_join",
    "delete.before_erasure",
    "delete.after_note",
    "delete.after_announcement",
    "delete.after_index_put",
    "delete.after_parquet_put",
    "delete.after_erasure",
    "merge.after_build",
    "merge.after_announcement",
    "merge.after_index_put",
    "merge.after_parquet_put",
    "merge.after_commit",
    "retention.before_commit",
    "retention.after_announcement",
    "retention.after_index_put",
    "retention.after_parquet_put",
    "retention.after_commit",
    "removal.after_first_object",
    "removal.after_last_object",
];

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static ARMED: OnceLock<BTreeMap<&'static str, Armed>> = OnceLock::new();

/// What is to happen at a point.
#[derive(Debug)]
struct Armed {
    /// Times until then.
    left: AtomicU64,
    panics: bool,
}

/// Arms points: names apart by commas, each with `@N` to let it pass N − 1 times first, and `=panic` to let it panic. Says
/// which name is wrong.
pub fn arm(points: &str) -> Result<(), String> {
    let mut armed = BTreeMap::new();
    for point in points.split(',').map(str::trim).filter(|point| !point.is_empty()) {
        let (name_and_times, panics) = match point.split_once('=') {
            Some((before, "panic")) => (before, true),
            Some((_, what)) => return Err(format!("{point}: a point can =panic, not ={what}")),
            None => (point, false),
        };
        let (name, times) = name_and_times.split_once('@').unwrap_or((name_and_times, "1"));
        let known = POINTS.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| format!("there is no fail point {name}; there are {}", POINTS.join(", ")))?;
        let times = times.parse::<u64>().ok().filter(|times| *times > 0);
        let left = AtomicU64::new(times.ok_or_else(|| format!("{point}: @N is a positive number"))?);
        armed.insert(*known, Armed { left, panics });
    }
    ARMED.set(armed).map_err(|_| "fail points are armed once".to_string())?;
    IS_ARMED.store(true, Ordering::Release);
    Ok(())
}

/// The process ends here, or panics, if this point is armed.
pub fn hit(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not in the list of fail points");
    if IS_ARMED.load(Ordering::Relaxed)
        && let Some(armed) = ARMED.get().and_then(|armed| armed.get(name))
        && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        if armed.panics {
            std::panic::panic_any(format!("the fail point {name}"));
        }
        tracing::error!(name, "the process ends at a fail point");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_points_are_refused_and_nothing_is_armed() {
        assert!(arm("flush.after_cut,nosuch").expect_err("unknown").contains("nosuch"));
        assert!(arm("flush.after_cut@0").is_err());
        assert!(arm("flush.after_cut=pause").expect_err("unknown").contains("=panic"));
        assert!(!IS_ARMED.load(Ordering::Relaxed));
        hit("flush.after_cut");
    }
}
