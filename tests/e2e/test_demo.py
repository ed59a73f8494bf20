"""The demo as a newcomer meets it: one command, then a browser finds lines, opens a trace and sees the alert fire."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from lake import binary  # noqa: E402

UI = pathlib.Path(__file__).resolve().parents[2] / "dashboards" / "ui"


@pytest.fixture
def demo(tmp_path):
    log = open(tmp_path / "demo.log", "w+")
    command = [binary(), "demo", "--free-ports", "--http", "127.0.0.1:0", "--incident-after", "10"]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)})
    url = None
    deadline = time.monotonic() + 30
    while url is None and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "demo.log").read_text()
        for line in (tmp_path / "demo.log").read_text().splitlines():
            if line.startswith('{"event":"ready"'):
                url = "http://" + json.loads(line)["http"]
        time.sleep(0.1)
    assert url, (tmp_path / "demo.log").read_text()
    yield url, tmp_path / "demo.log"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    log.close()


def firing(url):
    return [a for a in requests.get(f"{url}/api/v1/alerts", timeout=10).json()["alerts"] if a["state"] == "firing"]


def test_the_demo_shows_lines_a_trace_and_a_firing_alert(demo):
    url, log = demo
    deadline = time.monotonic() + 120
    # the notification is printed where the demo was started, soon after the alert fires
    while "[FIRING] payment-errors" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(1)
    assert "[FIRING] payment-errors" in log.read_text(), (firing(url), log.read_text())
    assert firing(url), log.read_text()
    env = {**os.environ, "BASE_URL": url, "CI": "true"}
    done = subprocess.run(["npx", "playwright", "test"], cwd=UI, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
