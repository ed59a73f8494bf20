"""The service graph and its figures, by boto3, the AWS CLI and our own API: three protocols in one graph, sums to the letter, pages, errors."""

import json
import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

import lake as lakes
from test_one_trace import send_request
from test_xray_reads import document, put


def graph(client, start, end, **asked):
    """All pages of a graph: services by (name, type), and edges by both."""
    pages = client.get_paginator("get_service_graph")
    services = [one for page in pages.paginate(StartTime=start, EndTime=end, **asked) for one in page["Services"]]
    return by_name(services)


def by_name(services):
    names = {one["ReferenceId"]: (one["Name"], one.get("Type", "")) for one in services}
    assert len(names) == len(services), "a service is told twice"
    edges = {(names[one["ReferenceId"]], names[edge["ReferenceId"]]): edge for one in services for edge in one["Edges"]}
    return {names[one["ReferenceId"]]: one for one in services}, edges


def counts(statistics):
    errors, faults = statistics["ErrorStatistics"], statistics["FaultStatistics"]
    assert statistics["TotalCount"] == statistics["OkCount"] + errors["TotalCount"] + faults["TotalCount"]
    assert errors["TotalCount"] == errors["ThrottleCount"] + errors["OtherCount"]
    return statistics["OkCount"], errors["TotalCount"], errors["ThrottleCount"], faults["TotalCount"]


@pytest.mark.parametrize("settings", [{}, {"ingest": {"flush_age_seconds": 1}}], ids=["fresh", "flushed"])
def test_services_of_three_protocols_are_one_graph(make_lake, monkeypatch, settings):
    lake = make_lake(config=settings)
    xray_id, _, _ = send_request(lake, monkeypatch)
    lake.wait_until(lambda: (trace := lake.trace(xray_id)) and trace["n_spans"] == 5, what="five spans")
    if settings:
        lake.wait_flushed()
    client = lake.boto3("xray")
    now = time.time()
    services, edges = graph(client, now - 300, now + 60)
    names = {name for name, _ in services}
    assert names == {"gateway", "checkout", "payment"}
    front, outside = services[("gateway", "")], services[("gateway", "client")]
    assert front["Root"] is True and "Root" not in outside and "SummaryStatistics" not in outside
    assert (front["State"], outside["State"], front["Names"]) == ("active", "unknown", ["gateway"])
    assert {(a[0], b[0]) for a, b in edges} == {("gateway", "gateway"), ("gateway", "checkout"), ("checkout", "payment")}
    assert counts(services[("payment", "")]["SummaryStatistics"]) == (0, 0, 0, 1)
    assert services[("payment", "")]["ResponseTimeHistogram"][0]["Count"] == 1

    # one trace's graph is the same, and the CLI reads it
    of_trace, trace_edges = by_name(client.get_trace_graph(TraceIds=[xray_id])["Services"])
    assert of_trace.keys() == services.keys() and trace_edges.keys() == edges.keys()
    assert client.get_trace_graph(TraceIds=["1-00000000-000000000000000000000001"])["Services"] == []

    def cli(*arguments):
        command = [lakes.tool("aws"), "xray", *arguments, "--endpoint-url", lake.url, "--output", "json"]
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **keys})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    times = ["--start-time", str(now - 300), "--end-time", str(now + 60)]
    told, _ = by_name(cli("get-service-graph", *times)["Services"])
    assert told.keys() == services.keys()
    assert by_name(cli("get-trace-graph", "--trace-ids", xray_id)["Services"])[0].keys() == services.keys()
    points = cli("get-time-series-service-statistics", *times, "--entity-selector-expression", 'service("payment")')
    (point,) = points["TimeSeriesServiceStatistics"]
    assert counts(point["ServiceSummaryStatistics"]) == (0, 0, 0, 1)


def answer(number, status):
    return {"http": {"request": {"method": "GET"}, "response": {"status": status}}}


