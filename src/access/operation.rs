//! The one table of what each operation of the AWS faces needs.
//!
//! What is not in it needs [`Right::Admin`], and must name its log groups if the key is for some only: an operation that
//! is served but was forgotten here is closed, not open.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;

/// What a key may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// To add records.
    Write,
    /// To see them.
    Read,
    /// To delete them, and to change settings.
    Admin,
}

impl Right {
    /// As in settings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Right::Write => "write",
            Right::Read => "read",
            Right::Admin => "admin",
        }
    }
}

/// How an operation touches log groups: what a key is asked that is for some of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Its members name those it touches; none named is as good as all.
    Named,
    /// It lists what there is: the receiver leaves out what the key is not for, and what is named is checked.
    Listed,
    /// None.
    Untouched,
}

/// An operation of an AWS service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its service, as signatures name it.
    pub service: &'static str,
    /// Its name, as policies have it.
    pub name: &'static str,
    /// Any of these opens it.
    pub rights: &'static [Right],
    /// How it touches log groups.
    pub groups: Groups,
}

/// The services that signatures may be for.
pub const SERVICES: [&str; 4] = ["logs", "xray", "monitoring", "firehose"];

const WRITE: &[Right] = &[Right::Write];
const READ: &[Right] = &[Right::Read];
/// What writers ask before they write: the CloudWatch agent, watchtower, X-Ray SDKs.
const EITHER: &[Right] = &[Right::Read, Right::Write];
const ADMIN: &[Right] = &[Right::Admin];

/// CloudWatch Logs, in the order of the alphabet.
#[rustfmt::skip]
const LOGS: [(&str, &[Right], Groups); 47] = [
    ("CreateLogGroup", WRITE, Groups::Named),
    ("CreateLogStream", WRITE, Groups::Named),
    ("DeleteLogGroup", ADMIN, Groups::Named),
    ("DeleteLogStream", ADMIN, Groups::Named),
    ("DeleteMetricFilter", ADMIN, Groups::Named),
    ("DeleteQueryDefinition", ADMIN, Groups::Named),
    ("DeleteRetentionPolicy", ADMIN, Groups::Named),
    ("DeleteSubscriptionFilter", ADMIN, Groups::Named),
    ("DescribeFieldIndexes", READ, Groups::Named),
    ("DescribeIndexPolicies", READ, Groups::Named),
    ("DescribeLogGroups", EITHER, Groups::Listed),
    ("DescribeLogStreams", EITHER, Groups::Named),
    ("DescribeMetricFilters", READ, Groups::Listed),
    ("DescribeQueries", READ, Groups::Listed),
    ("DescribeQueryDefinitions", READ, Groups::Named),
    ("DescribeSubscriptionFilters", READ, Groups::Named),
    ("FilterLogEvents", READ, Groups::Named),
    ("GetLogEvents", READ, Groups::Named),
    ("GetLogFields", READ, Groups::Named),
    ("GetLogGroupFields", READ, Groups::Named),
    ("GetLogObject", READ, Groups::Named),
    ("GetLogRecord", READ, Groups::Listed),
    ("GetQueryResults", READ, Groups::Listed),
    ("GetTransformer", READ, Groups::Named),
    ("ListAggregateLogGroupSummaries", READ, Groups::Named),
    ("ListAnomalies", READ, Groups::Named),
    ("ListLogAnomalyDetectors", READ, Groups::Named),
    ("ListLogGroups", READ, Groups::Listed),
    ("ListLogGroupsForQuery", READ, Groups::Named),
    ("ListTagsForResource", READ, Groups::Named),
    ("ListTagsLogGroup", READ, Groups::Named),
    ("PutBearerTokenAuthentication", ADMIN, Groups::Named),
    ("PutLogEvents", WRITE, Groups::Named),
    ("PutLogGroupDeletionProtection", ADMIN, Groups::Named),
    ("PutMetricFilter", ADMIN, Groups::Named),
    ("PutQueryDefinition", ADMIN, Groups::Named),
    ("PutRetentionPolicy", ADMIN, Groups::Named),
    ("PutSubscriptionFilter", ADMIN, Groups::Named),
    ("StartLiveTail", READ, Groups::Named),
    ("StartQuery", READ, Groups::Listed),
    ("StopQuery", READ, Groups::Listed),
    ("TagLogGroup", ADMIN, Groups::Named),
    ("TagResource", ADMIN, Groups::Named),
    ("TestMetricFilter", READ, Groups::Untouched),
    ("TestTransformer", READ, Groups::Untouched),
    ("UntagLogGroup", ADMIN, Groups::Named),
    ("UntagResource", ADMIN, Groups::Named),
];

