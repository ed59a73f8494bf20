//! Deliveries of Firehose: as bodies, and as what is inside their records; the metrics in the lines they bring.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracelake::correlate::correlate;
use tracelake::decode::envelope::seal;
use tracelake::decode::firehose::{Head, deliveries};
use tracelake::decode::{Context, Decoded, Kind, decode};
use tracelake::emf;
use tracelake::net::Encoding;

const NOW: i64 = 1_795_323_600_000_000_000;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let n = chunk.iter().chain([&0, &0]).take(3).fold(0u32, |n, byte| n << 8 | u32::from(*byte));
        let digit = move |i: usize| {
            if i <= chunk.len() {
                DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char
            } else {
                '='
            }
        };
        [digit(0), digit(1), digit(2), digit(3)]
    });
    digits.collect()
}

fuzz_target!(|data: &[u8]| {
    let context = Context {
        received_at_nanos: NOW,
        retention_days: 30,
    };
    let _ = decode(Kind::Firehose, data, &context);
    let body = Bytes::from(format!(r#"{{"requestId":"r","records":[{{"data":"{}"}}]}}"#, base64(data)));
    let sealed = seal(&Head::default(), &body, &body, Encoding::Identity).expect("plain data");
    let Ok((decoded, tally)) = deliveries(&sealed.plain, &context, &mut |_| Ok(())) else {
        return;
    };
    let n_rows = decoded.batch.n_rows();
    let again = decode(Kind::Firehose, &sealed.plain, &context).expect("decoded once");
    assert_eq!(again.batch.n_rows(), n_rows, "replay finds the same");
    let records = |decoded: &Decoded| -> u64 {
        decoded
            .batch
            .rows
            .iter()
            .filter(|rows| rows.table().holds_records())
            .map(|rows| rows.len() as u64)
            .sum()
    };
    let rejected: u64 = decoded.rejected.iter().chain(&decoded.rejected_points).map(|rejected| rejected.count).sum();
    let told = tally.subscription_events + tally.metric_points + tally.json + tally.lines;
    assert!(records(&decoded) <= told && told <= records(&decoded) + rejected);
    let correlated = Decoded {
        batch: correlate(decoded.batch),
        ..decoded
    };
    emf::extract(correlated, NOW);
});
