"""CloudWatch Logs' metric filters: the calls as boto3 makes them, and what matching events become."""

import json
import time

import pytest
import requests

import lake as lakes
from test_cwl_reads import now, refused
from test_ledger import Books, counted

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GROUP = "/shop/web"


@pytest.fixture
def logs(lake):
    return prepared(lake)


def prepared(lake, group=GROUP):
    client = lake.boto3()
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="s")
    return client


def put_filter(client, name="f", pattern="ERROR", group=GROUP, metric="Errors", namespace="Shop", value="1", **more):
    transformation = {"metricName": metric, "metricNamespace": namespace, "metricValue": value, **more}
    client.put_metric_filter(logGroupName=group, filterName=name, filterPattern=pattern, metricTransformations=[transformation])


def put(client, *messages, group=GROUP):
    events = [{"timestamp": now() - 1000, "message": m if isinstance(m, str) else json.dumps(m)} for m in messages]
    assert "rejectedLogEventsInfo" not in client.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)


def points(lake, metric="Errors"):
    return [row["value"] for row in lake.sql(f"SELECT value FROM metric_points WHERE metric_name = '{metric}' ORDER BY value")]


def count(client, group=GROUP):
    return client.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["metricFilterCount"]


def test_filters_are_put_listed_replaced_and_deleted(lake, logs):
    put_filter(logs, "b", "{ $.ms = * }", value="$.ms", metric="Latency", unit="Milliseconds", dimensions={"Route": "$.route"})
    put_filter(logs, "a")
    assert count(logs) == 2
    lake.restart(kill=True)
    logs = lake.boto3()
    first, second = logs.describe_metric_filters(logGroupName=GROUP)["metricFilters"]
    assert (first["filterName"], second["filterName"], first["filterPattern"], first["logGroupName"]) == ("a", "b", "ERROR", GROUP)
    assert first["metricTransformations"] == [{"metricName": "Errors", "metricNamespace": "Shop", "metricValue": "1"}]
    assert second["metricTransformations"] == [
        {"metricName": "Latency", "metricNamespace": "Shop", "metricValue": "$.ms", "unit": "Milliseconds", "dimensions": {"Route": "$.route"}}
    ]
    assert abs(first["creationTime"] - now()) < 120_000
    names = lambda **call: [f["filterName"] for f in logs.describe_metric_filters(**call)["metricFilters"]]
    assert names(filterNamePrefix="b", logGroupName=GROUP) == ["b"]
    assert names(metricName="Latency", metricNamespace="Shop") == ["b"]
    assert names() == ["a", "b"]
    put_filter(logs, "a", metric="Replaced")
    assert names(metricName="Errors", metricNamespace="Shop") == [] and count(logs) == 2
    logs.delete_metric_filter(logGroupName=GROUP, filterName="a")
    assert names() == ["b"] and count(logs) == 1
    logs.delete_log_group(logGroupName=GROUP)
    assert names() == []
    logs.create_log_group(logGroupName=GROUP)
    assert count(logs) == 0


def test_pages_reach_the_end(logs):
    for i in range(7):
        put_filter(logs, f"f{i}")
    pages = list(logs.get_paginator("describe_metric_filters").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 3}))
    assert [[f["filterName"] for f in page["metricFilters"]] for page in pages] == [["f0", "f1", "f2"], ["f3", "f4", "f5"], ["f6"]]


def test_every_modelled_error(logs):
    missing = "ResourceNotFoundException"
    ok = {"metricName": "m", "metricNamespace": "n", "metricValue": "1"}
    call = {"logGroupName": GROUP, "filterName": "f", "filterPattern": "x", "metricTransformations": [ok]}
    assert refused(logs.put_metric_filter, missing, **{**call, "logGroupName": "/nowhere"}) == "The specified log group does not exist."
    refused(logs.describe_metric_filters, missing, logGroupName="/nowhere")
    refused(logs.delete_metric_filter, missing, logGroupName="/nowhere", filterName="f")
    assert refused(logs.delete_metric_filter, missing, logGroupName=GROUP, filterName="f") == "The specified metric filter does not exist."
    for change in (
        {"filterName": "a:b"},
        {"filterPattern": "{ $.a"},
        {"filterPattern": "x" * 1025},
        {"metricTransformations": [ok, ok]},
        {"metricTransformations": [{**ok, "metricValue": "many"}]},
        {"metricTransformations": [{**ok, "metricValue": "$.a"}]},
        {"metricTransformations": [{**ok, "metricName": "a:b"}]},
        {"metricTransformations": [{**ok, "metricNamespace": "x" * 256}]},
        {"metricTransformations": [{**ok, "unit": "Parsecs"}]},
        {"filterPattern": "{ $.a = 1 }", "metricTransformations": [{**ok, "dimensions": {"A": "$.a"}, "defaultValue": 0.0}]},
        {"filterPattern": "{ $.a = 1 }", "metricTransformations": [{**ok, "dimensions": {n: f"$.{n}" for n in "abcd"}}]},
    ):
        refused(logs.put_metric_filter, "InvalidParameterException", **{**call, **change})
    refused(logs.describe_metric_filters, "InvalidParameterException", metricName="m")
    refused(logs.describe_metric_filters, "InvalidParameterException", metricNamespace="n")
    for i in range(100):
        logs.put_metric_filter(**{**call, "filterName": f"f{i}"})
    refused(logs.put_metric_filter, "LimitExceededException", **call)


