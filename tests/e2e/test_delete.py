"""A person's rows, deleted by a query: gone from every answer, block and index, and from a replay; nothing else is."""

import json
import time

import duckdb
import pytest
import requests

from test_cli import run
from test_crash import live_files

HOUR = 3600
CONFIG = {
    "ingest": {"flush_age_seconds": 3600},
    "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "removed_grace_seconds": 5},
    "query": {"timeout_seconds": 4},
}
ALICE = 'user.email:="alice@example.com"'


def send(lake, people, hours_ago=0, table="logs"):
    """One row a person, each with an attribute, an own text and one trace for all."""
    now = time.time_ns() - hours_ago * HOUR * 10**9
    attributes = lambda person: [{"key": "user.email", "value": {"stringValue": f"{person}@example.com"}}]  # noqa: E731
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    if table == "logs":
        rows = [
            {"timeUnixNano": str(now + i), "severityNumber": 9, "traceId": "ab" * 16, "body": {"stringValue": f"order of {person}"}, "attributes": attributes(person)}
            for i, person in enumerate(people)
        ]
        body, path = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": rows}]}]}, "/v1/logs"
    else:
        rows = [
            {"startTimeUnixNano": str(now + i), "endTimeUnixNano": str(now + i + 5), "traceId": "ab" * 16, "spanId": f"{i + 1:016x}", "name": f"order of {person}", "attributes": attributes(person)}
            for i, person in enumerate(people)
        ]
        body, path = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": rows}]}]}, "/v1/traces"
    answer = requests.post(lake.otlp_http_url + path, json=body, timeout=20)
    assert answer.status_code == 200, answer.text


def order(lake, query=ALICE, code=202, **more):
    body = {"query": query, "from": "-1d", "to": "now", **more}
    answer = requests.post(lake.url + "/api/v1/delete", json=body, timeout=30)
    assert answer.status_code == code, (answer.status_code, answer.text)
    return answer.json()


def state(lake, id_):
    return next(delete for delete in lake.get("/api/v1/deletes")["deletes"] if delete["id"] == id_)


def wait_done(lake, id_):
    return lake.wait_until(lambda: (found := state(lake, id_))["state"] == "done" and found, 30, what="the delete is done")


def everywhere(lake, word, table="logs"):
    """How many rows each way of asking finds; all agree."""
    day = {"start": "-1d", "table": table}
    text = "body" if table == "logs" else "name"
    answers = {
        "search": len(lake.hits(word, **day)),
        "count": lake.get("/api/v1/count", q=word, **day)["count"],
        "count by": sum(group["count"] for group in lake.get("/api/v1/count", q=word, by="service_name", **day)["groups"]),
        "histogram": lake.get("/api/v1/histogram", q=word, **day)["total"],
        "facets": sum(value["count"] for value in lake.get("/api/v1/facets", q=word, fields="service_name", **day)["facets"][0]["values"]),
        "sql": int(lake.sql(f"SELECT count(*) AS n FROM {table} WHERE {text} LIKE '%{word}'")[0]["n"]),
    }
    trace = lake.trace("ab" * 16)
    rows = trace["logs" if table == "logs" else "spans"] if trace else []
    answers["trace"] = len([row for row in rows if row[text].endswith(word)])
    assert len(set(answers.values())) == 1, answers
    return answers["count"]