/// X-Ray: path, operation.
#[rustfmt::skip]
const XRAY: [(&str, &str, &[Right]); 38] = [
    ("/TraceSegments", "PutTraceSegments", WRITE),
    ("/TelemetryRecords", "PutTelemetryRecords", WRITE),
    ("/GetSamplingRules", "GetSamplingRules", EITHER),
    ("/SamplingTargets", "GetSamplingTargets", EITHER),
    ("/SamplingStatisticSummaries", "GetSamplingStatisticSummaries", READ),
    ("/Traces", "BatchGetTraces", READ),
    ("/TraceSummaries", "GetTraceSummaries", READ),
    ("/TraceGraph", "GetTraceGraph", READ),
    ("/ServiceGraph", "GetServiceGraph", READ),
    ("/TimeSeriesServiceStatistics", "GetTimeSeriesServiceStatistics", READ),
    ("/Groups", "GetGroups", READ),
    ("/GetGroup", "GetGroup", READ),
    ("/EncryptionConfig", "GetEncryptionConfig", READ),
    ("/Insight", "GetInsight", READ),
    ("/InsightEvents", "GetInsightEvents", READ),
    ("/InsightImpactGraph", "GetInsightImpactGraph", READ),
    ("/InsightSummaries", "GetInsightSummaries", READ),
    ("/GetIndexingRules", "GetIndexingRules", READ),
    ("/GetTraceSegmentDestination", "GetTraceSegmentDestination", READ),
    ("/ListResourcePolicies", "ListResourcePolicies", READ),
    ("/ListTagsForResource", "ListTagsForResource", READ),
    ("/StartTraceRetrieval", "StartTraceRetrieval", READ),
    ("/ListRetrievedTraces", "ListRetrievedTraces", READ),
    ("/CancelTraceRetrieval", "CancelTraceRetrieval", READ),
    ("/GetRetrievedTracesGraph", "GetRetrievedTracesGraph", READ),
    ("/CreateSamplingRule", "CreateSamplingRule", ADMIN),
    ("/UpdateSamplingRule", "UpdateSamplingRule", ADMIN),
    ("/DeleteSamplingRule", "DeleteSamplingRule", ADMIN),
    ("/CreateGroup", "CreateGroup", ADMIN),
    ("/UpdateGroup", "UpdateGroup", ADMIN),
    ("/DeleteGroup", "DeleteGroup", ADMIN),
    ("/PutEncryptionConfig", "PutEncryptionConfig", ADMIN),
    ("/UpdateIndexingRule", "UpdateIndexingRule", ADMIN),
    ("/UpdateTraceSegmentDestination", "UpdateTraceSegmentDestination", ADMIN),
    ("/PutResourcePolicy", "PutResourcePolicy", ADMIN),
    ("/DeleteResourcePolicy", "DeleteResourcePolicy", ADMIN),
    ("/TagResource", "TagResource", ADMIN),
    ("/UntagResource", "UntagResource", ADMIN),
];

/// Of CloudWatch metrics and Firehose, what is likely to be served.
#[rustfmt::skip]
const OTHERS: [(&str, &str, &[Right]); 12] = [
    ("monitoring", "PutMetricData", WRITE),
    ("monitoring", "GetMetricData", READ),
    ("monitoring", "GetMetricStatistics", READ),
    ("monitoring", "ListMetrics", READ),
    ("monitoring", "DescribeAlarms", READ),
    ("monitoring", "DescribeAlarmsForMetric", READ),
    ("monitoring", "DescribeAlarmHistory", READ),
    ("firehose", "PutRecord", WRITE),
    ("firehose", "PutRecordBatch", WRITE),
    ("firehose", "DescribeDeliveryStream", READ),
    ("firehose", "ListDeliveryStreams", READ),
    ("firehose", "ListTagsForDeliveryStream", READ),
];

