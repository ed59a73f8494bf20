"""The same calls to tracelake and to moto, where moto implements them: each difference is in a table, with whose answer is AWS's.

A step is a call; what it gives is flattened to paths (`logGroups[0].arn`) and values, without what is free: times, tokens, IDs, the account. Two answers differ in
the paths whose values differ, or, where one is an error, in `error`. Messages of errors are not compared: moto's are its own.
"""

import re
import time

import pytest
from botocore.exceptions import ClientError
from moto.logs.responses import LogsResponse

import lake as lakes
from test_deliver import Kinesis, make_deliver_lake
from test_model_bounds import CALLS

START = int(time.time() * 1000) - 60_000
# what differs by nature
FREE = re.compile(
    r"(creationTime|createTime|lastIngestionTime|ingestionTime|firstEventTimestamp|nextToken|nextForwardToken|nextBackwardToken|nextSequenceToken|uploadSequenceToken"
    r"|eventId|queryId|storedBytes|statistics\..*|encryptionKey|queryDuration|userIdentity|bytesScanned|sessionId|requestId)$"
)

G, S, BAD = "/contract/web", "one", "/zz-bad"
TRANSFORMATION = {"metricName": "m", "metricNamespace": "n", "metricValue": "1"}


def events(*offsets, text="event"):
    return [{"timestamp": START + o, "message": f"{text} {o}"} for o in offsets]


def arn(group):
    return f"arn:aws:logs:us-east-1:ACCOUNT:log-group:{group}"