def test_a_persons_rows_are_gone_from_lake_l0_and_memory(make_lake):
    lake = make_lake(config=CONFIG)
    # sealed, flushed, and in memory
    send(lake, ["alice", "bob", "alice"], hours_ago=2)
    lake.restart()
    lake.wait_until(lambda: lake.status()["lake"]["waiting_blocks"] == 0, what="the old hour is sealed")
    send(lake, ["bob", "alice"])
    lake.restart()
    send(lake, ["alice", "bob", "bob"])
    send(lake, ["alice", "bob"], table="spans")
    assert (everywhere(lake, "alice"), everywhere(lake, "bob")) == (4, 4)

    assert order(lake, code=200, dry_run=True)["rows"] == 4
    assert lake.get("/api/v1/deletes")["deletes"] == []
    taken = order(lake)
    assert taken["rows"] == 4
    done = wait_done(lake, taken["id"])
    assert (done["rows_deleted"], done["blocks_left"], done["nodes_behind"], done["query"]) == (4, 0, [], None), done
    assert (everywhere(lake, "alice"), everywhere(lake, "bob")) == (0, 4)
    assert everywhere(lake, "alice", "spans") == 1, "spans were not named"
    spans = order(lake, table="spans")
    assert wait_done(lake, spans["id"])["rows_deleted"] == 1
    assert (everywhere(lake, "alice", "spans"), everywhere(lake, "bob", "spans")) == (0, 1)

    # what comes later stays, whatever it says
    send(lake, ["alice"])
    assert everywhere(lake, "alice") == 1

    # no file holds them, whoever reads it
    lake.stop()
    store = lake.data_dir / "store"
    files, _ = live_files(store)
    bodies = [body for (body,) in duckdb.sql(f"SELECT body FROM read_parquet({files!r}, hive_partitioning = false)").fetchall()]
    assert sorted(bodies) == ["order of alice"] + ["order of bob"] * 4
    lake.start()
    # of rows that were accepted some are deleted, the rest is there
    status = lake.status()
    accepted = sum(receiver["accepted"] for receiver in status["receivers"])
    assert status["gone"]["logs"]["deleted"] + status["gone"]["spans"]["deleted"] == 5
    assert accepted == 11 and int(lake.sql("SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM spans) AS n")[0]["n"]) == 11 - 5
    # nor do the objects that were replaced
    def gone():
        every = [str(path) for path in store.rglob("*.parquet")]
        texts = duckdb.sql(f"SELECT coalesce(body, '') FROM read_parquet({[f for f in every if '/logs/' in f]!r}, hive_partitioning = false)").fetchall()
        return sorted(text for (text,) in texts) == ["order of alice"] + ["order of bob"] * 4

    lake.wait_until(gone, 40, what="the old objects are deleted")
    report = run("lake", "verify", "--store", str(store)).stdout
    assert "damaged" not in report or "0 damaged" in report, report


@pytest.mark.parametrize("crashes", [False, True])
def test_summaries_of_traces_do_not_outlive_the_spans(make_lake, crashes):
    config = {**CONFIG, "assemble": {"quiet_seconds": 0}}
    lake = make_lake(config=config, args=["--fail-points", "delete.after_note"] if crashes else [])
    # one span of alice's in the lake, and one in memory; what is left is bob's
    send(lake, ["alice", "bob"], table="spans")
    lake.wait_until(lambda: lake.sql("SELECT count(*) AS n FROM traces")[0]["n"] != "0", what="the trace is put together")
    lake.restart()

    def names():
        return [row["root_name"] for row in lake.sql("SELECT root_name FROM traces ORDER BY revision")]

    assert names() == ["order of alice"]
    taken = order(lake, table="spans")
    if crashes:
        lake.wait_for_end()
        lake.args = []
        lake.start()
    wait_done(lake, taken["id"])
    lake.wait_until(lambda: names() == ["order of bob"], 60, what="the summary is bob's alone")

    def is_clean():
        files, _ = live_files(lake.data_dir / "store")
        of_traces = [path for path in files if "/traces/" in path]
        return all("alice" not in str(row) for row in duckdb.sql(f"SELECT root_name FROM read_parquet({of_traces!r}, hive_partitioning = false)").fetchall()) if of_traces else True

    lake.wait_until(is_clean, 60, what="no file of traces names alice")
    refused = order(lake, code=400, table="metric_points")
    assert "only those of logs and spans" in refused["error"]["message"], refused


