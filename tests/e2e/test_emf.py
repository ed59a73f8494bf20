"""Metrics inside log lines (EMF), whichever protocol brings them."""

import json
import time

import requests

from test_firehose import deliver, subscription
from test_ledger import Books, counted

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def line(i=0, **members):
    """A line as aws-embedded-metrics writes it."""
    directive = {"Namespace": "Shop", "Dimensions": [["Service", "Zone"], ["Service"]], "Metrics": [{"Name": "Latency", "Unit": "Milliseconds"}, {"Name": "Orders", "Unit": "Count"}]}
    aws = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": aws, "Service": "pay", "Zone": "b", "Latency": [1.5, 2.5 + i], "Orders": 1, "trace_id": TRACE, "order": i, **members})


def put(lake, lines, group="/aws/lambda/pay"):
    logs = lake.boto3()
    for call, name in ((logs.create_log_group, {}), (logs.create_log_stream, {"logStreamName": "s"})):
        try:
            call(logGroupName=group, **name)
        except logs.exceptions.ResourceAlreadyExistsException:
            pass
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": now, "message": text} for text in lines])


def points(lake, table="metric_points"):
    value = "value" if table == "metric_points" else "sum"
    return lake.sql(f"SELECT metric_name, {value} AS v FROM {table} ORDER BY metric_name, v")


def test_a_line_is_searched_as_a_log_and_asked_as_metrics_through_crash_and_flush(make_lake):
    lake, books = make_lake(), Books()
    put(lake, [line(0), line(1), "no metrics", json.dumps({"CloudWatchMetrics": "is only a word here"})])
    books.add("awslogs", "logs", accepted=4)
    books.add("awslogs", "metrics", accepted=8)

    def holds(when):
        books.agree(lake, when)
        assert [(p["metric_name"], p["v"]) for p in points(lake)] == [("Orders", 1.0)] * 4, when
        assert [(p["metric_name"], p["v"]) for p in points(lake, "metric_summaries")] == [("Latency", 4.0)] * 2 + [("Latency", 5.0)] * 2, when
        assert len(lake.hits("order:1")) == 1, "the line's other members are fields"
        exemplars = lake.sql(f"SELECT count(*) AS n FROM metric_exemplars WHERE trace_id = '{TRACE}'")
        assert exemplars == [{"n": "8"}], when

    holds("at once")
    lake.restart(kill=True)
    holds("after kill -9")
    lake.restart()
    holds("from blocks")
    series = lake.sql("SELECT DISTINCT metric_name, unit, service_name, attributes['Zone'] AS zone, resource_attributes['aws.cloudwatch.namespace'] AS ns FROM metric_series ORDER BY 1, zone")
    assert [(s["metric_name"], s["unit"], s["service_name"], s["zone"], s["ns"]) for s in series] == [
        ("Latency", "ms", "pay", "b", "Shop"),
        ("Latency", "ms", "pay", None, "Shop"),
        ("Orders", "{Count}", "pay", "b", "Shop"),
        ("Orders", "{Count}", "pay", None, "Shop"),
    ]


def test_firehose_and_otlp_bring_it_too(lake):
    assert deliver(lake, [subscription([line()]), line().encode()]).status_code == 200
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": line()}}
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/logs", json=body, timeout=20).status_code == 200
    sums = counted(lake)
    assert (sums["firehose", "logs"], sums["firehose", "metrics"]) == ({"accepted": 2}, {"accepted": 8})
    assert (sums["otlp", "logs"], sums["otlp", "metrics"]) == ({"accepted": 1}, {"accepted": 4})


def test_what_is_over_a_bound_is_counted_and_the_line_is_kept(lake):
    many = {f"m{i}": i for i in range(101)}
    directive = {"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": name} for name in many]}
    aws = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    old = {"Timestamp": 1, "CloudWatchMetrics": [{**directive, "Metrics": [{"Name": "m1"}]}]}
    put(lake, [json.dumps({"_aws": aws, **many}), json.dumps({"_aws": old, **many}), line(Orders="one")])
    sums = counted(lake)
    assert sums["awslogs", "logs"] == {"accepted": 3}
    assert sums["awslogs", "metrics"] == {"accepted": 102, "rejected": 4}
    reasons = {r["reason"]: int(r["n"]) for r in lake.sql("SELECT reason, sum(records) AS n FROM ledger WHERE signal = 'metrics' AND outcome = 'rejected' GROUP BY 1")}
    assert reasons == {"too_large": 1, "too_old": 1, "invalid_field": 2}
