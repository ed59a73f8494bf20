"""A damaged frame of the log: every answer that could have had its records says so, until a person knows of it."""

import time

import requests

import lake as lakes


def send(lake, text):
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": text}}
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert requests.post(lake.url + "/v1/logs", json=body, timeout=20).status_code == 200


def take_and_strike(lake):
    """Three records, of which the log has the second damaged; the server is killed."""
    for text in ("before", "stricken", "after"):
        send(lake, text)
    lake.kill()
    (segment,) = (lake.data_dir / "wal").glob("*.wal")
    content = bytearray(segment.read_bytes())
    content[content.rindex(b"stricken")] ^= 4
    segment.write_bytes(content)


def test_answers_are_not_called_complete_where_acknowledged_records_were_lost(make_lake):
    lake = make_lake()
    take_and_strike(lake)
    lake.no_ledger("a frame of its log was damaged: what was accepted is lost, and told")
    lake.start()

    def search(**range_):
        return lake.get("/api/v1/search", q="*", **range_)

    def check(is_complete):
        answer = search(start="-1h")
        assert sorted(hit["body"] for hit in answer["hits"]) == ["after", "before"], answer
        coverage = answer["coverage"]
        assert coverage["complete"] is is_complete, coverage
        sql = lake.post("/api/v1/sql", {"query": "SELECT count(*) AS n FROM logs"})
        assert int(sql["rows"][0][0]) == 2 and sql["coverage"]["complete"] is is_complete, sql
        return coverage["problems"]

    (lost,) = lake.status()["lost_frames"]
    assert lost["frames"] == 1 and "wal/quarantine" in lost["copy"] and lost["received_from_unix_nano"] is not None, lost
    (problem,) = check(is_complete=False)
    assert problem["kind"] == "corrupt" and problem["what"] == f"log positions {lost['id']}", problem
    assert "POST /api/v1/lost-frames" in problem["message"], problem
    # its records cannot have been of the year before last
    assert search(start="2020-01-01", end="2020-02-01")["coverage"]["complete"]

    # an orderly stop flushes: the log has the frame no more, and still it is told
    lake.restart()
    assert lake.status()["replay"]["corrupt_frames"] == 0
    check(is_complete=False)

    url = lake.url + "/api/v1/lost-frames"
    form = requests.post(url, data='{"acknowledge": "x"}', headers={"content-type": "text/plain"}, timeout=20)
    assert form.status_code == 415, form.text
    unknown = requests.post(url, json={"acknowledge": "1-100000"}, timeout=20)
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "no_such_frames", unknown.text
    known = requests.post(url, json={"acknowledge": lost["id"]}, timeout=20)
    assert known.status_code == 200 and known.json()["acknowledged"] == lost, known.text
    assert check(is_complete=True) == []
    lake.kill()
    lake.start()
    assert lake.status()["lost_frames"] == [] and check(is_complete=True) == []


def test_all_nodes_of_a_store_tell_what_one_has_lost(make_lake, tmp_path):
    # alone it flushes late: what it takes is in its log
    one = make_lake("one", store=tmp_path / "store")
    take_and_strike(one)
    one.config = {"ingest": {"flush_age_seconds": 1}, "node": {"lease_seconds": 6, "share_seconds": 1}}
    one.start()
    two = make_lake("two", config=one.config, store=tmp_path / "store")
    for node in (one, two):
        node.no_ledger("a frame of one log was damaged: what was accepted is lost, and told")

    def problems(lake):
        return [problem["what"] for problem in lake.get("/api/v1/search", q="*", start="-1h")["coverage"]["problems"]]

    (lost,) = one.status()["lost_frames"]
    lakes.wait_until(lambda: two.status()["lost_frames"], what="the other node to hear of it")
    (heard,) = two.status()["lost_frames"]
    assert heard == {**lost, "id": f"{lost['node']}:{lost['id']}"}, heard
    assert problems(one) == [f"log positions {lost['id']}"] and problems(two) == [f"log positions {heard['id']}"]
    known = requests.post(two.url + "/api/v1/lost-frames", json={"acknowledge": heard["id"]}, timeout=20)
    assert known.status_code == 200 and known.json()["acknowledged"] == heard, known.text
    assert problems(two) == []
    lakes.wait_until(lambda: not one.status()["lost_frames"], what="the node itself to hear that it is known")
    assert problems(one) == []
