//! CloudWatch Logs `PutLogEvents`.

use super::{Context, Decoded, Error};

/// `PutLogEvents`, JSON.
pub fn put_log_events(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
