//! What a document calls a span of another protocol, and where it says that it ran: as OpenTelemetry's exporter for X-Ray does.
//!
//! | | name |
//! |---|---|
//! | a segment | its service ([`facts::own_service`]) |
//! | a call | `aws.remote.service`, `peer.service`; of AWS the service; else whom it calls ([`facts::callee`]): a database `@` its host, the RPC service, the host |
//! | another subsegment | the span's name |
//!
//! X-Ray allows letters, digits, spaces and `_ . : / % & # = + \ - @` in names, [`MAX_NAME_CHARS`] of them: others are left out. What came as an
//! X-Ray document keeps its name.

use std::borrow::Cow;

use super::facts::{self, of_resource, of_span};
use crate::query::SpanHit;

/// Characters of a name.
const MAX_NAME_CHARS: usize = 200;
/// The name of what has none.
const NAMELESS: &str = "span";

/// Whether a span came as an X-Ray document.
pub(super) fn is_of_xray(span: &SpanHit) -> bool {
    of_span(span, &["aws.xray.type"]).is_some()
}

/// The name of a segment or subsegment.
pub(super) fn name(span: &SpanHit, is_segment: bool) -> Cow<'_, str> {
    let own = match is_segment {
        true => facts::own_service(span),
        false => &span.name,
    };
    if is_of_xray(span) {
        return own.into();
    }
    match is_segment || !facts::is_call(span) {
        true => sanitized(own),
        false => sanitized(&called(span)).into_owned().into(),
    }
}

/// Whom a call is for.
fn called(span: &SpanHit) -> Cow<'_, str> {
    if let Some(name) = of_span(span, &["aws.remote.service", "peer.service"]) {
        return name.into();
    }
    match facts::is_aws_call(span) {
        true => of_span(span, facts::names::AWS_SERVICE).unwrap_or(&span.name).into(),
        false => facts::callee(span).name.into(),
    }
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, ' ' | '_' | '.' | ':' | '/' | '%' | '&' | '#' | '=' | '+' | '\\' | '-' | '@')
}

fn sanitized(name: &str) -> Cow<'_, str> {
    if !name.is_empty() && name.len() <= MAX_NAME_CHARS && name.chars().all(is_allowed) {
        return name.into();
    }
    let allowed: String = name.chars().filter(|c| is_allowed(*c)).take(MAX_NAME_CHARS).collect();
    match allowed.is_empty() {
        true => NAMELESS.into(),
        false => allowed.into(),
    }
}

fn is_of_annotation_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

/// Whether X-Ray allows the key of an annotation.
pub(super) fn is_annotation_key(key: &str) -> bool {
    key.chars().all(is_of_annotation_key)
}

/// The key of an annotation: letters, digits, `_` and `.`; others are `_`.
pub(super) fn annotation_key(key: &str) -> String {
    key.chars().map(|c| if is_of_annotation_key(c) { c } else { '_' }).collect()
}

/// A regular expression of the keys that become this one without being it; `None` if there is none.
pub(super) fn other_keys(key: &str) -> Option<String> {
    /// Beyond, the key itself is found too.
    const MAX_PLACES: usize = 8;
    let parts: Vec<String> = key.split('_').map(regex::escape).collect();
    let places = parts.len() - 1;
    let with = |changed: Option<usize>| {
        let mut out = String::new();
        for (at, part) in parts.iter().enumerate() {
            match at {
                0 => {}
                at if changed == Some(at) => out.push_str("[^A-Za-z0-9_.]"),
                _ => out.push_str("[^A-Za-z0-9.]"),
            }
            out.push_str(part);
        }
        out
    };
    let any = match places {
        0 => return None,
        1..=MAX_PLACES => (1..=places).map(|at| with(Some(at))).collect::<Vec<_>>().join("|"),
        _ => with(None),
    };
    Some(format!("^(?:{any})$"))
}

