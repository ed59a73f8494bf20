"""Logs by what else their trace has: X-Ray segments and OpenTelemetry spans by one condition, records that came by the awslogs face."""

import subprocess
import time

import lake as lakes
import requests

SHOP = [
    # trace, service, name, parent, seconds, failed
    ("5759e988bd862e3fe1be46a994272791", "checkout", "POST /pay", None, 2.0, False),
    ("5759e988bd862e3fe1be46a994272791", "checkout", "SELECT", "POST /pay", 1.5, True),
    ("5759e988bd862e3fe1be46a994272792", "checkout", "POST /pay", None, 2.0, False),
    ("5759e988bd862e3fe1be46a994272792", "checkout", "SELECT", "POST /pay", 0.1, False),
    ("5759e988bd862e3fe1be46a994272793", "cart", "GET /cart", None, 0.2, True),
]


def span_id(trace, name):
    return f"{abs(hash((trace, name))) % (1 << 62) + 1:016x}"


def send_spans(lake, start):
    spans = {}
    for trace, service, name, parent, seconds, failed in SHOP:
        span = {
            "traceId": trace,
            "spanId": span_id(trace, name),
            "name": name,
            "kind": 3,
            "startTimeUnixNano": str(int(start * 1e9)),
            "endTimeUnixNano": str(int((start + seconds) * 1e9)),
            "status": {"code": 2} if failed else {},
        }
        if parent:
            span["parentSpanId"] = span_id(trace, parent)
        spans.setdefault(service, []).append(span)
    resources = [
        {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}, "scopeSpans": [{"spans": of_it}]}
        for service, of_it in spans.items()
    ]
    answer = requests.post(f"{lake.otlp_http_url}/v1/traces", json={"resourceSpans": resources}, timeout=20)
    assert answer.status_code == 200, answer.text


def send_logs(lake, start):
    logs = lake.boto3("logs")
    logs.create_log_group(logGroupName="shop")
    logs.create_log_stream(logGroupName="shop", logStreamName="1")
    events = []
    for number, (trace, *_rest) in enumerate(SHOP):
        # in X-Ray's spelling
        text = f"line {number} of 1-{trace[:8]}-{trace[8:]}"
        events.append({"timestamp": int(start * 1000) + number, "message": text})
    events.append({"timestamp": int(start * 1000) + 100, "message": "line 9 of no trace"})
    logs.put_log_events(logGroupName="shop", logStreamName="1", logEvents=events)


def lines(lake, query):
    return sorted(hit["body"].split()[1] for hit in lake.hits(query))


def check(lake):
    assert lines(lake, 'trace:(service:checkout span.name:"SELECT" duration>500ms error:true)') == ["0", "1"]
    assert lines(lake, "trace:({name:\"POST /pay\" duration>1s} > {error:true})") == ["0", "1"]
    assert lines(lake, "trace:({name:\"POST /pay\"} >> {name:SELECT -error:true})") == ["2", "3"]
    assert lines(lake, "line -trace:(service:checkout)") == ["4", "9"]
    assert lines(lake, 'log:("line 4")') == ["4"]
    spans = lake.hits('log:("line 1") error:true', table="spans")
    assert [span["name"] for span in spans] == ["SELECT"]
    counted = lake.get("/api/v1/count", q="trace:(error:true)", start="-1h")
    assert counted["count"] == 3, counted


def test_logs_are_found_by_conditions_on_their_trace(make_lake):
    lake = make_lake()
    start = time.time() - 60
    send_spans(lake, start)
    send_logs(lake, start)
    check(lake)
    # from blocks too
    lake.restart()
    lake.wait_flushed()
    check(lake)
    cli = [lakes.binary(), "search", "--url", lake.url, "trace:(service:cart error:true)"]
    shown = subprocess.run(cli, capture_output=True, text=True, timeout=60)
    assert "line 4 of" in shown.stdout and shown.returncode == 0, shown


def test_what_is_wrong_with_a_condition_is_told_with_its_place(make_lake):
    lake = make_lake()
    answer = requests.get(f"{lake.url}/api/v1/search", params={"q": "timeout trace:({service:cart} > )"}, timeout=20)
    assert answer.status_code == 400, answer.text
    assert "conditions on a span are missing here" in answer.text and '"position":32' in answer.text.replace(" ", ""), answer.text
    tail = requests.get(f"{lake.url}/api/v1/tail", params={"q": "trace:(service:cart)"}, timeout=20)
    assert tail.status_code == 400 and "search" in tail.text, tail.text
