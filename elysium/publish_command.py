"""What `elysium publish` does: lists what would go to the Hub, and sends it."""

import json
from dataclasses import asdict
from pathlib import Path

from .console import quiet_transformers, say, stderr


def run_publish(folder: Path, repo_id: str, *, private: bool, dry_run: bool, as_json: bool) -> None:
    """Checks a folder, shows the plan, and uploads it unless that is all that was asked."""
    quiet_transformers()
    from elysium.cards.publish import plan_publish, publish

    plan = plan_publish(folder, repo_id)
    total = sum(plan.files.values())
    if as_json:
        print(json.dumps(asdict(plan) | {"folder": str(plan.folder), "total_bytes": total, "dry_run": dry_run}))
    else:
        for name, size in plan.files.items():
            print(f"{size:>15,}  {name}")
        print(f"{total:>15,}  bytes in {len(plan.files)} files {'would go' if dry_run else 'go'} to {repo_id}")
        for name, reason in plan.left_out.items():
            print(f"left out: {name} ({reason})")
    if plan.license is None:
        say("Note: README.md names no license; add `license: …` to the lines at its head, so that others may use it.")
    if not dry_run:
        with stderr.status(f"Uploading to {repo_id}"):
            address = publish(plan, private=private or None)
        say(f"Published: {address}")
