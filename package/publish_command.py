"""What `elysium publish` does: lists what would go to the Hub, and sends it."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .console import require, say, stderr

if TYPE_CHECKING:
    from elysium.cards.publish import Kind, PublishPlan


def run_publish(
    folder: Path, repo_id: str, *, kind: "Kind | None", private: bool, dry_run: bool, as_json: bool
) -> None:
    """Checks a folder, shows the plan, and uploads it unless that is all that was asked.

    Raises:
        PublishError: the folder is not as it must be, or the Hub does not take it.
        SpaceError: a Space's wheel cannot be built.
    """
    # Not `quiet_transformers`: an upload shows the bars of the Hub's client.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from elysium.cards.publish import check_repo_id, kind_of, plan_publish, publish

    check_repo_id(repo_id)
    kind = kind or kind_of(folder)
    if kind == "dataset":
        require("pyarrow", extra="train")
    with tempfile.TemporaryDirectory() as temporary:
        ready = folder
        if kind == "space":
            ready = _ready_space(folder, repo_id, Path(temporary) / folder.resolve().name, private=private)
        plan = plan_publish(ready, repo_id, kind=kind)
        _show(plan, folder, dry_run=dry_run, as_json=as_json)
        if not dry_run:
            say(f"Published: {publish(plan, private=private or None)}")


def _ready_space(source: Path, repo_id: str, out: Path, *, private: bool) -> Path:
    """The Space with the wheel that it needs."""
    from huggingface_hub import HfApi

    from elysium.cards.publish import PublishError, folder_problems
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
    """The plan for people or programs, and what is better mended before it goes."""
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
