"""CloudWatch Logs' read calls, as boto3 and the AWS CLI make them: botocore parses every answer with its own model."""

import json
import os
import subprocess
import threading
import time
import uuid

import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

import lake as lakes

SETTINGS = {"ingest": {"flush_age_seconds": 1}}


def now():
    return int(time.time() * 1000)


@pytest.fixture
def lake(make_lake):
    return make_lake(config=SETTINGS)


class Logs:
    """A boto3 client with a group and a stream or two."""

    def __init__(self, lake, group="/reads"):
        self.lake, self.group = lake, group
        self.client = lake.boto3()

    def create(self, *streams):
        self.client.create_log_group(logGroupName=self.group)
        for stream in streams:
            self.client.create_log_stream(logGroupName=self.group, logStreamName=stream)
        return self

    def put(self, stream, *messages, at=None, step=1):
        at = now() - 60_000 if at is None else at
        events = [{"timestamp": at + i * step, "message": m} for i, m in enumerate(messages)]
        answer = self.client.put_log_events(logGroupName=self.group, logStreamName=stream, logEvents=events)
        assert "rejectedLogEventsInfo" not in answer
        return events

    def filter(self, pattern=None, **more):
        if pattern is not None:
            more["filterPattern"] = pattern
        return self.client.filter_log_events(logGroupName=self.group, **more)

    def filter_all(self, pattern=None, **more):
        """All pages; each but the last has a token."""
        events = []
        while True:
            page = self.filter(pattern, **more)
            assert page["searchedLogStreams"] == []
            events += page["events"]
            if "nextToken" not in page:
                return events
            more["nextToken"] = page["nextToken"]

    def get(self, stream, **more):
        return self.client.get_log_events(logGroupName=self.group, logStreamName=stream, **more)


def messages(events):
    return [event["message"] for event in events]


def refused(call, code, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def test_events_are_read_at_once_and_keep_their_id_through_flush_merge_and_restart(lake):
    logs = Logs(lake).create("a", "b")
    logs.put("a", "one", "two", "three")
    # right behind the 200, out of memory
    first = logs.filter_all()
    assert messages(first) == ["one", "two", "three"]
    for event in first:
        assert set(event) == {"logStreamName", "timestamp", "message", "ingestionTime", "eventId"}
        assert len(event["eventId"]) == 56 and event["eventId"].isdigit()
        assert abs(event["ingestionTime"] - now()) < 60_000
    ids = {event["message"]: event["eventId"] for event in first}
    assert len(set(ids.values())) == 3 and sorted(ids.values()) == [event["eventId"] for event in first]
    lake.wait_flushed()
    assert logs.filter_all() == first
    logs.put("b", "four")
    lake.wait_flushed()
    # both orders, head and blocks alike
    logs.put("a", "five")
    again = logs.filter_all()
    assert messages(again) == ["one", "four", "five", "two", "three"] or sorted(messages(again)) == sorted(["one", "two", "three", "four", "five"])
    assert {e["message"]: e["eventId"] for e in again if e["message"] in ids} == ids
    newest_first = logs.filter_all(startFromHead=False)
    assert newest_first == again[::-1]

    def shown():
        client = lake.boto3()
        streams = client.describe_log_streams(logGroupName=logs.group, orderBy="LastEventTime", descending=True)["logStreams"]
        assert all(s["lastEventTimestamp"] and s["firstEventTimestamp"] and s["lastIngestionTime"] for s in streams) and len(streams) == 2
        return streams, client.describe_log_groups()["logGroups"][0]["storedBytes"]

    before = shown()
    assert before[1] == 5 * 26 + len("onetwothreefourfive")
    lake.restart(kill=True)
    logs = Logs(lake)
    assert logs.filter_all() == again
    # also what is known of the streams
    assert shown() == before
    lake.restart()
    assert Logs(lake).filter_all() == again


def test_ids_stay_the_same_when_blocks_are_merged(make_lake):
    # an hour that ended is sealed at once: its blocks are merged
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1}, "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0}})
    logs = Logs(lake).create("a")
    hour_ago = now() // 3_600_000 * 3_600_000 - 1_800_000
    expected = []
    for i in range(4):
        expected += messages(logs.put("a", *[f"m{i} {j}" for j in range(5)], at=hour_ago + i * 1_000))
        lake.wait_flushed()
    before = logs.filter_all()
    assert messages(before) == expected

    def merged():
        return any("logs/dt=" in str(path) and "_l0" not in str(path) for path in (lake.data_dir / "store").rglob("*.parquet"))

    lake.wait_until(merged, 30, what="the hour is sealed")
    assert logs.filter_all() == before


