"""A full disk at each place that is written: clients are told to come again, nothing acknowledged is lost, and all goes on once there is room."""

import json
import shutil
import socket
import time

import grpc
import pytest
import requests
from google.rpc import error_details_pb2, status_pb2

import lake as lakes
from test_bad_input import EXPORT, PROTOBUF, good_logs, logs_call, segment
from test_cold import N_ROWS, fill
from test_crash import GROUP, STREAM, Sender, otlp_logs, otlp_traces, put_log_events, seqs_by_duckdb, seqs_by_search, seqs_by_sql, xray_segments
from test_ledger import DATAGRAM, counted

MIB = 1 << 20


def refused_in_its_own_words(lake):
    """Each protocol's answer to a request that finds no room."""
    answer = requests.post(lake.otlp_http_url + "/v1/logs", data=good_logs(), headers=PROTOBUF, timeout=20)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, (answer.status_code, answer.content)
    with grpc.insecure_channel(lake.otlp_grpc) as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(EXPORT)(good_logs(), timeout=20)
    assert failed.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED), failed.value
    status = status_pb2.Status.FromString(dict(failed.value.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry) and retry.retry_delay.ToMilliseconds() > 0, status
    body = json.dumps({"logGroupName": GROUP, "logStreamName": STREAM, "logEvents": [{"timestamp": int(time.time() * 1000), "message": "m"}]})
    answer = logs_call(lake, "PutLogEvents", body)
    assert (answer.status_code, answer.json()["__type"]) == (503, "ServiceUnavailableException"), answer.text
    answer = logs_call(lake, "CreateLogGroup", json.dumps({"logGroupName": "/no/room"}))
    assert answer.status_code == 503, answer.text
    answer = requests.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": [json.dumps(segment())]}, timeout=20)
    assert answer.status_code == 429 and "Throttl" in answer.text, answer.text


@pytest.mark.parametrize("min_free", [0, 8 * MIB])
def test_a_full_disk_beneath_the_log(small_disk, make_lake, tmp_path, min_free):
    """At the last byte, and at `wal.min_free_disk_bytes`."""
    disk = small_disk(48 * MIB)
    lake = make_lake(
        data_dir=disk.path / "data",
        store=tmp_path / "store",
        config={"wal": {"min_free_disk_bytes": min_free, "segment_bytes": 4 * MIB}},
    )
    client = lake.boto3()
    client.create_log_group(logGroupName=GROUP)
    client.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    logs, spans = Sender("logs"), Sender("spans")
    every_way = [(logs, otlp_logs), (logs, put_log_events), (spans, otlp_traces), (spans, xray_segments)]
    for sender, how in every_way:
        assert sender.send(lake, how)
    for round_ in range(2):
        disk.fill(leave=max(min_free - MIB, 0))
        # room that the log took before is still written to
        for _ in range(20_000):
            if not logs.send(lake, otlp_logs, n=100):
                break
        else:
            raise AssertionError("a full disk takes everything")
        refused_in_its_own_words(lake)
        host, port = lake.xray.rsplit(":", 1)
        dropped = counted(lake).get(("xray", "traces"), {}).get("dropped", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(DATAGRAM + json.dumps(segment()).encode(), (host, int(port)))
        lake.wait_until(lambda: counted(lake)["xray", "traces"].get("dropped", 0) == dropped + 1, 20, what="the datagram counted as dropped")
        ready = requests.get(lake.url + "/readyz", timeout=10)
        assert ready.status_code == 503 and "disk is full" in ready.text, ready.text
        # what is there can be asked for all the same
        logs.check(seqs_by_sql(lake), f"SQL while the disk is full, round {round_}")
        if round_ == 1:
            # killed with a full disk, and started with one
            lake.restart(kill=True)
            logs.check(seqs_by_sql(lake), "SQL after a start with a full disk")
        disk.empty()
        lake.wait_until(lambda: all([sender.send(lake, how) for sender, how in every_way]), 20, what="room is found without a restart")
        lake.wait_until(lambda: requests.get(lake.url + "/readyz", timeout=10).status_code == 200)
    lake.restart(kill=True)
    logs.check(seqs_by_sql(lake), "logs by SQL after a crash")
    lake.stop()
    logs.check(seqs_by_duckdb(tmp_path / "store"), "logs in Parquet")
    spans_found = seqs_by_duckdb(tmp_path / "store", "spans")
    spans.check([seq for seq in spans_found if seq.isdigit()], "spans in Parquet")


def test_a_full_disk_beneath_a_local_store(small_disk, make_lake):
    """Blocks, state documents and records of the catalog find no room; the log has its own."""
    disk = small_disk(24 * MIB)
    lake = make_lake(store=disk.path / "store", config={"ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 1, "merge_at_blocks": 2}})
    client = lake.boto3()
    client.create_log_group(logGroupName=GROUP)
    sender = Sender()
    for _ in range(10):
        assert sender.send(lake)
    lake.wait_flushed()
    for leave in (0, 64 << 10):
        disk.fill(leave=leave)
        for _ in range(200):
            assert sender.send(lake, n=50), "the log has room"
        client.create_log_stream(logGroupName=GROUP, logStreamName=f"while full {leave}")
        problems = lake.wait_until(lambda: lake.status()["problems"], 20, what="the status says so")
        assert any("No space left" in problem for problem in problems), problems
        sender.check(seqs_by_sql(lake), "SQL while the store is full")
        disk.empty()
        lake.wait_flushed(30)
        lake.wait_until(lambda: lake.status()["problems"] == [], what="no problem is left")
    disk.fill()
    for _ in range(20):
        assert sender.send(lake, n=50)
    # killed with a full store: it starts again once there is room, and says why it does not before
    lake.kill()
    with pytest.raises(AssertionError) as failed:
        lake.start(timeout=10)
    assert "No space left" in str(failed.value), failed.value
    disk.empty()
    lake.start()
    streams = lake.boto3().describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["while full 0", "while full 65536"]
    sender.check(seqs_by_search(lake), "search once there is room")
    lake.stop()
    sender.check(seqs_by_duckdb(disk.path / "store"), "Parquet")
    assert [path for path in (disk.path / "store" / ".tmp").iterdir()] == [], "nothing half written stays"


def test_a_full_disk_beneath_the_copies_of_a_bucket(small_disk, make_lake, weed):
    """What cannot be copied cannot be read, and the answer says so; what is in memory is found."""
    disk = small_disk(48 * MIB)
    config = {"store": weed.store(), "wal": {"min_free_disk_bytes": 0, "segment_bytes": 4 * MIB}, "ingest": {"flush_age_seconds": 1}}
    lake = make_lake(data_dir=disk.path / "data", config=config)
    sender = Sender()
    for _ in range(20):
        assert sender.send(lake, n=200)
    lake.wait_flushed()
    lake.stop()
    shutil.rmtree(disk.path / "data" / "cache")
    lake.start()
    # a file that the log cannot make to its end is removed, and that would be room
    made = lambda: any(path.stat().st_blocks * 512 >= 4 * MIB for path in (disk.path / "data" / "wal").glob("*.spare"))  # noqa: E731
    lake.wait_until(made, what="the log has made its next file")
    disk.fill()
    answer = lake.search("record", limit=10)
    assert not answer["coverage"]["complete"], answer["coverage"]
    assert any("No space left" in problem["message"] for problem in answer["coverage"]["problems"]), answer["coverage"]
    disk.empty()
    sender.check(seqs_by_sql(lake), "SQL once there is room")

    # older copies make room for those that are asked for now
    lake.stop()
    lake.config["store"]["cache_bytes"] = 1 << 30
    lake.start()
    before = lake.search("record", limit=10)
    assert before["coverage"]["complete"]
    disk.fill(leave=0)
    for _ in range(3):
        assert lake.search("record", limit=10)["coverage"]["complete"], "copies that are there are read"
    # a flush whose copy finds no room loses nothing
    disk.empty()
    disk.fill(leave=4 * MIB)
    while sender.send(lake, n=200) and len(sender.acknowledged) < 20_000:
        pass
    lake.wait_flushed(60)
    disk.empty()
    sender.check(seqs_by_sql(lake), "SQL at last")


def test_a_first_start_on_a_full_disk(small_disk, make_lake, tmp_path):
    """No half written name of the node stays."""
    disk = small_disk(8 * MIB)
    lake = make_lake(data_dir=disk.path / "data", store=tmp_path / "store", config={"wal": {"min_free_disk_bytes": 0, "segment_bytes": MIB}}, start=False)
    disk.fill()
    with pytest.raises(AssertionError) as failed:
        lake.start(timeout=10)
    assert "No space left" in str(failed.value), failed.value
    disk.empty()
    lake.start()
    assert len((disk.path / "data" / "node_id").read_text().split()[0]) == 26
    sender = Sender()
    assert sender.send(lake)
    lake.restart(kill=True)
    sender.check(seqs_by_sql(lake), "SQL")


def test_copies_of_a_bucket_make_room_on_a_full_disk(small_disk, make_lake, tmp_path, weed):
    """The disk ends long before `store.cache_bytes`: every question is answered whole, one block's copies after another's."""
    disk = small_disk(8 * MIB)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "cache").symlink_to(disk.path)
    lake = make_lake(data_dir=data_dir, config={"store": weed.store(), "ingest": {"flush_age_seconds": 600}})
    windows = []
    for _ in range(6):
        fill(lake)
        after = windows[-1][1] if windows else 0
        (window,) = lake.sql(f"select min(time_unix_nano) as first, max(time_unix_nano) as last from logs where time_unix_nano > {after}")
        windows.append((int(window["first"]), int(window["last"])))
        lake.restart()
    for first, last in windows * 2:
        of_block = f"select count(distinct body), count(distinct trace_id) from logs where time_unix_nano between {first} and {last}"
        answer = lake.post("/api/v1/sql", {"query": of_block})
        assert answer["coverage"]["complete"], answer["coverage"]
        assert answer["rows"] == [[str(N_ROWS), str(N_ROWS - 2)]], answer
    metrics = requests.get(lake.url + "/metrics", timeout=10).text
    (evicted,) = [line for line in metrics.splitlines() if line.startswith("tracelake_storage_cache_evictions")]
    assert int(evicted.split()[-1]) > 0, evicted


def value_of(lake, name):
    """The sum of a counter over its labels."""
    lines = requests.get(lake.url + "/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def test_a_full_disk_beneath_what_is_merged(small_disk, make_lake, tmp_path):
    """A merge that finds no room for its files leaves its blocks as they are, and is made once there is room."""
    disk = small_disk(16 * MIB)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "cache").symlink_to(disk.path)
    config = {"ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 1, "merge_at_blocks": 2}}
    lake = make_lake(data_dir=data_dir, store=tmp_path / "store", config=config)
    disk.fill()
    sender = Sender()
    for _ in range(4):
        assert sender.send(lake, n=200)
        lake.wait_flushed()
    lake.wait_until(lambda: value_of(lake, "tracelake_maintain_failures_total") > 0, 30, what="a merge that finds no room")
    assert "No space left" in lake.log_tail()
    assert value_of(lake, "tracelake_catalog_blocks") >= 4
    sender.check(seqs_by_sql(lake), "SQL while nothing can be merged")
    sender.check(seqs_by_search(lake), "search while nothing can be merged")
    disk.empty()
    lake.wait_until(lambda: value_of(lake, "tracelake_catalog_blocks") < 4, 60, what="the blocks are merged")
    sender.check(seqs_by_sql(lake), "SQL once they are merged")
    lake.stop()
    sender.check(seqs_by_duckdb(tmp_path / "store"), "Parquet")


def test_a_full_disk_beneath_what_sql_spills(small_disk, make_lake, tmp_path):
    """The statement fails, and says why; others go on, and so does this one once there is room."""
    disk = small_disk(64 * MIB)
    config = {"wal": {"min_free_disk_bytes": 0, "segment_bytes": MIB}, "query": {"sql_memory_bytes": 12 * MIB}}
    lake = make_lake(data_dir=disk.path / "data", store=tmp_path / "store", config=config)
    sender = Sender()
    assert sender.send(lake)
    statement = "select count(*) as groups, sum(n) as n from (select value % 900000 as g, count(*) as n from generate_series(1, 1800000) group by 1)"
    disk.fill(leave=256 << 10)
    answer = requests.post(lake.url + "/api/v1/sql", json={"query": statement}, timeout=120)
    assert answer.status_code == 503 and "disk of the data directory is full" in answer.text, (answer.status_code, answer.text)
    sender.check(seqs_by_sql(lake), "SQL that needs no room")
    assert sum(path.stat().st_size for path in (disk.path / "data" / "tmp").rglob("*") if path.is_file()) == 0, "nothing half written stays"
    disk.empty()
    assert lake.sql(statement) == [{"groups": "900000", "n": "1800000"}]


def test_a_full_disk_beneath_dead_letters(small_disk, make_lake, tmp_path):
    """A letter that finds no room is counted and logged, leaves no half line, and stops nothing; its row is in the lake."""
    disk = small_disk(8 * MIB)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "deliver").symlink_to(disk.path)
    # rows larger than any record that Firehose takes
    rows = [{"name": "all", "query": "huge", "stream": "out"}]
    deliver = {"endpoint_url": f"http://127.0.0.1:{lakes.free_port()}", "every_millis": 100, "longest_wait_seconds": 1, "rows": rows}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_REGION": "us-east-1"}
    lake = make_lake(data_dir=data_dir, store=tmp_path / "store", config={"deliver": deliver}, env=keys)

    def send_huge(name):
        record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"huge {name} " + "x" * 1_100_000}}
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        assert requests.post(lake.url + "/v1/logs", json=body, timeout=20).status_code == 200

    path = disk.path / "dead-letters.ndjson"
    send_huge("first")
    lake.wait_until(lambda: path.exists() and path.stat().st_size > 1_000_000, 30, what="a letter")
    disk.fill(leave=200 << 10)
    send_huge("second")
    lake.wait_until(lambda: value_of(lake, "tracelake_deliver_dead_letters_lost_total") == 1, 30, what="a letter that found no room")
    assert "dead letters could not be written" in lake.log_tail()
    disk.empty()
    send_huge("third")
    lake.wait_until(lambda: len(path.read_text().splitlines()) == 2, 30, what="the next letter")
    letters = [json.loads(line) for line in path.read_text().splitlines()]
    assert [letter["reason"] for letter in letters] == ["too_large"] * 2, [letter["reason"] for letter in letters]
    assert len(lake.hits("huge", limit=10)) == 3
