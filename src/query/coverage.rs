//! What an answer rests on: nothing is left out silently.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::blocks::Opened;
use super::limits::Stop;
use crate::block::BlockMeta;
use crate::ingest::LostFrames;
use crate::model::{TimeRange, format_time};

/// Problems listed in one answer; further ones are only counted.
const MAX_PROBLEMS: usize = 100;

/// What the problem is of, where time was up.
const TIME_LIMIT: &str = "time limit";

/// Why rows may be missing from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The store did not give the object.
    Unreachable,
    /// The object is not what the catalog says, or cannot be read.
    Corrupt,
    /// A bound was reached.
    Limit,
    /// Time was up.
    Timeout,
}

/// One thing that kept an answer from being whole, or made it slower than it should be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The block or bound.
    pub what: String,
    /// For people.
    pub message: String,
}

/// What an answer rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The range that was asked for; where it was open, the range of what there is.
    pub range: TimeRange,
    /// Blocks whose rows may lie in the range.
    pub blocks_total: u64,
    /// Blocks that were looked into.
    pub blocks_read: u64,
    /// Blocks that were left out because they cannot hold a row of this answer.
    pub blocks_pruned: u64,
    /// Estimate of the bytes read from blocks.
    pub bytes_read: u64,
    /// Requests to the store, of objects that this machine had no copy of.
    pub store_gets: u64,
    /// Bytes that these fetched.
    pub store_bytes: u64,
    /// Unflushed rows that were looked at.
    pub head_rows: u64,
    /// Rows that match; more may, where `complete` is false or a page was full.
    pub rows_matched_at_least: u64,
    /// Whether every row that could be in the answer was looked at.
    pub complete: bool,
    /// What went wrong.
    pub problems: Vec<Problem>,
    /// Problems beyond those that are listed.
    pub further_problems: u64,
    /// Whether a problem that cost rows, listed or not, was another than that time was up.
    lacks_more_than_time: bool,
}

impl Coverage {
    /// Nothing read yet of `range`.
    pub fn new(range: TimeRange) -> Self {
        Self {
            range,
            blocks_total: 0,
            blocks_read: 0,
            blocks_pruned: 0,
            bytes_read: 0,
            store_gets: 0,
            store_bytes: 0,
            head_rows: 0,
            rows_matched_at_least: 0,
            complete: true,
            problems: Vec::new(),
            further_problems: 0,
            lacks_more_than_time: false,
        }
    }

    /// Notes a problem through which rows may be missing.
    pub fn incomplete(&mut self, kind: ProblemKind, what: impl Into<String>, message: impl Into<String>) {
        let what = what.into();
        self.complete = false;
        self.lacks_more_than_time |= kind != ProblemKind::Timeout || what != TIME_LIMIT;
        self.note(kind, what, message);
    }

    /// Notes the frames of the log that are lost and may have held rows of the range.
    pub(super) fn lacks(&mut self, lost: &[LostFrames]) {
        let range = self.range;
        for frames in lost.iter().filter(|frames| frames.may_lie_in(&range)) {
            let (id, n, why) = (frames.id(), frames.frames, &frames.why);
            let of = frames.node.as_ref().map(|node| format!(" of node {node}")).unwrap_or_default();
            let since = frames.received_from_nanos.map(|nanos| format!("from {} ", format_time(nanos)));
            let message = format!(
                "{n} frames of the log{of}, received {}to {}, were lost at a start ({why}): records of this answer may have been in them. \
                 The status has more under lost_frames; POST /api/v1/lost-frames ends this note once it is known",
                since.unwrap_or_default(),
                format_time(frames.received_to_nanos),
            );
            self.incomplete(ProblemKind::Corrupt, format!("log positions {id}"), message);
        }
    }

    /// Whether anything is lacking but what damaged objects held: that is lost, and asking again will not bring it.
    pub fn lacks_more_than_damage(&self) -> bool {
        !self.complete && (self.problems.is_empty() || self.problems.iter().any(|problem| problem.kind != ProblemKind::Corrupt))
    }

    /// Notes that time was up.
    pub(super) fn is_late(&mut self) {
        self.incomplete(ProblemKind::Timeout, TIME_LIMIT, "time was up; rows that were not reached are missing");
    }

