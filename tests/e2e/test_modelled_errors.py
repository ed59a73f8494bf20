"""Each error that the service's own model lists for a call: how it comes about here, or why it cannot.

The calls come out of the source, their errors out of botocore's model; a call or an error without a row fails the test. Each error is provoked
through boto3, which must take it for its modelled class, with all members that the class has.
"""

import re
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import lake as lakes
from test_deliver import KEYS, ROLE, Kinesis
from test_limits import SMALL, half_sent
from test_model_bounds import CALLS, good_members, method_of, of_group
from test_sigv4 import SECRETS, keys

GROUP, RARE, KEPT, TAGGED, NOWHERE, STREAM = "/errors", "/errors/rare", "/errors/kept", "/errors/tagged", "/nowhere", "s"
MAX_GROUPS = 4
ARN = "arn:aws:logs:us-east-1:000000000000:log-group:"
N_EVENTS = 60_000
SLOW = "fields @message | parse @message /(?<word>l[a-z]+e) (?<number>\\d+)/ | sort word asc, number desc | limit 10"


class Row:
    """What provokes an error: members beside those that a good call has, or a function that gives them; and the words that it comes with."""

    def __init__(self, words, members=None, key=None, again=1, **more):
        self.words, self.members, self.key, self.again = words, members or more, key, again


# one validation of all members, in the words of the service's front door
VIOLATION = r"\d+ validation errors? detected: Value .* at '.*' failed to satisfy constraint: Member must .*"
NO_GROUP = Row("The specified log group does not exist.", logGroupName=NOWHERE)
NO_RESOURCE = Row("The specified log group does not exist.", resourceArn=ARN + NOWHERE)
BAD_GROUP = Row(VIOLATION, logGroupName="a b")
BAD_IDENTIFIER = Row("The log group identifier \"arn:aws:s3:::b\" is invalid.", logGroupIdentifier="arn:aws:s3:::b")
BAD_RESOURCE = Row('The ARN "x" is invalid: expected arn:aws:logs:REGION:ACCOUNT:log-group:NAME', resourceArn="x")
NO_QUERY = Row("The specified query does not exist.", queryId="12345678-0000-0000-0000-000000000000")
# all memory of requests is held by others: a server of its own
BUSY = Row("requests in flight hold the 400000 bytes of memory that receive.max_memory_bytes allows")
DENIED = r"User: arn:aws:iam::000000000000:user/{0} is not authorized to perform: logs:{1} on resource: .* lacks the right {2}"

ORDERED = "changes of one group are made one after another: none is aborted for another"
NO_TOKENS = "sequence tokens are given and never asked for, as at AWS since 2023"
NO_SUCH_STATE = "no state that a group of ours has forbids it"
ANY_CLASS = "groups of every class are stored alike: what needs STANDARD at AWS is done for all"
WAITED_FOR = "calls that are too many are told to come again: ServiceUnavailableException"


def other_pointer(world):
    """The pointer of an event that is not there: the last digit of one that is, changed."""
    pointer = world.logs.filter_log_events(logGroupName=GROUP, limit=1)["events"][0]["eventId"]
    return {"logRecordPointer": pointer[:-1] + ("0" if pointer[-1] != "0" else "1")}


def ended_query(world):
    def started():
        try:
            return world.logs.start_query(logGroupName=RARE, startTime=0, endTime=1, queryString="fields @message")["queryId"]
        except world.logs.exceptions.LimitExceededException:
            # another one is not done yet
            return None

    query = lakes.wait_until(started, what="a query begins")
    lakes.wait_until(lambda: world.logs.get_query_results(queryId=query)["status"] == "Complete", what="the query ends")
    return {"queryId": query}


def with_a_tail(world):
    world.streams.append(world.logs.start_live_tail(logGroupIdentifiers=[ARN + GROUP])["responseStream"])
    return {}