/// Where a segment ran: what its document said, or what the resource's platform is to X-Ray.
pub(super) fn origin(span: &SpanHit) -> Option<&str> {
    of_resource(span, &["aws.xray.origin"]).or_else(|| match of_resource(span, &["cloud.platform"])? {
        "aws_ec2" => Some("AWS::EC2::Instance"),
        "aws_ecs" => Some(match of_resource(span, &["aws.ecs.launchtype"]).map(str::to_ascii_lowercase).as_deref() {
            Some("ec2") => "AWS::ECS::EC2",
            Some("fargate") => "AWS::ECS::Fargate",
            _ => "AWS::ECS::Container",
        }),
        "aws_eks" => Some("AWS::EKS::Container"),
        "aws_lambda" => Some("AWS::Lambda::Function"),
        "aws_elastic_beanstalk" => Some("AWS::ElasticBeanstalk::Environment"),
        "aws_app_runner" => Some("AWS::AppRunner::Service"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::corpus::{self, SEGMENT, SUBSEGMENT, Span};
    use super::*;

    fn of(kind: &str, name: &str, attributes: &[(&str, &str)]) -> SpanHit {
        Span::new(1, 2, name, kind, "shop", (0, 5)).with(attributes).0
    }

    #[test]
    fn a_call_is_named_after_whom_it_calls() {
        for (attributes, named) in [
            (&[("peer.service", "ledger"), ("rpc.service", "Ledger")][..], "ledger"),
            (&[("aws.remote.service", "cart"), ("peer.service", "ledger")], "cart"),
            (&[("rpc.system", "aws-api"), ("rpc.service", "S3")], "S3"),
            (&[("aws.service", "DynamoDB"), ("aws.table_name", "orders")], "DynamoDB"),
            (
                &[("db.system", "postgresql"), ("db.name", "shop"), ("server.address", "db1.internal")],
                "shop@db1.internal",
            ),
            (&[("db.system.name", "redis")], "redis"),
            (&[("rpc.service", "shop.v1.Ledger"), ("server.address", "10.0.0.1")], "shop.v1.Ledger"),
            (&[("http.host", "api.example:8443")], "api.example:8443"),
            (&[("net.peer.name", "smtp.example")], "smtp.example"),
            (&[], "GET a b"),
        ] {
            assert_eq!(name(&of("CLIENT", "GET {a} \"b\"", attributes), false), named, "{attributes:?}");
        }
        // whatever is no call keeps its name, and a segment is its service
        assert_eq!(name(&of("INTERNAL", "load", &[("peer.service", "ledger")]), false), "load");
        assert_eq!(name(&of("SERVER", "GET /", &[("peer.service", "ledger")]), true), "shop");
    }

    #[test]
    fn a_service_without_a_name_has_the_one_that_its_instrumentation_found() {
        let local = ("aws.local.service", "orders");
        for (resource, attributes, named) in [
            (Some("shop"), &[local][..], "shop"),
            (Some("unknown_service"), &[local], "orders"),
            (Some("unknown_service:java"), &[local], "orders"),
            (None, &[local], "orders"),
            (Some("unknown_service:java"), &[], "unknown_service:java"),
            (None, &[], "GET /"),
            // it knows none either
            (Some("unknown_service:java"), &[("aws.local.service", "UnknownService")], "unknown_service:java"),
            (None, &[("aws.local.service", "")], "GET /"),
            // a document's name is its own
            (Some("unknown_service"), &[local, SEGMENT], "unknown_service"),
        ] {
            let mut span = of("SERVER", "GET /", attributes);
            span.resource_attributes = resource.map(|name| ("service.name".to_string(), name.to_string())).into_iter().collect();
            assert_eq!(name(&span, true), named, "{resource:?} {attributes:?}");
            let trace = corpus::trace(1, vec![Span(span)]);
            let facts = facts::TraceFacts::of(&trace);
            assert_eq!(facts.services[0].name, named, "{resource:?} {attributes:?}");
        }
    }

    #[test]
    fn names_are_of_the_characters_that_xray_allows_unless_they_are_of_xray() {
        let long = format!("ü{}", "x".repeat(300));
        for (written, named) in [
            ("POST /v1/orders?id=7", "POST /v1/ordersid=7"),
            ("日本 a_b.c:d%e&f#g=h+i\\j-k@l", "日本 a_b.c:d%e&f#g=h+i\\j-k@l"),
            ("<{}>", "span"),
            ("", "span"),
            (&long, &long[..201]),
        ] {
            assert_eq!(name(&of("INTERNAL", written, &[]), false), named, "{written}");
            assert_eq!(name(&of("INTERNAL", written, &[SUBSEGMENT]), false), written, "as it came");
        }
        assert_eq!(annotation_key("http.route-Name é"), "http.route_Name__");
    }

    #[test]
    fn the_keys_that_become_another_are_known() {
        let is_other = |key: &str, of: &str| other_keys(of).is_some_and(|regex| regex::Regex::new(&regex).expect("a regex").is_match(key));
        for (key, of) in [
            ("order-id", "order_id"),
            ("a b_c", "a_b_c"),
            ("a_b c", "a_b_c"),
            ("a\nb/c", "a_b_c"),
            ("é", "_"),
            ("x.y+z", "x.y_z"),
        ] {
            assert!(annotation_key(key) == of && is_other(key, of), "{key}");
        }
        for (key, of) in [
            ("order_id", "order_id"),
            ("a_b_c", "a_b_c"),
            ("orderXid", "order_id"),
            ("x-y+z", "x.y_z"),
            ("an order-id", "order_id"),
            ("", ""),
        ] {
            assert!(!is_other(key, of), "{key}");
        }
        let many = "_".repeat(20);
        assert!(is_other(&"-".repeat(20), &many) && !is_other("x", &many));
    }

    #[test]
    fn platforms_are_origins() {
        let of = |resource: &[(&str, &str)]| origin(&Span::new(1, 0, "a", "SERVER", "shop", (0, 5)).of(resource).0).map(str::to_string);
        for (resource, expected) in [
            (
                &[("cloud.platform", "aws_ecs"), ("aws.ecs.launchtype", "FARGATE")][..],
                Some("AWS::ECS::Fargate"),
            ),
            (&[("cloud.platform", "aws_ecs"), ("aws.ecs.launchtype", "ec2")], Some("AWS::ECS::EC2")),
            (&[("cloud.platform", "aws_ecs")], Some("AWS::ECS::Container")),
            (
                &[("cloud.platform", "aws_eks"), ("aws.xray.origin", "AWS::EC2::Instance")],
                Some("AWS::EC2::Instance"),
            ),
            (&[("cloud.platform", "aws_app_runner")], Some("AWS::AppRunner::Service")),
            (&[("cloud.platform", "gcp_cloud_run")], None),
            (&[], None),
        ] {
            assert_eq!(of(resource).as_deref(), expected, "{resource:?}");
        }
    }
}
