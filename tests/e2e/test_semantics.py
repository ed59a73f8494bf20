"""The table of queries over the corpus in tests/fixtures/query, sent by a client and asked over HTTP, three ways.

The same table is run inside the program by src/query/tests/semantics.rs, on rows that no receiver has touched.
"""

import json
import pathlib
import time

import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from test_lake import any_value, attributes

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "query"
T0 = 1_795_323_600  # 2026-11-22T05:00:00Z, as in src/query/tests/mod.rs
SECOND = 1_000_000_000
TRACE = bytes([5] * 16)
PROTOBUF = {"Content-Type": "application/x-protobuf"}
UNITS = {"us": 1e3, "ms": 1e6, "s": 1e9}
KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
STATUSES = {"UNSET": 0, "OK": 1, "ERROR": 2}

# Where a received row is, on purpose, not the bare row of the other test: query -> IDs.
TEXT = "a23 a24 a25"  # a24 names its trace in its text only
RECEIVED = {
    "5759e988bd862e3fe1be46a994272793": TEXT,
    "5759e988-bd86-2e3f-e1be-46a994272793": TEXT,
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1": TEXT,
    "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01": TEXT,
    "trace_id:1-5759e988-bd862e3fe1be46a994272793": TEXT,
    "trace_id:5759E988BD862E3FE1BE46A994272793": TEXT,
    "trace_id:5759*": TEXT,
    "trace:(trace_id:5759e988bd862e3fe1be46a994272793)": TEXT,
    "trace_id:*": TEXT + " a26",
    "-trace_id:* service:ids": "",
    # OTLP has no severity of this number
    "severity_number:99": "",
    "severity_number>=24": "a40",
    # OTLP has no spans in progress
    "in_progress:true": "",
}
# The server numbers rows as it likes.
OWN_NUMBERS = "ingest_id:3"


def lines(name):
    return [json.loads(line) for line in (FIXTURES / name).read_text().splitlines()]


def cases():
    """`(table, query, IDs oldest first)`, as semantics.rs reads them."""
    table, out = "logs", []
    for line in (FIXTURES / "semantics.txt").read_text().splitlines():
        if line in ("# logs", "# spans"):
            table = line.removeprefix("# ")
        elif line and not line.startswith("# "):
            query, expected = line.removesuffix(" =>").split(" => ") if " => " in line else (line.removesuffix(" =>"), "")
            if query != OWN_NUMBERS:
                out.append((table, query, RECEIVED.get(query, expected)))
    assert RECEIVED.keys() <= {query for _, query, _ in out}
    return out


def resource_of(entry, record):
    service = {"service.name": record["service"]} if "service" in record else {}
    attributes(entry.resource.attributes, service | record.get("resource", {}))


def span_id(name):
    return name.encode().ljust(8, b"\x07")


def send(lake):
    logs, traces = ExportLogsServiceRequest(), ExportTraceServiceRequest()
    for number, record in enumerate(lines("logs.jsonl")):
        entry = logs.resource_logs.add()
        resource_of(entry, record)
        scope = entry.scope_logs.add()
        if "scope" in record:
            scope.scope.name, scope.scope.version = record["scope"]
        row = scope.log_records.add(time_unix_nano=(T0 + number) * SECOND, severity_number=record.get("severity", 0))
        attributes(row.attributes, {"test.id": record["id"], **record.get("attributes", {})})
        if "body" in record:
            any_value(row.body, record["body"])
        row.severity_text, row.event_name = record.get("severity_text", ""), record.get("event_name", "")
        row.trace_id, row.span_id = bytes.fromhex(record.get("trace_id", "")), bytes.fromhex(record.get("span_id", ""))
    for number, record in enumerate(lines("spans.jsonl")):
        entry = traces.resource_spans.add()
        resource_of(entry, record)
        row = entry.scope_spans.add().spans.add(trace_id=TRACE, span_id=span_id(record["id"]), name=record["name"])
        row.kind, row.status.code = KINDS[record["kind"]], STATUSES[record["status"]]
        row.status.message = record.get("message", "")
        row.start_time_unix_nano = (T0 + number) * SECOND
        if "duration" in record:
            unit = next(unit for unit in UNITS if record["duration"].endswith(unit))
            row.end_time_unix_nano = row.start_time_unix_nano + int(float(record["duration"].removesuffix(unit)) * UNITS[unit])
        if "parent" in record:
            row.parent_span_id = span_id(record["parent"])
        attributes(row.attributes, {"test.id": record["id"], **record.get("attributes", {})})
        for event in record.get("events", []):
            added = row.events.add(name=event["name"], time_unix_nano=row.start_time_unix_nano)
            attributes(added.attributes, {key: value for key, value in event.items() if key != "name"})
    for path, request in (("logs", logs), ("traces", traces)):
        answer = requests.post(f"{lake.otlp_http_url}/v1/{path}", data=request.SerializeToString(), headers=PROTOBUF, timeout=20)
        assert (answer.status_code, answer.content) == (200, b""), answer.content


def ask(lake, table, query):
    """IDs of the rows found, oldest first, as in the table."""
    if "now-1h" in query:
        # there, it is an hour and a half second before the second last row
        query = query.replace("now-1h", f"now-{int((time.time() - T0 - 57.5) * 1000)}ms")
    found = lake.hits(query, table=table, start="2026-11-22T00:00:00Z", end="2026-11-23T00:00:00Z")
    return " ".join(hit["attributes"]["test.id"] for hit in reversed(found))


def check(lake, way):
    table = cases()
    assert len(table) >= 200
    wrong = []
    for name, query, expected in table:
        found = ask(lake, name, query)
        if found != expected:
            wrong.append(f"{name}: {query}\n  expected {expected}\n  found    {found}")
    assert not wrong, f"{way}: {len(wrong)} of {len(table)}\n" + "\n".join(wrong)


def index_files(lake):
    return list((lake.data_dir / "store").rglob("*.idx"))


def test_fresh_flushed_and_unindexed_rows_match_alike(make_lake):
    # the corpus stands at one time for good, however old it grows
    ingest = {"max_age_days": 0}
    lake = make_lake("indexed", config={"ingest": ingest})
    send(lake)
    assert lake.status()["head"]["rows"] == len(lines("logs.jsonl")) + len(lines("spans.jsonl")), "fresh rows are in memory"
    check(lake, "fresh rows")
    lake.restart()
    assert lake.status()["head"]["rows"] == 0 and lake.status()["replay"]["rows"] == 0, "flushed rows are in blocks only"
    assert index_files(lake), "blocks have an index"
    check(lake, "flushed blocks")

    bare = make_lake("bare", config={"ingest": ingest, "block": {"index": False}})
    send(bare)
    bare.restart()
    assert bare.status()["head"]["rows"] == 0 and bare.status()["replay"]["rows"] == 0
    assert not index_files(bare), "blocks have no index"
    check(bare, "blocks without an index")