def with_two_subscriptions(world):
    good = {"logGroupName": GROUP, "filterPattern": "", "destinationArn": world.destination, "roleArn": ROLE}
    for name in ("a", "b"):
        world.logs.put_subscription_filter(filterName=name, **good)
    return {"filterName": "c", **good}


def with_five_regexes(world):
    for name in ("a", "b", "c", "d", "e"):
        world.logs.put_metric_filter(**good(world, "PutMetricFilter") | {"filterName": name, "filterPattern": "{ $.a = %x% }"})
    return {"filterName": "z", "filterPattern": "{ $.a = %x% }"}


def with_fifty_tags(world):
    world.logs.tag_resource(resourceArn=ARN + TAGGED, tags={f"k{n}": "v" for n in range(50)})
    return {"resourceArn": ARN + TAGGED, "tags": {"more": "v"}}


ERRORS = {
    "CreateLogGroup": {
        "InvalidParameterException": BAD_GROUP,
        "ResourceAlreadyExistsException": Row("The specified log group already exists", logGroupName=GROUP),
        "LimitExceededException": Row(f"Resource limit exceeded: {MAX_GROUPS} log groups.", logGroupName="/one/more"),
        "OperationAbortedException": ORDERED,
    },
    "CreateLogStream": {
        "InvalidParameterException": Row(VIOLATION, logStreamName="a:b"),
        "ResourceAlreadyExistsException": Row("The specified log stream already exists", logStreamName=STREAM),
        "ResourceNotFoundException": NO_GROUP,
    },
    "DeleteLogGroup": {
        "InvalidParameterException": BAD_GROUP,
        "ResourceNotFoundException": NO_GROUP,
        "OperationAbortedException": ORDERED,
        "ValidationException": Row("The log group is protected from being deleted.", logGroupName=KEPT),
    },
    "DeleteLogStream": {
        "InvalidParameterException": Row(VIOLATION, logStreamName="x" * 513),
        "ResourceNotFoundException": Row("The specified log stream does not exist.", logStreamName="nowhere"),
        "OperationAbortedException": ORDERED,
        "ValidationException": Row("The log group is protected from being deleted.", logGroupName=KEPT),
    },
    "PutLogEvents": {
        "InvalidParameterException": Row(VIOLATION, logEvents=[]),
        "ResourceNotFoundException": Row("The specified log stream does not exist.", logStreamName="nowhere"),
        "InvalidSequenceTokenException": NO_TOKENS,
        "DataAlreadyAcceptedException": NO_TOKENS,
        "UnrecognizedClientException": Row("The security token included in the request is invalid.", key="nobody"),
    },
    "DescribeLogGroups": {"InvalidParameterException": Row(VIOLATION, limit=51)},
    "DescribeLogStreams": {"InvalidParameterException": Row(VIOLATION, logGroupName=GROUP, orderBy="Size"), "ResourceNotFoundException": NO_GROUP},
    "ListLogGroups": {"InvalidParameterException": Row(VIOLATION, logGroupNamePattern="ab")},
    "PutRetentionPolicy": {
        "InvalidParameterException": Row(VIOLATION, retentionInDays=8),
        "ResourceNotFoundException": NO_GROUP,
        "OperationAbortedException": ORDERED,
    },
    "DeleteRetentionPolicy": {
        "InvalidParameterException": BAD_GROUP,
        "ResourceNotFoundException": NO_GROUP,
        "OperationAbortedException": ORDERED,
    },
    "TagResource": {
        "InvalidParameterException": BAD_RESOURCE,
        "ResourceNotFoundException": NO_RESOURCE,
        "TooManyTagsException": Row(f"The resource {ARN}{TAGGED} would have 51 tags, 50 are allowed", with_fifty_tags),
    },
    "UntagResource": {"InvalidParameterException": BAD_RESOURCE, "ResourceNotFoundException": NO_RESOURCE},
    "ListTagsForResource": {"InvalidParameterException": BAD_RESOURCE, "ResourceNotFoundException": NO_RESOURCE},
    "TagLogGroup": {"InvalidParameterException": Row(VIOLATION, tags={"": "v"}), "ResourceNotFoundException": NO_GROUP},
    "UntagLogGroup": {"ResourceNotFoundException": NO_GROUP},
    "ListTagsLogGroup": {"ResourceNotFoundException": NO_GROUP},
    "FilterLogEvents": {
        "InvalidParameterException": Row("Invalid filter pattern.*", logGroupName=GROUP, filterPattern="{ $.a"),
        "ResourceNotFoundException": NO_GROUP,
    },
    "GetLogEvents": {
        "InvalidParameterException": Row("The specified nextToken is invalid.", logGroupName=GROUP, nextToken="x"),
        "ResourceNotFoundException": Row("The specified log stream does not exist.", logGroupName=GROUP, logStreamName="nowhere"),
    },
    "GetLogRecord": {
        "InvalidParameterException": Row("The specified logRecordPointer is invalid.", logRecordPointer="x"),
        "ResourceNotFoundException": Row("The specified log record does not exist.", other_pointer),
        "LimitExceededException": WAITED_FOR,
    },
    "GetLogGroupFields": {
        "InvalidParameterException": Row(VIOLATION, logGroupName=GROUP, time=-1),
        "ResourceNotFoundException": NO_GROUP,
        "LimitExceededException": WAITED_FOR,
    },
    "StartLiveTail": {
        "InvalidParameterException": Row('The log group identifier "/errors" is not the ARN of a log group.', logGroupIdentifiers=[GROUP]),
        "ResourceNotFoundException": Row("The specified log group does not exist.", logGroupIdentifiers=[ARN + NOWHERE]),
        "AccessDeniedException": Row(DENIED.format("writer", "StartLiveTail", "read"), key="writer"),
        "LimitExceededException": Row("there are 1 live tails already", with_a_tail),
        "InvalidOperationException": ANY_CLASS,
    },
    "StartQuery": {
        "InvalidParameterException": Row("Exactly one of logGroupName, logGroupNames and logGroupIdentifiers must be specified.*", logGroupName=None),
        "ResourceNotFoundException": NO_GROUP,
        "MalformedQueryException": Row(".+", queryString="fields @message |"),
        "LimitExceededException": Row(r"Account maximum query concurrency limit of \[1\] reached.", logGroupName=GROUP, queryString=SLOW, endTime=2**40, again=200),
    },
    "GetQueryResults": {"InvalidParameterException": Row(VIOLATION, maxItems=10_001), "ResourceNotFoundException": NO_QUERY},
    "StopQuery": {"InvalidParameterException": Row("The specified query is not running.", ended_query), "ResourceNotFoundException": NO_QUERY},
    "DescribeQueries": {
        "InvalidParameterException": Row(VIOLATION, status="Done"),
        "ResourceNotFoundException": "queries are listed by what they were about, also when the group is gone: of a group that never was there are none",
    },
    "PutSubscriptionFilter": {
        "InvalidParameterException": Row("destinationArn for vendor kinesis cannot be used without roleArn", roleArn=None),
        "ResourceNotFoundException": NO_GROUP,
        "OperationAbortedException": ORDERED,
        "LimitExceededException": Row("Resource limit exceeded.", with_two_subscriptions),
        "InvalidOperationException": Row("Subscription filters are not supported for log groups of class INFREQUENT_ACCESS.", logGroupName=RARE),
    },
    "DescribeSubscriptionFilters": {"InvalidParameterException": Row(VIOLATION, limit=51), "ResourceNotFoundException": NO_GROUP},
    "DeleteSubscriptionFilter": {
        "InvalidParameterException": Row(VIOLATION, filterName="a*"),
        "ResourceNotFoundException": Row("The specified subscription filter does not exist.", filterName="nowhere"),
        "OperationAbortedException": ORDERED,
    },
    "PutMetricFilter": {
        "InvalidParameterException": Row("Invalid filter pattern.*", filterPattern="{ $.a"),
        "ResourceNotFoundException": NO_GROUP,
        "OperationAbortedException": ORDERED,
        "LimitExceededException": Row("Resource limit exceeded: 5 regular expressions in the filters of a log group.", with_five_regexes),
        "InvalidOperationException": ANY_CLASS,
    },
    "DescribeMetricFilters": {
        "InvalidParameterException": Row("metricName and metricNamespace must be given together or not at all.", metricNamespace=None),
        "ResourceNotFoundException": NO_GROUP,
    },
    "DeleteMetricFilter": {
        "InvalidParameterException": Row(VIOLATION, filterName="a*"),
        "ResourceNotFoundException": Row("The specified metric filter does not exist.", filterName="nowhere"),
        "OperationAbortedException": ORDERED,
    },
    "TestMetricFilter": {"InvalidParameterException": Row(VIOLATION, logEventMessages=[])},
}
for operation in ("PutLogGroupDeletionProtection", "PutBearerTokenAuthentication"):
    ERRORS[operation] = {
        "InvalidParameterException": BAD_IDENTIFIER,
        "ResourceNotFoundException": Row("The specified log group does not exist.", logGroupIdentifier=NOWHERE),
        "AccessDeniedException": Row(DENIED.format("reader", operation, "admin"), key="reader"),
        "OperationAbortedException": ORDERED,
        "InvalidOperationException": NO_SUCH_STATE,
    }
