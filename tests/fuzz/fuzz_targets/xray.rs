//! X-Ray: one datagram, one document, and one body of `PutTraceSegments`, all of the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracelake::correlate::correlate;
use tracelake::decode::xray::{body_of_documents, document_id, udp_document};
use tracelake::decode::{Context, Kind, decode};

fuzz_target!(|input: &[u8]| {
    let context = Context {
        received_at_nanos: 1_795_323_600_000_000_000,
        retention_days: 0,
    };
    let segments = |body: &[u8]| {
        if let Ok(decoded) = decode(Kind::XraySegments, body, &context) {
            correlate(decoded.batch);
        }
    };
    segments(input);
    let in_datagram = udp_document(input).ok();
    for document in in_datagram.into_iter().chain(std::str::from_utf8(input).ok()) {
        document_id(document);
        segments(&body_of_documents([document]));
    }
});
