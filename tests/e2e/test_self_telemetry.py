"""tracelake's own logs, traces and metrics in itself: off by default, and without a loop."""

import time

import requests

from test_bad_input import PROTOBUF, good_logs

ON = {"telemetry": {"self_ingest": True, "metrics_every_seconds": 3600}, "ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 1, "merge_at_blocks": 2}}


def own(lake, table="logs"):
    return lake.hits("service:tracelake", table=table)


def kept(lake):
    """Own records accepted so far, by signal."""
    return {entry["signal"]: entry["accepted"] for entry in lake.status()["receivers"] if entry["receiver"] == "self"}


def test_off_by_default(lake):
    requests.post(lake.url + "/v1/logs", data=b"\xff\xff", headers=PROTOBUF, timeout=20)
    time.sleep(2)
    assert own(lake) == [] and own(lake, "spans") == [] and kept(lake) == {}
    assert 'outcome="kept"' not in requests.get(lake.url + "/metrics", timeout=10).text


def test_own_logs_and_spans_are_searchable(make_lake):
    lake = make_lake(config=ON)
    assert requests.post(lake.url + "/v1/logs", data=good_logs(), headers=PROTOBUF, timeout=20).status_code == 200
    # a line of our own log, written while a span of ours was open: one trace
    line = lake.wait_until(lambda: next((hit for hit in own(lake) if hit["body"] == "flushed"), None), 20, what="the line of a flush")
    assert line["severity"] == "INFO" and line["attributes"]["code.namespace"] == "tracelake::ingest::flush" and int(line["attributes"]["rows"]) >= 3
    assert "flushed" in lake.log_path.read_text(), "it is on standard error as well"
    trace = lake.wait_until(lambda: lake.trace(line["trace_id"]), 20, what="its trace")
    assert [span["name"] for span in trace["spans"]] == ["flush"] or any("flush" in str(span) for span in trace["spans"])
    request = lake.wait_until(lambda: next((hit for hit in own(lake, "spans") if hit["name"] == "POST /v1/logs"), None), 20, what="the span of a request")
    assert request["service_name"] == "tracelake" and str(request["attributes"]["http.response.status_code"]) == "200", request
    # health checks are not told
    for path in ("/healthz", "/readyz", "/metrics"):
        requests.get(lake.url + path, timeout=10)
    lake.restart()
    names = {hit["name"] for hit in own(lake, "spans")}
    assert not names & {"GET /healthz", "GET /readyz", "GET /metrics"}, names


def test_keeping_them_makes_no_more_of_them(make_lake):
    """At idle nothing grows, though each second there could be a flush to tell of."""
    lake = make_lake(config=ON)
    assert requests.post(lake.url + "/v1/logs", data=good_logs(), headers=PROTOBUF, timeout=20).status_code == 200
    lake.wait_until(lambda: kept(lake).get("logs"), 20, what="own lines")
    # asking makes spans: the asking must pause, too
    counts = []
    for _ in range(3):
        time.sleep(5)
        counts.append(kept(lake))
    lines = [count["logs"] for count in counts]
    assert lines[-1] == lines[-2], counts
    # each question above, and its span, is one
    assert counts[-1]["traces"] - counts[-2]["traces"] <= 3, counts
    flushes = lake.log_path.read_text().count("flushed")
    assert flushes > lines[-1] or flushes >= 2, "flushes of own rows happened and were not told"


def test_own_metrics_are_kept(make_lake):
    lake = make_lake(config={**ON, "telemetry": {"self_ingest": True, "metrics_every_seconds": 1}})
    requests.post(lake.url + "/v1/logs", data=good_logs(), headers=PROTOBUF, timeout=20)
    query = "SELECT max(value) AS v FROM metric_points WHERE metric_name = 'tracelake_ingest_records_total' AND service_name = 'tracelake'"
    lake.wait_until(lambda: (lake.sql(query)[0]["v"] or 0) >= 3, 20, what="the records we took, as a metric")


def test_a_flood_is_bounded_and_counted(make_lake):
    lake = make_lake(config={"telemetry": {"self_ingest": True, "max_records_per_second": 5, "metrics_every_seconds": 0}})
    for _ in range(300):
        requests.get(lake.url + "/api/v1/status", timeout=10)
    text = requests.get(lake.url + "/metrics", timeout=10).text
    dropped = [line for line in text.splitlines() if line.startswith('tracelake_telemetry_own_records_total{outcome="too_many"}')]
    assert dropped and float(dropped[0].split()[-1]) > 0, dropped
