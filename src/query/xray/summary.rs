//! A trace as `TraceSummary` of X-Ray's API.
//!
//! Lists are bounded, since a trace of a hundred thousand spans may have as many users: [`MAX_ANNOTATIONS`] keys, which is what X-Ray indexes
//! of a trace, and [`MAX_LISTED`] values or services wherever there may be many. Filter expressions know all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::causes::RootCause;
use super::expression::CauseKind;
use super::facts::{Service, TraceFacts, annotations, names, of_resource, of_span, seconds};
use crate::model::Typed;

/// Of each value of an annotation, and whether it is a text, the services that said it.
type Annotated<'a> = BTreeMap<(&'a str, bool), Vec<&'a Service>>;

/// Keys of annotations.
const MAX_ANNOTATIONS: usize = 50;
/// Values of a list.
const MAX_LISTED: usize = 100;

impl TraceFacts<'_> {
    /// As `TraceSummary` of the API.
    pub fn summary(&self) -> Value {
        let flags = self.flags();
        let mut out = json!({
            "Id": self.trace.trace_id.to_xray(),
            "StartTime": seconds(self.trace.start_unix_nano),
            "Duration": self.duration(),
            "HasFault": flags.fault,
            "HasError": flags.error,
            "HasThrottle": flags.throttle,
            "IsPartial": self.is_partial(),
            "Http": self.http(),
            "Annotations": self.all_annotations(),
            "Users": self.users(),
            "ServiceIds": self.services.iter().take(MAX_LISTED).map(Service::to_json).collect::<Vec<_>>(),
            "Revision": self.trace.spans.len(),
        });
        for (member, kind) in [
            ("FaultRootCauses", CauseKind::Fault),
            ("ErrorRootCauses", CauseKind::Error),
            ("ResponseTimeRootCauses", CauseKind::ResponseTime),
        ] {
            out[member] = self.root_causes(kind).iter().map(RootCause::to_json).collect();
        }
        if let Some(time) = self.response_time() {
            out["ResponseTime"] = time.into();
        }
        if let Some(root) = self.root {
            out["EntryPoint"] = self.services[self.segments[root].service].to_json();
        }
        for (member, inner, names) in [
            ("ResourceARNs", "ARN", &["aws.xray.resource_arn", "cloud.resource_id"][..]),
            ("InstanceIds", "Id", &["host.id"]),
            ("AvailabilityZones", "Name", &["cloud.availability_zone"]),
        ] {
            let mut values: Vec<&str> = self.trace.spans.iter().filter_map(|placed| of_resource(&placed.span, names)).collect();
            values.sort_unstable();
            values.dedup();
            values.truncate(MAX_LISTED);
            out[member] = values.into_iter().map(|value| json!({ inner: value })).collect();
        }
        out
    }

    fn http(&self) -> Value {
        let mut out = json!({});
        let Some(root) = self.root_span() else { return out };
        for (member, names) in [
            ("HttpURL", names::URL),
            ("HttpMethod", names::METHOD),
            ("UserAgent", names::USER_AGENT),
            ("ClientIp", names::CLIENT_IP),
        ] {
            if let Some(value) = of_span(root, names) {
                out[member] = value.into();
            }
        }
        if let Some(status) = of_span(root, names::STATUS).and_then(|status| status.parse::<i64>().ok()) {
            out["HttpStatus"] = status.into();
        }
        out
    }

    fn all_annotations(&self) -> Value {
        let mut by_key: BTreeMap<Cow<'_, str>, Annotated<'_>> = BTreeMap::new();
        for (at, placed) in self.trace.spans.iter().enumerate() {
            for one in annotations(&placed.span) {
                let services = by_key.entry(one.name()).or_default().entry((one.value, one.is_text)).or_default();
                let service = self.service_of_span(at);
                if services.len() < MAX_LISTED && !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        let value = |((value, is_text), services): ((&str, bool), Vec<&Service>)| {
            json!({
                "AnnotationValue": annotation_value(value, is_text),
                "ServiceIds": services.into_iter().map(Service::to_json).collect::<Vec<_>>(),
            })
        };
        let key = |(key, values): (Cow<'_, str>, Annotated<'_>)| (key.into_owned(), values.into_iter().take(MAX_LISTED).map(value).collect());
        Value::Object(by_key.into_iter().take(MAX_ANNOTATIONS).map(key).collect())
    }

    fn users(&self) -> Value {
        let mut users: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
        for (at, placed) in self.trace.spans.iter().enumerate() {
            if let Some(user) = of_span(&placed.span, names::USER) {
                let services = users.entry(user).or_default();
                let service = self.service_of_span(at);
                if services.len() < MAX_LISTED && !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        let user = |(name, services): (&str, Vec<&Service>)| {
            let services: Vec<Value> = services.into_iter().map(Service::to_json).collect();
            json!({ "UserName": name, "ServiceIds": services })
        };
        users.into_iter().take(MAX_LISTED).map(user).collect()
    }
}

/// A stored value as `AnnotationValue` of the API.
fn annotation_value(text: &str, is_text: bool) -> Value {
    match Typed::of("", text) {
        _ if is_text => json!({ "StringValue": text }),
        Typed::Bool(value) => json!({ "BooleanValue": value }),
        Typed::Int(number) => json!({ "NumberValue": number as f64 }),
        Typed::Double(number) => json!({ "NumberValue": number }),
        Typed::Text => json!({ "StringValue": text }),
    }
}
