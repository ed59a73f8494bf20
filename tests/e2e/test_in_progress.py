"""A segment that was flushed in progress, and completed later, is one span."""

import json
import secrets
import time

import requests


def put(lake, trace_id, ids, in_progress):
    start = time.time() - 60
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
