"""How far each source has come: searchable, in Parquet, in the lake; as the status and the metrics say it."""

import json
import re
import time

import duckdb
import requests

from test_bad_input import segment
from test_crash import live_files

HOUR = 3_600_000_000_000


def send(lake, service, times):
    records = [{"timeUnixNano": str(t), "body": {"stringValue": f"record {t}"}} for t in times]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    answer = requests.post(lake.url + "/v1/logs", json={"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}, timeout=20)
    assert answer.status_code == 200, answer.text


def source(lake, receiver, signal, service=None, log_group=None):
    """Searchable, Parquet, lake: up to."""
    for one in lake.status()["sources"]:
        if (one["receiver"], one["signal"]) == (receiver, signal) and service in (None, one["service"]) and log_group in (None, one["log_group"]):
            return tuple(one[key] and int(one[key]) for key in ("searchable_up_to_unix_nano", "parquet_up_to_unix_nano", "lake_up_to_unix_nano"))
    return None


def metrics(lake):
    text = requests.get(lake.url + "/metrics", timeout=10).text
    found = re.findall(r'tracelake_ingest_watermark_seconds\{receiver="(\w+)",signal="(\w+)",stage="(\w+)"\} ([\d.]+)', text)
    return {(receiver, signal, stage): float(value) for receiver, signal, stage, value in found}


def test_each_source_has_its_watermarks(make_lake):
    lake = make_lake(config={"lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 1}})
    now = time.time_ns()
    past = now // HOUR * HOUR - 2 * HOUR
    send(lake, "old", [past, past + 1000])
    send(lake, "new", [now - 5000, now])
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/shop/cart")
    logs.create_log_stream(logGroupName="/shop/cart", logStreamName="s")
    millis = now // 1_000_000
    logs.put_log_events(logGroupName="/shop/cart", logStreamName="s", logEvents=[{"timestamp": millis, "message": "m"}])
    requests.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": [json.dumps(segment(name="pay"))]}, timeout=20)

    # acknowledged: searchable, and nothing is in Parquet before its oldest record
    assert source(lake, "otlp", "logs", "old") == (past + 1000, past - 1, past - 1)
    assert source(lake, "otlp", "logs", "new")[:2] == (now, now - 5001)
    assert source(lake, "awslogs", "logs", log_group="/shop/cart")[:2] == (millis * 1_000_000, millis * 1_000_000 - 1)
    assert source(lake, "xray", "traces", "pay") is not None
    lake.wait_until(lambda: abs(metrics(lake).get(("otlp", "logs", "searchable"), 0) - now / 1e9) < 0.001, what="the metric")
    assert metrics(lake)["otlp", "logs", "parquet"] < now / 1e9 - 3600

    # flushed by a stop; the old hour is sealed into the lake soon, the running one is not
    lake.restart()
    assert source(lake, "otlp", "logs", "old")[:2] == (past + 1000, past + 1000)
    searchable, parquet, in_lake = source(lake, "otlp", "logs", "new")
    assert searchable == parquet == now and in_lake < now
    lake.wait_until(lambda: source(lake, "otlp", "logs", "old") == (past + 1000,) * 3, 30, what="the old hour in the lake")
    assert source(lake, "otlp", "logs", "new")[2] < now
    lake.wait_until(lambda: abs(metrics(lake)["otlp", "logs", "parquet"] - now / 1e9) < 0.001, what="the metric")
    # it is true
    files, _ = live_files(lake.data_dir / "store")
    newest = duckdb.sql(f"SELECT max(time_unix_nano) FROM read_parquet({files!r}, hive_partitioning = false, union_by_name = true)").fetchall()[0][0]
    assert newest == now

    # late: the source is held back until that record is flushed, also across a crash
    send(lake, "new", [now - 3000])
    assert source(lake, "otlp", "logs", "new")[:2] == (now, now - 3001)
    lake.restart(kill=True)
    assert source(lake, "otlp", "logs", "new")[:2] == (now, now - 3001)
    assert source(lake, "otlp", "logs", "old")[1] == past + 1000


def test_sources_beyond_the_bound_are_counted_together(make_lake):
    lake = make_lake(config={"ingest": {"max_sources": 2}})
    for n in range(5):
        send(lake, f"service-{n}", [time.time_ns()])
    names = {one["service"]: one["records"] for one in lake.status()["sources"]}
    assert names == {"service-0": 1, "service-1": 1, "(others)": 3}
