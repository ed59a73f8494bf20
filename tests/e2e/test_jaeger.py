"""Jaeger's query API as Jaeger UI and Grafana's data source call it."""

import json
import time

import pytest
import requests

from test_xray_reads import document, put


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A lake with traces of two services."""
    import lake as lakes

    lake = lakes.Lake(tmp_path_factory.mktemp("jaeger"))
    now = int(time.time())
    spans = []
    for number in range(1, 31):
        trace = f"{number:032x}"
        start = (now - 600 + number) * 10**9
        failed = {"status": {"code": 2, "message": "boom"}} if number % 10 == 0 else {}
        spans.append((
            "frontend",
            {
                "traceId": trace,
                "spanId": f"{number:014x}aa",
                "name": "GET /cart" if number % 2 else "GET /pay",
                "kind": 2,
                "startTimeUnixNano": str(start),
                "endTimeUnixNano": str(start + number * 10**6),
                "attributes": [{"key": "http.route", "value": {"stringValue": "/cart"}}, {"key": "items", "value": {"intValue": str(number)}}],
                "events": [{"timeUnixNano": str(start + 5000), "name": "queued", "attributes": []}],
                **failed,
            },
        ))
        spans.append((
            "stock",
            {
                "traceId": trace,
                "spanId": f"{number:014x}bb",
                "parentSpanId": f"{number:014x}aa",
                "name": "reserve",
                "kind": 2,
                "startTimeUnixNano": str(start + 1000),
                "endTimeUnixNano": str(start + 2000),
            },
        ))
    resource = lambda service: {"attributes": [{"key": "service.name", "value": {"stringValue": service}}, {"key": "host.id", "value": {"stringValue": "i-1"}}]}
    body = {"resourceSpans": [{"resource": resource(service), "scopeSpans": [{"spans": [span]}]} for service, span in spans]}
    answer = requests.post(f"{lake.url}/v1/traces", json=body, timeout=20)
    assert answer.ok, answer.text
    yield lake, now
    lake.close()


def get(lake, path, status=200, **asked):
    answer = requests.get(f"{lake.url}/jaeger/api/{path}", params=asked, timeout=30)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"data", "total", "limit", "offset", "errors"}
    return body["data"] if status == 200 else body["errors"][0]


def test_services_and_operations(shop):
    lake, _ = shop
    assert get(lake, "services") == ["frontend", "stock"]
    assert get(lake, "services/frontend/operations") == ["GET /cart", "GET /pay"]
    assert get(lake, "operations", service="stock") == [{"name": "reserve", "spanKind": "server"}]
    assert get(lake, "operations", service="stock", spanKind="client") == []
    assert get(lake, "services/nobody/operations") == []
    assert get(lake, "operations", 400)["code"] == 400


def test_a_trace_has_processes_references_and_typed_tags(shop):
    lake, now = shop
    (trace,) = get(lake, f"traces/{10:032x}")
    # Jaeger leaves zeros in front away
    assert get(lake, "traces/a") == [trace]
    assert {one["serviceName"] for one in trace["processes"].values()} == {"frontend", "stock"}
    front, stock = trace["spans"]
    assert (front["operationName"], front["duration"], front["references"]) == ("GET /pay", 10_000, [])
    assert front["startTime"] == (now - 590) * 10**6
    tags = {one["key"]: (one["type"], one["value"]) for one in front["tags"]}
    assert tags["items"] == ("int64", 10) and tags["error"] == ("bool", True) and tags["span.kind"] == ("string", "server")
    assert front["logs"] == [{"timestamp": (now - 590) * 10**6 + 5, "fields": [{"key": "event", "type": "string", "value": "queued"}]}]
    assert stock["references"] == [{"refType": "CHILD_OF", "traceID": f"{10:032x}", "spanID": front["spanID"]}]
    assert get(lake, f"traces/{'f' * 32}", 404)["msg"] == "trace not found"
    assert get(lake, "traces/what", 400)["code"] == 400


def test_traces_are_searched(shop):
    lake, now = shop
    times = {"start": (now - 3600) * 10**6, "end": now * 10**6}

    def found(**asked):
        return [int(one["traceID"], 16) for one in get(lake, "traces", **{"limit": 100, **times, **asked})]

    assert found(service="frontend") == list(range(30, 0, -1))
    assert found(service="frontend", limit=3) == [30, 29, 28]
    assert len(get(lake, "traces", service="stock", lookback="1h")) == 20
    assert found(service="frontend", operation="GET /cart", limit=2) == [29, 27]
    assert found(service="frontend", tags=json.dumps({"error": "true"})) == [30, 20, 10]
    assert found(service="frontend", tags=json.dumps({"http.route": "/cart", "items": "7"})) == [7]
    assert found(service="frontend", tag=["items:8"]) == [8]
    assert found(service="stock", tags=json.dumps({"items": "7"})) == []
    assert found(service="frontend", tags=json.dumps({"host.id": "i-1"}), minDuration="29ms") == [30, 29]
    assert found(service="frontend", minDuration="2ms", maxDuration="3ms") == [3, 2]
    assert found(service="frontend", start=(now - 575) * 10**6, end=(now - 574) * 10**6) == [26, 25]
    assert found(traceID=[f"{3:032x}", f"{5:032x}"]) == [3, 5]
    assert get(lake, "traces", 400, **times)["msg"] == "parameter 'service' is required"
    assert "cannot unmarshal" in get(lake, "traces", 400, service="x", tags="{")["msg"]


def test_dependencies_are_calls_between_services(shop):
    lake, now = shop
    asked = {"endTs": now * 1000, "lookback": 3_600_000}
    assert get(lake, "dependencies", **asked) == [{"parent": "frontend", "child": "stock", "callCount": 30}]
    assert get(lake, "dependencies", endTs=(now - 7200) * 1000, lookback=60_000) == []


def test_traces_are_retrieved_page_by_page(lake):
    """Transaction search's way to traces: the same documents, at most a hundred a page."""
    client = lake.boto3("xray")
    now = time.time()
    made = {}
    for number in range(1, 8):
        trace, one = document(number, now - 60 + number)
        below = [{**document(1000 * number + child, now - 60 + number)[1], "trace_id": trace, "parent_id": one["id"]} for child in range(40)]
        made[trace] = {one["id"], *(child["id"] for child in below)}
        put(client, [one, *below])
    unknown = f"1-{int(now):08x}-{'f' * 24}"
    token = client.start_trace_retrieval(TraceIds=[*made, unknown], StartTime=now - 3600, EndTime=now + 60)["RetrievalToken"]
    for format, member in (("XRAY", "id"), ("OTEL", "spanId")):
        found, asked = {}, {}
        while True:
            page = client.list_retrieved_traces(RetrievalToken=token, TraceFormat=format, **asked)
            assert page["RetrievalStatus"] == "COMPLETE" and page["TraceFormat"] == format
            assert len(page["Traces"]) <= 5 and sum(len(one["Spans"]) for one in page["Traces"]) <= 100
            for one in page["Traces"]:
                for span in one["Spans"]:
                    assert json.loads(span["Document"])[member] == span["Id"]
                    found.setdefault(one["Id"], []).append(span["Id"])
            if "NextToken" not in page:
                break
            asked = {"NextToken": page["NextToken"]}
        assert {trace: set(spans) for trace, spans in found.items()} == made
        assert all(len(spans) == 41 for spans in found.values())
    graph = client.get_retrieved_traces_graph(RetrievalToken=token)
    assert "shop" in {one["Service"]["Name"] for one in graph["Services"]} and graph["RetrievalStatus"] == "COMPLETE"
    early = client.start_trace_retrieval(TraceIds=list(made), StartTime=now - 7200, EndTime=now - 3600)["RetrievalToken"]
    assert client.list_retrieved_traces(RetrievalToken=early)["Traces"] == []
    client.cancel_trace_retrieval(RetrievalToken=token)
    assert client.list_retrieved_traces(RetrievalToken=token)["RetrievalStatus"] == "CANCELLED"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_retrieved_traces(RetrievalToken="what")
