//! Records like those of a few dozen microservices: about 240 bytes each, twenty services with 2 to 4 pods, 70 % of the log
//! records in traces of 3 to 9 spans, high-cardinality values, one stack trace in a hundred, a rare word in 100,000.

use std::collections::{BTreeMap, VecDeque};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::super::otlp::{any, attribute, resource};
use super::super::values::Values;

/// A word that stands in one of 100,000 log records.
pub const RARE: &str = "heliotrope";

/// Name, pods, language, version.
const SERVICES: [(&str, usize, &str, &str); 20] = [
    ("frontend", 4, "nodejs", "2.14.1"),
    ("api-gateway", 4, "go", "1.30.0"),
    ("cart", 3, "dotnet", "1.9.4"),
    ("checkout", 3, "go", "3.2.0"),
    ("payment", 2, "nodejs", "1.4.7"),
    ("shipping", 2, "rust", "0.9.2"),
    ("email", 2, "ruby", "1.0.9"),
    ("currency", 2, "cpp", "0.4.4"),
    ("recommendation", 3, "python", "2.0.3"),
    ("ad", 2, "java", "1.12.0"),
    ("product-catalog", 4, "go", "4.1.1"),
    ("quote", 2, "php", "0.7.0"),
    ("fraud-detection", 2, "kotlin", "1.3.3"),
    ("accounting", 2, "dotnet", "0.8.8"),
    ("auth", 3, "java", "5.6.1"),
    ("user-profile", 3, "python", "1.8.0"),
    ("search", 4, "java", "7.0.2"),
    ("inventory", 3, "go", "2.2.9"),
    ("order", 3, "java", "6.1.5"),
    ("notification", 2, "python", "1.1.0"),
];
const METHODS: [&str; 8] = ["GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"];
const ROUTES: [&str; 12] = [
    "/api/v1/cart",
    "/api/v1/products/{id}",
    "/api/v1/checkout",
    "/api/v1/orders/{id}",
    "/api/v2/search",
    "/api/v1/users/{id}/profile",
    "/healthz",
    "/api/v1/recommendations",
    "/api/v1/payments",
    "/api/v1/shipping/quote",
    "/login",
    "/api/v1/inventory/{sku}",
];
const TABLES: [&str; 8] = ["orders", "order_items", "users", "sessions", "products", "inventory", "payments", "audit_log"];
const TOPICS: [&str; 6] = [
    "orders.created",
    "payments.settled",
    "email.outbound",
    "inventory.delta",
    "clickstream",
    "fraud.scores",
];
const CLASSES: [&str; 10] = [
    "OrderService",
    "PaymentClient",
    "SearchIndexer",
    "SessionFilter",
    "RetryInterceptor",
    "JdbcTemplate",
    "HikariPool",
    "GrpcStub",
    "ConsumerLoop",
    "CacheLoader",
];
const REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

