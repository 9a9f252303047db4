"""`elysium demo`, and the Space's own file."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from elysium import cli

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(("by", "end"), [("command", signal.SIGINT), ("file", signal.SIGTERM)])
def test_the_page_is_served_until_it_is_stopped_and_leaves_nothing(by, end, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = {
        "command": ["-m", "elysium.cli", "demo", "--port", str(port)],
        "file": [str(ROOT / "spaces_demo" / "app.py")],
    }[by]
    environment = os.environ | {"TMPDIR": str(tmp_path), "GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    served = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # deaf to it where tests run behind a shell
    )
    try:
        said = served.stdout.readline()
        assert f"http://127.0.0.1:{port}" in said
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30).read().decode()
        assert '"title":"Elysium"' in page
        assert len(list(tmp_path.glob("elysium-demo-*"))) == 1
    finally:
        served.send_signal(end)
        served.communicate(timeout=60)
    assert not list(tmp_path.glob("elysium-demo-*"))


def test_a_port_that_is_taken_is_said(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["demo", "--port", str(port)]) == 2
    assert f"must be free on this machine, got 127.0.0.1:{port}; choose others" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "public"), [([], False), (["--public"], True)], ids=["own machine", "public"])
def test_only_a_public_page_has_limits(flags, public, monkeypatch):
    given = []

    @contextmanager
    def served(models, *, limits, **options):
        given.append(limits.public)
        yield "http://127.0.0.1"

    monkeypatch.setattr("elysium.spaces_demo.server.serve_demo", served)
    monkeypatch.setattr("elysium.spaces_demo.server.wait_for_interrupt", lambda: None)
    assert cli.run(["demo", *flags]) == 0
    assert given == [public]


def test_without_gradio_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr("elysium.console.importlib.util.find_spec", lambda name: None)
    assert cli.run(["demo"]) == 1
    assert re.search(r"this command needs gradio, .*; pip install .*\[demo\]", capsys.readouterr().err)
