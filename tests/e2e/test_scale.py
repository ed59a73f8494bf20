"""Many more rows than fit into memory, on S3: what questions take warm, against those of a hundredth of the rows, and cold.

Small by default; `SCALE_RECORDS=100000000` makes it the size that the figures in the README are of (tens of gigabytes of disk, an hour).
What is asserted holds at any size: answers are complete and right, and cold ones take few requests of each block. Times are printed."""

import json
import os
import shutil
import statistics
import subprocess
import time

import lake as lakes

RECORDS = int(os.environ.get("SCALE_RECORDS", "200000"))
# the first piece is what the others are compared with
PIECES = [RECORDS // 100] + [RECORDS * 99 // 100 // 24] * 24 if RECORDS >= 10_000_000 else [RECORDS // 4] * 4
HOUR = 3_600
ROUNDS = 20
RARE, COMMON, PHRASE = "heliotrope", "request", '"connection reset by peer"'


def questions(lake, trace):
    """Name, what to ask, what counts of the answer."""
    every = {"start": "-8d", "end": "now"}

    def get(path, **params):
        answer = lake.session.get(lake.url + path, params={**every, **params}, timeout=120)
        assert answer.status_code == 200, answer.text[:500]
        return answer.json()

    def hits(q):
        return lambda: get("/api/v1/search", q=q, limit=100)

    return {
        "an absent word": (hits("nosuchwordatall"), lambda answer: len(answer["hits"])),
        "a rare word, newest 100": (hits(RARE), lambda answer: len(answer["hits"])),
        "a common word, newest 100": (hits(COMMON), lambda answer: len(answer["hits"])),
        "a phrase, newest 100": (hits(PHRASE), lambda answer: len(answer["hits"])),
        "a trace and its logs": (lambda: get(f"/api/v1/traces/{trace}"), lambda answer: (len(answer["spans"]), len(answer["logs"]))),
        "count of the rare word": (lambda: get("/api/v1/count", q=RARE), lambda answer: answer["count"]),
        "count of the common word": (lambda: get("/api/v1/count", q=COMMON), lambda answer: answer["count"]),
        "hour x service": (lambda: get("/api/v1/count", by="service_name", bucket="1h", limit=10_000), lambda answer: len(answer["groups"])),
    }


def send(lake, n_records, seed, hours_ago, traces=False):
    """Records of one hour by the clock, as a day of logs has them: its first and last ten seconds are left free, since the
    generator's clock is read a moment later."""
    ago = int(time.time()) % HOUR + hours_ago * HOUR + 10
    more = ["--signals", "logs,traces"] if traces else []
    command = [lakes.binary(), "generate", "--otlp-http", lake.otlp_http_url, "--records", str(n_records), "--seed", str(seed)]
    done = subprocess.run(command + ["--spread", str(HOUR - 20), "--ago", str(ago)] + more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    lake.has_sent("otlp", ("logs", "traces"), told)
    return told


def wait_sealed(lake, timeout):
    """Until every row is in a block of the lake."""

    def is_sealed():
        status = lake.status()
        tables = status["store"]["blocks"]
        return status["head"]["rows"] == 0 and all(tables[table]["blocks"] == tables[table]["sealed_blocks"] for table in ("logs", "spans"))

    lake.wait_until(is_sealed, timeout=timeout, every=1, what="all rows sealed")


def warm(lake, trace):
    """Median and slowest in milliseconds, and what was found."""
    medians = {}
    for name, (ask, of) in questions(lake, trace).items():
        took = []
        for turn in range(ROUNDS + 3):
            begun = time.perf_counter()
            answer = ask()
            if turn >= 3:
                took.append((time.perf_counter() - begun) * 1e3)
        assert answer["coverage"]["complete"], (name, answer["coverage"])
        medians[name] = (statistics.median(took), max(took), of(answer), answer["coverage"]["blocks_read"])
    return medians


def peak(lake):
    with open(f"/proc/{lake.process.pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def cold(lake, trace):
    """What each question takes when the machine has nothing of the bucket: what was found, GETs, bytes, blocks read."""
    taken = {}
    for name in questions(lake, trace):
        lake.stop()
        shutil.rmtree(lake.data_dir / "cache")
        lake.start()
        ask, of = questions(lake, trace)[name]
        begun = time.perf_counter()
        answer = ask()
        took = time.perf_counter() - begun
        coverage = answer["coverage"]
        assert coverage["complete"] and coverage["problems"] == [], (name, coverage)
        taken[name] = (of(answer), coverage["store_gets"], coverage["store_bytes"], coverage["blocks_read"], took)
    return taken


def test_what_questions_take_as_rows_grow_a_hundredfold(make_lake, weed):
    # an hour is sealed once, when all of its rows have come, as by default
    sealing = {"every_seconds": 2, "seal_after_seconds": 0, "seal_quiet_seconds": 20, "late_seal_seconds": 60}
    lake = make_lake(config={"store": weed.store(), "lake": sealing, "ingest": {"flush_age_seconds": 5}})
    # hours that are over, so that all of it is sealed; traces are few, and in the oldest of them
    hours_ago = len(PIECES) + 1
    n_rows = send(lake, PIECES[0] // 20, 1, hours_ago, traces=True)["acknowledged"]
    n_rows += send(lake, PIECES[0], 2, hours_ago)["acknowledged"]
    wait_sealed(lake, 600)
    trace = lake.search("trace_id:*", start="-8d", end="now", limit=100)["hits"][-1]["trace_id"]
    of_few = warm(lake, trace)
    for seed, n_records in enumerate(PIECES[1:], 3):
        hours_ago -= 1
        begun = time.monotonic()
        n_rows += send(lake, n_records, seed, hours_ago)["acknowledged"]
        print(f"{n_rows} records; the last {n_records} in {time.monotonic() - begun:.0f} s; peak {peak(lake):.0f} MiB", flush=True)
    wait_sealed(lake, 600 + RECORDS // 10_000)
    of_ingest = peak(lake)
    assert int(lake.sql("SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM spans) AS n")[0]["n"]) == n_rows
    lake.restart()
    of_all = warm(lake, trace)
    of_queries = peak(lake)
    taken = cold(lake, trace)
    blocks = lake.status()["store"]["blocks"]["logs"]
    print(f"{n_rows} rows, {blocks}; peak of memory {of_ingest:.0f} MiB while they came, {of_queries:.0f} MiB of the warm questions")
    print("question: warm median of the first piece, of all, ratio, slowest; cold GETs, MB, s; blocks read; found")
    for name, (median, slowest, found, read) in of_all.items():
        before = of_few[name][0]
        n, gets, n_bytes, of_cold, took = taken[name]
        assert n == found, f"{name}: {n} cold, {found} warm"
        print(f"{name}: {before:.1f} ms, {median:.1f} ms, {median / before:.1f}, {slowest:.1f}; {gets}, {n_bytes / 1e6:.1f}, {took:.2f}; {read}, {of_cold}; {found}")
    for name, (n, gets, _, of_cold, _) in taken.items():
        # as in test_cold: of each block, and beside that for a hundred rows, each in a row group of its own
        assert gets <= 5 * of_cold + 300, (name, gets, of_cold)
    # which rows have a word is told by two of each block
    assert taken["count of the rare word"][1] <= 2 * taken["count of the rare word"][3]
    assert of_all["an absent word"][2] == 0 and of_all["a common word, newest 100"][2] == 100
    counted = int(lake.sql(f"SELECT count(*) AS n FROM logs WHERE match(body, '{RARE}')")[0]["n"])
    assert of_all["count of the rare word"][2] == counted