/// What a template makes: severity, body, attributes.
type Made = (&'static str, String, Vec<KeyValue>);
type Template = (u32, fn(&Values) -> Made);

/// Weights per thousand of log records inside traces.
const IN_TRACES: [Template; 16] = [
    (290, http),
    (135, access),
    (40, order),
    (90, |v| {
        let (table, ms, rows) = (*v.pick(&TABLES), v.milliseconds(), v.range(0, 5_000));
        let body = format!("executed query on table {table} in {ms} ms rows={rows} plan=0x{}", v.hex(8));
        (
            "DEBUG",
            body,
            vec![
                attribute("db.system", "postgresql"),
                attribute("db.sql.table", table),
                attribute("db.rows", rows),
            ],
        )
    }),
    (80, |v| {
        let body = format!("cache hit key=product:{} ttl={}s node={}:6379", v.range(1, 80_000), v.range(1, 3_600), v.ip());
        ("DEBUG", body, vec![attribute("cache.hit", true)])
    }),
    (30, |v| {
        let body = format!("cache miss key=session:{} loading from origin", v.hex(16));
        ("DEBUG", body, vec![attribute("cache.hit", false)])
    }),
    (60, |v| {
        let body = format!("added {} x {} (sku {}) to cart {}", v.range(1, 6), v.product(), v.sku(), v.uuid());
        ("INFO", body, vec![attribute("user.id", v.user())])
    }),
    (40, |v| {
        let body = format!(
            "payment authorized id=pay_{} amount={:.2} card=****{}",
            v.hex(14),
            v.unit() * 900.0,
            v.range(1_000, 9_999)
        );
        ("INFO", body, vec![attribute("payment.provider", *v.pick(&["stripe", "adyen", "paypal"]))])
    }),
    (50, |v| {
        let (topic, partition) = (*v.pick(&TOPICS), v.range(0, 23));
        let body = format!(
            "published message to topic {topic} partition={partition} offset={} in {} ms",
            v.range(1, 90_000_000),
            v.milliseconds()
        );
        ("INFO", body, vec![attribute("messaging.system", "kafka")])
    }),
    (60, |v| {
        let method = *v.pick(&["GetProduct", "ListItems", "PlaceOrder", "Convert", "GetQuote"]);
        let (ms, peer, port) = (v.milliseconds(), v.ip(), v.range(30_000, 60_999));
        let body = format!("finished unary call grpc.method={method} grpc.code=OK grpc.time_ms={ms} peer={peer}:{port}");
        ("INFO", body, vec![attribute("rpc.system", "grpc"), attribute("rpc.grpc.status_code", 0i64)])
    }),
    (30, |v| {
        let body = format!(
            "issued access token for user {} scope=openid profile ip={} jti={}",
            v.user(),
            v.public_ip(),
            v.uuid()
        );
        ("INFO", body, vec![attribute("enduser.scope", "openid profile")])
    }),
    (40, |v| {
        let body = format!(
            "retrying upstream call attempt={} backoff_ms={} host={} reason=\"deadline exceeded\"",
            v.range(2, 5),
            v.range(50, 5_000),
            v.ip()
        );
        ("WARN", body, vec![attribute("retry", true)])
    }),
    (20, |v| {
        let body = format!(
            "validation failed field={} value=\"{}\" user={}",
            v.pick(&["zip", "email", "quantity"]),
            v.hex(6),
            v.user()
        );
        ("WARN", body, vec![attribute("http.response.status_code", 422i64)])
    }),
    (20, |v| {
        let body = format!(
            "upstream request timeout after {}s calling http://{}:8080{}",
            v.range(5, 30),
            v.ip(),
            v.pick(&ROUTES)
        );
        ("ERROR", body, vec![attribute("error.type", "timeout")])
    }),
    (8, |v| {
        let body = format!(
            "read tcp {}:{}->{}:5432: read: connection reset by peer",
            v.ip(),
            v.range(30_000, 60_999),
            v.ip()
        );
        ("ERROR", body, vec![attribute("error.type", "ECONNRESET")])
    }),
    (7, |v| {
        let message = format!("java.lang.IllegalStateException: could not process order {}", v.uuid());
        let frames = v.range(8, 22);
        let frames: String = (0..frames)
            .map(|_| {
                format!(
                    "\n\tat com.acme.shop.{}.invoke({}.java:{})",
                    v.pick(&CLASSES),
                    v.pick(&CLASSES),
                    v.range(20, 900)
                )
            })
            .collect();
        let body = format!(
            "{message}{frames}\nCaused by: java.io.IOException: connection reset by peer\n\t... {} more",
            v.range(5, 40)
        );
        ("ERROR", body, vec![attribute("exception.type", "java.lang.IllegalStateException")])
    }),
];

/// Weights per thousand of log records outside traces.
const BACKGROUND: [Template; 8] = [
    (250, |v| {
        let body = format!("health check ok uptime={}s goroutines={}", v.range(1, 9_000_000), v.range(20, 900));
        ("DEBUG", body, vec![attribute("probe", "liveness")])
    }),
    (200, |v| {
        let (before, after, ms) = (v.range(100, 900), v.range(20, 99), v.unit() * 60.0);
        let body = format!("GC pause (G1 Evacuation Pause) (young) {before}M->{after}M(2048M) {ms:.3}ms");
        ("INFO", body, vec![attribute("jvm.gc.name", "G1 Young Generation")])
    }),
    (150, |v| {
        let (active, idle) = (v.range(0, 50), v.range(0, 50));
        let body = format!(
            "connection pool stats active={active} idle={idle} waiting={} max=50 db={}",
            v.range(0, 9),
            v.pick(&TABLES)
        );
        ("INFO", body, vec![attribute("db.pool", "primary")])
    }),
    (170, |v| {
        let (topic, partition) = (*v.pick(&TOPICS), v.range(0, 23));
        let body = format!(
            "consumer group lag topic={topic} partition={partition} lag={} member=consumer-{}",
            v.range(0, 20_000),
            v.hex(8)
        );
        ("INFO", body, vec![attribute("messaging.system", "kafka")])
    }),
    (120, |v| {
        let (service, version) = (v.pick(&SERVICES).0, v.range(0, 40));
        let body = format!("Pulled image \"registry.acme.dev/shop/{service}:2.{version}.1\" digest sha256:{}", v.hex(64));
        ("INFO", body, vec![attribute("k8s.event", "Pulled")])
    }),
    (70, |v| {
        let body = format!(
            "TLS handshake from {}:{} cipher=TLS_AES_128_GCM_SHA256 sni=shop.example.com",
            v.public_ip(),
            v.range(1_024, 65_000)
        );
        ("INFO", body, vec![attribute("tls.version", "1.3")])
    }),
    (37, |v| {
        let used = v.range(80, 97);
        let body = format!("disk usage on /var/lib/data at {used}% ({} GiB of 1024 GiB)", v.range(100, 999));
        ("WARN", body, vec![attribute("device", "nvme0n1")])
    }),
    (3, |v| {
        let body = format!(
            "Out of memory: Killed process {} (java) anon-rss:{}kB",
            v.range(100, 99_999),
            v.range(1_000_000, 4_000_000)
        );
        ("FATAL", body, vec![attribute("oom", true)])
    }),
];

fn path(v: &Values, route: &str) -> String {
    let route = route.replace("{id}", &v.range(1, 500_000).to_string());
    route.replace("{sku}", &v.sku())
}

fn http(v: &Values) -> Made {
    let (method, route, ms) = (*v.pick(&METHODS), *v.pick(&ROUTES), v.milliseconds());
    let status = *v.pick(&[200i64, 200, 200, 200, 200, 201, 204, 301, 304, 404]);
    let (path, bytes, client) = (path(v, route), v.range(120, 90_000), v.public_ip());
    let body = format!("request completed method={method} path={path} status={status} duration_ms={ms} bytes={bytes} client={client}");
    let attributes = vec![
        attribute("http.request.method", method),
        attribute("http.route", route),
        attribute("http.response.status_code", status),
        attribute("duration_ms", ms),
    ];
    ("INFO", body, attributes)
}

fn access(v: &Values) -> Made {
    let (method, route) = (*v.pick(&METHODS), *v.pick(&ROUTES));
    let status = *v.pick(&[200i64, 200, 200, 201, 304, 400, 404]);
    let (path, client, user, bytes) = (path(v, route), v.public_ip(), v.user(), v.range(0, 60_000));
    let body = format!("{client} - {user} \"{method} {path} HTTP/1.1\" {status} {bytes} \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:109.0)\"");
    (
        "INFO",
        body,
        vec![attribute("http.request.method", method), attribute("http.response.status_code", status)],
    )
}

fn order(v: &Values) -> Made {
    let (order, user, total) = (v.uuid(), v.user(), (v.unit() * 90_000.0).round() / 100.0);
    let n_items = v.range(1, 4);
    let items: Vec<_> = (0..n_items).map(|_| serde_json::json!({"sku": v.sku(), "qty": v.range(1, 5)})).collect();
    let body = serde_json::json!({"event": "order_placed", "order_id": order, "user": user, "total": total,
        "currency": v.pick(&["USD", "EUR", "JPY"]), "items": items});
    (
        "INFO",
        body.to_string(),
        vec![attribute("order.id", order), attribute("user.id", user), attribute("order.total", total)],
    )
}

fn draw(v: &Values, templates: &[Template]) -> Made {
    let mut left = v.range(0, i64::from(templates.iter().map(|(weight, _)| weight).sum::<u32>()) - 1);
    for (weight, make) in templates {
        left -= i64::from(*weight);
        if left < 0 {
            return make(v);
        }
    }
    http(v)
}

fn severity_number(text: &str) -> i32 {
    crate::model::severity::number(text).unwrap_or_default()
}

/// A seeded stream of records in order of time, nearly.
#[derive(Debug)]
pub struct Records {
    values: Values,
    pods: Vec<Resource>,
    by_service: Vec<Vec<usize>>,
    now_nanos: i64,
    step_nanos: i64,
    numbered: bool,
    n_logs: u64,
    logs: VecDeque<(usize, LogRecord)>,
    spans: VecDeque<(usize, Span)>,
    requests: i64,
}

impl Records {
    /// Records from `start_nanos` on, a trace and its neighbours every `step_nanos`. With `numbered`, each log record has
    /// its number as the attribute `load.number`.
    pub fn new(seed: u64, start_nanos: i64, step_nanos: i64, numbered: bool) -> Self {
        let values = Values::new(seed);
        let (mut pods, mut by_service) = (Vec::new(), Vec::new());
        for (name, n_pods, language, version) in SERVICES {
            let mut of_service = Vec::new();
            for _ in 0..n_pods {
                of_service.push(pods.len());
                let (pod, host) = (format!("{name}-{}-{}", values.hex(9), values.hex(5)), values.range(4, 250));
                pods.push(resource(vec![
                    attribute("service.name", name),
                    attribute("service.namespace", "shop"),
                    attribute("service.version", version),
                    attribute("service.instance.id", values.uuid()),
                    attribute("deployment.environment.name", "production"),
                    attribute("telemetry.sdk.language", language),
                    attribute("k8s.namespace.name", "shop"),
                    attribute("k8s.pod.name", pod),
                    attribute("host.name", format!("ip-10-0-{}-{host}", values.range(0, 3))),
                    attribute("cloud.region", *values.pick(&REGIONS)),
                ]));
            }
            by_service.push(of_service);
        }
        Self {
            values,
            pods,
            by_service,
            now_nanos: start_nanos,
            step_nanos,
            numbered,
            n_logs: 0,
            logs: VecDeque::new(),
            spans: VecDeque::new(),
            requests: 0,
        }
    }

    /// Whether the next natural batch is of spans: there are more of them waiting, by the ratio in which they arise.
    pub fn spans_wait(&mut self) -> bool {
        if self.logs.is_empty() && self.spans.is_empty() {
            self.more();
        }
        self.spans.len() > self.logs.len()
    }

    /// So many log records, by resource.
    pub fn logs(&mut self, n: usize) -> Vec<(Resource, Vec<LogRecord>)> {
        while self.logs.len() < n {
            self.more();
        }
        let batch: Vec<_> = self.logs.drain(..n).collect();
        self.by_pod(batch)
    }

    /// So many spans, by resource.
    pub fn spans(&mut self, n: usize) -> Vec<(Resource, Vec<Span>)> {
        while self.spans.len() < n {
            self.more();
        }
        let batch: Vec<_> = self.spans.drain(..n).collect();
        self.by_pod(batch)
    }

    /// Throws away spans (and keeps memory flat) when only log records are wanted.
    pub fn drop_spans(&mut self) {
        self.spans.clear();
    }

    /// Throws away log records when only spans are wanted.
    pub fn drop_logs(&mut self) {
        self.logs.clear();
    }

    fn by_pod<T>(&self, batch: Vec<(usize, T)>) -> Vec<(Resource, Vec<T>)> {
        let mut by_pod: BTreeMap<usize, Vec<T>> = BTreeMap::new();
        for (pod, record) in batch {
            by_pod.entry(pod).or_default().push(record);
        }
        by_pod.into_iter().map(|(pod, records)| (self.pods[pod].clone(), records)).collect()
    }

    /// One trace with its log records, and its share of background records.
    fn more(&mut self) {
        self.now_nanos += self.step_nanos;
        let v = &self.values;
        let trace_id = v.bytes::<16>().to_vec();
        let n_spans = v.range(3, 9);
        let duration = (v.milliseconds() * 8e6) as i64;
        let mut parents: Vec<(Vec<u8>, i64, i64)> = Vec::new();
        for index in 0..n_spans {
            let service = if index == 0 { v.range(0, 1) } else { v.range(2, SERVICES.len() as i64 - 1) } as usize;
            let pod = *v.pick(&self.by_service[service]);
            let span_id = v.bytes::<8>().to_vec();
            let parent = (index > 0).then(|| v.pick(&parents).clone());
            let (start, end) = match &parent {
                None => (self.now_nanos, self.now_nanos + duration),
                Some((_, from, to)) => {
                    let start = from + ((to - from) as f64 * v.unit() * 0.5) as i64;
                    (start, start + ((to - start) as f64 * v.unit()) as i64)
                }
            };
            parents.push((span_id.clone(), start, end));
            let mut failed = false;
            for _ in 0..v.range(1, 4) {
                let (severity, body, attributes) = draw(v, &IN_TRACES);
                failed |= severity == "ERROR";
                let time = start + ((end - start) as f64 * v.unit()) as i64;
                let record = log_record(time, severity, body, attributes, Some((&trace_id, &span_id)));
                self.logs.push_back((pod, number(record, self.numbered, &mut self.n_logs, v)));
            }
            let (method, route) = (*v.pick(&METHODS), *v.pick(&ROUTES));
            let span = Span {
                trace_id: trace_id.clone(),
                span_id,
                parent_span_id: parent.map(|(id, _, _)| id).unwrap_or_default(),
                name: format!("{method} {route}"),
                kind: if index == 0 { 2 } else { 3 },
                start_time_unix_nano: start.max(0).unsigned_abs(),
                end_time_unix_nano: end.max(0).unsigned_abs(),
                attributes: vec![
                    attribute("http.request.method", method),
                    attribute("http.route", route),
                    attribute("http.response.status_code", if failed { 500i64 } else { 200 }),
                    attribute("network.peer.address", v.ip()),
                ],
                status: failed.then(|| Status {
                    message: "failed".into(),
                    code: 2,
                }),
                flags: 1,
                ..Span::default()
            };
            self.spans.push_back((pod, span));
        }
        for _ in 0..v.range(3, 8) {
            let pod = v.range(0, self.pods.len() as i64 - 1) as usize;
            let (severity, body, attributes) = draw(v, &BACKGROUND);
            let time = self.now_nanos + (v.unit() * 2e9) as i64;
            let record = log_record(time, severity, body, attributes, None);
            self.logs.push_back((pod, number(record, self.numbered, &mut self.n_logs, v)));
        }
    }

    /// So many metric points, by resource: a counter, a gauge and a histogram in turn.
    pub fn metrics(&mut self, n: usize) -> Vec<(Resource, Vec<Metric>)> {
        let mut by_pod: BTreeMap<usize, Vec<Metric>> = BTreeMap::new();
        self.now_nanos += self.step_nanos;
        let time = self.now_nanos.max(0).unsigned_abs();
        let v = &self.values;
        for index in 0..n {
            let pod = index % self.pods.len();
            let attributes = vec![
                attribute("http.route", ROUTES[index / self.pods.len() % ROUTES.len()]),
                attribute("http.request.method", METHODS[index % 3 * 3]),
            ];
            self.requests += v.range(0, 50);
            let point = |value| NumberDataPoint {
                attributes: attributes.clone(),
                time_unix_nano: time,
                value: Some(value),
                ..NumberDataPoint::default()
            };
            let (name, unit, data) = match index % 3 {
                0 => {
                    let data_points = vec![point(number_data_point::Value::AsInt(self.requests))];
                    let sum = Sum {
                        data_points,
                        aggregation_temporality: 2,
                        is_monotonic: true,
                    };
                    ("http.server.request.count", "{request}", metric::Data::Sum(sum))
                }
                1 => {
                    let data_points = vec![point(number_data_point::Value::AsDouble(v.unit()))];
                    ("process.cpu.utilization", "1", metric::Data::Gauge(Gauge { data_points }))
                }
                _ => {
                    let bucket_counts: Vec<u64> = (0..6).map(|_| v.range(0, 40).unsigned_abs()).collect();
                    let count = bucket_counts.iter().sum();
                    let data_points = vec![HistogramDataPoint {
                        attributes: attributes.clone(),
                        time_unix_nano: time,
                        count,
                        sum: Some(count as f64 * 0.1),
                        bucket_counts,
                        explicit_bounds: vec![0.01, 0.05, 0.1, 0.5, 1.0],
                        ..HistogramDataPoint::default()
                    }];
                    let histogram = Histogram {
                        data_points,
                        aggregation_temporality: 1,
                    };
                    ("http.server.request.duration", "s", metric::Data::Histogram(histogram))
                }
            };
            by_pod.entry(pod).or_default().push(Metric {
                name: name.into(),
                unit: unit.into(),
                data: Some(data),
                ..Metric::default()
            });
        }
        by_pod.into_iter().map(|(pod, metrics)| (self.pods[pod].clone(), metrics)).collect()
    }
}

fn log_record(time: i64, severity: &'static str, body: String, attributes: Vec<KeyValue>, trace: Option<(&[u8], &[u8])>) -> LogRecord {
    let (trace_id, span_id) = trace.unwrap_or_default();
    let time = time.max(0).unsigned_abs();
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 1_000_000,
        severity_number: severity_number(severity),
        severity_text: severity.into(),
        body: Some(any(body)),
        attributes,
        flags: u32::from(!trace_id.is_empty()),
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        ..LogRecord::default()
    }
}

/// Gives a record its number and, to one in 100,000, the rare word.
fn number(mut record: LogRecord, numbered: bool, n_logs: &mut u64, v: &Values) -> LogRecord {
    if *n_logs % 100_000 == 50_000 {
        record.body = Some(any(format!("{RARE} bloom detected in greenhouse {}", v.hex(4))));
    }
    if numbered {
        record.attributes.push(attribute("load.number", *n_logs as i64));
    }
    *n_logs += 1;
    record
}
