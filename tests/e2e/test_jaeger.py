"""Jaeger's query API as Jaeger UI and Grafana's data source call it."""

import json
import time
import uuid

import grpc
import pytest
import requests
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from test_xray_reads import document, put


@pytest.fixture(scope="module")
def shop(make_module_lake):
    """A lake with traces of two services."""
    lake = make_module_lake("jaeger")
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
                "events": [{"timeUnixNano": str(start + 5000), "name": "queued", "attributes": [{"key": "queue.place", "value": {"intValue": str(number)}}]}],
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
    return lake, now


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
    assert front["logs"] == [{"timestamp": (now - 590) * 10**6 + 5, "fields": [{"key": "event", "type": "string", "value": "queued"}, {"key": "queue.place", "type": "int64", "value": 10}]}]
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
    # what an event says, as Jaeger has it, beside attributes of the span and of its process
    assert found(service="frontend", tags=json.dumps({"queue.place": "9"})) == [9]
    assert found(service="frontend", tags=json.dumps({"queue.place": "9", "items": "9", "host.id": "i-1"})) == [9]
    assert found(service="frontend", tags=json.dumps({"queue.place": "9", "items": "8"})) == []
    assert found(service="frontend", tags=json.dumps({"event": "queued", "error": "true"})) == [30, 20, 10]
    assert found(service="stock", tags=json.dumps({"event": "queued"})) == []
    assert found(service="frontend", minDuration="2ms", maxDuration="3ms") == [3, 2]
    assert found(service="frontend", start=(now - 575) * 10**6, end=(now - 574) * 10**6) == [26, 25]
    assert found(traceID=[f"{3:032x}", f"{5:032x}"]) == [3, 5]
    assert get(lake, "traces", 400, **times)["msg"] == "parameter 'service' is required"
    assert "cannot unmarshal" in get(lake, "traces", 400, service="x", tags="{")["msg"]


def jaeger_v3():
    """The messages of `jaeger.api_v3` that clients of the query service send and read (jaeger-idl, proto/api_v3/query_service.proto)."""
    file = descriptor_pb2.FileDescriptorProto(name="query_service.proto", package="jaeger.api_v3", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/duration.proto"])
    text, number = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_INT32
    messages = {
        "GetTraceRequest": [("trace_id", text)],
        "TraceQueryParameters": [
            ("service_name", text),
            ("operation_name", text),
            ("attributes", ".jaeger.api_v3.TraceQueryParameters.AttributesEntry", True),
            ("start_time_min", ".google.protobuf.Timestamp"),
            ("start_time_max", ".google.protobuf.Timestamp"),
            ("duration_min", ".google.protobuf.Duration"),
            ("duration_max", ".google.protobuf.Duration"),
            ("search_depth", number),
        ],
        "FindTracesRequest": [("query", ".jaeger.api_v3.TraceQueryParameters")],
        "GetServicesRequest": [],
        "GetServicesResponse": [("services", text, True)],
        "GetOperationsRequest": [("service", text), ("span_kind", text)],
        "Operation": [("name", text), ("span_kind", text)],
        "GetOperationsResponse": [("operations", ".jaeger.api_v3.Operation", True)],
    }

    def add(message, fields):
        for place, (name, kind, *repeated) in enumerate(fields, 1):
            field = message.field.add(name=name, number=place, label=3 if repeated else 1)
            if isinstance(kind, str):
                field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, kind
            else:
                field.type = kind

    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        add(message, fields)
        if name == "TraceQueryParameters":
            entry = message.nested_type.add(name="AttributesEntry")
            entry.options.map_entry = True
            add(entry, [("key", text), ("value", text)])
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"jaeger.api_v3.{name}")) for name in messages}


V3 = jaeger_v3()


