//! What a segment says of the service that sent it.
//!
//! | segment | resource attribute |
//! |---|---|
//! | `name` | `service.name` |
//! | `origin` | `aws.xray.origin`; with `aws`, decides `cloud.provider` (`aws` or `unknown`) |
//! | `service.version`, other `service.*` | `service.version`, `aws.xray.service.*` |
//! | `resource_arn` | `aws.xray.resource_arn` |
//! | `aws.account_id` | `cloud.account.id` |
//! | `aws.ec2.*` | `cloud.availability_zone`, `host.id`, `host.type`, `host.image.id` |
//! | `aws.ecs.*` | `container.name`, `container.id`, `cloud.availability_zone`, `aws.ecs.container.arn`, `aws.ecs.task.arn`, `aws.ecs.task.family`, `aws.ecs.cluster.arn`, `aws.ecs.launchtype` |
//! | `aws.eks.*` | `k8s.cluster.name`, `k8s.pod.name`, `container.id` |
//! | `aws.elastic_beanstalk.*` | `service.namespace`, `service.instance.id`, `service.version` |
//! | `aws.cloudwatch_logs` | `aws.log.group.names`, `aws.log.group.arns` |
//! | `aws.xray.*` | `telemetry.sdk.name`, `.version`, `.language` (what follows "for "), `aws.xray.auto_instrumentation` |
//! | anything else below these | `aws.xray.<object>.<key>` |

use std::sync::Arc;

use super::document::{Node, Object, text_of, with_value};
use crate::model::{Context, ContextBuilder, Value};

/// Key of a segment's object, and its resource attribute.
type Names = &'static [(&'static str, &'static str)];

const EC2: Names = &[
    ("availability_zone", "cloud.availability_zone"),
    ("instance_id", "host.id"),
    ("instance_size", "host.type"),
    ("ami_id", "host.image.id"),
];
const ECS: Names = &[
    ("container", "container.name"),
    ("container_id", "container.id"),
    ("availability_zone", "cloud.availability_zone"),
    ("container_arn", "aws.ecs.container.arn"),
    ("task_arn", "aws.ecs.task.arn"),
    ("task_family", "aws.ecs.task.family"),
    ("cluster_arn", "aws.ecs.cluster.arn"),
    ("launch_type", "aws.ecs.launchtype"),
];
const EKS: Names = &[("cluster_name", "k8s.cluster.name"), ("pod", "k8s.pod.name"), ("container_id", "container.id")];
const BEANSTALK: Names = &[
    ("environment_name", "service.namespace"),
    ("deployment_id", "service.instance.id"),
    ("version_label", "service.version"),
];
const SERVICE: Names = &[("version", "service.version")];

/// Keys of `aws` that describe the service; the others describe the call and go to the span.
pub(super) const AWS_RESOURCE_KEYS: [&str; 7] = ["account_id", "ec2", "ecs", "eks", "elastic_beanstalk", "cloudwatch_logs", "xray"];

/// The resource of a segment.
pub(super) fn of_segment(segment: &Node<'_>) -> Arc<Context> {
    let mut resource = ContextBuilder::new();
    let fields = &segment.fields;
    let aws = fields.object("aws");
    let origin = fields.text("origin");
    let is_aws = aws.is_some() || origin.as_deref().is_some_and(|origin| origin.starts_with("AWS::"));
    resource.attribute("cloud.provider", Value::Str(if is_aws { "aws" } else { "unknown" }));
    if let Some(aws) = &aws {
        of_aws(&mut resource, aws);
    }
    for (key, attribute) in [("origin", "aws.xray.origin"), ("resource_arn", "aws.xray.resource_arn")] {
        if let Some(raw) = fields.get(key) {
            with_value(raw, |value| {
                resource.attribute(attribute, value);
            });
        }
    }
    // the service's own word on its version beats the platform's label
    of_object(&mut resource, fields, "service", SERVICE);
    resource.attribute("service.name", Value::Str(&segment.name));
    resource.build()
}

fn of_aws(resource: &mut ContextBuilder, aws: &Object<'_>) {
    if let Some(raw) = aws.get("account_id") {
        with_value(raw, |value| {
            resource.attribute("cloud.account.id", value);
        });
    }
    for (key, names) in [("ec2", EC2), ("ecs", ECS), ("eks", EKS), ("elastic_beanstalk", BEANSTALK)] {
        of_object(resource, aws, key, names);
    }
    of_log_groups(resource, aws);
    if let Some(xray) = aws.object("xray") {
        of_sdk(resource, &xray);
    } else if let Some(raw) = aws.get("xray") {
        resource.attribute("aws.xray.xray", Value::Json(raw));
    }
}

/// The members of the object at `key`, by `names`; what is not named keeps its path.
fn of_object(resource: &mut ContextBuilder, holder: &Object<'_>, key: &str, names: Names) {
    let Some(raw) = holder.get(key) else { return };
    let Ok(object) = Object::parse(raw) else {
        with_value(raw, |value| {
            resource.attribute(&format!("aws.xray.{key}"), value);
        });
        return;
    };
    for (member, raw) in object.iter() {
        match names.iter().find(|(name, _)| *name == member) {
            // Beanstalk's deployment ID is a number, the attribute is text
            Some((_, attribute)) if raw.bytes().all(|b| b.is_ascii_digit()) => {
                resource.attribute(attribute, Value::Str(raw));
            }
            Some((_, attribute)) => with_value(raw, |value| {
                resource.attribute(attribute, value);
            }),
            None => with_value(raw, |value| {
                resource.attribute(&format!("aws.xray.{key}.{member}"), value);
            }),
        }
    }
}

fn of_log_groups(resource: &mut ContextBuilder, aws: &Object<'_>) {
    let Some(raw) = aws.get("cloudwatch_logs") else { return };
    let Ok(groups) = serde_json::from_str::<Vec<Object<'_>>>(raw) else {
        resource.attribute("aws.xray.cloudwatch_logs", Value::Json(raw));
        return;
    };
    for (key, attribute) in [("log_group", "aws.log.group.names"), ("arn", "aws.log.group.arns")] {
        let values: Vec<String> = groups.iter().filter_map(|group| group.text(key)).collect();
        if !values.is_empty() {
            let list = serde_json::Value::from(values).to_string();
            resource.attribute(attribute, Value::Json(&list));
        }
    }
}

fn of_sdk(resource: &mut ContextBuilder, xray: &Object<'_>) {
    for (key, raw) in xray.iter() {
        match (key, text_of(raw)) {
            ("sdk", Some(sdk)) => {
                resource.attribute("telemetry.sdk.name", Value::Str(&sdk));
                if let Some((_, language)) = sdk.split_once("for ") {
                    resource.attribute("telemetry.sdk.language", Value::Str(language));
                }
            }
            ("sdk_version", Some(version)) => {
                resource.attribute("telemetry.sdk.version", Value::Str(&version));
            }
            // differs from request to request: it is the span's
            ("sampling_rule_name", _) => {}
            _ => with_value(raw, |value| {
                resource.attribute(&format!("aws.xray.{key}"), value);
            }),
        }
    }
}
