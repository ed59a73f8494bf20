"""Firehose's HTTP endpoint destination, as Firehose calls it."""

import base64
import gzip
import json
import time
import uuid

import pytest
import requests

from test_ledger import Books

ARN = "arn:aws:firehose:eu-central-1:123456789012:deliverystream/to-lake"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def now_ms():
    return int(time.time() * 1000)


def subscription(messages, group="/aws/lambda/pay", kind="DATA_MESSAGE"):
    """A record as a subscription filter writes it."""
    events = [{"id": f"{uuid.uuid4().int:056d}"[:56], "timestamp": now_ms() - 1000 + i, "message": m} for i, m in enumerate(messages)]
    record = {"messageType": kind, "owner": "111122223333", "logGroup": group, "logStream": "2026/11/22/[1]a", "subscriptionFilters": ["f"], "logEvents": events}
    return gzip.compress(json.dumps(record).encode(), 6)


def metric(name, **more):
    """An object of a Metric Stream in JSON."""
    value = {"count": 2.0, "sum": 30.0, "min": 10.0, "max": 20.0, "p99": 19.0}
    return {
        "metric_stream_name": "s", "account_id": "111122223333", "region": "eu-central-1", "namespace": "AWS/EC2", "metric_name": name,
        "dimensions": {"InstanceId": "i-1"}, "timestamp": now_ms(), "value": value, "unit": "Percent", **more,
    }  # fmt: skip


def deliver(lake, records, request_id=None, compress=False, timeout=20, **headers):
    """One delivery; gives the response."""
    request_id = request_id or str(uuid.uuid4())
    body = json.dumps({"requestId": request_id, "timestamp": now_ms(), "records": [{"data": base64.b64encode(r).decode()} for r in records]}).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Amz-Firehose-Protocol-Version": "1.0",
        "X-Amz-Firehose-Request-Id": request_id,
        "X-Amz-Firehose-Source-Arn": ARN,
        "X-Amz-Firehose-Common-Attributes": '{"commonAttributes":{"team":"shop"}}',
        **headers,
    }
    if compress:
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    response = requests.post(lake.url + "/firehose", data=body, headers=headers, timeout=timeout)
    assert response.headers["Content-Type"] == "application/json" and int(response.headers["Content-Length"]) == len(response.content)
    assert response.json()["requestId"] == request_id
    return response


@pytest.mark.parametrize("compress", [False, True])
def test_every_kind_of_record_is_stored_before_the_200_and_survives_a_kill(make_lake, compress):
    lake, books = make_lake(), Books()
    records = [
        subscription([f"paid 1 trace_id={TRACE}", "paid 2"]),
        subscription(["CWL CONTROL MESSAGE: Checking health of destination Firehose."], kind="CONTROL_MESSAGE"),
        (json.dumps(metric("CPUUtilization")) + "\n" + json.dumps(metric("NetworkIn", unit="Bytes"))).encode() + b"\n",
        b'{"level":"error","msg":"json line"}\n{"level":"info","msg":"another"}\n',
        b"a plain line\nand one more\n",
    ]
    response = deliver(lake, records, compress=compress)
    assert response.status_code == 200 and set(response.json()) == {"requestId", "timestamp"}
    books.add("firehose", "logs", accepted=6)
    books.add("firehose", "metrics", accepted=2)
    lake.restart(kill=True)
    books.agree(lake, "after kill -9")

    by_group = {hit["body"]: hit for hit in lake.hits('aws_log_group:"/aws/lambda/pay"')}
    assert set(by_group) == {f"paid 1 trace_id={TRACE}", "paid 2"}
    paid = lake.sql("SELECT service_name, aws_log_stream, cloud_region, trace_id FROM logs WHERE body LIKE 'paid 1%'")
    assert paid == [{"service_name": "pay", "aws_log_stream": "2026/11/22/[1]a", "cloud_region": "eu-central-1", "trace_id": TRACE}]
    others = lake.sql("SELECT body, service_name, severity_number FROM logs WHERE service_name = 'to-lake' ORDER BY body")
    assert [row["body"] for row in others] == ["a plain line", "and one more", '{"level":"error","msg":"json line"}', '{"level":"info","msg":"another"}']
    assert [row["severity_number"] for row in others[2:]] == [17, 9]
    points = lake.sql("SELECT p.metric_name, p.count, p.sum, s.unit FROM metric_summaries p JOIN metric_series s USING (series_id) ORDER BY 1")
    assert points == [
        {"metric_name": "CPUUtilization", "count": "2", "sum": 30.0, "unit": "%"},
        {"metric_name": "NetworkIn", "count": "2", "sum": 30.0, "unit": "By"},
    ]
    lake.restart()
    books.agree(lake, "after a restart")


