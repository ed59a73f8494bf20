"""What X-Ray's clients read, by boto3 and the AWS CLI: one trace of three protocols as documents and as a summary; filters, pages, errors."""

import datetime
import json
import os
import subprocess
import time

import pytest
import requests
from botocore.exceptions import ClientError

import lake as lakes
from test_one_trace import send_request


def document(number, start, took=0.1, **more):
    """A segment of a trace of its own."""
    trace = f"1-{int(start):08x}-{number:024x}"
    return trace, {"name": "shop", "id": f"{number:016x}", "trace_id": trace, "start_time": start, "end_time": start + took, **more}


def put(client, documents):
    for at in range(0, len(documents), 50):
        answer = client.put_trace_segments(TraceSegmentDocuments=[json.dumps(one) for one in documents[at : at + 50]])
        assert answer["UnprocessedTraceSegments"] == []


def summaries(client, seconds=60, ahead=60, **asked):
    """Ids of all pages, in order."""
    now = time.time()
    pages = client.get_paginator("get_trace_summaries")
    found = [one for page in pages.paginate(StartTime=now - seconds, EndTime=now + ahead, **asked) for one in page["TraceSummaries"]]
    ids = [one["Id"] for one in found]
    assert len(ids) == len(set(ids)), "a trace is told twice"
    return found


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_one_trace_of_three_protocols_is_read_by_xray_clients(make_lake, monkeypatch, settings):
    lake = make_lake(config=settings)
    xray_id, hex_id, sent = send_request(lake, monkeypatch)
    lake.wait_until(lambda: (trace := lake.trace(xray_id)) and trace["n_spans"] == 5, what="five spans")
    if settings:
        lake.wait_flushed()
    client = lake.boto3("xray")

    answer = client.batch_get_traces(TraceIds=[xray_id, "1-00000000-000000000000000000000001"])
    assert answer["UnprocessedTraceIds"] == ["1-00000000-000000000000000000000001"]
    (trace,) = answer["Traces"]
    assert (trace["Id"], trace["LimitExceeded"]) == (xray_id, False)
    documents = {segment["Id"]: json.loads(segment["Document"]) for segment in trace["Segments"]}
    # the X-Ray SDK's segment with its subsegment, then a segment for each server span; an internal span is a subsegment
    assert list(documents) == [sent["segment"], sent["checkout"], sent["payment"]]
    assert all(one["trace_id"] == xray_id for one in documents.values())
    front = documents[sent["segment"]]
    assert (front["name"], front["annotations"]) == ("gateway", {"customer": "anna"})
    assert front["http"]["request"] == {"method": "POST", "url": "https://shop.example/checkout"}
    assert [(one["id"], one["namespace"]) for one in front["subsegments"]] == [(sent["subsegment"], "remote")]
    assert documents[sent["checkout"]]["parent_id"] == sent["subsegment"]
    assert documents[sent["payment"]]["fault"] is True
    assert [one["id"] for one in documents[sent["payment"]]["subsegments"]] == [sent["ledger"]]
    # W3C's spelling is the same trace
    again = client.batch_get_traces(TraceIds=[hex_id])["Traces"]
    assert again[0]["Segments"] == trace["Segments"]

    def ids(expression):
        return [one["Id"] for one in summaries(client, FilterExpression=expression)]

    (summary,) = summaries(client)
    assert summary["EntryPoint"]["Name"] == "gateway" and summary["Http"]["HttpMethod"] == "POST"
    assert {service["Name"] for service in summary["ServiceIds"]} == {"gateway", "checkout", "payment"}
    assert summary["Annotations"]["customer"][0]["AnnotationValue"] == {"StringValue": "anna"}
    assert summary["HasFault"] is False and summary["IsPartial"] is False
    for expression in ['annotation.customer = "anna"', 'service("payment") { fault }', 'edge("gateway", "checkout")', "ok AND responsetime < 10"]:
        assert ids(expression) == [xray_id], expression
    for expression in ["fault", 'service("gateway") { fault }', 'edge("checkout", "gateway")', 'annotation.customer = "bert"']:
        assert ids(expression) == [], expression

    def cli(*arguments):
        command = [lakes.tool("aws"), "xray", *arguments, "--endpoint-url", lake.url, "--output", "json"]
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **keys})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    now = time.time()
    times = ["--start-time", str(now - 300), "--end-time", str(now + 60)]
    told = cli("get-trace-summaries", *times, "--filter-expression", 'service("checkout")')
    assert [one["Id"] for one in told["TraceSummaries"]] == [xray_id]
    assert cli("batch-get-traces", "--trace-ids", xray_id)["Traces"][0]["Segments"] == trace["Segments"]


