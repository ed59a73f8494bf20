//! Pages of service graphs. `ReferenceId` is a service's place in its graph, so all pages must be of one graph: it is kept for those who
//! turn pages, the last few of them. One that was forgotten (or was drawn by another node) is drawn anew, and serves if it has the same services.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::graph::service;
use super::{Error, Result};
use crate::assemble::ServiceGraph;

/// Services of one page.
const SERVICES_A_PAGE: usize = 100;
/// Graphs that are kept.
const MAX_KEPT: usize = 8;

/// What a token says: a place in the list of services that a call got.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    first: usize,
    list: u64,
}

impl Place {
    fn parse(token: &str) -> Option<Place> {
        let (first, list) = token.split_once('.')?;
        Some(Place {
            first: first.parse().ok()?,
            list: u64::from_str_radix(list, 16).ok()?,
        })
    }

    fn text(self) -> String {
        format!("{}.{:016x}", self.first, self.list)
    }
}

/// What a call got: the services, in order.
fn list_of(asked: &str, graph: &ServiceGraph) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let services = graph.nodes.iter().map(|node| &node.service);
    let texts = services
        .flat_map(|service| [&service.name, &service.kind, &service.account_id])
        .map(String::as_str);
    for text in std::iter::once(asked).chain(texts) {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.digest()
}

#[derive(Debug)]
struct Kept {
    asked: String,
    list: u64,
    graph: Arc<ServiceGraph>,
}

/// Graphs of which there are more pages; the one that was asked for last comes last.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    kept: Mutex<VecDeque<Kept>>,
}

impl Drawn {
    /// The services of a page, and the token of the next one. `asked` is all of a call but its token; `draw` is needed where the graph is not kept.
    pub(super) async fn page(&self, asked: &str, token: Option<&str>, draw: impl Future<Output = Result<ServiceGraph>>) -> Result<Value> {
        let not_valid = |why: &str| Error::InvalidRequest(format!("NextToken is not valid: {why}"));
        let place = match token {
            Some(token) => Some(Place::parse(token).ok_or_else(|| not_valid("it is not one of this call's"))?),
            None => None,
        };
        let graph = match place.and_then(|place| self.find(asked, place.list)) {
            Some(graph) => graph,
            None => Arc::new(draw.await?),
        };
        let list = list_of(asked, &graph);
        let first = match place {
            None => 0,
            Some(place) if place.list == list && place.first < graph.nodes.len() => place.first,
            Some(_) => return Err(not_valid("the services are others than those of its page; ask again from the first page")),
        };
        let services = graph.nodes.iter().enumerate().skip(first).take(SERVICES_A_PAGE);
        let mut out = json!({ "Services": services.map(|(number, node)| service(&graph, number, node)).collect::<Vec<_>>() });
        let next = first.saturating_add(SERVICES_A_PAGE);
        if next < graph.nodes.len() {
            out["NextToken"] = Place { first: next, list }.text().into();
            self.keep(asked, list, graph);
        }
        Ok(out)
    }

    fn find(&self, asked: &str, list: u64) -> Option<Arc<ServiceGraph>> {
        let kept = self.kept.lock();
        let found = kept.iter().find(|kept| kept.list == list && kept.asked == asked);
        found.map(|kept| kept.graph.clone())
    }

    fn keep(&self, asked: &str, list: u64, graph: Arc<ServiceGraph>) {
        let mut kept = self.kept.lock();
        kept.retain(|kept| kept.list != list);
        while kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        let asked = asked.to_string();
        kept.push_back(Kept { asked, list, graph });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{CallKey, Calls, Figures};
    use crate::query::xray::facts::Service;

    fn graph(names: impl Iterator<Item = u32>) -> Result<ServiceGraph> {
        let mut calls = Calls::default();
        for name in names {
            let server = Service {
                name: format!("s{name:04}"),
                ..Service::default()
            };
            let figures = Figures {
                requests: 1,
                ..Figures::default()
            };
            calls.add_row(CallKey { server, ..CallKey::default() }, figures);
        }
        Ok(ServiceGraph::of(&calls))
    }

    fn names(page: &Value) -> Vec<(u64, String)> {
        let services = page["Services"].as_array().expect("a list").iter();
        let told = services.map(|one| {
            (
                one["ReferenceId"].as_u64().expect("a number"),
                one["Name"].as_str().expect("a name").to_string(),
            )
        });
        told.collect()
    }

    #[tokio::test]
    async fn all_pages_are_of_one_graph_though_services_come_in_between() {
        let drawn = Drawn::default();
        let first = drawn.page("a", None, async { graph(10..250) }).await.expect("a page");
        let token = first["NextToken"].as_str().expect("more");
        // it sorts before all others
        let second = drawn.page("a", Some(token), async { graph(0..250) }).await.expect("a page");
        assert_eq!(
            (names(&first)[99].clone(), names(&second)[0].clone()),
            ((99, "s0109".into()), (100, "s0110".into()))
        );
        let last = second["NextToken"].as_str().expect("more");
        let third = drawn.page("a", Some(last), async { graph(0..250) }).await.expect("a page");
        assert_eq!((names(&third).len(), &third["NextToken"]), (40, &Value::Null));
        // another call's, and none
        for (asked, token) in [("b", token), ("a", "100"), ("a", "x.1"), ("a", "7.zz")] {
            let refused = drawn.page(asked, Some(token), async { graph(10..250) }).await;
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{asked} {token}");
        }
        // another node draws the same, or says that it is another
        let elsewhere = Drawn::default();
        let same = elsewhere.page("a", Some(token), async { graph(10..250) }).await.expect("a page");
        assert_eq!(names(&same), names(&second));
        let other = Drawn::default().page("a", Some(token), async { graph(0..250) }).await;
        assert!(matches!(other, Err(Error::InvalidRequest(_))));
    }

    #[tokio::test]
    async fn few_graphs_are_kept() {
        let drawn = Drawn::default();
        for asked in 0..30 {
            drawn.page(&asked.to_string(), None, async { graph(0..101) }).await.expect("a page");
        }
        assert_eq!(drawn.kept.lock().len(), MAX_KEPT);
        drawn.page("small", None, async { graph(0..100) }).await.expect("a page");
        assert!(drawn.kept.lock().iter().all(|kept| kept.asked != "small"));
    }
}
