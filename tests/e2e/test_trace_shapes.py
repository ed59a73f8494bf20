"""Traces of odd shapes and of a great many spans, by every face that shows a trace: nothing breaks, nothing is counted twice, what is cut says so."""

import json
import time

import pytest
import requests
from botocore.config import Config
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LEVELS = 500


def export(lake, trace, spans):
    """Spans (id, parent id or None, name, kind, start, seconds) of one service, as OTLP protobuf."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    for number, parent, name, kind, start, seconds in spans:
        span = scope.spans.add(trace_id=bytes.fromhex(trace), span_id=number.to_bytes(8, "big"), name=name, kind=kind)
        if parent is not None:
            span.parent_span_id = parent.to_bytes(8, "big")
        span.start_time_unix_nano = int(start * 1e9)
        span.end_time_unix_nano = int((start + seconds) * 1e9)
    body = request.SerializeToString()
    answer = requests.post(f"{lake.otlp_http_url}/v1/traces", data=body, headers={"content-type": "application/x-protobuf"}, timeout=600)
    assert answer.status_code == 200, answer.text


def xray(trace):
    return f"1-{trace[:8]}-{trace[8:]}"


def nested(document):
    """A document's ID, parent and level, and those of all below it."""
    waiting = [(document, None, 0)]
    while waiting:
        one, parent, level = waiting.pop()
        yield one, parent or one.get("parent_id"), level
        waiting += [(below, one["id"], level + 1) for below in one.get("subsegments", [])]


def by_xray(client, trace):
    (told,) = client.batch_get_traces(TraceIds=[xray(trace)])["Traces"]
    documents = [json.loads(segment["Document"]) for segment in told["Segments"]]
    assert [segment["Id"] for segment in told["Segments"]] == [document["id"] for document in documents]
    return told, [one for document in documents for one in nested(document)]


def by_jaeger(lake, trace):
    answer = requests.get(f"{lake.url}/jaeger/api/traces/{trace}", timeout=600)
    assert answer.status_code == 200, answer.text
    (told,) = answer.json()["data"]
    assert told["traceID"] == trace
    return told["spans"]


def is_a_tree(columns):
    """Whether parents stand before their children, one level above."""
    spans = columns["spans"]
    for place, (parent, depth) in enumerate(zip(spans["parent"], spans["depth"])):
        assert parent < place, (place, parent)
        assert depth == (spans["depth"][parent] + 1 if parent >= 0 else 0), place


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_circles_duplicates_missing_parents_and_many_levels_break_nothing(make_lake, settings):
    lake = make_lake(config=settings)
    start = time.time() - 60
    stem = f"{int(start):08x}"
    deep, odd = f"{stem}{'d' * 24}", f"{stem}{'0' * 23}1"
    export(lake, deep, [(n, n - 1 or None, f"level {n}", 2 if n == 1 else 1, start + n / 1000, 2 - n / 1000) for n in range(1, LEVELS + 1)])
    spans = [
        (1, None, "root", 2, start, 9),
        (2, 1, "child", 1, start + 1, 1),
        (3, 99, "of a parent that is not here", 1, start + 2, 1),
        (4, 99, "of the same", 1, start + 3, 1),
        # a circle of three, one beside itself, and one that hangs on the circle
        (11, 13, "circle a", 1, start + 4, 1),
        (12, 11, "circle b", 1, start + 5, 1),
        (13, 12, "circle c", 1, start + 6, 1),
        (14, 14, "its own parent", 1, start + 7, 1),
        (15, 12, "on the circle", 1, start + 8, 1),
    ]
    export(lake, odd, spans)
    if settings:
        lake.wait_flushed()
    # the same again, and some of it a third time: into the head, and into another block
    export(lake, odd, spans)
    export(lake, odd, spans[:4])
    if settings:
        lake.wait_flushed()
    client = lake.boto3("xray")

    columns = lake.get(f"/api/v1/traces/{deep}", format="columns")
    assert (columns["n_spans"], max(columns["spans"]["depth"]), columns["coverage"]["complete"]) == (LEVELS, LEVELS - 1, True)
    is_a_tree(columns)
    whole = lake.get(f"/api/v1/traces/{deep}")
    assert [span["name"] for span in whole["spans"]] == [f"level {n}" for n in range(1, LEVELS + 1)]
    told, nodes = by_xray(client, deep)
    assert not told["LimitExceeded"]
    assert {one["id"]: parent for one, parent, _ in nodes} == {f"{n:016x}": f"{n - 1:016x}" if n > 1 else None for n in range(1, LEVELS + 1)}
    assert len(nodes) == LEVELS and max(level for _, _, level in nodes) < 50, "levels of one document are bounded"
    jaeger = by_jaeger(lake, deep)
    assert {span["spanID"]: [ref["spanID"] for ref in span["references"]] for span in jaeger} == {
        f"{n:016x}": [f"{n - 1:016x}"] if n > 1 else [] for n in range(1, LEVELS + 1)
    }

    ids = sorted(f"{span[0]:016x}" for span in spans)
    columns = lake.get(f"/api/v1/traces/{odd}", format="columns")
    assert sorted(columns["spans"]["span_id"]) == ids, "each span once"
    is_a_tree(columns)
    by_id = dict(zip(columns["spans"]["span_id"], zip(columns["spans"]["parent"], columns["spans"]["missing_parent"], columns["spans"]["in_circle"])))
    assert {span for span, (_, is_missing, _) in by_id.items() if is_missing} == {f"{n:016x}" for n in (3, 4)}
    assert {span for span, (_, _, in_circle) in by_id.items() if in_circle} == {f"{n:016x}" for n in (11, 12, 13, 14)}
    # a circle begins with its earliest span
    assert {span for span, (parent, _, _) in by_id.items() if parent < 0} == {f"{n:016x}" for n in (1, 3, 4, 11, 14)}
    assert columns["spans"]["span_id"][by_id[f"{15:016x}"][0]] == f"{12:016x}"
    _, nodes = by_xray(client, odd)
    assert sorted(one["id"] for one, _, _ in nodes) == ids
    assert {one["id"]: parent for one, parent, _ in nodes}[f"{15:016x}"] == f"{12:016x}"
    assert sorted(span["spanID"] for span in by_jaeger(lake, odd)) == ids

    # every face counts its requests once, whatever hangs on what
    for trace, n_entries in [(deep, 1), (odd, 5)]:
        services = client.get_trace_graph(TraceIds=[xray(trace)])["Services"]
        (shop,) = [service for service in services if "SummaryStatistics" in service]
        assert (shop["Name"], shop["SummaryStatistics"]["TotalCount"]) == ("shop", n_entries), trace
    listed = lake.get("/api/v1/traces", start="-1h")["traces"]
    assert {trace["trace_id"]: (trace["span_count"], trace["missing_parents"]) for trace in listed} == {deep: (LEVELS, 0), odd: (9, 2)}
    for trace in (deep, odd):
        analysis = lake.get(f"/api/v1/traces/{trace}/analysis")
        assert analysis["coverage"]["complete"], analysis["coverage"]


