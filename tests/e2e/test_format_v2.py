"""A data directory and a store of format 2, for ever: what the server of 2026-11-23 wrote (tests/fixtures/format_v2/make.py), killed with its last
rows in its log alone. Those of format 1 are read by a unit test (src/ingest/tests/format.rs)."""

import json
import shutil

import duckdb

import lake as lakes
from test_crash import live_files
from test_recovery import verify

FIXTURE = lakes.REPO / "tests/fixtures/format_v2"
TRACE, XRAY = "4bf92f3577b34da6a3ce929d0e0e4736", "1-6a6a6a6a-0123456789abcdef01234567"
GROUP, ALICE = "/fixture/group", "alice@example.com"
# nothing is flushed or merged by itself
CONFIG = {
    "ingest": {"flush_age_seconds": 3600},
    "lake": {"every_seconds": 3600},
    "node": {"lease_seconds": 3},
    "retention": {"log_group_policies": False},
    "assemble": {"enabled": False},
}
QUERIES = {
    "logs": "SELECT body, trace_id, trace_id_source, span_id, severity_number, severity_text, service_name, host_name, aws_log_group, aws_log_stream, scope_name, pattern_id, CAST(time_unix_nano AS TEXT) AS at, attributes FROM logs ORDER BY body, at",
    "spans": "SELECT name, trace_id, span_id, parent_span_id, kind, status_code, in_progress, is_root, CAST(duration_nano AS TEXT) AS took, service_name, http_route, db_system_name, exception_type, xray_document FROM spans ORDER BY span_id",
    "points": "SELECT metric_name, value, value_int, service_name FROM metric_points ORDER BY 1, 2, 3",
    "histograms": "SELECT metric_name, count, sum, min, max, bounds, bucket_counts FROM metric_histograms ORDER BY time_unix_nano",
    "exponential": "SELECT metric_name, count, sum, scale, zero_count, positive_offset, positive_counts FROM metric_exp_histograms ORDER BY time_unix_nano",
    "summaries": "SELECT metric_name, count, sum, quantiles FROM metric_summaries ORDER BY time_unix_nano",
    "exemplars": "SELECT metric_name, value, trace_id, span_id FROM metric_exemplars ORDER BY time_unix_nano",
    "series": "SELECT DISTINCT metric_name, metric_type, unit, temporality FROM metric_series ORDER BY 1",
    "traces": "SELECT trace_id, revision, root_service, root_name, services, has_error, is_partial, span_count, error_count, log_count FROM traces ORDER BY 1, 2",
    "edges": "SELECT client_name, client_type, server_name, server_type, operation, caller_class, callee_class FROM service_edges ORDER BY 1, 3, 4, 5",
    "patterns": "SELECT pattern_id, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1",
}
SEARCHES = ["order", "bob", "alice", '"of bob took"', "trace_id:" + TRACE, "user.email:=bob@example.com", "severity:error", "ERROR", "*lon*"]


def ask_all(lake):
    """All that it answers."""
    told = {name: lake.sql(query) for name, query in QUERIES.items()}
    wide = {"start": "0", "end": "now"}
    told["searches"] = {text: sorted(hit["body"] for hit in lake.hits(text, **wide)) for text in SEARCHES}
    told["trace"] = {key: len(value) for key, value in lake.trace(TRACE).items() if key in ("spans", "logs")}
    logs, xray = lake.boto3(), lake.boto3("xray")
    (group,) = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    told["group"] = [group["retentionInDays"], group["creationTime"], logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"]]
    told["filters"] = [[f["filterName"], f["filterPattern"]] for f in logs.describe_metric_filters(logGroupName=GROUP)["metricFilters"]]
    told["events"] = [[event["message"], event["eventId"]] for event in logs.filter_log_events(logGroupName=GROUP, startTime=0)["events"]]
    told["documents"] = [segment["Document"] for trace in xray.batch_get_traces(TraceIds=[XRAY])["Traces"] for segment in trace["Segments"]]
    status = lake.status()
    told["ledger"] = {f"{entry['receiver']} {entry['signal']}": [entry["accepted"], entry["rejected"]] for entry in status["receivers"]}
    told["gone"] = status["gone"]
    told["deletes"] = [[delete["state"], delete["rows_deleted"]] for delete in lake.get("/api/v1/deletes")["deletes"]]
    return told


def is_sealed(lake):
    """Whether all logs and spans are in blocks of the lake; tables kept by day may wait for its end."""
    tables = lake.status()["store"]["blocks"]
    return all(tables[name]["blocks"] == tables[name]["sealed_blocks"] > 0 for name in ("logs", "spans"))


def agree(told, expected, when):
    wrong = {name: (told.get(name), expected[name]) for name in expected if told.get(name) != expected[name]}
    assert not wrong, f"{when}: (answered now, then) {wrong}"


def test_a_node_of_format_2_goes_on_for_ever(make_lake):
    expected = json.loads((FIXTURE / "expected.json").read_text())
    lake = make_lake(config=CONFIG, start=False)
    # a segment of the fixture was in progress, and completed later
    lake.completes_spans(1)
    shutil.copytree(FIXTURE / "node", lake.data_dir)
    before = verify("--data-dir", lake.data_dir)
    assert (before["damaged"], before["catalog_flaws"], before["unlisted_objects"]) == ([], [], 0) and before["blocks"] >= 8, before
    store = lake.data_dir / "store"
    # a foreign reader, before any server of today has touched it
    (sealed,) = (store / "logs").rglob("*.parquet")
    bodies = duckdb.sql(f"SELECT body, pattern_id FROM read_parquet('{sealed}', hive_partitioning = false) ORDER BY 1").fetchall()
    assert [body for body, _ in bodies if body.startswith("order")] == ["order 17 of bob took 12 ms", "order 19 of bob took 14 ms"] and all(id_ for _, id_ in bodies), bodies
    lake.start()
    status = lake.status()
    assert (status["wal"]["corrupt_frames"], status["replay"]["undecodable_frames"]) == (0, 0) and status["replay"]["rows"] > 0, status["replay"]
    agree(ask_all(lake), expected, "its log and its blocks")
    # what it writes now stands beside what it wrote then
    lake.restart()
    assert lake.status()["replay"]["rows"] == 0
    agree(ask_all(lake), expected, "all in blocks")
    lake.config = {**CONFIG, "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "late_seal_seconds": 0, "removed_grace_seconds": 3}, "query": {"timeout_seconds": 2}}
    lake.restart()
    lake.wait_until(lambda: is_sealed(lake), 40, what="all sealed")
    assert not lake.status()["problems"]
    agree(ask_all(lake), expected, "all in the lake")
    lake.stop_checked()
    files, n_rows = live_files(store)
    assert n_rows == len(expected["logs"]) and all("/_l0/" not in path for path in files)
    after = verify("--data-dir", lake.data_dir)
    assert (after["damaged"], after["catalog_flaws"]) == ([], []), after
