"""Every bound that the service's own model has: at it a call is taken, one past it the call is refused in the service's words, and none breaks over it.

The calls, their members and the bounds come out of botocore's model, down to the values in lists and maps, so that a bound that a newer model brings is
tried too; which calls there are comes out of the source.
"""

import itertools
import re
import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import lake as lakes
from test_deliver import KEYS, ROLE, Kinesis

GROUP, STREAM = "/bounds", "s"
ARN = "arn:aws:logs:us-east-1:000000000000:log-group:"
# one validation of all members, before the call is looked at
VIOLATION = re.compile(r"\d+ validation errors? detected: .*Value .* at '(.*?)' failed to satisfy constraint: Member must ", re.S)
# a call that is refused so was not refused for a bound of the model: they are checked before
BEHIND = {"ResourceNotFoundException"}
SOURCE = (lakes.REPO / "src/receive/awslogs/mod.rs").read_text()
# the operations served
CALLS = re.findall(r'"(\w+)"', re.search(r"const OPERATIONS.*?\];", SOURCE, re.S).group())

# what a member is good for here, where a valid call needs it; texts with GROUP in them are for the group of one try
GOOD = {
    "logGroupName": GROUP,
    "logGroupIdentifier": GROUP,
    "logStreamName": STREAM,
    "resourceArn": ARN + GROUP,
    "tags": {"a": "b"},
    "tagKeys": ["a"],
    "retentionInDays": 7,
    "deletionProtectionEnabled": False,
    "bearerTokenAuthenticationEnabled": True,
    "filterName": "f",
    "filterPattern": "ERROR",
    "metricTransformations": [{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}],
    "logEventMessages": ["an ERROR"],
    "logEvents": [{"timestamp": int(time.time() * 1000), "message": "m"}],
    "roleArn": ROLE,
    "queryString": "fields @message",
    "queryId": "12345678-0000-0000-0000-000000000000",
    "logRecordPointer": "x",
    "startTime": 0,
    "endTime": 0,
}
# what is one call's own
OF_CALL = {
    "CreateLogGroup": {"logGroupName": GROUP + "/new"},
    "CreateLogStream": {"logStreamName": "new"},
    "UntagLogGroup": {"tags": ["a"]},
    "GetLogEvents": {"logGroupName": GROUP},
    "FilterLogEvents": {"logGroupName": GROUP},
    "DescribeLogStreams": {"logGroupName": GROUP},
    "GetLogGroupFields": {"logGroupName": GROUP},
    "StartQuery": {"logGroupName": GROUP},
    "StartLiveTail": {"logGroupIdentifiers": [ARN + GROUP]},
    "DescribeMetricFilters": {"metricName": "m", "metricNamespace": "n"},
    "PutSubscriptionFilter": {"roleArn": ROLE},
    "PutMetricFilter": {"filterPattern": "{ $.a = 1 }"},
}
# what stands in a list, where a plain text does not do
ITEMS = {
    ("StartLiveTail", "logGroupIdentifiers"): ARN + GROUP,
    "logGroupIdentifiers": GROUP,
    "logGroupNames": GROUP,
    "logStreamNames": STREAM,
    "accountIdentifiers": "000000000000",
    "logEvents": GOOD["logEvents"][0],
    "metricTransformations": GOOD["metricTransformations"][0],
    "logGroupTags": {"key": "a"},
    "dataSources": {"name": "a"},
}
# members of which only one may be given
INSTEAD = {
    "logGroupIdentifier": {"logGroupName"},
    "logGroupNames": {"logGroupName"},
    "logGroupIdentifiers": {"logGroupName"},
}
# texts of so many characters that are good for more than their length
TEXTS = {
    "queryString": lambda n: "fields @message".ljust(n),
    "resourceArn": lambda n: (ARN + "x" * n)[:n],
    "metricValue": lambda n: "1".rjust(n, "0"),
    "accountIdentifiers": lambda n: "0" * n,
    # of a field
    "dimensions": lambda n: ("$." + "a" * n)[:n],
    # five alternatives of 25 characters at the most
    ("ListLogGroups", "logGroupNamePattern"): lambda n: "|".join(["^" + "x" * 24] * 5).ljust(n, "x") if n >= 129 else "x" * n,
}
# bounds that are not kept, and why
NOT_KEPT = {
    ("PutLogEvents", "sequenceToken"): "no token is asked for or looked at; to lose events over an empty one would serve nobody",
    ("PutLogEvents", "entity"): "what is wrong with an entity is told beside the answer: the next test",
}
# what is within its bounds and refused all the same: the words, and why
REFUSED_WITHIN = {
    "nextToken": ("The specified nextToken is invalid.", "it is none of ours"),
    "resourceArn": (r'The ARN "\w*" is invalid: expected arn:aws:logs:REGION:ACCOUNT:log-group:NAME', "one character is no ARN"),
    "destinationArn": ('destinationArn: the ARN "x" is not that of a Kinesis stream or Firehose stream.', "one character is no ARN"),
    "logGroupIdentifiers": (r'The log group identifier "x+" is not the ARN of a log group.', "a live tail wants ARNs, says the API reference"),
    "fieldSelectionCriteria": (r"Invalid fieldSelectionCriteria: expected @aws.account or @aws.region at .*", "many x are no criteria"),
    "queryLanguage": ("queryLanguage PPL is not supported: use CWLI or SQL.|Expected: an SQL statement, found: fields", "PPL is not built; the query is one in CWLI"),
    "startTime": ("The start time of a query cannot be after its end time.", "the end is 0 here"),
}
# what is refused past its bound in words of its own
OWN_WORDS = {
    ("*", "nextToken"): "The specified nextToken is invalid.",
}


