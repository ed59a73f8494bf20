use super::*;
use crate::access::Asked;

fn filter(name: &str, more: Value) -> Value {
    let transformation = json!({"metricName": "Errors", "metricNamespace": "Shop", "metricValue": "1"});
    let mut call = json!({"logGroupName": "g", "filterName": name, "filterPattern": "ERROR", "metricTransformations": [transformation]});
    for (member, value) in more.as_object().into_iter().flatten() {
        match call.get(member).is_some() || member == "applyOnTransformedLogs" || member.starts_with("field") || member.starts_with("emit") {
            true => call[member] = value.clone(),
            false => call["metricTransformations"][0][member] = value.clone(),
        }
    }
    call
}

async fn shown(server: &Server, call: Value) -> Vec<String> {
    names(&server.ok("DescribeMetricFilters", call).await["metricFilters"], "filterName")
}

async fn count(server: &Server) -> i64 {
    server.ok("DescribeLogGroups", json!({"logGroupNamePrefix": "g"})).await["logGroups"][0]["metricFilterCount"]
        .as_i64()
        .expect("a count")
}

/// Whether an event of the group would become points.
fn is_in_effect(server: &Server) -> bool {
    let context = crate::decode::Context {
        received_at_nanos: NOW_MILLIS * 1_000_000,
        retention_days: 0,
    };
    let decoded = crate::decode::decode(crate::decode::Kind::PutLogEvents, events(&[0]).to_string().as_bytes(), &context).expect("decodes");
    let filters = server.receiver.registry().read().filters.clone();
    crate::ingest::RuleBook::in_effect(filters.as_ref(), &decoded.batch).is_some()
}

#[tokio::test]
async fn filters_are_put_shown_replaced_and_deleted_and_outlive_a_restart() {
    let server = Server::with_stream().await;
    assert_eq!(count(&server).await, 0);
    let transformation = json!({"unit": "Count", "filterPattern": "{ $.a = 1 }", "metricValue": "$.n", "dimensions": {"Route": "$.route"}});
    server.ok("PutMetricFilter", filter("b", transformation)).await;
    server.ok("PutMetricFilter", filter("a", json!({"applyOnTransformedLogs": true}))).await;
    assert_eq!(count(&server).await, 2);
    assert!(is_in_effect(&server));
    let server = Server::on(server.memory.surviving(), Config::default());
    assert!(is_in_effect(&server));
    let answer = server.ok("DescribeMetricFilters", json!({"logGroupName": "g"})).await;
    assert_eq!(
        answer,
        json!({"metricFilters": [
            {"filterName": "a", "filterPattern": "ERROR", "logGroupName": "g", "creationTime": NOW_MILLIS, "applyOnTransformedLogs": true,
             "metricTransformations": [{"metricName": "Errors", "metricNamespace": "Shop", "metricValue": "1"}]},
            {"filterName": "b", "filterPattern": "{ $.a = 1 }", "logGroupName": "g", "creationTime": NOW_MILLIS, "applyOnTransformedLogs": false,
             "metricTransformations": [{"metricName": "Errors", "metricNamespace": "Shop", "metricValue": "$.n", "unit": "Count",
                                        "dimensions": {"Route": "$.route"}}]},
        ]})
    );
    server.ok("PutMetricFilter", filter("b", json!({"metricName": "Other"}))).await;
    assert_eq!(shown(&server, json!({"metricName": "Other", "metricNamespace": "Shop"})).await, ["b"]);
    assert_eq!(shown(&server, json!({"metricName": "Errors", "metricNamespace": "Shop"})).await, ["a"]);
    assert_eq!(shown(&server, json!({"logGroupName": "g", "filterNamePrefix": "b"})).await, ["b"]);
    for name in ["a", "b"] {
        server.ok("DeleteMetricFilter", json!({"logGroupName": "g", "filterName": name})).await;
    }
    let said = server
        .fails(
            "DeleteMetricFilter",
            json!({"logGroupName": "g", "filterName": "a"}),
            "ResourceNotFoundException",
        )
        .await;
    assert_eq!(said, "The specified metric filter does not exist.");
    assert_eq!((count(&server).await, is_in_effect(&server)), (0, false));
}