# a destination that there is is put in for both
SUBSCRIPTION = {"logGroupName": G, "filterPattern": "ERROR", "destinationArn": "DESTINATION", "roleArn": "arn:aws:iam::111111111111:role/r"}
FUNCTION = "arn:aws:lambda:us-east-1:111111111111:function:f"
TIMES = {"startTime": START // 1000 - 60, "endTime": START // 1000 + 3600}

# name, call, members; and what undoes the call where it is taken and should not be: it must not show in later steps
SCRIPT = [
    ("a group", "create_log_group", dict(logGroupName=G, tags={"team": "shop"})),
    ("a group twice", "create_log_group", dict(logGroupName=G)),
    ("a group of a bad name", "create_log_group", dict(logGroupName="a b"), "delete_log_group"),
    ("a group of too long a name", "create_log_group", dict(logGroupName="x" * 513)),
    ("a second group", "create_log_group", dict(logGroupName="/contract/worker")),
    ("a third group", "create_log_group", dict(logGroupName="/other")),
    ("groups", "describe_log_groups", {}),
    ("groups by prefix", "describe_log_groups", dict(logGroupNamePrefix="/contract/")),
    ("groups by pattern", "describe_log_groups", dict(logGroupNamePattern="work")),
    ("groups by prefix and pattern", "describe_log_groups", dict(logGroupNamePrefix="/c", logGroupNamePattern="w")),
    ("a page of groups", "describe_log_groups", dict(limit=2)),
    ("too large a page of groups", "describe_log_groups", dict(limit=51)),
    ("a stream", "create_log_stream", dict(logGroupName=G, logStreamName=S)),
    ("a stream twice", "create_log_stream", dict(logGroupName=G, logStreamName=S)),
    ("a stream of no group", "create_log_stream", dict(logGroupName="/nowhere", logStreamName=S)),
    ("a stream of a bad name", "create_log_stream", dict(logGroupName=G, logStreamName="a:b"), "delete_log_stream"),
    ("a second stream", "create_log_stream", dict(logGroupName=G, logStreamName="two")),
    ("streams without events", "describe_log_streams", dict(logGroupName=G)),
    ("events", "put_log_events", dict(logGroupName=G, logStreamName=S, logEvents=events(0, 1, 2))),
    ("more events, with any token", "put_log_events", dict(logGroupName=G, logStreamName="two", logEvents=events(5, 5, 9, text="other"), sequenceToken="49590302")),
    ("events of no group", "put_log_events", dict(logGroupName="/nowhere", logStreamName=S, logEvents=events(0))),
    ("events of no stream", "put_log_events", dict(logGroupName=G, logStreamName="nowhere", logEvents=events(0))),
    ("a group for bad calls", "create_log_group", dict(logGroupName=BAD)),
    ("a stream for bad calls", "create_log_stream", dict(logGroupName=BAD, logStreamName=S)),
    ("events out of order", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=events(8, 7))),
    ("no events", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=[])),
    ("an empty event", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=[{"timestamp": START, "message": ""}])),
    ("events too old", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=events(-20 * 86_400_000, -15 * 86_400_000))),
    ("events too new", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=events(3 * 3_600_000))),
    ("old and good events in one call", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=events(-20 * 86_400_000, 30))),
    ("events that span more than a day", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=events(-2 * 86_400_000, 31))),
    ("too large a batch", "put_log_events", dict(logGroupName=BAD, logStreamName=S, logEvents=[{"timestamp": START + i, "message": "x" * 262_144} for i in range(5)])),
    ("the group of bad calls less", "delete_log_group", dict(logGroupName=BAD)),
    ("streams", "describe_log_streams", dict(logGroupName=G)),
    ("streams by time", "describe_log_streams", dict(logGroupName=G, orderBy="LastEventTime", descending=True)),
    ("streams by prefix", "describe_log_streams", dict(logGroupName=G, logStreamNamePrefix="t")),
    ("streams by prefix and time", "describe_log_streams", dict(logGroupName=G, logStreamNamePrefix="t", orderBy="LastEventTime")),
    ("streams in no order", "describe_log_streams", dict(logGroupName=G, orderBy="Size")),
    ("streams of no group", "describe_log_streams", dict(logGroupName="/nowhere")),
    ("a page of streams", "describe_log_streams", dict(logGroupName=G, limit=1)),
    ("events from the head", "get_log_events", dict(logGroupName=G, logStreamName="two", startFromHead=True)),
    ("events from the tail", "get_log_events", dict(logGroupName=G, logStreamName="two")),
    ("one event from the tail", "get_log_events", dict(logGroupName=G, logStreamName="two", limit=1)),
    ("events of a time", "get_log_events", dict(logGroupName=G, logStreamName="two", startTime=START + 5, endTime=START + 9, startFromHead=True)),
    ("events with a bad token", "get_log_events", dict(logGroupName=G, logStreamName="two", nextToken="nonsense")),
    ("too many events", "get_log_events", dict(logGroupName=G, logStreamName="two", limit=10_001)),
    ("events of a stream of no group", "get_log_events", dict(logGroupName="/nowhere", logStreamName=S)),
    ("events of a stream that is not", "get_log_events", dict(logGroupName=G, logStreamName="nowhere")),
    ("filtered, all", "filter_log_events", dict(logGroupName=G, endTime=START + 20)),
    ("filtered by a term", "filter_log_events", dict(logGroupName=G, filterPattern="other")),
    ("filtered by a phrase", "filter_log_events", dict(logGroupName=G, filterPattern='"other 5"')),
    ("filtered by stream", "filter_log_events", dict(logGroupName=G, logStreamNames=["two"])),
    ("filtered by prefix of streams", "filter_log_events", dict(logGroupName=G, logStreamNamePrefix="t")),
    ("filtered by time", "filter_log_events", dict(logGroupName=G, startTime=START + 1, endTime=START + 5)),
    ("a page of filtered", "filter_log_events", dict(logGroupName=G, limit=2)),
    ("too large a page of filtered", "filter_log_events", dict(logGroupName=G, limit=10_001)),
    ("filtered of no group", "filter_log_events", dict(logGroupName="/nowhere")),
    ("filtered by a bad pattern", "filter_log_events", dict(logGroupName=G, filterPattern="{ $.a")),
    ("retention of odd days", "put_retention_policy", dict(logGroupName=G, retentionInDays=8)),
    ("retention", "put_retention_policy", dict(logGroupName=G, retentionInDays=7)),
    ("retention of no group", "put_retention_policy", dict(logGroupName="/nowhere", retentionInDays=7)),
    ("retention shown", "describe_log_groups", dict(logGroupNamePrefix=G)),
    ("no retention", "delete_retention_policy", dict(logGroupName=G)),
    ("no retention of no group", "delete_retention_policy", dict(logGroupName="/nowhere")),
    ("tags", "tag_resource", dict(resourceArn=arn(G), tags={"a": "1", "b": "2"})),
    ("a tag less", "untag_resource", dict(resourceArn=arn(G), tagKeys=["a"])),
    ("tags shown", "list_tags_for_resource", dict(resourceArn=arn(G))),
    ("tags of no group", "list_tags_for_resource", dict(resourceArn=arn("/nowhere"))),
    ("older tags", "tag_log_group", dict(logGroupName=G, tags={"old": "3"})),
    ("an older tag less", "untag_log_group", dict(logGroupName=G, tags=["b"])),
    ("older tags shown", "list_tags_log_group", dict(logGroupName=G)),
    ("older tags of no group", "list_tags_log_group", dict(logGroupName="/nowhere")),
    ("a metric filter", "put_metric_filter", dict(logGroupName=G, filterName="f", filterPattern="ERROR", metricTransformations=[TRANSFORMATION])),
    ("a second metric filter", "put_metric_filter", dict(logGroupName=G, filterName="a", filterPattern="", metricTransformations=[{**TRANSFORMATION, "metricName": "other"}])),
    ("a metric filter of a bad name", "put_metric_filter", dict(logGroupName=G, filterName="a:b", filterPattern="", metricTransformations=[TRANSFORMATION])),
    ("a metric filter of two", "put_metric_filter", dict(logGroupName=G, filterName="t", filterPattern="", metricTransformations=[TRANSFORMATION] * 2)),
    ("a metric filter of no group", "put_metric_filter", dict(logGroupName="/nowhere", filterName="f", filterPattern="", metricTransformations=[TRANSFORMATION]), "delete_metric_filter"),
    ("metric filters", "describe_metric_filters", dict(logGroupName=G)),
    ("metric filters by prefix", "describe_metric_filters", dict(logGroupName=G, filterNamePrefix="a")),
    ("metric filters by metric", "describe_metric_filters", dict(metricName="m", metricNamespace="n")),
    ("metric filters by half a metric", "describe_metric_filters", dict(metricName="m")),
    ("metric filters of no group", "describe_metric_filters", dict(logGroupName="/nowhere2")),
    ("filters counted", "describe_log_groups", dict(logGroupNamePrefix=G)),
    ("a metric filter less", "delete_metric_filter", dict(logGroupName=G, filterName="a")),
    ("a metric filter less that is not", "delete_metric_filter", dict(logGroupName=G, filterName="a")),
    ("no subscription filters", "describe_subscription_filters", dict(logGroupName=G)),
    ("a subscription filter", "put_subscription_filter", dict(**SUBSCRIPTION, filterName="s")),
    ("a subscription filter changed", "put_subscription_filter", dict(**SUBSCRIPTION | {"filterPattern": "WARN"}, filterName="s")),
    ("a subscription filter of a bad name", "put_subscription_filter", dict(**SUBSCRIPTION, filterName="a:b"), "delete_subscription_filter"),
    ("a subscription filter of a bad pattern", "put_subscription_filter", dict(**SUBSCRIPTION | {"filterPattern": "{ $.a"}, filterName="p"), "delete_subscription_filter"),
    ("a subscription filter without a role", "put_subscription_filter", dict(**SUBSCRIPTION | {"roleArn": None}, filterName="r"), "delete_subscription_filter"),
    ("a subscription filter to a stream that is not", "put_subscription_filter", dict(**SUBSCRIPTION | {"destinationArn": "DESTINATION-not"}, filterName="d")),
    ("a subscription filter to a function", "put_subscription_filter", dict(**SUBSCRIPTION | {"destinationArn": FUNCTION}, filterName="l")),
    ("a subscription filter to a queue", "put_subscription_filter", dict(**SUBSCRIPTION | {"destinationArn": "arn:aws:sqs:us-east-1:1:q"}, filterName="q")),
    ("a subscription filter of no group", "put_subscription_filter", dict(**SUBSCRIPTION | {"logGroupName": "/nowhere"}, filterName="s")),
    ("a second subscription filter", "put_subscription_filter", dict(**SUBSCRIPTION, filterName="a", distribution="Random")),
    ("a third subscription filter", "put_subscription_filter", dict(**SUBSCRIPTION, filterName="t")),
    ("one of two subscription filters changed", "put_subscription_filter", dict(**SUBSCRIPTION | {"filterPattern": "FATAL"}, filterName="s")),
    ("subscription filters", "describe_subscription_filters", dict(logGroupName=G)),
    ("subscription filters by prefix", "describe_subscription_filters", dict(logGroupName=G, filterNamePrefix="s")),
    ("a page of subscription filters", "describe_subscription_filters", dict(logGroupName=G, limit=1)),
    ("too large a page of subscription filters", "describe_subscription_filters", dict(logGroupName=G, limit=51)),
    ("subscription filters of no group", "describe_subscription_filters", dict(logGroupName="/nowhere")),
    ("a subscription filter less", "delete_subscription_filter", dict(logGroupName=G, filterName="a")),
    ("a subscription filter less that is not", "delete_subscription_filter", dict(logGroupName=G, filterName="a")),
    ("a subscription filter less of no group", "delete_subscription_filter", dict(logGroupName="/nowhere", filterName="a")),
    ("the last subscription filter less", "delete_subscription_filter", dict(logGroupName=G, filterName="s")),
    ("a live tail", "start_live_tail", dict(logGroupIdentifiers=[arn(G)])),
    ("a live tail of a stream and a pattern", "start_live_tail", dict(logGroupIdentifiers=[arn(G)], logStreamNames=[S], logEventFilterPattern="event")),
    ("a live tail of eleven groups", "start_live_tail", dict(logGroupIdentifiers=[arn(G)] * 11)),
    ("a live tail of none", "start_live_tail", dict(logGroupIdentifiers=[])),
    ("a live tail of a name", "start_live_tail", dict(logGroupIdentifiers=[G])),
    ("a live tail of no group", "start_live_tail", dict(logGroupIdentifiers=[arn("/nowhere")])),
    ("a live tail of streams and prefixes", "start_live_tail", dict(logGroupIdentifiers=[arn(G)], logStreamNames=[S], logStreamNamePrefixes=["o"])),
    ("a live tail of a stream in two groups", "start_live_tail", dict(logGroupIdentifiers=[arn(G), arn("/other")], logStreamNames=[S])),
    ("a live tail by a bad pattern", "start_live_tail", dict(logGroupIdentifiers=[arn(G)], logEventFilterPattern="{ $.a")),
    ("no queries", "describe_queries", dict(logGroupName=G)),
    ("a query", "start_query", dict(logGroupName=G, **TIMES, queryString="fields @timestamp, @message | sort @timestamp desc | limit 3")),
    ("its results", "get_query_results", dict(queryId="QUERY")),
    ("queries", "describe_queries", dict(logGroupName=G)),
    ("queries by status", "describe_queries", dict(logGroupName=G, status="Complete")),
    ("queries by another status", "describe_queries", dict(logGroupName=G, status="Failed")),
    ("queries by a status that is none", "describe_queries", dict(logGroupName=G, status="Done")),
    ("queries of another group", "describe_queries", dict(logGroupName="/contract/worker")),
    ("queries of no group", "describe_queries", dict(logGroupName="/nowhere")),
    ("a query of two groups", "start_query", dict(logGroupNames=[G, "/contract/worker"], **TIMES, queryString="fields @message | sort @message asc | limit 2")),
    ("results of two groups", "get_query_results", dict(queryId="QUERY")),
    ("queries of all groups", "describe_queries", {}),
    ("a query that counts", "start_query", dict(logGroupName=G, **TIMES, queryString="stats count(*) as n by @logStream | sort @logStream asc")),
    ("counts", "get_query_results", dict(queryId="QUERY")),
    ("a query in no language", "start_query", dict(logGroupName=G, **TIMES, queryString="fields @message |")),
    ("a query of groups twice", "start_query", dict(logGroupName=G, logGroupNames=[G], **TIMES, queryString="fields @message")),
    ("a query of no group", "start_query", dict(logGroupName="/nowhere", startTime=0, endTime=1, queryString="fields @message")),
    ("a query backwards in time", "start_query", dict(logGroupName=G, startTime=2, endTime=1, queryString="fields @message")),
    ("results of no query", "get_query_results", dict(queryId="00000000-0000-0000-0000-000000000000")),
    ("a stream less", "delete_log_stream", dict(logGroupName=G, logStreamName="two")),
    ("a stream less that is not", "delete_log_stream", dict(logGroupName=G, logStreamName="two")),
    ("a group less", "delete_log_group", dict(logGroupName="/other")),
    ("a group less that is not", "delete_log_group", dict(logGroupName="/other")),
    ("what is left", "describe_log_groups", {}),
    ("export tasks", "describe_export_tasks", {}),
    ("resource policies", "describe_resource_policies", {}),
    ("destinations", "describe_destinations", {}),
]

