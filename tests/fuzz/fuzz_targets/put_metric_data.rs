//! `PutMetricData` in its three forms: a call is taken whole or refused, and replay finds the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::decode::{Context, Kind, decode};

fuzz_target!(|data: &[u8]| {
    let context = Context {
        received_at_nanos: 1_795_323_600_000_000_000,
        retention_days: 30,
    };
    for kind in [Kind::PutMetricDataQuery, Kind::PutMetricDataJson, Kind::PutMetricDataCbor] {
        let Ok(decoded) = decode(kind, data, &context) else { continue };
        assert!(decoded.rejected.is_empty() && decoded.rejected_points.is_empty());
        let again = decode(kind, data, &context).expect("decoded once");
        assert_eq!(again.batch.n_rows(), decoded.batch.n_rows());
    }
});
