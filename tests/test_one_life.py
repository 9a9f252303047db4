"""One life, in the order in which a user lives it: data made and published, a model trained on it from the Hub,
published, evaluated by its name there, and run by a Space that was published too. The Hub is a stand-in.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest
from gradio_client import Client, handle_file
from hub_stand_in import HubStandIn
from huggingface_hub import ModelCard, snapshot_download

from elysium import cli
from elysium.cards import render_card
from elysium.tracking.checkpoints import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
DATA, MODEL, SPACE = "user/tracks", "user/mine", "user/page"
CLIPS = ["--count", "3", "--frames", "4", "--size", "96x72", "--seed", "5"]
START_TIMEOUT_S = 180


def elysium(*arguments: str) -> None:
    """A command in this process."""
    assert cli.run(list(arguments)) == 0, arguments


def run(environment: dict[str, str], folder: Path, *command: str) -> None:
    """A command in a process of its own."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@contextmanager
def serving(space: Path, environment: dict[str, str]) -> Iterator[str]:
    """The Space's own app while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with (space / "app.log").open("w") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment | own, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while app.poll() is None and time.monotonic() < deadline_s:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        assert app.poll() is None, (space / "app.log").read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        app.terminate()
        app.wait(timeout=60)


@pytest.mark.slow
def test_from_made_up_clips_to_a_page_that_tracks(tmp_path, monkeypatch) -> None:
    with HubStandIn().running() as hub:
        hub.stand_in_here(monkeypatch)
        online = os.environ | hub.environment(tmp_path / "hf") | {"OMP_NUM_THREADS": "1"}

        # Data: made, described, published.
        tracks, rows = tmp_path / "tracks", tmp_path / "rows"
        elysium("synth", str(tracks), "--as", "trl", "--embed", *CLIPS)
        render_card.main(
            ["dataset", str(tracks), "--license", "apache-2.0", "--made-by", "elysium synth", "--repo-id", DATA]
        )
        elysium("publish", str(tracks), DATA)
        elysium("synth", str(rows), *CLIPS)

        # A model: trained from the Hub by TRL's own command, described, published.
        mine = tmp_path / "mine"
        command = ["sft", "--model_name_or_path", str(SHIPPED / "elysium-tiny"), "--trust_remote_code"]
        command += ["--dataset_name", DATA, "--dataset_streaming", "True", "--max_length", "4096"]
        command += ["--assistant_only_loss", "--bf16", "False", "--max_steps", "2", "--save_strategy", "no"]
        command += ["--per_device_train_batch_size", "4", "--report_to", "none", "--output_dir", str(mine)]
        run(online, tmp_path, str(Path(sys.executable).with_name("trl")), *command)
        assert any("train.parquet bytes=" in asked for asked in hub.asked)  # streamed
        render_card.main(["model", str(mine), "--license", "apache-2.0", "--repo-id", MODEL])
        elysium("publish", str(mine), MODEL)
        assert "training_args.bin" not in hub.repositories["model", MODEL].files

        # Its figures: measured by its name on the Hub, then on its card there.
        evaluate = ["evaluate", "elysium-track-sot", "--data", str(rows), "--model", MODEL, "--limit", "2"]
        run(online, tmp_path, sys.executable, "-m", "elysium.cli", *evaluate, "--output", str(tmp_path / "report"))
        arguments = ["--report", str(tmp_path / "report"), "--repo-id", MODEL]
        render_card.main(["model", str(mine), *arguments])
        elysium("publish", str(mine), MODEL)
        card = ModelCard(hub.repositories["model", MODEL].files["README.md"].decode())
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert measured["success_auc"] == round(report["trackers"]["mine"]["success_auc"], 4)
        assert hub.repositories["model", MODEL].commits[-1] == ["README.md"]  # nothing else was sent again

        # A page: published with the package, fetched as its builder does, and asked.
        space = copytree(ROOT / "spaces_demo", tmp_path / "space")
        render_card.main(["space", str(space), "--model", MODEL])
        elysium("publish", str(space), SPACE)
        fetched = tmp_path / "fetched"
        snapshot_download(SPACE, repo_type="space", local_dir=fetched)
        (wheel,) = [line for line in (fetched / "requirements.txt").read_text().splitlines() if ".whl" in line]
        options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--target", str(tmp_path / "site")]
        run(online, tmp_path, sys.executable, "-m", "pip", "install", *options, wheel)
        variables = hub.repositories["space", SPACE].variables
        with serving(fetched, online | variables | {"PYTHONPATH": str(tmp_path / "site")}) as address:
            client = Client(address, verbose=False, download_files=str(tmp_path / "downloads"))
            video = handle_file(str(rows / "videos" / "000000.mp4"))
            answer = client.predict(video, None, "the red circle", None, MODEL, api_name="/track")
        boxes = json.loads(Path(next(file for file in answer[-1] if file.endswith(".json"))).read_text())
        assert boxes["model"] == MODEL and boxes["complete"] and len(boxes["tracks"][0]["frames"]) == 4
