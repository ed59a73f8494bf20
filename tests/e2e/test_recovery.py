"""What a bucket alone brings back, and what `lake verify` says of it."""

import json
import shutil
import subprocess
import time

import pytest

import lake as lakes
from test_alert import RULE, Inbox, alert_of, evaluated_again, send_errors
from test_crash import Sender, seqs_by_duckdb, seqs_by_search, seqs_by_sql


def verify(*args, code=0):
    """The report of `lake verify`."""
    done = subprocess.run([lakes.binary(), "lake", "verify", "--json", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout)


def test_an_empty_disk_and_the_bucket_give_every_row(make_lake, weed):
    lake = make_lake(config={"store": weed.store(), "ingest": {"flush_age_seconds": 1}})
    sender = Sender()
    for _ in range(30):
        assert sender.send(lake)
    lake.stop()
    shutil.rmtree(lake.data_dir)
    lake.start()
    sender.check(seqs_by_sql(lake), "SQL on an empty disk")
    sender.check(seqs_by_search(lake), "search on an empty disk")
    # the new node writes beside what the old one left
    for _ in range(10):
        assert sender.send(lake)
    report = verify("--config", lake.folder / "tracelake.toml")
    assert report["blocks"] > 0 and report["damaged"] == [], report
    lake.restart(kill=True)
    sender.check(seqs_by_sql(lake), "SQL after a crash of the new node")


def counted(lake):
    """Of all nodes that ever wrote to the store."""
    return {(entry["receiver"], entry["signal"]): entry["accepted"] for entry in lake.status()["ledger"]}


def test_an_empty_disk_knows_groups_alerts_and_the_ledger(make_lake, tmp_path, weed, moto):
    inbox = Inbox(moto, "on-call-recovery")
    rules = tmp_path / "rules"
    rules.mkdir()
    # fired is told once, resolved once
    (rules / "checkout-errors.yaml").write_text(RULE.format(topic=inbox.topic).replace("timeframe: 10m", "timeframe: 25s\nresolve_after: 1s"))
    lake = make_lake(
        rules=rules,
        config={
            "store": weed.store(),
            "ingest": {"flush_age_seconds": 1},
            "node": {"lease_seconds": 3},
            "alert": {"sns": {"endpoint_url": moto, "region": "us-east-1"}},
        },
        env={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"},
    )
    logs = lake.boto3()
    logs.create_log_group(logGroupName="/kept", tags={"team": "shop"})
    logs.put_retention_policy(logGroupName="/kept", retentionInDays=30)
    logs.create_log_stream(logGroupName="/kept", logStreamName="s")
    send_errors(lake, 6)
    lake.wait_until(lambda: inbox.read(), 20, what="a message")
    fired_at = alert_of(lake)["fired_at_unix_nano"]
    lake.wait_flushed()
    lake.wait_until(lambda: any(node["is_this"] and node["leads"] for node in lake.status()["nodes"]))
    before = counted(lake)
    first_node = lake.status()["node"]

    # the machine burns down
    lake.kill()
    shutil.rmtree(lake.data_dir)
    lake.start()
    assert lake.status()["node"] != first_node
    logs = lake.boto3()
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/kept")["logGroups"]
    assert group["retentionInDays"] == 30 and group["creationTime"] > 0
    assert logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"] == {"team": "shop"}
    assert [stream["logStreamName"] for stream in logs.describe_log_streams(logGroupName="/kept")["logStreams"]] == ["s"]
    assert counted(lake) == before

    # who led is silent for the lease, and the alert goes on where it was: nobody is told again that it fires
    alert = lake.wait_until(lambda: lake.get("/api/v1/alerts")["evaluated_by"]["is_this"] and alert_of(lake), 20, what="the lead")
    assert alert["fired_at_unix_nano"] == fired_at and [n["status"] for n in alert["notifications"]] == ["delivered"]
    assert len(inbox.read()) == 1, inbox.messages
    # and that it is over is told, once
    lake.wait_until(lambda: len(inbox.read()) > 1, 60, what="the end")
    states = [message["MessageAttributes"]["state"]["Value"] for message in inbox.messages]
    assert states == ["firing", "resolved"]
    time.sleep(3)
    assert len(inbox.read()) == 2

    # what the new node takes is added to what the gone one took
    send_errors(lake, 2)
    assert counted(lake)["awslogs", "logs"] == before["awslogs", "logs"] + 2
    lake.restart(kill=True)
    assert counted(lake)["awslogs", "logs"] == before["awslogs", "logs"] + 2
    nodes = {node["node"]: node for node in lake.status()["nodes"]}
    assert not nodes[first_node]["is_alive"] and not nodes[first_node]["leads"]


def test_of_two_live_nodes_one_tells_and_a_lead_can_be_taken(make_lake, tmp_path, weed, moto):
    inbox = Inbox(moto, "on-call-two")
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "checkout-errors.yaml").write_text(RULE.format(topic=inbox.topic))
    settings = {
        "rules": rules,
        "config": {
            "store": weed.store(),
            "node": {"lease_seconds": 600, "share_seconds": 1},
            "alert": {"sns": {"endpoint_url": moto, "region": "us-east-1"}},
        },
        "env": {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"},
    }
    one = make_lake("one", **settings)
    two = make_lake("two", **settings)
    assert one.get("/api/v1/alerts")["evaluated_by"]["is_this"]
    assert two.get("/api/v1/alerts")["evaluated_by"] == {"node": one.status()["node"], "is_this": False}
    # the first hears of the second with its next heartbeat: stop it in order, so that it need not wait for that
    one.restart()
    # half of it here, half of it there: together they are too many
    leader, other = (two, one) if two.get("/api/v1/alerts")["evaluated_by"]["is_this"] else (one, two)
    send_errors(leader, 3)
    send_errors(other, 3)
    leader.wait_until(lambda: inbox.read(), 40, what="a message")
    evaluated_again(leader)
    assert len(inbox.read()) == 1, inbox.messages
    other.wait_until(lambda: (a := alert_of(other)) and a["state"] == "firing", 20, what="the leader's alert, shown by the other node")
    # a group that was made on one is known to the other
    leader.boto3().create_log_group(logGroupName="/made/here")
    other.wait_until(lambda: other.boto3().describe_log_groups(logGroupNamePrefix="/made")["logGroups"], 20, what="the group")

    # the leader is killed; its heartbeat is fresh for ten minutes, and somebody says that it is gone
    gone = leader.status()["node"]
    leader.kill()
    other.stop()
    other.args = ["--adopt", gone]
    other.start()
    assert other.get("/api/v1/alerts")["evaluated_by"]["is_this"]
    assert evaluated_again(other)["state"] == "firing"
    assert len(inbox.read()) == 1, inbox.messages


def test_verify_names_what_is_damaged(make_lake):
    lake = make_lake()
    sender = Sender()
    for _ in range(5):
        assert sender.send(lake)
    lake.stop()
    whole = verify("--data-dir", lake.data_dir)
    assert whole["rows"] >= len(sender.acknowledged) and whole["unlisted_objects"] == 0, whole

    store = lake.data_dir / "store"
    parquet = next((store / "_l0" / "logs").rglob("*.parquet"))
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(data)
    report = verify("--data-dir", lake.data_dir, code=1)
    (damaged,) = report["damaged"]
    assert damaged["key"].endswith(parquet.name) and "checksum" in damaged["flaws"][0], report
    parquet.unlink()
    lake.no_ledger("a block is missing from its store")
    assert "is missing" in verify("--data-dir", lake.data_dir, code=1)["damaged"][0]["flaws"][0]


def flip(path):
    """Another bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_damage_to_the_catalog_is_told_and_costs_no_row(make_lake, tmp_path):
    store = tmp_path / "store"
    lake = make_lake(store=store, config={"ingest": {"flush_age_seconds": 1}})
    lake.boto3().create_log_group(logGroupName="/kept/group")
    sender = Sender()
    for _ in range(4):
        assert sender.send(lake)
        lake.wait_flushed()
    # killed: the next start needs every record
    lake.kill()
    catalog = store / "_catalog"
    records = {path: json.loads(path.read_bytes()) for path in (catalog / "log").glob("*.json")}
    record = max(path for path, content in records.items() if content["kind"] == "flush" and content.get("adds"))
    copy = catalog / "copy" / f"{int(record.stem) % 1024:04}.json"
    state = catalog / "state" / records[max(path for path, content in records.items() if "state" in content)]["state"].rsplit("/", 1)[1]
    whole = {path: path.read_bytes() for path in (record, copy, state)}
    assert whole[record] == whole[copy] == b'{"crc32c":"' + whole[record][11:]
    flip(record)
    flip(state)
    flaws = verify("--store", store, code=1)["catalog_flaws"]
    assert len(flaws) == 2 and all("is used" in flaw for flaw in flaws) and record.name in flaws[0] and state.name in flaws[1], flaws
    lake.start()
    sender.check(seqs_by_sql(lake), "SQL with a damaged record")
    assert [group["logGroupName"] for group in lake.boto3().describe_log_groups()["logGroups"]] == ["/kept/group"]
    assert 'tracelake_catalog_damaged_objects_total{object="record"} ' in lake.session.get(lake.url + "/metrics").text
    assert sender.send(lake)
    # in both places: no start gets past it, and it says what to do
    lake.kill()
    for path in (catalog / "checkpoint").glob("*"):
        path.unlink()
    flip(copy)
    for _ in range(2):
        with pytest.raises(AssertionError) as failed:
            lake.start(timeout=20)
        assert all(word in str(failed.value) for word in (record.name, copy.name, "Nothing was changed", "backup", "SIGTERM")), failed.value
    assert "no start gets past it" in verify("--store", store, code=1)["catalog_flaws"][0]
    # a backup in the place of one of them
    copy.write_bytes(whole[copy])
    lake.start()
    sender.check(seqs_by_sql(lake), "SQL once a backup is in its place")
    # an orderly stop leaves a checkpoint, and the record is not needed any more
    lake.stop()
    flip(copy)
    lake.start()
    sender.check(seqs_by_sql(lake), "SQL from the checkpoint")
    # which gives way to an older one, and the records since
    lake.stop()
    for path, content in whole.items():
        path.write_bytes(content)
    flip(max((catalog / "checkpoint").glob("*.json")))
    lake.start()
    sender.check(seqs_by_sql(lake), "SQL with a damaged checkpoint")
    lake.stop()
    sender.check(seqs_by_duckdb(store), "Parquet")
