//! Deliveries of Amazon Data Firehose to an HTTP endpoint: log records and metric points.
//!
//! In: the line of [`Head`] (what the headers say), then the body `{"requestId","timestamp","records":[{"data":base64}]}`.
//! Out: rows of `logs` and of the metric tables. What a record is, its content tells, never a setting:
//!
//! | a record, inflated if it is gzip (one member or several) | becomes |
//! |---|---|
//! | JSON with `messageType` `DATA_MESSAGE`: a subscription of CloudWatch Logs | a log record for each event, as `PutLogEvents` makes them, with its `id` as the attribute [`EVENT_ID`] |
//! | the same, of an event that a subscription filter of this lake sent out ([`mark`]) | nothing: the event is here; counted |
//! | the same, `CONTROL_MESSAGE`: a test whether we can be reached | nothing; counted |
//! | JSON with `metric_stream_name`: a Metric Stream | points ([`metric_streams`]) |
//! | length-delimited `ExportMetricsServiceRequest`s, OpenTelemetry 0.7 or 1.0: a Metric Stream | points |
//! | other JSON objects, one after another, with or without line breaks | a log record each, the object's text its body |
//! | anything else | a log record for each line of text that is not empty |
//!
//! A record that claims to be gzip or base64 and is not is rejected; the others of its delivery are kept. Records that tell no time
//! have that of their delivery. Times outside [`Context::retention_days`] are rejected. A delivery that makes more than
//! [`MAX_RECORDS`] rows is refused whole.
//!
//! What a record inflates to is not known before, and each two bytes of it may be a row: memory is asked for as rows are made.
//!
//! Resources: `cloud.provider`, what the stream's ARN tells, its common attributes, then what the record itself says; of those that name
//! no service, it is the log group's last segment, or the delivery stream.

mod metric_streams;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::awslogs::service_of_group;
use super::collected::EVENT_ID;
use super::text::Text;
use super::{AtMost, Context, Decoded, Error, IdentityBuilder, Kind, MAX_RECORDS, Reason, Rejections, envelope, window};
use crate::model::{self, ContextBuilder, EventId, LogRecord, LogsBuilder, MetricsBuilder, Rows, Table, Value};
use crate::net::{Encoding, Exhausted, inflate};

/// Records of one delivery.
pub const MAX_DELIVERED: usize = 10_000;
/// Bytes that the gzip records of one delivery inflate to (256 MiB); more are refused.
pub const MAX_INFLATED_BYTES: usize = if cfg!(test) { 4 << 20 } else { 256 << 20 };
/// Common attributes of a stream.
pub const MAX_COMMON_ATTRIBUTES: usize = 50;
/// Memory of a row beside its text, in columns that double as they grow.
const ROW_BYTES: usize = 192;
/// Memory of an attribute of a row beside its value.
const ATTRIBUTE_BYTES: usize = 64;
/// Copies of a text while rows are made of it.
const TEXT_COPIES: usize = 3;
/// How gzip in base64 begins: `1f 8b 08`.
const GZIP_BASE64: &str = "H4sI";
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Where a gzip member says which further parts its head has, and that it has a comment and nothing else.
const GZIP_FLAGS_AT: usize = 3;
const ONLY_COMMENT: u8 = 0x10;
/// Bytes of a gzip member's head before those parts.
const GZIP_HEAD_BYTES: usize = 10;
/// What the comment of our own records begins with.
const MARK: &str = "tracelake node ";

/// The comment in the gzip head of records that a node's subscription filters send. No reader of the JSON sees it; if the record
/// comes back to its own lake, it tells so. Without it a filter whose stream delivers here would go round for ever.
pub fn mark(node: &str) -> String {
    format!("{MARK}{node}")
}

/// The node whose [`mark`] a gzip member has.
fn marked_by(gzip: &[u8]) -> Option<&str> {
    if gzip.get(GZIP_FLAGS_AT) != Some(&ONLY_COMMENT) {
        return None;
    }
    let comment = gzip.get(GZIP_HEAD_BYTES..)?.strip_prefix(MARK.as_bytes())?;
    let end = memchr::memchr(0, comment)?;
    std::str::from_utf8(&comment[..end]).ok()
}

/// What a delivery says in its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The delivery stream's ARN.
    pub source_arn: Option<String>,
    /// `commonAttributes`.
    pub common_attributes: BTreeMap<String, String>,
    /// Not of the headers: the nodes of this lake, as they were when the delivery came. What they sent is here already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own_nodes: Vec<String>,
}

