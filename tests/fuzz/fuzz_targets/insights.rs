//! Scripts of Logs Insights: a script or an error with its place, and rows of an event that are the same however it is asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::query::insights::{Answer, Context, Event, Limits, Script};

fuzz_target!(|input: (&str, &str)| {
    let (text, message) = input;
    match Script::parse(text) {
        Ok(script) => {
            let _ = script.prefilter();
            let _ = script.index_count();
            let context = Context {
                end_millis: 600_000,
                answers: vec![Answer::default(); script.subscripts().len()],
                ..Context::default()
            };
            let limits = Limits {
                max_memory_bytes: 16 << 20,
                default_limit: 100,
            };
            let mut pipeline = script.pipeline(context, limits);
            let event = Event {
                message: message.into(),
                group: "/aws/lambda/x".into(),
                ..Event::default()
            };
            if pipeline.push(event).is_err() {
                return;
            }
            let partial = pipeline.partial();
            if let Ok(answer) = pipeline.finish() {
                let rendered = |answer: &Answer| answer.rows.iter().map(|row| row.rendered()).collect::<Vec<_>>();
                assert_eq!(rendered(&partial), rendered(&answer));
            }
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.start <= error.end);
        }
    }
});