#[tokio::test]
async fn system_fields_are_dimensions_and_choose_the_events() {
    let server = Server::with_stream().await;
    let fields = json!(["@aws.region", "@aws.account"]);
    let here = json!({"emitSystemFieldDimensions": fields, "fieldSelectionCriteria": "@aws.account IN ['000000000000']"});
    server.ok("PutMetricFilter", filter("f", here)).await;
    let described = server.ok("DescribeMetricFilters", json!({})).await;
    let shown = &described["metricFilters"][0];
    assert_eq!(
        (&shown["emitSystemFieldDimensions"], &shown["fieldSelectionCriteria"]),
        (&fields, &json!("@aws.account IN ['000000000000']"))
    );
    let registry = server.receiver.registry();
    let made = |server: &Server| {
        let groups = server.receiver.registry().read();
        super::super::metric_filters::definitions(&groups.by_name["g"].record.metric_filters, server.receiver.registry().arns())
    };
    let before = made(&server);
    let dimensions: Vec<(&str, &str)> = before[0]
        .system_dimensions
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(dimensions, [("@aws.account", "000000000000"), ("@aws.region", "us-east-1")]);
    assert!(is_in_effect(&server));
    let later = Server::on(server.memory.surviving(), Config::default());
    assert!(is_in_effect(&later) && made(&later) == before);
    assert_eq!(later.ok("DescribeMetricFilters", json!({})).await, described);
    // of elsewhere no event is
    server
        .ok("PutMetricFilter", filter("f", json!({"fieldSelectionCriteria": "@aws.region = 'eu-west-1'"})))
        .await;
    assert!(!is_in_effect(&server) && made(&server).is_empty());
    assert_eq!(registry.read().by_name["g"].record.metric_filters.len(), 1);
    server.ok("PutMetricFilter", filter("f", json!({}))).await;
    assert!(is_in_effect(&server) && made(&server)[0].system_dimensions.is_empty());
}

#[tokio::test]
async fn filters_go_with_their_group_and_do_not_come_back_with_it() {
    let server = Server::with_stream().await;
    server.ok("PutMetricFilter", filter("a", json!({}))).await;
    server.ok("DeleteLogGroup", json!({"logGroupName": "g"})).await;
    assert!(!is_in_effect(&server));
    server
        .fails("DescribeMetricFilters", json!({"logGroupName": "g"}), "ResourceNotFoundException")
        .await;
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    assert_eq!(count(&server).await, 0);
    assert_eq!(shown(&server, json!({})).await, [] as [&str; 0]);
}

