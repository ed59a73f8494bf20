//! The texts of documents, kept so that each can be answered as it came, byte for byte.
//!
//! A document's text holds those of the subsegments embedded in it, and each of these is a row of its own, which may be deleted by
//! itself. So each row keeps what is its own: the text of its segment or subsegment, in which the text of each embedded one is
//! replaced by its ID in quotes. That is JSON still, and it cannot be mistaken, since an embedded subsegment is an object.
//!
//! ```text
//! sent    {"id":"a…", "subsegments": [ {"id":"b…", "sql":{…}} ]}
//! row a…  {"id":"a…", "subsegments": [ "b…" ]}
//! row b…  {"id":"b…", "sql":{…}}
//! ```
//!
//! What is deleted with a row is deleted with its text, in whatever block the row lies, hidden or rewritten; the document is then
//! no longer whole, and is not answered as it came. The rows of a document have consecutive numbers: the segment, then each embedded
//! one with all below it, in the order of the text.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::document::{MAX_DEPTH, Node, Object, text_of};
use crate::model::{SpanId, TraceId};

/// Where `part` begins in `whole`, of which it is a piece.
fn offset(whole: &str, part: &str) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (at + part.len() <= whole.len()).then_some(at)
}

/// What a node's row keeps.
pub(super) fn own_text<'a>(node: &Node<'a>) -> Cow<'a, str> {
    if node.subsegments.is_empty() {
        return Cow::Borrowed(node.text);
    }
    let (mut own, mut end) = (String::with_capacity(node.text.len()), 0);
    for below in &node.subsegments {
        let Some(at) = offset(node.text, below.text).filter(|at| *at >= end) else {
            debug_assert!(false, "a subsegment is read out of the text that holds it");
            continue;
        };
        own.push_str(&node.text[end..at]);
        own.push('"');
        own.push_str(below.id.hex(&mut [0; 16]));
        own.push('"');
        end = at + below.text.len();
    }
    own.push_str(&node.text[end..]);
    Cow::Owned(own)
}

/// The embedded subsegments that a row's text names, and where.
fn embedded(own: &str) -> Option<Vec<(Range<usize>, SpanId)>> {
    let Some(raw) = Object::parse(own).ok()?.get("subsegments") else {
        return Some(Vec::new());
    };
    let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    let items = items.into_iter().map(|item| {
        let at = offset(own, item.get())?;
        Some((at..at + item.get().len(), SpanId::from_hex(&text_of(item.get())?)?))
    });
    items.collect()
}

/// Whether a row's text is that of a document, of this trace and with a parent or without one: not of an embedded subsegment.
pub fn is_document(own: &str, trace_id: TraceId, has_parent: bool) -> bool {
    let Ok(fields) = Object::parse(own) else { return false };
    let named = fields
        .text("trace_id")
        .and_then(|text| TraceId::from_xray(&text).or_else(|| TraceId::from_hex(&text)));
    let names_parent = fields.text("parent_id").is_some_and(|id| !id.is_empty());
    named == Some(trace_id) && names_parent == has_parent
}

/// A document put together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// As it came.
    pub text: String,
    /// The rows of the embedded subsegments: number and ID.
    pub embedded: Vec<(i64, SpanId)>,
}

/// Puts the document of a row together, given the row's number and text, and how the texts of others are found by number and ID.
/// `None` if not all of them are there.
pub fn join<'t>(number: i64, own: &'t str, find: &dyn Fn(i64, SpanId) -> Option<&'t str>) -> Option<Joined> {
    let mut joined = Joined::default();
    let mut next = number.checked_add(1)?;
    append(&mut joined, &mut next, own, find, MAX_DEPTH)?;
    Some(joined)
}

