//! What happens when a customer clicks: the call tree of each request, with its spans and log lines.
//!
//! Times are the true ones until a span or line is entered; there the host's clock error is added, so a skewed host's
//! children begin before their parents, as they do in life.

use serde_json::{Value, json};

use super::super::otlp::attribute;
use super::services::{CART, CHECKOUT, EMAIL, FRONTEND, INVENTORY, PAYMENT, SEARCH, SERVICES, SHIPPING};
use super::telling::{Frame, Kind, MILLI, log_record, segment, utc};
use super::{Item, Shop};
use crate::model::TraceId;

/// Tries of a charge before checkout gives up.
const MAX_CHARGES: u32 = 3;
/// How long payment waits for the bank.
const BANK_TIMEOUT_MILLIS: i64 = 3_000;

/// When a call ended, and with which status.
#[derive(Clone, Copy)]
struct Done {
    end: i64,
    status: i64,
}

impl Done {
    fn is_ok(self) -> bool {
        self.status < 500
    }
}

impl Shop {
    /// One customer's request at a time.
    pub(super) fn request(&mut self, at: i64) {
        // X-Ray wants the time in front
        let mut id = self.values.bytes::<16>();
        id[..4].copy_from_slice(&((at / 1_000_000_000) as u32).to_be_bytes());
        let Some(trace) = TraceId::from_bytes(&id) else {
            return;
        };
        match self.values.range(0, 99) {
            0..=54 => self.browse(trace, at),
            55..=79 => self.fill_cart(trace, at),
            80..=95 => self.order(trace, at),
            _ => self.miss(trace, at),
        }
        if self.values.chance(0.08) {
            self.chatter(at);
        }
    }

    fn browse(&mut self, trace: TraceId, at: i64) {
        let mut page = self.enter(trace, FRONTEND, None, Kind::Server, "GET /products", at);
        let product = self.values.product();
        let call = self.enter_client(&page, "GET search", "search", at + self.values.around(1.5));
        let mut search = self.enter(
            trace,
            SEARCH,
            Some(call.id),
            Kind::Server,
            "GET /v1/search",
            call.start + self.values.around(0.4),
        );
        search.set("http.request.method", "GET");
        search.set("http.route", "/v1/search");
        let queried = self.database(&mut search, "postgresql", "SELECT products", 9.0);
        let n_hits = self.values.range(0, 240);
        let millis = (queried - search.start) / MILLI;
        let body = format!("query=\"{product}\" hits={n_hits} took={millis}ms index=products-v7");
        self.log(&search, queried, "INFO", body, vec![attribute("search.hits", n_hits)]);
        if self.values.chance(0.03) {
            let body = format!("slow query on index products-v7: {} segments, consider merging", self.values.range(30, 90));
            self.log(&search, queried, "WARN", body, vec![]);
        }
        let end = queried + self.values.around(1.0);
        self.served(search, end, "/v1/search", 200);
        self.leave(call, end + self.values.around(0.4));
        self.respond(&mut page, "GET", "/products", 200, end + self.values.around(4.0));
        let end = end + self.values.around(5.0);
        self.served(page, end, "/products", 200);
    }

    fn fill_cart(&mut self, trace: TraceId, at: i64) {
        let mut page = self.enter(trace, FRONTEND, None, Kind::Server, "POST /cart", at);
        let (sku, quantity) = (self.values.sku(), self.values.range(1, 5));
        let mut now = at + self.values.around(1.2);
        if self.values.chance(0.02) {
            // the first try meets a connection that the peer has closed
            let mut lost = self.enter_client(&page, "POST cart", "cart", now);
            now += self.values.around(2.0);
            lost.error = Some("read ECONNRESET".into());
            self.log(
                &lost,
                now,
                "WARN",
                "POST http://cart:8080/v1/items failed: read ECONNRESET, retrying (1 of 2)".into(),
                vec![],
            );
            self.leave(lost, now);
            now += self.values.around(50.0);
        }
        let call = self.enter_client(&page, "POST cart", "cart", now);
        let mut cart = self.enter(trace, CART, Some(call.id), Kind::Server, "POST /v1/items", now + self.values.around(0.5));
        cart.set("http.request.method", "POST");
        cart.set("http.route", "/v1/items");
        let stock = self.stock(&cart, "GET /v1/stock", &sku, quantity);
        let written = self.call_database(&mut cart, "redis", "HSET cart", stock.end, 1.2);
        let cart_id = self.values.uuid();
        let body = json!({"event": "item_added", "cart": cart_id, "sku": sku, "quantity": quantity, "user": self.values.user()});
        self.log(&cart, written, "INFO", body.to_string(), vec![attribute("cart.id", cart_id)]);
        let end = written + self.values.around(0.6);
        self.served(cart, end, "/v1/items", 201);
        self.leave(call, end + self.values.around(0.4));
        self.respond(&mut page, "POST", "/cart", 201, end + self.values.around(2.0));
        let end = end + self.values.around(2.5);
        self.served(page, end, "/cart", 201);
    }