def test_figures_are_those_of_the_segments(lake):
    """Requests whose minute, outcome and time are known, summed by every face; the same asked twice, and after more has come."""
    client = lake.boto3("xray")
    minute = (int(time.time()) - 600) // 60 * 60
    sent = []
    for number in range(1, 91):
        at = minute + number % 3 * 60 + 1
        status = 429 if number % 9 == 0 else 404 if number % 9 == 1 else 503 if number % 9 == 2 else 200
        error, fault = status in (429, 404), status == 503
        _, segment = document(number, at, took=0.2, error=error, fault=fault, throttle=status == 429, **answer(number, status))
        call = {"name": "orders", "id": f"{number + 1000:016x}", "namespace": "aws", "start_time": at, "end_time": at + 0.1}
        segment["subsegments"] = [{**call, "aws": {"operation": "PutItem", "table_name": "orders"}, "name": "DynamoDB"}]
        sent.append(segment)
    put(client, sent)
    services, edges = graph(client, minute, minute + 180)
    table = ("orders", "AWS::DynamoDB::Table")
    assert services.keys() == {("shop", ""), ("shop", "client"), table}
    assert counts(services[("shop", "")]["SummaryStatistics"]) == (60, 20, 10, 10)
    assert counts(services[table]["SummaryStatistics"]) == (90, 0, 0, 0)
    assert services[("shop", "")]["SummaryStatistics"]["TotalResponseTime"] == pytest.approx(18)
    called = edges[(("shop", ""), table)]
    assert called["SummaryStatistics"]["TotalResponseTime"] == pytest.approx(9)
    (bar,) = called["ResponseTimeHistogram"]
    assert bar["Count"] == 90 and bar["Value"] == pytest.approx(0.1, rel=0.13)
    assert (called["StartTime"].timestamp(), called["EndTime"].timestamp()) == (minute, minute + 180)

    # only the minutes asked for
    _, edges = graph(client, minute + 60, minute + 120)
    assert edges[(("shop", "client"), ("shop", ""))]["SummaryStatistics"]["TotalCount"] == 30

    def series(expression=None, **asked):
        if expression:
            asked["EntitySelectorExpression"] = expression
        told = client.get_time_series_service_statistics(StartTime=minute, EndTime=minute + 180, **asked)
        points = told["TimeSeriesServiceStatistics"]
        return [(int(p["Timestamp"].timestamp()) - minute, p.get("ServiceSummaryStatistics") or p["EdgeSummaryStatistics"]) for p in points]

    assert [(at, one["TotalCount"]) for at, one in series('service("shop")')] == [(0, 30), (60, 30), (120, 30)]
    assert series('id(name: "shop")') == series('service("shop")')
    assert sum(one["FaultStatistics"]["TotalCount"] for _, one in series()) == 10
    told = client.get_time_series_service_statistics(StartTime=minute, EndTime=minute + 180)["TimeSeriesServiceStatistics"]
    assert all("EdgeSummaryStatistics" in point and "ServiceSummaryStatistics" not in point for point in told), "without a selector edges are told"
    edge = series('edge("shop", id(name: "orders", type: "AWS::DynamoDB::Table"))', Period=60)
    assert [one["TotalCount"] for _, one in edge] == [30, 30, 30]
    assert sum(one["TotalCount"] for _, one in series('service("shop")', Period=300)) == 90

    def api(path, **asked):
        return lake.get(f"/api/v1/{path}", start=str(minute * 10**9), end=str((minute + 180) * 10**9), **asked)

    drawn = api("service-graph")
    assert drawn["coverage"]["complete"] is True
    assert {(one["name"], one["kind"]): one["requests"] for one in drawn["nodes"]} == {("shop", "client"): 0, ("shop", "service"): 90, ("orders", "database"): 90}
    by_service = {one["name"]: one for one in api("services")["services"]}
    shop = by_service["shop"]
    assert (shop["requests"], shop["errors"], shop["faults"], shop["throttles"]) == (90, 20, 10, 10)
    assert shop["p50_ms"] == pytest.approx(200, rel=0.13) and shop["requests_per_second"] == pytest.approx(0.5)
    assert [(one["name"], one["requests"]) for one in shop["operations"]] == [("GET", 90)]
    assert [one["name"] for one in by_service["orders"]["operations"]] == ["PutItem"]
    assert {one["name"]: one["requests"] for one in api("services", filter="fault")["services"]} == {"shop": 10, "orders": 10}

    # what comes late is in the next answer
    late = {"name": "late", "id": f"{5000:016x}", "trace_id": sent[0]["trace_id"], "parent_id": f"{1001:016x}"}
    put(client, [{**late, "start_time": minute + 61, "end_time": minute + 62}])
    time.sleep(1.1)
    services, edges = graph(client, minute, minute + 180)
    assert services[table]["SummaryStatistics"]["TotalCount"] == 89
    assert edges[(("shop", ""), ("late", ""))]["SummaryStatistics"]["TotalCount"] == 1


def test_many_services_come_in_pages_and_wrong_calls_are_told_what_is_wrong(lake):
    client = lake.boto3("xray")
    now = time.time()
    sent = [document(number, now - 30)[1] | {"name": f"service-{number}"} for number in range(1, 121)]
    put(client, sent)
    services, edges = graph(client, now - 120, now + 60)
    assert len(services) == 240 and len(edges) == 120
    first = client.get_service_graph(StartTime=now - 120, EndTime=now + 60)
    assert len(first["Services"]) == 100 and first["ContainsOldGroupVersions"] is False

    def refused(call, **asked):
        with pytest.raises(ClientError) as failed:
            call(**asked)
        error = failed.value.response
        assert error["Error"]["Code"] == "InvalidRequestException" and error["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Error"]["Message"]

    frame = {"StartTime": now - 120, "EndTime": now + 60}
    assert "NextToken" in refused(client.get_service_graph, **frame, NextToken="x")
    assert "before EndTime" in refused(client.get_service_graph, StartTime=now, EndTime=now - 1)
    assert "Period" in refused(client.get_time_series_service_statistics, **frame, Period=7)
    assert "without conditions" in refused(client.get_time_series_service_statistics, **frame, EntitySelectorExpression="fault")
    assert "character" in refused(client.get_time_series_service_statistics, **frame, EntitySelectorExpression="service(")
    assert "not found" in refused(client.get_service_graph, **frame, GroupName="nobody")
    assert len(client.get_service_graph(**frame, GroupName="Default")["Services"]) == 100

    # a service that comes between two pages moves nothing
    first = client.get_service_graph(**frame)
    put(client, [document(900, now - 20)[1] | {"name": "a-first"}])
    time.sleep(1.1)
    paged, token = first["Services"], first["NextToken"]
    while token:
        page = client.get_service_graph(**frame, NextToken=token)
        paged, token = paged + page["Services"], page.get("NextToken")
    assert by_name(paged)[0].keys() == services.keys()
    assert len(graph(client, now - 120, now + 60)[0]) == 242
    assert "NextToken" in refused(client.get_service_graph, StartTime=now - 121, EndTime=now + 60, NextToken=first["NextToken"])