# step: the paths in which the answers differ, and whose answer is AWS's
DIFFERENCES = {
    # AWS is as we are: moto does not check
    "a group of a bad name": ("error", "ours: the service's model has a pattern for names"),
    "a stream of a bad name": ("error", "ours: the service's model has a pattern for names"),
    "groups by prefix and pattern": ("error", "ours: the two exclude each other in the API reference"),
    "no events": ("error", "ours: the model has 1 to 10,000 events"),
    "an empty event": ("error", "ours: the model has messages of at least one character"),
    "events that span more than a day": ("error", "ours: a batch cannot span more than 24 hours"),
    "too large a batch": ("error", "ours: a batch has at most 1,048,576 bytes"),
    "filtered by a bad pattern": ("error", "ours: patterns have a syntax; moto knows terms alone"),
    "retention of odd days": ("error", "ours: the API reference has a fixed set of days"),
    "tags of no group": ("error", "ours: ResourceNotFoundException is modelled"),
    "a metric filter of no group": ("error", "ours: ResourceNotFoundException is modelled"),
    "metric filters of no group": ("error", "ours: ResourceNotFoundException is modelled"),
    "a metric filter less that is not": ("error", "ours: ResourceNotFoundException is modelled"),
    "results of no query": ("error", "ours: ResourceNotFoundException is modelled; moto fails with 500"),
    # AWS is as we are: moto answers otherwise
    "groups by pattern": (
        "logGroups[].arn logGroups[].logGroupArn logGroups[].logGroupName logGroups[].metricFilterCount",
        "ours: moto passes the pattern over; with one, AWS shows name, ARN and time alone",
    ),
    "events too old": ("rejectedLogEventsInfo.tooOldLogEventEndIndex", "ours: the index is exclusive in the API reference"),
    "old and good events in one call": ("rejectedLogEventsInfo.tooOldLogEventEndIndex", "ours: the index is exclusive in the API reference"),
    "events of a time": ("events[].message events[].timestamp", "ours: the end of GetLogEvents is exclusive in the API reference"),
    "metric filters": (
        "metricFilters[].applyOnTransformedLogs metricFilters[].filterName metricFilters[].filterPattern metricFilters[].metricTransformations[].metricName",
        "ours: sorted by name in the API reference; the member is newer than moto",
    ),
    "filters counted": (
        "logGroups[].bearerTokenAuthenticationEnabled logGroups[].deletionProtectionEnabled logGroups[].logGroupClass logGroups[].metricFilterCount",
        "ours: moto does not count; the other members are newer than moto",
    ),
    "what is left": (
        "logGroups[].bearerTokenAuthenticationEnabled logGroups[].deletionProtectionEnabled logGroups[].logGroupClass logGroups[].metricFilterCount",
        "ours: moto does not count; the other members are newer than moto",
    ),
    "filtered by prefix of streams": (
        "events[].logStreamName events[].message events[].timestamp searchedLogStreams[].logStreamName searchedLogStreams[].searchedCompletely",
        "ours: moto passes the prefix over; the list is empty since 2020",
    ),
    "a subscription filter of a bad name": ("error", "ours: the service's model has a pattern for names"),
    "a subscription filter of a bad pattern": ("error", "ours: patterns have a syntax; moto does not read them"),
    "a subscription filter without a role": ("error", "ours: Kinesis and Firehose want one, says the API reference"),
    "one of two subscription filters changed": ("error", "ours: what is there may be changed at the bound; moto counts it as a third"),
    "subscription filters": (
        "subscriptionFilters[].applyOnTransformedLogs subscriptionFilters[].distribution subscriptionFilters[].filterName subscriptionFilters[].filterPattern",
        "ours: sorted by name in the API reference; moto knows no distribution, and did not change the one; the member is newer than moto",
    ),
    "too large a page of subscription filters": ("error", "ours: 50 is the most in the model"),
    "a live tail": ("sessionStart.logGroupIdentifiers[]", "ours: moto finds the wrong group"),
    "a live tail of a stream and a pattern": ("sessionStart.logGroupIdentifiers[]", "ours: moto finds the wrong group"),
    "a live tail of none": ("error", "ours: the model has 1 to 10 groups"),
    "a live tail of a name": ("error", "ours: the API reference wants ARNs"),
    "a live tail of no group": ("error", "ours: ResourceNotFoundException is modelled"),
    "a live tail by a bad pattern": ("error", "ours: patterns have a syntax; moto knows terms alone"),
    "its results": ("queryLanguage results[].@timestamp", "ours: times are shown as such, not as milliseconds; the member is newer than moto"),
    "results of two groups": ("queryLanguage", "ours: a member newer than moto"),
    "counts": ("queryLanguage results[].@logStream results[].n", "ours: moto does not know stats"),
    "queries": ("queries[].queryLanguage", "ours: a member newer than moto"),
    "queries by status": ("queries[].queryLanguage", "ours: a member newer than moto"),
    "queries by a status that is none": ("error", "ours: the model has a list of them"),
    "queries of all groups": (
        "queries[].logGroupName queries[].queryLanguage queries[].queryString queries[].status",
        "ours: logGroupName is not required; without it moto finds none",
    ),
    "a query in no language": ("error", "ours: MalformedQueryException is modelled; moto takes any text"),
    "a query backwards in time": ("error", "ours: InvalidParameterException is modelled"),
    # calls that are not built: UnknownOperationException, by name
    "export tasks": ("error", "moto's: not built here; rows are in Parquet already"),
    "resource policies": ("error", "moto's: not built here; rights are those of [aws] keys"),
    "destinations": ("error", "moto's: not built here; there are no other accounts"),
}
for step in ("groups", "groups by prefix", "a page of groups", "retention shown"):
    DIFFERENCES[step] = ("logGroups[].bearerTokenAuthenticationEnabled logGroups[].deletionProtectionEnabled logGroups[].logGroupClass", "ours: members newer than moto")
