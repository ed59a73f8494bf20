"""Bounds that the configuration sets: at each all is well, past it the answer says which bound it was."""

import json
import time

import pytest
import requests
from botocore.exceptions import ClientError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from test_bad_input import PROTOBUF, counts
from test_crash import Sender, otlp_logs, otlp_traces, seqs_by_sql

MIB = 1 << 20


def body_of(n_bytes):
    """A request for one log record of exactly so many bytes."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=time.time_ns())
    length = n_bytes
    while request.ByteSize() != n_bytes and length > 0:
        record.body.string_value = "x" * length
        length -= 1
    assert request.ByteSize() == n_bytes, request.ByteSize()
    return request.SerializeToString()


def test_a_body_at_and_past_its_bound(make_lake):
    lake = make_lake(config={"otlp": {"max_body_bytes": 5_000, "max_inflated_bytes": 5_000}})
    with counts(lake, "otlp", "logs", {}, accepted=1):
        assert requests.post(lake.url + "/v1/logs", data=body_of(5_000), headers=PROTOBUF, timeout=20).status_code == 200
    with counts(lake, "otlp", "logs", {"too_large": 1}):
        answer = requests.post(lake.url + "/v1/logs", data=body_of(5_001), headers=PROTOBUF, timeout=20)
    assert answer.status_code == 413 and b"5000" in answer.content, answer.content


@pytest.mark.parametrize(
    "bound, config",
    [
        ("ingest.max_head_bytes", {"ingest": {"flush_bytes": MIB, "max_head_bytes": 4 * MIB}}),
        ("wal.max_bytes", {"wal": {"max_bytes": 4 * MIB, "segment_bytes": MIB}, "ingest": {"flush_bytes": MIB}}),
    ],
)
def test_what_waits_for_blocks_is_bounded(small_disk, make_lake, bound, config):
    """The store takes nothing for a while."""
    disk = small_disk(16 * MIB)
    lake = make_lake(store=disk.path / "store", config=config)
    disk.fill()
    sender = Sender()
    for n in (200, 1):
        for _ in range(2_000):
            if not sender.send(lake, n=n):
                break
        else:
            raise AssertionError("all is taken")
    answer, _ = otlp_logs(lake, requests, range(1 << 40, (1 << 40) + 200), time.time_ns())
    assert answer.status_code == 503 and answer.headers["retry-after"], answer.content
    ready = requests.get(lake.url + "/readyz", timeout=10)
    assert ready.status_code == 503 and bound in ready.text, ready.text
    disk.empty()
    lake.wait_until(lambda: sender.send(lake), 30, what="records are taken again")
    sender.check(seqs_by_sql(lake), "SQL")


def test_answers_end_at_their_bounds_and_say_so(make_lake):
    bounds = {"max_limit": 50, "max_sql_rows": 20, "max_groups": 5, "max_trace_spans": 8, "max_trace_logs": 3, "max_tails": 1}
    lake = make_lake(config={"query": bounds})
    sender = Sender()
    for _ in range(12):
        assert sender.send(lake)
    n = len(sender.acknowledged)
    # pages
    assert len(lake.search("record", limit=50)["hits"]) == 50
    page = lake.search("record", limit=51)
    assert len(page["hits"]) == 50 and page["next_cursor"], "the rest is on the next page"
    assert len(lake.search("record", limit=50, cursor=page["next_cursor"])["hits"]) == n - 50
    # SQL
    answer = lake.post("/api/v1/sql", {"query": "SELECT body FROM logs LIMIT 20"})
    assert len(answer["rows"]) == 20 and not answer["truncated"]
    answer = lake.post("/api/v1/sql", {"query": "SELECT body FROM logs"})
    assert len(answer["rows"]) == 20 and answer["truncated"], answer["truncated"]
    # groups
    answer = lake.get("/api/v1/count", q="record", by="seq", limit=5)
    assert len(answer["groups"]) == 5 and sum(group["count"] for group in answer["groups"]) + answer["other"] == n, answer
    # a trace
    spans = Sender("spans")
    assert spans.send(lake, otlp_traces, n=8)
    assert spans.send(lake, otlp_traces, n=9)
    found = lake.hits("record", table="spans", limit=50)
    by_trace = {}
    for hit in found:
        by_trace.setdefault(hit["trace_id"], []).append(hit)
    for trace_id, hits in by_trace.items():
        trace = lake.trace(trace_id)
        assert len(trace["spans"]) == 8
        assert trace["coverage"]["complete"] == (len(hits) == 8) or trace["coverage"]["problems"], trace["coverage"]
    # tails
    with requests.get(lake.url + "/api/v1/tail", params={"q": ""}, stream=True, timeout=10) as first:
        assert first.status_code == 200
        second = requests.get(lake.url + "/api/v1/tail", params={"q": ""}, stream=True, timeout=10)
        assert second.status_code == 429, second.status_code
    lake.wait_until(lambda: requests.get(lake.url + "/api/v1/tail", params={"q": ""}, stream=True, timeout=10).status_code == 200, what="a place is free again")


def test_an_answer_is_bounded_in_bytes(make_lake):
    lake = make_lake(config={"query": {"max_answer_bytes": 200_000}})
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for i in range(100):
        scope.log_records.add(time_unix_nano=time.time_ns() + i).body.string_value = f"long {i} " + "x" * 10_000
    assert requests.post(lake.url + "/v1/logs", data=request.SerializeToString(), headers=PROTOBUF, timeout=20).status_code == 200
    page = lake.search("long", limit=100, max_body=0)
    assert 0 < len(page["hits"]) < 100 and page["next_cursor"], page["coverage"]
    assert any("max_answer_bytes" in json.dumps(problem) for problem in page["coverage"]["problems"]), page["coverage"]


def test_groups_and_streams_are_bounded(make_lake):
    lake = make_lake(config={"awslogs": {"max_log_groups": 2, "max_log_streams": 2}})
    logs = lake.boto3()
    for name in ("a", "b"):
        logs.create_log_group(logGroupName=name)
        logs.create_log_stream(logGroupName=name, logStreamName="s")
    past = {
        "LimitExceededException": lambda: logs.create_log_group(logGroupName="c"),
        "InvalidParameterException": lambda: logs.create_log_stream(logGroupName="a", logStreamName="t"),
    }
    for code, call in past.items():
        with pytest.raises(ClientError) as failed:
            call()
        assert failed.value.response["Error"]["Code"] == code
