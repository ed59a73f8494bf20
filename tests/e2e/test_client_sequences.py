"""What the CloudWatch agent and fluent-bit send, byte for byte, in the order in which they do, and what they look for in the answers.

The docker driver's is in `test_cli.py`.
"""

import collections
import gzip
import http.client
import json
import time

import pytest

from lake import wait_until

TARGET = "Logs_20140328."


def now():
    return int(time.time() * 1000)


def dumps(value):
    """As Go's SDK and fluent-bit write: no spaces, UTF-8 as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Sender:
    """One kept connection that sends just these headers."""

    def __init__(self, lake, headers):
        self.connection = http.client.HTTPConnection(lake.url.removeprefix("http://"), timeout=20)
        self.headers, self.log = headers, []

    def call(self, operation, body, **more):
        """Status, headers and body of one call."""
        self.connection.putrequest("POST", "/", skip_accept_encoding=True)
        for name, value in {**self.headers, "X-Amz-Target": TARGET + operation, "Content-Length": str(len(body)), **more}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(body)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            text = gzip.decompress(text)
        self.log.append((operation, answer.status))
        return answer.status, answer.headers, text


class Agent(Sender):
    """The CloudWatch agent: Go's SDK, version 1, with its handler that compresses."""

    def __init__(self, lake):
        super().__init__(
            lake,
            {
                "User-Agent": "CWAgent/1.300052.0 (go1.23.4; linux; amd64; ID=0c2a) inputs:(logfile) outputs:(cloudwatchlogs) aws-sdk-go/1.48.6",
                "Authorization": "AWS4-HMAC-SHA256 Credential=test/20261123/us-east-1/logs/aws4_request, "
                "SignedHeaders=content-encoding;content-length;content-type;host;x-amz-date;x-amz-target, Signature=0",
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
                "Accept-Encoding": "gzip",
            },
        )

    def send(self, operation, members):
        """The answer; its error by the header, as Go's SDK reads it first."""
        body, more = dumps(members), {}
        if operation == "PutLogEvents":
            packed = gzip.compress(body)
            if len(packed) < len(body):
                body, more = packed, {"Content-Encoding": "gzip"}
            if any(e["message"].startswith("{") and e["message"].endswith("}") and '"CloudWatchMetrics"' in e["message"] for e in members["logEvents"]):
                more["x-amzn-logs-format"] = "json/emf"
        status, headers, text = self.call(operation, body, **more)
        assert headers["x-amzn-RequestId"] and headers["Content-Type"] == "application/x-amz-json-1.1"
        answer = json.loads(text or b"{}")
        if status == 200:
            assert "x-amzn-ErrorType" not in headers
            return answer
        assert headers["x-amzn-ErrorType"] == answer["__type"] and set(answer) == {"__type", "message"}, "both places say the same"
        return answer["__type"]


GROUP, STREAM = "/agent/syslog", "i-0a1b2c3d"
NAMES = {"logGroupName": GROUP, "logStreamName": STREAM}
ENTITY = {
    "attributes": {"AWS.ServiceNameSource": "Instrumentation", "EC2.InstanceId": "i-0a1b2c3d", "PlatformType": "AWS::EC2"},
    "keyAttributes": {"Environment": "ec2:default", "Name": "checkout", "Type": "Service"},
}


def deliver_as_the_agent(agent, events, retention):
    """Its way with a batch: try, make what is missing, try again; then the retention, once."""
    batch = {"entity": ENTITY, "logEvents": events, **NAMES}
    answer = agent.send("PutLogEvents", batch)
    if answer == "ResourceNotFoundException":
        made = agent.send("CreateLogStream", NAMES)
        if made == "ResourceNotFoundException":
            assert agent.send("CreateLogGroup", {"logGroupName": GROUP}) in ({}, "ResourceAlreadyExistsException")
            made = agent.send("CreateLogStream", NAMES)
        assert made in ({}, "ResourceAlreadyExistsException")
        answer = agent.send("PutLogEvents", batch)
    assert isinstance(answer, dict), answer
    (group,) = agent.send("DescribeLogGroups", {"logGroupIdentifiers": [GROUP]})["logGroups"]
    if group.get("retentionInDays", 0) != retention:
        assert agent.send("PutRetentionPolicy", {"logGroupName": GROUP, "retentionInDays": retention}) == {}
    return answer


