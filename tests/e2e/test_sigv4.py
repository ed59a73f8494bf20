"""AWS signatures: boto3, the AWS CLI and requests signed by botocore by hand, with keys that may do one thing and not another."""

import datetime
import gzip
import json
import os
import subprocess
import time
from unittest import mock

import botocore.auth
import pytest
import requests
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import lake as lakes

SECRETS = {name: f"secret-of-{name}-0123456789" for name in ("admin", "writer", "reader", "shop", "guest")}
TOKEN = "a-session-token-of-the-guest"


def key(name, rights, **more):
    return {"access_key_id": f"AKID{name.upper()}", "name": name, "rights": rights, **more}


def keys(tmp_path):
    """Keys with secrets in all the places that there are."""
    secret = tmp_path / "shop.secret"
    secret.write_text(SECRETS["shop"] + "\n")
    return [
        key("admin", ["write", "read", "admin"], secret_access_key=SECRETS["admin"]),
        key("writer", ["write"], secret_access_key={"env": "WRITER_SECRET"}),
        key("reader", ["read"], secret_access_key=SECRETS["reader"]),
        key("shop", ["write", "read", "admin"], secret_access_key={"file": secret}, log_groups=["/shop/*"]),
        key("guest", ["read"], secret_access_key=SECRETS["guest"], session_token=TOKEN),
    ]


@pytest.fixture
def guarded(make_lake, tmp_path):
    """A server whose AWS faces want signatures."""
    lake = make_lake("guarded", config={"aws": {"keys": keys(tmp_path)}}, env={"WRITER_SECRET": SECRETS["writer"]})
    yield lake
    log = lake.log_path.read_text()
    assert not any(secret in log for secret in [*SECRETS.values(), TOKEN])


def as_(lake, name, service="logs", **more):
    """A boto3 client with one of the keys."""
    return lake.boto3(service, **{"aws_access_key_id": f"AKID{name.upper()}", "aws_secret_access_key": SECRETS[name], **more})


def refused(call, *args, **kwargs):
    """The error of a call, as boto3 has it: code, message, status."""
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def events(message="hello"):
    return [{"timestamp": int(time.time() * 1000), "message": message}]


def make_stream(lake, group):
    admin = as_(lake, "admin")
    admin.create_log_group(logGroupName=group)
    admin.create_log_stream(logGroupName=group, logStreamName="s")
    return {"logGroupName": group, "logStreamName": "s"}


def segment():
    now = time.time()
    body = {"name": "api", "id": "70de5b6f19ff9a0a", "trace_id": f"1-{int(now):08x}-5759e988bd862e3fe1be46a9", "start_time": now - 1, "end_time": now}
    return json.dumps(body)


def sign(url, headers, body, service, name="admin", secret=None, auth=botocore.auth.SigV4Auth, **more):
    """A request signed by botocore, to be sent by hand."""
    request = AWSRequest(method="POST", url=url, headers=headers, data=body)
    auth(Credentials(f"AKID{name.upper()}", secret or SECRETS[name]), service, "eu-west-1", **more).add_auth(request)
    return request


def test_a_right_signature_writes_and_reads_whatever_the_body_is(guarded):
    stream = make_stream(guarded, "/shop/api")
    writer = as_(guarded, "writer")
    writer.put_log_events(**stream, logEvents=events("héllo wörld"))
    # above what is hashed in passing
    large = [{"timestamp": int(time.time() * 1000), "message": "large " + "x" * 1000} for _ in range(900)]
    writer.put_log_events(**stream, logEvents=large)
    body = gzip.compress(json.dumps({**stream, "logEvents": events("of a gzip")}).encode())
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.PutLogEvents", "Content-Encoding": "gzip"}
    request = sign(guarded.url + "/", headers, body, "logs")
    assert requests.post(request.url, body, headers=dict(request.headers)).status_code == 200
    # in any region
    as_(guarded, "writer", region_name="ap-southeast-2").put_log_events(**stream, logEvents=events("from afar"))
    assert len(guarded.hits()) == 903
    groups = as_(guarded, "reader").describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/shop/api"]
    xray = as_(guarded, "writer", "xray")
    assert xray.put_trace_segments(TraceSegmentDocuments=[segment()])["UnprocessedTraceSegments"] == []
    metrics = requests.get(guarded.url + "/metrics").text
    assert 'tracelake_receive_signatures_total{outcome="verified"}' in metrics


