"""Logs Insights' calls, as boto3 and the AWS CLI make them: botocore parses every answer with its own model."""

import json
import os
import subprocess
import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import lake as lakes
from test_cwl_reads import Logs, messages, now, refused

SETTINGS = {"ingest": {"flush_age_seconds": 1}}
ENDED = ("Complete", "Failed", "Cancelled", "Timeout")


@pytest.fixture
def lake(make_lake):
    return make_lake(config=SETTINGS)


def raw(lake, **more):
    """A client that checks nothing by itself."""
    return lakes.client("logs", lake.url, config=Config(parameter_validation=False, retries={"max_attempts": 1}), **more)


class Insights(Logs):
    """Starts queries over its group and waits for them."""

    def start(self, text, client=None, hours=1, **more):
        if not {"logGroupName", "logGroupNames", "logGroupIdentifiers"} & more.keys() and "SOURCE" not in text.upper():
            more["logGroupName"] = self.group
        seconds = int(time.time())
        more = {"startTime": seconds - hours * 3600, "endTime": seconds + 60, **more}
        return (client or self.client).start_query(queryString=text, **more)["queryId"]

    def wait(self, query, client=None, **more):
        """The first page of a query that has ended."""

        def ended():
            page = (client or self.client).get_query_results(queryId=query, **more)
            return page if page["status"] in ENDED else None

        return lakes.wait_until(ended, 60, what="the query ends")

    def ask(self, text, **more):
        """The rows, as dicts; the query must be complete."""
        page = self.wait(self.start(text, **more))
        assert page["status"] == "Complete", page
        return rows(page)


def rows(page):
    return [{field["field"]: field["value"] for field in row} for row in page["results"]]


def only(found, *names):
    return [{name: row[name] for name in names if name in row} for row in found]


