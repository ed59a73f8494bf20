//! Who is in the shop, where it runs, and how it speaks.

use chrono::DateTime;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::super::otlp::{attribute, resource};
use super::super::values::Values;

/// How a service's records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Logs and spans by OTLP.
    Otlp,
    /// Logs by the awslogs driver as JSON, spans by OTLP.
    EcsJson,
    /// Logs by the awslogs driver as plain lines, spans as X-Ray segments.
    EcsPlain,
    /// A Lambda function: its lines between `START` and `REPORT`, spans as X-Ray segments.
    Lambda,
}

impl Speech {
    /// Whether spans go to the X-Ray daemon's address.
    pub fn is_xray(self) -> bool {
        matches!(self, Speech::EcsPlain | Speech::Lambda)
    }
}

/// One service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// `service.name`.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
    /// `telemetry.sdk.language`.
    pub language: &'static str,
    /// Name of each host, and by how many milliseconds its clock is ahead (or, negative, behind).
    pub hosts: &'static [(&'static str, i64)],
    /// How its records travel.
    pub speech: Speech,
}

pub(super) const FRONTEND: usize = 0;
pub(super) const SEARCH: usize = 1;
pub(super) const CART: usize = 2;
pub(super) const CHECKOUT: usize = 3;
pub(super) const PAYMENT: usize = 4;
pub(super) const INVENTORY: usize = 5;
pub(super) const SHIPPING: usize = 6;
pub(super) const EMAIL: usize = 7;

/// The eight, in the order of the numbers above.
pub const SERVICES: [Service; 8] = [
    Service {
        name: "frontend",
        version: "2.14.1",
        language: "nodejs",
        hosts: &[("ip-10-0-1-17", 0), ("ip-10-0-2-31", 1_800)],
        speech: Speech::Otlp,
    },
    Service {
        name: "search",
        version: "7.0.2",
        language: "java",
        hosts: &[("ip-10-0-1-52", 0)],
        speech: Speech::Otlp,
    },
    Service {
        name: "cart",
        version: "1.9.4",
        language: "dotnet",
        hosts: &[("ip-10-0-1-64", 0), ("ip-10-0-2-65", 12)],
        speech: Speech::Otlp,
    },
    Service {
        name: "checkout",
        version: "3.2.0",
        language: "go",
        hosts: &[("ip-10-0-1-80", 0), ("ip-10-0-2-81", -9)],
        speech: Speech::Otlp,
    },
    Service {
        name: "payment",
        version: "1.4.7",
        language: "java",
        hosts: &[("ip-10-0-3-10", 0), ("ip-10-0-3-11", 4)],
        speech: Speech::EcsJson,
    },
    Service {
        name: "inventory",
        version: "2.2.9",
        language: "go",
        hosts: &[("ip-10-0-3-20", 0), ("ip-10-0-3-21", -2_500)],
        speech: Speech::EcsPlain,
    },
    Service {
        name: "shipping",
        version: "$LATEST",
        language: "python",
        hosts: &[("169.254.10.1", 0), ("169.254.10.2", 0)],
        speech: Speech::Lambda,
    },
    Service {
        name: "email",
        version: "$LATEST",
        language: "nodejs",
        hosts: &[("169.254.11.1", 0), ("169.254.11.2", 0)],
        speech: Speech::Lambda,
    },
];

/// The log group of a service that writes to CloudWatch Logs.
pub(super) fn log_group(service: usize) -> String {
    let Service { name, speech, .. } = SERVICES[service];
    match speech {
        Speech::Lambda => format!("/aws/lambda/{name}"),
        _ => format!("/ecs/shop/{name}"),
    }
}

/// A log stream for each host, named as AWS names them.
pub(super) fn log_streams(values: &Values, start_nanos: i64) -> Vec<Vec<String>> {
    let day = DateTime::from_timestamp_nanos(start_nanos).format("%Y/%m/%d").to_string();
    let stream = |service: &Service, values: &Values| match service.speech {
        Speech::Lambda => format!("{day}/[$LATEST]{}", values.hex(32)),
        _ => format!("shop/{}/{}", service.name, values.hex(32)),
    };
    let mut streams = Vec::new();
    for service in &SERVICES {
        streams.push(service.hosts.iter().map(|_| stream(service, values)).collect());
    }
    streams
}

/// The OTLP resource of a service on a host.
pub(super) fn resource_of(service: usize, host: usize) -> Resource {
    let Service {
        name,
        version,
        language,
        hosts,
        ..
    } = SERVICES[service];
    resource(vec![
        attribute("service.name", name),
        attribute("service.namespace", "shop"),
        attribute("service.version", version),
        attribute("service.instance.id", format!("{name}-{host}")),
        attribute("deployment.environment.name", "demo"),
        attribute("host.name", hosts[host].0),
        attribute("cloud.provider", "aws"),
        attribute("cloud.region", "eu-west-1"),
        attribute("telemetry.sdk.language", language),
    ])
}
