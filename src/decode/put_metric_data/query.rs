//! The query form: `MetricData.member.1.Dimensions.member.2.Name=x`, URL-encoded.

use std::collections::BTreeMap;

use url::form_urlencoded;

use super::{Fault, MAX_DEPTH, Node, Nodes};

/// `Action` of a body.
pub fn action(body: &[u8]) -> Option<String> {
    let found = form_urlencoded::parse(body).find(|(name, _)| name == "Action");
    found.map(|(_, value)| value.into_owned())
}

pub(super) fn read(body: &[u8]) -> Result<Node, Fault> {
    let mut root = Branch::default();
    let mut nodes = Nodes::default();
    for (name, value) in form_urlencoded::parse(body) {
        let mut branch = &mut root;
        for (depth, part) in name.split('.').enumerate() {
            if depth > MAX_DEPTH {
                return Err(Fault::Serialization(format!("a parameter has more than {MAX_DEPTH} parts")));
            }
            if !branch.branches.contains_key(part) {
                nodes.one_more()?;
            }
            branch = branch.branches.entry(part.to_string()).or_default();
        }
        branch.leaf = Some(value.into_owned());
    }
    Ok(root.into_node())
}

#[derive(Default)]
struct Branch {
    leaf: Option<String>,
    branches: BTreeMap<String, Branch>,
}

impl Branch {
    fn into_node(mut self) -> Node {
        if self.branches.is_empty() {
            return self.leaf.map_or(Node::Null, Node::Text);
        }
        if let Some(members) = self.branches.remove("member") {
            return Node::List(members.in_order().map(Branch::into_node).collect());
        }
        if let Some(entries) = self.branches.remove("entry") {
            let entry = |mut entry: Branch| {
                let name = entry.branches.remove("key")?.leaf?;
                Some((name, entry.branches.remove("value")?.into_node()))
            };
            return Node::Map(entries.in_order().filter_map(entry).collect());
        }
        let members = self.branches.into_iter();
        Node::Map(members.map(|(name, branch)| (name, branch.into_node())).collect())
    }

    /// The numbered ones, by their numbers.
    fn in_order(self) -> impl Iterator<Item = Branch> {
        let mut numbered: Vec<(u64, Branch)> = self
            .branches
            .into_iter()
            .filter_map(|(number, branch)| Some((number.parse().ok()?, branch)))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, branch)| branch)
    }
}
