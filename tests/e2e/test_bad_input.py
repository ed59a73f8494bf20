"""Bad input gets its protocol's own error, is counted with its reason, and the next good request works."""

import contextlib
import gzip
import json
import secrets
import socket
import time

import grpc
import pytest
import requests
from botocore.exceptions import ClientError
from google.rpc import status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

HOUR = 3_600_000
DAY = 24 * HOUR
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 3, 8, 12
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def outcomes(lake, receiver, signal):
    for entry in lake.status()["receivers"]:
        if (entry["receiver"], entry["signal"]) == (receiver, signal):
            return entry
    return {"accepted": 0, "refused": 0, "rejected": 0, "dropped": 0, "reasons": {}}


@contextlib.contextmanager
def counts(lake, receiver, signal, reasons, accepted=0):
    """What happens inside is counted as `accepted`, and as rejected for these reasons, and as nothing else."""
    before = outcomes(lake, receiver, signal)
    yield
    after = outcomes(lake, receiver, signal)
    gained = {reason: n - before["reasons"].get(reason, 0) for reason, n in after["reasons"].items()}
    assert {reason: n for reason, n in gained.items() if n} == reasons
    assert after["rejected"] - before["rejected"] == sum(reasons.values())
    assert after["accepted"] - before["accepted"] == accepted
    assert (after["refused"], after["dropped"]) == (before["refused"], before["dropped"])


def good_logs(n=3):
    request = logs_service_pb2.ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for i in range(n):
        record = scope.log_records.add(time_unix_nano=time.time_ns() + i)
        record.body.string_value = f"good line {i}"
    return request.SerializeToString()


def json_logs(record):
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def bomb(n_bytes):
    return gzip.compress(b"\0" * n_bytes, 1)


PROTOBUF, JSON = {"content-type": "application/x-protobuf"}, {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}

OTLP = {
    "truncated protobuf": (PROTOBUF, good_logs()[:-5], 400, INVALID_ARGUMENT, "malformed"),
    "no protobuf": (PROTOBUF, b"\xff" * 100, 400, INVALID_ARGUMENT, "malformed"),
    "not gzip": (PROTOBUF | GZIP, b"this is no gzip", 400, INVALID_ARGUMENT, "malformed"),
    "truncated gzip": (PROTOBUF | GZIP, gzip.compress(good_logs(100))[:-20], 400, INVALID_ARGUMENT, "malformed"),
    "zip bomb": (PROTOBUF | GZIP, bomb(200 << 20), 413, RESOURCE_EXHAUSTED, "too_large"),
    "zip bomb, JSON": (JSON | GZIP, bomb(200 << 20), 413, RESOURCE_EXHAUSTED, "too_large"),
    "65 MiB body": (PROTOBUF, bytes(65 << 20), 413, RESOURCE_EXHAUSTED, "too_large"),
    "unknown encoding": (PROTOBUF | {"content-encoding": "br"}, good_logs(), 415, UNIMPLEMENTED, "malformed"),
    "no JSON": (JSON, b'{"resourceLogs": [', 400, INVALID_ARGUMENT, "malformed"),
    "JSON: a list": (JSON, b"[1, 2]", 400, INVALID_ARGUMENT, "malformed"),
    "JSON: string for a list": (JSON, b'{"resourceLogs": "many"}', 400, INVALID_ARGUMENT, "malformed"),
    "JSON: object for a time": (JSON, json_logs({"timeUnixNano": {}}), 400, INVALID_ARGUMENT, "malformed"),
    "JSON: word for a time": (JSON, json_logs({"timeUnixNano": "noon"}), 400, INVALID_ARGUMENT, "malformed"),
    "JSON: list for a body": (JSON, json_logs({"body": [1]}), 400, INVALID_ARGUMENT, "malformed"),
    "JSON: number for an attribute's key": (JSON, json_logs({"attributes": [{"key": 1, "value": {}}]}), 400, INVALID_ARGUMENT, "malformed"),
    "other content type": ({"content-type": "text/plain"}, b"hello", 415, INVALID_ARGUMENT, "malformed"),
}