    /// Whether time was up before everything was read.
    pub fn is_time_up(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == ProblemKind::Timeout)
    }

    /// Whether rows are missing for nothing but that: what is asked for is more than there is time for. Problems that cost no rows do not
    /// count.
    pub fn lacks_time_alone(&self) -> bool {
        !self.complete && !self.lacks_more_than_time
    }

    /// Notes a problem that cost no rows.
    pub fn note(&mut self, kind: ProblemKind, what: impl Into<String>, message: impl Into<String>) {
        let problem = Problem {
            kind,
            what: what.into(),
            message: message.into(),
        };
        if self.problems.contains(&problem) {
            return;
        }
        match self.problems.len() < MAX_PROBLEMS {
            true => self.problems.push(problem),
            false => self.further_problems += 1,
        }
    }

    /// Counts a block that was opened.
    pub(super) fn has_opened(&mut self, block: &BlockMeta, opened: &Opened) {
        self.blocks_read += 1;
        if let Some(problem) = &opened.index_problem {
            self.note(ProblemKind::Corrupt, block.id.as_str(), format!("scanned without its index: {problem}"));
        }
    }

    /// Sums up what was read and fetched since this was last done, and names the objects that were found damaged.
    pub(super) fn has_read(&mut self, stop: &Stop) {
        self.bytes_read += stop.take_read_bytes();
        let fetched = stop.demand().take_fetched();
        self.store_gets += fetched.gets;
        self.store_bytes += fetched.bytes;
        for (object, how) in stop.demand().take_damaged() {
            self.note(ProblemKind::Corrupt, object, how);
        }
    }

    /// Adds what was read to know what to ask: its rows are none of the answer's, and its times neither.
    pub(super) fn rests_on(&mut self, other: Coverage) {
        let (range, matched) = (self.range, self.rows_matched_at_least);
        self.merge(other);
        (self.range, self.rows_matched_at_least) = (range, matched);
    }

    /// Adds what another part of the same answer rests on.
    pub fn merge(&mut self, other: Coverage) {
        self.range.start_nanos = self.range.start_nanos.min(other.range.start_nanos);
        self.range.end_nanos = self.range.end_nanos.max(other.range.end_nanos);
        self.blocks_total += other.blocks_total;
        self.blocks_read += other.blocks_read;
        self.blocks_pruned += other.blocks_pruned;
        self.bytes_read += other.bytes_read;
        self.store_gets += other.store_gets;
        self.store_bytes += other.store_bytes;
        self.head_rows += other.head_rows;
        self.rows_matched_at_least += other.rows_matched_at_least;
        self.complete &= other.complete;
        self.lacks_more_than_time |= other.lacks_more_than_time;
        self.further_problems += other.further_problems;
        for problem in other.problems {
            self.note(problem.kind, problem.what, problem.message);
        }
    }
}

impl Serialize for Coverage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Coverage", 13)?;
        out.serialize_field("start_unix_nano", &self.range.start_nanos.to_string())?;
        out.serialize_field("end_unix_nano", &self.range.end_nanos.to_string())?;
        out.serialize_field("blocks_total", &self.blocks_total)?;
        out.serialize_field("blocks_read", &self.blocks_read)?;
        out.serialize_field("blocks_pruned", &self.blocks_pruned)?;
        out.serialize_field("bytes_read", &self.bytes_read)?;
        out.serialize_field("store_gets", &self.store_gets)?;
        out.serialize_field("store_bytes", &self.store_bytes)?;
        out.serialize_field("head_rows", &self.head_rows)?;
        out.serialize_field("rows_matched_at_least", &self.rows_matched_at_least)?;
        out.serialize_field("complete", &self.complete)?;
        out.serialize_field("problems", &self.problems)?;
        out.serialize_field("further_problems", &self.further_problems)?;
        out.end()
    }
}

impl Coverage {
    /// Adds one scan of a table to what a SQL statement rests on.
    pub(super) fn merge_scan(&mut self, scan: Coverage) {
        if self.blocks_total == 0 && self.head_rows == 0 {
            self.range = scan.range;
        }
        self.merge(scan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cost_no_rows_is_no_reason_why_rows_are_missing() {
        let late = |notes: &[(ProblemKind, &str)]| {
            let mut coverage = Coverage::new(TimeRange::ALL);
            notes.iter().for_each(|(kind, what)| coverage.note(*kind, *what, "it went on"));
            coverage.is_late();
            coverage
        };
        assert!(!Coverage::new(TimeRange::ALL).lacks_time_alone());
        let noted = late(&[(ProblemKind::Limit, "query.max_answer_bytes"), (ProblemKind::Corrupt, "a block")]);
        assert!(noted.lacks_time_alone() && noted.is_time_up(), "{noted:?}");
        // the same again, and now it cost rows
        let mut more = noted.clone();
        more.incomplete(ProblemKind::Corrupt, "a block", "it went on");
        assert!(!more.lacks_time_alone() && more.problems == noted.problems, "{more:?}");
        // a store that did not give a block in time is not time alone
        let mut stuck = late(&[]);
        stuck.incomplete(ProblemKind::Timeout, "a block", "time was up while the block was being fetched");
        assert!(!stuck.lacks_time_alone());
        // nor is what is not listed any more
        let names: Vec<String> = (0..MAX_PROBLEMS).map(|n| format!("block {n}")).collect();
        let listed: Vec<(ProblemKind, &str)> = names.iter().map(|name| (ProblemKind::Corrupt, name.as_str())).collect();
        let mut many = late(&listed);
        assert!(many.lacks_time_alone());
        many.incomplete(ProblemKind::Unreachable, "one more", "the store is away");
        assert!(!many.lacks_time_alone() && many.further_problems == 2, "{many:?}");
        // a part of an answer brings its reasons along
        let mut both = late(&[]);
        both.merge(many);
        assert!(!both.lacks_time_alone());
        both = late(&[]);
        both.merge(noted);
        assert!(both.lacks_time_alone());
    }
}
