"""Log lines without a trace ID find their trace by what they name: a Lambda function's session as CloudWatch Logs and X-Ray bring it."""

import functools
import json
import re
import secrets
import time
import uuid

import pytest
import requests

GROUP = "/aws/lambda/pay"


class Invocation:
    """What one invocation of a function leaves."""

    def __init__(self):
        self.request = str(uuid.uuid4())
        self.xray = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
        self.hex = self.xray.replace("-", "")[1:]
        self.segment = secrets.token_hex(8)
        self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".123Z"

    @functools.cached_property
    def lines(self):
        """Each as its runtime writes it."""
        emf = {
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [{"Namespace": "Shop", "Dimensions": [[]], "Metrics": [{"Name": "Orders"}]}]},
            "Orders": 1,
            "function_request_id": self.request,
        }
        return {
            "start": f"START RequestId: {self.request} Version: $LATEST\n",
            "python": f"[INFO]\t{self.stamp}\t{self.request}\tloading order 7\n",
            "node": f"{self.stamp}\t{self.request}\tWARN\tslow, RequestId: {uuid.uuid4()} of another",
            "json": json.dumps({"level": "INFO", "requestId": self.request, "message": "charged"}),
            "emf": json.dumps(emf),
            "print": "printed, and of nobody",
            "end": f"END RequestId: {self.request}\n",
        }

    @property
    def report(self):
        measured = "Duration: 12.3 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
        return f"REPORT RequestId: {self.request}\t{measured}\nXRAY TraceId: {self.xray}\tSegmentId: {self.segment}\tSampled: true\t\n"

    def put_segment(self, client):
        now = time.time()
        function = {"id": secrets.token_hex(8), "parent_id": self.segment, "name": "pay", "origin": "AWS::Lambda::Function"}
        segments = [
            {"id": self.segment, "name": "pay", "origin": "AWS::Lambda", "aws": {"request_id": self.request}},
            {**function, "aws": {"function_arn": "arn:aws:lambda:us-east-1:123456789012:function:pay"}},
        ]
        told = [json.dumps({"trace_id": self.xray, "start_time": now - 1, "end_time": now, **one}) for one in segments]
        assert client.put_trace_segments(TraceSegmentDocuments=told)["UnprocessedTraceSegments"] == []


@pytest.fixture
def logs(lake):
    return prepared(lake)


def prepared(lake):
    client = lake.boto3()
    client.create_log_group(logGroupName=GROUP)
    client.create_log_stream(logGroupName=GROUP, logStreamName="2026/11/22/[$LATEST]1")
    return client


def put(client, *messages):
    now = int(time.time() * 1000) - 1000
    events = [{"timestamp": now + i, "message": message} for i, message in enumerate(messages)]
    answer = client.put_log_events(logGroupName=GROUP, logStreamName="2026/11/22/[$LATEST]1", logEvents=events)
    assert "rejectedLogEventsInfo" not in answer


def of_trace(lake, trace):
    """The lines of a trace, each with how it was found: as it came, and when it was asked for."""
    found = lake.trace(trace)
    assert found["coverage"]["complete"], found["coverage"]
    columns = lake.trace(trace, format="columns")
    assert [log["link"] for log in found["logs"]] == columns["logs"]["link"]
    return {log["body"]: (log["trace_id_source"], log["link"]) for log in found["logs"]}


def metric(lake, name, **labels):
    text = requests.get(lake.url + "/metrics", timeout=20).text
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    (value,) = re.findall(rf"^tracelake_{name}{{{wanted}}} (\d+)", text, re.M) or ["0"]
    return int(value)


def test_a_session_that_comes_at_once_is_of_the_trace_that_its_report_tells(lake, logs):
    run = Invocation()
    put(logs, *run.lines.values(), run.report)
    linked = {"request_id": ["start", "python", "node", "json", "emf", "end"]}
    assert len(lake.hits("trace_id_source:request_id", start="-1h")) == 6
    hits = lake.hits(f"trace_id:{run.hex}", start="-1h")
    assert {(hit["body"], hit["trace_id_source"]) for hit in hits} == {
        *((run.lines[name], "request_id") for name in linked["request_id"]),
        (run.report, "text"),
    }
    assert [hit["body"] for hit in lake.hits("-trace_id:*", start="-1h") if hit["log_group"] == GROUP] == [run.lines["print"]]
    link = {"by": "request_id", "value": run.request}
    assert of_trace(lake, run.xray) == {**{run.lines[name]: ("request_id", link) for name in linked["request_id"]}, run.report: ("text", None)}
    rows = lake.sql(f"SELECT trace_id_source AS s, count(*) AS n FROM logs WHERE trace_id = '{run.hex}' GROUP BY 1 ORDER BY 1")
    assert [(row["s"], int(row["n"])) for row in rows] == [("request_id", 6), ("text", 1)]
    # a metric within a line points to the trace that the line was found to be of
    assert lake.sql("SELECT DISTINCT trace_id FROM metric_exemplars") == [{"trace_id": run.hex}]
    assert metric(lake, "correlate_linked_records_total", by="request_id") == 6
    assert metric(lake, "correlate_linked_records_total", by="text") >= 1


