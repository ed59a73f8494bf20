//! X-Ray segment documents.

use super::{Context, Decoded, Error};

/// A JSON array of strings, each one segment document.
pub fn segments(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
