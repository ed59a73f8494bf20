//! OTLP bodies: the first byte chooses signal and form, the rest is the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::correlate::correlate;
use tracelake::decode::{Context, Kind, decode};

const KINDS: [Kind; 6] = [
    Kind::OtlpLogs,
    Kind::OtlpTraces,
    Kind::OtlpMetrics,
    Kind::OtlpLogsJson,
    Kind::OtlpTracesJson,
    Kind::OtlpMetricsJson,
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let kind = KINDS[usize::from(*choice) % KINDS.len()];
    let context = Context {
        received_at_nanos: 1_795_323_600_000_000_000,
        retention_days: 0,
    };
    let (Ok(once), Ok(again)) = (decode(kind, body, &context), decode(kind, body, &context)) else {
        return;
    };
    assert_eq!(once.rejected.len(), again.rejected.len());
    assert_eq!(once.batch.rows.len(), again.batch.rows.len());
    for (a, b) in once.batch.rows.iter().zip(&again.batch.rows) {
        assert_eq!(a.len(), b.len());
    }
    correlate(once.batch);
});