for step in ("subscription filters by prefix", "a page of subscription filters"):
    members = ("applyOnTransformedLogs", "destinationArn", "distribution", "filterName", "filterPattern", "logGroupName", "roleArn")
    DIFFERENCES[step] = (" ".join(f"subscriptionFilters[].{member}" for member in members), "ours: moto passes prefix and limit over")
for step in ("metric filters by prefix", "metric filters by metric"):
    DIFFERENCES[step] = ("metricFilters[].applyOnTransformedLogs", "ours: a member newer than moto")
for step in ("filtered, all", "filtered by a term", "filtered by a phrase", "filtered by stream", "filtered by time", "a page of filtered"):
    DIFFERENCES[step] = ("searchedLogStreams[].logStreamName searchedLogStreams[].searchedCompletely", "ours: the list is empty since 2020, says the API reference")


def flat(value, path=""):
    """`{"a": [{"b": 1}]}` as `{"a[0].b": 1}`."""
    if isinstance(value, dict):
        items = [(f"{path}.{k}" if path else k, v) for k, v in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{i}]", v) for i, v in enumerate(value)]
    else:
        return {} if FREE.search(path) else {path: value}
    # an empty list says as much as none
    return {k: v for p, item in items for k, v in flat(item, p).items()}


def filled(value, places):
    """A value with what is known by now in place of ACCOUNT, DESTINATION, QUERY."""
    if isinstance(value, str):
        for name, known in places.items():
            value = value.replace(name, known)
        return value
    return [filled(one, places) for one in value] if isinstance(value, list) else value


