"""Write checkpoints that are complete or absent, also if a full disk or a signal ends the run while it saves."""

import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from elysium.processing.atomic_files import OutputError
from elysium.processing.data_files import DatasetError, read_json

_STATE = "trainer_state.json"
_STAGING = ".saving.part"  # hidden folder in which everything is written first


class WholeCheckpoints(Trainer):
    """`Trainer` that writes checkpoints and the final model into a hidden folder and then renames them.

    Put it before another trainer: ``class MyTrainer(WholeCheckpoints, SFTTrainer)``.
    """

    _staging: Path | None = None  # replaces the run's folder while a checkpoint is written

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does; True resumes from the newest whole checkpoint.

        Raises:
            ValueError: the checkpoint that was asked for is not whole, or there is none.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_whole_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"a run must have a whole checkpoint to resume, got none in {self.args.output_dir}")
        elif resume_from_checkpoint:
            fault = checkpoint_fault(Path(resume_from_checkpoint))
            if fault:
                raise ValueError(
                    f"a checkpoint to resume must be whole, got {resume_from_checkpoint} with {fault}; the newest "
                    f"whole one is {last_whole_checkpoint(Path(resume_from_checkpoint).parent)}"
                )
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as `Trainer._save_checkpoint` does, in the hidden folder until the checkpoint is complete.

        Raises:
            OutputError: it cannot be written.
        """
        run, name = Path(super()._get_output_dir(trial)), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with self._staged(run) as staging:
            super()._save_checkpoint(model, trial)
            if self.state.best_model_checkpoint == str(staging / name):
                self.state.best_model_checkpoint = str(run / name)
                if self.args.should_save:
                    self.state.save_to_json(str(staging / name / _STATE))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(run), self.args.save_total_limit, best_model_checkpoint=best, use_mtime=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer.save_model` does; the files replace older ones once all are written.

        Raises:
            OutputError: it cannot be written.
        """
        if _internal_call:
            super().save_model(output_dir, _internal_call=True)
            return
        with self._staged(Path(output_dir or self.args.output_dir)) as staging:
            super().save_model(str(staging), _internal_call=True)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    @contextmanager
    def _staged(self, folder: Path) -> Iterator[Path]:
        """Yield a hidden folder whose content moves into ``folder`` at the end; an exception removes it."""
        staging = folder / _STAGING
        renames = self.is_local_process_zero()  # one process of each node, since nodes may have disks of their own
        if renames:
            shutil.rmtree(staging, ignore_errors=True)  # of an earlier process that was killed
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            yield staging
            self.accelerator.wait_for_everyone()
            if renames and staging.is_dir():
                for path in sorted(staging.iterdir()):
                    if (folder / path.name).is_dir():
                        os.replace(folder / path.name, staging / f"{path.name}.older")
                    os.replace(path, folder / path.name)
            self.accelerator.wait_for_everyone()
        except Exception as error:
            raise _explained(error, folder) from error
        finally:
            self._staging = None
            if renames:
                shutil.rmtree(staging, ignore_errors=True)


def last_whole_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest checkpoint of a run that is whole, or None; warn of newer ones that are not."""
    found = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[1].isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        fault = checkpoint_fault(path)
        if fault is None:
            return str(path)
        warnings.warn(f"{path} is not whole ({fault}) and is passed over; remove it", stacklevel=2)
    return None


def checkpoint_fault(folder: Path) -> str | None:
    """Return what of a checkpoint is missing or cut short, or None where it is whole."""
    try:
        state = read_json(folder / _STATE, allow_nan=True)  # written last
    except DatasetError:
        return f"no {_STATE} that can be read"
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return f"no step in {_STATE}"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt"):  # compares the size of the file with what its head says
                    continue
            except (SafetensorError, OSError):
                return f"{path.name} cut short"
        elif path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
            return f"{path.name} cut short"
    return None


def _explained(error: Exception, folder: Path) -> Exception:
    """Return the error itself, or one with a remedy where a disk cannot be written."""
    torch_writes = any(name in str(error) for name in ("PytorchStreamWriter", "inline_container"))
    writing = isinstance(error, OSError | SafetensorError) or torch_writes
    if not writing or isinstance(error, OutputError):
        return error
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return OutputError(
        f"a checkpoint must be written whole, got {reason} in {folder}; nothing of it was kept: free space on the "
        "disk, and start again with the same command to resume from the checkpoint before"
    )
