"""Bounds that the configuration sets: at each all is well, past it the answer says which bound it was."""

import concurrent.futures
import json
import secrets
import select
import socket
import threading
import time

import duckdb
import grpc
import pytest
import requests
from botocore.exceptions import ClientError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from test_bad_input import EXPORT, PROTOBUF, counts
from test_crash import Sender, live_files, otlp_logs, otlp_traces, seqs_by_duckdb, seqs_by_sql
from test_disk_full import refused_in_its_own_words

MIB = 1 << 20
HOUR = 3_600_000_000_000


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
    # its logs
    for n_logs in (3, 4):
        trace_id = secrets.token_hex(16)
        records = [{"timeUnixNano": str(time.time_ns() + i), "traceId": trace_id, "body": {"stringValue": f"of it {i}"}} for i in range(n_logs)]
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
        assert requests.post(lake.url + "/v1/logs", json=body, timeout=20).status_code == 200
        trace = lake.trace(trace_id)
        assert len(trace["logs"]) == 3 and trace["coverage"]["complete"] == (n_logs == 3), trace["coverage"]
        assert n_logs == 3 or "newest 3" in json.dumps(trace["coverage"]["problems"]), trace["coverage"]
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


# bodies of at most 100,000 bytes, so that a bound of a few of them is one that may be set
SMALL = {"otlp": {"max_body_bytes": 100_000, "max_inflated_bytes": 100_000}, "firehose": {"max_body_bytes": 100_000}}


def half_sent(lake, n_bytes):
    """A connection on which so many bytes of a body have come, and the last one has not: the server holds them."""
    host, port = lake.url.removeprefix("http://").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/logs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {n_bytes + 1}\r\n\r\n"
    connection.sendall(head.encode() + b"x" * n_bytes)
    return connection


def test_memory_of_requests_at_and_past_its_bound(make_lake, tmp_path):
    """`receive.max_memory_bytes`: what others hold is waited for in each protocol's words, what no waiting brings in is turned away."""
    lake = make_lake(store=tmp_path / "store", config={"receive": {"max_memory_bytes": 400_000}, **SMALL})
    client = lake.boto3()
    client.create_log_group(logGroupName="/crash/group")
    sender = Sender()
    for _ in range(3):
        assert sender.send(lake)
    held = [half_sent(lake, 99_999) for _ in range(4)]

    def all_is_held():
        # what was answered before may still be in memory: who comes then is turned away, and comes again
        for answered in select.select(held, [], [], 0)[0]:
            answered.close()
            held[held.index(answered)] = half_sent(lake, 99_999)
        return not sender.send(lake)

    lake.wait_until(all_is_held, 20, what="all is held")
    answer, _ = otlp_logs(lake, requests, range(1 << 40, (1 << 40) + 1), time.time_ns())
    assert answer.status_code == 503 and "receive.max_memory_bytes" in answer.text, answer.text
    refused_in_its_own_words(lake)
    # what is asked for needs none of it
    sender.check(seqs_by_sql(lake), "SQL while all is held")
    for connection in held:
        connection.close()
    lake.wait_until(lambda: sender.send(lake), 20, what="a connection that goes gives back what it held")
    # one alone that takes more than there is: a few bytes a record on the wire, many in memory
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(20_000):
        scope.log_records.add(severity_number=9)
    body = request.SerializeToString()
    assert len(body) < 100_000
    with counts(lake, "otlp", "logs", {"too_large": 2}):
        answer = requests.post(lake.url + "/v1/logs", data=body, headers=PROTOBUF, timeout=20)
        assert answer.status_code == 413 and b"receive.max_memory_bytes is 400000" in answer.content, (answer.status_code, answer.content)
        with grpc.insecure_channel(lake.otlp_grpc) as channel, pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(EXPORT)(body, timeout=20)
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, failed.value
    assert "grpc-status-details-bin" not in dict(failed.value.trailing_metadata()), "no word of when to try again"
    lake.restart(kill=True)
    sender.check(seqs_by_sql(lake), "SQL after a crash")
    lake.stop()
    sender.check(seqs_by_duckdb(tmp_path / "store"), "Parquet")


def test_bodies_on_their_way_to_the_log_are_bounded(make_lake, tmp_path):
    """`ingest.max_in_flight_bytes`: it holds one body of this size and not two."""
    lake = make_lake(store=tmp_path / "store", config={"ingest": {"max_in_flight_bytes": 100_000}, **SMALL})
    sender, refusals, stop = Sender(), [], threading.Event()

    def how(lake, session, seqs, now):
        answer, expected = otlp_logs(lake, session, seqs, now)
        if answer.status_code != 200:
            refusals.append((answer.status_code, answer.headers.get("retry-after"), answer.text))
            stop.set()
        return answer, expected

    def load():
        with requests.Session() as session:
            while not stop.is_set():
                sender.send(lake, how, n=450, session=session)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load) for _ in range(8)]
        stop.wait(60)
        stop.set()
        for one in loads:
            one.result()
    assert refusals, "eight at once never met"
    for status, retry_after, text in refusals:
        assert status == 503 and int(retry_after) > 0 and "ingest.max_in_flight_bytes = 100000" in text, (status, text)
    assert sender.send(lake, n=450), "one alone is taken"
    lake.restart(kill=True)
    sender.check(seqs_by_sql(lake), "SQL after a crash")
    lake.stop()
    sender.check(seqs_by_duckdb(tmp_path / "store"), "Parquet")


