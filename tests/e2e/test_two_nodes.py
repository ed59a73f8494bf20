"""Two nodes write to one bucket and are killed at random: together they have every record, once, and so has the lake."""

import calendar
import os
import pathlib
import random
import shutil
import threading
import time

import duckdb
import requests
from botocore.exceptions import ClientError

import lake as lakes
from test_crash import GROUP, SEED, STREAM, TEXT, Sender, live_files, otlp_logs, otlp_traces, put_log_events, seqs_by_duckdb, seqs_by_sql, xray_segments
from test_recovery import verify
from test_xray_reads import document, put

SECONDS = 600 if os.environ.get("E2E_LONG") else 60
PAUSE = 0.2 if os.environ.get("E2E_LONG") else 0.05
HOUR = 3_600_000_000_000
# every hour but the running one is sealed as soon as it is quiet, and what comes later makes further files
CONFIG = {
    "ingest": {"flush_age_seconds": 1},
    "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 1, "late_seal_seconds": 4, "merge_at_blocks": 3, "removed_grace_seconds": 21},
    "node": {"lease_seconds": 6, "share_seconds": 1},
    "wal": {"segment_bytes": 1 << 20},
    "query": {"max_answer_bytes": 1 << 30, "timeout_seconds": 20},
}


def earlier(how, chance):
    """The same request, its records in one of the last four hours."""

    def send(lake, session, seqs, now):
        return how(lake, session, seqs, now - chance.randrange(4) * HOUR)

    send.__name__ = how.__name__
    return send


def load(lake, sender, how, stop):
    """Sends until `stop`; the node comes and goes meanwhile."""
    with requests.Session() as session:
        while not stop.is_set():
            try:
                sender.send(lake, how, session=session)
            except requests.RequestException:
                pass
            stop.wait(PAUSE)


def kill_at_random(nodes, chance, seconds, stop):
    """How often a node was killed; sometimes both are down, sometimes one is killed while it starts. In the end both run."""
    kills = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.is_set():
        time.sleep(chance.uniform(0.2, 4))
        victims = list(nodes) if chance.random() < 0.2 else [chance.choice(nodes)]
        for node in victims:
            node.kill()
            kills += 1
        time.sleep(chance.uniform(0, 2))
        for node in victims:
            if chance.random() < 0.3:
                timer = threading.Timer(chance.uniform(0.05, 0.8), lambda node=node: node.process and node.process.kill())
                timer.start()
                try:
                    node.start(same_ports=True)
                except AssertionError as error:
                    assert "ended with -9" in str(error), error
                timer.join()
                kills += 1
                node.close()
            node.start(same_ports=True)
    return kills


