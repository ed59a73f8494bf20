"""A bucket that fails in every way at random, through the real S3 client: nothing acknowledged is lost or doubled, what is deleted is gone, and
an answer that says it is complete is.

Flushes, merges, seals and a delete go through proxies that fail (s3_proxy.py), of one node, which is killed meanwhile, and of two, of which
the leader is killed. E2E_SEED and E2E_FAULTY_SECONDS make another run of it, or a longer one.
"""

import collections
import json
import os
import pathlib
import random
import threading
import time

import duckdb
import pytest
import requests

from s3_proxy import KINDS, S3Proxy
from test_crash import TEXT, Sender, live_files, otlp_traces
from test_recovery import verify
from test_two_nodes import HOUR, download, earlier, lake_rows

SEED = int(os.environ.get("E2E_SEED", "20261123"))
SECONDS = float(os.environ.get("E2E_FAULTY_SECONDS", "12"))
CONFIG = {
    "ingest": {"flush_age_seconds": 1},
    "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 1, "late_seal_seconds": 3, "merge_at_blocks": 3, "removed_grace_seconds": 12},
    "node": {"lease_seconds": 3, "share_seconds": 1},
    "query": {"max_answer_bytes": 1 << 30, "timeout_seconds": 8},
}
ROWS = "SELECT substr({text}, 8) AS seq, count(*) AS n FROM {table} WHERE {text} LIKE 'record %' GROUP BY 1"
PERSON = {"query": "service:alice", "from": "-1d", "to": "now"}


def otlp(service, body):
    """Sends log records of a service."""

    def send(lake, session, seqs, now):
        records = [{"timeUnixNano": str(now + i), "severityNumber": 9, "body": {"stringValue": f"{body} {seq}"}} for i, seq in enumerate(seqs)]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        message = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
        return session.post(lake.otlp_http_url + "/v1/logs", json=message, timeout=20), {}

    return send


def otlp_points(lake, session, seqs, now):
    points = [{"timeUnixNano": str(now + i), "asInt": str(seq)} for i, seq in enumerate(seqs)]
    message = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "point", "gauge": {"dataPoints": points}}]}]}]}
    return session.post(lake.otlp_http_url + "/v1/metrics", json=message, timeout=20), {}


class Clients:
    """What is sent to each node, and what was acknowledged; and who asks meanwhile."""

    def __init__(self, nodes, chance):
        self.nodes, self.chance = nodes, chance
        self.logs, self.spans, self.points, self.alice = Sender("logs"), Sender("spans"), Sender("metric_points"), Sender("logs")
        self.stop, self.alice_stops, self.failures, self.asked = threading.Event(), threading.Event(), [], collections.Counter()
        hows = [(self.logs, otlp("crash", "record")), (self.spans, otlp_traces), (self.points, otlp_points), (self.alice, otlp("alice", "alice"))]
        self.threads = [
            threading.Thread(target=self.guarded, args=(self.load, node, sender, earlier(how, random.Random(chance.random())))) for node in nodes for sender, how in hows
        ]
        self.of_alice = [thread for thread, (sender, _) in zip(self.threads, hows * len(nodes)) if sender is self.alice]
        self.threads += [threading.Thread(target=self.guarded, args=(self.ask, node)) for node in nodes]

    def guarded(self, run, *args):
        try:
            run(*args)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failures.append(error)
            self.stop.set()

    def load(self, node, sender, how):
        with requests.Session() as session:
            while not self.stop.is_set() and not (sender is self.alice and self.alice_stops.is_set()):
                try:
                    sender.send(node, how, session=session)
                except (requests.RequestException, TypeError):
                    # it is killed, or not up yet
                    pass
                self.stop.wait(0.1)

    def end_of_alice(self):
        """What comes later than an order is not concerned."""
        self.alice_stops.set()
        for thread in self.of_alice:
            thread.join()

    def ask(self, node):
        """An answer that says it is complete has all rows that were acknowledged before (by this node: those of another come later); none
        is doubled."""
        with requests.Session() as session:
            while not self.stop.wait(0.5):
                known = set(self.logs.acknowledged) if len(self.nodes) == 1 else set()
                try:
                    answer = session.post(node.url + "/api/v1/sql", json={"query": ROWS.format(text="body", table="logs"), "limit": 100_000}, timeout=30)
                except (requests.RequestException, TypeError):
                    continue
                if answer.status_code != 200:
                    self.asked[answer.status_code] += 1
                    continue
                answer = answer.json()
                found = {int(seq): int(n) for seq, n in answer["rows"]}
                assert all(n == 1 for n in found.values()), f"doubled: {[seq for seq, n in found.items() if n > 1][:20]}"
                is_complete = answer["coverage"]["complete"] and not answer["truncated"]
                self.asked["complete" if is_complete else "incomplete"] += 1
                assert not is_complete or known <= found.keys(), f"the answer says it is complete and lacks {sorted(known - found.keys())[:20]}"