NEWEST = "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY trace_id ORDER BY revision DESC) AS newest FROM traces) WHERE newest = 1 ORDER BY trace_id"


def test_each_trace_is_a_row_that_is_corrected_and_the_edges_add_up_through_kills(make_lake):
    """Fresh, flushed, killed and started again, with late parts and the same once more: the tables say what the spans say."""
    lake = make_lake(config={"assemble": {"quiet_seconds": 1}, "ingest": {"flush_age_seconds": 3}})
    client = lake.boto3("xray")
    minute = (int(time.time()) - 1800) // 60 * 60
    http = {"request": {"method": "POST", "url": "https://shop.example/buy", "user_agent": "curl", "client_ip": "10.1.2.3"}, "response": {"status": 503}}
    sent = []
    for number in range(1, 61):
        trace, segment = document(number, minute + number, took=0.5, fault=True, http=http, user="anna", annotations={"tenant": "a"})
        call = {"name": "pay", "id": f"{number + 1000:016x}", "namespace": "remote", "start_time": minute + number, "end_time": minute + number + 0.4}
        segment["subsegments"] = [call]
        sent.append(segment)
    # the first half in progress at first
    lake.completes_spans(30)
    put(client, [{key: value for key, value in one.items() if key != "end_time"} | {"in_progress": True} for one in sent[:30]])
    newest = lambda: lake.sql(NEWEST)  # noqa: E731
    lake.wait_until(lambda: len(rows := newest()) == 30 and all(row["is_partial"] for row in rows), what="rows in progress")
    put(client, sent)
    lake.wait_until(lambda: len(rows := newest()) == 60 and not any(row["is_partial"] for row in rows), what="whole rows")
    row = newest()[0]
    assert (row["root_service"], row["services"], row["span_count"], row["revision"]) == ("shop", ["pay", "shop"], 2, 2)
    assert (row["http_method"], row["http_url"], row["http_status_code"]) == ("POST", "https://shop.example/buy", 503)
    assert (row["user_agent"], row["client_ip"], row["users"], row["annotations"]) == ("curl", "10.1.2.3", ["anna"], {"tenant": "a"})
    assert (row["has_fault"], row["has_error"], row["has_throttle"]) == (True, False, False)
    assert float(row["duration_nano"]) == float(row["response_time_nano"]) == pytest.approx(5e8, rel=1e-6)

    def graphs():
        """Of the tables, and of the spans."""
        asked = {"start": str(minute * 10**9), "end": str((minute + 300) * 10**9)}
        told = [lake.get("/api/v1/service-graph", **asked, **more) for more in ({}, {"filter": "duration >= 0"})]
        return [(one["nodes"], one["edges"]) for one in told]

    def check(requests):
        # to the letter, times too
        of_table, of_spans = graphs()
        assert of_table == of_spans
        assert sum(node["requests"] for node in of_table[0]) == requests
        (row,) = lake.sql("SELECT sum(requests) AS requests, sum(faults) AS faults FROM service_edges")
        assert (int(row["requests"]), int(row["faults"])) == (requests, 60)

    check(120)
    lake.restart(kill=True)
    client = lake.boto3("xray")
    check(120)
    # late parts: a segment below each tenth call, so that what was inferred is not; and all of it once more
    late = [
        {"name": "pay", "id": f"{n + 2000:016x}", "trace_id": sent[n - 1]["trace_id"], "parent_id": f"{n + 1000:016x}", "start_time": minute + n + 0.1, "end_time": minute + n + 0.2}
        for n in range(10, 61, 10)
    ]
    put(client, late + sent)
    time.sleep(1.1)
    check(120)
    lake.restart(kill=True)
    lake.wait_flushed()
    check(120)
    lake.wait_until(lambda: sum(row["span_count"] == 3 for row in newest()) == 6, what="corrected rows")
    lake.restart()
    check(120)
    assert lake.status()["assembled"]["error"] is None