def test_otlp_http(lake):
    for url in (lake.otlp_http_url, lake.url):
        for name, (headers, body, status, code, reason) in OTLP.items():
            with counts(lake, "otlp", "logs", {reason: 1}):
                answer = requests.post(url + "/v1/logs", data=body, headers=headers, timeout=30)
            assert answer.status_code == status, (name, answer.status_code, answer.content)
            if headers["content-type"] == "application/x-protobuf":
                assert answer.headers["content-type"] == "application/x-protobuf", name
                said = status_pb2.Status.FromString(answer.content)
                assert (said.code, bool(said.message)) == (code, True), (name, said)
            else:
                assert answer.headers["content-type"] == "application/json", name
                said = answer.json()
                assert (said["code"], bool(said["message"])) == (code, True), (name, said)
            with counts(lake, "otlp", "logs", {}, accepted=3):
                answer = requests.post(url + "/v1/logs", data=gzip.compress(good_logs()), headers=PROTOBUF | GZIP, timeout=30)
                assert (answer.status_code, answer.content) == (200, b""), name
    assert len(lake.hits("good")) == 3 * 2 * len(OTLP)
    # the other signals too: each is counted as its own
    for path, signal in (("/v1/traces", "traces"), ("/v1/metrics", "metrics")):
        with counts(lake, "otlp", signal, {"malformed": 1}):
            assert requests.post(lake.url + path, data=b"\xff\xff", headers=PROTOBUF, timeout=30).status_code == 400


