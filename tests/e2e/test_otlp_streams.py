"""OTLP logs that name a log stream in their headers, as AWS' own `/v1/logs` takes them."""

import gzip
import json
import time

import pytest
import requests

from test_ledger import Books

PLACE = {"x-aws-log-group": "/shop/web", "x-aws-log-stream": "s"}


@pytest.fixture
def logs(lake):
    client = lake.boto3()
    client.create_log_group(logGroupName="/shop/web")
    client.create_log_stream(logGroupName="/shop/web", logStreamName="s")
    return client


def message(bodies, ago_seconds=1):
    at = time.time_ns() - int(ago_seconds * 1e9)
    records = [{"timeUnixNano": str(at + n * 1_000_000), "body": {"stringValue": body}} for n, body in enumerate(bodies)]
    elsewhere = [{"key": "aws.log.group.names", "value": {"stringValue": "/elsewhere"}}, {"key": "service.name", "value": {"stringValue": "cart"}}]
    return json.dumps({"resourceLogs": [{"resource": {"attributes": elsewhere}, "scopeLogs": [{"logRecords": records}]}]})


def post(lake, body, headers=PLACE, **more):
    more = {"Content-Type": "application/json"} | more
    return requests.post(lake.url + "/v1/logs", data=body, headers=headers | more, timeout=20)


def test_records_are_of_the_stream_that_the_headers_name_also_after_a_kill(lake, logs):
    books = Books()
    assert post(lake, message(["one", "two"])).json() == {}
    assert post(lake, gzip.compress(message(["three"]).encode()), **{"Content-Encoding": "gzip"}).json() == {}
    books.add("otlp", "logs", accepted=3)
    read = lambda: sorted(event["message"] for event in lake.boto3().filter_log_events(logGroupName="/shop/web")["events"])
    assert read() == ["one", "three", "two"]
    (stream,) = lake.boto3().describe_log_streams(logGroupName="/shop/web")["logStreams"]
    assert stream["lastEventTimestamp"] > (time.time() - 60) * 1000
    lake.restart(kill=True)
    books.agree(lake, "after kill -9")
    assert read() == ["one", "three", "two"]
    # what else their resource says stays
    assert len(lake.hits("service:cart")) == 3


def test_refusals(lake, logs):
    fine = message(["x"])
    for status, answer in [
        (404, post(lake, fine, PLACE | {"x-aws-log-group": "/other"})),
        (404, post(lake, fine, PLACE | {"x-aws-log-stream": "t"})),
        (400, post(lake, fine, {"x-aws-log-group": "/shop/web"})),
        (400, post(lake, fine, PLACE | {"x-aws-log-group": "a b"})),
        (400, post(lake, "{")),
        (413, post(lake, message(["x"] * 10_001))),
        (413, post(lake, message(["x" * 1000] * 1_100))),
    ]:
        assert answer.status_code == status and "message" in answer.json(), (status, answer.text)
    assert post(lake, message(["x"] * 10_000)).json() == {}
    partial = post(lake, message(["old"], ago_seconds=15 * 86_400)).json()["partialSuccess"]
    assert partial["rejectedLogRecords"] == "1"


def test_where_keys_are_configured_the_key_must_be_for_the_group(make_lake):
    keys = [{"access_key_id": "AKIDALL", "secret_access_key": "secret of all", "rights": ["write", "read", "admin"]}]
    lake = make_lake(config={"aws": {"keys": keys}})
    answer = post(lake, message(["x"]), PLACE | {"Authorization": "Bearer ACWLtoken"})
    assert answer.status_code in (401, 403), answer.text