def test_wrong_stale_and_missing_signatures_get_the_services_own_errors(guarded):
    stream = make_stream(guarded, "/g")
    put = {**stream, "logEvents": events()}
    put_segments = {"TraceSegmentDocuments": [segment()]}

    def both(part, code, **more):
        logs = refused(as_(guarded, "writer", **more).put_log_events, **put)
        assert (logs[0], logs[2]) == (code, 400) and part in logs[1], logs
        xray = refused(as_(guarded, "writer", "xray", **more).put_trace_segments, **put_segments)
        assert (xray[0], xray[2]) == (code, 403) and part in xray[1], xray

    both("The Canonical String for this request should have been", "InvalidSignatureException", aws_secret_access_key="wrong-secret")
    both("security token included in the request is invalid", "UnrecognizedClientException", aws_access_key_id="AKIDNOBODY")
    both("security token included in the request is invalid", "UnrecognizedClientException", aws_session_token="not-configured")
    now = botocore.auth.get_current_datetime
    for minutes, part in ((-6, "Signature expired: "), (6, "Signature not yet current: ")):
        with mock.patch("botocore.auth.get_current_datetime", lambda: now() + datetime.timedelta(minutes=minutes)):
            both(part, "InvalidSignatureException")
    with mock.patch("botocore.auth.get_current_datetime", lambda: now() - datetime.timedelta(minutes=4)):
        as_(guarded, "writer").put_log_events(**put)

    body = json.dumps(put)
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.PutLogEvents"}
    answer = requests.post(guarded.url, body, headers=headers)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "MissingAuthenticationTokenException")
    assert answer.json()["__type"] == "MissingAuthenticationTokenException"
    answer = requests.post(guarded.url + "/TraceSegments", json=put_segments)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    # a large body does not keep the client from hearing why
    answer = requests.post(guarded.url, b"x" * 7_000_000, headers=headers)
    assert answer.json()["__type"] == "MissingAuthenticationTokenException"

    def said(authorization):
        return requests.post(guarded.url, body, headers={**headers, "Authorization": authorization}).json()

    assert said("AWS4-HMAC-SHA256 Credential=a/b/c/d/e")["__type"] == "IncompleteSignatureException"
    answer = said("AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=00")
    assert answer["__type"] == "IncompleteSignatureException" and "AWS4-ECDSA-P256-SHA256" in answer["message"]
    # what was signed cannot be changed: not the body, not the operation
    request = sign(guarded.url + "/", headers, body.encode(), "logs")
    assert requests.post(guarded.url, body + " ", headers=dict(request.headers)).json()["__type"] == "InvalidSignatureException"
    other = {**request.headers, "X-Amz-Target": "Logs_20140328.DeleteRetentionPolicy"}
    assert requests.post(guarded.url, body, headers=other).json()["__type"] == "InvalidSignatureException"
    unsigned_payload = {**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    request = sign(guarded.url + "/", unsigned_payload, body.encode(), "logs")
    answer = requests.post(guarded.url, body, headers=dict(request.headers)).json()
    assert answer["__type"] == "InvalidSignatureException" and "UNSIGNED-PAYLOAD" in answer["message"]
    assert len(guarded.hits()) == 1
    metrics = requests.get(guarded.url + "/metrics").text
    for outcome in ("missing", "incomplete", "unknown_key", "stale", "wrong"):
        assert f'tracelake_receive_signatures_total{{outcome="{outcome}"}}' in metrics, outcome


def test_each_right_opens_what_it_says_and_no_more(guarded):
    stream = make_stream(guarded, "/g")
    reader, writer = as_(guarded, "reader"), as_(guarded, "writer")
    code, message, status = refused(reader.put_log_events, **stream, logEvents=events())
    assert (code, status) == ("AccessDeniedException", 400)
    assert message.startswith("User: arn:aws:iam::000000000000:user/reader is not authorized to perform: logs:PutLogEvents on resource: ")
    assert message.endswith("lacks the right write")
    code, message, _ = refused(writer.put_retention_policy, logGroupName="/g", retentionInDays=1)
    assert code == "AccessDeniedException" and message.endswith("lacks the right admin")
    assert refused(writer.list_tags_log_group, logGroupName="/g")[0] == "AccessDeniedException"
    writer.put_log_events(**stream, logEvents=events())
    assert writer.describe_log_streams(logGroupName="/g")["logStreams"]
    assert reader.list_tags_log_group(logGroupName="/g")["tags"] == {}
    code, message, status = refused(as_(guarded, "reader", "xray").put_trace_segments, TraceSegmentDocuments=[segment()])
    assert (code, status) == ("AccessDeniedException", 403) and "xray:PutTraceSegments" in message
    as_(guarded, "reader", "xray").get_sampling_rules()
    # an operation that is not served needs the most
    assert refused(writer.describe_destinations)[0] == "AccessDeniedException"
    assert refused(as_(guarded, "admin").describe_destinations)[0] == "UnknownOperationException"
    # temporary credentials: with their token, and with no other
    guest = as_(guarded, "guest", aws_session_token=TOKEN)
    assert guest.describe_log_groups()["logGroups"]
    assert refused(as_(guarded, "guest").describe_log_groups)[0] == "UnrecognizedClientException"
    assert refused(as_(guarded, "guest", aws_session_token=TOKEN + "x").describe_log_groups)[0] == "UnrecognizedClientException"
    assert len(guarded.hits()) == 1


def test_a_key_for_some_log_groups_sees_and_touches_no_other(guarded):
    shop_stream, bank_stream = make_stream(guarded, "/shop/api"), make_stream(guarded, "/bank")
    shop = as_(guarded, "shop")
    shop.put_log_events(**shop_stream, logEvents=events())
    code, message, _ = refused(shop.put_log_events, **bank_stream, logEvents=events())
    assert code == "AccessDeniedException" and ":user/shop " in message and "log-group:/bank because" in message
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/bank"
    for call, members in (
        (shop.create_log_group, {"logGroupName": "/bank2"}),
        (shop.describe_log_streams, {"logGroupName": "/bank"}),
        (shop.describe_log_streams, {"logGroupIdentifier": arn}),
        (shop.describe_log_groups, {"logGroupIdentifiers": ["/shop/api", arn]}),
        (shop.tag_resource, {"resourceArn": arn, "tags": {"a": "b"}}),
        (shop.put_retention_policy, {"logGroupName": "/bank", "retentionInDays": 1}),
    ):
        assert refused(call, **members)[0] == "AccessDeniedException", members
    assert [group["logGroupName"] for group in shop.describe_log_groups()["logGroups"]] == ["/shop/api"]
    assert shop.describe_log_groups(logGroupNamePrefix="/bank")["logGroups"] == []
    shop.tag_resource(resourceArn=arn.replace("/bank", "/shop/api"), tags={"a": "b"})
    assert refused(as_(guarded, "shop", "xray").put_trace_segments, TraceSegmentDocuments=[segment()])[0] == "AccessDeniedException"
    assert len(guarded.hits()) == 1


def test_presigned_requests_and_the_daemons_port(guarded):
    presign = botocore.auth.SigV4QueryAuth
    url = sign(guarded.url + "/GetSamplingRules", {}, b"", "xray", auth=presign, expires=60).url
    assert requests.post(url).json()["SamplingRuleRecords"]
    assert requests.post(url.replace("Expires=60", "Expires=61")).json()["__type"] == "InvalidSignatureException"
    assert requests.post(url, data="x").json()["__type"] == "InvalidSignatureException"
    now = botocore.auth.get_current_datetime
    with mock.patch("botocore.auth.get_current_datetime", lambda: now() - datetime.timedelta(minutes=10)):
        old = sign(guarded.url + "/GetSamplingRules", {}, b"", "xray", auth=presign, expires=60).url
        long = sign(guarded.url + "/GetSamplingRules", {}, b"", "xray", auth=presign, expires=604_800).url
        too_long = sign(guarded.url + "/GetSamplingRules", {}, b"", "xray", auth=presign, expires=604_801).url
    assert "Signature expired" in requests.post(old).json()["Message"]
    assert requests.post(long).status_code == 200
    assert requests.post(too_long).json()["__type"] == "IncompleteSignatureException"

    # SDKs take the X-Ray port for a daemon that signs for them
    daemon = f"http://{guarded.xray}"
    for path in ("GetSamplingRules", "SamplingTargets"):
        body = {"SamplingStatisticsDocuments": []}
        assert requests.post(f"{daemon}/{path}", json=body).status_code == 200, path
        assert requests.post(f"{guarded.url}/{path}", json=body).status_code == 403, path
    assert requests.post(f"{daemon}/TraceSegments", json={"TraceSegmentDocuments": [segment()]}).status_code == 403


def test_the_aws_cli_signs_as_boto3_does(guarded):
    def cli(name, *args, **env):
        env = {"AWS_ACCESS_KEY_ID": f"AKID{name.upper()}", "AWS_SECRET_ACCESS_KEY": SECRETS[name], "AWS_DEFAULT_REGION": "us-east-1", **env}
        command = [lakes.tool("aws"), "logs", *args, "--endpoint-url", guarded.url]
        return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)

    made = cli("admin", "create-log-group", "--log-group-name", "/cli")
    assert made.returncode == 0, made.stderr
    listed = cli("reader", "describe-log-groups")
    assert [group["logGroupName"] for group in json.loads(listed.stdout)["logGroups"]] == ["/cli"]
    for name, env, part in (
        ("reader", {}, "(AccessDeniedException)"),
        ("admin", {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "(InvalidSignatureException)"),
        ("admin", {"AWS_ACCESS_KEY_ID": "AKIDNOBODY"}, "(UnrecognizedClientException)"),
    ):
        done = cli(name, "create-log-group", "--log-group-name", "/cli2", **env)
        assert done.returncode != 0 and part in done.stderr, done.stderr


def test_tokens_stand_beside_keys_and_otlp_takes_both(make_lake, tmp_path):
    config = {"auth": {"bearer_tokens": ["a-long-token"]}, "aws": {"keys": keys(tmp_path), "regions": ["eu-west-1"], "allow_unsigned_payload": True}}
    lake = make_lake("both", config=config, env={"WRITER_SECRET": SECRETS["writer"]})
    bearer = {"Authorization": "Bearer a-long-token"}
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.DescribeLogGroups"}
    assert requests.post(lake.url, "{}", headers={**headers, **bearer}).status_code == 200
    assert requests.post(lake.url, "{}", headers=headers).status_code == 400
    code, message, _ = refused(as_(lake, "reader").describe_log_groups)
    assert code == "InvalidSignatureException" and "not 'us-east-1'" in message
    assert as_(lake, "reader", region_name="eu-west-1").describe_log_groups()["logGroups"] == []
    request = sign(lake.url + "/", {**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, b"{}", "logs")
    assert requests.post(lake.url, "{ }", headers=dict(request.headers)).status_code == 200
    # pages are for tokens alone
    assert requests.get(lake.url + "/api/v1/status").status_code == 401
    assert requests.get(lake.url + "/api/v1/status", headers=bearer).status_code == 200

    records = [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "of an exporter"}}]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    plain = {"Content-Type": "application/json"}
    for url in (lake.url, lake.otlp_http_url):
        url += "/v1/logs"

        def post(name, **more):
            request = sign(url, plain, body, more.pop("service", "logs"), name=name, **more)
            return requests.post(url, body, headers=dict(request.headers))

        assert requests.post(url, body, headers=plain).status_code == 401
        assert requests.post(url, body, headers={**plain, **bearer}).status_code == 200
        assert post("writer").status_code == 200
        answer = post("writer", secret="wrong-secret")
        assert answer.status_code == 403 and "InvalidSignatureException" in answer.json()["message"]
        assert post("writer", service="xray").status_code == 403
        assert "lacks the right write" in post("reader").json()["message"]
        assert "names none" in post("shop").json()["message"]