def test_a_crash_after_the_order_does_not_bring_rows_back(make_lake):
    lake = make_lake(config=CONFIG, args=["--fail-points", "delete.after_order"])
    send(lake, ["alice", "bob"])
    with pytest.raises(requests.RequestException):
        order(lake)
    lake.wait_for_end()
    # the log has the rows; the flush that leaves them out is cut short too
    lake.args = ["--fail-points", "flush.before_commit"]
    lake.start()
    lake.wait_for_end()
    lake.args = []
    lake.start()
    (delete,) = lake.get("/api/v1/deletes")["deletes"]
    assert wait_done(lake, delete["id"])["rows_deleted"] == 1
    assert (everywhere(lake, "alice"), everywhere(lake, "bob")) == (0, 1)
    lake.restart(kill=True)
    assert (everywhere(lake, "alice"), everywhere(lake, "bob")) == (0, 1)


def test_what_is_no_order_is_refused(make_lake):
    lake = make_lake(config={"auth": {"bearer_tokens": ["a-long-token"]}})
    url, token = lake.url + "/api/v1/delete", {"Authorization": "Bearer a-long-token"}
    body = {"query": "x", "from": "-1h", "to": "now"}
    assert requests.post(url, json=body, timeout=10).status_code == 401
    assert requests.get(lake.url + "/api/v1/deletes", timeout=10).status_code == 401
    # what a page of another site could send
    assert requests.post(url, data=json.dumps(body), headers={**token, "content-type": "text/plain"}, timeout=10).status_code == 415
    for wrong in ({"query": ""}, {"query": 'a:"'}, {"from": None}, {"to": "whenever"}, {"from": "now", "to": "-1h"}, {"table": "alerts"}, {"limit": 5}):
        answer = requests.post(url, json={**body, **wrong}, headers=token, timeout=10)
        assert answer.status_code == 400 and answer.json()["error"]["message"], (wrong, answer.text)
    assert requests.get(lake.url + "/api/v1/deletes", headers=token, timeout=10).json() == {"deletes": []}


def test_the_command_asks_and_waits(make_lake):
    lake = make_lake(config=CONFIG)
    send(lake, ["alice", "bob"])
    what = ("delete", "--query", ALICE, "--from", "1d", "--to", "now")
    assert run(*what, "--dry-run", lake=lake).stdout == "1 rows of logs match\n"
    assert "--yes" in run(*what, lake=lake, code=2).stderr
    assert everywhere(lake, "alice") == 1
    assert run(*what, "--yes", lake=lake).stdout == "1 rows of logs are deleted\n"
    assert (everywhere(lake, "alice"), everywhere(lake, "bob")) == (0, 1)
    assert json.loads(run(*what, "--yes", "--json", lake=lake).stdout)["rows_deleted"] == 0


def naming(lake, word=b"alice@example.com"):
    """Files of the data directory that name the person in plain bytes."""
    files = (path for path in lake.data_dir.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(lake.data_dir)) for path in files if word in path.read_bytes())


def test_what_still_names_a_person_on_the_disk_is_what_the_readme_says(make_lake):
    lake = make_lake(config=CONFIG)
    for people in (["alice", "bob"], ["alice"], ["bob"]):
        send(lake, people)
    lake.kill()
    (segment,) = (lake.data_dir / "wal").glob("*.wal")
    content = bytearray(segment.read_bytes())
    content[content.rindex(b"alice@example.com")] ^= 4
    segment.write_bytes(content)
    lake.no_ledger("a frame of its log was damaged: what was accepted is lost, and told")
    lake.start()
    assert lake.status()["replay"]["corrupt_frames"] == 1
    # until this is said, no answer is called complete
    lake.post("/api/v1/lost-frames", {"acknowledge": lake.status()["lost_frames"][0]["id"]})
    send(lake, ["alice", "bob"])
    assert any(path.startswith("wal/quarantine/") for path in naming(lake)), naming(lake)
    taken = order(lake)
    assert wait_done(lake, taken["id"])["rows_deleted"] == 2

    def kinds():
        """Where she is named: the query of the delete, the log's running file, the copy of a damaged one."""
        parents = [path.rpartition("/")[0] for path in naming(lake)]
        return {parent: parents.count(parent) for parent in parents}

    query, copy = {"store/_catalog/state": 2}, {"wal/quarantine": 1}
    lake.wait_until(lambda: kinds() == {**query, "wal": 1, **copy}, 40, what="only what the README says names her")
    assert everywhere(lake, "alice") == 0
    lake.restart()
    lake.wait_until(lambda: kinds() == {**query, **copy}, 20, what="the log's bytes are gone with a restart")


