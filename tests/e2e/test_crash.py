"""What was acknowledged is there after any end of the process, once; and while the store is away."""

import concurrent.futures
import json
import os
import random
import shutil
import signal
import struct
import threading
import time

import duckdb
import requests

SEED = int(os.environ.get("E2E_SEED", "20261122"))
KILLS = 50
CLIENTS = 8
RECORDS = 5
OUTAGE_SECONDS = 60


class Sender:
    """Sends log records, each with its own `seq`, and keeps what was acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged = set()

    def send(self, lake, n=RECORDS, session=requests):
        """One request; true if it was acknowledged."""
        with self.lock:
            seqs = range(self.next, self.next + n)
            self.next += n
        now = time.time_ns()
        records = [
            {
                "timeUnixNano": str(now + i),
                "severityNumber": 9,
                "body": {"stringValue": f"record {seq}"},
                "attributes": [{"key": "seq", "value": {"stringValue": str(seq)}}],
            }
            for i, seq in enumerate(seqs)
        ]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "crash"}}]}
        body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
        response = session.post(lake.url + "/v1/logs", json=body, timeout=20)
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            return False
        assert response.json() == {}, "a partial success"
        with self.lock:
            self.acknowledged.update(seqs)
        return True

    def load(self, lake, stop):
        """Sends until `stop` or until the server is gone."""
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    self.send(lake, session=session)
                except requests.RequestException:
                    return

    def check(self, found, where):
        """`found` is a list of seqs: each acknowledged one is in it, none twice, none that was never sent."""
        found = [int(seq) for seq in found]
        once = set(found)
        doubled = sorted(seq for seq in once if found.count(seq) > 1)[:20] if len(found) != len(once) else []
        missing = sorted(self.acknowledged - once)
        assert not missing, f"{where}: {len(missing)} of {len(self.acknowledged)} acknowledged records are missing: {missing[:20]}"
        assert not doubled, f"{where}: {len(found) - len(once)} rows too many: {doubled}"
        assert once <= set(range(self.next)), f"{where}: rows that nobody sent"


def seqs_by_sql(lake):
    answer = lake.post("/api/v1/sql", {"query": "SELECT attributes['seq'] AS seq, count(*) AS n FROM logs GROUP BY 1", "limit": 100_000})
    assert answer["coverage"]["complete"] and not answer["truncated"], answer["coverage"]
    return [seq for seq, n in answer["rows"] for _ in range(int(n))]


def seqs_by_search(lake):
    return [hit["attributes"]["seq"] for hit in lake.hits("service:crash", limit=10_000)]


def live_files(store, table="logs"):
    """The Parquet files that the catalog names, by replaying its records."""
    records = sorted((store / "_catalog" / "log").glob("*.json"))
    assert records and int(records[0].stem) == 1, "the catalog's log does not go back to its start"
    live = {}
    for path in records:
        record = json.loads(path.read_bytes())
        live.update({meta["id"]: meta for meta in record.get("adds", [])})
        for block in record.get("removes", []):
            del live[block]
    blocks = [meta for meta in live.values() if meta["table"] == table]
    files = []
    for meta in blocks:
        found = [path for top in (f"_l0/{table}", table) for path in (store / top).rglob(meta["id"] + ".parquet")]
        assert len(found) == 1, f"block {meta['id']} is live and has the files {found}"
        files.append(str(found[0]))
    return files, sum(meta["n_rows"] for meta in blocks)


def seqs_by_duckdb(store):
    files, n_rows = live_files(store)
    rows = duckdb.sql(f"SELECT attributes['seq'] FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()
    assert len(rows) == n_rows, "the catalog's row counts are not the files'"
    return [seq for (seq,) in rows]


def kill_while_it_starts(lake, after_seconds):
    """A start that is killed in the middle: of replay, of a flush that replay makes, or of nothing."""

    def kill():
        if lake.process is not None:
            lake.process.kill()

    timer = threading.Timer(after_seconds, kill)
    timer.start()
    try:
        lake.start()
        timer.join()
        lake.kill()
    except AssertionError as error:
        assert "ended with -9" in str(error), error
    finally:
        timer.cancel()


def test_fifty_kills_under_load_lose_and_double_nothing(make_lake):
    # flushes and merges all the time, so that kills hit them too
    lake = make_lake(
        config={
            "ingest": {"flush_age_seconds": 1, "flush_rows": 40},
            "lake": {"every_seconds": 1},
            "wal": {"segment_bytes": 1 << 20},
        }
    )
    chance = random.Random(SEED)
    sender = Sender()
    silent_rounds = 0
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        for round_ in range(1, KILLS + 1):
            before = len(sender.acknowledged)
            stop = threading.Event()
            running = [clients.submit(sender.load, lake, stop) for _ in range(CLIENTS)]
            time.sleep(chance.uniform(0.05, 0.4))
            # a disk that is busy with other things may need longer for the first sync
            patience = time.monotonic() + 5
            while len(sender.acknowledged) == before and time.monotonic() < patience:
                time.sleep(0.01)
            lake.kill()
            stop.set()
            for client in running:
                client.result(timeout=30)
            silent_rounds += len(sender.acknowledged) == before
            if round_ % 5 == 0:
                kill_while_it_starts(lake, chance.uniform(0.005, 0.2))
            lake.start()
            status = lake.status()
            assert status["wal"]["corrupt_frames"] == 0 and status["replay"]["undecodable_frames"] == 0, status
            if round_ % 10 == 0:
                sender.check(seqs_by_sql(lake), f"SQL after kill {round_}")
    assert silent_rounds < KILLS / 5, f"{silent_rounds} rounds acknowledged nothing: the load is too thin to show anything"
    assert lake.status()["store"]["catalog_seq"] > KILLS / 10, "kills met too few flushes"
    sender.check(seqs_by_sql(lake), "SQL")
    sender.check(seqs_by_search(lake), "search")
    lake.stop()
    sender.check(seqs_by_duckdb(lake.data_dir / "store"), "Parquet")
    lake.start()
    assert lake.status()["replay"]["rows"] == 0, "an orderly stop leaves nothing to replay"
    sender.check(seqs_by_search(lake), "search after an orderly stop")


def frames_end(path):
    """Where the frames of a log segment end, the next LSN, and the last frame's bytes (see src/wal/segment.rs)."""
    data = path.read_bytes()
    assert data[:8] == b"TLAKEWAL"
    (lsn,) = struct.unpack_from("<Q", data, 16)
    at, last = 64, b""
    while at + 32 <= len(data):
        n_bytes, _, found = struct.unpack_from("<IIQ", data, at)
        if found != lsn:
            break
        last = data[at : at + 32 + n_bytes]
        at += -(-len(last) // 8) * 8
        lsn += 1
    return at, lsn, last


def next_frame(lsn, last):
    """The bytes of a frame that would follow; only its checksum is not right."""
    return last[:8] + struct.pack("<Q", lsn) + last[16:]


TORN = {
    "half a frame": lambda lsn, last: next_frame(lsn, last)[: 32 + (len(last) - 32) // 2],
    "a frame's header": lambda lsn, last: next_frame(lsn, last)[:32],
    "a frame with a wrong checksum": next_frame,
    "garbage": lambda lsn, last: random.Random(SEED).randbytes(1000),
}


def test_a_torn_last_frame_is_cut_and_counted(make_lake):
    lake = make_lake()
    sender = Sender()
    for name, torn in TORN.items():
        for _ in range(5):
            assert sender.send(lake)
        lake.kill()
        newest = max((lake.data_dir / "wal").glob("*.wal"))
        end, lsn, last = frames_end(newest)
        assert last, "the newest segment has no frame"
        with open(newest, "r+b") as file:
            file.seek(end)
            file.write(torn(lsn, last))
        lake.start()
        status = lake.status()
        assert status["replay"]["torn_frames_cut"] == 1, (name, status["replay"])
        assert status["wal"]["torn_frames_cut"] == 1, (name, status["wal"])
        assert status["replay"]["rows"] == len(sender.acknowledged), (name, status["replay"])
        sender.check(seqs_by_search(lake), name)
        assert "wal_torn_frames_total 1" in requests.get(lake.url + "/metrics", timeout=10).text
    # a segment that ends with the file, in the middle of its last frame: nobody was told that this one is safe
    lake.kill()
    newest = max((lake.data_dir / "wal").glob("*.wal"))
    end, lsn, last = frames_end(newest)
    with open(newest, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(next_frame(lsn, last)[:-7])
    lake.start()
    assert lake.status()["replay"]["torn_frames_cut"] == 1
    sender.check(seqs_by_search(lake), "a short file")
    lake.restart(kill=True)
    assert lake.status()["replay"]["torn_frames_cut"] == 0, "what was cut is counted once"
    assert sender.send(lake)
    lake.stop()
    sender.check(seqs_by_duckdb(lake.data_dir / "store"), "Parquet")


def test_the_store_away_for_a_while(make_lake, weed):
    lake = make_lake(
        config={
            "store": {**weed.store(), "request_timeout_seconds": 2},
            "ingest": {"flush_age_seconds": 1},
            "query": {"timeout_seconds": 10},
        }
    )
    sender = Sender()
    for _ in range(20):
        assert sender.send(lake)
    lake.wait_flushed()
    stored = set(sender.acknowledged)
    # a server that has none of its blocks on its own disk
    lake.stop()
    shutil.rmtree(lake.data_dir / "cache")
    lake.start()
    lake.wait_until(lambda: lake.status()["ready"])

    # first the store hangs, then it is dead
    group = os.getpgid(weed.server.process.pid)
    os.killpg(group, signal.SIGSTOP)
    began = time.monotonic()
    is_dead = False
    slowest = 0.0
    try:
        looked = False
        while time.monotonic() - began < OUTAGE_SECONDS:
            if not is_dead and time.monotonic() - began > OUTAGE_SECONDS / 2:
                os.killpg(group, signal.SIGKILL)
                weed.server.kill()
                is_dead, looked = True, False
            sent = time.monotonic()
            assert sender.send(lake), "refused while the store is away"
            slowest = max(slowest, time.monotonic() - sent)
            if not looked and time.monotonic() - began > (OUTAGE_SECONDS * 0.75 if is_dead else 4):
                looked = True
                problems = lake.wait_until(lambda: lake.status()["problems"], what="the status names the problem")
                assert any("store" in problem for problem in problems), problems
                assert not lake.status()["ready"]
                assert requests.get(lake.url + "/readyz", timeout=10).status_code == 503
                assert requests.get(lake.url + "/healthz", timeout=10).status_code == 200
                answer = lake.search("service:crash", limit=10_000)
                found = {int(hit["attributes"]["seq"]) for hit in answer["hits"]}
                assert sender.acknowledged - stored <= found, "rows in memory are not found"
                coverage = answer["coverage"]
                assert not coverage["complete"], coverage
                assert {problem["kind"] for problem in coverage["problems"]} & {"unreachable", "timeout"}, coverage
                assert all(problem["what"] and problem["message"] for problem in coverage["problems"]), coverage
            time.sleep(0.05)
    finally:
        if not is_dead:
            os.killpg(group, signal.SIGCONT)
        else:
            weed.server.start()
            weed.server.wait_ready(weed._ready)
    assert slowest < 5, f"an acknowledgement took {slowest:.1f} s"
    assert lake.status()["head"]["rows"] > 0

    lake.wait_flushed(timeout=60)
    lake.wait_until(lambda: lake.status()["problems"] == [], what="no problem is left")
    sender.check(seqs_by_sql(lake), "SQL after the outage")
    lake.restart()
    sender.check(seqs_by_search(lake), "search after the outage")
