"""What lies in an S3 bucket is read by DuckDB and by pyarrow, and equals what was sent, value by value."""

import json
import math
import re
import threading
import time
from datetime import datetime, timedelta, timezone

import duckdb
import fsspec.implementations.arrow
import pyarrow.dataset
import pyarrow.fs
import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOUR = 3_600_000_000_000
TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
# text that readers get wrong: more than one plane, combining, right to left, quotes, control characters
TEXTS = ["plain", "", "Grüße 世界 🚀 e\u0301 \u202bשלום\u202c", "a\"b'c\\d\te\nf\r\n", "\u0001\u007f", "x" * 70_000, "𝒳" * 1000, " leading and trailing "]
DOUBLES = [0.0, -0.0, 1.5, -1e308, 5e-324, 0.1, math.nan, math.inf, -math.inf]
INTS = [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)]


def any_value(target, value):
    """Sets an OTLP AnyValue."""
    match value:
        case bool():
            target.bool_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case bytes():
            target.bytes_value = value
        case str():
            target.string_value = value
        case list():
            target.array_value.SetInParent()
            for item in value:
                any_value(target.array_value.values.add(), item)
        case dict():
            target.kvlist_value.SetInParent()
            attributes(target.kvlist_value.values, value)


def attributes(target, values):
    for key, value in values.items():
        item = target.add(key=key)
        any_value(item.value, value)


ATTRIBUTES = {"empty": "", "ünï": "日本", "int": 2**63 - 1, "double": 0.25, "nan": math.nan, "inf": -math.inf, "yes": True, "list": [1, "a"], "map": {"k": {"n": 1}}}
ATTRIBUTES_STORED = {"empty": "", "ünï": "日本", "int": "9223372036854775807", "double": "0.25", "nan": "NaN", "inf": "-Infinity", "yes": "true"}


def check_attributes(got):
    got = dict(got)
    assert json.loads(got.pop("list")) == [1, "a"]
    assert json.loads(got.pop("map")) == {"k": {"n": 1}}
    assert got == ATTRIBUTES_STORED