def test_filter_log_events_selects_by_pattern_stream_and_time(lake):
    logs = Logs(lake).create("web/1", "web/2", "db")
    at = now() - 100_000
    logs.put("web/1", "GET /a 200", "GET /b 404", "POST /a 500", at=at)
    logs.put("web/2", "GET /c 404", json.dumps({"level": "ERROR", "status": 503, "user": {"id": "u1"}}), at=at + 10)
    logs.put("db", "slow query ERROR", at=at + 20)

    def find(pattern=None, **more):
        in_memory = messages(logs.filter_all(pattern, **more))
        return in_memory

    def check():
        assert find("404") == ["GET /b 404", "GET /c 404"]
        assert find("GET -404") == ["GET /a 200"]
        assert find("?500 ?slow") == ["POST /a 500", "slow query ERROR"]
        assert find('"/a 5"') == ["POST /a 500"]
        assert find("%/[ab] 4..%") == ["GET /b 404"]
        assert find("[method = GET, path, status = 4*]") == ["GET /b 404", "GET /c 404"]
        assert len(find('{ $.level = "ERROR" && $.status >= 500 && $.user.id = "u*" }')) == 1
        assert find('{ $.level = "WARN" }') == []
        assert find("nothing") == []
        assert len(find()) == 6 and len(find("")) == 6
        assert find("404", logStreamNames=["web/2"]) == ["GET /c 404"]
        assert find("404", logStreamNames=["web/2", "db"]) == ["GET /c 404"]
        assert len(find(logStreamNamePrefix="web/")) == 5
        assert find(logStreamNamePrefix="none") == []
        # both ends are inside
        assert find(startTime=at + 1, endTime=at + 2) == ["GET /b 404", "POST /a 500"]
        assert find(startTime=at + 2, endTime=at + 1) == []
        assert find("404", limit=1) == ["GET /b 404", "GET /c 404"]
        assert find(interleaved=True, unmask=False, startTime=at + 20) == ["slow query ERROR"]
        arn = logs.client.describe_log_groups(logGroupNamePrefix="/reads")["logGroups"][0]["logGroupArn"]
        for identifier in (arn, "/reads"):
            assert len(logs.client.filter_log_events(logGroupIdentifier=identifier)["events"]) == 6

    check()
    lake.wait_flushed()
    check()


def test_pages_go_to_the_end_in_both_directions(lake):
    logs = Logs(lake).create("s", "other")
    at = now() - 100_000
    # several events of one millisecond, over head and blocks
    put = []
    for batch in range(4):
        put += messages(logs.put("s", *[f"{batch}-{i}" for i in range(25)], at=at + batch * 3, step=0))
        logs.put("other", "not this")
        if batch == 2:
            lake.wait_flushed()
    assert messages(logs.filter_all(logStreamNames=["s"], limit=7)) == put
    assert messages(logs.filter_all(logStreamNames=["s"], limit=7, startFromHead=False)) == put[::-1]

    # forwards, until the caller's own token comes back
    gathered, token = [], None
    while True:
        page = logs.get("s", startFromHead=True, limit=9, **({"nextToken": token} if token else {}))
        gathered += messages(page["events"])
        assert page["nextForwardToken"].startswith("f/") and page["nextBackwardToken"].startswith("b/")
        if page["nextForwardToken"] == token:
            assert page["events"] == []
            break
        token = page["nextForwardToken"]
    assert gathered == put
    # what comes later is behind that token
    later = messages(logs.put("s", "later 1", "later 2", at=at + 50))
    page = logs.get("s", startFromHead=True, nextToken=token)
    assert messages(page["events"]) == later
    end = page["nextForwardToken"]
    assert logs.get("s", nextToken=end)["nextForwardToken"] == end
    # and back from there: each page in order of time, the pages from the end
    pages, token = [], end.replace("f/", "b/")
    while True:
        page = logs.get("s", limit=9, nextToken=token)
        if page["nextBackwardToken"] == token:
            assert page["events"] == []
            break
        pages.insert(0, messages(page["events"]))
        token = page["nextBackwardToken"]
    assert sum(pages, []) == put + later
    # a page and back: the same page
    first = logs.get("s", startFromHead=True, limit=9)
    second = logs.get("s", startFromHead=True, limit=9, nextToken=first["nextForwardToken"])
    assert logs.get("s", limit=9, nextToken=second["nextBackwardToken"])["events"] == first["events"]
    # without a token: the newest page
    assert messages(logs.get("s", limit=3)["events"]) == (put + later)[-3:]
    # the end is outside, the start inside
    assert messages(logs.get("s", startTime=at, endTime=at + 3, startFromHead=True)["events"]) == put[:25]
    # botocore's own paginators
    pages = logs.client.get_paginator("filter_log_events").paginate(logGroupName="/reads", logStreamNames=["s"], PaginationConfig={"PageSize": 10})
    assert messages(e for page in pages for e in page["events"]) == put + later


