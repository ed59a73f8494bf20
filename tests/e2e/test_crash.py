"""What was acknowledged is there after any end of the process, once; and while the store is away."""

import collections
import concurrent.futures
import json
import os
import random
import secrets
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


GROUP, STREAM = "/crash", "s"


def otlp_logs(lake, session, seqs, now):
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
    return session.post(lake.url + "/v1/logs", json=body, timeout=20), {}


def put_log_events(lake, session, seqs, now):
    events = [{"timestamp": now // 1_000_000 + i, "message": f"record {seq}"} for i, seq in enumerate(seqs)]
    headers = {"x-amz-target": "Logs_20140328.PutLogEvents", "content-type": "application/x-amz-json-1.1"}
    body = {"logGroupName": GROUP, "logStreamName": STREAM, "logEvents": events}
    # a token of the next call, and no word of events left out
    return session.post(lake.url + "/", data=json.dumps(body), headers=headers, timeout=20), {"nextSequenceToken"}


def otlp_traces(lake, session, seqs, now):
    trace_id = secrets.token_hex(16)
    spans = [
        {
            "traceId": trace_id,
            "spanId": f"{seq + 1:016x}",
            "name": f"record {seq}",
            "kind": 2,
            "startTimeUnixNano": str(now + i),
            "endTimeUnixNano": str(now + i + 1000),
        }
        for i, seq in enumerate(seqs)
    ]
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    return session.post(lake.otlp_http_url + "/v1/traces", json=body, timeout=20), {}


def xray_segments(lake, session, seqs, now):
    trace_id = f"1-{now // 1_000_000_000:08x}-{secrets.token_hex(12)}"
    documents = [
        json.dumps({"trace_id": trace_id, "id": f"{seq + 1:016x}", "name": f"record {seq}", "start_time": now / 1e9, "end_time": now / 1e9 + 0.001})
        for seq in seqs
    ]
    answer = session.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": documents}, timeout=20)
    return answer, {"UnprocessedTraceSegments": []}


class Sender:
    """Sends records of one table, each with its own number, and keeps what was acknowledged."""

    def __init__(self, table="logs"):
        self.table = table
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged = set()
        self.n_acknowledged = collections.Counter()

    def send(self, lake, how=otlp_logs, n=RECORDS, session=requests):
        """One request; true if it was acknowledged."""
        with self.lock:
            seqs = range(self.next, self.next + n)
            self.next += n
        response, expected = how(lake, session, seqs, time.time_ns())
        if response.status_code != 200:
            assert response.status_code in (429, 503), response.text
            return False
        answer = response.json()
        assert answer == expected or answer.keys() == expected, f"a partial success: {answer}"
        with self.lock:
            self.acknowledged.update(seqs)
            self.n_acknowledged[how.__name__] += n
        return True

    def load(self, lake, how, stop):
        """Sends until `stop` or until the server is gone."""
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    self.send(lake, how, session=session)
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


TEXT = {"logs": "body", "spans": "name"}  # the column that says "record 17"


def seqs_by_sql(lake, table="logs"):
    query = f"SELECT substr({TEXT[table]}, 8) AS seq, count(*) AS n FROM {table} GROUP BY 1"
    answer = lake.post("/api/v1/sql", {"query": query, "limit": 100_000})
    assert answer["coverage"]["complete"] and not answer["truncated"], answer["coverage"]
    return [seq for seq, n in answer["rows"] for _ in range(int(n))]


def seqs_by_search(lake, table="logs"):
    return [hit[TEXT[table]].removeprefix("record ") for hit in lake.hits("record", table=table, limit=10_000)]


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


def seqs_by_duckdb(store, table="logs"):
    files, n_rows = live_files(store, table)
    rows = duckdb.sql(f"SELECT substr({TEXT[table]}, 8) FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()
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
        # it may be dead
        lake.close()
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
    logs = lake.boto3()
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    log_sender, span_sender = senders = [Sender("logs"), Sender("spans")]
    load = [(log_sender, otlp_logs), (log_sender, put_log_events), (span_sender, otlp_traces), (span_sender, xray_segments)]
    n_acknowledged = lambda: sum(len(sender.acknowledged) for sender in senders)  # noqa: E731

    def check(read, where):
        for sender in senders:
            sender.check(read(sender.table), f"{sender.table} by {where}")

    silent_rounds = 0
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        for round_ in range(1, KILLS + 1):
            before = n_acknowledged()
            stop = threading.Event()
            running = [clients.submit(sender.load, lake, how, stop) for sender, how in load for _ in range(CLIENTS // len(load))]
            time.sleep(chance.uniform(0.05, 0.4))
            # a disk that is busy with other things may need longer for the first sync
            patience = time.monotonic() + 5
            while n_acknowledged() == before and time.monotonic() < patience:
                time.sleep(0.01)
            lake.kill()
            stop.set()
            for client in running:
                client.result(timeout=30)
            silent_rounds += n_acknowledged() == before
            if round_ % 5 == 0:
                kill_while_it_starts(lake, chance.uniform(0.005, 0.2))
            lake.start()
            status = lake.status()
            assert status["wal"]["corrupt_frames"] == 0 and status["replay"]["undecodable_frames"] == 0, status
            if round_ % 10 == 0:
                check(lambda table: seqs_by_sql(lake, table), f"SQL after kill {round_}")
    assert silent_rounds < KILLS / 5, f"{silent_rounds} rounds acknowledged nothing: the load is too thin to show anything"
    for sender, how in load:
        assert sender.n_acknowledged[how.__name__] > KILLS, f"the load is too thin: {sender.n_acknowledged}"
    assert lake.status()["store"]["catalog_seq"] > KILLS / 10, "kills met too few flushes"
    check(lambda table: seqs_by_sql(lake, table), "SQL")
    check(lambda table: seqs_by_search(lake, table), "search")
    lake.stop()
    check(lambda table: seqs_by_duckdb(lake.data_dir / "store", table), "Parquet")
    lake.start()
    assert lake.status()["replay"]["rows"] == 0, "an orderly stop leaves nothing to replay"
    check(lambda table: seqs_by_search(lake, table), "search after an orderly stop")


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