fn append<'t>(joined: &mut Joined, next: &mut i64, own: &'t str, find: &dyn Fn(i64, SpanId) -> Option<&'t str>, levels: usize) -> Option<()> {
    let levels = levels.checked_sub(1)?;
    let mut end = 0;
    for (place, id) in embedded(own)? {
        joined.text.push_str(&own[end..place.start]);
        end = place.end;
        let (number, below) = (*next, find(*next, id)?);
        *next = number.checked_add(1)?;
        joined.embedded.push((number, id));
        append(joined, next, below, find, levels)?;
    }
    joined.text.push_str(&own[end..]);
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::document;
    use super::*;

    const TRACE: &str = "1-5759e988-bd862e3fe1be46a994272793";

    /// The rows of a document: number, ID, text.
    fn rows(text: &str) -> Vec<(i64, SpanId, String)> {
        fn add(node: &Node<'_>, out: &mut Vec<(i64, SpanId, String)>) {
            out.push((out.len() as i64 + 100, node.id, own_text(node).into_owned()));
            node.subsegments.iter().for_each(|below| add(below, out));
        }
        let mut out = Vec::new();
        document::read(text)
            .expect("a document")
            .iter()
            .for_each(|document| add(&document.root, &mut out));
        out
    }

    fn joined(rows: &[(i64, SpanId, String)]) -> Option<Joined> {
        let texts: HashMap<(i64, SpanId), &str> = rows.iter().map(|(number, id, text)| ((*number, *id), text.as_str())).collect();
        join(rows[0].0, &rows[0].2, &|number, id| texts.get(&(number, id)).copied())
    }

    const ODD: &str = concat!(
        " {\"subsegments\" :\t[ {\"start_time\":1E9,\"end_time\":1000000001.50 , \"na\\u006de\":\"\\u00e9é\",\"id\":\"00000000000000AB\",\n",
        "\"subsegments\":[],\"x\":{\"subsegments\":[1]}},\r\n{\"id\":\"00000000000000ac\",\"name\":\"b\",\"start_time\":1.0e+9,\"in_progress\":true,",
        "\"subsegments\":[{\"name\":\"c\",\"id\":\"00000000000000ad\",\"start_time\":1000000000,\"end_time\":1000000000,\"parent_id\":\"00000000000000ff\"}]} ] ,",
        "\"trace_id\":\"1-5759e988-bd862e3fe1be46a994272793\",\"unknown\":[1,{\"a\":1.10}],\"id\":\"00000000000000aa\",\"name\":\"a\",",
        "\"name\":\"a\",\"start_time\":1000000000.000,\"end_time\":1000000002}\n"
    );

    #[test]
    fn a_document_comes_back_byte_for_byte_and_each_row_has_only_its_own() {
        let rows = rows(ODD);
        let ids: Vec<String> = rows.iter().map(|(_, id, _)| id.to_string()).collect();
        assert_eq!(ids, ["00000000000000aa", "00000000000000ab", "00000000000000ac", "00000000000000ad"]);
        assert!(
            rows[0].2.contains("[ \"00000000000000ab\",\r\n\"00000000000000ac\" ]") && !rows[0].2.contains("1E9"),
            "{}",
            rows[0].2
        );
        assert!(rows[2].2.contains("[\"00000000000000ad\"]"), "{}", rows[2].2);
        assert!(rows.iter().all(|(_, _, text)| serde_json::from_str::<serde_json::Value>(text).is_ok()));
        let joined = joined(&rows).expect("all are there");
        assert_eq!(joined.text, ODD);
        assert_eq!(joined.embedded, rows[1..].iter().map(|(number, id, _)| (*number, *id)).collect::<Vec<_>>());
    }

    #[test]
    fn a_document_that_lacks_a_row_is_not_put_together() {
        let rows = rows(ODD);
        for lost in 1..rows.len() {
            let mut left = rows.clone();
            left.remove(lost);
            assert_eq!(joined(&left), None, "without {lost}");
            let mut others = rows.clone();
            others[lost].1 = SpanId::from_bytes(&[7; 8]).expect("an ID");
            assert_eq!(joined(&others), None, "another in the place of {lost}");
        }
    }

    #[test]
    fn only_what_was_sent_on_its_own_is_a_document() {
        let rows = rows(ODD);
        let trace_id = TraceId::from_xray(TRACE).expect("an ID");
        assert!(is_document(&rows[0].2, trace_id, false));
        assert!(!is_document(&rows[0].2, trace_id, true), "the row has a parent that the text does not name");
        assert!(!is_document(&rows[0].2, TraceId::from_bytes(&[1; 16]).expect("an ID"), false));
        assert!(rows[1..].iter().all(|(_, _, text)| !is_document(text, trace_id, true)));
        assert!(!is_document("[", trace_id, false));
    }

    #[test]
    fn each_document_of_an_array_is_one_by_itself() {
        let one = |id: &str| format!("{{\"id\":\"{id}\", \"name\":\"x\",\"trace_id\":\"{TRACE}\",\"start_time\":1,\"end_time\":2}}");
        let (a, b) = (one("00000000000000aa"), one("00000000000000bb"));
        let rows = rows(&format!("[ {a} , {b}]"));
        assert_eq!(rows.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>(), [a, b]);
    }

    proptest! {
        #[test]
        fn any_tree_comes_back(shape in prop::collection::vec(0usize..4, 1..40), space in "[ \t\n]{0,3}") {
            // the parent of node n is one of those before it
            fn write(node: usize, children: &[Vec<usize>], space: &str) -> String {
                let below: Vec<String> = children[node].iter().map(|child| write(*child, children, space)).collect();
                let below = match below.is_empty() {
                    true => String::new(),
                    false => format!(",{space}\"subsegments\":{space}[{space}{}{space}]", below.join(&format!("{space},"))),
                };
                let trace = if node == 0 { format!("\"trace_id\":\"{TRACE}\",") } else { String::new() };
                format!("{{{trace}\"id\":\"{:016x}\",\"name\":\"n{node}\",{space}\"start_time\":1{below},\"end_time\":2{space}}}", node + 1)
            }
            let mut children = vec![Vec::new(); shape.len()];
            for (node, back) in shape.iter().enumerate().skip(1) {
                children[node.saturating_sub(1 + back)].push(node);
            }
            let text = write(0, &children, &space);
            let rows = rows(&text);
            prop_assert_eq!(rows.len(), shape.len());
            prop_assert_eq!(joined(&rows).map(|joined| joined.text), Some(text));
        }

        #[test]
        fn no_text_panics(own in "(\\{|\\}|\\[|\\]|\"subsegments\"|\"00000000000000ab\"|:|,|\\PC){0,20}") {
            let _ = join(i64::MAX - 1, &own, &|_, _| Some("{\"subsegments\":[\"00000000000000ab\"]}"));
            let _ = is_document(&own, TraceId::from_xray(TRACE).expect("an ID"), true);
        }
    }
}
