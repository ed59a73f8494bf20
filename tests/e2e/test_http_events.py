"""CloudWatch Logs' HTTP ingestion endpoints."""

import base64
import gzip
import json
import time

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from test_ledger import Books

PLACE = {"logGroup": "/shop/web", "logStream": "s"}


@pytest.fixture
def logs(lake):
    client = lake.boto3()
    client.create_log_group(logGroupName="/shop/web")
    client.create_log_stream(logGroupName="/shop/web", logStreamName="s")
    return client


def post(lake, path, body, params=PLACE, **more):
    return requests.post(lake.url + path, data=body, params=params, timeout=20, **more)


def test_each_endpoint_takes_its_form_and_a_kill_loses_nothing(lake, logs):
    books = Books()
    now = time.time()
    collected = "".join(json.dumps({"event": event, "time": round(now - 1, 3), "host": "h1"}) for event in ("collected", {"nested": {"n": 7}}))
    assert post(lake, "/services/collector/event", collected).json() == {}
    assert post(lake, "/ingest/bulk", '{"line":1}\n{"line":2}\n').json() == {}
    body = gzip.compress(json.dumps([{"document": 1}, {"document": 2, "timestamp": int(now * 1000) - 5000}]).encode())
    by_header = {"x-aws-log-group": "/shop/web", "x-aws-log-stream": "s", "Content-Encoding": "gzip"}
    assert post(lake, "/ingest/json", body, params=None, headers=by_header).json() == {}
    books.add("awslogs", "logs", accepted=6)
    lake.restart(kill=True)
    books.agree(lake, "after kill -9")
    events = lake.boto3().get_log_events(logGroupName="/shop/web", logStreamName="s", startFromHead=True)["events"]
    assert sorted(event["message"] for event in events) == sorted(
        ["collected", '{"nested": {"n": 7}}', '{"line":1}', '{"line":2}', '{"document": 1}', json.dumps({"document": 2, "timestamp": int(now * 1000) - 5000})]
    )
    at = {event["message"]: event["timestamp"] for event in events}
    assert at["collected"] == int(round(now - 1, 3) * 1000 + 0.5)
    assert len(lake.hits("nested.n:7")) == 1
    assert lake.sql("SELECT count(*) AS n FROM logs WHERE attributes['host'] = 'h1'") == [{"n": "2"}]


def test_refusals(lake, logs):
    fine = '{"a":1}'
    both = {"x-aws-log-group": "/shop/web", "x-aws-log-stream": "s"}
    for status, error, answer in [
        (400, "InvalidParameterException", post(lake, "/ingest/json", fine, params=None)),
        (400, "InvalidParameterException", post(lake, "/ingest/json", fine, headers=both)),
        (404, "ResourceNotFoundException", post(lake, "/ingest/json", fine, params={**PLACE, "logGroup": "/other"})),
        (404, "ResourceNotFoundException", post(lake, "/ingest/json", fine, params={**PLACE, "logStream": "t"})),
        (400, "SerializationException", post(lake, "/ingest/json", "{")),
        (400, "InvalidParameterException", post(lake, "/services/collector/event", '{"no":"event"}')),
        (400, "InvalidParameterException", post(lake, "/ingest/json", " " * (1 << 20) + fine)),
        (400, "InvalidParameterException", post(lake, "/ingest/bulk", (fine + "\n") * 10_001)),
    ]:
        assert (answer.status_code, answer.json()["__type"]) == (status, error), answer.text
    old = [{"a": 1, "timestamp": 1}, {"a": 2}]
    partial = post(lake, "/ingest/json", json.dumps(old)).json()["partialSuccess"]
    assert partial["rejectedLogRecords"] == 1
    assert json.loads(partial["errorMessage"]) == {"tooOldLogEventCount": 1, "tooNewLogEventCount": 0, "expiredLogEventCount": 0}


def test_where_keys_are_configured_strangers_are_refused(make_lake):
    keys = [
        {"access_key_id": "AKIDWRITE", "secret_access_key": "secret of write", "rights": ["write"]},
        {"access_key_id": "AKIDREAD", "secret_access_key": "secret of read", "rights": ["read"]},
    ]
    lake = make_lake(config={"aws": {"keys": keys}})
    for headers in ({}, {"Authorization": "Bearer ACWLtoken"}):
        answer = post(lake, "/ingest/json", "{}", headers=headers)
        assert answer.status_code == 401 and "__type" in answer.json(), answer.text
    # who is known, and may not
    request = AWSRequest("POST", f"{lake.url}/ingest/json", data=b"{}", params=PLACE)
    SigV4Auth(Credentials("AKIDREAD", "secret of read"), "logs", "us-east-1").add_auth(request)
    answer = lake.session.post(request.prepare().url, data=b"{}", headers=dict(request.headers))
    assert (answer.status_code, answer.json()["__type"]) == (403, "AccessDeniedException"), answer.text


def test_bearer_tokens_can_be_switched_off_for_a_group(make_lake):
    """At AWS they are off until switched on; here those of `[auth]` are good until switched off."""
    lake = make_lake(config={"auth": {"bearer_tokens": ["a-token-of-ours"]}})
    token = {"Authorization": "Bearer a-token-of-ours"}
    call = lambda name, **members: lake.session.post(  # noqa: E731
        lake.url, data=json.dumps(members), headers={**token, "X-Amz-Target": f"Logs_20140328.{name}", "Content-Type": "application/x-amz-json-1.1"}
    )
    for name, members in [("CreateLogGroup", {}), ("CreateLogStream", {"logStreamName": PLACE["logStream"]})]:
        assert call(name, logGroupName=PLACE["logGroup"], **members).status_code == 200

    def sent(path="/ingest/json", body='{"a":1}', **more):
        return post(lake, path, body, headers=token, **more).status_code

    def shown():
        (group,) = call("DescribeLogGroups", logGroupNamePrefix=PLACE["logGroup"]).json()["logGroups"]
        return group["bearerTokenAuthenticationEnabled"]

    def switch(on):
        answer = call("PutBearerTokenAuthentication", logGroupIdentifier=PLACE["logGroup"], bearerTokenAuthenticationEnabled=on)
        assert answer.status_code == 200, answer.text

    assert (sent(), shown()) == (200, True)
    switch(False)
    assert (sent(), sent("/ingest/bulk"), shown()) == (403, 403, False)
    otlp = {"x-aws-log-group": PLACE["logGroup"], "x-aws-log-stream": PLACE["logStream"], **token}
    assert lake.session.post(lake.url + "/v1/logs", json={}, headers=otlp).status_code == 403
    # the same token as the password of Basic, which is one too
    basic = {"Authorization": "Basic " + base64.b64encode(b"me:a-token-of-ours").decode()}
    assert post(lake, "/ingest/json", '{"a":1}', headers=basic).status_code == 403
    lake.restart()
    assert sent() == 403
    switch(True)
    assert (sent(), shown()) == (200, True)
    assert lake.session.post(lake.url + "/v1/logs", json={}, headers=otlp).status_code == 200
    answer = call("PutBearerTokenAuthentication", logGroupIdentifier="/none", bearerTokenAuthenticationEnabled=True)
    assert answer.json()["__type"] == "ResourceNotFoundException"
    assert call("PutBearerTokenAuthentication", logGroupIdentifier="/none").json()["__type"] == "InvalidParameterException"