def text(call, member, n):
    return TEXTS.get((call, member), TEXTS.get(member, lambda n: "x" * n))(n)


def item(call, member, shape):
    found = ITEMS.get((call, member), ITEMS.get(member))
    return found if found is not None else "x" * max(shape.member.metadata.get("min", 1), 1) if shape.member.type_name == "string" else {}


def tries(call, member, shape):
    """Values at each bound of a member, and one past it: where the bound is, the value, whether it is within."""
    kind, bounds = shape.type_name, shape.metadata
    least, most = bounds.get("min"), bounds.get("max")
    if kind == "string":
        if most is not None:
            yield member, text(call, member, most), True
            yield member, text(call, member, most + 1), False
        if least is not None:
            yield member, text(call, member, least), True
        if least:
            yield member, text(call, member, least - 1), False
        for value in shape.enum:
            yield member, value, True
        if shape.enum:
            yield member, "NO_SUCH_VALUE", False
        if "pattern" in bounds and bounds["pattern"] not in (".*", "^.*$"):
            yield member, "\u00e9 *:$", False
    elif kind in ("integer", "long"):
        for at, past in ((most, 1), (least, -1)):
            if at is not None:
                yield member, at, True
                yield member, at + past, False
        if kind == "long" and most is None:
            yield member, 2**63 - 1, True
        yield member, "seven", None
    elif kind == "list":
        one = item(call, member, shape)
        if most is not None:
            yield member, [one] * most, True
            yield member, [one] * (most + 1), False
        if least is not None:
            yield member, [one] * least, True
        if least:
            yield member, [one] * (least - 1), False
        for where, value, is_within in tries(call, member, shape.member):
            yield where, [value], is_within
    elif kind == "map":
        pairs = lambda n: {f"k{i}": "v" for i in range(n)}
        if most is not None:
            yield member, pairs(most), True
            yield member, pairs(most + 1), False
        if least:
            yield member, pairs(least), True
            yield member, pairs(least - 1), False
        for where, value, is_within in tries(call, f"{member} key", shape.key):
            yield where, {value: text(call, member, 3)}, is_within
        for where, value, is_within in tries(call, member, shape.value):
            yield where, {"k": value}, is_within
    elif kind == "structure":
        for name, inner in shape.members.items():
            for where, value, is_within in tries(call, name, inner):
                yield where, {**item_of(call, member), name: value}, is_within
        for name in shape.required_members:
            yield name, {other: value for other, value in item_of(call, member).items() if other != name}, False


def item_of(call, member):
    return ITEMS.get((call, member), ITEMS.get(member, {}))


@pytest.fixture(scope="module")
def raw(make_module_lake, moto):
    config = {"deliver": {"endpoint_url": moto}, "query": {"max_tails": 100}, "insights": {"max_queries": 100}}
    lake = make_module_lake("bounds", config=config, env=KEYS)
    settings = Config(parameter_validation=False, inject_host_prefix=False, retries={"max_attempts": 1})
    client = lakes.strict(lakes.client("logs", lake.url, config=settings))
    client.create_log_group(logGroupName=GROUP)
    client.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    GOOD["destinationArn"] = Kinesis(moto).arn
    return client


