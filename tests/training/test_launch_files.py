"""The launch files, held against the libraries that read them, and run as far as a machine without GPUs can."""

import importlib.util
import inspect
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from huggingface_hub import JobHardware, run_job
from sharded_steps import deepspeed_config

from research.scale_7b.full_size import build_on_meta
from research.scale_7b.memory import ParameterCounts, state_bytes

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ROOT / "training" / "launch"
CONFIGS = sorted(LAUNCH.glob("*.yaml"))
FILES = sorted(file for file in LAUNCH.iterdir() if file.is_file())
WORKER = ROOT / "tests" / "sharded_steps.py"
DEEPSPEED = ("deepspeed_zero2.yaml", "deepspeed_zero3.yaml")
# Of `man sbatch` (Slurm 24.11), those that a training job may want.
SBATCH_OPTIONS = set(
    "account array chdir constraint cpus-per-gpu cpus-per-task dependency error exclude exclusive export gpus "
    "gpus-per-node gpus-per-task gres hint job-name mail-type mail-user mem mem-per-cpu mem-per-gpu nodelist nodes "
    "no-requeue ntasks ntasks-per-node open-mode output partition qos requeue reservation signal switches time "
    "time-min wait-all-nodes".split()
)
# Of DeepSpeed's "Configuration JSON" page, those that accelerate and transformers write.
DEEPSPEED_KEYS = set(
    "train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping steps_per_print "
    "zero_optimization.stage zero_optimization.offload_optimizer.device zero_optimization.offload_optimizer.nvme_path "
    "zero_optimization.offload_param.device zero_optimization.offload_param.nvme_path "
    "zero_optimization.stage3_gather_16bit_weights_on_model_save bf16.enabled fp16.enabled".split()
)


# --- what the tests share ---
def commands(file: Path) -> list[list[str]]:
    """The commands in the comment at a file's head: indented, and going on behind a backslash."""
    head = "\n".join(line for line in file.read_text("utf-8").split("\n\n")[0].splitlines() if line.startswith("#"))
    joined = re.sub(r"\\\n#\s*", "", head)
    return [shlex.split(line[4:], comments=True) for line in joined.splitlines() if line.startswith("#   ")]


def parsed(command: list[str]) -> tuple[Any, Any]:
    """The arguments and the configuration that `accelerate launch` makes of a command."""
    start = next(place for place, word in enumerate(command) if word.endswith("launch")) + 1
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command[start:]))
    return arguments, defaults


def check_trainer(arguments: Any) -> None:
    """Module, recipe and options of a launch are there."""
    from elysium.training.sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments

    assert arguments.module and importlib.util.find_spec(arguments.training_script)
    options = arguments.training_script_args
    assert options[0] == "--config"
    assert (ROOT / options[1]).is_file() or Path(options[1]).is_file(), options[1]
    kinds = (ModelArguments, DataArguments, ElysiumSFTConfig)
    known = {name for kind in kinds for name in kind.__dataclass_fields__}
    assert {option[2:] for option in options[2:] if option.startswith("--")} <= known


def settings(name: str) -> dict[str, str]:
    """What `accelerate launch` puts into the environment of every process for a configuration."""
    command = ["launch", "--config_file", str(LAUNCH / name), "-m", "elysium.training.sft"]
    with patch_environment(clear=True, PATH=os.environ["PATH"]):
        arguments, defaults = parsed(command)
        if name not in DEEPSPEED:
            return prepare_multi_gpu_env(arguments)
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return prepare_deepspeed_cmd_env(arguments)[1]