for operation in set(ERRORS) - {"StartLiveTail", "TagLogGroup", "UntagLogGroup"}:
    ERRORS[operation]["ServiceUnavailableException"] = BUSY

METRIC = {"MetricName": "m", "Value": 1.0}
METRIC_ERRORS = {
    "InvalidParameterValueException": Row("The value Parsecs for parameter MetricData.member.1.Unit is invalid.", MetricData=[METRIC | {"Unit": "Parsecs"}]),
    "MissingRequiredParameterException": Row("The parameter Namespace is required.", Namespace=None),
    "InvalidParameterCombinationException": Row("The parameters MetricData.member.1.Value and .*", MetricData=[METRIC | {"Values": [1.0]}]),
    "InternalServiceFault": "a defect of ours: nothing that a client sends brings one about",
}


def client(url, service="logs", **more):
    """One that sends what it is told to, once."""
    config = Config(parameter_validation=False, inject_host_prefix=False, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)
    return lakes.strict(boto3.client(service, endpoint_url=url, config=config, **{**lakes.KEYS, **more}))


def good(world, call):
    """The members of a call that would be taken."""
    model = world.logs.meta.service_model.operation_model(call)
    members = of_group(good_members(model), GROUP)
    return members | ({"destinationArn": world.destination} if "destinationArn" in model.input_shape.members else {})


