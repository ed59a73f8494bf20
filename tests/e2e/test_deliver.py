"""What goes out: subscription filters to Kinesis and Firehose, and rows by a query, through the SDKs to moto and to ourselves."""

import base64
import gzip
import http.server
import json
import os
import subprocess
import threading
import time
import uuid

import pytest
import requests
from botocore.exceptions import ClientError, ParamValidationError

import lake as lakes
from lake import client, free_port, Server, tool, wait_until

GROUP = "/deliver/shop"
ROLE = "arn:aws:iam::123456789012:role/deliver"


def now():
    return int(time.time() * 1000)


def put(logs, texts, stream="s", group=GROUP):
    at = now()
    answer = logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": at + i, "message": t} for i, t in enumerate(texts)])
    assert "rejectedLogEventsInfo" not in answer


def make_group(lake, streams=("s",), group=GROUP):
    logs = lake.boto3()
    logs.create_log_group(logGroupName=group)
    for stream in streams:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    return logs


class Kinesis:
    """A stream of moto's and what came to it."""

    def __init__(self, url, shards=2):
        self.client = client("kinesis", url)
        self.name = f"out-{uuid.uuid4().hex[:8]}"
        self.client.create_stream(StreamName=self.name, ShardCount=shards)
        self.arn = self.client.describe_stream(StreamName=self.name)["StreamDescription"]["StreamARN"]

    def records(self):
        """(shard, what it holds) of every record."""
        found = []
        for shard in self.client.list_shards(StreamName=self.name)["Shards"]:
            shard = shard["ShardId"]
            at = self.client.get_shard_iterator(StreamName=self.name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
            while True:
                page = self.client.get_records(ShardIterator=at, Limit=1000)
                found += [(shard, json.loads(gzip.decompress(record["Data"]))) for record in page["Records"]]
                at = page["NextShardIterator"]
                if not page["Records"]:
                    break
        return found

    def events(self):
        return [event for _, envelope in self.records() if envelope["messageType"] == "DATA_MESSAGE" for event in envelope["logEvents"]]

    def messages(self):
        return sorted(event["message"] for event in self.events())


class Firehose:
    """A delivery stream of moto's into a bucket."""

    def __init__(self, url, name=None):
        self.s3, self.client = client("s3", url), client("firehose", url)
        self.name = name or f"out-{uuid.uuid4().hex[:8]}"
        self.bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        to = {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{self.bucket}"}
        self.arn = self.client.create_delivery_stream(DeliveryStreamName=self.name, ExtendedS3DestinationConfiguration=to)["DeliveryStreamARN"]

    def bytes(self):
        keys = [one["Key"] for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket) for one in page.get("Contents", [])]
        return b"".join(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in sorted(keys))

    def envelopes(self):
        text, found, decoder = gzip.decompress(self.bytes() or gzip.compress(b"")).decode(), [], json.JSONDecoder()
        at = 0
        while at < len(text):
            envelope, at = decoder.raw_decode(text, at)
            found.append(envelope)
        return found

    def messages(self):
        return sorted(event["message"] for envelope in self.envelopes() if envelope["messageType"] == "DATA_MESSAGE" for event in envelope["logEvents"])

    def rows(self):
        return [json.loads(line) for line in self.bytes().splitlines()]


def make_deliver_lake(make_lake, url, **deliver):
    return make_lake(config={"deliver": {"endpoint_url": url, "every_millis": 100, "longest_wait_seconds": 1, **deliver}}, env=KEYS)


KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_REGION": "us-east-1"}


def the_job(lake):
    (job,) = wait_until(lambda: lake.status()["deliveries"], what="a delivery")
    return job


def error_code(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"]


def test_matching_events_reach_kinesis_once(make_lake, moto):
    stream, lake = Kinesis(moto), make_deliver_lake(make_lake, moto)
    logs = make_group(lake, ("s", "t"))
    put(logs, ["ERROR before there was a filter"])
    logs.put_subscription_filter(logGroupName=GROUP, filterName="errors", filterPattern='"ERROR" -healthz', destinationArn=stream.arn, roleArn=ROLE)
    ((_, control),) = stream.records()
    assert control["messageType"] == "CONTROL_MESSAGE" and control["logEvents"][0]["message"].startswith("CWL CONTROL MESSAGE")
    put(logs, ["ERROR one", "fine", "ERROR /healthz", "ERROR zwei: größer"])
    put(logs, ["ERROR three"], stream="t")
    wanted = ["ERROR one", "ERROR three", "ERROR zwei: größer"]
    wait_until(lambda: stream.messages() == wanted, what="three events at Kinesis")
    # a clean restart repeats nothing, and a flush changes nothing
    lake.restart()
    logs = lake.boto3()
    put(logs, ["ERROR four"])
    wait_until(lambda: "ERROR four" in stream.messages())
    assert stream.messages() == sorted(wanted + ["ERROR four"])
    assert the_job(lake)["delivered"] == 4
    data = [(shard, one) for shard, one in stream.records() if one["messageType"] == "DATA_MESSAGE"]
    for _, one in data:
        assert (one["owner"], one["logGroup"], one["subscriptionFilters"]) == ("000000000000", GROUP, ["errors"])
    assert len({shard for shard, one in data if one["logStream"] == "s"}) == 1, "a stream's records go to one shard"
    # the same event, under the same name
    seen = {event["eventId"]: event["message"] for event in logs.filter_log_events(logGroupName=GROUP, filterPattern="ERROR -healthz -before")["events"]}
    assert {event["id"]: event["message"] for event in stream.events()} == seen
    rows = lake.sql("SELECT outcome, sum(records) AS n FROM ledger WHERE receiver = 'deliver' GROUP BY 1")
    assert [(row["outcome"], int(row["n"])) for row in rows] == [("delivered", 4)]


def test_firehose_gets_what_the_receiver_takes_back(make_lake, moto):
    """moto's Firehose writes to S3; the same records, delivered to our own POST /firehose, are the same events."""
    stream, lake = Firehose(moto), make_deliver_lake(make_lake, moto)
    logs = make_group(lake)
    logs.put_subscription_filter(logGroupName=GROUP, filterName="all", filterPattern="", destinationArn=stream.arn, roleArn=ROLE)
    wanted = sorted(f"line {i} " + "x" * 500 for i in range(3000))
    put(logs, wanted[:1500])
    put(logs, wanted[1500:])
    wait_until(lambda: stream.messages() == wanted, timeout=40, what="3,000 events in the bucket")
    other = make_lake("other")
    records = [{"data": base64.b64encode(gzip.compress(json.dumps(one).encode())).decode()} for one in stream.envelopes()]
    body, headers = {"requestId": "r-1", "timestamp": now(), "records": records}, {"X-Amz-Firehose-Request-Id": "r-1"}
    answer = other.session.post(other.url + "/firehose", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    # some have times of the next second
    wait_until(lambda: sorted(hit["body"] for hit in other.hits(limit=1000)) == wanted, timeout=20, what="3,000 events")


def test_the_three_calls(make_lake, moto):
    """Happy path, every modelled error, paging, limits; shapes are checked by botocore's own model."""
    stream, lake = Kinesis(moto), make_deliver_lake(make_lake, moto)
    logs = make_group(lake)
    good = {"logGroupName": GROUP, "filterName": "f", "filterPattern": "", "destinationArn": stream.arn, "roleArn": ROLE}
    put_filter, describe, delete = logs.put_subscription_filter, logs.describe_subscription_filters, logs.delete_subscription_filter
    assert describe(logGroupName=GROUP)["subscriptionFilters"] == []
    put_filter(**good, distribution="Random")
    (shown,) = describe(logGroupName=GROUP)["subscriptionFilters"]
    assert abs(shown.pop("creationTime") - now()) < 60_000
    assert shown == good | {"distribution": "Random", "applyOnTransformedLogs": False}
    put_filter(**good | {"filterPattern": "x"})
    assert [f["filterPattern"] for f in describe(logGroupName=GROUP)["subscriptionFilters"]] == ["x"]
    put_filter(**good | {"filterName": "n" * 512, "filterPattern": "y" * 1024})
    pages = logs.get_paginator("describe_subscription_filters").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 1})
    assert [[f["filterName"] for f in page["subscriptionFilters"]] for page in pages] == [["f"], ["n" * 512]]
    assert [f["filterName"] for f in describe(logGroupName=GROUP, filterNamePrefix="nn")["subscriptionFilters"]] == ["n" * 512]
    assert error_code(put_filter, **good | {"filterName": "third"}) == "LimitExceededException"
    delete(logGroupName=GROUP, filterName="n" * 512)
    for wrong in (
        {"filterName": "a*"},
        {"filterName": "n" * 513},
        {"filterPattern": "y" * 1025},
        {"filterPattern": "{ $.a = "},
        {"destinationArn": "arn:aws:lambda:us-east-1:123456789012:function:f"},
        {"destinationArn": "arn:aws:logs:us-east-1:123456789012:destination:d"},
        {"destinationArn": stream.arn + "-absent"},
        {"distribution": "Even"},
        {"roleArn": ""},
    ):
        with pytest.raises((ClientError, ParamValidationError)) as caught:
            put_filter(**good | wrong)
        if isinstance(caught.value, ClientError):
            assert caught.value.response["Error"]["Code"] == "InvalidParameterException", wrong
    without = {member: value for member, value in good.items() if member != "roleArn"}
    assert error_code(put_filter, **without) == "InvalidParameterException"
    for call in (put_filter, describe, delete):
        members = good if call == put_filter else {"logGroupName": GROUP} if call == describe else {"logGroupName": GROUP, "filterName": "f"}
        assert error_code(call, **members | {"logGroupName": "absent"}) == "ResourceNotFoundException"
    assert error_code(delete, logGroupName=GROUP, filterName="absent") == "ResourceNotFoundException"
    assert error_code(describe, logGroupName=GROUP, nextToken="none") == "InvalidParameterException"
    logs.create_log_group(logGroupName="/rare", logGroupClass="INFREQUENT_ACCESS")
    assert error_code(put_filter, **good | {"logGroupName": "/rare"}) == "InvalidOperationException"
    lake.restart(kill=True)
    assert [f["filterName"] for f in lake.boto3().describe_subscription_filters(logGroupName=GROUP)["subscriptionFilters"]] == ["f"]
    lake.boto3().delete_log_group(logGroupName=GROUP)
    lake.boto3().create_log_group(logGroupName=GROUP)
    assert lake.boto3().describe_subscription_filters(logGroupName=GROUP)["subscriptionFilters"] == []


def test_events_say_the_system_fields_that_a_filter_asks_for(make_lake, moto):
    stream, lake = Kinesis(moto), make_deliver_lake(make_lake, moto)
    logs = make_group(lake)
    members = dict(logGroupName=GROUP, filterName="f", filterPattern="", destinationArn=stream.arn, roleArn=ROLE)
    criteria = '@aws.account = "000000000000" AND @aws.region IN ["us-east-1"]'
    logs.put_subscription_filter(**members, emitSystemFields=["@aws.account", "@aws.region"], fieldSelectionCriteria=criteria)
    lake.restart()
    logs = lake.boto3()
    put(logs, ["one"])
    wait_until(lambda: stream.messages() == ["one"], what="an event")
    assert stream.events()[0]["extractedFields"] == {"@aws.account": "000000000000", "@aws.region": "us-east-1"}
    (shown,) = logs.describe_subscription_filters(logGroupName=GROUP)["subscriptionFilters"]
    assert (shown["emitSystemFields"], shown["fieldSelectionCriteria"]) == (["@aws.account", "@aws.region"], criteria)
    logs.put_subscription_filter(**members)
    put(logs, ["two"])
    wait_until(lambda: stream.messages() == ["one", "two"], what="the next event")
    assert [event.get("extractedFields") for event in stream.events() if event["message"] == "two"] == [None]
    assert error_code(logs.put_subscription_filter, **members, fieldSelectionCriteria="@aws.zone = 'x'") == "InvalidParameterException"
    assert error_code(logs.put_subscription_filter, **members, emitSystemFields=["@source.log"]) == "InvalidParameterException"


def test_dead_letters_are_sent_again_by_hand_each_once(moto, tmp_path):
    """Letters as a server writes them; those for a stream that is not there stay until it is."""
    stream, absent = Kinesis(moto), f"absent-{uuid.uuid4().hex[:8]}"

    def letter(name, text):
        envelope = {"messageType": "DATA_MESSAGE", "logEvents": [{"message": text}]}
        data = base64.b64encode(gzip.compress(json.dumps(envelope).encode())).decode()
        return json.dumps({"time": "", "job": "j", "destination": f"kinesis:{name}", "reason": "refused", "error": "", "rows": 1, "data": data}) + "\n"

    letters, settings = tmp_path / "dead-letters.ndjson", tmp_path / "tracelake.toml"
    letters.write_text(letter(stream.name, "one") + letter(absent, "two") + letter(stream.name, "three") + '{"torn')
    settings.write_text(f'[deliver]\nendpoint_url = "{moto}"\nregion = "us-east-1"\n')

    def retry(code, **expected):
        command = [lakes.binary(), "deliver", "retry", str(letters), "--config", str(settings), "--json"]
        done = subprocess.run(command, env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done
        answer = json.loads(done.stdout)
        assert {name: answer[name] for name in expected} == expected
        return answer

    answer = retry(1, sent=2, rows=2, sent_before=0, failed=1, unreadable=1)
    assert list(answer["errors"]) == [f"kinesis:{absent}"] and "ResourceNotFound" in answer["errors"][f"kinesis:{absent}"]
    assert stream.messages() == ["one", "three"]
    client("kinesis", moto).create_stream(StreamName=absent, ShardCount=1)
    letters.write_text(letters.read_text().removesuffix('{"torn'))
    retry(0, sent=1, sent_before=2, failed=0, unreadable=0)
    retry(0, sent=0, sent_before=3)
    assert stream.messages() == ["one", "three"]
    arrived = Kinesis.__new__(Kinesis)
    arrived.client, arrived.name = client("kinesis", moto), absent
    assert arrived.messages() == ["two"]


def test_kills_lose_nothing(make_lake, moto):
    """kill -9 while events come in and go out: each is at Kinesis at least once, under one ID."""
    stream, lake = Kinesis(moto), make_deliver_lake(make_lake, moto)
    logs = make_group(lake)
    logs.put_subscription_filter(logGroupName=GROUP, filterName="all", filterPattern="", destinationArn=stream.arn, roleArn=ROLE)
    sent = []
    for life in range(4):
        for batch in range(5):
            texts = [f"life {life} batch {batch} line {i}" for i in range(200)]
            put(logs, texts)
            sent += texts
        lake.restart(kill=True)
        logs = lake.boto3()
    wait_until(lambda: set(stream.messages()) >= set(sent), timeout=40, what="all events at Kinesis")
    events = stream.events()
    assert {event["message"] for event in events} == set(sent)
    assert len({event["id"] for event in events}) == len(sent), "what comes twice has its ID again"


def test_a_destination_that_is_away_gets_all_later(make_lake, tmp_path):
    """Events wait in the lake while there is no Kinesis, over flushes and kills, and arrive when there is one."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def start():
        (tmp_path / "kinesis").mkdir(exist_ok=True)
        server = Server([tool("moto_server"), "-H", "127.0.0.1", "-p", str(port)], tmp_path / "kinesis")
        server.wait_ready(lambda: requests.get(url + "/moto-api/data.json", timeout=5).ok)
        return server

    server = start()
    try:
        stream = Kinesis(url)
        lake = make_lake(
            config={"deliver": {"endpoint_url": url, "every_millis": 100, "longest_wait_seconds": 1}, "ingest": {"flush_age_seconds": 1}}, env=KEYS
        )
        logs = make_group(lake)
        logs.put_subscription_filter(logGroupName=GROUP, filterName="all", filterPattern="", destinationArn=stream.arn, roleArn=ROLE)
        server.kill()
        put(logs, [f"while away {i}" for i in range(100)])
        wait_until(lambda: the_job(lake)["failing_since"], what="the job says that it fails")
        wait_until(lambda: lake.status()["head"]["rows"] == 0, what="a flush")
        lake.restart(kill=True)
        put(lake.boto3(), [f"and later {i}" for i in range(100)])
        assert the_job(lake)["delivered"] == 0
        server = start()
        again = client("kinesis", url)
        again.create_stream(StreamName=stream.name, ShardCount=1)
        wanted = sorted([f"while away {i}" for i in range(100)] + [f"and later {i}" for i in range(100)])
        wait_until(lambda: stream.messages() == wanted, timeout=60, what="all 200 events, once each")
        lake.wait_until(lambda: the_job(lake)["failing_since"] is None)
    finally:
        server.kill()


class Returning:
    """A Firehose whose stream delivers into the lake that sends to it: each PutRecordBatch becomes a POST /firehose."""

    def __init__(self, name="loop"):
        self.arn = f"arn:aws:firehose:us-east-1:123456789012:deliverystream/{name}"
        self.lake, self.delivered, self.n_calls = None, 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                call = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.n_calls += 1
                records = [{"data": record["Data"]} for record in call.get("Records", [call.get("Record")])]
                request_id = uuid.uuid4().hex
                headers = {"X-Amz-Firehose-Request-Id": request_id, "X-Amz-Firehose-Source-Arn": outer.arn}
                body = {"requestId": request_id, "timestamp": now(), "records": records}
                outer.lake.session.post(outer.lake.url + "/firehose", json=body, headers=headers).raise_for_status()
                outer.delivered += len(records)
                answer = {"FailedPutCount": 0, "Encrypted": False, "RequestResponses": [{"RecordId": str(i)} for i, _ in enumerate(records)], "RecordId": "1"}
                answer = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def sums(lake, receiver):
    rows = lake.sql(f"SELECT outcome, reason, sum(records) AS n FROM ledger WHERE receiver = '{receiver}' GROUP BY 1, 2")
    return {(row["outcome"], row.get("reason")): int(row["n"]) for row in rows}


def test_a_stream_that_delivers_into_the_same_lake_makes_no_loop(make_lake):
    stream = Returning()
    lake = stream.lake = make_deliver_lake(make_lake, stream.url)
    logs = make_group(lake)
    logs.put_subscription_filter(logGroupName=GROUP, filterName="all", filterPattern="", destinationArn=stream.arn, roleArn=ROLE)
    for round in range(3):
        put(logs, [f"round {round} line {i}" for i in range(4)])
        # sent once, brought back, known, and not sent again
        wait_until(lambda: sums(lake, "firehose").get(("repeated", None)) == 4 * (round + 1), what="copies that came back")
        wait_until(lambda: the_job(lake)["positions_behind"] < 3 and the_job(lake)["delivered"] == 4 * (round + 1), what="deliveries")
    events = logs.filter_log_events(logGroupName=GROUP)["events"]
    assert len(events) == len({event["message"] for event in events}) == 12
    assert sums(lake, "firehose") == {("repeated", None): 12}
    assert stream.delivered <= 1 + 12, "a control message, and each event in one record at most"
    # another lake takes what this one sends
    other = stream.lake = make_lake("other")
    put(logs, ["for the other"])
    wait_until(lambda: [hit["body"] for hit in other.hits()] == ["for the other"], what="an event at the other lake")
    assert sums(other, "firehose") == {("accepted", None): 1}


def test_rows_that_came_by_a_stream_are_not_sent_into_it_again(make_lake):
    stream = Returning("rows-loop")
    lake = stream.lake = make_deliver_lake(make_lake, stream.url, rows=[{"name": "all", "query": "", "stream": "rows-loop"}])
    logs = make_group(lake)
    put(logs, ["one", "two"])
    # they come back as lines of JSON, once
    wait_until(lambda: sums(lake, "deliver") == {("delivered", None): 2, ("undelivered", "came_from_there"): 2}, what="two that are not sent again")
    put(logs, ["three"])
    wait_until(lambda: sums(lake, "deliver") == {("delivered", None): 3, ("undelivered", "came_from_there"): 3}, what="three that are not sent again")
    job = the_job(lake)
    assert (job["delivered"], job["came_from_there"], job["dead_letters"]) == (3, 3, {})
    assert len(lake.hits(limit=100)) == 6


def test_rows_by_a_query_reach_firehose_as_the_api_gives_them(make_lake, moto):
    stream = Firehose(moto)
    rows = [{"name": "errors", "query": "severity>=ERROR", "stream": stream.name}]
    lake = make_deliver_lake(make_lake, moto, rows=rows)
    logs = make_group(lake)
    put(logs, ["ERROR first", "INFO nothing", "ERROR second"])
    wait_until(lambda: len(stream.rows()) == 2, what="two rows in the bucket")
    lake.restart()
    put(lake.boto3(), ["ERROR third"])
    wait_until(lambda: len(stream.rows()) == 3)
    given = lake.session.get(lake.url + "/api/v1/search", params={"q": "severity>=ERROR"}, headers={"Accept": "application/x-ndjson"}).text
    given = [json.loads(line) for line in given.splitlines() if '"body"' in line]
    key = lambda row: row["id"]  # noqa: E731
    assert sorted(stream.rows(), key=key) == sorted(given, key=key)
    job = the_job(lake)
    assert (job["job"], job["service"], job["delivered"], job["dead_letters"]) == ("rows errors", "firehose", 3, {})
    metrics = lake.session.get(lake.url + "/metrics").text
    assert 'deliver_rows_total{outcome="delivered",reason=""} 1' in metrics


class Faulty:
    """A lake that sends one group's events to Kinesis and Firehose, and its errors by a query to Firehose too, all of it through a proxy."""

    def __init__(self, make_lake, make_proxy, moto, **config):
        self.proxy = make_proxy(moto, seed=11)
        self.kinesis, self.firehose, self.errors = Kinesis(moto), Firehose(moto), Firehose(moto)
        rows = [{"name": "errors", "query": "severity>=ERROR", "stream": self.errors.name}]
        deliver = {"endpoint_url": self.proxy.url, "every_millis": 100, "longest_wait_seconds": 1, "rows": rows}
        self.lake = make_lake(config={"deliver": deliver, **config}, env=KEYS)
        self.sent = []
        logs = make_group(self.lake, ("s", "t", "u"))
        for name, stream in (("kinesis", self.kinesis), ("firehose", self.firehose)):
            logs.put_subscription_filter(logGroupName=GROUP, filterName=name, filterPattern="", destinationArn=stream.arn, roleArn=ROLE)

    def put(self, n):
        """`n` events, each with its own text; every fourth is an error."""
        logs = self.lake.boto3()
        for stream in "stu":
            texts = [f"{'ERROR' if i % 4 == 0 else 'INFO'} {stream} {len(self.sent) + i}" for i in range(n)]
            put(logs, texts, stream=stream)
            self.sent += texts

    def put_until_each_happened(self, *more):
        """Batches, until each kind of fault has met a delivery."""
        for _ in range(100):
            self.put(20)
            time.sleep(0.2)
            if all(self.proxy.counts[kind] > 0 for kind in (*self.proxy.kinds, *more)):
                return
        raise AssertionError(self.proxy.counts)

    def wanted(self):
        return sorted(self.sent), sorted(text for text in self.sent if text.startswith("ERROR"))

    def arrived(self):
        return self.kinesis.messages(), self.firehose.messages(), sorted(row["body"] for row in self.errors.rows())

    def counted(self):
        rows = self.lake.sql("SELECT outcome, sum(records) AS n FROM ledger WHERE receiver = 'deliver' GROUP BY 1")
        return {row["outcome"]: int(row["n"]) for row in rows}

    def books_agree(self):
        """Each row is counted once in each of its deliveries, however often it was sent."""
        everything, errors = self.wanted()
        want = 2 * len(everything) + len(errors)
        self.lake.wait_until(lambda: self.counted() == {"delivered": want}, 30, what=f"{want} delivered, last {self.counted()}")
        jobs = self.lake.status()["deliveries"]
        assert sorted(job["delivered"] for job in jobs) == [len(errors), len(everything), len(everything)]
        assert [job["dead_letters"] for job in jobs] == [{}] * 3


def test_refusals_and_partial_failures_lose_and_double_nothing(make_lake, make_proxy, moto):
    """No answer is lost on its way here, so each event comes once: throttling, faults and refused records of a batch cause no second one."""
    to = Faulty(make_lake, make_proxy, moto)
    to.proxy.kinds, to.proxy.faults, to.proxy.partial = ("throttled", "failed", "unavailable", "cut before"), 0.3, 0.4
    to.put_until_each_happened("partial", "PutRecords", "PutRecordBatch")
    everything, errors = to.wanted()
    wait_until(lambda: to.arrived() == (everything, everything, errors), 60, 0.5, what="each event once, everywhere")
    to.books_agree()
    # nothing comes later
    time.sleep(1.5)
    assert to.arrived() == (everything, everything, errors)


def test_lost_answers_and_kills_lose_nothing_and_the_ledger_counts_each_row_once(make_lake, make_proxy, moto):
    """What comes twice, since its answer was lost or the process died behind it, comes under its ID again."""
    to = Faulty(make_lake, make_proxy, moto, ingest={"flush_age_seconds": 1})
    to.proxy.faults, to.proxy.partial = 0.3, 0.3
    for _ in range(3):
        for _ in range(4):
            to.put(15)
            time.sleep(0.3)
        to.lake.restart(kill=True)
    to.put_until_each_happened("partial")
    to.lake.restart(kill=True)
    everything, errors = to.wanted()
    wait_until(lambda: tuple(map(set, to.arrived())) == (set(everything), set(everything), set(errors)), 90, 0.5, what="each event, everywhere")
    to.books_agree()
    for events in (to.kinesis.events(), [event for one in to.firehose.envelopes() if one["messageType"] == "DATA_MESSAGE" for event in one["logEvents"]]):
        assert len({(event["id"], event["message"]) for event in events}) == len({event["id"] for event in events}) == len(everything)
    assert len({row["id"] for row in to.errors.rows()}) == len(errors)
