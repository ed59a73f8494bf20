//! `PutLogEvents` bodies: every event is a row or counted as rejected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::correlate::correlate;
use tracelake::decode::awslogs::Request;
use tracelake::decode::{Context, Kind, decode};

fuzz_target!(|body: &[u8]| {
    let context = Context {
        received_at_nanos: 1_795_323_600_000_000_000,
        retention_days: 0,
    };
    let Ok(decoded) = decode(Kind::PutLogEvents, body, &context) else { return };
    let request = Request::parse(body).expect("what was decoded parses");
    let rows: usize = decoded.batch.rows.iter().map(|rows| rows.len()).sum();
    let rejected: u64 = decoded.rejected.iter().map(|rejected| rejected.count).sum();
    assert_eq!(rows as u64 + rejected, request.events.len() as u64);
    correlate(decoded.batch);
});