    fn order(&mut self, trace: TraceId, at: i64) {
        let mut page = self.enter(trace, FRONTEND, None, Kind::Server, "POST /checkout", at);
        let call = self.enter_client(&page, "POST checkout", "checkout", at + self.values.around(1.5));
        let mut checkout = self.enter(
            trace,
            CHECKOUT,
            Some(call.id),
            Kind::Server,
            "POST /v1/orders",
            call.start + self.values.around(0.5),
        );
        checkout.set("http.request.method", "POST");
        checkout.set("http.route", "/v1/orders");
        let (order, user) = (self.values.uuid(), self.values.user());
        let amount = (self.values.unit() * 40_000.0).round() / 100.0 + 5.0;
        checkout.set("order.id", order.clone());
        checkout.set("order.total", amount);
        let body = format!("order received order_id={order} user={user} total={amount:.2} currency=EUR");
        self.log(&checkout, checkout.start, "INFO", body, vec![attribute("order.id", order.clone())]);
        let sku = self.values.sku();
        let reserved = self.stock(&checkout, "POST /v1/reservations", &sku, 1);
        let charged = self.charge_patiently(&mut checkout, &order, amount, reserved.end + self.values.around(0.8));
        let (end, status) = if charged.is_ok() {
            let quoted = self.ship(&checkout, &order, charged.end + self.values.around(0.6));
            let stored = self.call_database(&mut checkout, "postgresql", "INSERT orders", quoted, 3.0);
            self.send_email(&checkout, &order, &user, stored);
            let body = format!("order placed order_id={order} in {} ms", (stored - checkout.start) / MILLI);
            self.log(&checkout, stored, "INFO", body, vec![attribute("order.id", order.clone())]);
            (stored + self.values.around(1.0), 201)
        } else {
            let body = format!("order failed order_id={order} user={user}: payment unavailable after {MAX_CHARGES} attempts");
            self.log(
                &checkout,
                charged.end,
                "ERROR",
                body,
                vec![attribute("order.id", order.clone()), attribute("error.type", "payment_unavailable")],
            );
            checkout.error = Some("payment unavailable".into());
            (charged.end + self.values.around(1.0), 502)
        };
        self.served(checkout, end, "/v1/orders", status);
        let mut call = call;
        if status >= 500 {
            call.error = Some("HTTP 502".into());
            page.error = Some("checkout answered 502".into());
        }
        self.leave(call, end + self.values.around(0.4));
        self.respond(&mut page, "POST", "/checkout", status, end + self.values.around(3.0));
        let end = end + self.values.around(3.5);
        self.served(page, end, "/checkout", status);
    }

    /// A page that does not exist: one span, one line.
    fn miss(&mut self, trace: TraceId, at: i64) {
        let mut page = self.enter(trace, FRONTEND, None, Kind::Server, "GET", at);
        let end = at + self.values.around(1.0);
        self.respond(&mut page, "GET", "/wp-login.php", 404, end);
        self.served(page, end, "/*", 404);
    }

    /// Charges with retries, as checkout does.
    fn charge_patiently(&mut self, checkout: &mut Frame, order: &str, amount: f64, at: i64) -> Done {
        let mut now = at;
        for attempt in 1..=MAX_CHARGES {
            let mut call = self.enter_client(checkout, "POST payment", "payment", now);
            call.set("http.request.resend_count", i64::from(attempt - 1));
            let charged = self.charge(&call, order, amount);
            let end = charged.end + self.values.around(0.5);
            if charged.is_ok() {
                self.leave(call, end);
                return Done { end, status: 200 };
            }
            call.error = Some(format!("HTTP {}", charged.status));
            self.leave(call, end);
            if attempt < MAX_CHARGES {
                let wait = 100 << attempt;
                let body = format!(
                    "payment answered {} for order {order}, retrying in {wait} ms (attempt {attempt} of {MAX_CHARGES})",
                    charged.status
                );
                self.log(checkout, end, "WARN", body, vec![attribute("retry.attempt", i64::from(attempt))]);
                now = end + wait * MILLI;
            } else {
                now = end;
            }
        }
        Done { end: now, status: 502 }
    }