def executable(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# --- every file ---
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_headed_by_its_command_and_says_whether_it_was_run(file: Path) -> None:
    assert any(file.name in " ".join(command) for command in commands(file))
    assert ("ot run" in file.read_text("utf-8").split("#   ")[0]) == (file.name != "cpu.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_paths_that_a_file_names_exist(file: Path) -> None:
    named = re.findall(r"(?<![\w./$])(?:training|docs|tests)/[\w./]+\.\w+", file.read_text("utf-8"))
    assert named and not [path for path in named if not (ROOT / path).is_file()]


# --- accelerate ---
@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_accelerate_knows_every_key(file: Path) -> None:
    config = load_config_from_file(str(file))  # raises at an unknown key of the first level
    launch_options = {action.dest for action in launch_command_parser()._actions}
    for section in (config.fsdp_config, config.deepspeed_config):
        assert set(section) <= launch_options


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_commands_of_a_configuration_start_the_trainer_with_a_recipe(file: Path) -> None:
    for command in commands(file):
        assert command[:2] == ["accelerate", "launch"]
        arguments, _ = parsed(command)
        assert Path(arguments.config_file) == file.relative_to(ROOT)
        check_trainer(arguments)
        kind = file.name.split("_")[0].removesuffix(".yaml")
        assert arguments.use_fsdp == (kind == "fsdp2")
        assert arguments.use_deepspeed == (kind == "deepspeed")
        assert arguments.mixed_precision == ("no" if kind == "cpu" else "bf16")
        assert arguments.num_processes == {"one": 8 if arguments.multi_gpu else 1, "cpu": 2}.get(kind, 8)


@pytest.mark.slow
def test_two_cpu_processes_are_joined_by_gloo(tmp_path: Path) -> None:
    script = tmp_path / "join.py"
    script.write_text(
        "import os\n"
        "from accelerate import PartialState\n"
        "state = PartialState(cpu=True)\n"
        "line = f'{state.process_index} {state.num_processes} {state.backend} {state.device.type}\\n'\n"
        # In one write, so that the lines of two processes do not mix.
        "os.write(1, line.encode())\n"
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / "cpu.yaml")]
    done = subprocess.run([*launch, "--main_process_port", "0", str(script)], capture_output=True, text=True)
    assert sorted(done.stdout.splitlines()) == ["0 2 gloo cpu", "1 2 gloo cpu"], done.stderr


# --- FSDP2 ---
def test_fsdp2_makes_a_unit_of_every_layer_of_the_7b_model() -> None:
    model = build_on_meta()
    with patch_environment(**settings("fsdp2.yaml")):
        plugin = FullyShardedDataParallelPlugin()
    plugin.set_auto_wrap_policy(model)  # raises where a class that is named is not in the model
    is_unit = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert is_unit is not None and sum(map(is_unit, model.modules())) == 32 + 23
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward and not plugin.activation_checkpointing


def test_recipes_of_fsdp2_switch_gradient_checkpointing_on_themselves() -> None:
    recipes = [path for path in (ROOT / "training" / "recipes").glob("*.yaml") if "fsdp2.yaml" in path.read_text()]
    assert len(recipes) >= 4
    assert all(yaml.safe_load(path.read_text("utf-8"))["activation_checkpointing"] for path in recipes)


def in_two_processes(folder: Path, name: str) -> dict[str, Any]:
    """What two processes report that took steps with a configuration's settings."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(WORKER)]
    environment = os.environ | settings(name) | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([*command, str(report)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(report.read_text("utf-8"))


def check_steps(report: dict[str, Any], strategy: str) -> None:
    """The loss falls from that of the whole model, and a process keeps the bytes that the formula gives."""
    first, *_, last = report["losses"]
    assert first == pytest.approx(report["whole_model_loss"], rel=0.01)
    assert last < 0.95 * first
    counts = ParameterCounts(learning=report["parameters"], frozen=0, layer=0, kept_whole=0)
    expected = state_bytes(strategy, counts, gpus=2)
    for kind, size in report["bytes"].items():
        assert size == pytest.approx(expected[kind], rel=0.01), kind


@pytest.mark.slow
def test_two_processes_learn_under_fsdp2_and_keep_half_of_everything(tmp_path: Path) -> None:
    report = in_two_processes(tmp_path, "fsdp2.yaml")
    assert set(report["bytes"]) == {"weights", "gradients", "optimizer"}
    check_steps(report, "fsdp2")


# --- DeepSpeed ---
def flat(config: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return found


@pytest.mark.parametrize("name", DEEPSPEED)
def test_deepspeed_gets_the_recipes_values_and_no_key_that_it_does_not_know(name: str) -> None:
    with patch_environment(**settings(name)):
        found = flat(deepspeed_config(samples=2, accumulation=4, clipping=0.5))
    assert set(found) <= DEEPSPEED_KEYS
    assert "auto" not in found.values()
    assert found["zero_optimization.stage"] == int(name[-6]) and found["bf16.enabled"]
    assert found["train_batch_size"] == 8 and found["gradient_clipping"] == 0.5
    assert found["zero_optimization.stage3_gather_16bit_weights_on_model_save"] == ("zero3" in name)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("name", DEEPSPEED)
def test_two_processes_learn_under_deepspeed_and_keep_what_the_formula_says(name: str, tmp_path: Path) -> None:
    report = in_two_processes(tmp_path, name)
    assert set(report["bytes"]) >= {"weights", "optimizer"}
    check_steps(report, name.removeprefix("deepspeed_").removesuffix(".yaml"))


# --- Slurm ---
SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
}


def slurm_machine(folder: Path, srun: str) -> dict[str, str]:
    """An environment with stand-ins for Slurm's commands and for Python, which writes its arguments down."""
    stand_ins = folder / "bin"
    stand_ins.mkdir()
    executable(stand_ins / "srun", f"#!/usr/bin/env bash\n{srun}\n")
    show = 'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; else echo "$@" >> requeued; fi'
    executable(stand_ins / "scontrol", f"#!/usr/bin/env bash\n{show}\n")
    executable(stand_ins / "python", '#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "arguments.$SLURM_NODEID"\n')
    path = f"{stand_ins}{os.pathsep}{os.environ['PATH']}"
    return SLURM | {"PATH": path, "PYTHON": str(stand_ins / "python")}


def test_sbatch_knows_every_option() -> None:
    text = (LAUNCH / "slurm.sbatch").read_text("utf-8")
    lines = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    options = [re.fullmatch(r"--([a-z-]+)(?:=\S+)?", line) for line in lines]
    assert len(options) >= 8 and all(options)
    assert {option[1] for option in options if option} <= SBATCH_OPTIONS
    assert text.index("set -euo") > text.rindex("#SBATCH")  # sbatch reads none behind the first command


def test_every_machine_of_a_slurm_job_launches_its_part(tmp_path: Path) -> None:
    srun = 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done'
    script, recipe = LAUNCH / "slurm.sbatch", ROOT / "training" / "recipes" / "stage1b_pretrain.yaml"
    environment = slurm_machine(tmp_path, srun) | {"LAUNCH": str(LAUNCH / "fsdp2.yaml")}
    command = ["bash", str(script), str(recipe), "--save_steps", "100"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for rank in (0, 1):
        arguments, _ = parsed((tmp_path / f"arguments.{rank}").read_text("utf-8").splitlines())
        check_trainer(arguments)
        assert (arguments.num_machines, arguments.num_processes, arguments.machine_rank) == (2, 16, rank)
        assert (arguments.main_process_ip, arguments.main_process_port) == ("node1", 23456)
        assert arguments.training_script_args == ["--config", str(recipe), "--save_steps", "100"]


def test_a_slurm_job_whose_time_is_up_is_queued_again(tmp_path: Path) -> None:
    environment = slurm_machine(tmp_path, "touch started; exec sleep 3")
    command = ["bash", str(LAUNCH / "slurm.sbatch"), "recipe.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as job:
        deadline_s = time.monotonic() + 30
        while not (tmp_path / "started").exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=30) == 0
    assert (tmp_path / "requeued").read_text("utf-8") == "requeue 123456\n"


@pytest.mark.parametrize("name", ["slurm.sbatch", "hf_jobs.sh"])
def test_a_script_without_arguments_says_what_to_give(name: str) -> None:
    subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)
    done = subprocess.run(["bash", str(LAUNCH / name)], capture_output=True, text=True)
    assert done.returncode != 0 and "give a" in done.stderr


# --- Hugging Face Jobs ---
HF_JOB = ["bash", str(LAUNCH / "hf_jobs.sh"), "someone/runs", "someone/data", "stage2a_instruct"]


def test_hf_jobs_takes_the_job(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*HF_JOB, "--namespace", "someone", "--dry-run", "--format", "human"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "HF_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    for shown in (
        "h200x8",
        "24h",
        "hf://buckets/someone/runs:/runs",
        "hf://datasets/someone/data:/data",
        "not submitted",
    ):
        assert shown in done.stdout


def test_a_job_at_hugging_face_starts_the_trainer_on_all_of_its_gpus(tmp_path: Path) -> None:
    executable(tmp_path / "hf", '#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(HF_JOB, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path})
    *options, image, shell, flag, inside = done.stdout.split("\0")[:-1]
    assert options[:2] == ["jobs", "run"] and (image, shell, flag) == ("python:3.12", "bash", "-c")
    given = dict(zip(options[2::2], options[3::2], strict=True))
    fields = {"volumes" if name == "--volume" else name.removeprefix("--") for name in given}
    assert fields <= set(inspect.signature(run_job).parameters)
    assert given["--env"] == "RECIPE=stage2a_instruct"
    subprocess.run(["bash", "-n", "-c", inside], check=True)
    launched = inside[inside.index("accelerate launch") :].replace("$files", str(ROOT / "training"))
    arguments, _ = parsed(shlex.split(launched.replace("$RECIPE", "stage2a_instruct").replace("\\\n", "")))
    check_trainer(arguments)
    assert JobHardware(given["--flavor"]).value.endswith(f"x{arguments.num_processes}")