def first_frames(stream):
    """Of a live tail: how it begins, and its first update."""
    frames = iter(stream)
    told = {**next(frames), **next(frames)}
    stream.close()
    return told


def play(client, account, destination):
    """What each step gives: paths and values."""
    answers, places = {}, {"ACCOUNT": account, "DESTINATION": destination}
    for name, call, members, *undo in SCRIPT:
        members = {k: filled(v, places) for k, v in members.items() if v is not None}
        try:
            answer = getattr(client, call)(**members)
            if call == "get_query_results":
                lakes.wait_until(lambda: client.get_query_results(**members)["status"] not in ("Scheduled", "Running"), what="the query ends")
                answer = client.get_query_results(**members)
                # by field; `@ptr` is a name of its own
                answer["results"] = [{one["field"]: one["value"] for one in row if one["field"] != "@ptr"} for row in answer["results"]]
        except ClientError as error:
            answers[name] = {"error": error.response["Error"]["Code"]}
            continue
        answer.pop("ResponseMetadata")
        if call == "start_query":
            places["QUERY"] = answer["queryId"]
        if call == "start_live_tail":
            answer = first_frames(answer["responseStream"])
        for call in undo:
            getattr(client, call)(**{k: v for k, v in members.items() if k in ("logGroupName", "logStreamName", "filterName")})
        answers[name] = {path: str(v).replace(destination, "DESTINATION").replace(account, "ACCOUNT") for path, v in flat(answer).items()}
    return answers