def test_matching_events_become_points_through_crash_change_and_flush(make_lake):
    lake, books = make_lake(), Books()
    logs = prepared(lake)
    put(logs, "ERROR before the filter")
    put_filter(logs)
    put_filter(logs, "latency", "{ $.ms = * }", value="$.ms", metric="Latency", unit="Milliseconds", dimensions={"Route": "$.route"})
    put(logs, "ERROR one", "fine", {"ms": 7.5, "route": "/pay", "trace_id": TRACE}, {"ms": "slow", "route": "/pay"}, {"ms": 1})
    put_filter(logs, value="10")
    put(logs, "ERROR ten")
    logs.delete_metric_filter(logGroupName=GROUP, filterName="f")
    put(logs, "ERROR behind the filter")
    books.add("awslogs", "logs", accepted=8)
    books.add("awslogs", "metrics", accepted=3, rejected=2)

    def holds(when):
        books.agree(lake, when)
        assert (points(lake), points(lake, "Latency")) == ([1.0, 10.0], [7.5]), when
        assert lake.sql("SELECT trace_id FROM metric_exemplars") == [{"trace_id": TRACE}], when
        series = lake.sql("SELECT DISTINCT unit, service_name, attributes['Route'] AS route, resource_attributes['aws.cloudwatch.namespace'] AS ns FROM metric_series WHERE metric_name = 'Latency'")
        assert series == [{"unit": "ms", "service_name": "web", "route": "/pay", "ns": "Shop"}], when

    holds("at once")
    lake.restart(kill=True)
    holds("after kill -9: the log knows the filters of then")
    lake.restart()
    holds("from blocks")
    logs = lake.boto3()
    put(logs, {"ms": 2, "route": "/pay"})
    assert points(lake, "Latency") == [2.0, 7.5], "the filter is still there"


def test_a_batch_that_comes_again_makes_no_points_again(lake, logs):
    put_filter(logs)
    events = [{"timestamp": now(), "message": "ERROR"}]
    for _ in range(3):
        logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
    assert points(lake) == [1.0]
    lake.restart(kill=True)
    lake.boto3().put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
    assert points(lake) == [1.0]


def test_a_minute_without_a_match_has_the_default_value(lake, logs):
    put_filter(logs, defaultValue=0.0)
    [shown] = logs.describe_metric_filters(logGroupName=GROUP)["metricFilters"]
    assert shown["metricTransformations"][0]["defaultValue"] == 0.0
    put(logs, "fine", "still fine")
    put(logs, "ERROR", "fine")
    assert sum(points(lake)) == 1.0
    before = points(lake)
    assert 0.0 in before and len(before) <= 4
    lake.restart(kill=True)
    assert points(lake) == before


def test_other_ways_into_the_group_make_points_too(lake, logs):
    put_filter(logs)
    attributes = [{"key": "aws.log.group.names", "value": {"stringValue": GROUP}}]
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "ERROR by OTLP"}}
    body = {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [record]}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/logs", json=body, timeout=20).status_code == 200
    posted = requests.post(lake.url + "/ingest/bulk", params={"logGroup": GROUP, "logStream": "s"}, data=json.dumps("ERROR by HTTP"), timeout=20)
    assert posted.status_code == 200, posted.text
    assert points(lake) == [1.0, 1.0]
    lake.restart(kill=True)
    assert points(lake) == [1.0, 1.0]
    assert counted(lake)["otlp", "metrics"] == {"accepted": 1}


def test_system_fields_are_dimensions_and_choose_the_events(lake, logs):
    transformation = {"metricName": "Errors", "metricNamespace": "Shop", "metricValue": "1"}
    members = dict(logGroupName=GROUP, filterPattern="ERROR", metricTransformations=[transformation])
    here, elsewhere = '@aws.region = "us-east-1"', '@aws.account NOT IN ["000000000000"]'
    logs.put_metric_filter(filterName="here", fieldSelectionCriteria=here, emitSystemFieldDimensions=["@aws.account", "@aws.region"], **members)
    logs.put_metric_filter(filterName="elsewhere", fieldSelectionCriteria=elsewhere, **members)
    put(logs, "an ERROR")
    lake.restart(kill=True)
    logs = lake.boto3()
    put(logs, "another ERROR")
    assert points(lake) == [1.0, 1.0]
    series = lake.sql("SELECT DISTINCT attributes['@aws.account'] AS account, attributes['@aws.region'] AS region FROM metric_series WHERE metric_name = 'Errors'")
    assert series == [{"account": "000000000000", "region": "us-east-1"}]
    shown = {one["filterName"]: one for one in logs.describe_metric_filters(logGroupName=GROUP)["metricFilters"]}
    assert (shown["here"]["fieldSelectionCriteria"], shown["here"]["emitSystemFieldDimensions"]) == (here, ["@aws.account", "@aws.region"])
    assert shown["elsewhere"]["fieldSelectionCriteria"] == elsewhere and "emitSystemFieldDimensions" not in shown["elsewhere"]


def test_a_key_for_some_groups_sees_their_filters_alone(make_lake):
    key = lambda name, rights, groups=None: {"access_key_id": name, "secret_access_key": name * 4, "rights": rights, **({"log_groups": groups} if groups else {})}
    lake = make_lake(config={"aws": {"keys": [key("ADMIN", ["admin", "write", "read"]), key("READER", ["read"], ["/shop/*"])]}})
    admin = lake.boto3(aws_access_key_id="ADMIN", aws_secret_access_key="ADMIN" * 4)
    for group in (GROUP, "/other"):
        admin.create_log_group(logGroupName=group)
        put_filter(admin, group=group)
    reader = lake.boto3(aws_access_key_id="READER", aws_secret_access_key="READER" * 4)
    assert [f["logGroupName"] for f in reader.describe_metric_filters()["metricFilters"]] == [GROUP]
    refused(reader.describe_metric_filters, "AccessDeniedException", logGroupName="/other")
    refused(reader.delete_metric_filter, "AccessDeniedException", logGroupName=GROUP, filterName="f")