class World:
    """A server of small bounds at each of which it is, one that wants signatures, and one that is full."""

    def __init__(self, make, folder, moto):
        bounds = {"awslogs": {"max_log_groups": MAX_GROUPS}, "query": {"max_tails": 1}, "insights": {"max_queries": 1}, "deliver": {"endpoint_url": moto}}
        self.destination, self.streams, self.held = Kinesis(moto).arn, [], []
        self.lakes = [make("small", config=bounds, env=KEYS)]
        self.lakes.append(make("guarded", config={"aws": {"keys": keys(folder)}}, env={"WRITER_SECRET": SECRETS["writer"]}))
        self.lakes.append(make("full", config={"receive": {"max_memory_bytes": 400_000}, **SMALL}))
        self.logs = client(self.lakes[0].url)
        self.logs.create_log_group(logGroupName=GROUP)
        self.logs.create_log_group(logGroupName=RARE, logGroupClass="INFREQUENT_ACCESS")
        self.logs.create_log_group(logGroupName=KEPT, deletionProtectionEnabled=True)
        self.logs.create_log_group(logGroupName=TAGGED)
        for group in (GROUP, KEPT):
            self.logs.create_log_stream(logGroupName=group, logStreamName=STREAM)
        at = int(time.time() * 1000) - 60_000
        for first in range(0, N_EVENTS, 10_000):
            events = [{"timestamp": at + first // 10_000, "message": f"line {first + i} of many"} for i in range(10_000)]
            self.logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events)

    def of_key(self, name):
        return client(self.lakes[1].url, aws_access_key_id=f"AKID{name.upper()}", aws_secret_access_key=SECRETS.get(name, "of nobody"))

    def full(self):
        """A client of the server that is full."""
        lake, logs = self.lakes[2], client(self.lakes[2].url)

        def is_full():
            try:
                logs.describe_log_groups()
            except ClientError as error:
                return error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            # what was refused while others came and went is sent again
            self.close_held()
            self.held += [half_sent(lake, 99_999) for _ in range(4)]
            return False

        lakes.wait_until(is_full, what="all memory is held")
        return logs

    def close_held(self):
        for connection in self.held:
            connection.close()
        self.held.clear()

    def close(self):
        self.close_held()
        for stream in self.streams:
            stream.close()


@pytest.fixture(scope="module")
def world(make_module_lake, tmp_path_factory, moto):
    world = World(make_module_lake, tmp_path_factory.mktemp("errors"), moto)
    yield world
    world.close()


def check(client, error, shape, words):
    """That boto3 has the modelled class, the words, and all that the class has."""
    assert type(error) is getattr(client.exceptions, shape.name), (shape.name, error.response)
    told, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    assert re.fullmatch(words, told["Message"], re.S), (shape.name, told["Message"])
    assert status == (503 if shape.name == "ServiceUnavailableException" else 400), (shape.name, status)
    assert error.response["ResponseMetadata"]["RequestId"]
    missing = [member for member in shape.members if member.lower() != "message" and member not in error.response]
    assert not missing, (shape.name, missing, error.response)


def provoke(client, call, members, row):
    """The error that a call ends with, at the latest when it was made again so often."""
    members = {name: value for name, value in members.items() if value is not None}
    for _ in range(row.again):
        try:
            method_of(client, call)(**members)
        except ClientError as error:
            return error
    raise AssertionError(f"{call} was taken: {members}")


def test_every_call_and_error_of_the_model_has_its_row():
    model = boto3.client("logs", region_name="us-east-1").meta.service_model
    assert sorted(ERRORS) == sorted(CALLS)
    for call in CALLS:
        assert set(ERRORS[call]) == {error.name for error in model.operation_model(call).error_shapes}, call
    metrics = boto3.client("cloudwatch", region_name="us-east-1").meta.service_model.operation_model("PutMetricData")
    assert set(METRIC_ERRORS) == {error.name for error in metrics.error_shapes}


@pytest.mark.parametrize("call", CALLS)
def test_each_error_of_the_model_comes_about_as_its_class(world, call):
    for shape in world.logs.meta.service_model.operation_model(call).error_shapes:
        row = ERRORS[call][shape.name]
        if isinstance(row, str):
            continue
        logs = world.full() if row is BUSY else world.of_key(row.key) if row.key else world.logs
        more = row.members(world) if callable(row.members) else row.members
        check(logs, provoke(logs, call, good(world, call) | more, row), shape, row.words)


def test_each_error_of_put_metric_data_comes_about_as_its_class(world):
    cloudwatch = client(world.lakes[0].url, "cloudwatch")
    for shape in cloudwatch.meta.service_model.operation_model("PutMetricData").error_shapes:
        row = METRIC_ERRORS[shape.name]
        if not isinstance(row, str):
            members = {"Namespace": "N", "MetricData": [METRIC]} | row.members
            check(cloudwatch, provoke(cloudwatch, "PutMetricData", members, row), shape, row.words)
