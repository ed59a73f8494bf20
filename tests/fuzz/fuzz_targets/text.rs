//! What is found in a line of log: trace IDs, tokens, times, durations, JSON leaves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::block::tokenizer;
use tracelake::correlate::trace_id::{in_text, xray_in_text};
use tracelake::model::{TraceId, json, parse_duration_nanos, parse_time};

fuzz_target!(|text: &str| {
    if let Some(id) = TraceId::parse_any(text) {
        assert_eq!(TraceId::parse_any(&id.to_string()), Some(id), "what is printed is read back");
    }
    in_text(text);
    xray_in_text(text);
    for token in tokenizer::tokens(text) {
        assert_eq!(tokenizer::tokens(&token), std::slice::from_ref(&token), "a token is one token");
    }
    let _ = parse_time(text, 1_795_323_600_000_000_000);
    let _ = parse_duration_nanos(text);
    let _ = json::for_each_leaf(text, &mut |_, _| {});
});
