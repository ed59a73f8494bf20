//! Destinations: Firehose by `PutRecordBatch`, Kinesis by `PutRecords`.
//!
//! A sink tries one call and says what became of each record. Trying again is the follower's matter: a sink has no queue and no
//! memory.
//!
//! | | Firehose | Kinesis | here, for both |
//! |---|---|---|---|
//! | records a call | 500 | 500 | [`MAX_CALL_RECORDS`] |
//! | bytes a call | 4 MiB | 10 MiB, formerly 5 | [`MAX_CALL_BYTES`] |
//! | bytes a record | 1,000 KiB | 10 MiB, formerly 1 | [`MAX_RECORD_BYTES`] |
//!
//! One bound for both: what stands in for the services (and streams that were made long ago) keep the older ones.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_firehose::error::ProvideErrorMetadata;
use aws_sdk_firehose::primitives::Blob;
use bytes::Bytes;
use parking_lot::Mutex;

use super::metrics;
use crate::aws::{self, Connection};

/// Records of one call.
pub const MAX_CALL_RECORDS: usize = 500;
/// Bytes of the records of one call, their partition keys included.
pub const MAX_CALL_BYTES: usize = 4_000_000;
/// Bytes of one record, before base64.
pub const MAX_RECORD_BYTES: usize = 1_024_000;

/// What kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Amazon Data Firehose.
    Firehose,
    /// Amazon Kinesis Data Streams.
    Kinesis,
}

impl Service {
    /// In metrics, and in ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Service::Firehose => "firehose",
            Service::Kinesis => "kinesis",
        }
    }
}

/// A stream that takes records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// What kind.
    pub service: Service,
    /// Its name.
    pub stream: String,
    /// The account of its ARN; empty: not known.
    pub account: String,
    /// The region of its ARN, which the settings' goes before; empty: whatever the AWS chain says.
    pub region: String,
    /// A region for this one alone, which goes before all others; empty: none.
    pub own_region: String,
    /// An address for this one alone; empty: that of all.
    pub own_endpoint_url: String,
}

/// Why an ARN is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is none of a stream.
    #[error("the ARN {0:?} is not that of a Kinesis stream or Firehose stream")]
    NotAStream(String),
    /// Of a service that is not delivered to.
    #[error("destinations of {0} are not supported: only Kinesis streams and Firehose streams are")]
    Unsupported(&'static str),
}

impl Destination {
    /// Reads the ARN of a stream of any partition and account.
    pub fn of_arn(arn: &str) -> Result<Destination, Unfit> {
        let unfit = || Unfit::NotAStream(arn.to_string());
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [prefix, partition, service, region, account, resource] = parts[..] else {
            return Err(unfit());
        };
        if prefix != "arn" || !partition.starts_with("aws") || account.is_empty() || region.is_empty() {
            return Err(unfit());
        }
        let (service, kind) = match service {
            "firehose" => (Service::Firehose, "deliverystream/"),
            "kinesis" => (Service::Kinesis, "stream/"),
            "lambda" => return Err(Unfit::Unsupported("AWS Lambda")),
            "logs" => return Err(Unfit::Unsupported("CloudWatch Logs (PutDestination)")),
            "es" | "opensearch" => return Err(Unfit::Unsupported("Amazon OpenSearch")),
            _ => return Err(unfit()),
        };
        let stream = resource.strip_prefix(kind).ok_or_else(unfit)?;
        let is_name = (1..=128).contains(&stream.len()) && stream.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !is_name {
            return Err(unfit());
        }
        Ok(Destination {
            service,
            stream: stream.to_string(),
            account: account.to_string(),
            region: region.to_string(),
            own_region: String::new(),
            own_endpoint_url: String::new(),
        })
    }
}

impl Destination {
    /// Whether it is the delivery stream of an ARN, as far as is known of it.
    pub fn is_stream(&self, arn: &str) -> bool {
        let Ok(other) = Destination::of_arn(arn) else { return false };
        let region = if self.own_region.is_empty() { &self.region } else { &self.own_region };
        let may_be = |known: &str, is: &str| known.is_empty() || known == is;
        self.service == other.service && self.stream == other.stream && may_be(&self.account, &other.account) && may_be(region, &other.region)
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service.name(), self.stream)
    }
}

/// One record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As the destination gets it.
    pub data: Bytes,
    /// Which shard of a Kinesis stream: at most 256 characters.
    pub partition_key: String,
    /// Rows in it.
    pub rows: u64,
    /// When its newest row came, nanoseconds since the epoch, as far as rows say.
    pub newest_nanos: i64,
}

impl Record {
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// Why a call or a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What the service or the network said.
    pub message: String,
    /// What to do.
    pub remedy: Remedy,
}

/// What helps against a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same again, soon.
    Retry,
    /// Somebody must mend something first: a stream that is not there, a right that is missing.
    Mend,
    /// Nothing: the records themselves are wrong.
    Nothing,
}

/// What became of each record of a call, in order.
pub type Taken = Vec<Result<(), Fault>>;

/// A stream, reached.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Tries one call, of at most [`MAX_CALL_RECORDS`] records and [`MAX_CALL_BYTES`].
    async fn put(&self, records: &[Record]) -> Result<Taken, Fault>;
}

/// Whoever can reach destinations.
#[async_trait]
pub trait Sinks: Send + Sync + std::fmt::Debug {
    /// Reaches one; connects at its first call.
    async fn open(&self, destination: &Destination) -> Arc<dyn Sink>;
}

/// Through the SDK.
#[derive(Debug)]
pub struct AwsSinks {
    connection: Arc<Connection>,
    region: String,
    /// Those of addresses of their own.
    others: Mutex<HashMap<String, Arc<Connection>>>,
}