def test_otlp_grpc(lake):
    with grpc.insecure_channel(lake.otlp_grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        export = channel.unary_unary(EXPORT)
        for name, body, code, reason in (
            ("truncated protobuf", good_logs()[:-5], grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
            ("65 MiB", bytes(65 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large"),
        ):
            with counts(lake, "otlp", "logs", {reason: 1}):
                with pytest.raises(grpc.RpcError) as failed:
                    export(body, timeout=30)
            assert failed.value.code() == code, (name, failed.value)
            assert failed.value.details(), name
            # RetryInfo would make clients send it again
            assert "grpc-status-details-bin" not in dict(failed.value.trailing_metadata() or ()), name
            with counts(lake, "otlp", "logs", {}, accepted=3):
                export(good_logs(), timeout=30)
        with counts(lake, "otlp", "logs", {"too_large": 1}):
            with pytest.raises(grpc.RpcError) as failed:
                export(bytes(100 << 20), timeout=60, compression=grpc.Compression.Gzip)
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, failed.value
        with counts(lake, "otlp", "logs", {}, accepted=3):
            export(good_logs(), timeout=30, compression=grpc.Compression.Gzip)
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(EXPORT.replace("Export", "Import"))(b"", timeout=30)
        assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED
        export(good_logs(), timeout=30)


def field(number, content):
    """A length-delimited protobuf field."""
    n, length = len(content), b""
    while n > 0x7F:
        n, length = n >> 7, length + bytes([n & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([n]) + content


def empties(n_bytes):
    """A valid request for each signal, as protobuf: one scope, and nothing but empty records (logs, spans, metrics: all field 2)."""
    return field(1, field(2, b"\x12\x00" * (n_bytes // 2)))


def empty_objects(signal, n_bytes):
    """The same in JSON."""
    resources, scopes, records = {
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    return b'{"%s":[{"%s":[{"%s":[%s{}]}]}]}' % (resources.encode(), scopes.encode(), records.encode(), b"{}," * (n_bytes // 3))


def peak_rss(lake):
    """Bytes of memory that the server had at most."""
    with open(f"/proc/{lake.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


SERVICES = {"logs": "logs.v1.LogsService", "traces": "trace.v1.TraceService", "metrics": "metrics.v1.MetricsService"}


@pytest.mark.parametrize("signal", SERVICES)
@pytest.mark.parametrize("form", ["protobuf", "json", "grpc"])
def test_many_empty_records_take_no_memory(lake, signal, form):
    """Within every limit on bytes, sent and inflated; as structs it would be gigabytes."""
    n_bytes = 63 << 20
    body = empty_objects(signal, n_bytes) if form == "json" else empties(n_bytes)
    assert len(body) <= 64 << 20
    before = peak_rss(lake)
    assert before < 1 << 29
    with counts(lake, "otlp", signal, {"too_large": 1}):
        if form == "grpc":
            with grpc.insecure_channel(lake.otlp_grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
                export = channel.unary_unary(f"/opentelemetry.proto.collector.{SERVICES[signal]}/Export")
                with pytest.raises(grpc.RpcError) as failed:
                    export(body, timeout=60, compression=grpc.Compression.Gzip)
            code, said = failed.value.code(), failed.value.details()
            expected = grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            headers = (JSON if form == "json" else PROTOBUF) | GZIP
            answer = requests.post(f"{lake.otlp_http_url}/v1/{signal}", data=gzip.compress(body, 1), headers=headers, timeout=60)
            code, said, expected = answer.status_code, answer.content, 413
    peak = peak_rss(lake)
    assert peak < 1 << 30, f"{peak >> 20} MiB of memory for {len(body) >> 20} MiB inflated; answered {code}"
    assert code == expected and said, (code, said)
    with counts(lake, "otlp", "logs", {}, accepted=3):
        assert requests.post(lake.otlp_http_url + "/v1/logs", data=good_logs(), headers=PROTOBUF, timeout=30).status_code == 200


def test_many_empty_documents_and_events_take_no_memory(lake):
    logs = lake.boto3()
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    n = (8 << 20) // 3 - 100
    events = b'{"logGroupName":"g","logStreamName":"s","logEvents":[%s{}]}' % (b"{}," * n)
    with counts(lake, "awslogs", "logs", {"malformed": 1}):
        is_aws_error(logs_call(lake, "PutLogEvents", events), 400, "InvalidParameterException")
    documents = b'{"TraceSegmentDocuments":[%s""]}' % (b'"",' * n)
    with counts(lake, "xray", "traces", {"too_large": 1}):
        assert requests.post(lake.url + "/TraceSegments", data=documents, headers=JSON, timeout=30).status_code in (400, 413)
    assert peak_rss(lake) < 1 << 29
    assert logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": int(time.time() * 1000), "message": "good"}])
    assert len(lake.hits("good")) == 1


def logs_call(lake, operation, body, **headers):
    headers = {"x-amz-target": f"Logs_20140328.{operation}", "content-type": "application/x-amz-json-1.1"} | headers
    return requests.post(lake.url + "/", data=body, headers=headers, timeout=30)


def is_aws_error(answer, status, name, member="message"):
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["x-amzn-errortype"] == name, answer.headers
    assert answer.json()["__type"] == name and answer.json()[member], answer.text
    assert answer.headers["x-amzn-requestid"]


def test_awslogs(lake):
    logs = lake.boto3()
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    now = int(time.time() * 1000)
    good = {"logGroupName": "g", "logStreamName": "s"}

    def event(after=0, message="good line"):
        return {"timestamp": now + after, "message": message}

    def next_good():
        with counts(lake, "awslogs", "logs", {}, accepted=2):
            # the same events again would be a repetition
            answer = logs.put_log_events(**good, logEvents=[event(message=secrets.token_hex(8)), event(1)])
        assert "rejectedLogEventsInfo" not in answer

    # whole calls, by boto3
    for name, stream, events, code, reasons in (
        ("oversize batch", "s", [event(message="x" * 600_000)] * 2, "InvalidParameterException", {"malformed", "too_large"}),
        ("oversize event", "s", [event(message="x" * 1_048_576)], "InvalidParameterException", {"malformed", "too_large"}),
        ("unsorted events", "s", [event(1), event(0)], "InvalidParameterException", {"malformed"}),
        ("10,001 events", "s", [event()] * 10_001, "InvalidParameterException", {"malformed"}),
        ("more than a day", "s", [event(-DAY - 1), event()], "InvalidParameterException", {"malformed"}),
        ("no such stream", "nowhere", [event()], "ResourceNotFoundException", {"not_found"}),
    ):
        before = outcomes(lake, "awslogs", "logs")
        with pytest.raises(ClientError) as failed:
            logs.put_log_events(logGroupName="g", logStreamName=stream, logEvents=events)
        assert failed.value.response["Error"]["Code"] == code, (name, failed.value)
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400, name
        after = outcomes(lake, "awslogs", "logs")
        assert after["rejected"] > before["rejected"] and after["accepted"] == before["accepted"], (name, after)
        assert {r for r, n in after["reasons"].items() if n > before["reasons"].get(r, 0)} <= reasons, (name, after)
        next_good()

    # single events: the call succeeds and says which were left out
    logs.put_retention_policy(logGroupName="g", retentionInDays=3)
    events = [event(-15 * DAY), event(-4 * DAY), event(0), event(1), event(3 * HOUR)]
    with counts(lake, "awslogs", "logs", {"too_old": 1, "expired": 1, "too_new": 1}, accepted=2):
        answer = logs.put_log_events(**good, logEvents=events)
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 4, "tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2}
    next_good()

    # what boto3 would not send
    body = json.dumps({**good, "logEvents": [event()]}).encode()
    for name, sent, headers, status, code, reason in (
        ("bad gzip", b"no gzip", GZIP, 400, "SerializationException", "malformed"),
        ("truncated gzip", gzip.compress(body)[:-9], GZIP, 400, "SerializationException", "malformed"),
        ("zip bomb", bomb(200 << 20), GZIP, 413, "InvalidParameterException", "too_large"),
        ("no JSON", body[:-4], {}, 400, "SerializationException", "malformed"),
        ("wrong types", json.dumps({**good, "logEvents": "many"}), {}, 400, "SerializationException", "malformed"),
        ("word for a time", json.dumps({**good, "logEvents": [{"timestamp": "noon", "message": "x"}]}), {}, 400, "SerializationException", "malformed"),
        ("no events", json.dumps(good), {}, 400, "InvalidParameterException", "malformed"),
    ):
        with counts(lake, "awslogs", "logs", {reason: 1}):
            answer = logs_call(lake, "PutLogEvents", sent, **headers)
        is_aws_error(answer, status, code)
        next_good()

    # operations that are not served: no records were in them, so they are counted as calls
    unknown = 'tracelake_receive_requests_total{receiver="awslogs",operation="unknown",status="400"}'
    with pytest.raises(ClientError) as failed:
        logs.create_delivery(deliverySourceName="a", deliveryDestinationArn="b")
    assert failed.value.response["Error"]["Code"] == "UnknownOperationException"
    is_aws_error(logs_call(lake, "NoSuchThing", b"{}"), 400, "UnknownOperationException")
    is_aws_error(requests.post(lake.url + "/", data=b"{}", timeout=30), 400, "UnknownOperationException")
    assert unknown + " 3" in requests.get(lake.url + "/metrics", timeout=30).text
    next_good()


def trace_id():
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def segment(**more):
    now = time.time()
    return {"trace_id": trace_id(), "id": secrets.token_hex(8), "name": "shop", "start_time": now - 0.1, "end_time": now, **more}


def test_xray_documents(lake):
    xray = lake.boto3("xray")

    def next_good():
        document = segment()
        with counts(lake, "xray", "traces", {}, accepted=1):
            answer = xray.put_trace_segments(TraceSegmentDocuments=[json.dumps(document)])
        assert answer["UnprocessedTraceSegments"] == []
        assert lake.trace(document["trace_id"])["n_spans"] == 1

    bad = [
        (segment(trace_id="1-zz"), "InvalidTraceId", "invalid_trace_id"),
        (segment(id="short"), "InvalidId", "invalid_span_id"),
        (segment(start_time="noon"), "InvalidTime", "invalid_time"),
        (segment(name=None), "InvalidSegment", "invalid_field"),
        (segment(metadata={"x": "y" * 70_000}), "SegmentTooLarge", "too_large"),
    ]
    good = [segment(), segment()]
    documents = [json.dumps(good[0]), *(json.dumps(document) for document, _, _ in bad), "{no json", json.dumps(good[1])]
    with counts(lake, "xray", "traces", {**{reason: 1 for _, _, reason in bad}, "malformed": 1}, accepted=2):
        answer = xray.put_trace_segments(TraceSegmentDocuments=documents)
    unprocessed = answer["UnprocessedTraceSegments"]
    assert [entry["ErrorCode"] for entry in unprocessed] == [code for _, code, _ in bad] + ["ParseError"]
    assert all(entry["Message"] for entry in unprocessed)
    for (document, _, _), entry in zip(bad, unprocessed):
        assert entry.get("Id") == document["id"]
    for document in good:
        assert lake.trace(document["trace_id"])["n_spans"] == 1
    next_good()

    for name, body, headers, status, reason in (
        ("no JSON", b"{", {}, 400, "malformed"),
        ("a list", b"[]", {}, 400, "malformed"),
        ("wrong types", b'{"TraceSegmentDocuments": 5}', {}, 400, "malformed"),
        ("bad gzip", b"no gzip", GZIP, 400, "malformed"),
        ("zip bomb", bomb(200 << 20), GZIP, 413, "too_large"),
    ):
        with counts(lake, "xray", "traces", {reason: 1}):
            answer = requests.post(lake.url + "/TraceSegments", data=body, headers=JSON | headers, timeout=30)
        assert answer.status_code == status, (name, answer.text)
        is_aws_error(answer, status, "InvalidRequestException", member="Message")
        next_good()


def test_a_storm_of_datagrams(lake):
    host, port = lake.xray.rsplit(":", 1)
    header = b'{"format":"json","version":1}\n'
    junk = [
        secrets.token_bytes(1000),
        b"A" * 1400,
        header,
        header + b"\xff\xfe" * 500,
        b'{"format":"xml","version":1}\n<a/>' + b" " * 900,
    ]
    malformed = header + b'{"trace_id":' + b" " * 900
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect((host, int(port)))
    n_bytes = n_junk = n_malformed = n_good = 0
    while n_bytes < 10 << 20:
        for datagram in junk:
            n_bytes += udp.send(datagram)
            n_junk += 1
        n_bytes += udp.send(malformed)
        n_malformed += 1
        n_bytes += udp.send(header + json.dumps(segment(name="storm")).encode())
        n_good += 1
    n_sent = n_junk + n_malformed + n_good

    def all_counted():
        after = outcomes(lake, "xray", "traces")
        return after if after["accepted"] + after["rejected"] + after["dropped"] == n_sent else None

    # what the kernel dropped is told every few seconds
    after = lake.wait_until(all_counted, timeout=30, what=f"{n_sent} datagrams counted")
    reasons = after["reasons"]
    assert set(reasons) <= {"bad_datagram", "malformed", "queue_full", "kernel_buffer_full"}, reasons
    assert 0 < reasons["bad_datagram"] <= n_junk and 0 < reasons["malformed"] <= n_malformed, reasons
    assert 0 < after["accepted"] <= n_good
    if "kernel_buffer_full" not in reasons and "queue_full" not in reasons:
        assert (after["accepted"], reasons["bad_datagram"], reasons["malformed"]) == (n_good, n_junk, n_malformed)
    document = segment(name="after the storm")
    udp.send(header + json.dumps(document).encode())
    tree = lake.wait_until(lambda: lake.trace(document["trace_id"]), what="the next good datagram")
    assert tree["n_spans"] == 1
    counted = lake.sql("SELECT count(*) AS n FROM spans WHERE name = 'storm'")
    assert int(counted[0]["n"]) == after["accepted"]
    assert lake.status()["ready"]
