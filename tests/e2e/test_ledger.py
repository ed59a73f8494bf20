"""Every record that was sent is counted once, at every receiver: accepted, refused, rejected or dropped."""

import collections
import json
import secrets
import socket
import time

import grpc
import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import books
from test_bad_input import DAY, EXPORT, JSON, PROTOBUF, logs_call, segment

DATAGRAM = b'{"format":"json","version":1}\n'
ENDS = ("accepted", "repeated", "refused", "rejected", "dropped")


def request_of(signal, n):
    now = time.time_ns()
    if signal == "logs":
        request = ExportLogsServiceRequest()
        scope = request.resource_logs.add().scope_logs.add()
        for i in range(n):
            scope.log_records.add(time_unix_nano=now + i).body.string_value = f"counted {i}"
    elif signal == "traces":
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        for i in range(n):
            ids = {"trace_id": secrets.token_bytes(16), "span_id": secrets.token_bytes(8)}
            scope.spans.add(name="counted", start_time_unix_nano=now, end_time_unix_nano=now + i, **ids)
    else:
        request = ExportMetricsServiceRequest()
        points = request.resource_metrics.add().scope_metrics.add().metrics.add(name="counted").gauge.data_points
        for i in range(n):
            points.add(time_unix_nano=now + i, as_double=i)
    return request


def counted(lake):
    """`{(receiver, signal): {outcome: records}}`."""
    return {(entry["receiver"], entry["signal"]): {end: entry[end] for end in ENDS if entry[end]} for entry in lake.status()["receivers"]}


def counted_by_sql(lake):
    """The same from the table `ledger`."""
    sums = collections.defaultdict(dict)
    for row in lake.sql("SELECT receiver, signal, outcome, sum(records) AS n FROM ledger WHERE node IS NOT NULL GROUP BY 1, 2, 3"):
        sums[row["receiver"], row["signal"]][row["outcome"]] = int(row["n"])
    return sums


class Books:
    """What was sent, by receiver and signal, with the end that each record must have."""

    def __init__(self):
        self.sent = collections.defaultdict(collections.Counter)

    def add(self, receiver, signal, **ends):
        self.sent[receiver, signal].update(ends)

    def agree(self, lake, when):
        expected = {key: dict(ends) for key, ends in self.sent.items()}
        last = None

        def same():
            nonlocal last
            last = counted(lake)
            return last == expected and counted_by_sql(lake) == expected

        try:
            lake.wait_until(same, 10, what=f"the books agree {when}")
        except AssertionError as error:
            wrong = {key: (last.get(key), expected.get(key)) for key in last.keys() | expected.keys() if last.get(key) != expected.get(key)}
            raise AssertionError(f"{when}: (counted, sent) {wrong}\n{error}") from None


def send_all(lake, books):
    """Good and bad records over every receiver."""
    # OTLP, both forms of HTTP and gRPC
    for signal in ("logs", "traces", "metrics"):
        for n, url in ((7, lake.otlp_http_url), (5, lake.url)):
            answer = requests.post(f"{url}/v1/{signal}", data=request_of(signal, n).SerializeToString(), headers=PROTOBUF, timeout=20)
            assert answer.status_code == 200
            books.add("otlp", signal, accepted=n)
            assert requests.post(f"{url}/v1/{signal}", data=b"\xff\xff", headers=PROTOBUF, timeout=20).status_code == 400
            assert requests.post(f"{url}/v1/{signal}", data=b"{", headers=JSON, timeout=20).status_code == 400
            books.add("otlp", signal, rejected=2)
    # a partial success: a span without IDs
    request = request_of("traces", 4)
    request.resource_spans[0].scope_spans[0].spans.add(name="no IDs", start_time_unix_nano=1)
    answer = requests.post(f"{lake.url}/v1/traces", data=request.SerializeToString(), headers=PROTOBUF, timeout=20)
    assert answer.status_code == 200 and answer.content != b""
    books.add("otlp", "traces", accepted=4, rejected=1)
    with grpc.insecure_channel(lake.otlp_grpc) as channel:
        export = channel.unary_unary(EXPORT)
        export(request_of("logs", 3).SerializeToString(), timeout=20)
        with pytest.raises(grpc.RpcError):
            export(b"\xff\xff", timeout=20)
        books.add("otlp", "logs", accepted=3, rejected=1)

    # PutLogEvents: whole calls, and events left out
    logs = lake.boto3()
    try:
        logs.create_log_group(logGroupName="/books")
        logs.create_log_stream(logGroupName="/books", logStreamName="s")
    except logs.exceptions.ResourceAlreadyExistsException:
        pass
    now = int(time.time() * 1000)
    put = {"logGroupName": "/books", "logStreamName": "s"}
    logs.put_log_events(**put, logEvents=[{"timestamp": now + i, "message": "m"} for i in range(6)])
    books.add("awslogs", "logs", accepted=6)
    answer = logs.put_log_events(**put, logEvents=[{"timestamp": now - 15 * DAY, "message": "old"}, {"timestamp": now, "message": "m"}])
    assert answer["rejectedLogEventsInfo"]
    books.add("awslogs", "logs", accepted=1, rejected=1)
    assert logs_call(lake, "PutLogEvents", b"{").status_code == 400
    books.add("awslogs", "logs", rejected=1)

    # X-Ray, TCP on both ports
    for url in (f"http://{lake.xray}", lake.url):
        documents = [json.dumps(segment()), json.dumps(segment(id="short")), "{", json.dumps(segment())]
        answer = requests.post(f"{url}/TraceSegments", json={"TraceSegmentDocuments": documents}, timeout=20)
        assert len(answer.json()["UnprocessedTraceSegments"]) == 2
        books.add("xray", "traces", accepted=2, rejected=2)
    # and UDP
    host, port = lake.xray.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((host, int(port)))
        for _ in range(20):
            udp.send(DATAGRAM + json.dumps(segment()).encode())
            udp.send(DATAGRAM + b"{")
            udp.send(b"what?")
    # the third is no document: it was lost here, and nobody can be told
    books.add("xray", "traces", accepted=20, rejected=20, dropped=20)


