"""Questions over real sockets: counts, clients that hang up, and searches beside much SQL."""

import json
import socket
import time
import urllib.parse

import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from lake import ApiError

# a statement that is not done within the time of any test
ENDLESS = "select count(*) from generate_series(1, 100000000000) a(x) where reverse(cast(x as varchar)) = 'x'"


def send(lake, service, bodies):
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    for i, body in enumerate(bodies):
        scope.log_records.add(time_unix_nano=time.time_ns() + i).body.string_value = body
    headers = {"Content-Type": "application/x-protobuf"}
    response = requests.post(lake.otlp_http_url + "/v1/logs", data=request.SerializeToString(), headers=headers, timeout=20)
    assert response.status_code == 200, response.text


def work(lake, workers):
    """Pieces of work that queries have on the threads that compute."""
    text = requests.get(lake.url + "/metrics", timeout=20).text
    name = f'tracelake_query_work{{workers="{workers}"}} '
    return next((int(line[len(name) :]) for line in text.splitlines() if line.startswith(name)), 0)


def ask_and_do_not_wait(lake, statement):
    """A socket on which a statement was posted, and nothing read."""
    address = urllib.parse.urlsplit(lake.url)
    body = json.dumps({"query": statement}).encode()
    client = socket.create_connection((address.hostname, address.port), timeout=20)
    head = f"POST /api/v1/sql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def is_unanswered(client):
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
        return False
    except BlockingIOError:
        return True


def test_rows_are_counted_in_all_by_fields_and_by_time(make_lake):
    lake = make_lake()
    send(lake, "cart", ["added a telescope", "added a lens", "removed a lens"])
    send(lake, "payment", ["card declined"])
    for _ in range(2):
        assert lake.get("/api/v1/count")["count"] == 4
        assert lake.get("/api/v1/count", q="lens")["count"] == 2
        by_service = lake.get("/api/v1/count", by="service_name")
        assert {tuple(group["values"]): group["count"] for group in by_service["groups"]} == {("cart",): 3, ("payment",): 1}
        assert by_service["coverage"]["complete"] and by_service["other"] == 0
        by_day = lake.get("/api/v1/count", q="added OR declined", by="service_name", bucket="1d")
        assert sum(group["count"] for group in by_day["groups"]) == 3
        assert lake.get("/api/v1/count", by="service_name", limit=1)["other"] == 1
        with pytest.raises(ApiError) as error:
            lake.get("/api/v1/count", bucket="soon")
        assert error.value.status == 400 and json.loads(error.value.text)["error"]["code"] == "bad_bucket"
        # the same again from blocks
        lake.restart()


def test_a_statement_ends_when_its_client_hangs_up(make_lake):
    lake = make_lake(config={"query": {"timeout_seconds": 600}})
    send(lake, "cart", ["one"])
    client = ask_and_do_not_wait(lake, ENDLESS)
    lake.wait_until(lambda: work(lake, "batch") > 0, what="the statement to run")
    time.sleep(0.5)
    assert work(lake, "batch") > 0 and is_unanswered(client)
    client.close()
    lake.wait_until(lambda: work(lake, "batch") == 0, what="the statement to end")
    assert lake.sql("select count(*) as n from logs") == [{"n": "1"}]


def test_sql_takes_no_search_its_place_and_too_much_of_it_is_refused(make_lake):
    lake = make_lake(config={"query": {"timeout_seconds": 600, "max_concurrent": 1, "max_concurrent_batch": 2, "max_queued": 1}})
    send(lake, "cart", ["one"])
    clients = [ask_and_do_not_wait(lake, ENDLESS) for _ in range(2)]
    lake.wait_until(lambda: work(lake, "batch") >= 2, what="two statements to run")
    assert all(is_unanswered(client) for client in clients)
    clients.append(ask_and_do_not_wait(lake, ENDLESS))

    def is_refused():
        if not is_unanswered(clients[-1]):
            # this one came first, and that one was refused
            clients.pop().close()
            clients.append(ask_and_do_not_wait(lake, ENDLESS))
        try:
            answer = lake.session.post(lake.url + "/api/v1/sql", json={"query": "select 1"}, timeout=1)
        except requests.Timeout:
            return None  # the other one had not taken the place in the queue yet
        assert answer.status_code == 429, answer.text
        return answer.json()["error"]

    assert lake.wait_until(is_refused, what="a full queue")["code"] == "busy"
    for _ in range(5):
        assert len(lake.hits("one")) == 1
        assert lake.get("/api/v1/count", q="one")["count"] == 1
    assert work(lake, "batch") >= 2
    for client in clients:
        client.close()
    lake.wait_until(lambda: work(lake, "batch") == 0, what="all statements to end")
    assert lake.sql("select count(*) as n from logs") == [{"n": "1"}]
