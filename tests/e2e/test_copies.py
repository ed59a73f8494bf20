"""Two processes with copies of one data directory do not write as one node: nothing that either acknowledged is lost unsaid."""

import shutil
import signal
import subprocess
import time

import lake as lakes
from test_supervised import send

CONFIG = {"ingest": {"flush_age_seconds": 1}, "node": {"lease_seconds": 3}}


def refused(lake, seconds=20):
    """Starts it; what it says as it does not start."""
    command = [lakes.binary(), "serve", "--data-dir", str(lake.data_dir), "--store", str(lake.store)]
    command += [part for flag in ("http", "otlp-grpc", "otlp-http", "xray") for part in (f"--{flag}", "127.0.0.1:0")]
    path = lake.folder / "tracelake.toml"
    path.write_text(lakes.toml(lake.config))
    done = subprocess.run([*command, "--config", str(path)], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 1 and done.stdout == "", done
    return done.stderr.splitlines()[-1]


def test_a_copy_does_not_start_beside_the_original_and_takes_its_place_when_it_is_silent(make_lake, tmp_path):
    store = tmp_path / "store"
    first = make_lake("first", config=CONFIG, store=store)
    send(first, "one")
    first.wait_flushed()
    copy = make_lake("copy", config=CONFIG, store=store, start=False)
    shutil.copytree(first.data_dir, copy.data_dir)
    said = refused(copy)
    assert "is running as node" in said and str(copy.data_dir) in said, said
    send(first, "two")
    first.wait_flushed()

    first.process.send_signal(signal.SIGSTOP)
    copy.start()
    send(copy, "three")
    copy.wait_flushed()
    first.process.send_signal(signal.SIGCONT)
    assert first.wait_for_end() == 1
    said = first.log_tail()
    assert "has begun to write as node" in said and str(first.data_dir / "wal") in said, said
    said = refused(first)
    assert "left behind" in said, said
    first.no_ledger("another process has taken its node's place, it does not start any more")
    assert sorted(hit["body"] for hit in copy.hits("one OR two OR three")) == ["one", "three", "two"]
    # its own restarts are like any
    started = time.monotonic()
    copy.restart(kill=True)
    copy.restart()
    assert time.monotonic() - started < 15
    assert len(copy.hits("one OR two OR three")) == 3


def test_a_torn_name_of_the_node_or_of_its_lives_is_told_and_taken_for_no_other(make_lake, tmp_path):
    lake = make_lake("torn", config=CONFIG, store=tmp_path / "store")
    send(lake, "one")
    lake.wait_flushed()
    lake.stop()
    for name, remedy in (("node_id", "_catalog/node/"), ("incarnation", "_catalog/node/")):
        path = lake.data_dir / name
        whole = path.read_text()
        assert whole.splitlines()[-1].startswith("crc32c "), whole
        other = "z" if whole[0] != "z" else "y"
        for torn in (other + whole[1:], whole[:-4], ""):
            path.write_text(torn)
            said = refused(lake)
            assert str(path) in said and remedy in said, (name, torn, said)
            assert path.read_text() == torn
        # files of before have no checksum
        path.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    lake.start()
    assert [hit["body"] for hit in lake.hits("one")] == ["one"]