/// What records of a delivery were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Log events of subscriptions.
    pub subscription_events: u64,
    /// `CONTROL_MESSAGE`s.
    pub control_messages: u64,
    /// Points of Metric Streams.
    pub metric_points: u64,
    /// JSON objects.
    pub json: u64,
    /// Lines of text.
    pub lines: u64,
    /// Events of subscriptions that this lake sent out itself: nothing is made of them.
    pub own_copies: u64,
}

/// The body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery<'a> {
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
    timestamp: Option<f64>,
    #[serde(borrow)]
    records: AtMost<Record<'a>, MAX_DELIVERED>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
}

impl<'a> Delivery<'a> {
    fn records(self) -> Result<Vec<Record<'a>>, Error> {
        self.records.all().map_err(|_| Error::TooMany {
            what: "records",
            max: MAX_DELIVERED,
        })
    }
}

/// The `requestId` that a body has.
pub fn request_id(body: &[u8]) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named<'a> {
        #[serde(borrow, default)]
        request_id: Option<Text<'a>>,
    }
    let named: Named<'_> = serde_json::from_slice(body)?;
    Ok(named.request_id.map(|id| id.0.into_owned()))
}

/// About how many bytes of memory decoding takes beside the body.
pub(super) fn weigh(body: &[u8]) -> Result<usize, Error> {
    let (_, body) = envelope::open::<serde::de::IgnoredAny>(body)?;
    let delivery: Delivery<'_> = serde_json::from_slice(body)?;
    let mut inflated_bytes = 0usize;
    for record in delivery.records()? {
        let data = record.data.map(|data| data.0).unwrap_or_default();
        inflated_bytes = inflated_bytes.saturating_add(match data.starts_with(GZIP_BASE64) {
            // the last member tells its size; several are somewhere near what logs usually are
            true => inflated_size(&data).clamp(10 * data.len(), 800 * data.len()),
            false => data.len(),
        });
    }
    Ok(2 * body.len() + 3 * inflated_bytes.min(MAX_INFLATED_BYTES))
}