def test_no_delete_waits_for_a_node_that_stopped_or_was_forgotten(make_lake, tmp_path):
    # long enough that a machine that stalls makes nobody look dead
    config = {**CONFIG, "node": {"lease_seconds": 20}}
    one, two = (make_lake(name, config=config, store=tmp_path / "store") for name in ("one", "two"))
    ids = [lake.status()["node"] for lake in (one, two)]
    send(one, ["alice", "bob"])
    send(two, ["alice", "carol"])
    command = ("delete", "--query", ALICE, "--from", "1d", "--to", "now", "--yes")
    # stopped in order: its rows are in blocks, and nothing waits for it
    two.stop()
    one.wait_until(lambda: everywhere(one, "carol") == 1, what="one sees what two flushed")
    assert run(*command, lake=one).stdout == "2 rows of logs are deleted\n"
    assert [node["away"] for node in one.status()["nodes"] if node["node"] == ids[1]] == ["left"]
    # killed with rows in its log
    two.start()
    send(two, ["alice", "dave"])
    assert [node["away"] for node in one.status()["nodes"] if node["node"] == ids[1]] in (["left"], [None])
    one.wait_until(lambda: [node["away"] for node in one.status()["nodes"] if node["node"] == ids[1]] == [None], what="one knows that two is back")
    forget = ("node", "forget", ids[1])
    assert "--yes" in run(*forget, lake=one, code=2).stderr
    assert "lives" in run(*forget, "--yes", lake=one, code=1).stderr
    assert "ask another" in run("node", "forget", ids[0], "--yes", lake=one, code=1).stderr
    assert "no node" in run("node", "forget", "nobody", "--yes", lake=one, code=1).stderr
    two.kill()
    waits = run(*command, lake=one, code=3)
    assert ids[1] in waits.stderr and "tracelake node forget" in waits.stderr, waits.stderr
    (waiting,) = [delete for delete in one.get("/api/v1/deletes")["deletes"] if delete["state"] != "done"]
    assert (waiting["state"], waiting["nodes_behind"]) == ("waiting", [ids[1]])

    def forgets():
        answer = requests.post(one.url + "/api/v1/nodes/forget", json={"node": ids[1]}, timeout=20)
        assert answer.status_code in (200, 409), answer.text
        return answer.status_code == 200 and answer.json()

    answer = one.wait_until(forgets, 60, what="two is silent for long enough")
    assert answer["node"] == ids[1] and not answer["had_left"] and "had not flushed" in answer["lost"], answer
    assert state(one, waiting["id"])["state"] == "done"
    assert run(*command, lake=one).stdout == "0 rows of logs are deleted\n"
    assert requests.post(one.url + "/api/v1/nodes/forget", data=json.dumps({"node": ids[1]}), headers={"content-type": "text/plain"}, timeout=10).status_code == 415

    # it comes back after all: neither it nor its log brings alice back
    with pytest.raises(AssertionError):
        two.start()
    assert "tracelake node forget" in two.log_tail() and "folder wal" in two.log_tail()
    (two.data_dir / "wal").rename(tmp_path / "wal")
    two.start()
    send(two, ["erin"])
    two.stop()
    one.wait_until(lambda: everywhere(one, "erin") == 1, what="one sees what two flushed")
    assert (everywhere(one, "alice"), everywhere(one, "bob"), everywhere(one, "carol"), everywhere(one, "dave")) == (0, 1, 1, 0)
