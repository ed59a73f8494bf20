"""The process dies between any two steps of flush, merge, delete and retention; nothing acknowledged is lost or doubled.

A store of generated, numbered rows is what each server begins with, in its log; then rows of several kinds come over OTLP until
the armed point is reached. After the restart everything settles, and each way of reading says the same.
"""

import collections
import concurrent.futures
import json
import re
import shutil
import subprocess
import time

import duckdb
import pytest
import requests

import lake as lakes
from test_crash import live_files

POINTS = re.findall(r'"([a-z_]+\.[a-z_]+)"', re.search(r"POINTS: &\[&str\] = &\[(.*?)\];", (lakes.REPO / "src/fail_point.rs").read_text(), re.S)[1])
# where the second time is another path than the first, or finds other things done before it
LATER = [
    # one block of a flush is there whole, another is not
    "flush.after_index_put@3",
    "flush.after_parquet_put@2",
    # behind a log that was cut before
    "flush.after_commit@2",
    # the first is done; seals and merges
    "merge.after_build@2",
    "merge.after_announcement@2",
    "merge.after_parquet_put@2",
    "merge.after_commit@3",
    # one block is rewritten, another waits
    "delete.before_erasure@2",
    "delete.after_erasure@2",
    # of the second block that goes
    "removal.after_first_object@3",
]
# rows of blocks that stay expire, and no whole block does: the second path to these points
IN_PART = [f"retention.{point}" for point in ("before_commit", "after_announcement@2", "after_parquet_put@2", "after_commit")]
DAY = 24 * 3600
GENERATED = 2_000
AT_ONCE = 5
CONFIG = {
    "ingest": {"flush_age_seconds": 1},
    "lake": {
        "every_seconds": 1,
        "seal_after_seconds": 0,
        "seal_quiet_seconds": 0,
        "late_seal_seconds": 0,
        "merge_at_blocks": 3,
        "removed_grace_seconds": 10,
    },
    "query": {"timeout_seconds": 9},
    # a copied folder watches the heartbeat that was copied with its store
    "node": {"lease_seconds": 3},
    "retention": {"rules": [{"service": "short", "days": 7}], "tables": {"spans": 5}},
}
# what a row is of, and how old it is: those of `short` expire, and all spans do; `alice` is deleted by a query
KINDS = {"now": 0, "sealed": 3 * 3600, "long": 20 * DAY, "short": 20 * DAY, "alice": 3 * 3600}
ALICE = {"query": "service:alice", "from": "-2d", "to": "now"}