def test_statuses_are_those_that_firehose_acts_on(make_lake):
    lake = make_lake(config={"firehose": {"access_keys": ["firehose-key-1"], "max_body_bytes": 20_000}})
    key = {"X-Amz-Firehose-Access-Key": "firehose-key-1"}
    assert deliver(lake, [b"x"], **key).status_code == 200
    wrong = deliver(lake, [b"x"], **{"X-Amz-Firehose-Access-Key": "firehose-key-2"})
    assert wrong.status_code == 401 and "access_keys" in wrong.json()["errorMessage"]
    assert deliver(lake, [b"x"]).status_code == 401
    large = deliver(lake, [b"x" * 30_000], **key)
    assert large.status_code == 400, "413 would lose the batch"
    other = requests.post(lake.url + "/firehose", json={"requestId": "b", "records": []}, headers={"X-Amz-Firehose-Request-Id": "a", **key}, timeout=20)
    assert other.status_code == 400 and other.json()["requestId"] == "a"
    missing = requests.post(lake.url + "/firehose", json={"requestId": "b", "records": []}, headers=key, timeout=20)
    assert missing.status_code == 400
    books = Books()
    books.add("firehose", "logs", accepted=1, rejected=3)
    books.agree(lake, "refusals of strangers are not counted")


def test_records_that_no_retry_mends_are_counted_and_the_others_kept(make_lake):
    lake, books = make_lake(), Books()
    broken = subscription(["never read"])[:-9]
    assert deliver(lake, [broken, b"fine", json.dumps(metric("Old", timestamp=1)).encode()]).status_code == 200
    books.add("firehose", "logs", accepted=1, rejected=1)
    books.add("firehose", "metrics", rejected=1)
    books.agree(lake, "with bad records")


def test_a_delivery_that_comes_again_is_stored_once_also_after_a_kill(make_lake):
    lake, books = make_lake(), Books()
    records = [b"one\ntwo", json.dumps(metric("M")).encode()]
    assert deliver(lake, records, request_id="again").status_code == 200
    assert deliver(lake, records, request_id="again").status_code == 200
    lake.restart(kill=True)
    # the log does not have what was not stored: its count went with the process
    assert deliver(lake, records, request_id="again").status_code == 200
    assert deliver(lake, records, request_id="another").status_code == 200
    # a sender that gives all of its deliveries one ID
    assert deliver(lake, [b"three"], request_id="again").status_code == 200
    books.add("firehose", "logs", accepted=5, repeated=2)
    books.add("firehose", "metrics", accepted=2, repeated=1)
    books.agree(lake, "after repetitions")
    last = lake.sql("SELECT (SELECT count(*) FROM logs) AS logs, (SELECT count(*) FROM metric_summaries) AS points")
    assert last == [{"logs": "5", "points": "2"}]


def test_a_subscription_s_events_are_read_with_the_calls_of_cloudwatch_logs(make_lake):
    """Nobody made group and streams by call; they are there when the delivery is answered, and after kill -9."""
    lake, group, stream = make_lake(), "/aws/lambda/pay", "2026/11/22/[1]a"
    assert deliver(lake, [subscription([f"paid {i}" for i in range(5)]), subscription(["CONTROL"], "", kind="CONTROL_MESSAGE")]).status_code == 200
    assert deliver(lake, [subscription(["in another group"], "/aws/lambda/ship")]).status_code == 200

    def check(n):
        logs = lake.boto3()
        assert [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]] == [group, "/aws/lambda/ship"]
        (shown,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
        assert shown["logStreamName"] == stream
        assert shown["lastEventTimestamp"] - shown["firstEventTimestamp"] >= 4
        wanted = [f"paid {i}" for i in range(n)]
        events = logs.filter_log_events(logGroupName=group)["events"]
        assert sorted(e["message"] for e in events) == wanted and all(e["logStreamName"] == stream for e in events)
        assert sorted(e["message"] for e in logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]) == wanted
        end = int(time.time()) + 1
        query = logs.start_query(logGroupName=group, startTime=end - 600, endTime=end, queryString="filter @message like 'paid' | fields @message | sort @message asc")
        page = lake.wait_until(lambda: (page := logs.get_query_results(queryId=query["queryId"]))["status"] == "Complete" and page)
        assert [next(f["value"] for f in row if f["field"] == "@message") for row in page["results"]] == wanted
        # each has the ID that it had at AWS
        ids = [hit["attributes"]["aws.log.event.id"] for hit in lake.hits(f'log_group:"{group}"')]
        assert len(set(ids)) == n and all(len(one) == 56 for one in ids)

    check(5)
    lake.restart(kill=True)
    check(5)
    assert deliver(lake, [subscription(["paid 5"])]).status_code == 200
    check(6)
    lake.restart()
    check(6)
    # it is a log group like others: its retention, and a filter on it
    lake.boto3().put_retention_policy(logGroupName=group, retentionInDays=7)
    lake.boto3().delete_log_group(logGroupName="/aws/lambda/ship")
    assert deliver(lake, [subscription(["once more"], "/aws/lambda/ship")]).status_code == 200
    assert [e["message"] for e in lake.boto3().filter_log_events(logGroupName="/aws/lambda/ship")["events"]] == ["once more"]
