"""`elysium publish`: list what would be uploaded to the Hub, and upload it."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .arguments import JsonOption
from .console import require, say, stderr

if TYPE_CHECKING:
    from elysium.cards.publish import PublishPlan


def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Checkpoint, dataset or Space.")],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    kind: Annotated[
        Literal["model", "dataset", "space"] | None,
        typer.Option("--type", help="Type of the repository. Default: what the folder holds."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private, visible only to you.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files that would be uploaded; offline.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate a folder and upload it to the Hub. Resumable.

    A dataset needs the extra `train`.
    """
    # Not `quiet_transformers`: an upload shows the bars of the Hub's client.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from elysium.cards import publish as hub

    hub.check_repo_id(repo_id)
    kind = kind or hub.kind_of(folder)
    if kind == "dataset":
        require("pyarrow", extra="train")
    with tempfile.TemporaryDirectory() as temporary:
        ready = folder
        if kind == "space":
            ready = _ready_space(folder, repo_id, Path(temporary) / folder.resolve().name, private=private)
        plan = hub.plan_publish(ready, repo_id, kind=kind)
        _show(plan, folder, dry_run=dry_run, as_json=as_json)
        if not dry_run:
            say(f"Published: {hub.publish(plan, private=private or None)}")


def _ready_space(source: Path, repo_id: str, out: Path, *, private: bool) -> Path:
    """Return the folder of a Space with the wheel that it needs."""
    from huggingface_hub import HfApi

    from elysium.cards.folder_files import PublishError
    from elysium.cards.publish import folder_problems
    from elysium.cards.space_folder import SpaceError, ships_wheel, stage_space

    problems = folder_problems(source, "space")
    if problems:
        raise PublishError(f"a published Space must be complete, got {source} with " + "; ".join(problems))
    if private and ships_wheel(source):
        raise SpaceError(
            f"a Space that brings its own wheel must be public, got --private for {repo_id}: its builder fetches the "
            "wheel without your token; leave --private out, or name a wheel at another address in requirements.txt"
        )
    with stderr.status("Building the wheel"):
        return stage_space(source, out, address=f"{HfApi().endpoint}/spaces/{repo_id}/resolve/main")


def _show(plan: "PublishPlan", folder: Path, *, dry_run: bool, as_json: bool) -> None:
    """Print the plan for people or programs, and notes on what to fix before the upload."""
    from elysium.cards.publish import PLACEHOLDER

    total = sum(plan.files.values())
    if as_json:
        print(json.dumps(asdict(plan) | {"folder": str(folder), "total_bytes": total, "dry_run": dry_run}))
    else:
        for name, size in plan.files.items():
            print(f"{size:>15,}  {name}")
        going = "would go" if dry_run else "go"
        print(f"{total:>15,}  bytes in {len(plan.files)} files {going} to {plan.kind} {plan.repo_id}")
        for name, reason in plan.left_out.items():
            print(f"left out: {name} ({reason})")
    if plan.license is None:
        say("Note: README.md names no license; add `license: …` to the lines at its head, so that others may use it.")
    if PLACEHOLDER in (plan.folder / "README.md").read_text("utf-8"):
        say(f"Note: README.md says {PLACEHOLDER}; write {plan.repo_id} there, so that its code runs as it stands.")
