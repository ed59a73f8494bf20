use serde_json::json;

use super::super::corpus::{SEGMENT, SUBSEGMENT, Span, corpus, table, trace};
use super::*;
use crate::query::xray::documents::documents;

#[test]
fn expressions_let_through_what_the_table_says() {
    let corpus = corpus();
    let facts: Vec<TraceFacts<'_>> = corpus.iter().map(TraceFacts::of).collect();
    let (mut n_rows, mut wrong) = (0, Vec::new());
    for (expected, text, expression) in table() {
        n_rows += 1;
        let found = facts.iter().zip(1..).filter(|(facts, _)| expression.holds(facts)).map(|(_, n)| n.to_string());
        let found = found.collect::<Vec<_>>().join(" ");
        if found != expected {
            wrong.push(format!("{text}: {found}, and should be {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(n_rows >= 120, "{n_rows} rows");
}

#[test]
fn a_summary_says_what_the_api_says_of_a_trace() {
    let corpus = corpus();
    let summary = |n: usize| TraceFacts::of(&corpus[n - 1]).summary();
    let first = summary(1);
    assert_eq!(first["Id"], "1-01010101-010101010101010101010101");
    assert_eq!((&first["Duration"], &first["ResponseTime"]), (&json!(0.5), &json!(0.5)));
    assert_eq!(
        first["EntryPoint"],
        json!({"Name": "api", "Names": ["api"], "Type": "AWS::ECS::Container", "AccountId": "123456789012"})
    );
    assert_eq!(first["ServiceIds"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        first["Http"],
        json!({"HttpURL": "http://shop.example/cart?x=1", "HttpMethod": "GET", "UserAgent": "curl/8.1", "ClientIp": "10.0.0.9", "HttpStatus": 200})
    );
    assert_eq!(first["Annotations"]["items"][0]["AnnotationValue"], json!({"NumberValue": 5.0}));
    assert_eq!(first["Annotations"]["vip"][0]["AnnotationValue"], json!({"BooleanValue": true}));
    assert_eq!(first["Users"][0]["UserName"], "alice");
    assert_eq!(first["AvailabilityZones"], json!([{"Name": "eu-west-1a"}]));
    assert_eq!(first["FaultRootCauses"], json!([]));
    let cause = |n: usize, kind: &str| summary(n)[kind][0].clone();
    assert_eq!(
        cause(2, "FaultRootCauses"),
        json!({"ClientImpacting": true, "Services": [
            {"Name": "api", "Names": ["api"], "Type": "AWS::ECS::Container", "Inferred": false, "EntityPath": [
                {"Name": "api", "Remote": false, "Exceptions": []},
                {"Name": "checkout", "Remote": true, "Exceptions": []},
            ]},
            {"Name": "checkout", "Names": ["checkout"], "Type": "AWS::EC2::Instance", "Inferred": false, "EntityPath": [
                {"Name": "checkout", "Remote": false, "Exceptions": [{"Name": "CardError", "Message": "card declined"}]},
            ]},
        ]})
    );
    assert_eq!(cause(8, "FaultRootCauses")["ClientImpacting"], json!(false));
    let slow = cause(4, "ResponseTimeRootCauses");
    assert_eq!(
        slow["Services"][0]["EntityPath"][1],
        json!({"Name": "SQS", "Remote": true, "Coverage": 800.0 / 900.0})
    );
    assert_eq!((&slow["Services"][1]["Name"], &slow["Services"][1]["Inferred"]), (&json!("jobs"), &json!(true)));
    assert_eq!(summary(6)["ResponseTimeRootCauses"], json!([]), "it goes on");
    assert_eq!(summary(2)["InstanceIds"], json!([{"Id": "i-0abc"}]));
    let flags = |n: usize| ["HasError", "HasFault", "HasThrottle", "IsPartial"].map(|flag| summary(n)[flag] == json!(true));
    assert_eq!(flags(1), [false; 4]);
    assert_eq!(flags(2), [false, true, false, false]);
    assert_eq!(flags(3), [true, false, false, false]);
    assert_eq!(flags(4), [false, false, true, false], "a throttle counts wherever it is, an error at the root");
    assert_eq!(flags(6), [false, false, false, true]);
    assert!(summary(6).get("ResponseTime").is_none());
    let mut cut = corpus[0].clone();
    cut.coverage.complete = false;
    assert_eq!(
        TraceFacts::of(&cut).summary()["IsPartial"],
        json!(true),
        "a trace of which an answer holds only a part says so"
    );
}

/// The documents of a trace, read back.
fn bodies(trace: &crate::query::Trace) -> Vec<serde_json::Value> {
    let texts = documents(&TraceFacts::of(trace)).into_iter();
    texts.map(|document| serde_json::from_str(&document.text).expect("JSON")).collect()
}

#[test]
fn spans_of_any_protocol_are_documents() {
    let corpus = corpus();
    let of = |n: usize| bodies(&corpus[n - 1]);
    let first = of(1);
    assert_eq!(first.len(), 1);
    let body = &first[0];
    assert_eq!(body["trace_id"], "1-01010101-010101010101010101010101");
    assert_eq!(body["annotations"], json!({"tenant": "a", "items": 5, "vip": true, "shop.id": 7}));
    assert_eq!(body["http"]["request"]["method"], "GET");
    assert_eq!(body["http"]["response"], json!({"status": 200}));
    assert_eq!(body["subsegments"][0]["namespace"], "aws");
    assert_eq!(body["subsegments"][0]["aws"], json!({"table_name": "orders"}));
    assert!(body.get("metadata").is_none(), "{body}");
    let second = of(2);
    assert_eq!(
        second.iter().map(|document| document["name"].as_str()).collect::<Vec<_>>(),
        [Some("api"), Some("checkout")]
    );
    assert_eq!(second[1]["parent_id"], second[0]["subsegments"][0]["id"]);
    assert_eq!(second[1]["cause"]["exceptions"][0], json!({"type": "CardError", "message": "card declined"}));
    let fifth = of(5);
    let select = &fifth[0]["subsegments"][0]["subsegments"][0];
    assert_eq!(
        select["sql"],
        json!({"database_type": "postgresql", "url": "SELECT shop", "connection_string": "localhost/shop"})
    );
    assert_eq!(select["name"], "shop@db1", "an inferred database has the name of the call");
    assert_eq!(select["metadata"]["default"], json!({"server.address": "db1", "otel.span.name": "SELECT shop"}));
    assert_eq!(fifth[0]["origin"], "AWS::EKS::Container");
    assert_eq!(
        fifth[0]["metadata"]["default"],
        json!({"otel.resource.service.name": "frontend", "otel.resource.cloud.platform": "aws_eks", "otel.span.name": "GET /list"})
    );
    assert_eq!(fifth[0]["subsegments"][0]["name"], "render");
    assert!(fifth[0]["subsegments"][0].get("metadata").is_none(), "the resource stands in the segment alone");
    assert_eq!(of(6)[0]["in_progress"], json!(true));
}

#[test]
fn a_call_in_no_segment_is_a_segment_and_a_subsegment() {
    let job = |parent: u64| {
        Span::new(2, parent, "SELECT shop", "CLIENT", "nightly", (0, 40))
            .of(&[("cloud.platform", "aws_ecs"), ("service.version", "7b")])
            .with(&[
                ("db.system.name", "postgresql"),
                ("db.namespace", "shop"),
                ("server.address", "db1"),
                ("http.response.status_code", "503"),
                ("tenant", "a"),
                ("enduser.id", "alice"),
                ("aws.xray.annotations", r#"["tenant"]"#),
            ])
            .raised("OperationalError", "timeout")
    };
    let alone = trace(12, vec![job(0), Span::new(3, 2, "wait", "INTERNAL", "nightly", (1, 30))]);
    let told = bodies(&alone);
    assert_eq!(told.len(), 1, "{told:?}");
    let (segment, call) = (&told[0], &told[0]["subsegments"][0]);
    assert_eq!((&segment["name"], &segment["trace_id"]), (&json!("nightly"), &json!(alone.trace_id.to_xray())));
    assert_eq!(
        (&segment["origin"], &segment["service"]["version"]),
        (&json!("AWS::ECS::Container"), &json!("7b"))
    );
    assert_eq!(
        (&segment["fault"], &segment["start_time"], &segment["end_time"]),
        (&json!(true), &call["start_time"], &call["end_time"])
    );
    assert_eq!((&segment["annotations"], &segment["user"]), (&json!({"tenant": "a"}), &json!("alice")));
    assert_eq!(
        segment["metadata"]["default"],
        json!({"otel.resource.service.name": "nightly", "otel.resource.cloud.platform": "aws_ecs", "otel.resource.service.version": "7b"})
    );
    for member in ["sql", "http", "parent_id", "namespace", "type", "links"] {
        assert!(segment.get(member).is_none(), "{member}: {segment}");
    }
    assert_eq!(
        (&call["id"], &call["name"], &call["namespace"]),
        (&json!("0000000000000002"), &json!("shop@db1"), &json!("remote"))
    );
    assert_eq!(
        call["sql"],
        json!({"database_type": "postgresql", "url": "SELECT shop", "connection_string": "localhost/shop"})
    );
    assert_eq!((&call["annotations"], &call["fault"]), (&json!({"tenant": "a"}), &json!(true)));
    assert_eq!(call["subsegments"][0]["name"], "wait", "what it did is below the call");
    // the segment's ID is its own, and the same whenever it is asked for
    let id = segment["id"].as_str().expect("an ID");
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id != "0000000000000002");
    assert_eq!(documents(&TraceFacts::of(&alone)), documents(&TraceFacts::of(&alone)));
    assert_eq!(documents(&TraceFacts::of(&alone))[0].id, id);
    // a parent that is not here is the segment's
    let orphan = bodies(&trace(13, vec![job(9)]));
    assert_eq!((&orphan[0]["parent_id"], &orphan[0]["name"]), (&json!("0000000000000009"), &json!("nightly")));
    assert_ne!(orphan[0]["id"], segment["id"], "of another trace");

    let facts = TraceFacts::of(&alone);
    let names: Vec<&str> = facts.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["nightly", "shop@db1"]);
    assert_eq!(
        facts.summary()["FaultRootCauses"][0]["Services"],
        json!([
            {"Name": "nightly", "Names": ["nightly"], "Type": "AWS::ECS::Container", "Inferred": false, "EntityPath": [
                {"Name": "nightly", "Remote": false, "Exceptions": []},
                {"Name": "SELECT shop", "Remote": true, "Exceptions": [{"Name": "OperationalError", "Message": "timeout"}]},
            ]},
            {"Name": "shop@db1", "Names": ["shop@db1"], "Type": "Database::postgresql", "Inferred": true, "EntityPath": [
                {"Name": "shop@db1", "Remote": false, "Exceptions": []},
            ]},
        ])
    );
    for (expression, expected) in [
        ("service(\"shop@db1\") { inferred AND fault }", true),
        ("edge(\"nightly\", \"shop@db1\") { responsetime = 0.04 }", true),
        ("service(\"nightly\") { root AND !inferred }", true),
        ("service(id(name: \"nightly\", type: \"client\"))", false),
    ] {
        assert_eq!(Expression::parse(expression).expect(expression).holds(&facts), expected, "{expression}");
    }
    // its name alone is no service
    let of_nobody = trace(16, vec![Span::new(2, 0, "GET /cart", "CLIENT", "nightly", (0, 5))]);
    assert_eq!(TraceFacts::of(&of_nobody).services.len(), 1);
    // what came as an X-Ray document is what it says: a subsegment whose segment is not here has no known caller
    let of_xray = trace(14, vec![Span::new(2, 1, "pay.example", "CLIENT", "pay.example", (0, 5)).with(&[SUBSEGMENT])]);
    assert!(TraceFacts::of(&of_xray).segments.iter().all(|segment| !segment.is_inferred));
}

#[test]
fn documents_around_calls_are_of_bounded_size_too() {
    use crate::query::xray::documents::{MAX_DEPTH, MAX_NODES};
    fn depth_and_nodes(document: &serde_json::Value) -> (usize, usize) {
        let below = document["subsegments"].as_array().into_iter().flatten().map(depth_and_nodes);
        below.fold((0, 0), |(depth, nodes), (d, n)| (depth.max(d + 1), nodes + n + 1))
    }
    for parent_of in [|n: u64| n - 1, |n: u64| u64::from(n > 1)] {
        let spans = (1..=3_000).map(|n| Span::new(n, parent_of(n), "step", if n == 1 { "CLIENT" } else { "INTERNAL" }, "job", (n as i64, 1)));
        for body in bodies(&trace(15, spans.collect())) {
            let (depth, nodes) = depth_and_nodes(&body);
            assert!(depth <= MAX_DEPTH && nodes <= MAX_NODES, "{depth} levels, {nodes} subsegments");
        }
    }
}

#[test]
fn what_a_document_has_no_member_for_is_metadata() {
    let python = "Traceback (most recent call last):\n  File \"pay.py\", line 7, in pay\nCardError: declined";
    let mut call = Span::new(2, 1, "charge", "CLIENT", "api", (0, 5)).raised("CardError", "declined").with(&[
        ("db.system", "postgresql"),
        ("db.name", "shop"),
        ("db.operation.name", "SELECT"),
        ("db.collection.name", "orders"),
    ]);
    call.0.events[0].attributes.push(("exception.stacktrace".into(), python.into()));
    let root = Span::new(1, 0, "api", "SERVER", "api", (0, 9)).with(&[
        ("url.full", "https://shop/pay?x=1"),
        ("url.path", "/pay"),
        ("db.namespace", "not of a call to a database"),
        ("aws.xray.metadata.default", "5"),
    ]);
    let told = bodies(&trace(11, vec![root, call]));
    let root = &told[0];
    assert_eq!(root["http"]["request"]["url"], "https://shop/pay?x=1");
    assert_eq!(
        root["metadata"],
        json!({"default": 5, "attributes": {
            "url.path": "/pay", "db.namespace": "not of a call to a database", "otel.resource.service.name": "api"
        }})
    );
    let call = &root["subsegments"][0];
    assert_eq!(
        call["sql"],
        json!({"database_type": "postgresql", "url": "charge", "connection_string": "localhost/shop"})
    );
    let rest = json!({"db.operation.name": "SELECT", "db.collection.name": "orders", "exception.stacktrace": python, "otel.span.name": "charge"});
    assert_eq!(call["metadata"]["default"], rest);
}

#[test]
fn annotations_whose_keys_become_the_same_are_all_told() {
    let attributes = [
        ("a b", "1"),
        ("a-b", "2"),
        ("a_b", "3"),
        ("a_b_2", "4"),
        ("a/b", "5"),
        ("aws.xray.annotations", r#"["a/b","a b","a-b","a_b","a b","a_b_2"]"#),
    ];
    let told = |reversed: bool| {
        let mut attributes = attributes.to_vec();
        if reversed {
            attributes.reverse();
        }
        let root = trace(25, vec![Span::new(1, 0, "GET /", "SERVER", "api", (0, 5)).with(&attributes)]);
        bodies(&root)[0]["annotations"].clone()
    };
    let expected = json!({"a_b": 3, "a_b_2": 4, "a_b_3": 1, "a_b_4": 2, "a_b_5": 5});
    assert_eq!((told(false), told(true)), (expected.clone(), expected));
}

#[test]
fn a_text_that_reads_as_a_number_stays_a_text() {
    let attributes = [
        ("order-id", "12345"),
        ("vip", "true"),
        ("items", "5"),
        ("unlisted", "7"),
        ("aws.xray.annotations", r#"["order-id","vip","items"]"#),
        ("aws.xray.annotations.text", r#"["order-id","vip"]"#),
    ];
    let otel = trace(21, vec![Span::new(1, 0, "GET /", "SERVER", "api", (0, 5)).with(&attributes)]);
    let root = &bodies(&otel)[0];
    assert_eq!(root["annotations"], json!({"order_id": "12345", "vip": "true", "items": 5}));
    assert_eq!(root["metadata"]["default"]["unlisted"], 7);
    let xray = trace(22, vec![Span::new(1, 0, "api", "SERVER", "api", (0, 5)).with(&attributes).with(&[SEGMENT])]);
    assert_eq!(bodies(&xray)[0]["annotations"], json!({"order-id": "12345", "vip": "true", "items": 5}));
    let of_xray = TraceFacts::of(&xray);
    let asked = Expression::parse("annotation.order_id = \"12345\"").expect("an expression");
    assert!(!asked.holds(&of_xray), "a document's keys are as they are");
    assert!(of_xray.summary()["Annotations"].get("order-id").is_some());
    let facts = TraceFacts::of(&otel);
    let summary = facts.summary();
    let value = |key: &str| summary["Annotations"][key][0]["AnnotationValue"].clone();
    assert_eq!(value("order_id"), json!({"StringValue": "12345"}), "as the document has it");
    assert_eq!(value("vip"), json!({"StringValue": "true"}));
    assert_eq!(value("items"), json!({"NumberValue": 5.0}));
    for (expression, expected) in [
        ("annotation[order-id] = \"12345\"", true),
        ("annotation[order-id] BEGINSWITH \"12\"", true),
        ("annotation.order_id = \"12345\"", true),
        ("annotation[\"order id\"] = \"12345\"", false),
        ("annotation[order-id] = 12345", false),
        ("annotation[order-id] > 5", false),
        ("annotation.vip = true", false),
        ("annotation.vip = \"true\"", true),
        ("annotation.items = 5", true),
        ("annotation.items >= 5", true),
    ] {
        assert_eq!(Expression::parse(expression).expect(expression).holds(&facts), expected, "{expression}");
    }
}

#[test]
fn a_document_has_the_very_texts_that_were_sent() {
    let listed = [
        ("release", "1.10"),
        ("card", "123456789012345678901234"),
        ("exp", "1e3"),
        ("big", "9007199254740993"),
        ("j", r#"{"b": 1}"#),
        ("list", r#"["b",1]"#),
        ("n", "5"),
        ("aws.service", "DynamoDB"),
        ("aws.request_id", "12345678"),
        ("aws.account_id", "123456789012"),
        ("aws.table_name", "42"),
        ("aws.xray.retries", "3"),
        ("price", "1.10"),
        ("aws.xray.annotations", r#"["price"]"#),
    ];
    let root = Span::new(1, 0, "api", "SERVER", "api", (0, 9)).of(&[("service.version", "7"), ("cloud.account.id", "123456789012")]);
    let told = bodies(&trace(31, vec![root, Span::new(2, 1, "get", "CLIENT", "api", (0, 5)).with(&listed)]));
    let call = &told[0]["subsegments"][0];
    assert_eq!(
        call["metadata"]["default"],
        json!({
            "release": "1.10", "card": "123456789012345678901234", "exp": "1e3", "big": "9007199254740993", "j": r#"{"b": 1}"#,
            "list": ["b", 1], "n": 5, "otel.span.name": "get",
        })
    );
    assert_eq!(
        call["aws"],
        json!({"request_id": "12345678", "account_id": "123456789012", "table_name": "42", "retries": 3})
    );
    assert_eq!(
        call["annotations"],
        json!({"price": "1.10"}),
        "a list that is text itself says nothing of types"
    );
    let of_resource = &told[0]["metadata"]["default"];
    assert_eq!(
        (&of_resource["otel.resource.service.version"], &of_resource["otel.resource.cloud.account.id"]),
        (&json!("7"), &json!("123456789012"))
    );
}

#[test]
fn what_a_span_failed_with_is_its_cause() {
    let call = |id: u64| Span::new(id, 1, "S3.GetObject", "CLIENT", "api", (id as i64, 5));
    let told_by_status = call(2).failed("Access to bucket denied");
    let mut raised = call(3).failed("told by its exceptions").raised("A", "one").raised("B", "two");
    raised.0.events.push(crate::query::SpanEventHit {
        time_unix_nano: super::super::corpus::START,
        name: Some("cache miss".into()),
        attributes: vec![("key".into(), "1.10".into())],
    });
    let (silent, mut fine) = (call(4).failed(""), call(5));
    fine.0.status_message = Some("no failure".into());
    let of_xray = call(6).failed("boom").with(&[SUBSEGMENT, ("aws.xray.cause", "1234567890123456")]);
    let root = Span::new(1, 0, "api", "SERVER", "api", (0, 9));
    let trace = trace(32, vec![root, told_by_status, raised, silent, fine, of_xray]);
    let told = bodies(&trace);
    let causes: Vec<_> = (0..5).map(|nth| told[0]["subsegments"][nth]["cause"].clone()).collect();
    let id = |cause: usize, nth: usize| causes[cause]["exceptions"][nth]["id"].as_str().expect("an ID").to_string();
    assert_eq!(causes[0], json!({"exceptions": [{"id": id(0, 0), "message": "Access to bucket denied"}]}));
    assert_eq!(
        causes[1],
        json!({"exceptions": [{"id": id(1, 0), "type": "A", "message": "one"}, {"id": id(1, 1), "type": "B", "message": "two"}]})
    );
    assert_eq!((&causes[2], &causes[3]), (&json!(null), &json!(null)));
    assert_eq!(causes[4], json!("1234567890123456"), "as it was sent");
    let mut ids = vec![id(0, 0), id(1, 0), id(1, 1)];
    assert!(
        ids.iter().all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())),
        "{ids:?}"
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), bodies(&trace)), (3, told.clone()), "the same each time");
    let events = &told[0]["subsegments"][1]["metadata"]["default"]["otel.events"];
    assert_eq!(*events, json!([{"name": "cache miss", "time": 1_795_000_000.0, "attributes": {"key": "1.10"}}]));
}

#[test]
fn calls_of_aws_and_of_databases_are_told_as_the_exporter_does() {
    let call = |id: u64, name: &str, attributes: &[(&str, &str)]| Span::new(id, 1, name, "CLIENT", "api", (id as i64, 5)).with(attributes);
    let dynamo = [("rpc.system", "aws-api"), ("rpc.service", "DynamoDB"), ("rpc.method", "GetItem")];
    let told = bodies(&trace(
        33,
        vec![
            Span::new(1, 0, "api", "SERVER", "api", (0, 99)),
            call(2, "get", &dynamo).with(&[("aws.dynamodb.table_names", r#"["T1"]"#), ("aws.requestId", "123")]),
            call(3, "batch", &dynamo).with(&[("aws.dynamodb.table_names", r#"["T1","T2"]"#), ("aws.operation", "BatchGetItem")]),
            call(
                4,
                "SELECT x",
                &[("db.system", "postgresql"), ("db.name", "ledgerdb"), ("db.statement", "SELECT ?")],
            ),
            call(5, "GET", &[("db.system", "redis"), ("db.name", "0"), ("db.statement", "GET ?")]),
            call(6, "rpc", &[("rpc.system", "grpc"), ("rpc.method", "Get")]),
        ],
    ));
    let of = |nth: usize, member: &str| told[0]["subsegments"][nth][member].clone();
    assert_eq!(of(0, "aws"), json!({"operation": "GetItem", "table_name": "T1", "request_id": "123"}));
    let rest = &of(0, "metadata")["default"];
    assert!(rest.get("rpc.method").is_none() && rest.get("aws.requestId").is_none(), "told once: {rest}");
    assert_eq!(of(1, "aws"), json!({"operation": "BatchGetItem", "table_names": ["T1", "T2"]}));
    assert_eq!(
        of(2, "sql"),
        json!({"url": "SELECT x", "connection_string": "localhost/ledgerdb", "database_type": "postgresql", "sanitized_query": "SELECT ?"})
    );
    assert_eq!((of(3, "sql"), of(4, "aws")), (json!(null), json!(null)));
    let rest = &of(3, "metadata")["default"];
    assert_eq!((&rest["db.system"], &rest["db.statement"]), (&json!("redis"), &json!("GET ?")));
    assert_eq!(of(4, "metadata")["default"]["rpc.method"], "Get");
}

#[test]
fn a_throttle_is_an_error_whether_its_document_says_so_or_not() {
    let of = |more: &[(&str, &str)]| trace(34, vec![Span::new(1, 0, "api", "SERVER", "api", (0, 9)).with(&[SEGMENT]).with(more)]);
    let throttle = ("aws.xray.throttle", "true");
    for more in [
        &[throttle, ("http.status_code", "429")][..],
        &[throttle, ("aws.xray.error", "false")],
        &[throttle],
    ] {
        let trace = of(more);
        let facts = TraceFacts::of(&trace);
        let summary = facts.summary();
        let flags = ["HasError", "HasFault", "HasThrottle"].map(|flag| summary[flag].clone());
        assert_eq!(flags, [json!(true), json!(false), json!(true)], "{more:?}");
        assert!(bodies(&trace)[0].get("error").is_none(), "as it was sent");
        for (asked, expected) in [("error", true), ("throttle", true), ("ok", false), ("service(\"api\") { error }", true)] {
            let asked = Expression::parse(asked).expect(asked);
            assert_eq!(asked.holds(&facts), expected, "{asked:?}");
        }
    }
    let needs = Expression::parse("error").expect("an expression").needs();
    assert!(format!("{needs:?}").contains("aws.xray.throttle"), "or the index would not find it: {needs:?}");
}

#[test]
fn lists_of_a_summary_are_bounded() {
    let spans = (1..=300).map(|n| {
        let keys: Vec<String> = (0..10).map(|key| format!("key{}", n * 10 + key)).collect();
        let listed = serde_json::Value::from(keys.clone()).to_string();
        let mut attributes: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        let user = format!("user {n}");
        attributes.extend([("aws.xray.annotations", listed.as_str()), ("enduser.id", user.as_str())]);
        let (service, host) = (format!("service {n}"), format!("i-{n}"));
        Span::new(n, 0, "GET /", "SERVER", &service, (0, 5)).with(&attributes).of(&[("host.id", &host)])
    });
    let summary = TraceFacts::of(&trace(23, spans.collect())).summary();
    let n = |member: &str| summary[member].as_array().map_or(0, Vec::len);
    assert_eq!((n("Users"), n("InstanceIds"), n("ServiceIds")), (100, 100, 100));
    assert_eq!(summary["Annotations"].as_object().map(serde_json::Map::len), Some(50));
}

#[test]
fn deep_and_wide_traces_are_documents_of_bounded_size() {
    let deep = (1..=5_000).map(|n| Span::new(n, n - 1, "step", "INTERNAL", "deep", (n as i64, 1))).collect();
    let deep = trace(9, deep);
    let written = bodies(&deep);
    assert_eq!(written.len(), 5_000 / crate::query::xray::documents::MAX_DEPTH);
    assert!(
        written
            .iter()
            .skip(1)
            .all(|document| document["type"] == "subsegment" && document["parent_id"].is_string())
    );
    let wide = (1..=5_000)
        .map(|n| Span::new(n, u64::from(n > 1), "step", "INTERNAL", "wide", (n as i64, 1)))
        .collect();
    let wide = trace(10, wide);
    let written = bodies(&wide);
    let below = |document: &serde_json::Value| document["subsegments"].as_array().map_or(0, Vec::len);
    assert_eq!(written.iter().map(|document| 1 + below(document)).sum::<usize>(), 5_000);
    assert!(written.iter().all(|document| below(document) <= crate::query::xray::documents::MAX_NODES));
}

#[test]
fn root_causes_of_deep_wide_and_endless_traces_are_bounded() {
    let deep = (1..=5_000).map(|n| Span::new(n, n - 1, "step", "INTERNAL", "deep", (n as i64, 10_000 - n as i64)).failed("x"));
    let deep = trace(11, deep.collect());
    let facts = TraceFacts::of(&deep);
    let cause = &facts.root_causes(CauseKind::Fault)[..];
    assert_eq!(cause.len(), 1);
    assert_eq!(cause[0].services[0].entities.len(), causes::MAX_PATH);
    assert!(cause[0].client_impacting);
    let wide = (1..=5_000).map(|n| Span::new(n, u64::from(n > 1), &format!("step {n}"), "INTERNAL", "wide", (n as i64, 1)).failed("x"));
    let wide = trace(12, wide.collect());
    assert_eq!(TraceFacts::of(&wide).root_causes(CauseKind::Fault).len(), causes::MAX_CAUSES);
    let circle = trace(
        13,
        vec![
            Span::new(1, 2, "a", "INTERNAL", "x", (0, 5)).failed("x"),
            Span::new(2, 1, "b", "INTERNAL", "x", (1, 3)).failed("x"),
        ],
    );
    assert_eq!(TraceFacts::of(&circle).root_causes(CauseKind::Fault).len(), 1);
}
