//! Alert rules: a rule or mistakes that name their fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::alert::engine::check_query;
use tracelake::alert::rule;

fuzz_target!(|text: &str| {
    match rule::parse("fuzz.yaml", text, &check_query) {
        Ok(rule) => {
            rule.query_text();
            rule.condition_text();
        }
        Err(mistakes) => assert!(!mistakes.0.is_empty(), "a refusal says why"),
    }
});