/// The HTTP ingestion endpoints of CloudWatch Logs.
const HTTP_EVENTS: [&str; 3] = ["/services/collector/event", "/ingest/bulk", "/ingest/json"];

/// `X-Amz-Target` without the operation.
const TARGETS: [(&str, &str); 3] = [
    ("Logs_20140328.", "logs"),
    ("Firehose_20150804.", "firehose"),
    ("GraniteServiceVersion20100801.", "monitoring"),
];
/// Where smithy's RPC protocol has its operations.
const METRICS_PATH: &str = "/service/GraniteServiceVersion20100801/operation/";
/// OTLP over HTTP, as the operations that AWS asks of who calls its own OTLP endpoints.
const OTLP: [(&str, &str, &str); 3] = [
    ("/v1/logs", "logs", "PutLogEvents"),
    ("/v1/traces", "xray", "PutTraceSegments"),
    ("/v1/metrics", "monitoring", "PutMetricData"),
];
/// The one operation that is served in the query form, whose bodies name the operation: whoever serves another there must read it
/// before rights are checked.
const QUERY: (&str, &str) = ("monitoring", "PutMetricData");
/// An operation's name in messages is cut here.
const MAX_NAME_CHARS: usize = 64;

impl Operation {
    /// Finds an operation; `None` for one that is not in the table.
    pub fn find(service: &str, name: &str) -> Option<Operation> {
        match service {
            "logs" => LOGS.into_iter().find(|(known, ..)| *known == name).map(|(name, rights, groups)| Operation {
                service: "logs",
                name,
                rights,
                groups,
            }),
            "xray" => XRAY
                .into_iter()
                .find(|(_, known, _)| *known == name)
                .map(|(_, name, rights)| Operation::apart("xray", name, rights)),
            _ => OTHERS
                .into_iter()
                .find(|(its_service, known, _)| *its_service == service && *known == name)
                .map(|(service, name, rights)| Operation::apart(service, name, rights)),
        }
    }