@pytest.mark.parametrize("flushed", [False, True], ids=["fresh", "flushed"])
def test_lines_before_and_after_the_segment_are_of_its_trace(make_lake, flushed):
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1 if flushed else 3600}})
    logs, run, other = prepared(lake), Invocation(), Invocation()
    put(logs, run.lines["start"], run.lines["python"], run.lines["print"])
    put(logs, *other.lines.values())
    if flushed:
        lake.wait_flushed()
    run.put_segment(lake.boto3("xray"))
    put(logs, run.lines["json"], run.lines["end"], f"REPORT RequestId: {run.request}\tDuration: 12.3 ms\t\n")
    if flushed:
        lake.wait_flushed()
    link = {"by": "request_id", "value": run.request}
    found = of_trace(lake, run.hex)
    early = [found.pop(run.lines[name]) for name in ("start", "python")]
    assert early == [(None if flushed else "request_id", link)] * 2, "told while they are unflushed, else found when they are asked for"
    assert list(found.values()) == [("request_id", link)] * 3, "these came later"
    (span,) = [span for span in lake.trace(run.xray)["spans"] if span["span_id"] == run.segment]
    assert span["attributes"]["aws.request_id"] == run.request
    # a search for the ID, conditions on its spans and SQL find what has it
    n_told = 3 if flushed else 5
    assert len(lake.hits(f"trace_id:{run.hex}", start="-1h", table="logs")) == n_told
    assert len(lake.hits(f"trace:(span_id:{run.segment})", start="-1h", table="logs")) == n_told
    assert int(lake.sql(f"SELECT count(*) AS n FROM logs WHERE trace_id = '{run.hex}'")[0]["n"]) == n_told
    assert metric(lake, "correlate_linked_records_total", by="request_id") == n_told
    # and by the condition on its trace, all that the page shows, in every language that has it
    shown = sorted(log["body"] for log in lake.trace(run.hex)["logs"])
    assert len(shown) == 5
    assert sorted(hit["body"] for hit in lake.hits(f"trace:(trace_id:{run.xray})", start="-1h", table="logs")) == shown
    assert [row["body"] for row in lake.sql(f"SELECT body FROM logs WHERE search('trace:(trace_id:{run.hex})') ORDER BY body")] == shown
    assert {hit["body"] for hit in lake.hits(f"-trace:(trace_id:{run.hex})", start="-1h", table="logs")} >= set(other.lines.values()) | {run.lines["print"]}


@pytest.mark.parametrize("flushed", [False, True], ids=["fresh", "flushed"])
def test_a_span_id_alone_and_a_name_of_two_traces(make_lake, flushed):
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1 if flushed else 3600}})
    logs, run, other = prepared(lake), Invocation(), Invocation()
    put(logs, f"before span_id={run.segment}")
    run.put_segment(lake.boto3("xray"))
    put(logs, json.dumps({"spanId": run.segment, "message": "after"}))
    if flushed:
        lake.wait_flushed()
    link = {"by": "span_id", "value": run.segment}
    (before, after) = lake.trace(run.xray)["logs"]
    assert (before["trace_id_source"], before["link"], after["trace_id_source"], after["link"]) == (None, link, "span_id", link)
    assert after["span_id"] == run.segment and after["span"] >= 0 and before["span"] >= 0
    # another trace says it is that request's too: from then on nobody knows
    put(logs, f"requestId={run.request} Root={other.xray}")
    put(logs, f"[ERROR]\t{run.stamp}\t{run.request}\twhose?\n")
    (hit,) = lake.hits('"whose"', start="-1h")
    assert (hit["trace_id"], hit["trace_id_source"]) == (None, None)


