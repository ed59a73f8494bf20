//! OTLP: logs, traces and metrics, protobuf and JSON.

use super::{Context, Decoded, Error};

/// `ExportLogsServiceRequest`, protobuf.
pub fn logs(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
/// `ExportTraceServiceRequest`, protobuf.
pub fn traces(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
/// `ExportMetricsServiceRequest`, protobuf.
pub fn metrics(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
/// `ExportLogsServiceRequest`, JSON.
pub fn logs_json(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
/// `ExportTraceServiceRequest`, JSON.
pub fn traces_json(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
/// `ExportMetricsServiceRequest`, JSON.
pub fn metrics_json(_body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    todo!()
}
