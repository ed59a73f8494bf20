//! The log streams of one group, in order of their names and of their last events: a page of either is found by a seek, however many
//! streams there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::registry::StreamRecord;

/// Streams by name.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    by_name: BTreeMap<Arc<str>, StreamRecord>,
    /// The same names behind the time of the last event ([`last_event`]).
    by_last_event: BTreeSet<(i64, Arc<str>)>,
}

/// Some streams in order, and whether there are more behind them.
pub(super) type Page<'a> = (Vec<(&'a str, &'a StreamRecord)>, bool);

/// When a stream's last event was, milliseconds since the epoch; streams without events come before all others.
pub(super) fn last_event(stream: &StreamRecord) -> i64 {
    stream.last_event_millis.unwrap_or(-1)
}

impl StreamTable {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&StreamRecord> {
        self.by_name.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    /// Puts a stream in the place of the one of its name, if there is one.
    pub(super) fn insert(&mut self, name: &str, record: StreamRecord) {
        self.remove(name);
        let name: Arc<str> = name.into();
        self.by_last_event.insert((last_event(&record), name.clone()));
        self.by_name.insert(name, record);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<StreamRecord> {
        let (name, record) = self.by_name.remove_entry(name)?;
        self.by_last_event.remove(&(last_event(&record), name));
        Some(record)
    }

    /// Changes a stream, if it is there.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut StreamRecord)) -> Option<&StreamRecord> {
        let record = self.by_name.get_mut(name)?;
        let before = last_event(record);
        change(record);
        let after = last_event(record);
        if after != before
            && let Some((_, name)) = self.by_last_event.take(&(before, name.into()))
        {
            self.by_last_event.insert((after, name));
        }
        Some(record)
    }

    /// Up to `limit` streams whose names begin so, in order of name, behind (if `descending`: before) the name `after`.
    pub(super) fn page_by_name(&self, prefix: &str, after: Option<&str>, descending: bool, limit: usize) -> Page<'_> {
        let end = end_of(prefix);
        let (mut from, mut to) = (Bound::Included(prefix), end.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        match after {
            Some(after) if descending && end.as_deref().is_none_or(|end| after < end) => to = Bound::Excluded(after),
            Some(after) if !descending && after >= prefix => from = Bound::Excluded(after),
            _ => {}
        }
        if is_empty(&from, &to) {
            return (Vec::new(), false);
        }
        let streams = self.by_name.range::<str, _>((from, to)).map(|(name, stream)| (&**name, stream));
        some(streams, descending, limit)
    }

    /// Up to `limit` streams in order of last event and name, behind (if `descending`: before) a last event and name.
    pub(super) fn page_by_last_event(&self, after: Option<(i64, &str)>, descending: bool, limit: usize) -> Page<'_> {
        let after = after.map(|(millis, name)| (millis, Arc::from(name)));
        let bounds = match &after {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some(after) if descending => (Bound::Unbounded, Bound::Excluded(after)),
            Some(after) => (Bound::Excluded(after), Bound::Unbounded),
        };
        let streams = self.by_last_event.range::<(i64, Arc<str>), _>(bounds);
        some(streams.filter_map(|(_, name)| Some((&**name, self.by_name.get(name)?))), descending, limit)
    }
}

fn some<'a>(mut streams: impl DoubleEndedIterator<Item = (&'a str, &'a StreamRecord)>, descending: bool, limit: usize) -> Page<'a> {
    if descending {
        let mut streams = streams.rev();
        let page = streams.by_ref().take(limit).collect();
        (page, streams.next().is_some())
    } else {
        let page = streams.by_ref().take(limit).collect();
        (page, streams.next().is_some())
    }
}