def differences(ours, theirs):
    found = {}
    for name, *_ in SCRIPT:
        a, b = ours[name], theirs[name]
        paths = {"error"} if ("error" in a) != ("error" in b) else {p for p in a.keys() | b.keys() if a.get(p) != b.get(p)}
        if paths:
            found[name] = {re.sub(r"\[\d+\]", "[]", p) for p in paths}
    return found


def test_every_difference_to_moto_is_decided(make_lake, moto):
    lake, destination = make_deliver_lake(make_lake, moto), Kinesis(moto).arn
    # neither checks members before it sends, or calls another host
    config = lakes.Config(parameter_validation=False, inject_host_prefix=False)
    ours = play(lakes.strict(lakes.client("logs", lake.url, config=config)), "000000000000", destination)
    theirs = play(lakes.client("logs", moto, config=config), "123456789012", destination)
    found = differences(ours, theirs)
    undecided = [name for name, paths in found.items() if paths != set(DIFFERENCES.get(name, ("", ""))[0].split())]
    assert not undecided, "\n".join(f"{name}: {' '.join(sorted(found[name]))}\n  ours: {ours[name]}\n  moto: {theirs[name]}"[:2000] for name in undecided)
    assert not set(DIFFERENCES) - set(found), f"no difference any more: {set(DIFFERENCES) - set(found)}"