def test_summaries_go_on_from_page_to_page_and_tell_each_trace_once(lake):
    """More spans than a page looks at; traces whose parts lie on different pages."""
    client = lake.boto3("xray")
    now = time.time()
    made = {}
    for number in range(1, 1501):
        trace, first = document(number, now - 30 + number / 100, fault=number % 3 == 0)
        late = {"name": "late", "id": f"{number + 10_000:016x}", "trace_id": trace, "parent_id": first["id"]}
        made[trace] = [first, {**late, "start_time": first["start_time"] + 10, "end_time": first["start_time"] + 10.05}]
    put(client, [one for documents in made.values() for one in documents])
    found = summaries(client, 600, Sampling=False)
    assert {one["Id"] for one in found} == made.keys()
    assert all(len(one["ServiceIds"]) == 2 for one in found)
    faults = summaries(client, 600, FilterExpression="fault")
    assert {one["Id"] for one in faults} == {trace for trace, (first, _) in made.items() if first["fault"]}
    half = summaries(client, 600, SamplingStrategy={"Name": "FixedRate", "Value": 0.5})
    assert 600 < len(half) < 900
    assert [one["Id"] for one in half] == [one["Id"] for one in summaries(client, 600, SamplingStrategy={"Name": "FixedRate", "Value": 0.5})]


def test_a_trace_that_grows_between_two_pages_is_not_lost(lake):
    """A part that begins later than what earlier pages told moves a trace to a page that is past: it is told where it would have been."""
    client = lake.boto3("xray")
    now = time.time()
    made = [document(number, now - 58 + number / 100, fault=number % 9 < 4) for number in range(1, 5201)]
    put(client, [one for _, one in made])
    frame = {"StartTime": datetime.datetime.fromtimestamp(now - 60), "EndTime": datetime.datetime.fromtimestamp(now + 60)}
    faults = [trace for trace, one in made if one["fault"]]
    for number, (more, asked_for) in enumerate([({}, [trace for trace, _ in made]), ({"FilterExpression": "fault"}, faults)]):
        page = client.get_trace_summaries(**frame, **more)
        told = [one["Id"] for one in page["TraceSummaries"]]
        oldest, first = made[number]
        assert oldest in asked_for and oldest not in told and "NextToken" in page
        late = {"name": "late", "id": f"{9_000_000 + number:016x}", "trace_id": oldest, "parent_id": first["id"], "fault": True}
        put(client, [{**late, "start_time": now - 1, "end_time": now - 0.5}])
        while "NextToken" in page:
            page = client.get_trace_summaries(**frame, **more, NextToken=page["NextToken"])
            told += [one["Id"] for one in page["TraceSummaries"]]
        assert sorted(told) == sorted(asked_for), more


def test_time_frames_are_by_start_by_part_or_by_end_of_a_segment(lake):
    client = lake.boto3("xray")
    now = time.time()
    long, first = document(1, now - 3000, took=2000)
    short, second = document(2, now - 1500, took=1)
    put(client, [first, second])

    def ids(start, end, kind):
        frame = {"StartTime": datetime.datetime.fromtimestamp(now + start), "EndTime": datetime.datetime.fromtimestamp(now + end)}
        return {one["Id"] for one in client.get_trace_summaries(**frame, TimeRangeType=kind)["TraceSummaries"]}

    assert ids(-3100, -2900, "TraceId") == {long}
    assert ids(-1600, -900, "TraceId") == {short}
    assert ids(-1600, -900, "Service") == {long, short}
    assert ids(-1100, -900, "Event") == {long}
    assert ids(-3100, -2900, "Event") == {long}
    assert ids(-3100, -2900, "Service") == set()


def test_a_retrieval_outlives_the_process_that_was_asked(make_lake):
    """As another node behind a balancer knows it: its token says which traces."""
    lake = make_lake()
    now = time.time()
    sent = [document(number, now - 30) for number in range(1, 46)]
    put(lake.boto3("xray"), [one for _, one in sent])
    ids = [trace for trace, _ in sent]
    token = lake.boto3("xray").start_trace_retrieval(TraceIds=ids, StartTime=now - 600, EndTime=now + 60)["RetrievalToken"]
    lake.restart()
    client = lake.boto3("xray")
    found, asked = [], {}
    while True:
        page = client.list_retrieved_traces(RetrievalToken=token, **asked)
        found += [one["Id"] for one in page["Traces"]]
        if "NextToken" not in page:
            break
        asked = {"NextToken": page["NextToken"]}
    assert found == ids
    client.cancel_trace_retrieval(RetrievalToken=token)
    assert client.list_retrieved_traces(RetrievalToken=token)["RetrievalStatus"] == "CANCELLED"


