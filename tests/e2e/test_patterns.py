"""Log patterns: the same IDs in the head, in blocks and after restarts; what is new is told, and fires a rule."""

import time
import urllib.parse

import requests

MINUTE = 60_000_000_000

RULE = """\
name: new-pattern
type: spike
query: severity>=ERROR
query_key: pattern_id
timeframe: 10m
spike_height: 10
spike_type: up
threshold_ref: 0
every: 1s
"""


def send(lake, texts, at=None, severity=9, service="shop"):
    at = at or time.time_ns()
    records = [{"timeUnixNano": str(at + n), "severityNumber": severity, "body": {"stringValue": text}} for n, text in enumerate(texts)]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    answer = requests.post(lake.url + "/v1/logs", json={"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}, timeout=20)
    assert answer.status_code == 200, answer.text


def patterns(lake, **params):
    answer = lake.get("/api/v1/patterns", **params)
    assert answer["coverage"]["complete"], answer["coverage"]
    return answer


def by_template(answer):
    return {found["template"]: found for found in answer["patterns"]}


def test_patterns_have_the_same_ids_before_and_after_a_restart(make_lake):
    lake = make_lake()
    send(lake, [f"order {n} paid in {n}.5ms from 10.0.0.{n}:80" for n in range(7)])
    users = [f"user {name} logged in" for name in ("ann", "bob", "cid")]
    send(lake, users)
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/shop/cart")
    logs.create_log_stream(logGroupName="/shop/cart", logStreamName="s")
    event = '{"level":"info","msg":"cart 17 emptied","user":"ann"}'
    logs.put_log_events(logGroupName="/shop/cart", logStreamName="s", logEvents=[{"timestamp": time.time_ns() // 1_000_000, "message": event}])

    def seen():
        return {template: (found["id"], found["count"], sorted(found["pattern_ids"])) for template, found in by_template(patterns(lake)).items()}

    first = seen()
    paid, cart = "order <num> paid in <duration> from <ip>:<num>", '{"level":"info","msg":"cart <num> emptied","user":<*>}'
    assert {template: count for template, (_, count, _) in first.items()} == {paid: 7, "user <*> logged in": 3, cart: 1}
    assert len(first["user <*> logged in"][2]) == 3
    found = by_template(patterns(lake))[paid]
    assert found["services"] == [["shop", 7]] and found["severity"] == "INFO" and sum(found["sparkline"]) == 7
    assert found["first_seen"] <= found["last_seen"] and found["sample"]["body"].startswith("order 6 ")

    # replayed from the log, then out of blocks, then both
    lake.restart(kill=True)
    assert seen() == first
    lake.restart()
    assert seen() == first
    send(lake, ["order 99 paid in 2s from 10.0.0.1:8080"])
    assert seen()[paid] == (first[paid][0], 8, first[paid][2])

    # the ID in searches, hits and SQL
    pattern_id = first[paid][0]
    assert 0 < pattern_id < 1 << 53
    hits = lake.hits(f"pattern_id:{pattern_id}")
    assert len(hits) == 8 and {hit["pattern_id"] for hit in hits} == {pattern_id}
    (row,) = lake.sql("SELECT pattern_id, count(*) AS n FROM logs GROUP BY pattern_id ORDER BY n DESC LIMIT 1")
    assert (int(row["pattern_id"]), int(row["n"])) == (pattern_id, 8)
    # mistakes are told
    for params in ({"table": "spans"}, {"state": "new"}, {"compare": "yesterday"}, {"compare": "previous", "state": "old"}):
        answer = requests.get(lake.url + "/api/v1/patterns", params=params, timeout=20)
        assert answer.status_code == 400 and answer.json()["error"]["hint"], answer.text


def test_new_surging_and_vanished_patterns_are_told(make_lake):
    lake = make_lake()
    now = time.time_ns()
    before = now - 15 * MINUTE
    send(lake, [f"retry {n}" for n in range(5)] + [f"warming up {n}" for n in range(4)] + ["user ann in", "user bob in", "user cid in"], at=before)
    send(lake, [f"retry {n}" for n in range(50)] + ["user dee in", "user ann in"], at=now - MINUTE)
    send(lake, ["disk full"], at=now - MINUTE, severity=17)
    times = {"start": str(now - 10 * MINUTE), "end": str(now), "compare": "previous"}
    told = {found["template"]: (found["state"], found["count"], found["baseline_count"]) for found in patterns(lake, **times)["patterns"]}
    assert told == {
        "disk full": ("new", 1, 0),
        "retry <num>": ("surging", 50, 5),
        "warming up <num>": ("vanished", 0, 4),
        # a new name is no new pattern
        "user <*> in": ("steady", 2, 3),
    }
    only = patterns(lake, **times, state="vanished")["patterns"]
    assert [found["template"] for found in only] == ["warming up <num>"]
    named = patterns(lake, **{**times, "compare": f"{before - MINUTE}..{before + MINUTE}", "state": "new"})["patterns"]
    assert [found["template"] for found in named] == ["disk full"]


def test_a_rule_fires_for_a_pattern_that_is_new(make_lake, tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "new-pattern.yaml").write_text(RULE)
    lake = make_lake(rules=rules)
    now = time.time_ns()
    send(lake, [f"connect to db failed after {n} ms" for n in range(20)], at=now - 12 * MINUTE, severity=17)
    send(lake, [f"connect to db failed after {n} ms" for n in range(20, 40)], at=now - MINUTE, severity=17)
    send(lake, ["checksum of page 7 is wrong"], severity=17)
    new = by_template(patterns(lake))["checksum of page <num> is wrong"]["id"]

    def firing():
        return [alert["group_key"] for alert in lake.get("/api/v1/alerts")["alerts"] if alert["state"] == "firing"]

    lake.wait_until(firing, 20, what="the alert")
    (group,) = firing()
    assert str(new) in group


RULE_ON_PATTERNS = """
name: new-error-pattern
type: pattern
query: severity:error
timeframe: 10m
compare_with: 20m
every: 1s
"""


def test_a_pattern_that_is_new_is_one_alert_whatever_its_texts(make_lake, tmp_path):
    """Names and numbers in a text make no alerts of their own; what was said before makes none at all."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "new-error-pattern.yaml").write_text(RULE_ON_PATTERNS)
    lake = make_lake(rules=rules)
    now = time.time_ns()
    send(lake, ["connect to db failed after 3 ms"], at=now - 40 * MINUTE, severity=17)
    send(lake, [f"connect to db failed after {n} ms" for n in range(20)], at=now - 12 * MINUTE, severity=17)
    send(lake, [f"connect to db failed after {n} ms" for n in range(20, 40)], at=now - MINUTE, severity=17)
    send(lake, ["all is well"], at=now - MINUTE)
    send(lake, [f"password of user {name} is wrong" for name in ("ann", "bob", "cid")], at=now - MINUTE, severity=17)

    def firing():
        return [alert for alert in lake.get("/api/v1/alerts")["alerts"] if alert["state"] == "firing"]

    lake.wait_until(firing, 20, what="the alert")
    (alert,) = firing()
    assert "password of user <*> is wrong" in alert["group_key"], alert
    # another name does not make another alert
    send(lake, ["password of user dan is wrong"], at=now, severity=17)
    time.sleep(3)
    assert [one["group_key"] for one in firing()] == [alert["group_key"]]
    # the link leads to its rows
    link = urllib.parse.parse_qs(urllib.parse.urlsplit(alert["link"]).query)
    found = lake.hits(link["q"][0], start="-1h")
    assert {hit["body"] for hit in found} >= {f"password of user {name} is wrong" for name in ("ann", "bob", "cid")}
    assert all(hit["body"].startswith("password of user") for hit in found)