    /// One charge: payment and the bank behind it.
    fn charge(&mut self, call: &Frame, order: &str, amount: f64) -> Done {
        let mut payment = self.enter(
            call.trace,
            PAYMENT,
            Some(call.id),
            Kind::Server,
            "POST /v1/charges",
            call.start + self.values.around(0.5),
        );
        payment.set("http.request.method", "POST");
        payment.set("http.route", "/v1/charges");
        payment.set("payment.provider", "bank");
        let mut bank = self.enter_client(&payment, "POST bank.example.com", "bank.example.com", payment.start + self.values.around(2.0));
        let is_incident = self.is_incident(bank.start);
        let takes = self.values.around(if is_incident { 1_900.0 } else { 45.0 }).min(BANK_TIMEOUT_MILLIS * MILLI);
        let times_out = takes == BANK_TIMEOUT_MILLIS * MILLI;
        let fails = times_out || self.values.chance(if is_incident { 0.65 } else { 0.002 });
        let answered = bank.start + takes;
        let fields = [
            ("orderId", Value::from(order)),
            ("amount", Value::from(amount)),
            ("currency", Value::from("EUR")),
        ];
        if !fails {
            self.leave(bank, answered);
            let payment_id = format!("pay_{}", self.values.hex(14));
            let message = format!("charge accepted {payment_id}");
            self.log_json(&payment, answered, "INFO", "c.s.payment.ChargeService", &message, &fields);
            let end = answered + self.values.around(1.5);
            self.leave(payment, end);
            return Done { end, status: 200 };
        }
        let (exception, message) = if times_out {
            (
                "java.net.SocketTimeoutException",
                format!("Read timed out after {BANK_TIMEOUT_MILLIS} ms: bank.example.com"),
            )
        } else {
            (
                "com.shop.payment.BankUnavailableException",
                "bank.example.com answered 503: upstream connect error".to_string(),
            )
        };
        bank.error = Some(message.clone());
        self.leave(bank, answered);
        let stack = self.java_stack(exception, &message);
        self.log_stack(&payment, answered, &format!("charge failed for order {order}: {message}"), &stack);
        self.log_json(
            &payment,
            answered + MILLI,
            "ERROR",
            "c.s.payment.ChargeService",
            &format!("charge failed: {message}"),
            &fields,
        );
        payment.error = Some(message.clone());
        payment.exception = Some((exception.into(), message, stack));
        payment.set("http.response.status_code", 503i64);
        let end = answered + self.values.around(2.0);
        self.leave(payment, end);
        Done { end, status: 503 }
    }

    /// Inventory, called by cart and checkout.
    fn stock(&mut self, caller: &Frame, name: &'static str, sku: &str, quantity: i64) -> Done {
        let call = self.enter_client(caller, "inventory", "inventory", caller.start + self.values.around(0.8));
        let mut inventory = self.enter(caller.trace, INVENTORY, Some(call.id), Kind::Server, name, call.start + self.values.around(0.6));
        inventory.set("http.request.method", name.split(' ').next().unwrap_or("GET"));
        inventory.set("url.path", name.split(' ').nth(1).unwrap_or("/"));
        let read = self.database(&mut inventory, "dynamodb", "GetItem stock", 5.0);
        let left = self.values.range(0, 400);
        let body = format!("stock checked sku={sku} wanted={quantity} left={left}");
        self.log(&inventory, read, "INFO", body, vec![]);
        if left < 10 {
            self.log(&inventory, read, "WARN", format!("stock is low sku={sku} left={left} threshold=10"), vec![]);
        }
        let end = read + self.values.around(0.8);
        self.leave(inventory, end);
        let end = end + self.values.around(0.5);
        self.leave(call, end);
        Done { end, status: 200 }
    }

    /// The shipping function, invoked and waited for.
    fn ship(&mut self, checkout: &Frame, order: &str, at: i64) -> i64 {
        let call = self.enter_client(checkout, "Invoke shipping", "lambda.eu-west-1.amazonaws.com", at);
        let weight = self.values.range(100, 9_000);
        let lines = vec![
            ("INFO", format!("[INFO]\tquote for order {order}: {weight} g, zone {}", self.values.range(1, 5))),
            ("INFO", format!("[INFO]\tcarrier chosen: {}", self.values.pick(&["DHL", "UPS", "GLS", "Post"]))),
        ];
        let end = self.invoke(SHIPPING, &call, call.start + self.values.around(6.0), 35.0, lines);
        let end = end + self.values.around(4.0);
        self.leave(call, end);
        end
    }

