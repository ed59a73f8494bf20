//! X-Ray's filter expressions: an expression, whose negation reads as such, or an error with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::query::xray::Expression;

fuzz_target!(|text: &str| {
    match Expression::parse(text) {
        Ok(expression) => {
            let negated = Expression::parse(&format!("!({text})"));
            // the parentheses are one level more
            if let Ok(negated) = negated
                && expression != Expression::All
            {
                assert_eq!(negated, Expression::Not(Box::new(expression)));
            }
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.at >= 1 && error.at <= text.chars().count() + 1);
        }
    }
});