def good_members(model):
    return {name: GOOD[name] for name in model.input_shape.required_members if name in GOOD} | OF_CALL.get(model.name, {})


def method_of(client, call):
    return getattr(client, {api: name for name, api in client.meta.method_to_api_mapping.items()}[call])


def of_group(value, group):
    """A value with the group of this try in place of GROUP."""
    if isinstance(value, str):
        return value.replace(GROUP, group)
    if isinstance(value, list):
        return [of_group(one, group) for one in value]
    return {k: of_group(v, group) for k, v in value.items()} if isinstance(value, dict) else value


def made(method, members):
    """The error of a call: code, message and status; none if it was taken."""
    try:
        answer = method(**members)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if "responseStream" in answer:
        answer["responseStream"].close()
    return None


@pytest.mark.parametrize("call", CALLS)
def test_one_past_each_bound_of_the_model_is_refused(raw, call):
    model = raw.meta.service_model.operation_model(call)
    good, method, wrong = good_members(model), method_of(raw, call), []
    for member, of in model.input_shape.members.items():
        without = {name: value for name, value in good.items() if name not in INSTEAD.get(member, ())}
        for where, value, is_within in tries(call, member, of):
            if is_within:
                continue
            error = made(method, without | {member: value})
            if (call, member) in NOT_KEPT:
                continue
            if is_within is None:
                is_right = error and error[0] in ("SerializationException", "InvalidParameterException") and error[2] == 400
            else:
                code, message, status = error or ("taken", "", 200)
                told = VIOLATION.match(message)
                own = OWN_WORDS.get((call, member), OWN_WORDS.get(("*", member)))
                is_told = message == own or told and any(name in told.group(1) for name in (member, where))
                is_right = (code, status) == ("InvalidParameterException", 400) and is_told
            if not is_right:
                wrong.append((where, str(value)[:60], error and (error[0], error[1][:200])))
    for member in model.input_shape.required_members:
        error = made(method, {name: value for name, value in good.items() if name != member})
        if not error or error[0] != "InvalidParameterException" or f"Value null at '{member}'" not in error[1]:
            wrong.append((member, "missing", error))
    assert not wrong, "\n".join(map(str, wrong))


numbers = itertools.count()


@pytest.mark.parametrize("call", CALLS)
def test_at_each_bound_of_the_model_a_call_is_taken(raw, call):
    model = raw.meta.service_model.operation_model(call)
    method, wrong = method_of(raw, call), []
    for member, of in model.input_shape.members.items():
        for where, value, is_within in tries(call, member, of):
            if not is_within or (call, member) in NOT_KEPT:
                continue
            group = f"{GROUP}/{next(numbers)}"
            raw.create_log_group(logGroupName=group)
            raw.create_log_stream(logGroupName=group, logStreamName=STREAM)
            good = {name: value for name, value in good_members(model).items() if name not in INSTEAD.get(member, ())}
            error = made(method, of_group(good | {member: value}, group))
            is_known = error and where in REFUSED_WITHIN and re.fullmatch(REFUSED_WITHIN[where][0], error[1])
            if error and (error[2] >= 500 or not is_known and error[0] not in BEHIND):
                wrong.append((where, str(value)[:60], error[0], error[1][:300]))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_call_is_taken(raw):
    """The way all goes well, in an order in which each call finds what it needs; answers are held against the model."""
    group = f"{GROUP}/well"
    at = int(time.time() * 1000) - 1_000

    def take(call, **more):
        model = raw.meta.service_model.operation_model(call)
        taken.append(call)
        return method_of(raw, call)(**of_group(good_members(model) | more, group))

    taken = []
    take("CreateLogGroup", logGroupName=GROUP)
    take("CreateLogStream", logStreamName=STREAM)
    assert take("PutLogEvents", logEvents=[{"timestamp": at, "message": "an ERROR"}])["nextSequenceToken"]
    assert [group_of["logGroupName"] for group_of in take("DescribeLogGroups", logGroupNamePrefix=GROUP)["logGroups"]] == [group]
    assert [group_of["logGroupName"] for group_of in take("ListLogGroups", logGroupNamePattern="^" + GROUP)["logGroups"]].count(group) == 1
    assert [stream["logStreamName"] for stream in take("DescribeLogStreams")["logStreams"]] == [STREAM]
    (event,) = take("FilterLogEvents", filterPattern="ERROR")["events"]
    assert take("GetLogEvents")["events"][0]["message"] == event["message"] == "an ERROR"
    assert take("GetLogRecord", logRecordPointer=event["eventId"])["logRecord"]["@message"] == "an ERROR"
    assert "@message" in [field["name"] for field in take("GetLogGroupFields")["logGroupFields"]]
    take("PutRetentionPolicy")
    take("DeleteRetentionPolicy")
    take("PutLogGroupDeletionProtection")
    take("PutBearerTokenAuthentication")
    take("TagResource", tags={"a": "b", "c": "d"})
    take("TagLogGroup", tags={"e": "f"})
    take("UntagResource", tagKeys=["a"])
    take("UntagLogGroup", tags=["c"])
    assert take("ListTagsForResource")["tags"] == take("ListTagsLogGroup")["tags"] == {"e": "f"}
    take("PutMetricFilter")
    assert len(take("DescribeMetricFilters", logGroupName=GROUP)["metricFilters"]) == 1
    take("DeleteMetricFilter")
    assert len(take("TestMetricFilter")["matches"]) == 1
    take("PutSubscriptionFilter")
    assert len(take("DescribeSubscriptionFilters")["subscriptionFilters"]) == 1
    take("DeleteSubscriptionFilter")
    frames = take("StartLiveTail")["responseStream"]
    assert next(iter(frames))["sessionStart"]["logGroupIdentifiers"] == [ARN + group]
    frames.close()
    query = take("StartQuery", endTime=2**32)["queryId"]
    results = lakes.wait_until(lambda: [answer for answer in [take("GetQueryResults", queryId=query)] if answer["status"] == "Complete"], what="the query ends")
    assert len(results[0]["results"]) == 1
    assert [one["queryId"] for one in take("DescribeQueries", logGroupName=GROUP)["queries"]] == [query]

    def stopped():
        # one that has ended by then cannot be: the last of many, that waits for the others
        queries = [take("StartQuery", endTime=2**32)["queryId"] for _ in range(20)]
        return made(raw.stop_query, {"queryId": queries[-1]}) is None

    lakes.wait_until(stopped, every=0, what="a query is stopped")
    take("DeleteLogStream")
    take("DeleteLogGroup")
    assert set(taken) | {"StopQuery"} == set(CALLS)


