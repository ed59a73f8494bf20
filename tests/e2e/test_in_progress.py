"""A segment that was flushed in progress, and completed later, is one span."""

import json
import secrets
import time

import duckdb
import requests


def put(lake, trace_id, ids, in_progress, ago=60):
    start = time.time() - ago
    end = {"in_progress": True} if in_progress else {"end_time": start + 1}
    documents = [json.dumps({"trace_id": trace_id, "id": f"{n:016x}", "name": "slow", "start_time": int(start // 60 * 60), **end}) for n in ids]
    answer = requests.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": documents}, timeout=20)
    assert answer.json() == {"UnprocessedTraceSegments": []}, answer.text


def spans(lake):
    """(all, in progress) as each way of asking says; all agree."""
    range_ = {"table": "spans", "start": "-1h"}
    hits = lake.hits("slow", **range_)
    (row,) = lake.sql("SELECT count(*) AS n, count(*) FILTER (WHERE in_progress) AS p FROM spans WHERE name = 'slow'")
    found = {
        "search": (len(hits), sum(hit["in_progress"] for hit in hits)),
        "sql": (int(row["n"]), int(row["p"])),
    }
    for path, key in (("count", "count"), ("histogram", "total")):
        found[path] = (lake.get(f"/api/v1/{path}", q="slow", **range_)[key], found["sql"][1])
    by_service = lake.get("/api/v1/count", by="service_name", **range_)["groups"]
    found["by service"] = (sum(group["count"] for group in by_service), found["sql"][1])
    assert len(set(found.values())) == 1, found
    return found["sql"]


def test_a_segment_completed_after_its_flush_is_counted_once(make_lake):
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1}})
    lake.completes_spans(4)
    trace_id = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    put(lake, trace_id, range(1, 5), in_progress=True)
    lake.wait_flushed()
    assert spans(lake) == (4, 4)
    put(lake, trace_id, (1, 2), in_progress=False)
    lake.wait_flushed()
    assert spans(lake) == (4, 2)
    lake.restart(kill=True)
    assert spans(lake) == (4, 2)
    put(lake, trace_id, (3, 4), in_progress=False)
    lake.wait_flushed()
    assert spans(lake) == (4, 0)
    assert len(lake.trace(trace_id)["spans"]) == 4


def test_foreign_readers_count_a_segment_once_that_is_completed_after_its_hour_was_sealed(make_lake):
    """Its row in progress stands in the lake until its completed row does."""
    lake = make_lake(
        config={
            "ingest": {"flush_age_seconds": 1},
            "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "late_seal_seconds": 4, "removed_grace_seconds": 5},
            "query": {"timeout_seconds": 4},
        }
    )
    lake.completes_spans(3)

    def in_the_lake():
        """(all, in progress) as DuckDB counts them."""
        files = f"{lake.data_dir}/store/spans/**/*.parquet"
        try:
            with duckdb.connect() as db:
                return db.sql(f"SELECT count(*), count(*) FILTER (WHERE in_progress) FROM read_parquet('{files}')").fetchall()[0]
        except duckdb.IOException:
            return None

    trace_id = f"1-{int(time.time() - 8000):08x}-{secrets.token_hex(12)}"
    put(lake, trace_id, range(1, 5), in_progress=True, ago=8000)
    lake.wait_until(lambda: in_the_lake() == (4, 4), what="sealed in progress")
    put(lake, trace_id, range(1, 4), in_progress=False, ago=8000)
    lake.wait_until(lambda: in_the_lake() == (4, 1), 40, what="each once in the lake")
    assert not lake.status()["problems"]
    for _ in range(2):
        row = lake.sql("SELECT count(*) AS n, count(*) FILTER (WHERE in_progress) AS p FROM spans WHERE name = 'slow'")[0]
        assert (int(row["n"]), int(row["p"])) == (4, 1)
        lake.restart(kill=True)
