"""An hour of event time at 20,000 records a second, with people and pages asking all the while: memory stays flat, every record is there.

Short by default; with E2E_LONG=1 it takes the whole hour."""

import json
import os
import re
import statistics
import subprocess
import threading
import time

import lake as lakes

LONG = bool(os.environ.get("E2E_LONG"))
RATE = 20_000
RECORDS = 3_600 * RATE if LONG else 40 * RATE
MIB = 1 << 20
QUESTIONS = ["heliotrope", "request", '"connection reset by peer"', "severity:error timeout", "user~1"]


def memory(process):
    """What a process has in memory: all of it, at its peak, and of its own. The rest is mapped files, which the system takes back. Bytes."""
    with open(f"/proc/{process.pid}/status") as status:
        status = status.read()
    return tuple(int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon"))


def ask(lake, stop, asked, failures):
    """Asks one thing after the other, as a page that refreshes does."""
    session = lakes.requests.Session()

    def get(path, **params):
        answer = session.get(lake.url + path, params=params, timeout=60)
        assert answer.status_code == 200, answer.text[:500]
        answer = answer.json()
        assert answer["coverage"]["complete"], answer["coverage"]
        return answer

    try:
        while not stop.is_set():
            for question in QUESTIONS:
                begun = time.monotonic()
                hits = get("/api/v1/search", q=question, start="-2h", limit=100)["hits"]
                asked.append(time.monotonic() - begun)
                for hit in hits[:1]:
                    if hit.get("trace_id"):
                        get(f"/api/v1/traces/{hit['trace_id']}")
            get("/api/v1/count", q="*", by="service_name", bucket="5m", start="-2h")
            stop.wait(0.2)
    except BaseException as error:  # noqa: BLE001 - told by the main thread
        failures.append(error)


def test_memory_stays_flat_for_an_hour_of_events(make_lake):
    # an hour that ends meanwhile is sealed meanwhile
    lake = make_lake(config={"lake": {"every_seconds": 5, "seal_after_seconds": 120, "seal_quiet_seconds": 20}})
    of_records = ["--records", str(RECORDS), "--rate", str(RATE), "--live"]
    generate = [lakes.binary(), "generate", "--otlp-http", lake.otlp_http_url, *of_records, "--connections", "2"]
    stop, asked, failures = threading.Event(), [], []
    asker = threading.Thread(target=ask, args=(lake, stop, asked, failures))
    asker.start()
    load = subprocess.Popen(generate, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    used, own, peak = [], [], 0
    try:
        while load.poll() is None and not failures:
            now, peak, own_now = memory(lake.process)
            used.append(now)
            own.append(own_now)
            time.sleep(0.5)
    finally:
        stop.set()
        asker.join()
        load.kill()
    assert not failures, failures
    out, errors = load.communicate()
    assert load.returncode == 0, errors[-2000:]
    sent = json.loads(out or errors)
    lake.has_sent("otlp", ("logs",), sent)
    assert int(lake.sql("SELECT count(*) AS n FROM logs")[0]["n"]) == RECORDS
    books = lake.status()["receivers"]
    assert sum(entry["accepted"] for entry in books if entry["signal"] == "logs") == RECORDS, books
    assert len(asked) > 10

    third = len(used) // 3
    before, after, own_before, own_after = (
        statistics.quantiles(series[a * third : b * third], n=20)[-1] for series in (used, own) for a, b in ((1, 2), (2, 3))
    )
    print(
        f"{RECORDS} records at {sent['acknowledged_per_second']:.0f}/s; 95th percentile of memory in the second third {before / MIB:.0f} MiB, "
        f"in the last {after / MIB:.0f} MiB, peak {peak / MIB:.0f} MiB; of its own {own_before / MIB:.0f}, {own_after / MIB:.0f}, peak {max(own) / MIB:.0f} MiB; "
        f"{len(asked)} searches, median {statistics.median(asked) * 1e3:.0f} ms"
    )
    # what is cached, and the catalog, may grow a little; what leaks grows with the records
    assert own_after < own_before * 1.2 + 48 * MIB, (own_before, own_after)
    assert after < before * 1.2 + 48 * MIB, (before, after)
    assert peak < 1_024 * MIB, peak
