"""Rows are kept as long as their log group, service or table says."""

import time

import requests

DAY = 24 * 3600
LAKE = {"every_seconds": 1, "seal_after_seconds": 0, "seal_quiet_seconds": 0, "late_seal_seconds": 0, "removed_grace_seconds": 5}
QUERY = {"timeout_seconds": 4}


def groups(lake):
    rows = lake.sql("SELECT aws_log_group AS g, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1")
    return {row["g"]: int(row["n"]) for row in rows}


def test_the_policy_of_a_log_group_and_rules_take_rows_from_shared_blocks(make_lake):
    config = {"ingest": {"flush_age_seconds": 1}, "lake": LAKE, "query": QUERY, "retention": {"rules": [{"log_group": "/by-rule/*", "days": 2}]}}
    lake = make_lake(config=config)
    logs = lake.boto3()
    # in one hour, so that they share a block
    old = (int(time.time()) - 4 * DAY) // 3600 * 3_600_000
    for group in ("/kept", "/short", "/by-rule/a"):
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="s")
        logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[{"timestamp": old + i, "message": f"{group} {i}"} for i in range(5)])
    lake.wait_until(lambda: groups(lake) == {"/kept": 5, "/short": 5}, 30, what="the rule's rows have expired")
    logs.put_retention_policy(logGroupName="/short", retentionInDays=3)
    lake.wait_until(lambda: groups(lake) == {"/kept": 5}, 30, what="the policy's rows have expired")
    status = lake.status()
    assert status["gone"]["logs"] == {"deleted": 0, "expired": 10}
    assert status["store"]["blocks"]["logs"]["rows"] == 5
    # new ones stay
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName="/short", logStreamName="s", logEvents=[{"timestamp": now, "message": "new"}])
    lake.restart()
    assert groups(lake) == {"/kept": 5, "/short": 1}
    assert [hit["body"] for hit in lake.hits("aws_log_group:/kept", start="-10d")][-1] == "/kept 0"


def test_whole_blocks_go_by_the_days_of_their_table(make_lake):
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1}, "lake": LAKE, "query": QUERY, "retention": {"days": 100, "tables": {"logs": 3}}})
    for days in (0, 2, 4, 20):
        record = {"timeUnixNano": str(time.time_ns() - days * DAY * 10**9), "body": {"stringValue": f"{days} days"}}
        body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        assert requests.post(lake.otlp_http_url + "/v1/logs", json=body, timeout=20).status_code == 200
    lake.wait_until(lambda: sorted(hit["body"] for hit in lake.hits("days", start="-30d")) == ["0 days", "2 days"], 30)
    assert lake.status()["gone"]["logs"]["expired"] == 2
