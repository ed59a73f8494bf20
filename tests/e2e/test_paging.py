"""Every call that answers in pages, to its end: all items, in order, each once, whatever the size of a page.

Which calls do comes out of botocore's model and the source. Where boto3 has a paginator it turns the pages, else the tokens are handed on here.
"""

import json
import time

import pytest
from botocore.exceptions import ClientError

import lake as lakes
from test_deliver import KEYS, ROLE, Kinesis
from test_model_bounds import CALLS, method_of

G = "/pages"
N_STREAMS, N_FILTERS, N_EVENTS, N_QUERIES = 105, 100, 350, 42
# beside plain ones, names whose order is by bytes
GROUPS = sorted([f"{G}/{n:03}" for n in range(114)] + [f"{G}/{name}" for name in ("A", "a", "_", "#", "-", "a/b", "a-b", "a.b")] + [G, "other"])
RARE = [name for name in GROUPS[1::4] if name not in (G, "other")]
# streams: some without events, some of the same last event's time
STREAMS = sorted([f"s{n:03}" for n in range(N_STREAMS - 5)] + ["S", "é", "s 1", "s/1", "s000/"], key=lambda name: name.encode())
LAST_EVENT = {name: 10_000 * (n % 7) for n, name in enumerate(STREAMS) if n % 3}
START = int(time.time() * 1000) - 600_000


def stream_by_time(name):
    return LAST_EVENT.get(name, -1), name.encode()