def send(lake, now):
    """Sends all kinds of values over OTLP; returns, per table, how many rows there must be and what is in them."""
    logs = ExportLogsServiceRequest()
    resource = logs.resource_logs.add()
    attributes(resource.resource.attributes, {"service.name": "lager", "host.name": "h-1", "custom": "é"})
    scope = resource.scope_logs.add()
    scope.scope.name = "scope"
    sent_logs = {}
    for i in range(240):
        at = now - (i % 3) * 13 * HOUR - i * 1_000_003 - 1  # three hours of two or more days, odd nanoseconds
        body = TEXTS[i % len(TEXTS)]
        record = scope.log_records.add(time_unix_nano=at, observed_time_unix_nano=at + 1001, severity_number=9 + i % 3, severity_text="Info")
        any_value(record.body, body)
        attributes(record.attributes, {"n": i, **(ATTRIBUTES if i % 2 else {})})
        if i % 4 == 0:
            record.trace_id, record.span_id, record.flags = bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1
        sent_logs[i] = (at, body)

    traces = ExportTraceServiceRequest()
    resource = traces.resource_spans.add()
    attributes(resource.resource.attributes, {"service.name": "lager"})
    scope = resource.scope_spans.add()
    sent_spans = {}
    for i in range(50):
        start = now - i * 1_000_000_007 - 5 * HOUR
        span = scope.spans.add(trace_id=bytes.fromhex(TRACE), span_id=(i + 1).to_bytes(8, "big"), name=TEXTS[i % 3] or "·", kind=1 + i % 5)
        span.start_time_unix_nano, span.end_time_unix_nano = start, start + 123_456_789 + i
        attributes(span.attributes, {"http.request.method": "GET", "http.response.status_code": 200 + i, **ATTRIBUTES})
        if i:
            span.parent_span_id = (1).to_bytes(8, "big")
        event = span.events.add(name="exception", time_unix_nano=start + 7)
        attributes(event.attributes, {"exception.type": "Oops", "leer": ""})
        link = span.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(PARENT))
        attributes(link.attributes, {"why": "ünklar"})
        span.status.code = i % 3
        sent_spans[f"{i + 1:016x}"] = (start, 123_456_789 + i, 200 + i, ["UNSET", "OK", "ERROR"][i % 3])

    metrics = ExportMetricsServiceRequest()
    resource = metrics.resource_metrics.add()
    attributes(resource.resource.attributes, {"service.name": "lager"})
    scope = resource.scope_metrics.add()
    gauge = scope.metrics.add(name="g", unit="°C", description="Temperatur")
    for i, value in enumerate(DOUBLES):
        point = gauge.gauge.data_points.add(time_unix_nano=now - i, as_double=value)
        attributes(point.attributes, {"i": i, "leer": ""})
    total = scope.metrics.add(name="s")
    total.sum.aggregation_temporality, total.sum.is_monotonic = 2, False
    for i, value in enumerate(INTS):
        total.sum.data_points.add(time_unix_nano=now - i, start_time_unix_nano=now - HOUR, as_int=value)
    histogram = scope.metrics.add(name="h")
    histogram.histogram.aggregation_temporality = 1
    point = histogram.histogram.data_points.add(time_unix_nano=now, count=6, sum=math.inf, bucket_counts=[1, 2, 3], explicit_bounds=[0.5, 10])
    point.exemplars.add(time_unix_nano=now - 3, as_double=7.5, trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN))
    exponential = scope.metrics.add(name="e")
    exponential.exponential_histogram.aggregation_temporality = 1
    point = exponential.exponential_histogram.data_points.add(time_unix_nano=now, count=6, sum=-2.5, scale=-3, zero_count=1, zero_threshold=0.25)
    point.positive.offset, point.positive.bucket_counts[:] = -2, [1, 0, 2]
    point.negative.offset, point.negative.bucket_counts[:] = 4, [2]
    summary = scope.metrics.add(name="q")
    point = summary.summary.data_points.add(time_unix_nano=now, count=2, sum=3.5)
    point.quantile_values.add(quantile=0.5, value=1.25)
    point.quantile_values.add(quantile=1.0, value=math.nan)

    for path, request in (("logs", logs), ("traces", traces), ("metrics", metrics)):
        answer = requests.post(
            f"{lake.otlp_http_url}/v1/{path}", data=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}, timeout=20
        )
        assert (answer.status_code, answer.content) == (200, b""), answer.content
    return sent_logs, sent_spans


class Bucket(fsspec.implementations.arrow.ArrowFSWrapper):
    """pyarrow's S3, for DuckDB: its own S3 extension is not among the Python packages."""

    protocol = "weed"
    root_marker = ""

    @classmethod
    def _strip_protocol(cls, path):
        return [cls._strip_protocol(p) for p in path] if isinstance(path, list) else path.removeprefix("weed://").strip("/")


@pytest.fixture
def readers(weed):
    """Two functions `(prefix, table) -> rows as dicts`, one a reader."""
    address = weed.url.removeprefix("http://")
    s3 = pyarrow.fs.S3FileSystem(
        access_key=weed.keys["aws_access_key_id"], secret_key=weed.keys["aws_secret_access_key"], endpoint_override=address, scheme="http", region="us-east-1"
    )

    def by_pyarrow(prefix, table, where=None):
        data = pyarrow.dataset.dataset(f"{weed.bucket}/{prefix}/{table}", filesystem=s3, format="parquet", partitioning="hive")
        rows = data.to_table(filter=where and pyarrow.compute.field("dt") == where).to_pylist()
        return [{k: dict(v) if k.endswith("attributes") else v for k, v in row.items()} for row in rows]

    def by_duckdb(prefix, table, where=None):
        connection = duckdb.connect()
        connection.register_filesystem(Bucket(s3))
        connection.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet('weed://{weed.bucket}/{prefix}/{table}/**/*.parquet', hive_partitioning = true)"
        clause = f" WHERE dt = '{where}'" if where else ""
        result = connection.sql(f"SELECT * FROM {source}{clause}").to_arrow_table()
        return [{k: dict(v) if k.endswith("attributes") else v for k, v in row.items()} for row in result.to_pylist()]

    return {"pyarrow": by_pyarrow, "duckdb": by_duckdb}


