"""Of many log streams a flush stores those that changed, and any start finds them all: after `kill -9` between two steps, or with an empty disk."""

import json
import shutil

N_STREAMS = 700


def newest_states(store):
    """The parts of the newest state, by the records themselves."""
    for path in sorted((store / "_catalog/log").glob("*.json"), reverse=True):
        record = json.loads(path.read_bytes())
        if record.get("state"):
            return [store / key for key in [*record.get("state_parts", []), record["state"]]]
    return []


def streams(lake):
    pages = lake.boto3().get_paginator("describe_log_streams").paginate(logGroupName="many")
    return {stream["logStreamName"] for page in pages for stream in page["logStreams"]}


def test_a_flush_stores_the_streams_that_changed_and_every_start_finds_all(make_lake, tmp_path):
    store = tmp_path / "store"
    lake = make_lake(config={"ingest": {"flush_age_seconds": 1}, "node": {"lease_seconds": 3}}, store=store)
    logs = lake.boto3()
    logs.create_log_group(logGroupName="many")
    names = {f"stream-{n:04}-{'x' * 100}" for n in range(N_STREAMS)}
    for name in sorted(names):
        logs.create_log_stream(logGroupName="many", logStreamName=name)

    def is_stored(name):
        parts = [path.read_bytes() for path in newest_states(store)]
        return parts if any(name.encode() in part for part in parts) else None

    lake.wait_until(lambda: is_stored(max(names)), what="the streams to be stored")
    for n in range(3):
        names.add(f"later-{n}")
        logs.create_log_stream(logGroupName="many", logStreamName=f"later-{n}")
        parts = lake.wait_until(lambda n=n: is_stored(f"later-{n}"), what="one more")
        assert len(parts) > 1 and len(parts[-1]) < len(parts[0]) / 2, [len(part) for part in parts]
    # the state is put, the record that names it is not
    lake.kill()
    lake.args = ["--fail-points", "flush.before_commit"]
    lake.start()
    names.add("last")
    lake.boto3().create_log_stream(logGroupName="many", logStreamName="last")
    lake.wait_for_end()
    lake.args = []
    lake.start()
    assert streams(lake) == names
    lake.wait_until(lambda: is_stored("last"), what="the last one")
    lake.kill()
    shutil.rmtree(lake.data_dir)
    lake.start()
    lake.wait_until(lambda: streams(lake) == names, what="a node with an empty disk to know them all")
