"""Logs by what else their trace has: X-Ray segments and OpenTelemetry spans by one condition, records that came by the awslogs face."""

import json
import os
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


def insights(lake, text):
    client, now = lake.boto3("logs"), int(time.time())
    query = client.start_query(queryString=text, logGroupName="shop", startTime=now - 3600, endTime=now + 60)["queryId"]

    def ended():
        page = client.get_query_results(queryId=query)
        return page if page["status"] not in ("Scheduled", "Running") else None

    page = lake.wait_until(ended, 60, what="the query ends")
    assert page["status"] == "Complete", page
    return [{field["field"]: field["value"] for field in row if field["field"] != "@ptr"} for row in page["results"]]


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
    # SQL, and Logs Insights by its own SDK
    for condition, expected in [
        ('trace:({name:"POST /pay" duration>1s} > {error:true})', ["0", "1"]),
        ("line -trace:(service:checkout)", ["4", "9"]),
    ]:
        rows = lake.sql(f"SELECT body FROM logs WHERE search('{condition}') AND time > now() - interval '1 hour'")
        assert sorted(row["body"].split()[1] for row in rows) == expected, condition
        found = insights(lake, f"fields @message | filter search('{condition}')")
        assert sorted(row["@message"].split()[1] for row in found) == expected, condition
    assert lake.sql("SELECT count(*) AS n FROM spans WHERE search('log:(\"line 1\")') AND status_code = 'ERROR'") == [{"n": "1"}]
    assert insights(lake, "filter search('trace:(error:true)') | stats count(*) as n") == [{"n": "3"}]


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
    cli = [lakes.binary(), "search", "trace:(service:cart error:true)"]
    shown = subprocess.run(cli, env={**os.environ, "TRACELAKE_URL": lake.url}, capture_output=True, text=True, timeout=60)
    assert "line 4 of" in shown.stdout and shown.returncode == 0, shown


def test_a_trace_says_where_its_time_went_and_where_its_error_began(make_lake):
    lake = make_lake()
    start = time.time() - 60
    send_spans(lake, start)
    told = lake.get("/api/v1/traces/1-5759e988-bd862e3fe1be46a994272791/analysis")
    path = [(section["name"], round(section["duration_nano"] / 1e9, 3)) for section in told["critical_path"]]
    # doubles have no nanoseconds to spare at this time of the epoch
    assert path == [("SELECT", 1.5), ("POST /pay", 0.5)], told
    assert told["error_origin"]["name"] == "SELECT"
    assert [span["name"] for span in told["error_origin"]["path"]] == ["POST /pay", "SELECT"]
    assert [usual["spans"] for usual in told["usual"]] == [0, 0] and told["coverage"]["complete"], told
    # a minute later it is slower than what there was
    requests.post(
        f"{lake.otlp_http_url}/v1/traces",
        json={
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]},
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": "5759e988bd862e3fe1be46a9942727aa",
                                    "spanId": "00000000000000aa",
                                    "name": "SELECT",
                                    "startTimeUnixNano": str(int((start + 30) * 1e9)),
                                    "endTimeUnixNano": str(int((start + 31) * 1e9)),
                                }
                            ]
                        }
                    ],
                }
            ]
        },
        timeout=20,
    ).raise_for_status()
    (usual,) = lake.get("/api/v1/traces/5759e988bd862e3fe1be46a9942727aa/analysis", usual="5m")["usual"]
    assert (usual["spans"], usual["faster"], usual["slower_than"]) == (2, 1, 0.5), usual


def test_two_sets_of_rows_are_compared(make_lake):
    lake = make_lake()
    start = time.time() - 60
    send_spans(lake, start)
    told = lake.get("/api/v1/compare", q="error:true", table="spans", start="-1h")
    assert (told["selection"]["rows"], told["baseline"]["rows"]) == (2, 3), told
    fields = {field["field"]: field for field in told["fields"]}
    assert told["fields"][0]["field"] == "status" and fields["status"]["difference"] == 1.0, told
    assert {"value": "cart", "selection": 1, "baseline": 0} in fields["service.name"]["values"], told
    # IDs as keys: bounded, and told
    rows = [{"level": "bad" if number < 15 else "good", **{f"k{number}_{key}": 1 for key in range(800)}} for number in range(30)]
    logs = lake.boto3("logs")
    logs.create_log_group(logGroupName="wide")
    logs.create_log_stream(logGroupName="wide", logStreamName="1")
    events = [{"timestamp": int(start * 1000) + number, "message": json.dumps(row)} for number, row in enumerate(rows)]
    logs.put_log_events(logGroupName="wide", logStreamName="1", logEvents=events)
    told = lake.get("/api/v1/compare", q="$.level:bad", start="-1h")
    assert [told[side]["sampled"] for side in ("selection", "baseline")] == [15, 15], told["coverage"]
    assert told["fields"][0]["field"] == "$.level" and len(told["fields"]) == 20, told["fields"]
    assert ("limit", "fields") in {(problem["kind"], problem["what"]) for problem in told["coverage"]["problems"]}, told["coverage"]
    wrong = requests.get(f"{lake.url}/api/v1/compare", params={"q": "a", "baseline": "(b"}, timeout=20)
    assert wrong.status_code == 400 and "never closed" in wrong.text, wrong.text


def test_what_is_wrong_with_a_condition_is_told_with_its_place(make_lake):
    lake = make_lake()
    answer = requests.get(f"{lake.url}/api/v1/search", params={"q": "timeout trace:({service:cart} > )"}, timeout=20)
    assert answer.status_code == 400, answer.text
    assert "conditions on a span are missing here" in answer.text and '"position":32' in answer.text.replace(" ", ""), answer.text
    tail = requests.get(f"{lake.url}/api/v1/tail", params={"q": "trace:(service:cart)"}, timeout=20)
    assert tail.status_code == 400 and "search" in tail.text, tail.text