def call(lake, method, request, answer, token=None):
    """Messages of one call of the query service."""
    with grpc.insecure_channel(lake.otlp_grpc) as channel:
        calls = channel.unary_stream(
            f"/jaeger.api_v3.QueryService/{method}", request_serializer=V3[f"{method}Request"].SerializeToString, response_deserializer=answer.FromString
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return list(calls(V3[f"{method}Request"](**request), timeout=30, metadata=metadata))


def spans_of(answers):
    """Of each span: trace, service, name, attributes."""
    found = []
    for answer in answers:
        for of_resource in answer.resource_spans:
            service = {one.key: one.value.string_value for one in of_resource.resource.attributes}["service.name"]
            for of_scope in of_resource.scope_spans:
                found += [(int(span.trace_id.hex(), 16), service, span.name, span) for span in of_scope.spans]
    return found


def test_the_grpc_query_service_answers_as_the_http_api(shop):
    lake, now = shop
    (services,) = call(lake, "GetServices", {}, V3["GetServicesResponse"])
    assert list(services.services) == ["frontend", "stock"]
    (operations,) = call(lake, "GetOperations", {"service": "stock"}, V3["GetOperationsResponse"])
    assert [(one.name, one.span_kind) for one in operations.operations] == [("reserve", "server")]
    (operations,) = call(lake, "GetOperations", {"service": "stock", "span_kind": "client"}, V3["GetOperationsResponse"])
    assert not operations.operations

    front, stock = sorted(spans_of(call(lake, "GetTrace", {"trace_id": f"{10:032x}"}, trace_pb2.TracesData)), key=lambda one: one[1])
    assert (front[:3], stock[:3]) == ((10, "frontend", "GET /pay"), (10, "stock", "reserve"))
    span = front[3]
    start = (now - 590) * 10**9
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.kind, span.status.code, span.status.message) == (start, start + 10**7, 2, 2, "boom")
    assert {one.key: one.value.int_value for one in span.attributes if one.key == "items"} == {"items": 10}
    assert [(event.name, event.time_unix_nano, event.attributes[0].key) for event in span.events] == [("queued", start + 5000, "queue.place")]
    assert stock[3].parent_span_id == span.span_id and span.parent_span_id == b""

    def found(**asked):
        times = {"start_time_min": timestamp_pb2.Timestamp(seconds=now - 3600), "start_time_max": timestamp_pb2.Timestamp(seconds=now)}
        answers = call(lake, "FindTraces", {"query": {"search_depth": 100, **times, **asked}}, trace_pb2.TracesData)
        spans = spans_of(answers)
        assert all(len([one for one in spans if one[0] == trace]) == 2 for trace, *_ in spans), "whole traces"
        return sorted({trace for trace, *_ in spans}, reverse=True)

    assert found(service_name="frontend") == list(range(30, 0, -1))
    assert found(service_name="frontend", search_depth=3) == [30, 29, 28]
    assert len(found(service_name="stock", search_depth=0)) == 20
    assert found(service_name="frontend", attributes={"error": "true"}) == [30, 20, 10]
    assert found(service_name="frontend", attributes={"queue.place": "9", "items": "9"}) == [9]
    two, three = duration_pb2.Duration(nanos=2 * 10**6), duration_pb2.Duration(nanos=3 * 10**6)
    assert found(service_name="frontend", operation_name="GET /cart", duration_min=two, duration_max=three) == [3]
    for method, request, code in [
        ("GetTrace", {"trace_id": uuid.uuid4().hex}, grpc.StatusCode.NOT_FOUND),
        ("GetTrace", {"trace_id": "what"}, grpc.StatusCode.INVALID_ARGUMENT),
        ("FindTraces", {"query": {"service_name": "frontend"}}, grpc.StatusCode.INVALID_ARGUMENT),
        ("FindTraces", {"query": {"start_time_min": timestamp_pb2.Timestamp(seconds=1), "start_time_max": timestamp_pb2.Timestamp(seconds=2)}}, grpc.StatusCode.INVALID_ARGUMENT),
    ]:
        with pytest.raises(grpc.RpcError) as failed:
            call(lake, method, request, trace_pb2.TracesData)
        assert failed.value.code() == code, failed.value


def test_the_grpc_query_service_wants_a_token_and_cuts_large_traces_into_messages(make_lake):
    token = "a-long-token-of-jaeger"
    lake = make_lake(config={"auth": {"bearer_tokens": [token]}})
    trace, start = uuid.uuid4().hex, (int(time.time()) - 60) * 10**9
    spans = [{"traceId": trace, "spanId": f"{number + 1:016x}", "name": "x" * 200, "kind": 1, "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 1)} for number in range(1200)]
    body = {"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "many"}}]}, "scopeSpans": [{"spans": spans}]}]}
    answer = requests.post(f"{lake.url}/v1/traces", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    assert answer.ok, answer.text
    answers = call(lake, "GetTrace", {"trace_id": trace}, trace_pb2.TracesData, token)
    assert [len(spans_of([one])) for one in answers] == [500, 500, 200]
    assert len({one[3].span_id for one in spans_of(answers)}) == 1200
    for wrong in (None, "another"):
        with pytest.raises(grpc.RpcError) as failed:
            call(lake, "GetServices", {}, V3["GetServicesResponse"], wrong)
        assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED, failed.value
        assert "asks for a token" in failed.value.details(), "in gRPC's own words, not those of a 401"


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