def test_an_empty_stream_has_tokens_that_find_what_comes(lake):
    logs = Logs(lake).create("s")
    for head in (True, False):
        page = logs.get("s", startFromHead=head)
        assert page["events"] == []
        token = page["nextForwardToken"]
        again = logs.get("s", nextToken=token)
        assert (again["events"], again["nextForwardToken"]) == ([], token)
    logs.put("s", "at last")
    assert messages(logs.get("s", nextToken=token)["events"]) == ["at last"]


def test_a_page_ends_at_one_megabyte_and_ten_thousand_events(lake):
    logs = Logs(lake).create("large", "many")
    at = now() - 100_000
    for i in range(5):
        logs.put("large", "x" * 400_000, "y" * 400_000, at=at + i * 10)
    page = logs.filter(logStreamNames=["large"])
    assert len(page["events"]) == 2 and "nextToken" in page
    assert len(logs.filter_all(logStreamNames=["large"])) == 10
    page = logs.get("large", startFromHead=True)
    assert len(page["events"]) == 2
    for i in range(2):
        logs.put("many", *["m"] * 10_000, at=at + i, step=0)
    page = logs.filter(logStreamNames=["many"])
    assert len(page["events"]) == 10_000 and "nextToken" in page
    assert len(logs.filter_all(logStreamNames=["many"])) == 20_000
    assert len(logs.get("many")["events"]) == 10_000


def test_limits_hold_at_the_bound_and_one_past_it(lake):
    logs = Logs(lake).create("s")
    logs.put("s", "x")
    client, group = logs.client, {"logGroupName": "/reads"}
    stream = {**group, "logStreamName": "s"}
    raw = lakes.client("logs", lake.url, config=Config(parameter_validation=False, retries={"max_attempts": 1}))
    for call, more in [(raw.filter_log_events, group), (raw.get_log_events, stream)]:
        call(**more, limit=10_000)
        assert "less than or equal to 10000" in refused(call, "InvalidParameterException", **more, limit=10_001)
        assert "greater than or equal to 1" in refused(call, "InvalidParameterException", **more, limit=0)
        refused(call, "InvalidParameterException", **more, startTime=-1)
        refused(call, "InvalidParameterException", **more, endTime=-1)
        refused(call, "InvalidParameterException", **more, nextToken="garbage")
        refused(call, "InvalidParameterException", **more, logGroupIdentifier="/reads")
    client.filter_log_events(**group, filterPattern="x" * 1024)
    assert "less than or equal to 1024" in refused(raw.filter_log_events, "InvalidParameterException", **group, filterPattern="x" * 1025)
    refused(raw.filter_log_events, "InvalidParameterException", **group, logStreamNames=[f"s{i}" for i in range(101)])
    refused(raw.filter_log_events, "InvalidParameterException", **group, logStreamNames=[])
    refused(client.filter_log_events, "InvalidParameterException", **group, logStreamNames=["s"], logStreamNamePrefix="s")
    refused(client.filter_log_events, "InvalidParameterException", **group, startFromHead=False, startTime=0)
    refused(client.filter_log_events, "InvalidParameterException")
    refused(client.filter_log_events, "InvalidParameterException", logGroupIdentifier="arn:aws:sns:us-east-1:0:x")
    for pattern, said in [("a-b", "Invalid character(s) in term 'a-b'"), ("{ $.a }", "operator"), ("[a", "operator"), ("%(%", "cannot be used")]:
        assert said in refused(client.filter_log_events, "InvalidParameterException", **group, filterPattern=pattern)
    gone = {"logGroupName": "/none"}
    assert "log group does not exist" in refused(client.filter_log_events, "ResourceNotFoundException", **gone)
    assert "log group does not exist" in refused(client.get_log_events, "ResourceNotFoundException", **gone, logStreamName="s")
    assert "log stream does not exist" in refused(client.get_log_events, "ResourceNotFoundException", **group, logStreamName="t")
    refused(client.filter_log_events, "ResourceNotFoundException", **group, logStreamNames=["s", "t"])
    # a token is for what it was given for
    logs.put("s", "y", "z")
    token = logs.filter(limit=1)["nextToken"]
    assert logs.filter(limit=1, nextToken=token)["events"]
    refused(client.filter_log_events, "InvalidParameterException", **group, nextToken=token, filterPattern="y")
    token = logs.get("s")["nextForwardToken"]
    client.create_log_stream(**group, logStreamName="t")
    refused(client.get_log_events, "InvalidParameterException", **group, logStreamName="t", nextToken=token)


