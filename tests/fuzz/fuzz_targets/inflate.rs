//! Compressed bodies: never more than the cap, whatever the bytes promise.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracelake::net::inflate::{Encoding, inflate};

const CAP: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let Some(encoding) = Encoding::from_u8(choice % 5) else { return };
    if let Ok(inflated) = inflate(encoding, &Bytes::copy_from_slice(body), CAP) {
        assert!(inflated.len() <= CAP);
    }
});
