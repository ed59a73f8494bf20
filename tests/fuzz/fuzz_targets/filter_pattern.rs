//! Filter patterns: a pattern or an error, and an event that matches or does not, the same whichever way it is asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::query::filter_pattern::{FilterPattern, MAX_REGEXES};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, event) = input;
    match FilterPattern::parse(pattern) {
        Ok(parsed) => {
            let matches = parsed.matches(event);
            assert_eq!(matches, parsed.extract(event).is_some());
            assert!(matches || !parsed.matches_everything());
            assert!(parsed.n_regexes() <= MAX_REGEXES);
            let _ = parsed.prefilter();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