N_WIDE = 100_000


def test_a_trace_of_100_000_spans_is_shown_whole_or_says_what_was_cut(make_lake):
    # however slow this machine is
    patient = {"timeout_seconds": 600}
    lake = make_lake(config={"query": patient})
    start = time.time() - 60
    trace = f"{int(start):08x}{'a' * 24}"
    # a root, a hundred steps below it, and the rest below those
    spans = [(1, None, "GET /all", 2, start, 30)] + [(1 + n, 1, f"step {n}", 1, start + n / 100, 20) for n in range(1, 101)]
    spans += [(n, 2 + n % 100, "item", 1, start + 2 + n / 10_000, 0.01) for n in range(102, N_WIDE + 1)]
    for at in range(0, N_WIDE, 10_000):
        export(lake, trace, spans[at : at + 10_000])

    answer = requests.get(f"{lake.url}/api/v1/traces/{trace}", params={"format": "columns"}, timeout=600)
    assert answer.status_code == 200, answer.text[:1000]
    columns = answer.json()
    assert columns["coverage"]["complete"], columns["coverage"]["problems"]
    assert columns["n_spans"] == N_WIDE == len(set(columns["spans"]["span_id"])) == len(columns["spans"]["name"])
    is_a_tree(columns)
    assert (columns["spans"]["span_id"][0], columns["spans"]["depth"][0]) == (f"{1:016x}", 0)
    depths = columns["spans"]["depth"]
    assert [depths.count(depth) for depth in (0, 1, 2)] == [1, 100, N_WIDE - 101]
    # as many bytes as its spans need, and no more than an answer may have
    assert len(answer.content) < min(64 << 20, N_WIDE * 200)

    told, nodes = by_xray(lake.boto3("xray", config=Config(read_timeout=600)), trace)
    assert not told["LimitExceeded"] and len(nodes) == N_WIDE == len({one["id"] for one, _, _ in nodes})
    roots = [one for one, parent, _ in nodes if parent is None]
    assert [(one["id"], one["name"]) for one in roots] == [(f"{1:016x}", "shop")]
    parents = {one["id"]: parent for one, parent, _ in nodes}
    assert all(parents[f"{number:016x}"] == f"{parent:016x}" for number, parent, *_ in spans[1:])

    # with less room the trunk stays, and the answer says what it lacks
    lake.stop()
    lake.config = {"query": {**patient, "max_answer_bytes": 8 << 20}}
    lake.start()
    answer = requests.get(f"{lake.url}/api/v1/traces/{trace}", params={"format": "columns"}, timeout=600)
    columns = answer.json()
    assert not columns["coverage"]["complete"] and "max_answer_bytes" in json.dumps(columns["coverage"]["problems"])
    assert 1_000 < columns["n_spans"] < N_WIDE and len(answer.content) < 16 << 20
    assert columns["spans"]["span_id"][0] == f"{1:016x}" and columns["spans"]["parent"][0] == -1
    is_a_tree(columns)
    told, nodes = by_xray(lake.boto3("xray", config=Config(read_timeout=600)), trace)
    assert told["LimitExceeded"] and len(nodes) == columns["n_spans"] and nodes[0][0]["id"] == f"{1:016x}"
