"""Background work that panics is told, and begins again."""

import subprocess
import time

import requests

import lake as lakes

CONFIG = {
    "ingest": {"flush_age_seconds": 1},
    "lake": {"every_seconds": 1, "merge_at_blocks": 2},
}


def send(lake, body):
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": body}}
    answer = requests.post(f"{lake.otlp_http_url}/v1/logs", json={"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}, timeout=20)
    assert answer.status_code == 200, answer.text


def background(lake):
    return {work["name"]: work for work in lake.status()["background"]}


def test_flush_and_maintenance_go_on_after_a_panic(make_lake):
    lake = make_lake(config=CONFIG, args=["--fail-points", "flush.after_cut=panic,merge.after_build=panic"])
    assert {work["state"] for work in background(lake).values()} == {"running"}
    assert {"flush", "maintenance", "nodes", "alerts", "xray_udp"} <= background(lake).keys()
    send(lake, "first")

    def is_unready():
        answer = requests.get(lake.url + "/readyz", timeout=10)
        return answer.status_code == 503 and "the fail point flush.after_cut" in answer.text

    lake.wait_until(is_unready, 15, every=0.05, what="readyz tells of the flush")
    lake.wait_flushed()
    work = background(lake)["flush"]
    assert (work["state"], work["panics"], work["last_panic"]) == ("running", 1, "the fail point flush.after_cut")
    assert requests.get(lake.url + "/readyz", timeout=10).status_code == 200
    # two blocks of like size are merged; the first merge panics
    send(lake, "second")
    lake.wait_flushed()
    lake.wait_until(lambda: lake.status()["store"]["blocks"]["logs"]["blocks"] == 1, what="merged after all")
    work = background(lake)["maintenance"]
    assert (work["state"], work["panics"], work["last_panic"]) == ("running", 1, "the fail point merge.after_build")
    assert sorted(hit["body"] for hit in lake.hits("first OR second")) == ["first", "second"]
    metrics = requests.get(lake.url + "/metrics", timeout=10).text
    for name in ("flush", "maintenance"):
        assert f'tracelake_background_panics_total{{work="{name}"}} 1' in metrics
    assert "src/fail_point.rs" in lake.log_tail(), "the log has the place"
    lake.stop()


def test_a_block_whose_index_cannot_be_built_is_stored_without_it(make_lake):
    # one stands for any flush that can never succeed: the others would wait behind it, until all is refused
    config = {"ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 3600}}
    lake = make_lake(config=config, args=["--fail-points", "flush.before_index=panic"])
    send(lake, "first")
    lake.wait_flushed()
    send(lake, "second")
    lake.wait_flushed()
    assert "it is built without, and scanned" in lake.log_tail()
    blocks = lake.sql("SELECT index FROM blocks WHERE table_name IN ('logs', 'spans')")
    assert [block["index"] for block in blocks].count(None) == 1, blocks
    assert sorted(hit["body"] for hit in lake.hits("first OR second")) == ["first", "second"]
    assert requests.get(lake.url + "/readyz", timeout=10).status_code == 200
    lake.stop()


def test_a_wrong_action_is_refused():
    done = subprocess.run([lakes.binary(), "serve", "--fail-points", "flush.after_cut=sleep"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "=panic" in done.stderr