def test_test_metric_filter_tells_matches_and_values(lake):
    client = lake.boto3()
    line = '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /apache_pb.gif HTTP/1.0" 200 1534'
    answer = client.test_metric_filter(filterPattern="[ip, identity, user_id, timestamp, request, status_code = 2*, bytes]", logEventMessages=["no", line])
    (match,) = answer["matches"]
    assert (match["eventNumber"], match["eventMessage"]) == (2, line)
    assert match["extractedValues"]["$request"] == "GET /apache_pb.gif HTTP/1.0" and match["extractedValues"]["$user_id"] == "frank"
    answer = client.test_metric_filter(filterPattern="{ $.a = 1 }", logEventMessages=['{"a":1}', '{"a":2}'])
    assert [m["extractedValues"] for m in answer["matches"]] == [{"$.a": "1"}]
    assert client.test_metric_filter(filterPattern="", logEventMessages=["x"] * 50)["matches"][49]["eventNumber"] == 50
    raw = lakes.client("logs", lake.url, config=Config(parameter_validation=False, retries={"max_attempts": 1}))
    refused(raw.test_metric_filter, "InvalidParameterException", filterPattern="", logEventMessages=["x"] * 51)
    refused(raw.test_metric_filter, "InvalidParameterException", filterPattern="", logEventMessages=[])
    refused(raw.test_metric_filter, "InvalidParameterException", logEventMessages=["x"])
    refused(client.test_metric_filter, "InvalidParameterException", filterPattern="{", logEventMessages=["x"])


def test_records_and_fields_of_a_group(lake):
    logs = Logs(lake).create("s")
    logs.put("s", json.dumps({"user": {"id": "u1"}, "tags": ["a", "b"]}), "plain", at=now() - 5_000)
    event = logs.filter_all()[0]
    record = logs.client.get_log_record(logRecordPointer=event["eventId"])["logRecord"]
    assert record["@message"] == event["message"] and record["user.id"] == "u1" and record["tags.1"] == "b"
    assert record["@log"] == "000000000000:/reads" and record["@logStream"] == "s" and record["@timestamp"] == str(event["timestamp"])
    assert logs.client.get_log_record(logRecordPointer=record["@ptr"])["logRecord"] == record
    refused(logs.client.get_log_record, "InvalidParameterException", logRecordPointer="nonsense")
    wrong = event["eventId"][:-1] + ("0" if event["eventId"][-1] != "0" else "1")
    refused(logs.client.get_log_record, "ResourceNotFoundException", logRecordPointer=wrong)
    fields = logs.client.get_log_group_fields(logGroupName="/reads")["logGroupFields"]
    percents = {field["name"]: field["percent"] for field in fields}
    assert percents["@message"] == 100 and percents["user.id"] == 50 and percents["tags.0"] == 50
    hour_ago = int(time.time()) - 3_600
    assert logs.client.get_log_group_fields(logGroupName="/reads", time=hour_ago)["logGroupFields"] == []
    assert logs.client.get_log_group_fields(logGroupIdentifier="/reads", time=int(time.time()) + 400)["logGroupFields"] == fields
    refused(logs.client.get_log_group_fields, "ResourceNotFoundException", logGroupName="/none")
    refused(logs.client.get_log_group_fields, "InvalidParameterException")