def download(weed, url, folder):
    """All objects under an s3:// URL as files."""
    bucket, prefix = url.removeprefix("s3://").split("/", 1)
    s3 = weed.s3()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/"):
        for item in page.get("Contents", []):
            path = folder / item["Key"].removeprefix(prefix + "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                s3.download_file(bucket, item["Key"], str(path))
            except ClientError as error:
                # listed, and then deleted by a node that runs: this is no copy of one moment
                assert error.response["Error"]["Code"] != "404", f"{item['Key']} went while it was copied"
                raise
    return folder


def lake_rows(store, table):
    """What a foreign reader sees that knows nothing of the catalog."""
    pattern = str(store / table / "**" / "*.parquet")
    return [seq for (seq,) in duckdb.sql(f"SELECT substr({TEXT[table]}, 8) FROM read_parquet('{pattern}', hive_partitioning = false)").fetchall()]


def accepted(entries, signal):
    return sum(entry["accepted"] for entry in entries if entry["signal"] == signal and entry["receiver"] != "own")


def test_two_nodes_killed_at_random_have_every_record_once(make_lake, weed, tmp_path):
    chance = random.Random(SEED)
    store = weed.store()
    nodes = [make_lake(name, config={**CONFIG, "store": store}) for name in ("one", "two")]
    logs, spans = senders = {"logs": Sender("logs"), "spans": Sender("spans")}.values()
    for node in nodes:
        client = node.boto3()
        client.create_log_group(logGroupName=GROUP)
        client.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    stop = threading.Event()
    hows = [(logs, otlp_logs), (logs, put_log_events), (spans, otlp_traces), (spans, xray_segments)]
    failures = []

    def guarded(*args):
        try:
            load(*args)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)
            stop.set()

    threads = [
        threading.Thread(target=guarded, args=(node, sender, earlier(how, random.Random(chance.random())), stop)) for node in nodes for sender, how in hows
    ]
    for thread in threads:
        thread.start()
    try:
        kills = kill_at_random(nodes, chance, SECONDS, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert kills >= SECONDS / 10, kills
    assert all(len(sender.acknowledged) > 100 for sender in senders)

    # both up: each sees the rows of both
    for node in nodes:
        node.wait_flushed(60)
    time.sleep(2)
    for node in nodes:
        for table, sender in (("logs", logs), ("spans", spans)):
            where = f"{table} on node {node.folder.name} after {kills} kills"
            (counts,) = node.sql(f"SELECT count(*) AS n, count(DISTINCT {TEXT[table]}) AS d FROM {table}")
            assert counts["n"] == counts["d"], where
            if sender.next < 90_000:
                sender.check(seqs_by_sql(node, table), "SQL: " + where)
                since = time.time_ns() - 6 * HOUR
                found = node.hits("record", table=table, limit=10_000, start=str(since))
                sender.check([hit[TEXT[table]].removeprefix("record ") for hit in found], "search: " + where)
    # the books of both together say what is there
    status = nodes[0].status()
    assert {node["node"] for node in status["nodes"]} == {node.status()["node"] for node in nodes}
    assert all(node["is_alive"] for node in status["nodes"]) and sum(node["leads"] for node in status["nodes"]) == 1, status["nodes"]
    for node in nodes:
        status = node.status()
        for table, signal in (("logs", "logs"), ("spans", "traces")):
            (counts,) = node.sql(f"SELECT count(*) AS n FROM {table}")
            assert accepted(status["ledger"], signal) == int(counts["n"]), (table, status["ledger"])
            assert accepted(status["ledger"], signal) == sum(accepted(one["receivers"], signal) for one in status["nodes"])
    # every hour that is over gets into the lake, whoever of the two does it
    running = time.time_ns() // HOUR * HOUR

    def all_sealed():
        copy = tmp_path / "look"
        shutil.rmtree(copy, ignore_errors=True)
        download(weed, store["url"], copy)
        waiting = [path for path in live_files(copy, "logs")[0] if "/_l0/" in path and hour_of(path) < running]
        assert not waiting, waiting
        return copy

    copy = nodes[0].wait_until(all_sealed, 90, every=2, what="all past hours sealed")
    for table, sender in (("logs", logs), ("spans", spans)):
        sender.check(seqs_by_duckdb(copy, table), f"DuckDB over the live files of {table}")
        in_lake = lake_rows(copy, table)
        assert len(in_lake) == len(set(in_lake)), f"{table}: a foreign reader sees rows twice"
    assert not any((node.log_path.read_text(errors="replace").count("panicked")) for node in nodes)

    # what kills left behind is swept once it is a day old, and nothing else is
    for node in nodes:
        node.stop()
    final = download(weed, store["url"], tmp_path / "final")
    for path in final.rglob("*"):
        os.utime(path, (time.time() - 3 * 86_400,) * 2)
    sweeper = make_lake("sweeper", config={"lake": {"every_seconds": 1}}, store=final)
    sweeper.wait_until(lambda: 'maintain_objects_deleted_total{reason="orphan"}' in requests.get(sweeper.url + "/metrics", timeout=10).text, 30, what="a sweep")
    time.sleep(2)
    for table, sender in (("logs", logs), ("spans", spans)):
        sender.check(seqs_by_duckdb(final, table), f"{table} after the sweep")
    sweeper.stop()
    report = verify("--data-dir", sweeper.data_dir, "--store", final)
    assert report["damaged"] == [] and report["unlisted_objects"] == 0, report


def test_a_trace_of_which_two_nodes_were_sent_parts_is_counted_once(make_lake, weed):
    """Spans of each trace to two nodes in turn, graphs asked of both all the while: each looks before it sees what the other has, and in the end sums and rows are exact."""
    config = {**CONFIG, "store": weed.store(), "assemble": {"quiet_seconds": 1}}
    nodes = [make_lake(name, config=config) for name in ("one", "two")]
    for node in nodes:
        node.wait_until(lambda node=node: [one["is_alive"] for one in node.status()["nodes"]] == [True, True], 30, what="both nodes")
    clients = [node.boto3("xray") for node in nodes]
    begin = int(time.time()) - 120
    names = ("shop", "pay", "bank")
    for number in range(1, 31):
        trace, shop = document(number, begin + number, took=0.9)
        calls = {name: f"{number:08x}{at:08x}" for at, name in enumerate(names[1:], 1)}
        call = lambda to, took: {"name": to, "id": calls[to], "namespace": "remote", "start_time": begin + number, "end_time": begin + number + took}  # noqa: E731
        shop["subsegments"] = [call("pay", 0.8)]
        times = {"trace_id": trace, "start_time": begin + number}
        pay = {"name": "pay", "id": f"{number:08x}{77:08x}", "parent_id": calls["pay"], "end_time": begin + number + 0.7, "subsegments": [call("bank", 0.6)], **times}
        bank = {"name": "bank", "id": f"{number:08x}{88:08x}", "parent_id": calls["bank"], "end_time": begin + number + 0.5, **times}
        for at, one in enumerate((shop, pay, bank)):
            put(clients[(number + at) % 2], [one])
        if number % 7 == 0:
            # whoever asks makes a node look at what it has
            for node in nodes:
                node.get("/api/v1/service-graph", start=str((begin - 60) * 10**9), end="now")
    edges = [("bank", "pay", 30), ("pay", "shop", 30), ("shop", "shop", 30)]
    newest = "SELECT * FROM (SELECT *, rank() OVER (PARTITION BY trace_id ORDER BY revision DESC) AS place FROM traces) WHERE place = 1 ORDER BY trace_id"

    def is_exact(node):
        told = node.sql(
            "SELECT server_name, client_name, sum(requests) AS n FROM service_edges GROUP BY server_name, client_name, client_type HAVING sum(requests) <> 0 ORDER BY 1, 2"
        )
        assert [(row["server_name"], row["client_name"], int(row["n"])) for row in told] == edges, told
        rows = node.sql(newest)
        assert len(rows) == 30 and all((row["span_count"], row["services"]) == (5, ["bank", "pay", "shop"]) for row in rows), rows
        return True

    for node in nodes:
        node.wait_until(lambda node=node: is_exact(node), 60, every=0.5, what=f"exact tables on {node.folder.name}")
    # and so it stays: nobody corrects what is right
    (written,) = nodes[0].sql("SELECT count(*) AS n, count(DISTINCT node) AS nodes FROM traces")
    assert int(written["nodes"]) == 2, written
    for node in nodes:
        node.get("/api/v1/service-graph", start=str((begin - 60) * 10**9), end="now")
        node.wait_flushed()
    time.sleep(3)
    assert all(is_exact(node) for node in nodes)
    assert nodes[0].sql("SELECT count(*) AS n FROM traces") == [{"n": written["n"]}]
    drawn = [node.get("/api/v1/service-graph", start=str((begin - 60) * 10**9), end=str((begin + 120) * 10**9)) for node in nodes]
    assert drawn[0]["edges"] == drawn[1]["edges"] and sum(edge["seen_by_callee"]["requests"] for edge in drawn[0]["edges"]) == 90


def hour_of(path):
    """The hour a file lies in, nanoseconds since the epoch; tables that are kept by day have none."""
    parts = dict(part.split("=") for part in pathlib.Path(path).parts if "=" in part)
    return calendar.timegm(time.strptime(f"{parts['dt']} {parts.get('hour', '00')}", "%Y-%m-%d %H")) * 1_000_000_000
