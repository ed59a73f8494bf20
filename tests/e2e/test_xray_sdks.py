"""X-Ray's SDK for Node.js and OpenTelemetry with X-Ray's propagator and IDs: one request through both is one tree, whoever reads it; the SDK samples by rules of the API."""

import http.server
import json
import os
import subprocess
import threading
import time

import pytest
import requests
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.sdk.extension.aws.trace import AwsXRayIdGenerator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import lake as lakes

PROPAGATOR = AwsXRayPropagator()
NODE = lakes.REPO / "tests" / "node"


def tracer(lake, service):
    provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=AwsXRayIdGenerator())
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{lake.url}/v1/traces")))
    return provider.get_tracer("shop")


@pytest.fixture
def backend(lake):
    """The address of a service with the OpenTelemetry SDK."""
    spans = tracer(lake, "backend")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            context = PROPAGATOR.extract(dict(self.headers.items()))
            with spans.start_as_current_span("GET /stock", context, otel.SpanKind.SERVER, {"http.response.status_code": 200}):
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/stock"
    server.shutdown()


@pytest.fixture
def shop(lake, backend):
    """The address of a service with the X-Ray SDK for Node.js, which calls the other."""
    if not (NODE / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=True, timeout=300)
    env = {**os.environ, "AWS_XRAY_DAEMON_ADDRESS": lake.xray, "NEXT": backend, "AWS_XRAY_LOG_LEVEL": "silent"}
    process = subprocess.Popen(["node", "service.js"], cwd=NODE, env=env, stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()


def test_one_request_through_both_sdks_is_one_tree_whoever_reads_it(lake, shop):
    with tracer(lake, "frontend").start_as_current_span("GET /", kind=otel.SpanKind.CLIENT) as span:
        headers = {}
        PROPAGATOR.inject(headers)
        assert requests.get(shop + "/call", headers=headers, timeout=20).text == "called"
        trace_id = f"{span.get_span_context().trace_id:032x}"
    xray_id = f"1-{trace_id[:8]}-{trace_id[8:]}"
    assert headers["X-Amzn-Trace-Id"].startswith(f"Root={xray_id};")

    # frontend's call > the shop's segment > its call > backend's span
    trace = lake.wait_until(lambda: (one := lake.trace(trace_id)) and one["n_spans"] == 4 and one, what="four spans")
    names = [(one["resource_attributes"]["service.name"], one["kind"], one["depth"], one["parent"]) for one in trace["spans"]]
    assert names == [("frontend", "CLIENT", 0, -1), ("node-shop", "SERVER", 1, 0), ("node-shop", "CLIENT", 2, 1), ("backend", "SERVER", 3, 2)]
    ids = [one["span_id"] for one in trace["spans"]]

    client = lake.boto3("xray")
    (told,) = client.batch_get_traces(TraceIds=[xray_id])["Traces"]
    documents = {one["Id"]: json.loads(one["Document"]) for one in told["Segments"]}
    # a call that is in no segment has one around it
    (front,) = [one for one in documents.values() if [inner["id"] for inner in one.get("subsegments", [])] == [ids[0]]]
    assert [one["name"] for one in (front, documents[ids[1]], documents[ids[3]])] == ["frontend", "node-shop", "backend"]
    assert documents[ids[1]]["parent_id"] == ids[0] and documents[ids[3]]["parent_id"] == ids[2]
    assert [one["id"] for one in documents[ids[1]]["subsegments"]] == [ids[2]]
    assert documents[ids[1]]["annotations"] == {"tenant": "a"}
    assert documents[ids[1]]["metadata"]["shop"]["cart"] == {"items": [1, 2.5, None], "note": "für später"}
    found = client.get_trace_summaries(
        StartTime=0, EndTime=4e9, FilterExpression='edge("frontend", "node-shop") AND edge("node-shop", "backend") AND annotation.tenant = "a"'
    )
    assert [one["Id"] for one in found["TraceSummaries"]] == [xray_id]

    (shown,) = requests.get(f"{lake.url}/jaeger/api/traces/{trace_id}", timeout=20).json()["data"]
    parents = {one["spanID"]: [ref["spanID"] for ref in one["references"]] for one in shown["spans"]}
    assert parents == {ids[0]: [], ids[1]: [ids[0]], ids[2]: [ids[1]], ids[3]: [ids[2]]}
    services = {one["spanID"]: shown["processes"][one["processID"]]["serviceName"] for one in shown["spans"]}
    assert [services[number] for number in ids] == ["frontend", "node-shop", "node-shop", "backend"]


def test_a_job_whose_only_span_is_a_call_shows_whom_it_calls(lake):
    """As instrumentation of botocore and psycopg sends it, where nothing else of the process is instrumented."""
    job = tracer(lake, "nightly")
    aws = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "PutItem", "aws.dynamodb.table_names": ["orders"], "http.status_code": 500}
    database = {"db.system": "postgresql", "db.name": "shop", "db.statement": "SELECT 1", "net.peer.name": "db1.internal", "net.peer.port": 5432}
    ids = []
    for name, attributes in (("DynamoDB.PutItem", aws), ("SELECT", database)):
        with job.start_as_current_span(name, kind=otel.SpanKind.CLIENT, attributes=attributes) as span:
            context = span.get_span_context()
            ids.append((f"{context.trace_id:032x}", f"{context.span_id:016x}"))
    for trace_id, _ in ids:
        lake.wait_until(lambda of=trace_id: lake.trace(of), what="the span")
    client = lake.boto3("xray")
    xray_ids = [f"1-{trace_id[:8]}-{trace_id[8:]}" for trace_id, _ in ids]

    now = time.time()

    def edges():
        services = client.get_service_graph(StartTime=now - 600, EndTime=now + 60)["Services"]
        names = {one["ReferenceId"]: (one["Name"], one.get("Type", "")) for one in services}
        return {(names[one["ReferenceId"]][0], names[edge["ReferenceId"]]): edge["SummaryStatistics"] for one in services for edge in one["Edges"]}

    table, postgres = ("orders", "AWS::DynamoDB::Table"), ("shop@db1.internal", "Database::postgresql")
    told = lake.wait_until(lambda: len(found := edges()) == 2 and found, what="two edges")
    assert told.keys() == {("nightly", table), ("nightly", postgres)}
    assert told[("nightly", table)]["FaultStatistics"]["TotalCount"] == 1 and told[("nightly", postgres)]["OkCount"] == 1

    for expression, expected in [
        ('service("orders") { fault }', xray_ids[:1]),
        ('edge("nightly", "shop@db1.internal")', xray_ids[1:]),
        ('service("nightly") { root }', xray_ids),
    ]:
        found = client.get_trace_summaries(StartTime=now - 600, EndTime=now + 60, FilterExpression=expression)["TraceSummaries"]
        assert {one["Id"] for one in found} == set(expected), expression

    (trace,) = client.batch_get_traces(TraceIds=[xray_ids[1]])["Traces"]
    (segment,) = trace["Segments"]
    document = json.loads(segment["Document"])
    (call,) = document["subsegments"]
    assert (document["name"], call["name"], call["namespace"], call["id"]) == ("nightly", "shop@db1.internal", "remote", ids[1][1])
    assert segment["Id"] == document["id"] != call["id"] and "parent_id" not in document and "type" not in document
    assert call["sql"]["sanitized_query"] == "SELECT 1" and "sql" not in document


