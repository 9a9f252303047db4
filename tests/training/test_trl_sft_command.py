"""`trl sft`, as it is typed, trains the shipped checkpoint where this package cannot be imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_stand_in import HubStandIn
from peft import PeftModel
from safetensors.torch import load_file

from elysium.processing.structures import VideoClip
from elysium.tracking.checkpoints import SHIPPED
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.tracker import Tracker
from elysium.training.synthetic.dataset import ClipShape
from elysium.training.synthetic.trl_dataset import write_trl_dataset

pytestmark = pytest.mark.slow
CHECKPOINT = SHIPPED / "elysium-tiny"
BLOCK = 'raise ModuleNotFoundError("the checkpoint must bring its own code")\n'


@pytest.fixture(scope="module")
def tracks(small_worlds, tmp_path_factory) -> Path:
    """A data set with its videos in the rows."""
    out = tmp_path_factory.mktemp("data") / "tracks"
    write_trl_dataset(out, count=4, seed=3, shape=ClipShape(num_frames=3, width=96, height=72), embed=True)
    return out


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """Environment of a process that cannot import this package, has no network and nothing in its caches."""
    (tmp_path / "blocked/elysium").mkdir(parents=True)
    (tmp_path / "blocked/elysium/__init__.py").write_text(BLOCK)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"PYTHONPATH": str(tmp_path / "blocked"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    return kept | own | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def trl_sft(data: str | Path, out: Path, surroundings: dict[str, str], *options: str) -> None:
    """Two steps of training."""
    place: dict = {"env": surroundings, "cwd": out.parent, "capture_output": True, "text": True, "timeout": 400}
    assert "must bring its own code" in subprocess.run([sys.executable, "-c", "import elysium"], **place).stderr
    command = [str(Path(sys.executable).with_name("trl")), "sft", "--model_name_or_path", str(CHECKPOINT)]
    command += ["--trust_remote_code", "--dataset_name", str(data), "--max_length", "4096", "--assistant_only_loss"]
    command += ["--bf16", "False", "--max_steps", "2", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"]
    command += ["--save_strategy", "no", "--report_to", "none", "--output_dir", str(out), *options]
    done = subprocess.run(command, **place)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Training completed" in done.stdout


def follows(model, processor) -> bool:
    """Whether a model answers for every frame of a video in two windows, by words and from a box."""
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    tracker, video = Tracker(model, processor), VideoClip.from_frames(frames, fps=10.0)
    results = [tracker.track(video, "the red circle"), tracker.track(video, box_xyxy_px=(8, 8, 40, 30))]
    return all("unreadable" not in result.tracks[0].reasons for result in results)


def changed(model: torch.nn.Module) -> set[str]:
    """Which parts of a model have other weights than the shipped one."""
    before = load_file(CHECKPOINT / "model.safetensors")
    return {
        name.split(".")[1]
        for name, value in model.state_dict().items()
        if name in before and not torch.equal(value, before[name])
    }


def test_a_whole_model_trained_on_pictures_and_videos_is_a_checkpoint_that_tracks(
    tracks: Path, surroundings: dict[str, str], tmp_path: Path
) -> None:
    trl_sft(tracks, tmp_path / "out", surroundings)
    model, processor = load_checkpoint(tmp_path / "out")
    assert changed(model) >= {"vision_tower", "selector", "multi_modal_projector", "language_model"}
    assert follows(model, processor)
    assert model.config.trained_on == "derived from elysium-tiny"  # what it learned from since, nobody said
    assert (tmp_path / "out/modeling_elysium.py").is_file()  # and carries its code on


def test_an_adapter_trained_on_a_stream_from_the_hub_loads_on_the_base_and_tracks(
    tracks: Path, surroundings: dict[str, str], tmp_path: Path
) -> None:
    with HubStandIn("user/tracks", tracks).running() as hub:
        online = surroundings | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}
        adapter = ["--dataset_streaming", "True", "--use_peft", "--lora_target_modules", "all-linear"]
        trl_sft("user/tracks", tmp_path / "out", online, *adapter)
    assert any(asked.startswith("GET") and "train.parquet bytes=" in asked for asked in hub.asked)
    written = {file.suffix for file in (tmp_path / "hf").rglob("*") if file.is_file()}
    assert not written & {".parquet", ".arrow"}  # read as it went, never stored
    base, processor = load_checkpoint(CHECKPOINT)
    model = PeftModel.from_pretrained(base, tmp_path / "out").merge_and_unload().eval()
    assert changed(model) == {"vision_tower", "selector", "multi_modal_projector", "language_model"}
    assert follows(model, processor)