# calls that moto has and we have not, by the end of their names, and why
NOT_BUILT = {
    "ExportTask": "rows are in Parquet already",
    "ExportTasks": "rows are in Parquet already",
    "ResourcePolicy": "rights are those of [aws] keys",
    "ResourcePolicies": "rights are those of [aws] keys",
    "Destination": "there are no other accounts",
    "Destinations": "there are no other accounts",
    "DestinationPolicy": "there are no other accounts",
    "Delivery": "no AWS service vends logs here",
    "Deliveries": "no AWS service vends logs here",
    "DeliverySource": "no AWS service vends logs here",
    "DeliverySources": "no AWS service vends logs here",
    "DeliveryDestination": "no AWS service vends logs here",
    "DeliveryDestinations": "no AWS service vends logs here",
    "DeliveryDestinationPolicy": "no AWS service vends logs here",
}


def test_every_call_that_moto_has_is_compared_or_decided(lake):
    raw = lakes.client("logs", lake.url, config=lakes.Config(parameter_validation=False))
    of_moto = {call: api for call, api in raw.meta.method_to_api_mapping.items() if hasattr(LogsResponse, call)}
    assert len(of_moto) > 40
    compared = {call for _, call, *_ in SCRIPT}
    assert {call for call, api in of_moto.items() if api in CALLS} <= compared, "of both"
    for call, api in of_moto.items():
        if api not in CALLS:
            assert re.sub("^(Cancel|Create|Delete|Describe|Get|Put)", "", api) in NOT_BUILT, api
            with pytest.raises(ClientError) as refused:
                getattr(raw, call)()
            told = refused.value.response["Error"]
            assert told["Code"] == "UnknownOperationException" and f"Logs_20140328.{api}" in told["Message"], told