def test_the_sdk_for_node_samples_by_rules_of_the_api(lake, backend, request):
    client = lake.boto3("xray")
    rule = {"ResourceARN": "*", "ReservoirSize": 0, "ServiceName": "*", "ServiceType": "*", "Host": "*", "HTTPMethod": "*", "Version": 1}
    client.create_sampling_rule(SamplingRule={**rule, "RuleName": "loud", "Priority": 1, "FixedRate": 1, "URLPath": "/loud*"})
    client.create_sampling_rule(SamplingRule={**rule, "RuleName": "quiet", "Priority": 2, "FixedRate": 0, "URLPath": "/quiet*"})
    shop = request.getfixturevalue("shop")

    def is_ruled():
        requests.get(shop + "/loud", timeout=20)
        found = client.get_trace_summaries(StartTime=0, EndTime=4e9, FilterExpression='service("node-shop") { http.url ENDSWITH "/loud" }')["TraceSummaries"]
        for one in found:
            (trace,) = client.batch_get_traces(TraceIds=[one["Id"]])["Traces"]
            document = json.loads(trace["Segments"][0]["Document"])
            if document["aws"].get("xray", {}).get("sampling_rule_name") == "loud" or document["aws"].get("xray", {}).get("rule_name") == "loud":
                return True
        return False

    lake.wait_until(is_ruled, 30, what="a segment that the rule sampled")
    for _ in range(20):
        requests.get(shop + "/quiet", timeout=20)
    # the SDK says every ten seconds what it did
    def told():
        sums = client.get_sampling_statistic_summaries()["SamplingStatisticSummaries"]
        return {name: sum(one["RequestCount"] for one in sums if one["RuleName"] == name) for name in ("loud", "quiet")}

    lake.wait_until(lambda: told()["quiet"] >= 20, 40, what="statistics of the SDK")
    found = client.get_trace_summaries(StartTime=0, EndTime=4e9, FilterExpression='http.url ENDSWITH "/quiet"')["TraceSummaries"]
    assert found == []