def test_what_the_cloudwatch_agent_sends(make_lake):
    lake = make_lake()
    agent, at = Agent(lake), now() - 5_000
    lines = [{"message": f"Nov 23 04:00:{i:02d} ip-10-0-0-1 sshd[{i}]: größer, Sitzung {i}", "timestamp": at + i} for i in range(40)]
    answer = deliver_as_the_agent(agent, lines, retention=7)
    assert answer["nextSequenceToken"] and "rejectedLogEventsInfo" not in answer and "rejectedEntityInfo" not in answer
    assert agent.log == [
        ("PutLogEvents", 400),
        ("CreateLogStream", 400),
        ("CreateLogGroup", 200),
        ("CreateLogStream", 200),
        ("PutLogEvents", 200),
        ("DescribeLogGroups", 200),
        ("PutRetentionPolicy", 200),
    ]
    # the next batch is one call, and the retention is as wanted; EMF under its header is metrics as well
    agent.log.clear()
    metrics = [{"Namespace": "CWAgent", "Dimensions": [["InstanceId"]], "Metrics": [{"Name": "mem_used_percent", "Unit": "Percent"}]}]
    emf = {"_aws": {"Timestamp": at + 100, "CloudWatchMetrics": metrics}, "InstanceId": "i-0a1b2c3d", "mem_used_percent": 41.5}
    deliver_as_the_agent(agent, [{"message": dumps(emf).decode(), "timestamp": at + 100}], retention=7)
    assert agent.log == [("PutLogEvents", 200), ("DescribeLogGroups", 200)]
    assert {row["metric_name"] for row in lake.sql("SELECT metric_name FROM metric_points")} == {"mem_used_percent"}
    # what makes it drop a batch instead of trying for days
    late = [{"message": "b", "timestamp": at + 201}, {"message": "a", "timestamp": at + 200}]
    assert agent.send("PutLogEvents", {"logEvents": late, **NAMES}) == "InvalidParameterException"
    # it starts again, and its stream is there; so are the events, under the service that the entity names
    lake.restart(kill=True)
    agent = Agent(lake)
    assert agent.send("CreateLogStream", NAMES) == "ResourceAlreadyExistsException"
    hits = lake.hits(f"log_group:{GROUP} service:checkout")
    assert collections.Counter(hit["body"] for hit in hits) == collections.Counter([line["message"] for line in lines] + [dumps(emf).decode()])


def test_a_group_identifier_that_the_agent_asks_for_and_is_not_there_is_no_error(lake):
    """It would fall back to a look-up by prefix on one message only."""
    assert Agent(lake).send("DescribeLogGroups", {"logGroupIdentifiers": ["/nowhere"]})["logGroups"] == []


