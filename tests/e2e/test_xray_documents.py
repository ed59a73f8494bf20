"""X-Ray documents are answered as they came, byte for byte, by boto3; and what is deleted of one is in no answer and no file."""

import json
import secrets
import time

import duckdb
import pytest
import requests

from test_crash import live_files
from test_delete import CONFIG, order, wait_done


def new_trace():
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def odd(trace, start, secret="nothing"):
    """A segment that no writer of ours would spell so, with two embedded subsegments, one within the other."""
    return (
        f' {{"subsegments" :\t[ {{"start_time":{start:.3f}0,"end_time" : {start + 0.25:.6f},"id":"00000000000000B1","n\\u0061me":"Dynam\\u006fDB",\r\n'
        f'"namespace":"aws","aws":{{"table_name":"\\u00e9té","request_id":"X"}},"metadata":{{"default":{{"who":"{secret}","n":1.50e1}}}},"subsegments":[{{"id":"00000000000000b2",'
        f'"name":"inner","start_time":{start},"in_progress":true}}]}}  ] ,"unknown":[1,{{"a":1.10,"a":-0}}], "http":{{"response":{{"status":"200"}}}},'
        f'"trace_id":"{trace}","id":"00000000000000a1","name":"shop","start_time":{start},"end_time":{start + 1}}}\n'
    )


def late(trace, start):
    return f'{{"type":"subsegment","id":"00000000000000c1","parent_id":"00000000000000b2","trace_id":"{trace}" , "name":"late","start_time":{start:.1f},"end_time":{start + 0.50:.2f}}}'