def order_delete(node):
    """Given until it is taken. An order whose answer was lost may be there: what it says is done twice."""

    def taken():
        try:
            answer = requests.post(node.url + "/api/v1/delete", json=PERSON, timeout=30)
        except requests.RequestException:
            return False
        assert answer.status_code in (202, 500, 503, 504), (answer.status_code, answer.text)
        return answer.status_code == 202

    node.wait_until(taken, 60, every=0.5, what="a delete is ordered")


def leader_of(nodes):
    """The node that leads, as any of those that run sees it."""
    seen = {one["node"]: one["leads"] for one in nodes[0].status()["nodes"]}
    return next((node for node in nodes if seen.get(node.status()["node"])), None)


def restart(nodes):
    """The leader is killed, another takes the lead if there is one, and it is started again while the bucket fails; as often as it takes."""
    node = nodes[0].wait_until(lambda: leader_of(nodes), 30, what="a leader")
    node.kill()
    others = [other for other in nodes if other is not node]
    if others:
        others[0].wait_until(lambda: leader_of(others), 60, what="another takes the lead")
    for _ in range(6):
        try:
            return node.start(timeout=30, same_ports=True)
        except AssertionError as error:
            failed = error
    raise failed


def leads(store):
    """Who took the lead, one after the other: each from who led, so that no two ever do."""
    leaders = []
    for path in sorted((store / "_catalog" / "log").glob("*.json")):
        record = json.loads(path.read_bytes())
        if "lead" in record:
            assert record["lead"].get("from") == (leaders[-1] if leaders else None), (path.name, record["lead"], leaders)
            leaders.append(record["node"])
    return leaders


def not_yet(proxies):
    """The kinds of faults that have not happened."""
    return [kind for kind in KINDS if not any(proxy.counts[kind] for proxy in proxies)]


@pytest.fixture
def make_s3_proxy(weed):
    made = []

    def make(**kwargs):
        made.append(S3Proxy(weed.url, **kwargs))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.mark.parametrize("n_nodes", [1, 2])
def test_a_bucket_that_fails_in_every_way_loses_and_doubles_nothing(make_s3_proxy, make_lake, weed, tmp_path, n_nodes):
    chance = random.Random(SEED)
    store = weed.store()
    proxies = [make_s3_proxy(seed=chance.random()) for _ in range(n_nodes)]
    nodes = []
    for number, proxy in enumerate(proxies):
        # the first start is another test's; from here on everything fails
        proxy.is_faulty = False
        nodes.append(make_lake(f"node{number}", config={**CONFIG, "store": {**store, "endpoint": proxy.url, "request_timeout_seconds": 2}}))
    clients = Clients(nodes, chance)
    for proxy in proxies:
        proxy.is_faulty = True
    for thread in clients.threads:
        thread.start()
    try:
        clients.stop.wait(SECONDS * 0.4)
        clients.end_of_alice()
        order_delete(nodes[0])
        clients.stop.wait(SECONDS * 0.2)
        restart(nodes)
        clients.stop.wait(SECONDS * 0.4)
        # as long as it takes for every kind of fault
        patience = time.monotonic() + 60
        while (missing := not_yet(proxies)) and time.monotonic() < patience and not clients.stop.is_set():
            clients.stop.wait(0.5)
    finally:
        clients.stop.set()
        for thread in clients.threads:
            thread.join()
    assert not clients.failures, clients.failures
    counts = sum((proxy.counts for proxy in proxies), collections.Counter())
    print(f"{n_nodes} nodes, seed {SEED}: {dict(counts)}; answers {dict(clients.asked)}; {len(clients.logs.acknowledged)} log records acknowledged")
    assert not missing, f"faults that never happened: {missing}: {counts}"
    assert all(len(sender.acknowledged) > 50 for sender in (clients.logs, clients.spans, clients.points, clients.alice))

    # the bucket is well again
    for proxy in proxies:
        proxy.is_faulty = False
    for node in nodes:
        node.wait_flushed(60)
        node.wait_until(lambda node=node: not node.status()["problems"] and node.status()["ready"], 60, what="no problem is left")

    def deleted():
        deletes = nodes[0].get("/api/v1/deletes")["deletes"]
        return deletes and all(delete["state"] == "done" for delete in deletes)

    def one_leads():
        seen = nodes[0].status()["nodes"]
        return len(seen) == n_nodes and sum(node["leads"] for node in seen) == 1 and all(node["is_alive"] for node in seen)

    nodes[0].wait_until(deleted, 60, what="the person's rows are deleted")
    nodes[0].wait_until(one_leads, 30, what="one leads, all live")

    running = time.time_ns() // HOUR * HOUR

    def all_sealed():
        live = {}
        for path in sorted(download(weed, store["url"] + "/_catalog/log", tmp_path / "look").glob("*.json")):
            record = json.loads(path.read_bytes())
            live.update({meta["id"]: meta for meta in record.get("adds", [])})
            for block in record.get("removes", []):
                del live[block]
        waiting = [meta["id"] for meta in live.values() if meta["table"] in ("logs", "spans") and meta["level"] != "sealed" and meta["partition_nanos"] < running]
        assert not waiting, waiting
        return True

    nodes[0].wait_until(all_sealed, 60, every=1.5, what="all past hours sealed")
    for node in nodes:
        sees_all(node, clients)
        node.stop_checked()
    final = download(weed, store["url"], tmp_path / "final")
    in_files(final, clients)
    taken = leads(final)
    assert len(set(taken)) == n_nodes, taken
    for table in ("logs", "spans"):
        in_lake = lake_rows(final, table)
        assert len(in_lake) == len(set(in_lake)), f"{table}: a foreign reader sees rows twice"
    assert not any("panicked" in node.log_path.read_text(errors="replace") for node in nodes)

    # what was put and never named is swept once it is a day old, and nothing else is
    for path in final.rglob("*"):
        os.utime(path, (time.time() - 3 * 86_400,) * 2)
    sweeper = make_lake("sweeper", config={"lake": {"every_seconds": 1}}, store=final)
    unlisted = lambda: verify("--data-dir", sweeper.data_dir, "--store", final)["unlisted_objects"]  # noqa: E731
    sweeper.wait_until(lambda: unlisted() == 0, 30, every=1, what="orphans are swept")
    sees_all(sweeper, clients)
    sweeper.stop_checked()
    report = verify("--data-dir", sweeper.data_dir, "--store", final)
    assert report["damaged"] == [] and report["unlisted_objects"] == 0 and not report["catalog_flaws"], report
    in_files(final, clients)