impl AwsSinks {
    /// With the address and region of the settings.
    pub fn new(config: &super::Config) -> Self {
        Self::through(Connection::new(Some(&config.endpoint_url), Some(&config.region)), &config.region)
    }

    fn through(connection: Connection, region: &str) -> Self {
        Self {
            connection: Arc::new(connection),
            region: region.to_string(),
            others: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) async fn for_tests(url: &str) -> Self {
        Self::through(Connection::for_tests(url).await, "")
    }

    fn connection(&self, destination: &Destination) -> Arc<Connection> {
        if destination.own_endpoint_url.is_empty() {
            return self.connection.clone();
        }
        let mut others = self.others.lock();
        let other = others.entry(destination.own_endpoint_url.clone());
        let made = || Arc::new(Connection::new(Some(&destination.own_endpoint_url), Some(&self.region)));
        other.or_insert_with(made).clone()
    }
}

#[async_trait]
impl Sinks for AwsSinks {
    async fn open(&self, destination: &Destination) -> Arc<dyn Sink> {
        let connection = self.connection(destination);
        let region = match destination.own_region.as_str() {
            "" => connection.region(Some(&destination.region)).await,
            own => own.to_string(),
        };
        let config = connection.config(&region).await;
        let stream = destination.stream.clone();
        match destination.service {
            Service::Firehose => Arc::new(Firehose {
                client: aws_sdk_firehose::Client::new(&config),
                stream,
            }),
            Service::Kinesis => Arc::new(Kinesis {
                client: aws_sdk_kinesis::Client::new(&config),
                stream,
            }),
        }
    }
}

struct Firehose {
    client: aws_sdk_firehose::Client,
    stream: String,
}

#[async_trait]
impl Sink for Firehose {
    async fn put(&self, records: &[Record]) -> Result<Taken, Fault> {
        let built: Result<Vec<_>, _> = records
            .iter()
            .map(|record| aws_sdk_firehose::types::Record::builder().data(Blob::new(record.data.to_vec())).build())
            .collect();
        let built = built.map_err(unbuilt)?;
        let call = self.client.put_record_batch().delivery_stream_name(&self.stream).set_records(Some(built));
        let answer = call.send().await.map_err(|error| fault(Service::Firehose, &error))?;
        let failed = usize::try_from(answer.failed_put_count()).unwrap_or_default();
        let told = answer.request_responses().iter().map(|one| (one.error_code(), one.error_message()));
        Ok(taken(Service::Firehose, records.len(), failed, told))
    }
}

struct Kinesis {
    client: aws_sdk_kinesis::Client,
    stream: String,
}

#[async_trait]
impl Sink for Kinesis {
    async fn put(&self, records: &[Record]) -> Result<Taken, Fault> {
        let built: Result<Vec<_>, _> = records
            .iter()
            .map(|record| {
                let entry = aws_sdk_kinesis::types::PutRecordsRequestEntry::builder();
                entry.data(Blob::new(record.data.to_vec())).partition_key(&record.partition_key).build()
            })
            .collect();
        let built = built.map_err(unbuilt)?;
        let call = self.client.put_records().stream_name(&self.stream).set_records(Some(built));
        let answer = call.send().await.map_err(|error| fault(Service::Kinesis, &error))?;
        let failed = answer.failed_record_count().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        let told = answer.records().iter().map(|one| (one.error_code(), one.error_message()));
        Ok(taken(Service::Kinesis, records.len(), failed, told))
    }
}

fn unbuilt(error: impl std::fmt::Display) -> Fault {
    Fault {
        message: error.to_string(),
        remedy: Remedy::Nothing,
    }
}

/// Reads the answer to each record. One that tells of other records than were sent cannot be trusted: all are sent again.
fn taken<'a>(service: Service, n_sent: usize, n_failed: usize, told: impl ExactSizeIterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Taken {
    let again = |message: String| Fault {
        message,
        remedy: Remedy::Retry,
    };
    if told.len() != n_sent {
        metrics::called(service, "failed");
        let n_told = told.len();
        return (0..n_sent)
            .map(|_| Err(again(format!("the answer tells of {n_told} records, {n_sent} were sent"))))
            .collect();
    }
    let results: Taken = told
        .map(|(code, message)| match code {
            None | Some("") => Ok(()),
            Some(code) => Err(again(format!("{code}: {}", message.unwrap_or_default()))),
        })
        .collect();
    metrics::called(service, if n_failed == 0 { "taken" } else { "partial" });
    results
}

fn fault<E>(service: Service, error: &aws_sdk_firehose::error::SdkError<E, aws_sdk_firehose::config::http::HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let are_records_wrong = matches!(
        aws::code(error),
        Some("InvalidArgumentException" | "ValidationException" | "InvalidSourceException" | "SerializationException")
    );
    let remedy = match () {
        () if aws::retry_may_help(error) => Remedy::Retry,
        () if are_records_wrong => Remedy::Nothing,
        () => Remedy::Mend,
    };
    metrics::called(service, if remedy == Remedy::Retry { "failed" } else { "refused" });
    Fault {
        message: aws::describe(error),
        remedy,
    }
}

/// Parts records into calls, in order.
pub(super) fn calls(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut calls: Vec<Vec<Record>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let is_full = calls
            .last()
            .is_none_or(|call| call.len() == MAX_CALL_RECORDS || bytes + record.bytes() > MAX_CALL_BYTES);
        if is_full {
            calls.push(Vec::new());
            bytes = 0;
        }
        bytes += record.bytes();
        if let Some(call) = calls.last_mut() {
            call.push(record);
        }
    }
    calls
}

#[cfg(test)]
mod tests;