    /// The confirmation, sent by a function that a queue invokes some time later.
    fn send_email(&mut self, checkout: &Frame, order: &str, user: &str, at: i64) {
        let mut queue = self.start(
            checkout.trace,
            checkout.service,
            checkout.host,
            Some(checkout.id),
            Kind::Producer,
            "send email-outbound",
            at,
        );
        queue.set("messaging.system", "aws_sqs");
        queue.set("messaging.destination.name", "email-outbound");
        let template = "order_confirmation";
        let mut lines = vec![("INFO", format!("INFO\trendering template {template} for {user} order={order}"))];
        if self.values.chance(0.04) {
            lines.push(("WARN", "WARN\tSMTP greylisted by mx.example.com, will be tried again in 1 s".to_string()));
        }
        lines.push((
            "INFO",
            format!("INFO\tmessage accepted by mx.example.com id=<{}@mail.shop.example>", self.values.hex(20)),
        ));
        let begins = at + self.values.around(180.0);
        self.invoke(EMAIL, &queue, begins, 90.0, lines);
        self.leave(queue, at + self.values.around(3.0));
    }

    /// One run of a Lambda function: its platform lines around its own, and its segment.
    fn invoke(&mut self, service: usize, caller: &Frame, at: i64, median_millis: f64, lines: Vec<(&'static str, String)>) -> i64 {
        let mut function = self.enter(caller.trace, service, Some(caller.id), Kind::Server, SERVICES[service].name, at);
        let request_id = self.values.uuid();
        function.set("aws.request_id", request_id.clone());
        let is_cold = self.values.chance(0.03);
        if is_cold {
            self.event(
                &function,
                at - 240 * MILLI,
                format!(
                    "INIT_START Runtime Version: python:3.13.v14\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:{}",
                    self.values.hex(32)
                ),
            );
        }
        self.event(&function, at, format!("START RequestId: {request_id} Version: $LATEST"));
        let mut now = at;
        for (_, line) in lines {
            now += self.values.around(median_millis / 4.0);
            let time = utc(now, "%Y-%m-%dT%H:%M:%S%.3fZ");
            let (level, text) = line.split_once('\t').unwrap_or(("INFO", &line));
            // Python's runtime puts the level first, Node's the time
            let line = if level.starts_with('[') {
                format!("{level}\t{time}\t{request_id}\t{text}\n")
            } else {
                format!("{time}\t{request_id}\t{level}\t{text}\n")
            };
            self.event(&function, now, line);
        }
        let end = now + self.values.around(median_millis / 4.0);
        let millis = (end - at) as f64 / 1e6;
        let init = if is_cold {
            format!("Init Duration: {:.2} ms\t", 180.0 + self.values.unit() * 200.0)
        } else {
            String::new()
        };
        self.event(&function, end, format!("END RequestId: {request_id}"));
        let report = format!(
            "REPORT RequestId: {request_id}\tDuration: {millis:.2} ms\tBilled Duration: {} ms\tMemory Size: 256 MB\tMax Memory Used: {} MB\t{init}\n\
             XRAY TraceId: {}\tSegmentId: {}\tSampled: true\t",
            millis.ceil(),
            self.values.range(70, 140),
            function.trace.to_xray(),
            function.id
        );
        self.event(&function, end, report);
        if service == EMAIL && self.values.chance(0.2) {
            // the daemon hears of it when it begins, and again when it ends
            let document = segment(&function, None);
            self.at(at, Item::Segment(document.to_string()));
        }
        self.leave(function, end);
        end
    }

    /// Lines that belong to no request.
    fn chatter(&mut self, at: i64) {
        let service = *self.values.pick(&[FRONTEND, SEARCH, CART, CHECKOUT]);
        let (severity, body) = match self.values.range(0, 3) {
            0 => (
                "DEBUG",
                format!(
                    "health check ok uptime={}s goroutines={}",
                    self.values.range(1, 900_000),
                    self.values.range(20, 300)
                ),
            ),
            1 => (
                "INFO",
                format!(
                    "connection pool stats active={} idle={} waiting=0 max=50",
                    self.values.range(0, 20),
                    self.values.range(0, 30)
                ),
            ),
            2 => (
                "INFO",
                format!(
                    "GC pause (G1 Evacuation Pause) (young) {}M->{}M(2048M) {:.3}ms",
                    self.values.range(100, 900),
                    self.values.range(20, 99),
                    self.values.unit() * 30.0
                ),
            ),
            _ => ("WARN", format!("disk usage on /var/lib/data at {}%", self.values.range(80, 93))),
        };
        let host = self.values.range(0, SERVICES[service].hosts.len() as i64 - 1) as usize;
        let record = log_record(at + SERVICES[service].hosts[host].1 * MILLI, severity, body, vec![], None);
        self.at(at, Item::Log { service, host, record });
    }
}
