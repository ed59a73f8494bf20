//! What the benches share: seeded log rows of a shop.

use std::fmt::Write as _;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracelake::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, SpanId, TraceId, Value};

/// Records, from the first argument that is a number, or `default`.
pub(crate) fn records(default: usize) -> usize {
    std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(default)
}

/// One record in so many holds the word `heliotrope`.
const RARE_EVERY: usize = 100_000;
/// One record in so many holds the word `jacaranda`.
const SCARCE_EVERY: usize = 10_000;

/// Log rows of 20 services in 60 pods, in requests of 1,000, nearly in order of time within one hour: 70 % belong to a trace,
/// bodies are of 14 templates (110 bytes on average, 1 % stack traces), 2 to 4 attributes each.
pub(crate) fn shop_logs(n: usize, seed: u64) -> Vec<Rows> {
    let mut random = SmallRng::seed_from_u64(seed);
    let services = [
        "frontend",
        "api-gateway",
        "cart",
        "checkout",
        "payment",
        "shipping",
        "email",
        "currency",
        "recommendation",
        "ad",
        "product-catalog",
        "quote",
        "fraud-detection",
        "accounting",
        "auth",
        "user-profile",
        "search",
        "inventory",
        "order",
        "notification",
    ];
    let step = 3_600_000_000_000 / n.max(1) as i64;
    let mut parts = Vec::new();
    let mut trace = (TraceId::from_bytes(&[1; 16]), 0);
    let mut body = String::new();
    for first in (0..n).step_by(1000) {
        let rows = 1000.min(n - first);
        let mut builder = LogsBuilder::with_capacity(rows);
        let contexts: Vec<i32> = (0..60)
            .map(|pod| {
                let service = services[pod / 3];
                let mut context = ContextBuilder::new();
                context
                    .attribute("service.name", Value::Str(service))
                    .attribute("service.version", Value::Str("2.14.1"))
                    .attribute("k8s.pod.name", Value::Str(&format!("{service}-7c9f-{pod}")))
                    .attribute("k8s.namespace.name", Value::Str("shop"))
                    .attribute("host.name", Value::Str(&format!("ip-10-0-{pod}-7.ec2.internal")))
                    .attribute("cloud.region", Value::Str("eu-west-1"))
                    .attribute("telemetry.sdk.language", Value::Str("go"))
                    .attribute("telemetry.sdk.version", Value::Str("1.30.0"))
                    .scope("com.acme.shop", "1.0.0");
                builder.context(context.build())
            })
            .collect();
        for i in first..first + rows {
            let time = 1_763_776_800_000_000_000 + i as i64 * step + random.random_range(0..2_000_000_000);
            if trace.1 == 0 {
                trace = (TraceId::from_bytes(&random.random::<[u8; 16]>()), random.random_range(4..24));
            }
            trace.1 -= 1;
            let traced = random.random_range(0..10) < 7;
            body.clear();
            let severity = record(&mut random, &mut body, &mut builder);
            if i % RARE_EVERY == RARE_EVERY / 2 {
                body.push_str(" heliotrope");
            }
            if i % SCARCE_EVERY == SCARCE_EVERY / 3 {
                body.push_str(" jacaranda");
            }
            builder.push(
                contexts[random.random_range(0..60)],
                &LogRecord {
                    time_unix_nano: time,
                    observed_time_unix_nano: Some(time + 1_500_000),
                    trace_id: if traced { trace.0 } else { None },
                    span_id: if traced { SpanId::from_bytes(&random.random::<[u8; 8]>()) } else { None },
                    trace_flags: traced.then_some(1),
                    severity_number: severity,
                    severity_text: Some(match severity {
                        5 => "DEBUG",
                        9 => "INFO",
                        13 => "WARN",
                        _ => "ERROR",
                    }),
                    body: Some(&body),
                    ..LogRecord::default()
                },
            );
        }
        parts.push(builder.finish().expect("rows fit").with_ingest_ids(first as i64 + 1));
    }
    parts
}