def test_wrong_calls_are_told_what_is_wrong(lake):
    client = lake.boto3("xray")
    now = time.time()
    frame = {"StartTime": now - 60, "EndTime": now}

    def refused(call, **asked):
        with pytest.raises(ClientError) as failed:
            call(**asked)
        error = failed.value.response
        assert error["Error"]["Code"] == "InvalidRequestException" and error["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Error"]["Message"]

    assert refused(client.batch_get_traces, TraceIds=[f"1-00000000-{n:024x}" for n in range(6)]) == "Exceeding maximum query size: 5"
    assert "NextToken" in refused(client.batch_get_traces, TraceIds=["1-00000000-000000000000000000000001"], NextToken="x")
    assert client.batch_get_traces(TraceIds=["nonsense"])["UnprocessedTraceIds"] == ["nonsense"]
    asked = client.get_trace_summaries
    assert refused(asked, **frame, FilterExpression="fault AND speed > 3") == (
        "Invalid filter expression at character 11: speed is no keyword"
    )
    assert asked(**frame, FilterExpression='rootcause.fault.service { name = "x" }')["TraceSummaries"] == []
    assert "NextToken" in refused(asked, **frame, NextToken="x")
    assert "before EndTime" in refused(asked, StartTime=now, EndTime=now - 1)
    assert "FixedRate" in refused(asked, **frame, SamplingStrategy={"Name": "FixedRate", "Value": 2})
    assert asked(**frame)["TraceSummaries"] == []


def test_the_graph_of_a_group_is_that_of_its_traces_and_of_the_time_alone(lake):
    """Requests of two hours, a few of them of a service whose only name is the one that AWS's instrumentation found out."""
    client = lake.boto3("xray")
    now = time.time()
    base = now - now % 60 - 600
    sent = []
    for hour in (0, 1):
        # so many spans that it is worth it to look for those that are needed
        for number in range(1100):
            user = {"user": "alice"} if number < 3 else {}
            start = base - 3600 * hour + number % 60
            within = {"id": f"{10_000 + number:016x}", "name": "load", "start_time": start, "end_time": start + 0.05}
            sent.append(document(2000 * hour + number + 1, start, **user, subsegments=[within])[1])
    put(client, sent)
    local = {"key": "aws.local.service", "value": {"stringValue": "orders"}}
    span = {"traceId": f"{int(base):08x}{9000:024x}", "spanId": f"{900:016x}", "name": "GET /", "kind": 2, "attributes": [local]}
    span |= {"startTimeUnixNano": str(int(base) * 10**9), "endTimeUnixNano": str(int(base + 1) * 10**9)}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "unknown_service:java"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/traces", json=body, timeout=30).status_code == 200

    def services(start, group):
        graph = client.get_service_graph(StartTime=start, EndTime=start + 120, GroupName=group)
        return {one["Name"]: one["SummaryStatistics"]["TotalCount"] for one in graph["Services"] if "SummaryStatistics" in one}

    groups = {"alice": 'user = "alice"', "others": '!user = "alice"', "orders": 'service("orders")', "nobody": 'user = "nobody"'}
    for name, expression in groups.items():
        client.create_group(GroupName=name, FilterExpression=expression)
    assert services(base, "alice") == {"shop": 3} == services(base - 3600, "alice")
    assert services(base, "others") == {"shop": 1097, "orders": 1} and services(base - 3600, "others") == {"shop": 1097}
    assert services(base, "orders") == {"orders": 1} and services(base - 3600, "orders") == {}
    assert services(base, "nobody") == {}
    of_alice = {"StartTime": base, "EndTime": base + 120, "GroupName": "alice", "EntitySelectorExpression": 'service("shop")'}
    series = client.get_time_series_service_statistics(**of_alice)["TimeSeriesServiceStatistics"]
    assert sum(one["ServiceSummaryStatistics"]["TotalCount"] for one in series) == 3
    assert [one["ServiceIds"][0]["Name"] for one in summaries(client, 3600, FilterExpression='service("orders")')] == ["orders"]