def test_list_log_groups_by_pattern_class_and_tag(lake):
    client = lake.boto3()
    names = [f"/app/{i:03}" for i in range(120)]
    for name in names:
        client.create_log_group(logGroupName=name)
    client.create_log_group(logGroupName="other/app/x", tags={"team": "a"}, logGroupClass="INFREQUENT_ACCESS")
    groups = client.list_log_groups()["logGroups"]
    assert len(groups) == 50 and set(groups[0]) == {"logGroupName", "logGroupArn", "logGroupClass"}
    listed, more = [], {}
    while True:
        page = client.list_log_groups(logGroupNamePattern="^/app|nothing", limit=50, **more)
        listed += [group["logGroupName"] for group in page["logGroups"]]
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}
    assert listed == names
    assert len(client.list_log_groups(logGroupNamePattern="app/", limit=1000)["logGroups"]) == 121
    assert [g["logGroupName"] for g in client.list_log_groups(logGroupClass="INFREQUENT_ACCESS")["logGroups"]] == ["other/app/x"]
    assert [g["logGroupName"] for g in client.list_log_groups(logGroupTags=[{"key": "team", "values": ["a", "b"]}])["logGroups"]] == ["other/app/x"]
    assert client.list_log_groups(logGroupTags=[{"key": "team", "values": ["b"]}])["logGroups"] == []
    raw = lakes.client("logs", lake.url, config=Config(parameter_validation=False, retries={"max_attempts": 1}))
    for bad in ("ab", "a b c", "abc|" * 5 + "abc", "^" + "a" * 25, "abc|d"):
        refused(raw.list_log_groups, "InvalidParameterException", logGroupNamePattern=bad)
    refused(raw.list_log_groups, "InvalidParameterException", limit=1001)
    refused(raw.list_log_groups, "InvalidParameterException", nextToken="x")


def test_polling_as_aws_logs_tail_does_shows_each_event_once(lake):
    """`aws logs tail --follow` asks again from the newest time, and knows events by their id."""
    logs = Logs(lake).create("s")
    seen, shown, start = set(), [], now() - 1_000
    for i in range(6):
        logs.put("s", f"event {i}", at=now())
        for event in logs.filter_all(interleaved=True, startTime=start):
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                shown.append(event["message"])
                start = event["timestamp"]
        if i == 3:
            lake.wait_flushed()
    assert shown == [f"event {i}" for i in range(6)]