fn record(random: &mut SmallRng, body: &mut String, builder: &mut LogsBuilder) -> i32 {
    let path = [
        "/api/v1/cart",
        "/api/v1/checkout",
        "/api/v2/search",
        "/healthz",
        "/api/v1/recommendations",
        "/api/v1/payments",
    ][random.random_range(0..6)];
    let method = ["GET", "GET", "GET", "POST", "PUT"][random.random_range(0..5)];
    let status = [200, 200, 200, 200, 201, 304, 404][random.random_range(0..7)];
    let user = format!("u-{:07}", random.random_range(0..200_000u32) * random.random_range(1..10u32));
    let ms = f64::from(random.random_range(0..900_000u32)) / 1000.0;
    let ip = random.random::<[u8; 4]>().map(|b| b.to_string()).join(".");
    let uuid = {
        let h = format!("{:032x}", random.random::<u128>());
        format!("{}-{}-4{}-a{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..])
    };
    let hex = random.random::<u64>();
    let mut attribute = |key: &str, value: Value<'_>| builder.attribute(key, value);
    // writing to a String cannot fail
    let (severity, _) = match random.random_range(0..100) {
        0..30 => {
            attribute("http.request.method", Value::Str(method));
            attribute("http.route", Value::Str(path));
            attribute("http.response.status_code", Value::Int(status));
            attribute("duration_ms", Value::Double(ms));
            (
                9,
                write!(
                    body,
                    "request completed method={method} path={path}/{} status={status} duration_ms={ms} bytes={} client={ip}",
                    hex % 500_000,
                    hex % 90_000
                ),
            )
        }
        30..44 => {
            attribute("http.request.method", Value::Str(method));
            attribute("http.response.status_code", Value::Int(status));
            attribute("log.format", Value::Str("combined"));
            (
                9,
                write!(
                    body,
                    "{ip} - {user} \"{method} {path} HTTP/1.1\" {status} {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:{}.0)\" rt={ms}",
                    hex % 60_000,
                    90 + hex % 40
                ),
            )
        }
        44..48 => {
            attribute("order.id", Value::Str(&uuid));
            attribute("user.id", Value::Str(&user));
            (
                9,
                write!(
                    body,
                    "{{\"event\": \"order_placed\", \"order_id\": \"{uuid}\", \"user\": \"{user}\", \"total\": {ms}, \"currency\": \"EUR\", \"items\": [{{\"sku\": \"SKU-{:06X}\", \"qty\": 2}}]}}",
                    hex & 0xff_ffff
                ),
            )
        }
        48..57 => {
            attribute("db.system", Value::Str("postgresql"));
            attribute("db.sql.table", Value::Str("orders"));
            attribute("db.rows", Value::Int((hex % 5000) as i64));
            (
                5,
                write!(body, "executed query on table orders in {ms} ms rows={} plan=0x{:08x}", hex % 5000, hex as u32),
            )
        }
        57..65 => {
            attribute("cache.hit", Value::Bool(true));
            (
                5,
                write!(
                    body,
                    "cache hit key=product:{} ttl={}s node=10.{}.7.1:6379",
                    hex % 80_000,
                    hex % 3600,
                    hex % 255
                ),
            )
        }
        65..70 => {
            attribute("messaging.system", Value::Str("kafka"));
            (
                9,
                write!(
                    body,
                    "published message to topic orders.created partition={} offset={} in {ms} ms",
                    hex % 24,
                    hex % 90_000_000
                ),
            )
        }
        70..76 => {
            attribute("user.id", Value::Str(&user));
            (
                9,
                write!(body, "added {} x vintage telescope (sku SKU-{:06X}) to cart {uuid}", hex % 6, hex & 0xff_ffff),
            )
        }
        76..82 => {
            attribute("rpc.system", Value::Str("grpc"));
            attribute("rpc.grpc.status_code", Value::Int(0));
            (
                9,
                write!(
                    body,
                    "finished unary call grpc.method=GetProduct grpc.code=OK grpc.time_ms={ms} peer={ip}:{}",
                    30_000 + hex % 30_000
                ),
            )
        }
        82..90 => {
            attribute("probe", Value::Str("liveness"));
            (5, write!(body, "health check ok uptime={}s goroutines={}", hex % 9_000_000, hex % 900))
        }
        90..94 => {
            attribute("jvm.gc.name", Value::Str("G1 Young Generation"));
            (
                9,
                write!(body, "GC pause (G1 Evacuation Pause) (young) {}M->{}M(2048M) {ms}ms", 100 + hex % 800, hex % 99),
            )
        }
        94..96 => {
            attribute("retry", Value::Bool(true));
            (
                13,
                write!(
                    body,
                    "retrying upstream call attempt={} backoff_ms={} host={ip} reason=\"deadline exceeded\"",
                    hex % 5,
                    hex % 5000
                ),
            )
        }
        96..98 => {
            attribute("error.type", Value::Str("ECONNRESET"));
            (
                17,
                write!(body, "read tcp {ip}:{}->10.0.0.7:5432: read: connection reset by peer", 30_000 + hex % 30_000),
            )
        }
        98 => {
            attribute("error.type", Value::Str("card_error"));
            (17, write!(body, "payment declined id=pay_{hex:014x} code=insufficient_funds user={user}"))
        }
        _ => {
            attribute("exception.type", Value::Str("java"));
            body.push_str("java.lang.IllegalStateException: could not process order ");
            body.push_str(&uuid);
            for frame in 0..12 {
                let _ = write!(body, "\n\tat com.acme.shop.OrderService.apply(OrderService.java:{})", (hex >> frame) % 900);
            }
            (17, write!(body, "\nCaused by: java.io.IOException: connection reset by peer"))
        }
    };
    severity
}
