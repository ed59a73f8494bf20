//! Templates of texts, and texts put together by their templates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::pattern::{MAX_BYTES, Miner, PatternId, Shape, cluster};

fuzz_target!(|text: &str| {
    let mut miner = Miner::default();
    let Some(template) = miner.template(text).map(str::to_string) else { return };
    // a mask is longer than what it stands for, at most as often as there are bytes
    assert!(template.len() <= MAX_BYTES * 12 + 64, "{} bytes", template.len());
    assert_eq!(miner.id(text), Some(PatternId::of_template(&template)));
    let lines: Vec<String> = text.lines().filter_map(|line| miner.template(line).map(str::to_string)).collect();
    let shapes: Vec<Shape<'_>> = lines.iter().map(|template| Shape { template, group: 0 }).collect();
    let n_members: usize = cluster(&shapes).iter().map(|cluster| cluster.members.len()).sum();
    assert_eq!(n_members, shapes.len());
});
