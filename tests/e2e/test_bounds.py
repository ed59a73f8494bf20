"""At a bound a record is kept whole, all the way to search and Parquet; past it, it is turned away whole, with a reason."""

import json
import secrets
import socket
import subprocess
import time

import duckdb
import grpc
import pytest
import requests
from botocore.exceptions import ClientError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from test_bad_input import EXPORT, JSON, PROTOBUF, counts, logs_call, segment
from test_crash import live_files

MANY = 65_000
MIB = 1 << 20


def export(lake, request, how):
    """Sends it whole; the answer must be a full success."""
    body = request.SerializeToString()
    if how == "grpc":
        with grpc.insecure_channel(lake.otlp_grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
            answer = channel.unary_unary(EXPORT)(body, timeout=60)
    else:
        response = requests.post(lake.otlp_http_url + "/v1/logs", data=body, headers=PROTOBUF, timeout=60)
        assert response.status_code == 200, response.content
        answer = response.content
    assert not ExportLogsServiceResponse.FromString(answer).HasField("partial_success")


def one_log(**fields):
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    return request, scope.log_records.add(time_unix_nano=time.time_ns(), **fields)


def parquet(lake, columns, where):
    """Columns of the rows in the files of `logs`, read by DuckDB."""
    files, _ = live_files(lake.data_dir / "store")
    return duckdb.sql(f"SELECT {columns} FROM read_parquet({files!r}, hive_partitioning = false, union_by_name = true) WHERE {where}").fetchall()


def twice(lake, check):
    """In memory, and again from blocks."""
    check()
    lake.restart()
    check()


def test_65000_attributes_are_kept(lake):
    marks = {}
    for how in ("http", "grpc", "json"):
        mark = marks[how] = secrets.token_hex(4)
        request, record = one_log()
        record.body.string_value = f"wide {mark}"
        for i in range(MANY):
            record.attributes.add(key=f"attribute.{i}").value.string_value = f"{mark}-{i}"
        if how != "json":
            export(lake, request, how)
            continue
        attributes = [{"key": f"attribute.{i}", "value": {"stringValue": f"{mark}-{i}"}} for i in range(MANY)]
        record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"wide {mark}"}, "attributes": attributes}
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        answer = requests.post(lake.url + "/v1/logs", json=body, timeout=60)
        assert (answer.status_code, answer.json()) == (200, {}), answer.text

    def check():
        for mark in marks.values():
            for i in (0, MANY // 2, MANY - 1):
                (hit,) = lake.hits(f"attribute.{i}:{mark}-{i}")
                assert len(hit["attributes"]) == MANY and hit["attributes"][f"attribute.{MANY - 1}"] == f"{mark}-{MANY - 1}"
            assert lake.hits(f"attribute.{MANY - 1}:{mark}-0") == []

    twice(lake, check)
    lake.stop()
    assert parquet(lake, "cardinality(attributes)", "body LIKE 'wide %'") == [(MANY,)] * 3


def test_a_body_of_10_mib_is_kept(lake):
    words = ("lorem ipsum dolor sit amet " * (10 * MIB // 27))[: 10 * MIB]
    marks = {}
    for how in ("http", "grpc"):
        mark = marks[how] = "end" + secrets.token_hex(6)
        request, record = one_log()
        record.body.string_value = f"{words} {mark}"
        export(lake, request, how)

    def check():
        for mark in marks.values():
            (hit,) = lake.hits(mark, max_body=0)
            assert hit["body"].endswith(" " + mark) and not hit["body_truncated"]
            # a page shows less of it, and says so
            (shown,) = lake.hits(mark)
            assert len(shown["body"]) < 10_000 and shown["body_truncated"]
            ((length,),) = [row.values() for row in lake.sql(f"SELECT length(body) AS n FROM logs WHERE match(body, '{mark}')")] or [(None,)]
            assert int(length) == len(words) + 1 + len(mark)

    twice(lake, check)
    lake.stop()
    assert parquet(lake, "length(body)", "length(body) > 1000000") == [(len(words) + 16,)] * 2


def test_more_parts_than_a_request_may_have_are_refused_whole(lake):
    # each attribute in its least form, so that the bytes are within their bound
    request, record = one_log()
    attribute = b"\x32\x00"
    record.body.string_value = "too many"
    record = record.SerializeToString() + attribute * ((4 << 20) + 1)

    def field(number, payload):
        length, out = len(payload), bytes([number << 3 | 2])
        while length >= 0x80:
            out += bytes([length & 0x7F | 0x80])
            length >>= 7
        return out + bytes([length]) + payload

    body = field(1, field(2, field(2, record)))
    with counts(lake, "otlp", "logs", {"too_large": 1}):
        answer = requests.post(lake.url + "/v1/logs", data=body, headers=PROTOBUF, timeout=60)
    assert answer.status_code == 413 and b"4194304" in answer.content, (answer.status_code, answer.content[:300])
    assert lake.hits("many") == []


def nested(levels):
    value = {"stringValue": "core"}
    for _ in range(levels):
        value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
    return value


def nested_protobuf(levels):
    request, record = one_log()
    value = record.body
    for _ in range(levels):
        entry = value.kvlist_value.values.add(key="k")
        value = entry.value
    value.string_value = "core"
    return request


def test_what_is_nested_too_deep_says_so_itself(lake):
    for levels, core in ((32, "core"), (33, "[cut: nested deeper than 32 levels]")):
        whole = json.dumps(core)
        for _ in range(32):
            whole = f'{{"k":{whole}}}'
        since = time.time_ns()
        export(lake, nested_protobuf(levels), "http")
        record = {"timeUnixNano": str(time.time_ns()), "body": nested(levels)}
        # a request in JSON nests three objects a level, and JSON that deep is not read at all
        answer = requests.post(lake.url + "/v1/logs", json={"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}, timeout=20)
        assert answer.status_code in (200, 400), answer.text
        bodies = {hit["body"] for hit in lake.hits("", start=str(since))}
        assert bodies == {whole}, bodies


def test_put_log_events_at_and_past_its_own_bounds(lake):
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/bounds")
    logs.create_log_stream(logGroupName="/bounds", logStreamName="s")
    put = {"logGroupName": "/bounds", "logStreamName": "s"}
    now = int(time.time() * 1000)
    largest = MIB - 26
    mark = "end" + secrets.token_hex(6)
    text = ("word " * (largest // 5 + 1))[: largest - len(mark) - 1] + " " + mark
    assert len(text) == largest
    wide_mark = secrets.token_hex(4)
    wide = json.dumps({f"f{i}": i for i in range(MANY)} | {"last": wide_mark}, separators=(",", ":"))
    assert len(wide) < largest
    with counts(lake, "awslogs", "logs", {}, accepted=10_002):
        logs.put_log_events(**put, logEvents=[{"timestamp": now, "message": text}])
        logs.put_log_events(**put, logEvents=[{"timestamp": now, "message": wide}])
        logs.put_log_events(**put, logEvents=[{"timestamp": now, "message": f"many {i}"} for i in range(10_000)])
    for bad, reason in (
        ([{"timestamp": now, "message": text + "x"}], "too_large"),
        ([{"timestamp": now, "message": "x"}] * 10_001, "malformed"),
        ([{"timestamp": now, "message": "x" * (largest // 2)}, {"timestamp": now, "message": "y" * (largest // 2)}], "too_large"),
    ):
        before = lake.status()["receivers"]
        answer = logs_call(lake, "PutLogEvents", json.dumps(put | {"logEvents": bad}))
        assert answer.status_code == 400 and answer.json()["__type"] == "InvalidParameterException", (reason, answer.text[:300])
        assert answer.json()["message"], reason
        after = lake.status()["receivers"]
        assert sum(entry["rejected"] for entry in after) == sum(entry["rejected"] for entry in before) + 1

    def check():
        (hit,) = lake.hits(mark, max_body=0)
        assert hit["body"] == text
        for query in (f"last:{wide_mark}", f"f{MANY - 1}:{MANY - 1}", "f0:0"):
            (hit,) = lake.hits(query, max_body=0)
            assert hit["body"] == wide
        assert int(lake.sql("SELECT count(*) AS n FROM logs WHERE match(body, 'many')")[0]["n"]) == 10_000

    twice(lake, check)
    with pytest.raises(ClientError):
        lake.boto3().create_log_group(logGroupName="g" * 513)
    lake.boto3().create_log_group(logGroupName="g" * 512)
    lake.stop()
    assert parquet(lake, "length(body)", "length(body) > 100000 ORDER BY 1 DESC") == [(largest,), (len(wide),)]


def test_xray_documents_at_and_past_their_own_bounds(lake):
    def document(n_bytes, **fields):
        """A segment of exactly so many bytes."""
        one = segment(**fields)
        one["metadata"] = {"d": {"pad": ""}}
        one["metadata"]["d"]["pad"] = "p" * (n_bytes - len(json.dumps(one)))
        text = json.dumps(one)
        assert len(text) == n_bytes
        return one["trace_id"], text

    def deep(levels):
        one = {"name": "inner", "id": secrets.token_hex(8), "start_time": time.time(), "end_time": time.time()}
        for i in range(levels - 2):
            one = {"name": f"level{i}", "id": secrets.token_hex(8), "start_time": time.time(), "end_time": time.time(), "subsegments": [one]}
        return segment(subsegments=[one])

    def put(*documents):
        answer = requests.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": list(documents)}, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["UnprocessedTraceSegments"]

    kept, whole = document(64 * 1024)
    _, too_large = document(64 * 1024 + 1)
    annotated = segment(annotations={f"a{i}": i for i in range(2_000)})
    deepest, too_deep = deep(64), deep(65)
    with counts(lake, "xray", "traces", {"too_large": 1, "invalid_field": 1}, accepted=66):
        assert put(whole, json.dumps(annotated), json.dumps(deepest)) == []
        refused = put(too_large, json.dumps(too_deep))
    assert [one["ErrorCode"] for one in refused][0] == "SegmentTooLarge" and all(one["Message"] for one in refused), refused

    def check():
        trace = lake.trace(kept)
        assert "p" * 60_000 in json.dumps(trace), "the metadata is whole"
        (span,) = lake.hits("a1999:1999", table="spans")
        assert span["attributes"]["a0"] in (0, "0")
        assert len(lake.trace(deepest["trace_id"])["spans"]) == 64
        assert lake.trace(too_deep["trace_id"]) is None

    twice(lake, check)


def rss(lake):
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(lake.process.pid)])) * 1024


def test_columns_with_a_value_of_its_own_in_every_row_stay_bounded(make_lake):
    """Service, host, route, user: each different in every record, in promoted columns and in the map."""
    lake = make_lake(config={"ingest": {"flush_rows": 20_000}, "lake": {"every_seconds": 1, "merge_at_blocks": 2}})
    requests_, records = 40, 1_000
    now = time.time_ns()
    before = None
    for n in range(requests_):
        request = ExportLogsServiceRequest()
        spans = ExportTraceServiceRequest()
        for i in range(records):
            unique = f"u{n * records + i:06}"
            for resource in (request.resource_logs.add().resource, spans.resource_spans.add().resource):
                resource.attributes.add(key="service.name").value.string_value = f"service-{unique}"
                resource.attributes.add(key="host.name").value.string_value = f"host-{unique}"
            record = request.resource_logs[-1].scope_logs.add().log_records.add(time_unix_nano=now + n * records + i)
            record.body.string_value = "unique"
            record.attributes.add(key="user.id").value.string_value = unique
            span = spans.resource_spans[-1].scope_spans.add().spans.add(name=f"GET /{unique}", start_time_unix_nano=now, end_time_unix_nano=now + 1)
            span.trace_id, span.span_id = secrets.token_bytes(16), secrets.token_bytes(8)
            span.attributes.add(key="http.route").value.string_value = f"/{unique}"
        for path, body in (("logs", request), ("traces", spans)):
            answer = requests.post(f"{lake.otlp_http_url}/v1/{path}", data=body.SerializeToString(), headers=PROTOBUF, timeout=60)
            assert answer.status_code == 200, answer.text
        if n == requests_ // 4:
            before = rss(lake)
    grown = rss(lake) - before
    assert grown < 400 * MIB, f"{grown // MIB} MiB more for {requests_ * records} different values in {5} columns"

    def check():
        for i in (0, requests_ * records // 2, requests_ * records - 1):
            (hit,) = lake.hits(f"service:service-u{i:06}")
            assert hit["attributes"]["user.id"] == f"u{i:06}"
            (span,) = lake.hits(f"http.route:/u{i:06}", table="spans")
            assert span["name"] == f"GET /u{i:06}"
        answer = lake.get("/api/v1/facets", q="unique", field="service_name", limit=10)
        assert answer["coverage"], answer

    twice(lake, check)
    counted = int(lake.sql("SELECT count(DISTINCT service_name) AS n FROM logs")[0]["n"])
    assert counted == requests_ * records


def test_connections_beyond_the_bound_wait(make_lake):
    lake = make_lake(config={"server": {"max_connections": 3}})
    host, port = lake.url.removeprefix("http://").rsplit(":", 1)
    held = [socket.create_connection((host, int(port)), timeout=10) for _ in range(3)]
    with socket.create_connection((host, int(port)), timeout=10) as late:
        late.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        late.settimeout(1)
        with pytest.raises(TimeoutError):
            late.recv(100)
        held.pop().close()
        late.settimeout(10)
        assert late.recv(100).startswith(b"HTTP/1.1 200")
    for one in held:
        one.close()
