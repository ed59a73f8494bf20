"""What a bucket alone brings back, and what `lake verify` says of it."""

import json
import shutil
import subprocess

import lake as lakes
from test_crash import Sender, seqs_by_search, seqs_by_sql


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
    assert "is missing" in verify("--data-dir", lake.data_dir, code=1)["damaged"][0]["flaws"][0]
