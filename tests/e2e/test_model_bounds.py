"""Every bound that the service's own model has, one past it: each call refuses it in a modelled error, and none breaks over it.

The calls, their members and the bounds come out of botocore's model, so that a bound that a newer model brings is tried too.
"""

import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import lake as lakes

GROUP, STREAM = "/bounds", "s"
REFUSED = {"InvalidParameterException", "ValidationException", "SerializationException", "TooManyTagsException", "MalformedQueryException"}
# what a member is good for here, where a valid call needs it
GOOD = {
    "logGroupName": GROUP,
    "logStreamName": STREAM,
    "resourceArn": f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}",
    "tags": {"a": "b"},
    "tagKeys": ["a"],
    "retentionInDays": 7,
    "filterName": "f",
    "filterPattern": "ERROR",
    "metricTransformations": [{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}],
    "logEventMessages": ["an ERROR"],
    "destinationArn": "arn:aws:kinesis:us-east-1:123456789012:stream/out",
    "roleArn": "arn:aws:iam::123456789012:role/r",
    "queryString": "fields @message",
    "queryId": "12345678-0000-0000-0000-000000000000",
    "logRecordPointer": "x",
    "startTime": 1,
    "endTime": 2,
}
# what is one call's own
OF_CALL = {
    "CreateLogGroup": {"logGroupName": "/bounds/new"},
    "CreateLogStream": {"logStreamName": "new"},
    "UntagLogGroup": {"tags": ["a"]},
    "GetLogEvents": {"logGroupName": GROUP},
    "FilterLogEvents": {"logGroupName": GROUP},
    "DescribeLogStreams": {"logGroupName": GROUP},
    "GetLogGroupFields": {"logGroupName": GROUP},
    "StartQuery": {"logGroupName": GROUP},
}
# members that are not served, and so not looked at: what a call does does not rest on them
UNREAD = {
    "accountIdentifiers",
    "expectedBucketOwner",
    "fieldIndexNames",
    "fieldSelectionCriteria",
    "emitSystemFieldDimensions",
    "emitSystemFields",
    "kmsKeyId",
    "logGroupTier",
    "sequenceToken",
    "dataSources",
}
CALLS = [
    "CreateLogGroup", "CreateLogStream", "DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "DeleteRetentionPolicy", "DescribeLogGroups",
    "ListLogGroups", "DescribeLogStreams", "PutLogEvents", "GetLogEvents", "FilterLogEvents", "GetLogRecord", "GetLogGroupFields",
    "TagResource", "UntagResource", "ListTagsForResource", "TagLogGroup", "UntagLogGroup", "ListTagsLogGroup", "PutMetricFilter",
    "DescribeMetricFilters", "DeleteMetricFilter", "TestMetricFilter", "PutSubscriptionFilter", "DescribeSubscriptionFilters",
    "DeleteSubscriptionFilter", "StartQuery", "GetQueryResults", "StopQuery", "DescribeQueries",
]  # fmt: skip


def beyond(shape):
    """Values one past each bound of a member."""
    kind, bounds = shape.type_name, shape.metadata
    if kind == "string":
        if "max" in bounds and bounds["max"] < 1_000_000:
            yield "x" * (bounds["max"] + 1)
        if bounds.get("min", 0) > 0:
            yield "x" * (bounds["min"] - 1)
        if shape.enum:
            yield "NO_SUCH_VALUE"
        if "pattern" in bounds and bounds["pattern"] not in (".*", "^.*$"):
            yield "\u00e9 *:"
    elif kind in ("integer", "long"):
        if "max" in bounds:
            yield bounds["max"] + 1
        if "min" in bounds:
            yield bounds["min"] - 1
        yield "seven"
    elif kind == "list":
        (item,) = [GOOD.get("logGroupName") if shape.member.type_name == "string" else {}]
        if "max" in bounds and bounds["max"] <= 10_000:
            yield [item] * (bounds["max"] + 1)
        if bounds.get("min", 0) > 0:
            yield []
    elif kind == "map":
        if "max" in bounds:
            yield {f"k{n}": "v" for n in range(bounds["max"] + 1)}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    lake = lakes.Lake(tmp_path_factory.mktemp("bounds"))
    client = lakes.client("logs", lake.url, config=Config(parameter_validation=False, retries={"max_attempts": 1}))
    client.create_log_group(logGroupName=GROUP)
    client.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    yield client
    lake.close()


@pytest.mark.parametrize("call", CALLS)
def test_one_past_each_bound_of_the_model_is_refused(raw, call):
    model = raw.meta.service_model.operation_model(call)
    shape = model.input_shape
    good = {name: GOOD[name] for name in shape.required_members if name in GOOD} | OF_CALL.get(call, {})
    if call == "PutLogEvents":
        good["logEvents"] = [{"timestamp": int(time.time() * 1000), "message": "m"}]
    method = getattr(raw, {api: name for name, api in raw.meta.method_to_api_mapping.items()}[call])
    modelled = REFUSED | {error.name for error in model.error_shapes}
    wrong = []
    for member, of in shape.members.items():
        if member in UNREAD:
            continue
        for value in beyond(of):
            try:
                method(**good | {member: value})
                wrong.append((member, str(value)[:60], "taken"))
            except ClientError as error:
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                if code not in modelled or status >= 500:
                    wrong.append((member, str(value)[:60], code))
    for member in shape.required_members:
        try:
            method(**{name: value for name, value in good.items() if name != member})
            wrong.append((member, "missing", "taken"))
        except ClientError as error:
            if error.response["Error"]["Code"] not in modelled:
                wrong.append((member, "missing", error.response["Error"]["Code"]))
    assert not wrong, wrong


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
        for name in beyond(of.key):
            yield {"keyAttributes": good, member: {**base, name: "v"}}
        for value in beyond(of.value):
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
