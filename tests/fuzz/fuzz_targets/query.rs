//! The search language: a query or an error that points into the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::model::Table;
use tracelake::query::parse;

fuzz_target!(|text: &str| {
    for table in [Table::Logs, Table::Spans] {
        if let Err(error) = parse(text, table) {
            assert!(error.position <= text.chars().count(), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
});