    /// One that touches no log group.
    fn apart(service: &'static str, name: &'static str, rights: &'static [Right]) -> Operation {
        Operation {
            service,
            name,
            rights,
            groups: Groups::Untouched,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose operation it is; `None` when the request does not tell.
    pub service: Option<&'static str>,
    /// As in the table.
    pub operation: Option<Operation>,
    /// The operation's name as the client wrote it, cut if it is long.
    pub name: String,
}

impl Asked {
    /// Reads the path, and on `/` the target: as the faces do, since a request must not be judged as one operation and
    /// served as another.
    pub fn of(head: &Parts) -> Asked {
        let path = head.uri.path();
        if path == "/" {
            let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
            if target.is_empty() && is_query_form(&head.headers) {
                return Asked::named(QUERY.0, QUERY.1);
            }
            let named = TARGETS
                .iter()
                .find_map(|(prefix, service)| Some(Asked::named(service, target.strip_prefix(prefix)?)));
            return named.unwrap_or_else(|| Asked::unknown(target));
        }
        if let Some(name) = path.strip_prefix(METRICS_PATH) {
            return Asked::named("monitoring", name);
        }
        if let Some((_, service, name)) = OTLP.into_iter().find(|(known, ..)| *known == path) {
            return Asked::named(service, name);
        }
        if HTTP_EVENTS.contains(&path) {
            return Asked::named("logs", "PutLogEvents");
        }
        match XRAY.into_iter().find(|(known, ..)| *known == path) {
            Some((_, name, _)) => Asked::named("xray", name),
            None => Asked::unknown(path.trim_start_matches('/')),
        }
    }

    fn unknown(name: &str) -> Asked {
        Asked {
            service: None,
            operation: None,
            name: cut(name),
        }
    }

    /// An operation by its name.
    pub fn named(service: &'static str, name: &str) -> Asked {
        Asked {
            service: Some(service),
            operation: Operation::find(service, name),
            name: cut(name),
        }
    }

    /// Any of these opens it.
    pub fn rights(&self) -> &'static [Right] {
        self.operation.map_or(ADMIN, |operation| operation.rights)
    }

    /// How it touches log groups.
    pub fn groups(&self) -> Groups {
        self.operation.map_or(Groups::Named, |operation| operation.groups)
    }

    /// As policies name it: `logs:PutLogEvents`.
    pub fn action(&self) -> String {
        format!("{}:{}", self.service.unwrap_or("unknown"), self.name)
    }
}

/// Whether a request is in the query form of older AWS protocols.
pub fn is_query_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, target: Option<&str>) -> Asked {
        let mut request = http::Request::post(path);
        if let Some(target) = target {
            request = request.header("X-Amz-Target", target);
        }
        Asked::of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn the_table_is_found_by_target_and_by_path() {
        let put = asked("/", Some("Logs_20140328.PutLogEvents"));
        assert_eq!((put.service, put.rights(), put.groups()), (Some("logs"), WRITE, Groups::Named));
        assert_eq!(put.action(), "logs:PutLogEvents");
        let segments = asked("/TraceSegments", None);
        assert_eq!(
            (segments.service, segments.rights(), segments.groups()),
            (Some("xray"), WRITE, Groups::Untouched)
        );
        let metrics = asked("/service/GraniteServiceVersion20100801/operation/PutMetricData", None);
        assert_eq!((metrics.action().as_str(), metrics.rights()), ("monitoring:PutMetricData", WRITE));
        assert_eq!(asked("/", Some("Firehose_20150804.PutRecordBatch")).rights(), WRITE);
        assert_eq!(asked("/", Some("GraniteServiceVersion20100801.ListMetrics")).rights(), READ);
        for path in [
            "/v1/logs",
            "/v1/traces",
            "/v1/metrics",
            "/ingest/bulk",
            "/ingest/json",
            "/services/collector/event",
        ] {
            assert_eq!(asked(path, None).rights(), WRITE, "{path}");
        }
    }

    #[test]
    fn a_form_without_a_target_is_put_metric_data_on_its_own_path_alone() {
        let form = |path: &str, target: Option<&str>| {
            let mut request = http::Request::post(path).header("content-type", "Application/X-WWW-Form-Urlencoded; charset=utf-8");
            if let Some(target) = target {
                request = request.header("x-amz-target", target);
            }
            Asked::of(&request.body(()).expect("a request").into_parts().0).action()
        };
        assert_eq!(form("/", None), "monitoring:PutMetricData");
        assert_eq!(form("/", Some("Logs_20140328.DeleteLogGroup")), "logs:DeleteLogGroup");
        assert_eq!(form("/TraceSegments", None), "xray:PutTraceSegments");
    }

    #[test]
    fn a_target_counts_on_its_own_path_alone() {
        // else a key that may only read could write with another service's target
        let segments = asked("/TraceSegments", Some("Logs_20140328.FilterLogEvents"));
        assert_eq!(segments.action(), "xray:PutTraceSegments");
    }

    #[test]
    fn what_the_table_does_not_know_needs_admin_and_must_name_its_groups() {
        for (path, target) in [
            ("/", Some("Logs_20140328.BrandNewOperation")),
            ("/", Some("Logs_20140328.putlogevents")),
            ("/", Some("Unknown.PutLogEvents")),
            ("/", None),
            ("/tracesegments", None),
            ("/tracesegments", Some("Logs_20140328.PutLogEvents")),
        ] {
            let asked = asked(path, target);
            assert_eq!((asked.rights(), asked.groups()), (ADMIN, Groups::Named), "{asked:?}");
        }
        assert!(asked("/", Some(&format!("Logs_20140328.{}", "x".repeat(5_000)))).name.len() <= MAX_NAME_CHARS);
    }

    #[test]
    fn deletes_and_settings_are_for_admins_alone_and_the_table_has_nothing_twice() {
        for (name, rights, groups) in LOGS {
            let is_admin = ["Delete", "Tag", "Untag"].iter().any(|prefix| name.starts_with(prefix)) || (name.starts_with("Put") && name != "PutLogEvents");
            assert_eq!(rights == ADMIN, is_admin, "{name}");
            assert!(groups != Groups::Untouched || name.starts_with("Test"), "{name}");
        }
        assert!(LOGS.is_sorted_by_key(|(name, ..)| *name));
        for (_, name, rights) in XRAY {
            let is_admin = ["Create", "Update", "Delete", "Tag", "Untag", "PutEnc", "PutRes"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            assert_eq!(rights == ADMIN, is_admin, "{name}");
        }
        let mut names: Vec<_> = XRAY.iter().map(|(_, name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), XRAY.len());
    }
}