def below(lake, trace, start):
    """A span of OpenTelemetry below the segment."""
    span = {
        "traceId": trace.replace("-", "")[1:],
        "spanId": "00000000000000d1",
        "parentSpanId": "00000000000000a1",
        "name": "otel",
        "kind": 1,
        "startTimeUnixNano": str(int((start + 0.1) * 1e9)),
        "endTimeUnixNano": str(int((start + 0.2) * 1e9)),
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/traces", json=body, timeout=20).status_code == 200


def put(client, *documents):
    assert client.put_trace_segments(TraceSegmentDocuments=list(documents))["UnprocessedTraceSegments"] == []


def documents(client, trace):
    (told,) = client.batch_get_traces(TraceIds=[trace])["Traces"]
    return {segment["Id"]: segment["Document"] for segment in told["Segments"]}


def retrieved(client, trace):
    """The same by StartTraceRetrieval and ListRetrievedTraces."""
    now = time.time()
    token = client.start_trace_retrieval(TraceIds=[trace], StartTime=now - 10_000, EndTime=now + 60)["RetrievalToken"]
    (told,) = client.list_retrieved_traces(RetrievalToken=token, TraceFormat="XRAY")["Traces"]
    return {span["Id"]: span["Document"] for span in told["Spans"]}


def test_documents_come_back_byte_for_byte_from_memory_blocks_and_merged_blocks(make_lake):
    lake = make_lake(config={**CONFIG, "lake": {**CONFIG["lake"], "late_seal_seconds": 1}})
    client = lake.boto3("xray")
    trace, start = new_trace(), int(time.time()) - 7300
    segment, streamed = odd(trace, start), late(trace, start)
    # SDKs say first that a segment has begun
    lake.completes_spans(1)
    put(client, json.dumps({"id": "00000000000000a1", "trace_id": trace, "name": "shop", "start_time": start, "in_progress": True}))
    assert json.loads(documents(client, trace)["00000000000000a1"])["in_progress"] is True
    put(client, segment)
    below(lake, trace, start)

    def holds(when, *kept):
        told = documents(client, trace)
        assert list(told) == ["00000000000000a1", *(["00000000000000c1"] if len(kept) > 1 else []), "00000000000000d1"], (when, told)
        assert [told[one] for one in ("00000000000000a1", "00000000000000c1")[: len(kept)]] == list(kept), when
        otel = json.loads(told["00000000000000d1"])
        assert (otel["type"], otel["parent_id"], otel["name"]) == ("subsegment", "00000000000000a1", "otel"), when
        assert retrieved(client, trace) == told, when

    holds("in memory", segment)
    lake.restart(kill=True)
    client = lake.boto3("xray")
    holds("after kill -9", segment)
    lake.restart()
    client = lake.boto3("xray")
    holds("from a block", segment)
    put(client, streamed)
    holds("from a block and memory", segment, streamed)
    lake.restart()
    client = lake.boto3("xray")
    lake.wait_until(lambda: lake.status()["lake"]["waiting_blocks"] == 0, 40, what="merged and sealed")
    holds("from a merged block", segment, streamed)
    # SQL sees what each row keeps: its own part
    rows = {row["span_id"]: row["xray_document"] for row in lake.sql("SELECT span_id, xray_document FROM spans")}
    assert rows["00000000000000c1"] == streamed and rows["00000000000000d1"] is None
    assert json.loads(rows["00000000000000a1"])["subsegments"] == ["00000000000000b1"]
    assert json.loads(rows["00000000000000b1"])["subsegments"] == ["00000000000000b2"]
    assert segment == rows["00000000000000a1"].replace('"00000000000000b1"', rows["00000000000000b1"].replace('"00000000000000b2"', rows["00000000000000b2"]))


def test_what_is_deleted_of_a_document_is_told_nowhere(make_lake):
    lake = make_lake(config=CONFIG)
    client = lake.boto3("xray")
    trace, start = new_trace(), int(time.time()) - 60
    put(client, odd(trace, start, secret="alice@example.com"))
    for flushed in (False, True):
        if flushed:
            lake.restart()
            client = lake.boto3("xray")
        assert "alice" in documents(client, trace)["00000000000000a1"]
    taken = order(lake, query='aws.xray.metadata.default.who:="alice@example.com"', table="spans")
    assert wait_done(lake, taken["id"])["rows_deleted"] == 1
    told = documents(client, trace)
    assert "alice" not in json.dumps(told)
    written = json.loads(told["00000000000000a1"])
    assert (written["name"], written["id"]) == ("shop", "00000000000000a1"), "the rest is written from its rows"
    assert set(told) == {"00000000000000a1", "00000000000000b2"}
    assert "alice" not in json.dumps(lake.sql("SELECT * FROM spans"))
    lake.stop()
    files, _ = live_files(lake.data_dir / "store", "spans")
    kept = duckdb.sql(f"SELECT xray_document FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()
    assert kept and not any("alice" in (text or "") for (text,) in kept)


def text(value):
    return {"stringValue": value}


def pairs(**attributes):
    return [{"key": key.replace("__", "."), "value": value if isinstance(value, dict) else text(value)} for key, value in attributes.items()]


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_spans_are_documents_as_opentelemetrys_exporter_writes_them(make_lake, settings):
    lake = make_lake(config=settings)
    trace, start = new_trace(), time.time() - 60
    times = {"startTimeUnixNano": str(int(start * 1e9)), "endTimeUnixNano": str(int((start + 1) * 1e9))}
    listed = {"arrayValue": {"values": [text(key) for key in ("order-id", "items", "vip", "not.there")]}}
    spans = [
        {
            "spanId": "00000000000000a1",
            "name": "GET /pay",
            "kind": 2,
            "attributes": pairs(**{"order-id": "12345", "aws.xray.annotations": listed}, items={"intValue": "5"}, vip=text("true"), plain={"intValue": "7"}),
        },
        {"spanId": "00000000000000a2", "parentSpanId": "00000000000000a1", "name": "POST", "kind": 3, "attributes": pairs(peer__service="ledger <1>")},
        {
            "spanId": "00000000000000a3",
            "parentSpanId": "00000000000000a1",
            "name": "SELECT orders",
            "kind": 3,
            "attributes": pairs(db__system="postgresql", db__name="shop", server__address="db1"),
        },
        {"spanId": "00000000000000a4", "parentSpanId": "00000000000000a1", "name": "S3.PutObject", "kind": 3, "attributes": pairs(rpc__system="aws-api", rpc__service="S3")},
    ]
    spans = [{"traceId": trace.replace("-", "")[1:], **times, **span} for span in spans]
    resource = {"attributes": pairs(service__name="pay", cloud__platform="aws_ecs", aws__ecs__launchtype="fargate", team="7")}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/traces", json=body, timeout=20).status_code == 200
    client = lake.boto3("xray")
    other = new_trace()
    segment = {"name": "shop", "id": "00000000000000b1", "trace_id": other, "start_time": start, "end_time": start + 1}
    put(client, json.dumps({**segment, "annotations": {"zip": "12345", "n": 12345, "flag": "false", "word": "blue"}}))
    if settings:
        lake.wait_flushed()
    (document,) = map(json.loads, documents(client, trace).values())
    assert (document["name"], document["origin"]) == ("pay", "AWS::ECS::Fargate")
    assert document["annotations"] == {"order_id": "12345", "items": 5, "vip": "true"}
    default = document["metadata"]["default"]
    assert default["plain"] == 7 and default["otel.span.name"] == "GET /pay"
    assert {key: value for key, value in default.items() if key.startswith("otel.resource.")} == {
        "otel.resource.service.name": "pay",
        "otel.resource.cloud.platform": "aws_ecs",
        "otel.resource.aws.ecs.launchtype": "fargate",
        "otel.resource.team": 7,
    }
    calls = {one["id"][-2:]: (one["name"], one["namespace"], one.get("metadata", {}).get("default", {}).get("otel.span.name")) for one in document["subsegments"]}
    assert calls == {"a2": ("ledger 1", "remote", "POST"), "a3": ("shop@db1", "remote", "SELECT orders"), "a4": ("S3", "aws", "S3.PutObject")}

    def values(trace):
        now = time.time()
        summaries = client.get_trace_summaries(StartTime=now - 300, EndTime=now + 60)["TraceSummaries"]
        (found,) = [one for one in summaries if one["Id"] == trace]
        return {key: [one["AnnotationValue"] for one in of_it] for key, of_it in found["Annotations"].items()}

    assert values(trace) == {"order_id": [{"StringValue": "12345"}], "items": [{"NumberValue": 5.0}], "vip": [{"StringValue": "true"}]}
    assert values(other) == {
        "zip": [{"StringValue": "12345"}],
        "n": [{"NumberValue": 12345.0}],
        "flag": [{"StringValue": "false"}],
        "word": [{"StringValue": "blue"}],
    }

    def found(expression):
        now = time.time()
        return {one["Id"] for one in client.get_trace_summaries(StartTime=now - 300, EndTime=now + 60, FilterExpression=expression)["TraceSummaries"]}

    assert found('annotation.zip = "12345"') == {other} and found("annotation.zip = 12345") == set()
    assert found("annotation.n = 12345") == {other} and found("annotation.flag = false") == set()
    assert found('annotation[order-id] = "12345"') == {trace} == found('annotation.order_id = "12345"') and found("annotation.items = 5") == {trace}