def wait_durable(lake):
    """What has no frame of its own comes to the log within a second."""
    lake.wait_until(lambda: lake.status()["counts_are_durable"], 20, what="all counts are in the log")


def test_the_books_agree_across_stops(make_lake):
    lake, books = make_lake(), Books()
    for round_ in range(3):
        send_all(lake, books)
        books.agree(lake, f"in round {round_}")
        lake.restart()
        books.agree(lake, f"after stop {round_}")
    send_all(lake, books)
    books.agree(lake, "before a crash")
    wait_durable(lake)
    lake.restart(kill=True)
    books.agree(lake, "after a crash")
    lake.restart()
    books.agree(lake, "after the flush of what was replayed")
    reasons = {row["reason"] for row in lake.sql("SELECT reason FROM ledger WHERE outcome IN ('rejected', 'dropped')")}
    assert {"malformed", "too_old", "bad_datagram"} <= reasons and None not in reasons, reasons
    # each accepted record is a row
    for table, keys in {"logs": (("otlp", "logs"), ("awslogs", "logs")), "spans": (("otlp", "traces"), ("xray", "traces")), "metric_points": (("otlp", "metrics"),)}.items():
        assert int(lake.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"]) == sum(books.sent[key]["accepted"] for key in keys), table


def test_rejections_alone_outlive_a_stop(lake):
    books = Books()
    for round_ in range(2):
        assert requests.post(lake.url + "/v1/logs", data=b"\xff\xff", headers=PROTOBUF, timeout=20).status_code == 400
        books.add("otlp", "logs", rejected=1)
        books.agree(lake, f"in round {round_}")
        lake.restart()
        books.agree(lake, f"after stop {round_}")


def test_rejections_alone_outlive_a_crash_and_reach_the_catalog(make_lake):
    lake, books = make_lake(config={"ingest": {"flush_age_seconds": 1}}), Books()
    for round_ in range(3):
        assert requests.post(lake.url + "/v1/logs", data=b"\xff\xff", headers=PROTOBUF, timeout=20).status_code == 400
        books.add("otlp", "logs", rejected=1)
        books.agree(lake, f"in round {round_}")
        wait_durable(lake)
        if round_ == 1:
            # a node that takes nothing flushes too: other nodes see its sums
            lake.wait_until(lambda: (s := lake.status())["flushed_lsn"] == s["wal"]["last_lsn"], 20, what="the counts are flushed")
        lake.restart(kill=True)
        books.agree(lake, f"after crash {round_}")


def test_the_books_agree_when_all_is_refused(make_lake):
    """A full disk. One record a request, so that requests and records are the same."""
    lake, books = make_lake(), Books()
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/books")
    logs.create_log_stream(logGroupName="/books", logStreamName="s")
    lake.config = {"wal": {"min_free_disk_bytes": 1 << 60}}
    lake.restart()

    for signal in ("logs", "traces", "metrics"):
        for _ in range(3):
            answer = requests.post(f"{lake.url}/v1/{signal}", data=request_of(signal, 1).SerializeToString(), headers=PROTOBUF, timeout=20)
            assert answer.status_code == 503 and answer.headers["retry-after"], answer.status_code
            books.add("otlp", signal, refused=1)
    body = json.dumps({"logGroupName": "/books", "logStreamName": "s", "logEvents": [{"timestamp": int(time.time() * 1000), "message": "m"}]})
    assert logs_call(lake, "PutLogEvents", body).status_code == 503
    books.add("awslogs", "logs", refused=1)
    answer = requests.post(f"http://{lake.xray}/TraceSegments", json={"TraceSegmentDocuments": [json.dumps(segment())]}, timeout=20)
    assert answer.status_code == 429, answer.text
    books.add("xray", "traces", refused=1)
    books.agree(lake, "while all is refused")
    lake.config = {}
    lake.restart()
    books.agree(lake, "after a stop")


def test_datagrams_that_find_no_place_are_dropped_once(make_lake):
    """They are tried again for a while, then lost: nobody was told to send them again."""
    lake, books = make_lake(config={"wal": {"min_free_disk_bytes": 1 << 60}}), Books()
    host, port = lake.xray.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((host, int(port)))
        for _ in range(4):
            udp.send(DATAGRAM + json.dumps(segment()).encode())
    books.add("xray", "traces", dropped=4)
    lake.wait_until(lambda: counted(lake).get(("xray", "traces"), {}).get("dropped") == 4, 20, what="4 datagrams dropped")
    books.agree(lake, "after datagrams that found no place")


def test_sums_are_kept_by_sender_and_each_record_is_in_a_named_block(make_lake):
    lake = make_lake(config={"ingest": {"max_age_days": 30}})
    now = time.time_ns()
    request = ExportLogsServiceRequest()
    for service, times in [("cart", [now, now + 1, now - 40 * 86_400 * 10**9]), ("pay", [now])]:
        resource = request.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        scope = resource.scope_logs.add()
        for at in times:
            scope.log_records.add(time_unix_nano=at).body.string_value = f"of {service}"
    answer = requests.post(lake.url + "/v1/logs", data=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}, timeout=20)
    assert answer.status_code == 200, answer.text
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/g")
    logs.create_log_stream(logGroupName="/g", logStreamName="s")
    events = [{"timestamp": now // 10**6 - age, "message": f"{age} ms old"} for age in (20 * 86_400_000, 2, 1)]
    # a request may span a day: the old one comes alone
    for part in (events[:1], events[1:]):
        logs.put_log_events(logGroupName="/g", logStreamName="s", logEvents=part)
    # a retry of the second request
    logs.put_log_events(logGroupName="/g", logStreamName="s", logEvents=events[1:])

    def sums():
        rows = lake.sql("SELECT receiver, service_name, log_group, outcome, reason, records FROM ledger ORDER BY 1, 2, 3, 4")
        return [(r["receiver"], r["service_name"], r["log_group"], r["outcome"], r["reason"], int(r["records"])) for r in rows]

    expected = [
        ("awslogs", "g", "/g", "accepted", None, 2),
        ("awslogs", "g", "/g", "rejected", "too_old", 1),
        ("awslogs", "g", "/g", "repeated", None, 2),
        ("otlp", "cart", None, "accepted", None, 2),
        ("otlp", "cart", None, "rejected", "too_old", 1),
        ("otlp", "pay", None, "accepted", None, 1),
    ]
    assert sums() == expected
    (cart,) = [s for entry in lake.status()["receivers"] if entry["receiver"] == "otlp" for s in entry["sources"] if s["service"] == "cart"]
    assert (cart["accepted"], cart["rejected"]) == (2, {"too_old": 1})
    lake.restart()
    assert sums() == expected
    lake.wait_flushed()
    # each record is in the one block that says so
    found = lake.sql(
        "SELECT l.body, count(*) AS n, min(b.parquet) AS parquet FROM logs l JOIN blocks b ON b.table_name = 'logs'"
        " AND l.ingest_id BETWEEN b.min_ingest_id AND b.max_ingest_id AND l.time BETWEEN b.min_time AND b.max_time GROUP BY l.ingest_id, l.body"
    )
    assert len(found) == 5 and all(row["n"] == "1" for row in found), found
    assert all((lake.data_dir / "store" / row["parquet"]).is_file() for row in found)
    assert lake.sql("SELECT sum(rows) - sum(hidden_rows) AS n FROM blocks WHERE table_name = 'logs'") == [{"n": "5"}]


def test_the_check_at_the_end_of_each_test_sees_one_record_too_few_and_one_too_many(make_lake, monkeypatch):
    lake = make_lake()
    send_all(lake, Books())
    assert lake.check_ledger() == "checked"
    there = books.there
    for signal in books.TABLES:
        for more in (1, -1):
            monkeypatch.setattr(books, "there", lambda lake, of=signal, n=more: {name: rows + n * (name == of) for name, rows in there(lake).items()})
            assert books.compare(lake).startswith(f"{signal}: the ledger has "), (signal, more)
    monkeypatch.setattr(books, "there", there)
    # what a client was told
    accepted = sum(ends["accepted"] for ends in (counted(lake)["otlp", "metrics"], counted(lake)["otlp", "logs"]))
    rejected = sum(ends["rejected"] for ends in (counted(lake)["otlp", "metrics"], counted(lake)["otlp", "logs"]))
    told = {"records": accepted + rejected, "acknowledged": accepted, "rejected": rejected, "retries": 0, "given_up": 0}
    lake.has_sent("otlp", ("logs", "metrics"), told)
    assert not books.compare(lake)
    lake.has_sent("otlp", ("logs", "metrics"), {**dict.fromkeys(told, 0), "records": 1, "acknowledged": 1})
    assert "the client was told" in books.compare(lake)
    lake.sent.clear()
    # a server that a test left stopped, even by a crash, is started again and looked at
    lake.kill()
    assert lake.check_ledger() == "checked after a start for that"
    lake.stop_checked()
    assert lake.process is None and lake.check_ledger() == "checked"
    lake.start()
    send_all(lake, Books())
    lake.kill()
    assert lake.check_ledger() == "checked after a start for that", "what came since was not looked at"