ONE = {"MetricName": "m", "Value": 1.0}
MANY = {"MetricName": "m", "Values": [1.0, 2.0], "Counts": [3.0, 4.0]}
SET = {"MetricName": "m", "StatisticValues": {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}}
NAN = float("nan")
# PutMetricData: what is put; the error that it ends with here; and, where moto's is another, moto's and whose is AWS's
METRICS = {
    "a value": (dict(MetricData=[ONE]), None),
    "values and counts": (dict(MetricData=[MANY]), None),
    "statistics": (dict(MetricData=[SET]), None),
    "a value with all it may have": (
        dict(MetricData=[{**ONE, "Timestamp": START // 1000, "Unit": "Seconds", "Dimensions": [{"Name": "a", "Value": "b"}], "StorageResolution": 1}]),
        None,
    ),
    "no number": (dict(MetricData=[{**ONE, "Value": NAN}]), "InvalidParameterValue"),
    "no number among values": (dict(MetricData=[{"MetricName": "m", "Values": [1.0, NAN]}]), "InvalidParameterValue"),
    "fewer counts than values": (dict(MetricData=[{**MANY, "Counts": [3.0]}]), "InvalidParameterValue"),
    "a value and statistics": (dict(MetricData=[{**ONE, **SET}]), "InvalidParameterCombination"),
    "a value and values": (
        dict(MetricData=[{**ONE, **MANY}]),
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "ours: what cannot be used together has an error of its own in the model",
    ),
    "statistics without a sum": (
        dict(MetricData=[{"MetricName": "m", "StatisticValues": {"SampleCount": 2, "Minimum": 1, "Maximum": 2}}]),
        "MissingParameter",
        "InvalidParameterValue",
        "ours: the member is required, and what is missing has an error of its own in the model",
    ),
    "nothing to put": (dict(MetricData=[{"MetricName": "m"}]), "InvalidParameterCombination", None, "ours: moto takes it for 0"),
    "no namespace": (dict(Namespace=None, MetricData=[ONE]), "MissingParameter", None, "ours: the member is required"),
    "a namespace of AWS's own": (dict(Namespace="AWS/EC2", MetricData=[ONE]), None),
    "a unit that is none": (dict(MetricData=[{**ONE, "Unit": "Parsecs"}]), "InvalidParameterValue", None, "ours: the model has a list of them"),
    "too many dimensions": (
        dict(MetricData=[{**ONE, "Dimensions": [{"Name": f"n{n}", "Value": "v"} for n in range(31)]}]),
        "InvalidParameterValue",
        None,
        "ours: 30 are the most in the model",
    ),
    "too old": (dict(MetricData=[{**ONE, "Timestamp": 1_500_000_000}]), "InvalidParameterValue", None, "ours: two weeks are the most in the API reference"),
}


def test_put_metric_data_beside_motos(lake, moto):
    clients = [lakes.client("cloudwatch", url, config=lakes.Config(parameter_validation=False)) for url in (lake.url, moto)]
    wrong = []
    for name, (members, ours, *theirs) in METRICS.items():
        told = [put_metrics(client, members) for client in clients]
        if told != [ours, theirs[0] if theirs else ours] or theirs and theirs[0] == ours:
            wrong.append((name, told))
    assert not wrong


def put_metrics(client, members):
    members = {k: v for k, v in ({"Namespace": "N"} | members).items() if v is not None}
    try:
        client.put_metric_data(**members)
    except ClientError as error:
        return error.response["Error"]["Code"]