class World:
    """A server with many of everything."""

    def __init__(self, make, moto):
        config = {"deliver": {"endpoint_url": moto}, "insights": {"max_queries": 100}, "ingest": {"flush_age_seconds": 1}}
        self.lake = make("pages", config=config, env=KEYS)
        self.logs = logs = self.lake.boto3()
        for group in GROUPS:
            logs.create_log_group(logGroupName=group, logGroupClass="INFREQUENT_ACCESS" if group in RARE else "STANDARD")
        for stream in STREAMS:
            logs.create_log_stream(logGroupName=G, logStreamName=stream)
        for stream, offset in LAST_EVENT.items():
            logs.put_log_events(logGroupName=G, logStreamName=stream, logEvents=[{"timestamp": START + offset, "message": "x"}])
        # as many as a group can have, and some of the same names in others
        self.filters = [(f"f{n:03}", group) for group, n_filters in ((G, N_FILTERS), ("other", 7), (GROUPS[1], 3)) for n in range(n_filters)]
        for name, group in self.filters[::-1]:
            transformation = {"metricName": "m", "metricNamespace": f"n{int(name[1:]) % 2}", "metricValue": "1"}
            logs.put_metric_filter(logGroupName=group, filterName=name, filterPattern="none", metricTransformations=[transformation])
        destination = Kinesis(moto).arn
        for name in ("b", "a"):
            logs.put_subscription_filter(logGroupName="other", filterName=name, filterPattern="none", destinationArn=destination, roleArn=ROLE)
        # two streams, many events of the same time, in an order of arrival that is not that of time
        self.events = []
        for stream in ("t", "u"):
            logs.create_log_stream(logGroupName="other", logStreamName=stream)
        for n, first in enumerate((200, 100, 300, 0, 150, 100, 320)):
            stream, count = "tu"[n % 2], N_EVENTS // 7
            events = [{"timestamp": START + (first + i) // 3, "message": f"event {n} {i}"} for i in range(count)]
            logs.put_log_events(logGroupName="other", logStreamName=stream, logEvents=events)
            self.events += [(event["timestamp"], stream, event["message"]) for event in events]
        # as they came where the time is the same
        self.events.sort(key=lambda event: event[0])
        self.queries = []
        for n in range(N_QUERIES):
            query = logs.start_query(logGroupName="other" if n % 3 else G, startTime=0, endTime=2**32, queryString=f"fields @message | filter @message like 'event' | sort @message asc | limit {1_000 + n}")
            self.queries.append(query["queryId"])
        for query in self.queries:
            lakes.wait_until(lambda: logs.get_query_results(queryId=query)["status"] == "Complete", what="a query ends")


@pytest.fixture(scope="module")
def world(make_module_lake, moto):
    return World(make_module_lake, moto)


def named(member, name):
    return lambda page: [item[name] for item in page[member]]


groups, streams, filters, subscriptions = (
    named("logGroups", "logGroupName"),
    named("logStreams", "logStreamName"),
    lambda page: [(item["filterName"], item["logGroupName"]) for item in page["metricFilters"]],
    named("subscriptionFilters", "filterName"),
)
events = lambda page: [(event["timestamp"], event["logStreamName"], event["message"]) for event in page["events"]]
queries = named("queries", "queryId")
by_name = lambda filters: sorted(filters, key=lambda filter: (filter[0].encode(), filter[1].encode()))

# call, its members, what a page has, how many it may have, what all pages have; and sizes of pages
CASES = [
    ("DescribeLogGroups", {}, groups, 50, lambda world: GROUPS),
    ("DescribeLogGroups", {"logGroupNamePrefix": f"{G}/0"}, groups, 50, lambda world: [name for name in GROUPS if name.startswith(f"{G}/0")]),
    ("DescribeLogGroups", {"logGroupNamePattern": "1"}, groups, 50, lambda world: [name for name in GROUPS if "1" in name]),
    ("DescribeLogGroups", {"logGroupClass": "INFREQUENT_ACCESS"}, groups, 50, lambda world: RARE),
    ("ListLogGroups", {}, groups, 1_000, lambda world: GROUPS),
    ("ListLogGroups", {"logGroupNamePattern": "^/pages/0|other"}, groups, 1_000, lambda world: [n for n in GROUPS if n.startswith("/pages/0") or "other" in n]),
    ("DescribeLogStreams", {"logGroupName": G}, streams, 50, lambda world: STREAMS),
    ("DescribeLogStreams", {"logGroupName": G, "descending": True}, streams, 50, lambda world: STREAMS[::-1]),
    ("DescribeLogStreams", {"logGroupName": G, "logStreamNamePrefix": "s0"}, streams, 50, lambda world: [name for name in STREAMS if name.startswith("s0")]),
    (
        "DescribeLogStreams",
        {"logGroupName": G, "logStreamNamePrefix": "s0", "descending": True},
        streams,
        50,
        lambda world: [name for name in STREAMS if name.startswith("s0")][::-1],
    ),
    ("DescribeLogStreams", {"logGroupName": G, "orderBy": "LastEventTime"}, streams, 50, lambda world: sorted(STREAMS, key=stream_by_time)),
    (
        "DescribeLogStreams",
        {"logGroupIdentifier": G, "orderBy": "LastEventTime", "descending": True},
        streams,
        50,
        lambda world: sorted(STREAMS, key=stream_by_time, reverse=True),
    ),
    ("DescribeMetricFilters", {}, filters, 50, lambda world: by_name(world.filters)),
    ("DescribeMetricFilters", {"logGroupName": G}, filters, 50, lambda world: by_name(one for one in world.filters if one[1] == G)),
    (
        "DescribeMetricFilters",
        {"metricName": "m", "metricNamespace": "n1"},
        filters,
        50,
        lambda world: by_name(one for one in world.filters if int(one[0][1:]) % 2),
    ),
    ("DescribeSubscriptionFilters", {"logGroupName": "other"}, subscriptions, 50, lambda world: ["a", "b"]),
    ("FilterLogEvents", {"logGroupName": "other"}, events, 10_000, lambda world: world.events),
    ("FilterLogEvents", {"logGroupName": "other", "startFromHead": False}, events, 10_000, lambda world: world.events[::-1]),
    ("FilterLogEvents", {"logGroupName": "other", "logStreamNames": ["u"]}, events, 10_000, lambda world: [one for one in world.events if one[1] == "u"]),
    ("FilterLogEvents", {"logGroupName": "other", "filterPattern": "event 7"}, events, 10_000, lambda world: [one for one in world.events if "7" in one[2]]),
    ("DescribeQueries", {}, queries, 1_000, lambda world: world.queries[::-1]),
    ("DescribeQueries", {"logGroupName": G, "status": "Complete"}, queries, 1_000, lambda world: world.queries[::3][::-1]),
]
# what has no place in the table: tokens of both directions; results of a query that has ended
APART = {"GetLogEvents", "GetQueryResults"}
# how a call's size of pages is called, where it is not `limit`
SIZES = {"DescribeQueries": "maxResults"}


def pages(logs, call, members, size):
    """All pages; the last has no token, and all others have one of their own."""
    name = {api: name for name, api in logs.meta.method_to_api_mapping.items()}[call]
    if logs.can_paginate(name):
        return list(logs.get_paginator(name).paginate(**members, PaginationConfig={"PageSize": size}))
    found, token = [], {}
    while True:
        found.append(method_of(logs, call)(**members, **token, **{SIZES.get(call, "limit"): size}))
        if "nextToken" not in found[-1]:
            return found
        assert token.get("nextToken") != found[-1]["nextToken"]
        token = {"nextToken": found[-1]["nextToken"]}


def test_every_call_with_a_token_is_here(world):
    model = world.logs.meta.service_model
    members = {call: getattr(model.operation_model(call).output_shape, "members", {}) for call in CALLS}
    # the other token that is for something next is of the next batch
    paged = {call for call in CALLS if {"nextToken", "nextForwardToken"} & set(members[call])}
    assert {case[0] for case in CASES} | APART == paged
    names = {api: name for name, api in world.logs.meta.method_to_api_mapping.items()}
    assert {call for call in CALLS if world.logs.can_paginate(names[call])} <= paged


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(case[1])}")
def test_pages_of_every_size_have_all_in_order_and_each_once(world, case):
    call, members, items, most, expected = case
    expected = expected(world)
    n = len(expected)
    # one that divides the whole leaves no empty page behind it
    exact = next((size for size in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47) if n % size == 0), 1)
    for size in {1 if n < 150 else 11, 7, min(exact, most), min(most, max(n - 1, 1)), min(most, n), most}:
        found = [items(page) for page in pages(world.logs, call, members, size)]
        assert [item for page in found for item in page] == expected, (size, found[:2])
        assert [len(page) for page in found] == [size] * ((n - 1) // size) + [(n - 1) % size + 1], size


@pytest.mark.parametrize("size", [7, 49, 50, 10_000])
def test_events_of_a_stream_in_both_directions(world, size):
    expected = [(at, message) for at, stream, message in world.events if stream == "t"]
    read = lambda **more: world.logs.get_log_events(logGroupName="other", logStreamName="t", limit=size, **more)
    for token_name, more in (("nextForwardToken", {"startFromHead": True}), ("nextBackwardToken", {})):
        found, page = [], read(**more)
        while page["events"]:
            texts = [(event["timestamp"], event["message"]) for event in page["events"]]
            assert len(texts) <= size
            found = found + texts if token_name == "nextForwardToken" else texts + found
            token = page[token_name]
            page = read(nextToken=token)
        # at the end the same token comes back
        assert page[token_name] == token
        assert found == expected


@pytest.mark.parametrize("size", [11, 50, 175, 10_000])
def test_results_of_a_query(world, size):
    # as the language sorts texts with numbers in them
    expected = sorted((message for _, _, message in world.events), key=lambda message: [int(n) for n in message.split()[1:]])
    found, token = [], {}
    while True:
        page = world.logs.get_query_results(queryId=world.queries[1], maxItems=size, **token)
        found += [{cell["field"]: cell["value"] for cell in row}["@message"] for row in page["results"]]
        if "nextToken" not in page:
            break
        assert len(page["results"]) == size
        token = {"nextToken": page["nextToken"]}
    assert found == expected


def test_a_token_is_a_place_among_names(make_lake):
    """What is made or deleted while pages are turned changes nothing about the others; a restart does not either."""
    lake = make_lake()
    logs = lake.boto3()
    names = [f"g{n:02}" for n in range(20)]
    transformation = {"metricName": "m", "metricNamespace": "n", "metricValue": "1"}
    for name in ["all", *names]:
        logs.create_log_group(logGroupName=name)
        logs.create_log_stream(logGroupName="all", logStreamName=name)
        logs.put_metric_filter(logGroupName="all", filterName=name, filterPattern="x", metricTransformations=[transformation])
    calls = [
        ("describe_log_groups", {"logGroupNamePrefix": "g"}, groups),
        ("list_log_groups", {}, groups),
        ("describe_log_streams", {"logGroupName": "all", "logStreamNamePrefix": "g"}, streams),
        ("describe_metric_filters", {"logGroupName": "all", "filterNamePrefix": "g"}, lambda page: [name for name, _ in filters(page)]),
    ]
    first = {call: getattr(logs, call)(**members, limit=10) for call, members, _ in calls}
    seen = {call: items(first[call]) for call, _, items in calls}
    for call, found in seen.items():
        assert found[-1] in ("g08", "g09"), call
    # behind which the next page begins, one before, and one behind
    for name in ("g08", "g09", "g03", "g15"):
        logs.delete_log_group(logGroupName=name)
        logs.delete_log_stream(logGroupName="all", logStreamName=name)
        logs.delete_metric_filter(logGroupName="all", filterName=name)
    for name in ("g00-new", "g12-new"):
        logs.create_log_group(logGroupName=name)
        logs.create_log_stream(logGroupName="all", logStreamName=name)
        logs.put_metric_filter(logGroupName="all", filterName=name, filterPattern="x", metricTransformations=[transformation])
    lake.restart()
    logs = lake.boto3()
    for call, members, items in calls:
        more = items(getattr(logs, call)(**members, limit=50, nextToken=first[call]["nextToken"]))
        wanted = [name for name in names if name > seen[call][-1] and name not in ("g09", "g15")]
        assert more == sorted([*wanted, "g12-new"]), (call, more)


def test_a_token_of_one_call_is_none_of_another(world):
    """Nor one that was cut or made up: an error of the call, never a page."""
    logs = world.logs
    tokens = {
        "DescribeLogGroups": logs.describe_log_groups(limit=1)["nextToken"],
        "ListLogGroups": logs.list_log_groups(limit=1)["nextToken"],
        "DescribeLogStreams": logs.describe_log_streams(logGroupName=G, limit=1)["nextToken"],
        "DescribeMetricFilters": logs.describe_metric_filters(limit=1)["nextToken"],
        "DescribeSubscriptionFilters": logs.describe_subscription_filters(logGroupName="other", limit=1)["nextToken"],
        "FilterLogEvents": logs.filter_log_events(logGroupName="other", limit=1)["nextToken"],
        "DescribeQueries": logs.describe_queries(maxResults=1)["nextToken"],
        "GetQueryResults": logs.get_query_results(queryId=world.queries[1], maxItems=1)["nextToken"],
        "GetLogEvents": logs.get_log_events(logGroupName="other", logStreamName="t", limit=1)["nextForwardToken"],
    }
    members = {case[0]: case[1] for case in CASES[::-1]}
    members |= {"GetQueryResults": {"queryId": world.queries[1]}, "GetLogEvents": {"logGroupName": "other", "logStreamName": "t"}}
    assert set(tokens) == {case[0] for case in CASES} | APART
    for call in tokens:
        for of, token in tokens.items():
            for wrong in [token] if of != call else [token[:-3] or "A", "\u0000", "AAAA", json.dumps({"next": 1})]:
                with pytest.raises(ClientError) as refused:
                    method_of(logs, call)(**members[call], nextToken=wrong)
                told = refused.value.response["Error"]
                assert (told["Code"], told["Message"]) == ("InvalidParameterException", "The specified nextToken is invalid."), (call, of, wrong, told)
