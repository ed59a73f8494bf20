//! What SDKs, exporters and consoles ask in passing, answered as it is here.
//!
//! | call | answer |
//! |---|---|
//! | `GetEncryptionConfig` | `NONE`, `ACTIVE`: what is kept is encrypted as its disk or bucket is |
//! | `PutEncryptionConfig` | `NONE` is taken; `KMS` is refused, since nobody would encrypt with that key |
//! | `GetInsightSummaries` | none; insights are not made |
//! | `GetInsight`, `GetInsightEvents`, `GetInsightImpactGraph` | there is no such insight |
//! | `GetIndexingRules` | the one of the service: 100 %, since every span is indexed |
//! | `UpdateIndexingRule` | 100 % is taken |
//! | `GetTraceSegmentDestination`, `UpdateTraceSegmentDestination` | `XRay`, and nothing else is taken |
//! | `ListResourcePolicies` | none |
//! | `PutResourcePolicy`, `DeleteResourcePolicy` | `UnknownOperationException`: who may do what is in `[[aws.keys]]` |

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Receiver, Result, missing};

/// The members that these calls look at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Call {
    #[serde(rename = "Type")]
    kind: Option<String>,
    start_time: Option<Value>,
    end_time: Option<Value>,
    group_name: Option<String>,
    #[serde(rename = "GroupARN")]
    group_arn: Option<String>,
    insight_id: Option<String>,
    name: Option<String>,
    rule: Option<Value>,
    destination: Option<String>,
    next_token: Option<String>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidRequest(message.into())
}

fn encryption() -> Value {
    json!({ "EncryptionConfig": { "Status": "ACTIVE", "Type": "NONE" } })
}

fn destination() -> Value {
    json!({ "Destination": "XRay", "Status": "ACTIVE" })
}

impl Receiver {
    pub(super) async fn get_encryption_config(&self, request: Request<Body>) -> Result<Value> {
        self.body(request).await?;
        Ok(encryption())
    }

    pub(super) async fn put_encryption_config(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        match call.kind.as_deref() {
            Some("NONE") => Ok(encryption()),
            Some("KMS") => Err(invalid("Type KMS is not supported: what is kept is encrypted as its disk or bucket is.")),
            Some(other) => Err(invalid(format!("Type {other} is not one of NONE, KMS."))),
            None => Err(missing("type")),
        }
    }

    pub(super) async fn get_insight_summaries(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        for (member, time) in [("startTime", &call.start_time), ("endTime", &call.end_time)] {
            time.as_ref().ok_or_else(|| missing(member))?;
        }
        self.groups.expression(call.group_name.as_deref(), call.group_arn.as_deref())?;
        Ok(json!({ "InsightSummaries": [] }))
    }

    /// `GetInsight` and what else is asked of one.
    pub(super) async fn get_insight(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        let id = call.insight_id.ok_or_else(|| missing("insightId"))?;
        Err(invalid(format!("Insight {id} was not found.")))
    }

    pub(super) async fn get_indexing_rules(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        super::one_page(call.next_token.as_deref())?;
        Ok(json!({ "IndexingRules": [indexing_rule()] }))
    }

    pub(super) async fn update_indexing_rule(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        let name = call.name.ok_or_else(|| missing("name"))?;
        let rule = call.rule.ok_or_else(|| missing("rule"))?;
        if name != "Default" {
            return Err(Error::NotFound {
                message: format!("Indexing rule {name} was not found."),
                resource: name,
            });
        }
        match rule["Probabilistic"]["DesiredSamplingPercentage"].as_f64() {
            Some(percentage) if percentage >= 100.0 => Ok(json!({ "IndexingRule": indexing_rule() })),
            Some(_) => Err(invalid("DesiredSamplingPercentage: every span is indexed, which is 100.")),
            None => Err(missing("rule.probabilistic.desiredSamplingPercentage")),
        }
    }

    pub(super) async fn get_trace_segment_destination(&self, request: Request<Body>) -> Result<Value> {
        self.body(request).await?;
        Ok(destination())
    }

    pub(super) async fn update_trace_segment_destination(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        match call.destination.as_deref() {
            None | Some("XRay") => Ok(destination()),
            Some(_) => Err(invalid("Destination is XRay: segments and spans are kept in one table, where logs are too.")),
        }
    }

    pub(super) async fn list_resource_policies(&self, request: Request<Body>) -> Result<Value> {
        let call: Call = self.call(request).await?;
        super::one_page(call.next_token.as_deref())?;
        Ok(json!({ "ResourcePolicies": [] }))
    }

    /// `PutResourcePolicy` and its like.
    pub(super) async fn unserved(&self, request: Request<Body>) -> Result<Value> {
        let path = request.uri().path().to_string();
        self.body(request).await?;
        Err(Error::UnknownOperation(format!("The operation of {path} is not served here.")))
    }
}

fn indexing_rule() -> Value {
    json!({
        "Name": "Default",
        "Rule": { "Probabilistic": { "DesiredSamplingPercentage": 100.0, "ActualSamplingPercentage": 100.0 } },
    })
}