def sees_all(node, clients):
    """Complete answers with each acknowledged row once, and none of the person's."""
    where = node.folder.name
    for table, sender in (("logs", clients.logs), ("spans", clients.spans)):
        answer = node.post("/api/v1/sql", {"query": ROWS.format(text=TEXT[table], table=table), "limit": 100_000})
        assert answer["coverage"]["complete"] and not answer["truncated"], answer["coverage"]
        sender.check([seq for seq, n in answer["rows"] for _ in range(int(n))], f"{table} by SQL of {where}")
        found = node.hits("record", table=table, limit=10_000, start="-12h")
        sender.check([hit[TEXT[table]].removeprefix("record ") for hit in found], f"{table} by search of {where}")
    points = node.sql("SELECT value_int FROM metric_points WHERE metric_name = 'point'", 100_000)
    clients.points.check([row["value_int"] for row in points], f"points of {where}")
    assert int(node.sql("SELECT count(*) AS n FROM logs WHERE service_name = 'alice'")[0]["n"]) == 0 and node.hits("service:alice", start="-12h") == []


def in_files(store, clients):
    """The same, by the files that the catalog names."""
    for table, sender, text in (("logs", clients.logs, "substr(body, 8)"), ("spans", clients.spans, "substr(name, 8)"), ("metric_points", clients.points, "value_int")):
        files, n_rows = live_files(store, table)
        rows = duckdb.sql(f"SELECT {text} FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()
        assert len(rows) == n_rows, "the catalog's row counts are not the files'"
        # a row of the person would be no number
        sender.check([seq for (seq,) in rows], f"{table} by DuckDB over {pathlib.Path(store).name}")


def test_a_write_that_is_done_after_it_was_given_up_does_not_stay_in_the_lake(make_s3_proxy, make_lake, weed, tmp_path):
    """Of a block of the lake, which is made again under another name: a foreign reader would see its rows twice."""
    late = []

    def plan(method, path):
        is_in_lake = path.endswith(".parquet") and "/_l0/" not in path and "/logs/dt=" in path
        if method == "PUT" and is_in_lake and not late:
            late.append(path)
            return "held"
        return None

    def watch(method, path, body):
        """What was given up is deleted: now it comes."""
        if late and method in ("DELETE", "POST") and late[0].rpartition("/")[2] in path + body.decode(errors="replace"):
            proxy.release.set()

    store = weed.store()
    proxy = make_s3_proxy(plan=plan, watch=watch)
    proxy.is_faulty = False
    lake = make_lake(config={**CONFIG, "store": {**store, "endpoint": proxy.url, "request_timeout_seconds": 2}})
    sender = Sender()
    assert sender.send(lake, lambda lake, session, seqs, now: otlp("crash", "record")(lake, session, seqs, now - 3 * HOUR))
    lake.wait_until(lambda: late and late[0] in proxy.written, 30, what="a block is put when nobody waits for it any more")

    def in_the_lake():
        bucket, prefix = store["url"].removeprefix("s3://").split("/", 1)
        listed = weed.s3().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/logs/").get("Contents", [])
        blocks = lake.status()["store"]["blocks"]["logs"]
        assert [len(listed), blocks["blocks"], blocks["sealed_blocks"]] == [1, 1, 1] and not late[0].endswith(listed[0]["Key"]), (listed, blocks)
        return True

    lake.wait_until(in_the_lake, 30, every=0.5, what="one file in the lake")
    rows = lake_rows(download(weed, store["url"] + "/logs", tmp_path / "look" / "logs").parent, "logs")
    sender.check(rows, "a foreign reader")