def same(a, b):
    """Equal doubles: NaN is NaN, and zeros keep their sign."""
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


def micros(nanos):
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanos // 1000)


@pytest.mark.parametrize("reader", ["pyarrow", "duckdb"])
def test_foreign_readers_see_what_was_sent(make_lake, weed, readers, reader):
    store = weed.store()
    prefix = store["url"].rsplit("/", 1)[1]
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1, "lake_visible": "all"}, "store": store})
    now = time.time_ns()
    sent_logs, sent_spans = send(lake, now)
    lake.wait_flushed()
    read = lambda table, where=None: readers[reader](prefix, table, where)  # noqa: E731

    rows = {int(row["attributes"]["n"]): row for row in read("logs")}
    assert sorted(rows) == sorted(sent_logs) and len(read("logs")) == len(sent_logs)
    assert len({row["ingest_id"] for row in rows.values()}) == len(rows)
    for i, (at, body) in sent_logs.items():
        row = rows[i]
        assert (row["time_unix_nano"], row["time"], row["observed_time"]) == (at, micros(at), micros(at + 1001))
        # a body that is there and empty is not a body that is missing
        assert row["body"] == body, (i, row["body"] and row["body"][:100])
        assert (row["severity_number"], row["severity_text"], row["body_type"]) == (9 + i % 3, "Info", 1)
        assert (row["trace_id"], row["span_id"]) == ((TRACE, SPAN) if i % 4 == 0 else (None, None))
        assert (row["service_name"], row["host_name"], row["scope_name"], row["k8s_pod_name"]) == ("lager", "h-1", "scope", None)
        assert row["resource_attributes"] == {"custom": "é"}
        row["attributes"].pop("n")
        if i % 2:
            check_attributes(row["attributes"])
        else:
            assert row["attributes"] == {}
        # the partition is the hour of the event
        assert str(row["dt"])[:10] == f"{micros(at):%Y-%m-%d}" and int(row["hour"]) == micros(at).hour

    # one day alone
    if reader == "duckdb":
        days = {}
        for at, _ in sent_logs.values():
            days[f"{micros(at):%Y-%m-%d}"] = days.get(f"{micros(at):%Y-%m-%d}", 0) + 1
        assert {day: len(read("logs", day)) for day in days} == days and len(days) >= 2

    rows = {row["span_id"]: row for row in read("spans")}
    assert rows.keys() == sent_spans.keys()
    for span_id, (start, duration, http_status, status) in sent_spans.items():
        row = rows[span_id]
        assert (row["start_time_unix_nano"], row["duration_nano"], row["start_time"]) == (start, duration, micros(start))
        assert row["end_time"] == micros(start + duration)
        assert (row["http_request_method"], row["http_response_status_code"], row["status_code"]) == ("GET", http_status, status)
        assert (row["trace_id"], row["is_root"], row["in_progress"]) == (TRACE, span_id == f"{1:016x}", False)
        assert row["exception_type"] == "Oops"
        check_attributes(row["attributes"])
        (event,), (link,) = row["events"], row["links"]
        assert (event["name"], event["time_unix_nano"]) == ("exception", start + 7)
        assert dict(event["attributes"]) == {"exception.type": "Oops", "leer": ""}
        assert (link["trace_id"], link["span_id"], dict(link["attributes"])) == (TRACE, PARENT, {"why": "ünklar"})

    points = read("metric_points")
    assert len(points) == len(DOUBLES) + len(INTS)
    doubles = {now - row["time_unix_nano"]: row for row in points if row["metric_name"] == "g"}
    assert all(same(doubles[i]["value"], value) and doubles[i]["value_int"] is None for i, value in enumerate(DOUBLES)), doubles
    ints = {now - row["time_unix_nano"]: row for row in points if row["metric_name"] == "s"}
    assert [ints[i]["value_int"] for i in range(len(INTS))] == INTS
    assert {row["start_time"] for row in ints.values()} == {micros(now - HOUR)}
    series = {(row["metric_name"], row["attributes"].get("i")): row for row in read("metric_series")}
    assert len(series) == len(DOUBLES) + 4
    assert series["g", "3"]["attributes"] == {"i": "3", "leer": ""} and series["g", "3"]["unit"] == "°C"
    assert series["g", "3"]["series_id"] == doubles[3]["series_id"]
    (row,) = read("metric_histograms")
    assert (row["count"], row["sum"], row["bounds"], row["bucket_counts"]) == (6, math.inf, [0.5, 10.0], [1, 2, 3])
    (row,) = read("metric_exp_histograms")
    assert (row["count"], row["sum"], row["scale"], row["zero_count"], row["zero_threshold"]) == (6, -2.5, -3, 1, 0.25)
    assert (row["positive_offset"], row["positive_counts"], row["negative_offset"], row["negative_counts"]) == (-2, [1, 0, 2], 4, [2])
    (row,) = read("metric_summaries")
    assert (row["count"], row["sum"], row["quantiles"][0]) == (2, 3.5, {"quantile": 0.5, "value": 1.25})
    assert math.isnan(row["quantiles"][1]["value"])
    (row,) = read("metric_exemplars")
    assert (row["trace_id"], row["span_id"], row["value"], row["time_unix_nano"]) == (TRACE, SPAN, 7.5, now - 3)

    # the server says the same, and so it does after a restart on the same bucket and data folder
    for _ in range(2):
        count = {table: int(lake.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"]) for table in ("logs", "spans", "metric_points")}
        assert count == {"logs": len(sent_logs), "spans": len(sent_spans), "metric_points": len(points)}
        assert len(lake.hits("service:lager", start="-3d")) == len(sent_logs)
        lake.restart()


class Poller(threading.Thread):
    """Reads a table again and again: no row is ever seen twice, and none that was seen goes away."""

    def __init__(self, read):
        super().__init__(daemon=True)
        self.read, self.stopping, self.n_reads, self.wrong, self.sizes = read, threading.Event(), 0, None, {0}

    def run(self):
        before = set()
        try:
            while not self.stopping.is_set():
                try:
                    seqs = self.read()
                except (FileNotFoundError, duckdb.IOException):
                    # nothing is sealed yet, so there is no such folder
                    assert not before, "the table is gone"
                    time.sleep(0.05)
                    continue
                now = set(seqs)
                assert len(now) == len(seqs), f"{len(seqs) - len(now)} rows twice"
                assert before <= now, f"{len(before - now)} rows went away"
                before = now
                self.n_reads += 1
                self.sizes.add(len(seqs))
        except Exception as error:  # noqa: BLE001 - told by `end`
            self.wrong = error

    def end(self):
        self.stopping.set()
        self.join(30)
        assert self.wrong is None, f"{self.read.__name__}, read {self.n_reads}: {self.wrong!r}"


def test_sealed_hours_are_read_once_while_blocks_merge(make_lake, weed, readers):
    store = weed.store()
    prefix = store["url"].rsplit("/", 1)[1]
    lake = make_lake(
        config={
            "store": store,
            "ingest": {"flush_age_seconds": 1, "flush_rows": 60},
            "lake": {"every_seconds": 1, "seal_after_seconds": 1, "seal_quiet_seconds": 4, "late_seal_seconds": 3, "merge_at_blocks": 2, "removed_grace_seconds": 5},
            "query": {"timeout_seconds": 4},
        }
    )
    # two hours that are over, and rows of the running one, which stay out of the lake
    this_hour = time.time_ns() // HOUR * HOUR
    # it must not end in the midst of this
    running_at = time.time_ns() if time.time_ns() < this_hour + HOUR * 0.95 else this_hour + HOUR
    sent = {}

    def post(n, running=0):
        logs, traces = ExportLogsServiceRequest(), ExportTraceServiceRequest()
        scope, spans = logs.resource_logs.add().scope_logs.add(), traces.resource_spans.add().scope_spans.add()
        for _ in range(n):
            seq = len(sent)
            at = this_hour - (1 + seq % 2) * 2 * HOUR + seq * 1_000_000
            record = scope.log_records.add(time_unix_nano=at)
            any_value(record.body, f"sealed {seq}")
            attributes(record.attributes, {"seq": seq})
            span = spans.spans.add(trace_id=bytes.fromhex(TRACE), span_id=(seq + 1).to_bytes(8, "big"), name=f"sealed {seq}")
            span.start_time_unix_nano, span.end_time_unix_nano = at, at + 5
            attributes(span.attributes, {"seq": seq})
            sent[seq] = at
        for i in range(running):
            record = scope.log_records.add(time_unix_nano=running_at + i)
            any_value(record.body, "running")
            attributes(record.attributes, {"seq": -1})
        for path, request in (("logs", logs), ("traces", traces)):
            answer = requests.post(f"{lake.otlp_http_url}/v1/{path}", data=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}, timeout=20)
            assert (answer.status_code, answer.content) == (200, b""), answer.content

    def seqs(reader, table):
        def read():
            return [int(row["attributes"]["seq"]) for row in readers[reader](prefix, table)]

        read.__name__ = f"{reader} of {table}"
        return read

    def searched():
        return [int(hit["attributes"]["seq"]) for hit in lake.hits("sealed", start="-1d")]

    pollers = [Poller(seqs(reader, table)) for reader in readers for table in ("logs", "spans")] + [Poller(searched)]
    for poller in pollers:
        poller.start()
    n_swaps = lambda swap: sum(  # noqa: E731
        int(line.rsplit(" ", 1)[1]) for line in requests.get(lake.url + "/metrics", timeout=10).text.splitlines() if f'swap="{swap}"' in line
    )
    for _ in range(8):
        post(50, running=3)
        time.sleep(0.7)

    def all_sealed():
        return all(len(seqs(reader, table)()) == len(sent) for reader in readers for table in ("logs", "spans"))

    def poll_until_sealed():
        def look():
            try:
                return all_sealed()
            except (FileNotFoundError, duckdb.IOException):
                return False

        lake.wait_until(look, 60, every=0.5, what="all rows in the lake")

    poll_until_sealed()
    assert n_swaps("merge") >= 2 and n_swaps("seal") >= 2, "no blocks were merged before they were sealed"
    n_first = len(sent)
    # rows that come late make a further file
    post(40)
    poll_until_sealed()
    for poller in pollers:
        poller.end()
        assert poller.n_reads >= 3, f"{poller.read.__name__} read only {poller.n_reads} times"
    assert {n_first, len(sent)} <= set().union(*(poller.sizes for poller in pollers))

    for reader in readers:
        rows = readers[reader](prefix, "logs")
        assert sorted(int(row["attributes"]["seq"]) for row in rows) == sorted(sent), "each row once, and no row of the running hour"
        for row in rows:
            seq = int(row["attributes"]["seq"])
            at = sent[seq]
            assert (row["time_unix_nano"], row["time"], row["body"]) == (at, micros(at), f"sealed {seq}")
            assert (str(row["dt"])[:10], int(row["hour"])) == (f"{micros(at):%Y-%m-%d}", micros(at).hour)
        rows = readers[reader](prefix, "spans")
        assert sorted(int(row["attributes"]["seq"]) for row in rows) == sorted(sent)
    keys = [item["Key"].removeprefix(prefix + "/") for item in weed.s3().list_objects_v2(Bucket=weed.bucket, Prefix=prefix)["Contents"]]
    files = [key for key in keys if key.startswith("logs/")]
    assert files and all(re.fullmatch(r"logs/dt=\d{4}-\d\d-\d\d/hour=\d\d/[0-9a-z]+\.parquet", key) for key in files), files
    # the first seal of each hour, and its late rows
    assert 2 <= len(files) <= 8, files
    assert [key for key in keys if key.startswith("_l0/logs/")], "the running hour waits outside the lake"
    # the server itself counts them once, then and after a restart
    for _ in range(2):
        assert sorted(searched()) == sorted(sent)
        assert int(lake.sql("SELECT count(*) AS n FROM logs WHERE body LIKE 'sealed%'")[0]["n"]) == len(sent)
        lake.restart()