class FluentBit(Sender):
    """fluent-bit's `cloudwatch_logs`: its own HTTP client and its own JSON."""

    def __init__(self, lake, **more):
        super().__init__(
            lake,
            {
                "User-Agent": "aws-fluent-bit-plugin",
                "Content-Type": "application/x-amz-json-1.1",
                "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
                "Authorization": "AWS4-HMAC-SHA256 Credential=test/20261123/us-east-1/logs/aws4_request, "
                "SignedHeaders=content-type;host;user-agent;x-amz-date;x-amz-target, Signature=0",
            },
        )
        self.more = more

    def send(self, operation, body):
        """None, or the error as its small parser finds it: `__type` of a flat object, taken letter by letter."""
        status, headers, text = self.call(operation, body.encode(), **(self.more if operation == "PutLogEvents" else {}))
        if status == 200:
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            assert "x-amzn-requestid" in head.lower(), "else it takes the 200 for a failure and sends again"
            assert headers["Transfer-Encoding"] is None and int(headers["Content-Length"]) == len(text)
            return None
        assert len(text) < 1_000
        error = json.loads(text)
        assert all(isinstance(value, str) for value in error.values()) and len(error) <= 5, "few tokens"
        return error["__type"]

    def make_stream(self, group, stream, retention_days=0, log_class=None):
        body = f'{{"logGroupName":"{group}","logStreamName":"{stream}"}}'
        error = self.send("CreateLogStream", body)
        if error == "ResourceNotFoundException":
            create = f'{{"logGroupName":"{group}"}}' if log_class is None else f'{{"logGroupName":"{group}", "logGroupClass":"{log_class}"}}'
            assert self.send("CreateLogGroup", create) in (None, "ResourceAlreadyExistsException")
            if retention_days:
                assert self.send("PutRetentionPolicy", f'{{"logGroupName":"{group}","retentionInDays":{retention_days}}}') is None
            error = self.send("CreateLogStream", body)
        assert error in (None, "ResourceAlreadyExistsException")

    def put(self, group, stream, entity, records):
        events = ",".join(f'{{"timestamp":{at},"message":"{message}"}}' for at, message in records)
        return self.send("PutLogEvents", f'{{"logGroupName":"{group}","logStreamName":"{stream}",{entity}"logEvents":[{events}]}}')


KEYS = '"keyAttributes":{"Type":"Service","Name":"web","Environment":"eks:shop/default","AwsAccountId":"123456789012"}'
ATTRIBUTES = '"attributes":{"PlatformType":"AWS::EKS","EKS.Cluster":"shop","K8s.Namespace":"default","K8s.Node":"ip-10-0-0-1","EC2.InstanceId":"i-1"}'


@pytest.mark.parametrize("log_class", [None, "INFREQUENT_ACCESS"])
def test_what_fluent_bit_sends(lake, log_class):
    bit, at = FluentBit(lake), now() - 2_000
    group, stream = "fluent-bit-cloudwatch", "from-fluent-bit-app.0"
    bit.make_stream(group, stream, retention_days=14, log_class=log_class)
    expected = ["CreateLogStream", "CreateLogGroup", "PutRetentionPolicy", "CreateLogStream"]
    assert bit.log == list(zip(expected, [400, 200, 200, 200]))
    # json in json, as it escapes it: slashes and what is not ASCII too
    records = [(at + i, '{\\"log\\":\\"line ' + str(i) + ' \\\\u00e9 \\/ \\\\t\\",\\"container_name\\":\\"\\/web\\"}') for i in range(30)]
    assert bit.put(group, stream, f'"entity":{{{KEYS},{ATTRIBUTES}}},', records) is None
    hits = lake.hits(f"log_group:{group} log_stream:{stream}")
    assert sorted(json.loads(hit["body"])["log"] for hit in hits) == sorted(f"line {i} é / \t" for i in range(30))
    (shown,) = lake.boto3().describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert shown["retentionInDays"] == 14
    # a second start finds both; a stream that is not there fails its chunk for good
    again = FluentBit(lake)
    again.make_stream(group, stream)
    assert again.log == [("CreateLogStream", 400)]
    assert again.put(group, "gone", "", records) == "ResourceNotFoundException"


def test_what_fluent_bit_sends_of_metrics(lake):
    """`log_format json/emf`: the header on every batch."""
    bit, at = FluentBit(lake, **{"x-amzn-logs-format": "json/emf"}), now() - 2_000
    bit.make_stream("emf", "s")
    metrics = [{"Namespace": "fluent-bit-metrics", "Dimensions": [[]], "Metrics": [{"Name": "cpu_p", "Unit": "Percent"}]}]
    message = dumps({"_aws": {"Timestamp": at, "CloudWatchMetrics": metrics}, "cpu_p": 7.25}).decode().replace('"', '\\"')
    assert bit.put("emf", "s", "", [(at, message)]) is None
    names = lambda: [row["metric_name"] for table in ("metric_points", "metric_summaries") for row in lake.sql(f"SELECT metric_name FROM {table}")]  # noqa: E731
    wait_until(lambda: names() == ["cpu_p"], what="the point")