class Load:
    """Sends until the server is gone, and keeps what was acknowledged, and what may have been."""

    def __init__(self, lake, has_spans=True):
        self.lake, self.has_spans = lake, has_spans
        self.n = 0
        self.acknowledged = collections.defaultdict(set)
        self.sent = collections.defaultdict(set)
        self.n_orders = 0

    def post(self, path, body):
        answer = requests.post(self.lake.otlp_http_url + path, json=body, timeout=20)
        assert answer.status_code == 200, answer.text

    def logs(self, kinds):
        first, self.n = self.n, self.n + 1
        now = time.time_ns()
        resources = []
        for kind in kinds:
            # of two hours, so that there are two blocks to delete from, of which rows are left
            hours_more = 2 * (first % 2) if KINDS[kind] == KINDS["alice"] else 0
            record = {
                "timeUnixNano": str(now - (KINDS[kind] + hours_more * 3600) * 10**9 + first),
                "body": {"stringValue": f"{kind} {first}"},
                "attributes": [{"key": "kind", "value": {"stringValue": kind}}],
            }
            resource = {"attributes": [{"key": "service.name", "value": {"stringValue": kind}}]}
            resources.append({"resource": resource, "scopeLogs": [{"logRecords": [record]}]})
            self.sent[kind].add(first)
        self.post("/v1/logs", {"resourceLogs": resources})
        for kind in kinds:
            self.acknowledged[kind].add(first)

    def spans(self):
        start = time.time_ns() - 20 * DAY * 10**9
        span = {"traceId": "cd" * 16, "spanId": f"{self.n + 1:016x}", "name": "old", "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 5)}
        self.post("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})

    def order(self):
        """What matches by now is to go; later rows of the kind are none."""
        answer = requests.post(self.lake.url + "/api/v1/delete", json=ALICE, timeout=20)
        assert answer.status_code == 202, answer.text
        self.n_orders += 1

    def run(self, other=None, seconds=40):
        """Until the process is gone; `other` gives the order where it is not this server's to give."""
        process = self.lake.process
        deadline = time.monotonic() + seconds
        has_ordered = False
        while process.poll() is None:
            assert time.monotonic() < deadline, "the point was not reached"
            try:
                self.logs(["now", "sealed", "long", "short"] + ([] if has_ordered else ["alice"]))
                if self.has_spans:
                    self.spans()
                # an order is given when there are rows of all kinds in the lake, and some in memory
                if not has_ordered and self.lake.status()["store"]["blocks"].get("logs", {}).get("sealed_blocks", 0) >= 3:
                    has_ordered = True
                    (other or self).order()
            except requests.RequestException:
                pass
            time.sleep(0.05)
        return has_ordered


def numbers(rows):
    """`{kind: [numbers]}` of bodies such as `short 17`; generated rows have other bodies."""
    found = collections.defaultdict(list)
    for row in rows:
        kind, _, number = (row or "").partition(" ")
        if kind in KINDS and number.isdigit():
            found[kind].append(int(number))
    return found


def settle(lake):
    """Everything is flushed, sealed, deleted, expired; and nothing that was replaced is left."""

    def is_settled():
        status = lake.status()
        deletes = lake.get("/api/v1/deletes")["deletes"]
        assert not status["problems"], status["problems"]
        assert status["head"]["rows"] == 0 and all(delete["state"] == "done" for delete in deletes), (status["head"], deletes)
        rows = lake.sql("SELECT (SELECT count(*) FROM spans) + (SELECT count(*) FROM logs WHERE service_name = 'short') AS n")
        assert int(rows[0]["n"]) == 0, "rows have not expired"
        oldest = status["lake"]["oldest_waiting_unix_nano"]
        assert oldest is None or int(oldest) // 10**9 // 3600 == int(time.time()) // 3600, "an hour that is over is not sealed"
        # what a crash left in the lake is gone; outside it the daily sweep finds it
        in_lake = [path for table in ("logs", "spans") for path in (lake.data_dir / "store" / table).rglob("*.parquet")]
        sealed = sum(table["sealed_blocks"] for table in status["store"]["blocks"].values())
        assert len(in_lake) == sealed, f"{len(in_lake)} files, {sealed} blocks"
        return True

    lake.wait_until(is_settled, 60, every=0.3, what="settled")


def check(lake, load, has_ordered):
    settle(lake)
    wide = {"start": "-60d", "limit": 10_000}
    found = {
        "search": numbers(hit["body"] for hit in lake.hits("kind:*", **wide)),
        "sql": numbers(row["body"] for row in lake.sql("SELECT body FROM logs WHERE service_name IN ('now', 'sealed', 'long', 'short', 'alice')", 100_000)),
    }
    deletes = lake.get("/api/v1/deletes")["deletes"]
    generated = sorted(int(hit["attributes"]["load.number"]) for hit in lake.hits("load.number:*", **wide))
    assert generated == list(range(GENERATED)), f"{len(generated)} generated rows"
    status = lake.status()
    ledger = {(entry["receiver"], entry["signal"]): entry["accepted"] for entry in status["receivers"]}
    rows = {table: int(lake.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"]) for table in ("logs", "spans")}
    gone = {table: sum(status["gone"].get(table, {}).values()) for table in rows}
    for table, signal in (("logs", "logs"), ("spans", "traces")):
        accepted = ledger.get(("otlp", signal), 0)
        assert accepted == rows[table] + gone[table], f"{table}: {accepted} accepted, {rows[table]} there, gone {status['gone']}"
    lake.stop_checked()
    store = lake.data_dir / "store"
    files, _ = live_files(store)
    in_lake = [str(path) for path in (store / "logs").rglob("*.parquet")]
    with duckdb.connect() as db:
        for where, paths in (("parquet", files), ("the lake", in_lake)):
            rows = db.sql(f"SELECT body FROM read_parquet({paths!r}, hive_partitioning = false)").fetchall()
            found[where] = numbers(body for (body,) in rows)
    for where, by_kind in found.items():
        for kind in KINDS:
            there = collections.Counter(by_kind[kind])
            assert max(there.values(), default=1) == 1, f"{where}: {kind} rows are doubled"
            assert there.keys() <= load.sent[kind], f"{where}: {kind} rows that nobody sent"
            if kind == "short" or (kind == "alice" and deletes):
                assert not there, f"{where}: {kind} rows are not gone: {deletes}"
            elif where != "the lake" or kind in ("sealed", "long"):
                assert load.acknowledged[kind] <= there.keys(), f"{where}: {kind} rows are lost"
    assert len(deletes) >= load.n_orders and (has_ordered or not deletes), deletes


@pytest.fixture(scope="module")
def generated(make_module_lake):
    """A data directory with numbered rows in its log, and none in its store."""
    lake = make_module_lake("generated", config={"ingest": {"flush_age_seconds": 3600}})
    command = [lakes.binary(), "generate", "--otlp-http", lake.otlp_http_url, "--records", str(GENERATED), "--numbered", "--batch", "100", "--spread", "7200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["acknowledged"] == GENERATED, done
    lake.has_sent("otlp", ("logs",), told)
    lake.kill()
    return lake.data_dir


def one(make_lake, generated, point, in_part=False):
    """One point: reached, survived. All spans expire, unless blocks are to expire only `in_part`."""
    config = {section: dict(keys) for section, keys in CONFIG.items()}
    if point == "flush.after_announcement":
        # only what goes straight into the lake is announced
        config["ingest"]["lake_visible"] = "all"
    if in_part:
        del config["retention"]["tables"]
    lake = make_lake(f"{point} in part" if in_part else point, config=config, args=["--fail-points", point], start=False)
    shutil.copytree(generated, lake.data_dir)
    other = None
    try:
        lake.start()
        if point == "delete.after_join":
            # another node on the same store gives the order
            other = make_lake("other", config=config, store=lake.data_dir / "store")
        load = Load(lake, has_spans=not in_part)
        has_ordered = load.run(other=other and Load(other))
        load.n_orders += int(other is not None and has_ordered)
        assert lake.wait_for_end() == -6, "it ended otherwise"
        assert point.partition("@")[0] in lake.log_tail()
        lake.args = []
        lake.start()
        if other:
            # the order has woken it: what it replaced, it deletes; nobody else does before an hour is over
            settle(lake)
            other.stop()
        check(lake, load, has_ordered)
    except AssertionError as error:
        raise AssertionError(f"{point}: {error}\n{lake.log_tail(3000)}") from error
    finally:
        lake.close()
        shutil.rmtree(lake.data_dir, ignore_errors=True)


def test_every_point_is_survived(make_lake, generated):
    assert len(POINTS) > 25
    survive(make_lake, generated, [(point, False) for point in POINTS])


def test_points_on_their_second_path_are_survived(make_lake, generated):
    survive(make_lake, generated, [(point, False) for point in LATER] + [(point, True) for point in IN_PART])


def survive(make_lake, generated, cases):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(one, make_lake, generated, point, in_part) for point, in_part in cases]
        failed = [str(end.exception()) for end in running if end.exception()]
    assert not failed, "\n\n".join(failed)


def test_nothing_dies_unless_it_is_asked_to(make_lake):
    lake = make_lake(env={"TRACELAKE_FAIL_POINTS": "flush.after_cut"}, config={"ingest": {"flush_age_seconds": 1}})
    load = Load(lake)
    load.logs(["now"])
    lake.wait_flushed()
    # no help shows the flag, no file knows it, and a wrong name is refused at the start
    shown = subprocess.run([lakes.binary(), "serve", "--help"], capture_output=True, text=True, timeout=20).stdout
    assert "fail" not in shown
    done = subprocess.run([lakes.binary(), "serve", "--fail-points", "nosuch"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "nosuch" in done.stderr