def test_rows_have_their_fields_and_a_pointer_that_get_log_record_takes(lake):
    logs = Insights(lake).create("a", "b")
    at = now() - 60_000
    logs.put("a", "plain one", json.dumps({"level": "ERROR", "took": 12.5, "user": {"id": "u1"}}), at=at)
    logs.put("b", "plain two", at=at + 5_000)

    def check():
        page = logs.wait(logs.start("fields @timestamp, @message, level, user.id | sort @timestamp desc"))
        assert page["status"] == "Complete" and page["queryLanguage"] == "CWLI" and "encryptionKey" not in page and "nextToken" not in page
        found = rows(page)
        assert [row["@message"] for row in found][0] == "plain two" and len(found) == 3
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime((at + 5_000) // 1000)) + f".{(at + 5_000) % 1000:03d}"
        assert found[0]["@timestamp"] == stamp and "level" not in found[0]
        assert found[1]["level"] == "ERROR" and found[1]["user.id"] == "u1"
        for row, shown in zip(found, page["results"]):
            assert shown[-1]["field"] == "@ptr"
            record = logs.client.get_log_record(logRecordPointer=row["@ptr"])["logRecord"]
            assert record["@message"] == row["@message"]
        figures = page["statistics"]
        assert figures["recordsMatched"] == 3.0 and figures["recordsScanned"] >= 3.0 and figures["resultCount"] == 3.0
        assert figures["logGroupsScanned"] == 1.0 and figures["bytesScanned"] > 0
        return found

    in_memory = check()
    lake.wait_flushed()
    assert check() == in_memory
    # a part of the rows each
    assert only(logs.ask("filter level = 'ERROR' | fields took"), "took") == [{"took": "12.5"}]
    assert only(logs.ask("filter @logStream = 'b' | fields @message"), "@message") == [{"@message": "plain two"}]
    assert only(logs.ask("fields @message | sort @timestamp asc | limit 1"), "@message") == [{"@message": "plain one"}]
    # of the newest, as many as are asked for
    assert only(logs.ask("fields @message", limit=1), "@message") == [{"@message": "plain two"}]


def test_stats_and_parse(lake):
    logs = Insights(lake).create("s")
    at = (now() // 600_000 - 2) * 600_000
    for minute in range(0, 10):
        logs.put("s", *[f"GET /p{i % 3} took {minute * 10 + i} ms" for i in range(6)], at=at + minute * 60_000)
    lake.wait_flushed()
    found = logs.ask("stats count(*) as n by bin(5m) as t | sort t asc")
    assert [row["n"] for row in found] == ["30", "30"] and found[0]["t"].endswith(":00.000")
    found = logs.ask('parse @message "GET * took * ms" as path, took | stats count(*) as n, max(took) as slowest by path | sort path asc')
    assert found == [{"path": f"/p{i}", "n": "20", "slowest": str(93 + i)} for i in range(3)]
    assert all("@ptr" not in row for row in found)
    found = logs.ask("parse @message /took (?<took>\\d+)/ | filter took > 90 | fields took | sort took asc")
    assert [row["took"] for row in found] == [str(n) for n in range(91, 96)]
    assert logs.ask("filter @message like 'nowhere' | stats count(*) as n by bin(5m)") == []
    # the range is in seconds, both ends inside
    first = at // 1000
    assert logs.ask("stats count(*) as n", startTime=first, endTime=first)[0]["n"] == "6"
    assert logs.ask("stats count(*) as n", startTime=first + 60, endTime=first + 120)[0]["n"] == "12"


def test_a_count_of_a_rare_term_is_answered_by_the_index(lake):
    """By the index and by reading rows: the same; and few bytes."""
    logs = Insights(lake).create("s", "t")
    at = (now() // 3_600_000 - 1) * 3_600_000
    for batch in range(4):
        for stream in "st":
            filler = [f"request {batch} {i} of {stream} took {i * 37 % 1000} ms and was answered with {i * 7919} bytes" for i in range(4_990)]
            rare = [f"request {batch} {i} rareterm" for i in range(10)]
            logs.put(stream, *(rare + filler), at=at + batch * 600_000, step=100)
    lake.wait_flushed()
    text = 'filter @message like "rareterm" | stats count(*) as n by bin(5m) as t | sort t asc'
    page = logs.wait(logs.start(text, hours=3))
    counted = rows(page)
    assert [row["n"] for row in counted] == ["20"] * 4
    # what cannot be counted without rows gives the same
    by_rows = logs.ask('filter @message like "rareterm" | fields strlen(@message) as l | stats count(*) as n, max(l) as m by bin(5m) as t | sort t asc', hours=3)
    assert only(by_rows, "n", "t") == only(counted, "n", "t")
    # nor does it matter that the index knows words, not pieces of them; case does
    for piece in ('like "areter"', "like /(?i)ARETERM$/", 'not like "request 9" and @message like "raret"'):
        assert rows(logs.wait(logs.start(text.replace('like "rareterm"', piece), hours=3))) == counted, piece
    assert logs.ask(text.replace("rareterm", "Areter"), hours=3) == []
    figures = page["statistics"]
    total = figures["bytesScanned"] + figures["estimatedBytesSkipped"]
    assert figures["recordsMatched"] == 80.0 and total > 200_000
    # of few blocks: those pages of the texts in which one of the lines is
    assert figures["bytesScanned"] < total / 4, figures
    everything = logs.wait(logs.start("stats count(*) as n by @logStream as stream | sort stream asc", hours=3))
    assert only(rows(everything), "n") == [{"n": "20000"}] * 2
    assert everything["statistics"]["bytesScanned"] < total / 20
    # those of a deleted stream are not counted, whether their rows are gone yet or not
    logs.client.delete_log_stream(logGroupName=logs.group, logStreamName="t")
    assert [row["n"] for row in logs.ask(text, hours=3)] == ["10"] * 4
    logs.client.create_log_stream(logGroupName=logs.group, logStreamName="t")
    logs.put("t", "rareterm anew", at=at + 3_000_000)
    assert [row["n"] for row in logs.ask(text, hours=3)] == ["10"] * 4 + ["1"]


def test_patterns_are_compared_with_an_earlier_time(lake):
    logs = Insights(lake).create("s")
    at = now()
    logs.put("s", *[f"user {i} logged in" for i in range(4)], "cache is cold", at=at - 5_400_000)
    logs.put("s", *[f"user {i} logged in" for i in range(7)], "ERROR disk 7 is full", at=at - 1_800_000)
    lake.wait_flushed()
    found = logs.ask("pattern @message | diff")
    assert only(found, "@pattern", "@sampleCount", "@differenceEventCount", "@differenceDescription") == [
        {"@pattern": "user <Number-1> logged in", "@sampleCount": "7", "@differenceEventCount": "3", "@differenceDescription": "more"},
        {"@pattern": "ERROR disk <Number-1> is full", "@sampleCount": "1", "@differenceEventCount": "1", "@differenceDescription": "new"},
        {"@pattern": "cache is cold", "@sampleCount": "0", "@differenceEventCount": "-1", "@differenceDescription": "gone"},
    ]
    assert {row["@differenceDescription"] for row in logs.ask("pattern @message | diff previousDay")} == {"new"}
    with pytest.raises(ClientError) as caught:
        logs.start("stats count(*) | diff")
    assert caught.value.response["queryCompileError"]["location"] == {"startCharOffset": 17, "endCharOffset": 21}


def test_pages_go_to_the_end(lake):
    logs = Insights(lake).create("s")
    at = now() - 600_000
    for batch in range(3):
        logs.put("s", *[f"m{batch * 4_000 + i:05d}" for i in range(4_000)], at=at + batch * 10_000)
    query = logs.start("fields @message | sort @message asc | limit 11500")
    page = logs.wait(query, maxItems=3_000)
    found, n_pages = rows(page), 1
    while "nextToken" in page:
        page = logs.client.get_query_results(queryId=query, maxItems=3_000, nextToken=page["nextToken"])
        assert len(page["results"]) in (3_000, 2_500) and page["statistics"]["resultCount"] == 11_500.0
        found += rows(page)
        n_pages += 1
    assert n_pages == 4 and [row["@message"] for row in found] == [f"m{i:05d}" for i in range(11_500)]
    # by default as many as there may be, and 10,000 rows where the script names no number
    assert len(logs.wait(query)["results"]) == 10_000
    assert logs.wait(logs.start("fields @message"))["statistics"]["resultCount"] == 10_000.0
    page = logs.wait(logs.start("fields @message", limit=12_000))
    assert page["statistics"]["resultCount"] == 12_000.0 and len(page["results"]) == 10_000
    call = raw(lake).get_query_results
    assert call(queryId=query, maxItems=0)["results"] == []
    for bad in ({"maxItems": 10_001}, {"maxItems": -1}, {"nextToken": "nonsense"}, {"nextToken": "x" * 1_025}):
        refused(call, "InvalidParameterException", queryId=query, **bad)
    other = logs.start("fields @message")
    refused(call, "InvalidParameterException", queryId=other, nextToken=logs.wait(query)["nextToken"])


def test_what_cannot_be_asked_is_refused_as_the_service_does(lake):
    logs = Insights(lake).create("s")
    Logs(lake, "/b").create()
    call = raw(lake).start_query
    good = {"startTime": 1, "endTime": 2, "queryString": "fields @message", "logGroupName": "/reads"}

    def without(*names, **more):
        return {**{name: value for name, value in good.items() if name not in names}, **more}

    assert call(**good)["queryId"]
    arn = logs.client.describe_log_groups(logGroupNamePrefix="/reads")["logGroups"][0]["logGroupArn"]
    for fine in (
        without("logGroupName", logGroupNames=["/reads", "/b"]),
        without("logGroupName", logGroupIdentifiers=[arn, "/b"]),
        without("logGroupName", logGroupNames=["/reads"] * 50),
        without(limit=1),
        without(limit=100_000),
        without(queryLanguage="CWLI"),
        without(endTime=1),
        without("logGroupName", queryString="SOURCE logGroups(namePrefix: ['/re']) | fields @message"),
    ):
        assert call(**fine)["queryId"], fine
    for bad in (
        without("startTime"),
        without("endTime"),
        without("queryString"),
        without(startTime=-1),
        without(startTime=3),
        without(limit=0),
        without(limit=100_001),
        without(queryString="fields @message #" + "x" * 10_000),
        without("logGroupName"),
        without(logGroupNames=["/b"]),
        without(logGroupIdentifiers=["/b"]),
        without("logGroupName", logGroupNames=[]),
        without("logGroupName", logGroupNames=["/reads"] * 51),
        without("logGroupName", logGroupNames=["no such name!"]),
        without("logGroupName", logGroupIdentifiers=[arn + ":*"]),
        without("logGroupName", logGroupIdentifiers=["arn:aws:sns:us-east-1:000000000000:topic"]),
        without(queryLanguage="KQL"),
        without(queryLanguage="PPL"),
        without(queryLanguage="SQL", queryString="SELECT `@message` FROM `/b`"),
        without(queryLanguage="SQL", queryString="SELECT 1"),
        without("logGroupName", queryLanguage="SQL", queryString="SELECT a FROM `filterIndex('a')`"),
        without(queryString="SOURCE logGroups(namePrefix: ['/re']) | fields @message"),
    ):
        refused(call, "InvalidParameterException", **bad)
    assert call(**without("logGroupName", queryLanguage="SQL", queryString="SELECT `@message` FROM `/reads`"))["queryId"]
    refused(call, "ResourceNotFoundException", **without("logGroupName", queryLanguage="SQL", queryString="SELECT a FROM `/none`"))
    for unknown in (without(logGroupName="/none"), without("logGroupName", logGroupNames=["/reads", "/none"]), without("logGroupName", logGroupIdentifiers=[arn + "x"])):
        refused(call, "ResourceNotFoundException", **unknown)
    for operation in (raw(lake).get_query_results, raw(lake).stop_query):
        refused(operation, "ResourceNotFoundException", queryId="12345678-0000-0000-0000-000000000000")
        refused(operation, "InvalidParameterException")
        refused(operation, "InvalidParameterException", queryId="x" * 257)


def test_a_malformed_query_says_where(lake):
    logs = Insights(lake).create("s")
    for text, wrong in (("fields @message | fliter x = 1", "fliter"), ("fields @message | sort", None), ("stats nosuch(x)", "nosuch"), ("filter a = ", None)):
        with pytest.raises(ClientError) as caught:
            logs.start(text)
        response = caught.value.response
        assert response["Error"]["Code"] == "MalformedQueryException" and response["Error"]["Message"], text
        mistake = response["queryCompileError"]
        assert mistake["message"] == response["Error"]["Message"]
        start, end = mistake["location"]["startCharOffset"], mistake["location"]["endCharOffset"]
        assert 0 <= start <= end <= len(text), (text, mistake)
        if wrong:
            assert text[start:end] == wrong, (text, mistake)
    assert isinstance(caught.value, logs.client.exceptions.MalformedQueryException)


def fill(logs, stream, n):
    at = now() - 1_200_000
    for first in range(0, n, 10_000):
        logs.put(stream, *[json.dumps({"n": first + i, "text": f"line {first + i} of many"}) for i in range(min(10_000, n - first))], at=at + first // 100)


# what a query takes must be longer than nine calls do
MANY = 200_000
SLOW = "fields n | parse @message /(?<word>l[a-z]+e) (?<number>\\d+)/ | sort word asc, number desc, n asc | limit 10"


def test_queries_wait_run_are_stopped_and_are_listed(make_lake):
    lake = make_lake(config={**SETTINGS, "insights": {"max_queries": 4, "max_running": 1}})
    logs = Insights(lake).create("s")
    Logs(lake, "/b").create("s")
    fill(logs, "s", MANY)
    queries = [logs.start(SLOW) for _ in range(3)] + [logs.start(SLOW, logGroupNames=["/b", "/reads"])]
    statuses = [logs.client.get_query_results(queryId=query)["status"] for query in queries]
    assert statuses[-1] == "Scheduled", statuses
    message = refused(raw(lake).start_query, "LimitExceededException", startTime=1, endTime=2, queryString="fields a", logGroupName="/reads")
    assert "[4]" in message
    assert logs.client.stop_query(queryId=queries[-1])["success"] is True
    assert logs.wait(queries[-1])["status"] == "Cancelled"
    refused(logs.client.stop_query, "InvalidParameterException", queryId=queries[-1])
    running = [query for query in queries if logs.client.get_query_results(queryId=query)["status"] == "Running"]
    for query in running:
        logs.client.stop_query(queryId=query)
        assert logs.wait(query)["status"] == "Cancelled"
    whole = [query for query in queries[:-1] if query not in running]
    for query in whole:
        page = logs.wait(query)
        assert page["status"] == "Complete" and len(page["results"]) == 10 and page["statistics"]["recordsScanned"] == MANY
        refused(logs.client.stop_query, "InvalidParameterException", queryId=query)

    def listed(**more):
        answer = logs.client.describe_queries(**more)
        return [query["queryId"] for query in answer["queries"]], answer

    everything, answer = listed()
    assert everything == queries[::-1] and "nextToken" not in answer
    newest = answer["queries"][0]
    assert newest["queryString"] == SLOW and newest["status"] == "Cancelled" and newest["logGroupName"] in ("/b", "/reads")
    assert abs(newest["createTime"] - now()) < 120_000 and newest["queryLanguage"] == "CWLI" and newest["queryDuration"] >= 0 and newest["bytesScanned"] >= 0
    assert listed(logGroupName="/b")[0] == queries[3:] and listed(logGroupName="/none")[0] == []
    assert listed(status="Complete")[0] == whole[::-1] and listed(queryLanguage="SQL")[0] == []
    assert set(listed(status="Cancelled")[0]) == {queries[3], *running}
    found, more = [], {}
    while True:
        page, answer = listed(maxResults=3, **more)
        found += page
        if "nextToken" not in answer:
            break
        assert len(page) == 3
        more = {"nextToken": answer["nextToken"]}
    assert found == everything
    call = raw(lake).describe_queries
    for bad in ({"maxResults": 0}, {"maxResults": 1_001}, {"status": "Done"}, {"nextToken": "x"}, {"queryLanguage": "KQL"}, {"logGroupName": "!"}):
        refused(call, "InvalidParameterException", **bad)
    metrics = lake.session.get(lake.url + "/metrics", timeout=20).text
    assert f'tracelake_receive_insights_queries_total{{status="Complete"}} {len(whole)}' in metrics
    # in memory alone
    lake.restart()
    logs = Insights(lake)
    assert logs.client.describe_queries()["queries"] == []
    refused(logs.client.get_query_results, "ResourceNotFoundException", queryId=queries[0])


def test_a_running_query_shows_what_it_knows_and_times_out(make_lake):
    lake = make_lake(config={**SETTINGS, "insights": {"timeout_seconds": 1}})
    logs = Insights(lake).create("s")
    fill(logs, "s", 100_000)
    # each line with each other one that begins alike, so to say
    query = logs.start("fields @message | parse @message /(?<a>.*)(?<b>line.*)(?<c>of.*)/ | sort c asc, b desc, a asc | limit 100000")
    last = 0.0
    while True:
        page = logs.client.get_query_results(queryId=query)
        assert page["statistics"]["recordsScanned"] >= last
        last = page["statistics"]["recordsScanned"]
        if page["status"] in ENDED:
            break
        assert page["status"] in ("Scheduled", "Running") and "nextToken" not in page
    # a fast machine may have done it in a second
    assert page["status"] in ("Timeout", "Complete") and (page["status"] == "Complete") == (last == 100_000.0)


def test_results_are_kept_within_their_bound(make_lake):
    lake = make_lake(config={"insights": {"max_results_bytes": 400_000}})
    logs = Insights(lake).create("s")
    fill(logs, "s", 2_000)
    queries = []
    for _ in range(6):
        queries.append(logs.start("fields @message | limit 500"))
        assert logs.wait(queries[-1])["status"] == "Complete"
        logs.wait(queries[0])
    # the one that was asked for again and again is still there, and so is the last
    kept = [query["queryId"] for query in logs.client.describe_queries()["queries"]]
    assert queries[0] in kept and queries[-1] in kept and queries[1] not in kept
    refused(logs.client.get_query_results, "ResourceNotFoundException", queryId=queries[1])
    # one that is more than all may be fails, and takes nothing from others
    assert logs.wait(logs.start("fields @message, @log, @logStream"))["status"] == "Failed"
    assert logs.wait(queries[0])["status"] == "Complete"


SECRETS = {name: f"secret-of-{name}-0123456789" for name in ("admin", "shop", "writer")}


def test_a_key_for_some_groups_queries_and_sees_those(make_lake):
    keys = [
        {"access_key_id": "AKIDADMIN", "secret_access_key": SECRETS["admin"], "rights": ["write", "read", "admin"], "name": "admin"},
        {"access_key_id": "AKIDSHOP", "secret_access_key": SECRETS["shop"], "rights": ["read"], "name": "shop", "log_groups": ["/shop/*"]},
        {"access_key_id": "AKIDWRITER", "secret_access_key": SECRETS["writer"], "rights": ["write"], "name": "writer"},
    ]
    lake = make_lake(config={"aws": {"keys": keys}})

    def as_(name):
        return lake.boto3(aws_access_key_id=f"AKID{name.upper()}", aws_secret_access_key=SECRETS[name])

    logs = Insights(lake)
    logs.client = as_("admin")
    for group in ("/shop/a", "/shop/b", "/bank"):
        logs.group = group
        logs.create("s").put("s", f"of {group}")
    shop = as_("shop")
    text = "fields @message | sort @message asc"
    both = logs.start(text, shop, logGroupNames=["/shop/a", "/shop/b"])
    assert [row["@message"] for row in rows(logs.wait(both, shop))] == ["of /shop/a", "of /shop/b"]
    # by prefix: what is open to it
    for source in ("SOURCE logGroups(namePrefix: ['/']) | ", "SOURCE logGroups() | ", "SOURCE logGroups(namePrefix: ['/bank']) | "):
        try:
            query = logs.start(source + text, shop)
        except shop.exceptions.MalformedQueryException:
            assert "()" in source
            continue
        expected = [] if "bank" in source else ["of /shop/a", "of /shop/b"]
        assert [row["@message"] for row in rows(logs.wait(query, shop))] == expected, source
    for groups in (["/bank"], ["/shop/a", "/bank"]):
        message = refused(lambda groups=groups: logs.start(text, shop, logGroupNames=groups), "AccessDeniedException")
        assert "logs:StartQuery" in message and "/bank" in message
    refused(lambda: logs.start(text, as_("writer"), logGroupName="/shop/a"), "AccessDeniedException")
    # the trace of an event reaches beyond the group
    for condition, told in [("trace:(error:true)", "xray"), ("log:(bank)", "every log group")]:
        message = refused(lambda condition=condition: logs.start(f"filter search('{condition}')", shop, logGroupName="/shop/a"), "AccessDeniedException")
        assert told in message
        assert logs.wait(logs.start(f"filter search('{condition}')", logGroupName="/shop/a"))["status"] == "Complete"
    words = logs.start("filter search('shop -bank') | fields @message", shop, logGroupName="/shop/a")
    assert [row["@message"] for row in rows(logs.wait(words, shop))] == ["of /shop/a"]
    # of others' queries it sees those that are about its groups alone
    mine = logs.start(text, logGroupName="/shop/a")
    mixed = logs.start(text, logGroupNames=["/shop/a", "/bank"])
    found = logs.start("SOURCE logGroups(namePrefix: ['/']) | " + text)
    assert [row["@message"] for row in rows(logs.wait(found))] == ["of /bank", "of /shop/a", "of /shop/b"]
    assert logs.wait(mine, shop)["status"] == "Complete"
    for query in (mixed, found):
        logs.wait(query)
        refused(shop.get_query_results, "ResourceNotFoundException", queryId=query)
        refused(shop.stop_query, "ResourceNotFoundException", queryId=query)
    seen = {query["queryId"]: query for query in shop.describe_queries()["queries"]}
    assert {both, mine} <= seen.keys() and not {mixed, found} & seen.keys()
    assert seen[both]["userIdentity"] == "arn:aws:iam::000000000000:user/shop"
    assert len(logs.client.describe_queries()["queries"]) >= 5


def test_the_aws_cli_queries(lake):
    logs = Insights(lake).create("s")
    logs.put("s", "level=ERROR one", "level=INFO two", "level=ERROR three")

    def aws(*arguments):
        command = [lakes.tool("aws"), "logs", *arguments, "--endpoint-url", lake.url, "--output", "json"]
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def answer(*arguments):
        code, out, error = aws(*arguments)
        assert code == 0, error
        return json.loads(out)

    seconds = int(time.time())
    times = ["--start-time", str(seconds - 3600), "--end-time", str(seconds + 1)]
    text = 'parse @message "level=* *" as level, rest | stats count(*) as n by level | sort n desc'
    query = answer("start-query", "--log-group-name", logs.group, *times, "--query-string", text)["queryId"]
    logs.wait(query)
    page = answer("get-query-results", "--query-id", query)
    assert page["status"] == "Complete" and rows(page) == [{"level": "ERROR", "n": "2"}, {"level": "INFO", "n": "1"}]
    assert answer("describe-queries", "--log-group-name", logs.group)["queries"][0]["queryId"] == query
    code, _, error = aws("stop-query", "--query-id", query)
    assert code != 0 and "InvalidParameterException" in error
    code, _, error = aws("start-query", "--log-group-name", logs.group, *times, "--query-string", "fliter x")
    assert code != 0 and "MalformedQueryException" in error
    assert messages(logs.filter_all()) == ["level=ERROR one", "level=INFO two", "level=ERROR three"]


def test_sql_reads_log_groups_and_types_are_those_of_the_values(lake):
    logs = Insights(lake).create("a", "b")
    at = now() - 60_000
    events = [json.dumps({"status": status, "path": path, "ms": ms}) for status, path, ms in ((200, "/", 1.5), (500, "/pay", 9), (503, "/pay", 10))]
    logs.put("a", *events[:2], "plain line", at=at)
    logs.put("b", events[2], at=at + 5_000)

    def ask(text, **more):
        return logs.ask(text, queryLanguage="SQL", **more)

    def check():
        text = "SELECT path, count(*) AS n, max(ms) AS slowest FROM `/reads` WHERE status >= 500 GROUP BY path"
        assert ask(text) == [{"path": "/pay", "n": "2", "slowest": "10"}]
        found = ask("SELECT `@timestamp`, `@message`, `@ptr` FROM `/reads` WHERE `@message` LIKE '%plain%'")
        assert [row["@message"] for row in found] == ["plain line"]
        assert logs.client.get_log_record(logRecordPointer=found[0]["@ptr"])["logRecord"]["@message"] == "plain line"
        # the second is the plain line
        assert [row.get("status") for row in ask("SELECT status FROM `/reads` ORDER BY `@timestamp` DESC LIMIT 2")] == ["503", None]
        assert ask("SELECT count(*) AS n FROM `filterIndex('path' = '/pay')`") == [{"n": "2"}]

    check()
    page = logs.wait(logs.start("SELECT status FROM `/reads`", queryLanguage="SQL"))
    assert page["queryLanguage"] == "SQL" and page["statistics"]["recordsMatched"] == 4
    assert [query["queryLanguage"] for query in logs.client.describe_queries(queryLanguage="SQL", maxResults=1)["queries"]] == ["SQL"]
    # a stream that is gone has no rows
    logs.client.delete_log_stream(logGroupName="/reads", logStreamName="b")
    assert ask("SELECT count(*) AS n FROM `/reads`") == [{"n": "3"}]
    with pytest.raises(ClientError) as caught:
        logs.start("SELECT nosuch(path) FROM `/reads`", queryLanguage="SQL")
    response = caught.value.response
    assert response["Error"]["Code"] == "MalformedQueryException" and response["queryCompileError"]["location"] == {"startCharOffset": 7, "endCharOffset": 13}


def test_a_key_for_some_groups_reads_no_others_by_sql(make_lake):
    key = {"access_key_id": "AKIDALL", "secret_access_key": "secret of all", "rights": ["write", "read", "admin"]}
    some = {"access_key_id": "AKIDSOME", "secret_access_key": "secret of some", "rights": ["read"], "log_groups": ["/reads*"]}
    lake = make_lake(config=SETTINGS | {"aws": {"keys": [key, some]}})
    owner = lakes.client("logs", lake.url, aws_access_key_id="AKIDALL", aws_secret_access_key="secret of all")
    for group in ("/reads", "/other"):
        owner.create_log_group(logGroupName=group)
    other = lakes.client("logs", lake.url, aws_access_key_id="AKIDSOME", aws_secret_access_key="secret of some")
    times = {"startTime": int(time.time()) - 60, "endTime": int(time.time()), "queryLanguage": "SQL"}
    assert other.start_query(queryString="SELECT a FROM `/reads`", **times)["queryId"]
    refused(other.start_query, "AccessDeniedException", queryString="SELECT a FROM `/reads`, `/other`", **times)


def test_lookup_tables_are_files(make_lake, tmp_path):
    (tmp_path / "users.csv").write_text("id,name\nu1,ann\n")
    lake = make_lake(config=SETTINGS | {"insights": {"lookup_folder": str(tmp_path)}})
    logs = Insights(lake).create("s")
    logs.put("s", json.dumps({"user": "u1"}), json.dumps({"user": "u2"}), at=now() - 60_000)
    assert logs.ask("lookup users id as user OUTPUT name | stats count(*) as n by name | sort n") == [{"n": "1"}, {"name": "ann", "n": "1"}]
    # a file that is replaced is read anew
    (tmp_path / "users.csv").write_text("id,name\nu1,eve\n")
    found = logs.ask("lookup users id as user OUTPUT name | filter ispresent(name) | display name")
    assert [row["name"] for row in found] == ["eve"]
    refused(logs.start, "MalformedQueryException", text="lookup nosuch id OUTPUT name")


def test_events_have_the_fields_of_their_entity(lake):
    logs = Insights(lake).create("a", "b", "c")
    service = {
        "keyAttributes": {"Type": "Service", "Name": "checkout-api", "Environment": "eks:prod", "AwsAccountId": "123456789012"},
        "attributes": {"PlatformType": "AWS::EKS", "EKS.Cluster": "shop"},
    }
    resource = {"keyAttributes": {"Type": "AWS::Resource", "ResourceType": "AWS::EC2::Instance", "Identifier": "i-1"}}
    put = lambda stream, text, **more: logs.client.put_log_events(  # noqa: E731
        logGroupName=logs.group, logStreamName=stream, logEvents=[{"timestamp": now() - 5_000, "message": text}], **more
    )
    assert "rejectedEntityInfo" not in put("a", "of a service", entity=service)
    assert "rejectedEntityInfo" not in put("b", "of a resource", entity=resource)
    put("c", "of nobody")
    nobody = {"keyAttributes": {"Type": "Robot", "Name": "r2"}, "attributes": {"PlatformType": "Generic"}}
    assert put("c", "of a robot", entity=nobody)["rejectedEntityInfo"] == {"errorType": "InvalidTypeValue"}
    # what has no such class has no entities
    logs.client.create_log_group(logGroupName="/rare", logGroupClass="INFREQUENT_ACCESS")
    logs.client.create_log_stream(logGroupName="/rare", logStreamName="s")
    events = [{"timestamp": now() - 5_000, "message": "rare"}]
    answer = logs.client.put_log_events(logGroupName="/rare", logStreamName="s", logEvents=events, entity=service)
    assert answer["rejectedEntityInfo"] == {"errorType": "UnsupportedLogGroupType"}

    wanted = "@entity.KeyAttributes.Type, @entity.KeyAttributes.Name, @entity.KeyAttributes.Environment, @entity.KeyAttributes.AwsAccountId, "
    wanted += "@entity.KeyAttributes.ResourceType, @entity.KeyAttributes.Identifier, @entity.Attributes.PlatformType, @entity.Attributes.EKS.Cluster"
    told = [{f"@entity.{kind[0].upper()}{kind[1:]}.{name}": value for kind, of in one.items() for name, value in of.items()} for one in (service, resource)]

    def check():
        found = {row.pop("@message"): row for row in ({k: v for k, v in row.items() if k != "@ptr"} for row in logs.ask(f"fields @message, {wanted}", logGroupName=logs.group))}
        assert found == {"of a service": told[0], "of a resource": told[1], "of nobody": {}, "of a robot": {}}
        only_services = logs.ask("filter @entity.KeyAttributes.Name = 'checkout-api' and @entity.Attributes.EKS.Cluster like /sh/ | stats count(*) as n by @entity.KeyAttributes.Environment as e")
        assert only_services == [{"e": "eks:prod", "n": "1"}]
        (row,) = logs.ask("fields @entity.KeyAttributes.Name as name", logGroupName="/rare")
        assert "name" not in row

    check()
    lake.restart(kill=True)
    logs.client = lake.boto3()
    check()
    lake.restart()
    logs.client = lake.boto3()
    check()
    assert [hit["body"] for hit in lake.hits(f"service:checkout-api log_group:{logs.group}")] == ["of a service"]


def test_what_otlp_records_say_beside_their_message_are_fields(lake):
    """AWS keeps such a record as JSON with `attributes` and `resource.attributes`; here they are fields beside the message."""
    logs = Logs(lake)
    logs.client.create_log_group(logGroupName="/otlp")
    logs.client.create_log_stream(logGroupName="/otlp", logStreamName="s")
    text = lambda key, value: {"key": key, "value": {"stringValue": value}}  # noqa: E731
    records = [
        {
            "timeUnixNano": str((now() + i) * 1_000_000),
            "severityText": "ERROR" if i % 2 else "INFO",
            "severityNumber": 17 if i % 2 else 9,
            "traceId": f"{i + 1:032x}",
            "body": {"stringValue": f"line {i}"},
            "attributes": [text("http.route", f"/r{i % 2}")],
        }
        for i in range(4)
    ]
    body = {"resourceLogs": [{"resource": {"attributes": [text("service.name", "cart")]}, "scopeLogs": [{"logRecords": records}]}]}
    place = {"x-aws-log-group": "/otlp", "x-aws-log-stream": "s"}
    lake.session.post(lake.url + "/v1/logs", json=body, headers=place).raise_for_status()

    def ask(script):
        query = logs.client.start_query(logGroupName="/otlp", startTime=now() // 1000 - 600, endTime=now() // 1000 + 600, queryString=script)
        page = lakes.wait_until(lambda: (p := logs.client.get_query_results(queryId=query["queryId"]))["status"] == "Complete" and p)
        return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in page["results"]]

    assert ask('filter attributes.http.route = "/r1" | stats count(*) as n by service.name') == [{"service.name": "cart", "n": "2"}]
    assert ask('filter resource.attributes.service.name = "cart" and severityText = "ERROR" | fields traceId, http.route | sort @timestamp asc | limit 1') == [
        {"traceId": f"{2:032x}", "http.route": "/r1"}
    ]
    (row,) = ask(f'filter trace_id = "{3:032x}" | fields @message, pattern_id')
    assert row["@message"] == "line 2" and int(row["pattern_id"])
    # in SQL too
    statement = "SELECT `service.name` AS s, severity_text, sum(severity_number) AS n FROM `/otlp` WHERE `http.route` = '/r1' GROUP BY `service.name`, severity_text"
    query = logs.client.start_query(queryLanguage="SQL", startTime=now() // 1000 - 600, endTime=now() // 1000 + 600, queryString=statement)
    page = lakes.wait_until(lambda: (p := logs.client.get_query_results(queryId=query["queryId"]))["status"] == "Complete" and p)
    assert [{cell["field"]: cell["value"] for cell in row} for row in page["results"]] == [{"s": "cart", "severity_text": "ERROR", "n": "34"}]
    pointer = logs.client.start_query(logGroupName="/otlp", startTime=now() // 1000 - 600, endTime=now() // 1000 + 600, queryString="fields @ptr | limit 1")
    page = lakes.wait_until(lambda: (p := logs.client.get_query_results(queryId=pointer["queryId"]))["status"] == "Complete" and p)
    record = logs.client.get_log_record(logRecordPointer=page["results"][0][0]["value"])["logRecord"]
    assert record["attributes.http.route"] in ("/r0", "/r1")