@pytest.mark.parametrize("flushed", [False, True], ids=["fresh", "flushed"])
def test_a_span_id_in_its_column_alone(make_lake, flushed):
    """A record with a span ID and no trace ID, before its span: a trace of many spans finds it, and only within their time."""
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1 if flushed else 3600}})
    now = time.time() - 60
    trace, spans = uuid.uuid4().hex, [f"{uuid.uuid4().int >> 64 | 1:016x}" for _ in range(200)]

    def log(span, text, at):
        return {"timeUnixNano": str(int(at * 1e9)), "spanId": span, "body": {"stringValue": text}}

    logs = [log(spans[0], "of the first", now), log(spans[199], "of the last", now + 1), log("00000000000000aa", "of another", now), log(spans[5], "much later", now + 40)]
    answer = requests.post(f"{lake.otlp_http_url}/v1/logs", json={"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}, timeout=20)
    assert answer.status_code == 200, answer.text
    if flushed:
        lake.wait_flushed()
    times = {"startTimeUnixNano": str(int(now * 1e9)), "endTimeUnixNano": str(int((now + 2) * 1e9))}
    told = [{"traceId": trace, "spanId": span, "name": "x", "kind": 1, **times} for span in spans]
    answer = requests.post(f"{lake.otlp_http_url}/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": told}]}]}, timeout=20)
    assert answer.status_code == 200, answer.text
    if flushed:
        lake.wait_flushed()
    found = lake.trace(trace)
    by = {log["body"]: (log["trace_id"], log["link"], log["span"] >= 0) for log in found["logs"]}
    assert by["of the first"] == (None, {"by": "span_id", "value": spans[0]}, True)
    assert by["of the last"] == (None, {"by": "span_id", "value": spans[199]}, True)
    assert set(by) == {"of the first", "of the last"}
    assert {hit["body"] for hit in lake.hits(f"trace:(trace_id:{trace})", start="-1h", table="logs")} == set(by)
    assert found["coverage"]["complete"], found["coverage"]


@pytest.mark.parametrize("flushed", [False, True], ids=["fresh", "flushed"])
def test_a_span_id_that_another_trace_has_too_links_nothing(make_lake, flushed):
    """Who numbers spans 1, 2, 3, … has the same IDs in each trace."""
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1 if flushed else 3600}})
    now = time.time() - 60
    one, other = uuid.uuid4().hex, uuid.uuid4().hex

    def send(path, body):
        answer = requests.post(f"{lake.otlp_http_url}{path}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        if flushed:
            lake.wait_flushed()

    def span(trace, number):
        times = {"startTimeUnixNano": str(int(now * 1e9)), "endTimeUnixNano": str(int((now + 2) * 1e9))}
        return {"traceId": trace, "spanId": f"{number:016x}", "name": "x", "kind": 1, **times}

    def log(number, in_text):
        text = f"names span_id={number:016x}" if in_text else f"has {number}"
        named = {} if in_text else {"spanId": f"{number:016x}"}
        return {"timeUnixNano": str(int(now * 1e9)), "body": {"stringValue": text}, **named}

    send("/v1/logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [log(number, in_text) for number in (1, 2) for in_text in (False, True)]}]}]})
    send("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span(one, 1), span(one, 2)]}]}]})
    bodies = lambda: {log["body"] for log in lake.trace(one)["logs"]}  # noqa: E731
    assert bodies() == {"has 1", "has 2", "names span_id=0000000000000001", "names span_id=0000000000000002"}
    send("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span(other, 1)]}]}]})
    assert bodies() == {"has 2", "names span_id=0000000000000002"} and lake.trace(other)["logs"] == []
    assert {hit["body"] for hit in lake.hits(f"trace:(trace_id:{one})", start="-1h", table="logs")} == bodies()


def test_links_are_the_same_after_kill_9_though_nothing_is_remembered(make_lake):
    """What was flushed before is not read again: the lines that come back are told what they were told."""
    lake = make_lake(config={"ingest": {"flush_age_seconds": 3600}})
    logs, run = prepared(lake), Invocation()
    run.put_segment(lake.boto3("xray"))
    # what told the trace leaves the log
    lake.restart()
    logs = lake.boto3()
    put(logs, f"requestId={run.request} Root={run.xray}")
    lake.restart()
    logs = lake.boto3()
    put(logs, run.lines["python"])
    lake.boto3("xray").put_trace_segments(
        TraceSegmentDocuments=[json.dumps({"trace_id": run.xray, "id": "00000000000000ff", "name": "x", "start_time": time.time(), "end_time": time.time(), "aws": {"request_id": run.request}})]
    )
    put(logs, run.lines["end"])

    def told():
        return sorted((hit["body"], hit["trace_id"], hit["trace_id_source"]) for hit in lake.hits(f'"{run.request}"', start="-1h"))

    before = told()
    assert (run.lines["end"], run.hex, "request_id") in before and (run.lines["python"], run.hex, "request_id") in before
    for _ in range(2):
        lake.restart(kill=True)
        assert told() == before
    lake.restart()
    assert told() == before