/// The size that a gzip member tells at its end.
fn inflated_size(data: &str) -> usize {
    let data = data.trim_end_matches('=').as_bytes();
    // whole groups of four from the end on
    let tail = data.len() - data.len() % 4;
    let from = tail.saturating_sub(8);
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    match engine.decode(&data[from..]).as_deref() {
        Ok([.., a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}

/// Asked before memory is taken: how many bytes making the rows will have taken in all, beside the body. May say no.
pub type Hold<'h> = dyn FnMut(usize) -> Result<(), Exhausted> + 'h;

/// Rows, and what they were.
pub fn deliveries(body: &[u8], context: &Context, hold: &mut Hold<'_>) -> Result<(Decoded, Tally), Error> {
    let (head, body) = envelope::open::<Head>(body)?;
    let delivery: Delivery<'_> = serde_json::from_slice(body)?;
    let delivered_nanos = delivery.timestamp.and_then(nanos_of_millis).unwrap_or(context.received_at_nanos);
    // the same over all tries of a delivery; the records too: senders that give all of theirs one ID must not lose any
    let mut identity = delivery.request_id.as_ref().map(|id| {
        let mut identity = IdentityBuilder::new(Kind::Firehose);
        identity.part(head.source_arn.as_deref().unwrap_or_default().as_bytes());
        identity.part(id.0.as_bytes());
        identity
    });
    let mut walk = Walk::new(head, delivered_nanos, context.received_at_nanos, hold);
    for (index, record) in delivery.records()?.into_iter().enumerate() {
        let data = record.data.map(|data| data.0).unwrap_or_default();
        if let Some(identity) = &mut identity {
            identity.part(data.as_bytes());
        }
        walk.record(index, &data)?;
    }
    let (mut decoded, tally) = walk.finish(context)?;
    decoded.identity = identity.map(|identity| identity.finish());
    Ok((decoded, tally))
}

/// Milliseconds since the epoch as nanoseconds, if they are a time at all.
fn nanos_of_millis(millis: f64) -> Option<i64> {
    // 2^63 ns is the year 2262
    (millis > 0.0 && millis < 9.2e12).then(|| (millis as i64).saturating_mul(1_000_000))
}

/// A subscription's record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription<'a> {
    #[serde(borrow)]
    message_type: Text<'a>,
    #[serde(borrow, default)]
    owner: Option<Text<'a>>,
    #[serde(borrow, default)]
    log_group: Option<Text<'a>>,
    #[serde(borrow, default)]
    log_stream: Option<Text<'a>>,
    #[serde(borrow)]
    log_events: AtMost<Event<'a>, MAX_RECORDS>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    timestamp: Option<f64>,
    #[serde(borrow)]
    message: Text<'a>,
}

/// What is being made of a delivery.
struct Walk<'h> {
    head: Head,
    delivered_nanos: i64,
    received_nanos: i64,
    logs: LogsBuilder,
    metrics: MetricsBuilder,
    /// Whether the record under way was sent by a node of this lake.
    is_own: bool,
    /// Rows that the decoder of OTLP made.
    otlp: Vec<Rows>,
    /// Numbers of contexts by account, group and stream.
    subscribed: HashMap<(String, String, String), i32>,
    /// Number of the context of records that name no log group.
    plain: Option<i32>,
    /// Contexts of metrics by account, region and namespace.
    measured: HashMap<[String; 3], Arc<model::Context>>,
    inflated_bytes: usize,
    hold: &'h mut Hold<'h>,
    held_bytes: usize,
    /// Bytes of the records so far, inflated.
    text_bytes: usize,
    /// Bytes of what is neither text of a record nor a row of the builders: contexts, texts that stand more than once, rows of OTLP.
    other_bytes: usize,
    /// Rows in `otlp`.
    n_otlp: usize,
    tally: Tally,
    rejected: Rejections,
    rejected_points: Rejections,
}

impl<'h> Walk<'h> {
    fn new(head: Head, delivered_nanos: i64, received_nanos: i64, hold: &'h mut Hold<'h>) -> Walk<'h> {
        Walk {
            head,
            delivered_nanos,
            received_nanos,
            logs: LogsBuilder::default(),
            metrics: MetricsBuilder::default(),
            is_own: false,
            otlp: Vec::new(),
            subscribed: HashMap::new(),
            plain: None,
            measured: HashMap::new(),
            inflated_bytes: 0,
            hold,
            held_bytes: 0,
            text_bytes: 0,
            other_bytes: 0,
            n_otlp: 0,
            tally: Tally::default(),
            rejected: Rejections::default(),
            rejected_points: Rejections::default(),
        }
    }

    fn record(&mut self, index: usize, data: &str) -> Result<(), Error> {
        let Ok(bytes) = STANDARD.decode(data.as_bytes()) else {
            self.rejected.add(None, 1, Reason::Malformed, || format!("records[{index}].data is not base64"));
            return Ok(());
        };
        let bytes = Bytes::from(bytes);
        self.is_own = marked_by(&bytes).is_some_and(|node| self.head.own_nodes.iter().any(|own| own == node));
        let bytes = match bytes.starts_with(&GZIP) {
            false => bytes,
            true => match self.inflated(&bytes) {
                Ok(inflated) => inflated,
                Err(inflate::Error::Exhausted(exhausted)) => return Err(exhausted.into()),
                Err(inflate::Error::TooLarge { .. }) => {
                    return Err(Error::TooMany {
                        what: "bytes in gzip records",
                        max: MAX_INFLATED_BYTES,
                    });
                }
                Err(error) => {
                    self.rejected.add(None, 1, Reason::Malformed, || format!("records[{index}].data: {error}"));
                    return Ok(());
                }
            },
        };
        self.text_bytes += bytes.len();
        self.hold_also(0)?;
        if !self.metric_stream_otlp(&bytes)? {
            self.text(&String::from_utf8_lossy(&bytes))?;
        }
        Ok(())
    }

    fn inflated(&mut self, bytes: &Bytes) -> Result<Bytes, inflate::Error> {
        let made_bytes = self.made_bytes();
        let hold = &mut self.hold;
        // twice while it grows; what is made of it is asked for once its size is known
        let mut hold_also = |inflated: usize| hold(made_bytes.saturating_add(2 * inflated));
        let inflated = inflate::inflate_holding(Encoding::Gzip, bytes, MAX_INFLATED_BYTES - self.inflated_bytes, &mut hold_also)?;
        // what is held now is not known
        self.held_bytes = 0;
        self.inflated_bytes += inflated.len();
        Ok(inflated)
    }

    /// Memory that was taken so far.
    fn made_bytes(&self) -> usize {
        let n_rows = self.logs.len() + self.metrics.n_points();
        TEXT_COPIES * self.text_bytes + ROW_BYTES * n_rows + self.other_bytes
    }

    /// Asks for what was made so far and so many bytes more; not for every row.
    fn hold_also(&mut self, more: usize) -> Result<(), Error> {
        let bytes = self.made_bytes().saturating_add(more);
        if bytes > self.held_bytes {
            let bytes = bytes.saturating_add(bytes / 8);
            (self.hold)(bytes)?;
            self.held_bytes = bytes;
        }
        Ok(())
    }

    /// A row was made.
    fn made_one(&mut self) -> Result<(), Error> {
        if self.logs.len().max(self.metrics.n_points() + self.n_otlp) > MAX_RECORDS {
            return Err(Error::TooMany {
                what: "log records or metric points",
                max: MAX_RECORDS,
            });
        }
        self.hold_also(0)
    }

    /// JSON objects one after another, or lines.
    fn text(&mut self, text: &str) -> Result<(), Error> {
        if let Some(objects) = objects(text) {
            return objects.into_iter().try_for_each(|object| self.object(object));
        }
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            match objects(line) {
                Some(objects) => objects.into_iter().try_for_each(|object| self.object(object))?,
                None if line.trim_ascii().is_empty() => {}
                None => {
                    self.plain_record(line)?;
                    self.tally.lines += 1;
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, text: &str) -> Result<(), Error> {
        let has = |word: &str| memmem::find(text.as_bytes(), word.as_bytes()).is_some();
        if has("\"messageType\"")
            && has("\"logEvents\"")
            && let Ok(subscription) = serde_json::from_str::<Subscription<'_>>(text)
            && self.subscription(subscription)?
        {
            return Ok(());
        }
        if has("\"metric_stream_name\"") && self.metric_stream_json(text)? {
            return Ok(());
        }
        self.plain_record(text)?;
        self.tally.json += 1;
        Ok(())
    }

    fn plain_record(&mut self, body: &str) -> Result<(), Error> {
        let context = match self.plain {
            Some(context) => context,
            None => {
                let mut resource = self.resource(None, None);
                self.name_service(&mut resource, None);
                *self.plain.insert(self.logs.context(resource.build()))
            }
        };
        self.push(context, self.delivered_nanos, body)
    }

    fn push(&mut self, context: i32, time_unix_nano: i64, body: &str) -> Result<(), Error> {
        self.logs.push(
            context,
            &LogRecord {
                time_unix_nano,
                observed_time_unix_nano: Some(self.received_nanos),
                body: Some(body),
                ..LogRecord::default()
            },
        );
        self.made_one()
    }

    /// Whether it was one.
    fn subscription(&mut self, record: Subscription<'_>) -> Result<bool, Error> {
        match &*record.message_type.0 {
            "CONTROL_MESSAGE" => {
                self.tally.control_messages += 1;
                return Ok(true);
            }
            "DATA_MESSAGE" => {}
            _ => return Ok(false),
        }
        let Ok(events) = record.log_events.all() else { return Ok(false) };
        let name = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
        let (owner, group, stream) = (name(record.owner), name(record.log_group), name(record.log_stream));
        let (events, own) = match self.is_own {
            false => (events, 0),
            true => {
                let n_events = events.len();
                let is_copy = |event: &Event<'_>| {
                    event
                        .id
                        .as_ref()
                        .is_some_and(|id| EventId::parse(&id.0).is_some_and(|id| id.is_of(&group, &stream)))
                };
                let others: Vec<Event<'_>> = events.into_iter().filter(|event| !is_copy(event)).collect();
                let n_others = others.len();
                (others, n_events - n_others)
            }
        };
        self.tally.own_copies += own as u64;
        if events.is_empty() {
            return Ok(true);
        }
        let key = (owner, group, stream);
        let context = match self.subscribed.get(&key) {
            Some(context) => *context,
            None => {
                let (owner, group, stream) = &key;
                let mut resource = self.resource(Some(owner), None);
                for (attribute, value) in [("aws.log.group.names", group), ("aws.log.stream.names", stream)] {
                    if !value.is_empty() {
                        resource.attribute(attribute, Value::Str(value));
                    }
                }
                self.name_service(&mut resource, service_of_group(group));
                let resource = resource.build();
                self.other_bytes += resource.memory_bytes();
                self.hold_also(0)?;
                let context = self.logs.context(resource);
                self.subscribed.insert(key, context);
                context
            }
        };
        self.tally.subscription_events += events.len() as u64;
        for event in events {
            let time = event.timestamp.and_then(nanos_of_millis).unwrap_or(self.delivered_nanos);
            if let Some(id) = event.id.filter(|id| !id.0.is_empty()) {
                self.logs.attribute(EVENT_ID, Value::Str(&id.0));
                self.other_bytes += ATTRIBUTE_BYTES;
            }
            self.push(context, time, &event.message.0)?;
        }
        Ok(true)
    }

    /// What all records of the stream say; an account and a region of the record's own come before the stream's.
    fn resource(&self, account: Option<&str>, region: Option<&str>) -> ContextBuilder {
        let mut resource = ContextBuilder::new();
        resource.attribute("cloud.provider", Value::Str("aws"));
        let arn = Arn::of(self.head.source_arn.as_deref().unwrap_or_default());
        if let Some(source_arn) = &self.head.source_arn {
            resource.attribute("aws.firehose.arn", Value::Str(source_arn));
        }
        let known = |value: Option<&str>, of_stream: Option<&str>| value.filter(|value| !value.is_empty()).or(of_stream).map(str::to_string);
        if let Some(region) = known(region, arn.as_ref().map(|arn| arn.region)) {
            resource.attribute("cloud.region", Value::Str(&region));
        }
        if let Some(account) = known(account, arn.as_ref().map(|arn| arn.account)) {
            resource.attribute("cloud.account.id", Value::Str(&account));
        }
        for (name, value) in &self.head.common_attributes {
            resource.attribute(name, Value::Str(value));
        }
        resource
    }

    /// Names the service, unless the stream's common attributes do.
    fn name_service(&self, resource: &mut ContextBuilder, service: Option<&str>) {
        let arn = Arn::of(self.head.source_arn.as_deref().unwrap_or_default());
        if !resource.has("service.name")
            && let Some(service) = service.or(arn.map(|arn| arn.stream))
        {
            resource.attribute("service.name", Value::Str(service));
        }
    }

    fn finish(mut self, context: &Context) -> Result<(Decoded, Tally), Error> {
        let mut logs = Decoded {
            rejected: self.rejected.finish(),
            ..Decoded::default()
        };
        if !self.logs.is_empty() {
            logs.batch.rows.push(self.logs.finish()?);
        }
        let mut parts = self.metrics.finish()?;
        parts.extend(self.otlp);
        let mut points = Decoded {
            rejected: self.rejected_points.finish(),
            ..Decoded::default()
        };
        for table in Table::ALL {
            let of_table: Vec<Rows> = parts.iter().filter(|rows| rows.table() == table).cloned().collect();
            match of_table.len() {
                0 => {}
                1 => points.batch.rows.extend(of_table),
                _ => points.batch.rows.push(Rows::concat(table, &of_table)?),
            }
        }
        let mut decoded = window::keep_inside(logs, context)?;
        let points = window::keep_inside(points, context)?;
        decoded.batch.rows.extend(points.batch.rows);
        decoded.rejected_points = points.rejected;
        Ok((decoded, self.tally))
    }
}

/// The objects of a text that is nothing but JSON objects, one after another; `None` if it is something else. Of too many, as many as
/// are needed to tell.
fn objects(text: &str) -> Option<Vec<&str>> {
    let trimmed = text.trim_ascii();
    if !trimmed.starts_with('{') || !trimmed.ends_with('}') {
        return None;
    }
    let values = serde_json::Deserializer::from_str(trimmed).into_iter::<&RawValue>();
    let objects = values.map(|value| value.ok().map(RawValue::get).filter(|text| text.starts_with('{')));
    objects.take(MAX_RECORDS + 1).collect()
}

/// `arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME`
struct Arn<'a> {
    region: &'a str,
    account: &'a str,
    stream: &'a str,
}

impl<'a> Arn<'a> {
    fn of(text: &'a str) -> Option<Arn<'a>> {
        let mut parts = text.splitn(6, ':');
        let ("arn", _partition, "firehose") = (parts.next()?, parts.next()?, parts.next()?) else {
            return None;
        };
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Arn {
            region,
            account,
            stream: resource.strip_prefix("deliverystream/")?,
        })
    }
}

/// The head that headers give: `{"commonAttributes":{…}}`, and the ARN. `Err` says what is wrong.
pub fn head(source_arn: Option<&str>, common_attributes: Option<&str>) -> Result<Head, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Common<'a> {
        #[serde(borrow, default)]
        common_attributes: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    }
    let mut head = Head {
        source_arn: source_arn.map(str::to_string),
        ..Head::default()
    };
    if let Some(text) = common_attributes.filter(|text| !text.is_empty()) {
        let common: Common<'_> = serde_json::from_str(text)?;
        if common.common_attributes.len() > MAX_COMMON_ATTRIBUTES {
            return Err(Error::TooMany {
                what: "common attributes",
                max: MAX_COMMON_ATTRIBUTES,
            });
        }
        head.common_attributes = common
            .common_attributes
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
    }
    Ok(head)
}

#[cfg(test)]
mod tests;
