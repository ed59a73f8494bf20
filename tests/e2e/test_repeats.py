"""A PutLogEvents that comes again, because its answer was lost, is stored once: also after a crash, and not for ever."""

import gzip
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import requests

GROUP, STREAM = "/repeats", "s"


def now():
    return int(time.time() * 1000)


def created(lake):
    logs = lake.boto3()
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    return lake


def batch(*messages, at=None):
    at = now() if at is None else at
    return {"logGroupName": GROUP, "logStreamName": STREAM, "logEvents": [{"timestamp": at + i, "message": m} for i, m in enumerate(messages)]}


def send(lake, call, zipped=False, **more):
    """As an SDK does: the same bytes again and again; or an agent, which may compress them anew."""
    headers = {"x-amz-target": "Logs_20140328.PutLogEvents", "content-type": "application/x-amz-json-1.1"}
    body = json.dumps({**call, **more}).encode()
    if zipped:
        body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
    answer = requests.post(lake.url + "/", data=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"nextSequenceToken"}
    return answer.json()


def messages(lake):
    logs, events, more = lake.boto3(), [], {}
    while True:
        page = logs.filter_log_events(logGroupName=GROUP, **more)
        events += [event["message"] for event in page["events"]]
        if "nextToken" not in page:
            return sorted(events)
        more = {"nextToken": page["nextToken"]}


def counted(lake):
    rows = lake.sql("SELECT outcome, sum(records) AS n FROM ledger WHERE receiver = 'awslogs' GROUP BY 1")
    return {row["outcome"]: int(row["n"]) for row in rows}


def test_a_batch_that_comes_again_is_stored_once_through_kills_flushes_and_restarts(make_lake):
    lake = created(make_lake())
    first, second = batch("one", "two"), batch("three")
    send(lake, first)
    send(lake, first)
    send(lake, first, zipped=True)
    assert messages(lake) == ["one", "two"]
    assert counted(lake) == {"accepted": 2, "repeated": 4}
    metrics = requests.get(lake.url + "/metrics", timeout=20).text
    assert 'tracelake_ingest_records_total{receiver="awslogs",signal="logs",outcome="repeated",reason=""} 4' in metrics
    stored = lake.boto3().describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]["storedBytes"]
    assert stored == 2 * (3 + 26)

    # the log alone knows it
    lake.restart(kill=True)
    send(lake, first)
    send(lake, second)
    # blocks alone
    lake.restart()
    assert lake.status()["head"]["rows"] == 0
    send(lake, first)
    # blocks and log
    send(lake, batch("four"))
    lake.restart(kill=True)
    for call in (first, second):
        send(lake, call)
        send(lake, call, zipped=True)
    assert messages(lake) == ["four", "one", "three", "two"]
    # what differs in anything is not the same: a time, a text, the token of an answer that came through
    send(lake, {**first, "logEvents": [{"timestamp": event["timestamp"] + 1, "message": event["message"]} for event in first["logEvents"]]})
    token = send(lake, second)["nextSequenceToken"]
    send(lake, second, sequenceToken=token)
    assert messages(lake) == ["four", "one", "one", "three", "three", "two", "two"]
    assert int(lake.sql("SELECT count(*) AS n FROM logs")[0]["n"]) == 7


def test_the_same_batch_is_stored_again_once_its_window_is_over_or_its_stream_is_a_new_one(make_lake):
    lake = created(make_lake(config={"ingest": {"repeat_window_seconds": 4, "flush_age_seconds": 1}}))
    call = batch("one")
    began = time.monotonic()
    send(lake, call)
    send(lake, call)
    if time.monotonic() - began < 3:
        assert messages(lake) == ["one"]
    time.sleep(max(0.0, began + 6 - time.monotonic()))
    send(lake, call)
    assert messages(lake) == ["one", "one"]
    logs = lake.boto3()
    logs.delete_log_group(logGroupName=GROUP)
    created(lake)
    send(lake, call)
    assert messages(lake) == ["one"]

    lake.config = {"ingest": {"repeat_window_seconds": 0}}
    lake.restart()
    send(lake, call)
    send(lake, call)
    assert messages(lake) == ["one"] * 3


def test_the_same_batch_from_many_at_once_is_stored_once(lake):
    created(lake)
    calls = [batch(f"m{n}", f"n{n}") for n in range(10)]
    threads = [threading.Thread(target=lambda: [send(lake, call) for call in calls]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert messages(lake) == sorted(f"{letter}{n}" for letter in "mn" for n in range(10))
    assert counted(lake) == {"accepted": 20, "repeated": 140}


def test_a_sender_that_hangs_up_leaves_no_stream_without_its_times(make_lake):
    """Whatever became of a call whose sender did not wait: where reads show its event, DescribeLogStreams tells when it was."""
    lake = created(make_lake())
    logs, at = lake.boto3(), urlsplit(lake.url)
    for number in range(40):
        name = f"gone-{number}"
        logs.create_log_stream(logGroupName=GROUP, logStreamName=name)
        body = json.dumps({**batch("m"), "logStreamName": name}).encode()
        head = f"POST / HTTP/1.1\r\nhost: {at.netloc}\r\nx-amz-target: Logs_20140328.PutLogEvents\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection((at.hostname, at.port)) as connection:
            connection.sendall(head.encode() + body)
            # at another place of its way each time
            time.sleep(number % 8 * 0.0005)

    def told():
        shown = {event["logStreamName"] for event in logs.filter_log_events(logGroupName=GROUP)["events"]}
        timed = {one["logStreamName"] for one in logs.describe_log_streams(logGroupName=GROUP)["logStreams"] if "lastEventTimestamp" in one}
        return shown, timed

    def agree():
        shown, timed = told()
        return shown and shown == timed

    lake.wait_until(agree, 30, what="events and times agree")