#[tokio::test]
async fn limits_are_taken_at_the_bound_and_refused_one_past_it() {
    let server = Server::with_stream().await;
    let bad = async |more: Value| server.fails("PutMetricFilter", filter("f", more), "InvalidParameterException").await;
    let good = async |more: Value| server.ok("PutMetricFilter", filter("f", more)).await;
    let long = |n: usize| "x".repeat(n);
    good(json!({"filterName": long(512)})).await;
    server.ok("DeleteMetricFilter", json!({"logGroupName": "g", "filterName": long(512)})).await;
    good(json!({"filterPattern": long(1_024), "metricName": long(255), "metricNamespace": long(255)})).await;
    good(json!({"metricValue": format!("{}1", "0".repeat(99))})).await;
    good(json!({"defaultValue": -0.5})).await;
    let described = server.ok("DescribeMetricFilters", json!({"logGroupName": "g", "filterNamePrefix": "f"})).await;
    assert_eq!(described["metricFilters"][0]["metricTransformations"][0]["defaultValue"], -0.5);
    let dimensions = |n: usize| (0..n).map(|i| (format!("d{i}"), json!(format!("$.d{i}")))).collect::<serde_json::Map<_, _>>();
    good(json!({"filterPattern": "{ $.a = 1 }", "dimensions": dimensions(3)})).await;
    for (more, part) in [
        (json!({"filterName": long(513)}), "filterName"),
        (json!({"filterName": "a:b"}), "[^:*]*"),
        (json!({"filterName": ""}), "greater than or equal to 1"),
        (json!({"filterPattern": long(1_025)}), "filterPattern"),
        (json!({"filterPattern": "{ $.a"}), "Invalid filter pattern"),
        (json!({"filterPattern": "INFO %x%"}), "a regular expression stands alone"),
        (
            json!({"filterPattern": "{ $.a = 1 }", "metricValue": "abc"}),
            "Invalid metric transformation: 'abc' is no field",
        ),
        (json!({"metricName": long(256)}), "metricTransformations.1.member.metricName"),
        (json!({"metricName": "a$"}), "[^:*$]*"),
        (json!({"metricNamespace": "a:b"}), "[^:*$]*"),
        (json!({"metricNamespace": ""}), "metricNamespace"),
        (json!({"metricValue": "0".repeat(101)}), "metricValue"),
        (json!({"metricValue": "$.a"}), "Invalid metric transformation"),
        (json!({"metricValue": "lots"}), "Invalid metric transformation"),
        (json!({"unit": "Parsecs"}), "enum value set"),
        (json!({"filterPattern": "{ $.a = 1 }", "dimensions": dimensions(4)}), "at most 3"),
        (json!({"dimensions": dimensions(1)}), "have fields"),
        (
            json!({"filterPattern": "{ $.a = 1 }", "defaultValue": 0, "dimensions": dimensions(1)}),
            "mutually exclusive",
        ),
        (json!({"fieldSelectionCriteria": "@aws.region > \"x\""}), "Invalid fieldSelectionCriteria"),
        (json!({"emitSystemFieldDimensions": ["@source.log"]}), "expected @aws.account or @aws.region"),
        (
            json!({"filterPattern": "{ $.a = 1 }", "dimensions": dimensions(2), "emitSystemFieldDimensions": ["@aws.region", "@aws.account"]}),
            "it has 4 dimensions",
        ),
        (json!({"metricTransformations": []}), "greater than or equal to 1"),
    ] {
        let said = bad(more.clone()).await;
        assert!(said.contains(part), "{more}: {said}");
    }
    let mut two = filter("f", json!({}));
    two["metricTransformations"] = json!([two["metricTransformations"][0], two["metricTransformations"][0]]);
    server.fails("PutMetricFilter", two, "InvalidParameterException").await;
    let said = server.fails("PutMetricFilter", json!({}), "InvalidParameterException").await;
    assert!(said.starts_with("4 validation errors detected"), "{said}");
    let mut elsewhere = filter("f", json!({}));
    elsewhere["logGroupName"] = "nowhere".into();
    server.fails("PutMetricFilter", elsewhere, "ResourceNotFoundException").await;
    for call in [
        json!({"metricName": "a"}),
        json!({"metricNamespace": "a"}),
        json!({"limit": 51}),
        json!({"nextToken": "?"}),
    ] {
        server.fails("DescribeMetricFilters", call, "InvalidParameterException").await;
    }
}

#[tokio::test]
async fn a_group_has_a_hundred_filters_and_five_regular_expressions_and_pages_reach_the_end() {
    let server = Server::with_stream().await;
    for i in 0..100 {
        server.ok("PutMetricFilter", filter(&format!("f{i:03}"), json!({}))).await;
    }
    server.fails("PutMetricFilter", filter("g", json!({})), "LimitExceededException").await;
    server.ok("PutMetricFilter", filter("f099", json!({"filterPattern": "OTHER"}))).await;
    server.ok("CreateLogGroup", json!({"logGroupName": "h"})).await;
    let mut in_h = filter("f0000", json!({}));
    in_h["logGroupName"] = "h".into();
    server.ok("PutMetricFilter", in_h).await;
    let (mut all, mut token, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = server.ok("DescribeMetricFilters", json!({"limit": 50, "nextToken": token})).await;
        all.extend(names(&page["metricFilters"], "filterName"));
        pages += 1;
        match page.get("nextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!((all.len(), pages, all[1].as_str()), (101, 3, "f0000"));
    assert!(all.is_sorted());
    for i in 0..5 {
        server
            .ok("PutMetricFilter", filter(&format!("f{i:03}"), json!({"filterPattern": "%a\\d%"})))
            .await;
    }
    server
        .fails("PutMetricFilter", filter("f005", json!({"filterPattern": "%a%"})), "LimitExceededException")
        .await;
    server.ok("PutMetricFilter", filter("f004", json!({"filterPattern": "%b%"}))).await;
}

#[test]
fn the_calls_have_their_rights() {
    let right = |name: &str| Asked::named("logs", name).rights()[0].name();
    assert_eq!(
        [right("PutMetricFilter"), right("DeleteMetricFilter"), right("DescribeMetricFilters")],
        ["admin", "admin", "read"]
    );
}