/// What [`BTreeMap::range`] would panic at.
fn is_empty(from: &Bound<&str>, to: &Bound<&str>) -> bool {
    match (from, to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

/// The least text behind all that begin so; `None` where there is none.
fn end_of(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What may happen to streams.
    #[derive(Clone, Debug)]
    enum Op {
        Insert(String, Option<i64>),
        Remove(String),
        Change(String, Option<i64>),
    }

    fn name() -> impl Strategy<Value = String> {
        // few letters, so that names meet; among them the last ones of their kind
        proptest::collection::vec(prop_oneof![Just('a'), Just('b'), Just('\u{d7ff}'), Just('\u{e000}'), Just(char::MAX)], 0..4)
            .prop_map(|chars| chars.into_iter().collect())
    }

    fn op() -> impl Strategy<Value = Op> {
        let time = || proptest::option::of(0_i64..4);
        prop_oneof![
            3 => (name(), time()).prop_map(|(name, time)| Op::Insert(name, time)),
            1 => name().prop_map(Op::Remove),
            2 => (name(), time()).prop_map(|(name, time)| Op::Change(name, time)),
        ]
    }

    fn record(last_event_millis: Option<i64>) -> StreamRecord {
        StreamRecord {
            last_event_millis,
            ..StreamRecord::default()
        }
    }

    /// Does it to both.
    fn run(table: &mut StreamTable, naive: &mut BTreeMap<String, StreamRecord>, op: &Op) {
        match op {
            Op::Insert(name, time) => {
                table.insert(name, record(*time));
                naive.insert(name.clone(), record(*time));
            }
            Op::Remove(name) => assert_eq!(table.remove(name), naive.remove(name)),
            Op::Change(name, time) => {
                let changed = table.change(name, |stream| stream.last_event_millis = *time).is_some();
                assert_eq!(changed, naive.get_mut(name).map(|stream| stream.last_event_millis = *time).is_some());
            }
        }
    }

    /// The names of the next page as they should be.
    fn expected(naive: &BTreeMap<String, StreamRecord>, by_time: bool, prefix: &str, after: Option<&(i64, String)>, descending: bool) -> Vec<String> {
        let key = |(name, stream): (&String, &StreamRecord)| (if by_time { last_event(stream) } else { 0 }, name.clone());
        let mut keys: Vec<_> = naive.iter().filter(|(name, _)| name.starts_with(prefix)).map(key).collect();
        keys.sort();
        if descending {
            keys.reverse();
        }
        keys.retain(|key| after.is_none_or(|after| if descending { key < after } else { key > after }));
        keys.into_iter().map(|(_, name)| name).collect()
    }

    proptest! {
        #[test]
        fn pages_are_those_of_all_streams_in_order_also_while_they_change(
            before in proptest::collection::vec(op(), 0..40),
            meanwhile in proptest::collection::vec(op(), 0..40),
            prefix in name(),
            by_time: bool,
            descending: bool,
            limit in 1_usize..5,
        ) {
            let (mut table, mut naive) = (StreamTable::default(), BTreeMap::new());
            before.iter().for_each(|op| run(&mut table, &mut naive, op));
            let prefix = if by_time { String::new() } else { prefix };
            let mut meanwhile = meanwhile.iter();
            let mut after: Option<(i64, String)> = None;
            loop {
                let all = expected(&naive, by_time, &prefix, after.as_ref(), descending);
                let (page, has_more) = if by_time {
                    table.page_by_last_event(after.as_ref().map(|(millis, name)| (*millis, name.as_str())), descending, limit)
                } else {
                    table.page_by_name(&prefix, after.as_ref().map(|(_, name)| name.as_str()), descending, limit)
                };
                let names: Vec<&str> = page.iter().map(|(name, _)| *name).collect();
                prop_assert_eq!(&names, &all.iter().take(limit).map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(has_more, all.len() > limit);
                prop_assert!(page.iter().all(|(name, stream)| naive.get(*name) == Some(*stream)));
                let Some((name, stream)) = page.last() else { break };
                after = Some((if by_time { last_event(stream) } else { 0 }, (*name).to_string()));
                if !has_more {
                    break;
                }
                meanwhile.by_ref().take(2).for_each(|op| run(&mut table, &mut naive, op));
            }
            prop_assert_eq!(table.len(), naive.len());
            prop_assert_eq!(table.by_last_event.len(), naive.len());
        }
    }

    #[test]
    fn a_token_of_another_prefix_is_a_place_all_the_same() {
        let mut table = StreamTable::default();
        ["a1", "b1", "b2", "c1"].into_iter().for_each(|name| table.insert(name, record(None)));
        let names = |after: &str, descending: bool| -> Vec<String> {
            let (page, _) = table.page_by_name("b", Some(after), descending, 9);
            page.into_iter().map(|(name, _)| name.to_string()).collect()
        };
        for (after, ascending, descending) in [("a", vec!["b1", "b2"], vec![]), ("b1", vec!["b2"], vec![]), ("d", vec![], vec!["b2", "b1"])] {
            assert_eq!((names(after, false), names(after, true)), (owned(&ascending), owned(&descending)), "{after}");
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }
}