def test_few_blocks_are_kept_open_and_every_answer_is_whole(make_lake):
    bounds = {"max_open_blocks": 2, "open_block_bytes": 1}
    lake = make_lake(config={"query": bounds, "ingest": {"flush_age_seconds": 1}, "lake": {"merge_at_blocks": 100}})
    sender = Sender()
    for _ in range(5):
        assert sender.send(lake)
        lake.wait_flushed()
    for _ in range(3):
        sender.check(seqs_by_sql(lake), "SQL over five blocks")
        found = [hit["body"].removeprefix("record ") for hit in lake.hits("record", limit=1_000)]
        sender.check(found, "search over five blocks")
        (line,) = [line for line in requests.get(lake.url + "/metrics", timeout=10).text.splitlines() if line.startswith("tracelake_query_open_blocks ")]
        assert int(line.split()[1]) <= 1, line


def test_a_promoted_column_with_a_value_of_its_own_in_every_row(make_lake, tmp_path):
    """Twenty thousand services: all are found and counted, and what is kept by service stays within its bound."""
    n, n_sources = 20_000, 50
    lake = make_lake(store=tmp_path / "store", config={"ingest": {"max_sources": n_sources}})
    for first in range(0, n, 5_000):
        request = ExportLogsServiceRequest()
        for i in range(first, first + 5_000):
            resource = request.resource_logs.add()
            resource.resource.attributes.add(key="service.name").value.string_value = f"service-{i}"
            resource.scope_logs.add().log_records.add(time_unix_nano=time.time_ns()).body.string_value = f"of service {i}"
        assert requests.post(lake.url + "/v1/logs", data=request.SerializeToString(), headers=PROTOBUF, timeout=60).status_code == 200

    def check():
        for i in (0, 4_999, 5_000, n - 1):
            (hit,) = lake.hits(f'service:="service-{i}"')
            assert hit["body"] == f"of service {i}", hit
        assert lake.hits(f'service:="service-{n}"') == []
        (row,) = lake.sql("SELECT count(DISTINCT service_name) AS services, count(*) AS n FROM logs")
        assert (int(row["services"]), int(row["n"])) == (n, n), row
        answer = lake.get("/api/v1/count", q="*", by="service", limit=5)
        assert len(answer["groups"]) == 5 and [group["count"] for group in answer["groups"]] == [1] * 5, answer
        assert not answer["coverage"]["complete"] or 5 + answer["other"] == n, answer
        # those that are told apart, and all others as one a kind of record
        assert len(lake.status()["sources"]) <= n_sources + 2, len(lake.status()["sources"])

    check()
    lake.restart(kill=True)
    check()
    lake.restart()
    check()
    files, _ = live_files(tmp_path / "store")
    services = duckdb.sql(f"SELECT count(DISTINCT service_name), count(*) FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()
    assert services == [(n, n)], services


def merges(store):
    """Of each block that replaced others: the bytes of the Parquet files of those, by the catalog's records."""
    metas, swaps = {}, []
    for path in sorted((store / "_catalog" / "log").glob("*.json")):
        record = json.loads(path.read_bytes())
        metas.update({meta["id"]: meta for meta in record.get("adds", [])})
        if record.get("adds") and record.get("removes"):
            swaps.append([metas[block]["parquet_bytes"] for block in record["removes"]])
    return swaps


@pytest.mark.parametrize("files", [1, 2, 100])
def test_files_that_go_into_a_merged_block_are_bounded(make_lake, tmp_path, files):
    """`lake.max_block_bytes`, room for so many files of a flush: blocks of an hour that is over go into the lake alone, by twos, or in one file."""
    store, n_flushes = tmp_path / "store", 6
    two_hours_ago = (time.time_ns() // HOUR - 2) * HOUR

    def of_one_hour(lake, session, seqs, now):
        return otlp_logs(lake, session, seqs, two_hours_ago)

    lake = make_lake(store=store, config={"ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 3600}})
    sender = Sender()
    for _ in range(n_flushes):
        assert sender.send(lake, of_one_hour)
        lake.wait_flushed()
    sizes = [path.stat().st_size for path in (store / "_l0" / "logs").rglob("*.parquet")]
    assert len(sizes) == n_flushes
    bound = int(max(sizes) * files * 1.2)
    assert files != 2 or bound < 3 * min(sizes), "the files differ too much in size"
    lake.config["lake"] = {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "late_seal_seconds": 0, "max_block_bytes": bound}
    lake.restart()
    at_once = min(files, n_flushes)
    swaps = lake.wait_until(lambda: len(merges(store)) == n_flushes // at_once and merges(store), 60, what="all are sealed")
    assert all(len(of) == at_once and (at_once == 1 or sum(of) <= bound) for of in swaps), (bound, swaps)
    sender.check(seqs_by_sql(lake), "SQL")
    lake.stop()
    sender.check(seqs_by_duckdb(store), "Parquet")