def test_what_is_not_kept_is_taken(raw):
    """An empty sequence token."""
    events = [{"timestamp": int(time.time() * 1000), "message": "m"}]
    assert raw.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events, sequenceToken="")["nextSequenceToken"]


def past(shape):
    return [value for _, value, is_within in tries("", "", shape) if is_within is False]


def entities_beyond(shape):
    """Entities one past each bound of the model, that are right otherwise."""
    names = ["Type", "Name", "Environment", "ResourceType", "Identifier", "AwsAccountId"]
    good = {"Type": "Service", "Name": "pay"}
    keys, attributes = shape.members["keyAttributes"], shape.members["attributes"]
    yield {"keyAttributes": dict.fromkeys(names[: keys.metadata["min"] - 1], "Service")}
    yield {"keyAttributes": dict.fromkeys(names[: keys.metadata["max"] + 1], "Service")}
    yield {"keyAttributes": good, "attributes": {f"a{n}": "v" for n in range(attributes.metadata["max"] + 1)}}
    for member, of in (("keyAttributes", keys), ("attributes", attributes)):
        base = good if member == "keyAttributes" else {}
        for name in past(of.key):
            yield {"keyAttributes": good, member: {**base, name: "v"}}
        for value in past(of.value):
            yield {"keyAttributes": good, member: {**base, "Environment": value}}


def test_an_entity_one_past_each_bound_of_the_model_is_told_and_its_events_are_taken(raw):
    operation = raw.meta.service_model.operation_model("PutLogEvents")
    told = set(operation.output_shape.members["rejectedEntityInfo"].members["errorType"].enum)
    tried = list(entities_beyond(operation.input_shape.members["entity"]))
    assert len(tried) == 3 + 8, "as many as there were when this was written"
    at = int(time.time() * 1000)
    for n, entity in enumerate(tried):
        events = [{"timestamp": at, "message": f"whose entity is wrong {n}"}]
        answer = raw.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events, entity=entity)
        assert answer.get("rejectedEntityInfo", {}).get("errorType") in told, (str(entity)[:200], answer)
        assert "rejectedLogEventsInfo" not in answer and answer["nextSequenceToken"]
    found = raw.filter_log_events(logGroupName=GROUP, filterPattern="entity", startTime=at - 1)["events"]
    assert len(found) == len(tried)
