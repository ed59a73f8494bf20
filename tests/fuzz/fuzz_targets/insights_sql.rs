//! Statements of Logs Insights' SQL: a statement or an error with its place; and CSV of lookup tables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::query::insights::{LookupTable, SqlScript};

fuzz_target!(|text: &str| {
    match SqlScript::parse(text) {
        Ok(script) => assert!(script.tables().len() <= 10),
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.start <= error.end && error.end <= text.chars().count());
        }
    }
    let _ = LookupTable::read(text);
});
