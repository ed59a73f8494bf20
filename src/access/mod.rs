//! Who calls on the AWS faces, and what they may do: access keys, their signatures, their rights.
//!
//! In: the head of a request and the bytes of its body as they came. Out: a [`Caller`], which every handler behind the
//! gate finds among the request's extensions, or a [`sigv4::Error`] or [`Denied`] in AWS' own words.
//!
//! | room | holds |
//! |---|---|
//! | [`config`](Config) | `[aws]`: the keys, with their secrets from the file, the environment or files of their own |
//! | [`key`](AccessKey) | one key: its rights, the log groups and services it is for |
//! | [`operation`](Operation) | the one table of which right each operation needs |
//! | [`caller`](Caller) | what a verified caller may do |
//! | [`sigv4`] | the signature itself: claim, canonical request, signing key |
//!
//! What it promises: a secret is never printed, and never compared in a time that depends on it; an operation that the
//! table does not know needs the right `admin`; a caller that nobody vouched for may do nothing. A signature is good for
//! five minutes around its time (`clock_skew_seconds`), and within them it may be used again, as at AWS.
//!
//! What an access key may do is the union of its `rights`, none of which implies another:
//!
//! | right | opens |
//! |---|---|
//! | `write` | `PutLogEvents`, `CreateLogGroup`, `CreateLogStream`, `PutTraceSegments`, `PutTelemetryRecords`, `PutMetricData`, `PutRecord`, `PutRecordBatch` |
//! | `read` | `Get…`, `Describe…`, `List…`, `Filter…`, `StartQuery`, `StopQuery`, `StartLiveTail`, `BatchGetTraces` |
//! | `read` or `write` | what writers ask before they write: `DescribeLogGroups`, `DescribeLogStreams`, `GetSamplingRules`, `GetSamplingTargets` |
//! | `admin` | everything else: deletes, retention, tags, filters, policies |

mod config;
mod key;
mod operation;
mod caller;
pub mod sigv4;

pub use caller::{Caller, Denied};
pub use config::{Config, Error, KeyConfig, Result, SecretSource};
pub use key::AccessKey;
pub(crate) use key::is_match;
pub use operation::{Asked, Groups, Operation, Right, SERVICES, is_query_form};