class Follower:
    """A command that goes on printing, and its lines so far."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True).start()

    def have(self, word):
        assert self.process.poll() is None, self.process.stderr.read()
        return [line for line in list_of(self.lines) if word in line]

    def end(self):
        self.process.kill()
        self.process.wait()


def list_of(lines):
    # another thread appends to it
    return lines[: len(lines)]


def check_follows(lake, logs, command):
    """What was there is printed, what comes is, and each once, though blocks are flushed meanwhile."""
    logs.put("a", "first ERROR", "second")
    follower = Follower(command)
    try:
        lake.wait_until(lambda: follower.have("first ERROR") and follower.have("second"), timeout=40, what="what was there")
        logs.put("b", "third", at=now())
        lake.wait_until(lambda: follower.have("third"), timeout=40, what="what came")
        lake.wait_flushed()
        logs.put("a", "fourth", at=now())
        lake.wait_until(lambda: follower.have("fourth"), timeout=40, what="what came after a flush")
        assert [len(follower.have(word)) for word in ("first", "second", "third", "fourth")] == [1, 1, 1, 1], follower.lines
    finally:
        follower.end()


def test_aws_logs_tail_of_the_cli_follows(lake):
    logs = Logs(lake).create("a", "b")
    tail = [lakes.aws_v2(), "logs", "tail", logs.group, "--endpoint-url", lake.url, "--since", "10m"]
    check_follows(lake, logs, [*tail, "--follow"])
    done = subprocess.run([*tail, "--filter-pattern", "ERROR", "--format", "short"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ", 1)[1] for line in done.stdout.splitlines()] == ["first ERROR"], done.stdout
    done = subprocess.run([*tail, "--log-stream-names", "b"], capture_output=True, text=True, timeout=60)
    assert [line.split(" ", 1)[1] for line in done.stdout.splitlines()] == ["b third"], done.stdout


def test_the_tool_awslogs_watches(lake):
    logs = Logs(lake).create("a", "b")
    where = ["--aws-endpoint-url", lake.url, "--aws-region", "us-east-1"]
    check_follows(lake, logs, [lakes.tool("awslogs"), "get", logs.group, "ALL", "--watch", "--watch-interval", "1", "--start", "10m", *where])
    done = subprocess.run([lakes.tool("awslogs"), "groups", *where], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [logs.group], (done.stdout, done.stderr)
    done = subprocess.run([lakes.tool("awslogs"), "streams", logs.group, *where], capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.split()) == ["a", "b"], (done.stdout, done.stderr)


def aws(lake, *args, timeout=60, check=True):
    env = {**os.environ, "AWS_DISABLE_HOST_PREFIX_INJECTION": "true"}
    command = [lakes.tool("aws"), "logs", *args, "--endpoint-url", lake.url, "--output", "json"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=check)


def test_the_aws_cli_reads(lake):
    logs = Logs(lake, f"/cli/{uuid.uuid4().hex[:6]}").create("s")
    logs.put("s", *[f"line {i} ERROR" if i % 2 else f"line {i}" for i in range(30)])
    found = json.loads(aws(lake, "filter-log-events", "--log-group-name", logs.group, "--filter-pattern", "ERROR").stdout)
    assert messages(found["events"]) == [f"line {i} ERROR" for i in range(1, 30, 2)]
    paged = json.loads(aws(lake, "filter-log-events", "--log-group-name", logs.group, "--page-size", "4").stdout)
    assert len(paged["events"]) == 30
    got = json.loads(aws(lake, "get-log-events", "--log-group-name", logs.group, "--log-stream-name", "s", "--limit", "3").stdout)
    assert messages(got["events"]) == ["line 27 ERROR", "line 28", "line 29 ERROR"]
    bad = aws(lake, "filter-log-events", "--log-group-name", logs.group, "--filter-pattern", "a-b", check=False)
    assert bad.returncode != 0 and "InvalidParameterException" in bad.stderr and "Invalid character(s) in term" in bad.stderr
    assert "ResourceNotFoundException" in aws(lake, "get-log-events", "--log-group-name", "/no", "--log-stream-name", "s", check=False).stderr


def deletes_done(lake):
    deletes = lake.get("/api/v1/deletes")["deletes"]
    return deletes and all(delete["state"] == "done" for delete in deletes)


DELETING = {
    "ingest": {"flush_age_seconds": 1},
    "lake": {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "removed_grace_seconds": 5},
    "query": {"timeout_seconds": 4},
}


def test_a_deleted_group_is_gone_with_its_rows_and_comes_back_empty(make_lake):
    lake = make_lake(config=DELETING)
    logs, other = Logs(lake).create("s", "t"), Logs(lake, "/other").create("s")
    # rows that only look like the group's stay
    other.put("s", "stays", json.dumps({"log_group": "/reads", "@log_group": "/reads"}))
    logs.put("s", "old in a block")
    lake.wait_flushed()
    logs.put("t", "old in memory")
    event = logs.filter_all()[0]
    logs.client.delete_log_group(logGroupName="/reads")
    refused(logs.filter, "ResourceNotFoundException")
    refused(lambda: logs.put("s", "late"), "ResourceNotFoundException")
    refused(logs.client.delete_log_group, "ResourceNotFoundException", logGroupName="/reads")
    refused(logs.client.get_log_record, "ResourceNotFoundException", logRecordPointer=event["eventId"])
    assert [g["logGroupName"] for g in logs.client.describe_log_groups()["logGroups"]] == ["/other"]
    # created again at once: nothing old, all that is new
    logs.create("s", "t")
    assert logs.filter_all() == [] and logs.get("s")["events"] == []
    assert logs.client.describe_log_streams(logGroupName="/reads")["logStreams"][0].get("lastEventTimestamp") is None
    logs.put("s", "new")
    assert messages(logs.filter_all()) == ["new"]
    lake.wait_until(lambda: deletes_done(lake), 30, what="the rows are deleted")
    assert messages(logs.filter_all()) == ["new"]
    assert sorted(hit["body"] for hit in lake.hits("*")) == sorted(messages(other.filter_all()) + ["new"])
    assert len(other.filter_all()) == 2
    lake.restart(kill=True)
    assert messages(Logs(lake).filter_all()) == ["new"] and len(Logs(lake, "/other").filter_all()) == 2


def test_a_deleted_stream_is_gone_and_the_others_stay(make_lake):
    lake = make_lake(config=DELETING)
    logs = Logs(lake).create("s", "t")
    logs.put("s", "old")
    logs.put("t", "kept")
    group = {"logGroupName": "/reads"}
    logs.client.delete_log_stream(**group, logStreamName="s")
    assert messages(logs.filter_all()) == ["kept"]
    refused(logs.client.get_log_events, "ResourceNotFoundException", **group, logStreamName="s")
    refused(logs.client.delete_log_stream, "ResourceNotFoundException", **group, logStreamName="s")
    refused(logs.client.delete_log_stream, "ResourceNotFoundException", logGroupName="/none", logStreamName="s")
    lake.restart(kill=True)
    logs = Logs(lake)
    assert [s["logStreamName"] for s in logs.client.describe_log_streams(**group)["logStreams"]] == ["t"]
    logs.client.create_log_stream(**group, logStreamName="s")
    assert logs.get("s")["events"] == []
    logs.put("s", "new")
    lake.wait_until(lambda: deletes_done(lake), 30, what="the rows are deleted")
    assert sorted(hit["body"] for hit in lake.hits("*")) == ["kept", "new"]
    assert sorted(messages(logs.filter_all())) == ["kept", "new"]
    logs.client.create_log_group(logGroupName="/safe", deletionProtectionEnabled=True)
    assert "protected" in refused(logs.client.delete_log_group, "ValidationException", logGroupName="/safe")


def live_client(lake):
    return lakes.client("logs", lake.url, config=Config(inject_host_prefix=False, retries={"max_attempts": 1}, read_timeout=20))


def arn_of(client, group):
    return client.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]


def test_a_live_tail_shows_events_as_they_come(lake):
    logs, other = Logs(lake).create("s", "t"), Logs(lake, "/other").create("s")
    client = live_client(lake)
    arn = arn_of(client, "/reads")
    logs.put("s", "before the session ERROR")
    stream = client.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="ERROR")["responseStream"]
    frames = iter(stream)
    start = next(frames)["sessionStart"]
    assert start["logGroupIdentifiers"] == [arn] and start["logEventFilterPattern"] == "ERROR" and start["sessionId"] and start["requestId"]
    begun = time.monotonic()
    update = next(frames)["sessionUpdate"]
    assert update == {"sessionMetadata": {"sampled": False}, "sessionResults": []}
    assert 0.2 < time.monotonic() - begun < 5
    sent = logs.put("s", "an ERROR", "no match", "another ERROR")
    logs.put("t", "ERROR too")
    other.put("s", "ERROR of another group")
    results = []
    while len(results) < 3:
        update = next(frames)["sessionUpdate"]
        assert update["sessionMetadata"]["sampled"] is False
        results += update["sessionResults"]
    assert sorted(messages(results)) == ["ERROR too", "an ERROR", "another ERROR"]
    assert set(results[0]) == {"logStreamName", "logGroupIdentifier", "timestamp", "ingestionTime", "message"}
    assert results[0]["logGroupIdentifier"] == "000000000000:/reads" and results[0]["timestamp"] == sent[0]["timestamp"]
    stream.close()


def test_a_live_tail_says_when_it_shows_only_some(lake):
    logs = Logs(lake).create("s")
    client = live_client(lake)
    stream = client.start_live_tail(logGroupIdentifiers=[arn_of(client, "/reads")], logStreamNames=["s"])["responseStream"]
    frames = iter(stream)
    next(frames)
    logs.put("s", *["m"] * 3_000)
    while True:
        update = next(frames)["sessionUpdate"]
        if update["sessionResults"]:
            break
    assert update["sessionMetadata"]["sampled"] is True and len(update["sessionResults"]) <= 500
    stream.close()


def test_a_live_tail_of_much_text_stays_within_what_sdks_take(lake):
    """Events of one request that would be a frame of more than 24 MiB, at which botocore ends the session."""
    Logs(lake).create("s")
    client = live_client(lake)
    stream = client.start_live_tail(logGroupIdentifiers=[arn_of(client, "/reads")])["responseStream"]
    frames = iter(stream)
    next(frames)
    place = {"aws.log.group.names": "/reads", "aws.log.stream.names": "s"}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in place.items()]
    # two bytes each in JSON
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": '"' * 1_400_000}}
    body = {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [record] * 12}]}]}
    assert requests.post(lake.otlp_http_url + "/v1/logs", json=body, timeout=120).status_code == 200
    while True:
        update = next(frames)["sessionUpdate"]
        if update["sessionResults"]:
            break
    assert [len(message) for message in messages(update["sessionResults"])] == [1_400_000]
    assert update["sessionMetadata"]["sampled"] is True
    stream.close()


def test_a_live_tail_is_refused_as_the_service_does(lake):
    logs = Logs(lake).create("s")
    Logs(lake, "/b").create()
    arn, arn_b = arn_of(logs.client, "/reads"), arn_of(logs.client, "/b")
    raw = lakes.client("logs", lake.url, config=Config(parameter_validation=False, inject_host_prefix=False, retries={"max_attempts": 1}))
    call = raw.start_live_tail
    refused(call, "InvalidParameterException", logGroupIdentifiers=["/reads"])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn + ":*"])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn] * 11)
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn], logStreamNames=["s"], logStreamNamePrefixes=["s"])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn, arn_b], logStreamNames=["s"])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn], logEventFilterPattern="a-b")
    refused(call, "ResourceNotFoundException", logGroupIdentifiers=[arn + "x"])
    # one past each bound of the model, beside those above
    for member in ("logStreamNames", "logStreamNamePrefixes"):
        for wrong in ([], ["s"] * 101, [""], ["s" * 513], ["a:b"], ["a*"]):
            refused(call, "InvalidParameterException", logGroupIdentifiers=[arn], **{member: wrong})
    for wrong in ("", "x" * 2049, arn + "é", arn + " "):
        refused(call, "InvalidParameterException", logGroupIdentifiers=[wrong])
    refused(call, "InvalidParameterException", logGroupIdentifiers=[arn], logEventFilterPattern="x" * 1025)
    refused(call, "InvalidParameterException")
    # and at them
    at_bounds = {"logStreamNames": ["s"] * 99 + ["s" * 512], "logEventFilterPattern": "x" * 1024}
    call(logGroupIdentifiers=[arn], **at_bounds)["responseStream"].close()
    # ten groups are taken, and places are bounded
    streams = [call(logGroupIdentifiers=[arn] * 10)["responseStream"] for _ in range(16)]
    refused(call, "LimitExceededException", logGroupIdentifiers=[arn])
    for stream in streams:
        stream.close()


def test_the_aws_cli_tails_live(lake):
    logs = Logs(lake).create("s")
    env = {**os.environ, "AWS_DISABLE_HOST_PREFIX_INJECTION": "true", "PYTHONUNBUFFERED": "1"}
    command = [lakes.tool("aws"), "logs", "start-live-tail", "--log-group-identifiers", arn_of(logs.client, "/reads")]
    process = subprocess.Popen(command + ["--endpoint-url", lake.url], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        os.set_blocking(process.stdout.fileno(), False)
        seen = b""

        def shown():
            nonlocal seen
            assert process.poll() is None, process.stderr.read()
            logs.put("s", "live from the CLI", at=now())
            seen += process.stdout.read() or b""
            return b"live from the CLI" in seen

        lakes.wait_until(shown, 30, 0.5, what="the CLI shows an event")
    finally:
        process.kill()
        process.wait()


def test_a_page_that_looked_at_enough_and_found_nothing_has_a_token(lake):
    """50,000 events that the index gives and the pattern does not want: a page of none, whose token goes on behind them."""
    logs = Logs(lake).create("s")
    at = now() - 600_000
    for batch in range(6):
        logs.put("s", *[f"needle {batch * 10_000 + i}" for i in range(10_000)], at=at + batch * 10_000)
    logs.put("s", "a needle", at=at + 60_000)
    page = logs.filter("[a, b = needle]")
    assert page["events"] == [] and page["searchedLogStreams"] == [] and page["nextToken"]
    later = logs.filter("[a, b = needle]", nextToken=page["nextToken"])
    assert messages(later["events"]) == ["a needle"] and "nextToken" not in later
    # as real clients read on
    pages = logs.client.get_paginator("filter_log_events").paginate(logGroupName="/reads", filterPattern="[a, b = needle]")
    assert [messages(page["events"]) for page in pages] == [[], ["a needle"]]
