//! The query form: `MetricData.member.1.Dimensions.member.2.Name=x`, URL-encoded.

use std::borrow::Cow;
use std::collections::HashMap;

use url::form_urlencoded;

use super::{Fault, MAX_DEPTH, Node, Nodes};

/// `Action` of a body.
pub fn action(body: &[u8]) -> Option<String> {
    let found = form_urlencoded::parse(body).find(|(name, _)| name == "Action");
    found.map(|(_, value)| value.into_owned())
}

pub(super) fn read(body: &[u8]) -> Result<Node, Fault> {
    let mut parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    let mut nodes = Nodes::default();
    for parameter in form_urlencoded::parse(body) {
        nodes.one_more()?;
        parameters.push(parameter);
    }
    let mut tree = Tree::new();
    let mut nodes = Nodes::default();
    for (name, value) in &parameters {
        let mut at = ROOT;
        for (depth, part) in name.split('.').enumerate() {
            if depth > MAX_DEPTH {
                return Err(Fault::Serialization(format!("a parameter has more than {MAX_DEPTH} parts")));
            }
            at = match tree.by_name.get(&(at, part)) {
                Some(branch) => *branch,
                None => {
                    nodes.one_more()?;
                    tree.grow(at, part)
                }
            };
        }
        tree.branches[at].leaf = Some(value);
    }
    Ok(tree.node(ROOT))
}

/// Branches by number: most have one or none below them, and a map of its own for each would take many times as much.
struct Tree<'a> {
    branches: Vec<Branch<'a>>,
    by_name: HashMap<(usize, &'a str), usize>,
}

struct Branch<'a> {
    name: &'a str,
    leaf: Option<&'a str>,
    under: Vec<u32>,
}

const ROOT: usize = 0;

impl<'a> Tree<'a> {
    fn new() -> Tree<'a> {
        Tree {
            branches: vec![Branch {
                name: "",
                leaf: None,
                under: vec![],
            }],
            by_name: HashMap::new(),
        }
    }

    fn grow(&mut self, at: usize, name: &'a str) -> usize {
        let branch = self.branches.len();
        self.branches.push(Branch {
            name,
            leaf: None,
            under: vec![],
        });
        // no more than MAX_NODES
        self.branches[at].under.push(branch as u32);
        self.by_name.insert((at, name), branch);
        branch
    }

    fn node(&self, at: usize) -> Node {
        let branch = &self.branches[at];
        if branch.under.is_empty() {
            return branch.leaf.map_or(Node::Null, |text| Node::Text(text.to_string()));
        }
        let below = |at: usize, name: &str| self.by_name.get(&(at, name)).copied();
        if let Some(members) = below(at, "member") {
            let members = self.in_order(members);
            return Node::List(members.into_iter().map(|member| self.node(member)).collect());
        }
        if let Some(entries) = below(at, "entry") {
            let entry = |entry: usize| {
                let name = self.branches[below(entry, "key")?].leaf?.to_string();
                Some((name, self.node(below(entry, "value")?)))
            };
            return Node::Map(self.in_order(entries).into_iter().filter_map(entry).collect());
        }
        let members = branch.under.iter().map(|member| *member as usize);
        Node::Map(members.map(|member| (self.branches[member].name.to_string(), self.node(member))).collect())
    }

    /// The numbered ones below, by their numbers.
    fn in_order(&self, at: usize) -> Vec<usize> {
        let under = self.branches[at].under.iter().map(|branch| *branch as usize);
        let mut numbered: Vec<(u64, usize)> = under.filter_map(|branch| Some((self.branches[branch].name.parse().ok()?, branch))).collect();
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, branch)| branch).collect()
    }
}
