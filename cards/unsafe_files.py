"""Find files that must not be published: texts with secrets, and pickles, whatever their names."""

import mmap
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, parquet_batches

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
# Pickles that trainers leave beside a checkpoint: they stay, and are no reason to stop.
LEFTOVERS = ("training_args.bin", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth")
TEXTS = tuple(".py .json .jsonl .md .txt .yaml .yml .toml .csv .tsv .jinja .js .css .html".split())
SECRETS = {
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}\b",
    "an OpenAI or Anthropic key": rb"\bsk-(?:[A-Za-z0-9]{32,}|(?:proj|svcacct|ant)-[\w-]{20,})",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "an AWS key": rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google key": rb"\bAIza[\w-]{35}(?![\w-])",
    "a Slack token": rb"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an address with a password": rb"\b[a-z]{3,6}://[^\s/:@\"']+:[^\s/:@\"']+@[\w.-]+",
}
_ANY = re.compile(b"|".join(b"(" + pattern + b")" for pattern in SECRETS.values()))
_ROWS = 64  # of Parquet, read at once
_PICKLE_START = re.compile(rb"\x80[\x02-\x05][ -~\x80-\xff]")  # protocol 2 and later, and an opcode


def find_secret(path: Path) -> str | None:
    """Return the kind of secret in a file and its place, never the secret itself; None without one.

    Texts are searched, the texts in the columns of Parquet, and those in tar shards; other files are not looked into.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _find_secret_in_parquet(path)
    if suffix == ".tar":
        return _find_secret_in_tar(path)
    if suffix not in TEXTS:
        return None
    if not path.stat().st_size:  # nothing to map
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _ANY.search(content)
        if found is None:
            return None
        lines_before = content[: found.start()].count(b"\n")
        return f"{_kind(found)} in line {lines_before + 1}"


def _kind(found: re.Match[bytes]) -> str:
    return list(SECRETS)[(found.lastindex or 1) - 1]


def _secret_in(text: bytes) -> str | None:
    """Return the kind of secret in a text; None without one."""
    found = _ANY.search(text)
    return None if found is None else _kind(found)


def _find_secret_in_parquet(path: Path) -> str | None:
    """Search the texts of all columns, at any depth; a damaged file has no secret."""
    with suppress(DatasetError):
        for batch in parquet_batches(path, rows=_ROWS):
            for name, value in ((name, value) for row in batch for name, value in row.items()):
                if secret := _secret_in("\n".join(texts_in(value)).encode()):
                    return f"{secret} in the column {name}"
    return None


def texts_in(value: Any) -> Iterator[str]:
    """Yield all strings of a row, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def _find_secret_in_tar(path: Path) -> str | None:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if Path(member.name).suffix.lower() in TEXTS else None
            if file is not None and (secret := _secret_in(file.read())):
                return f"{secret} in {member.name}"
    return None


def is_leftover(name: str) -> bool:
    """Return whether a trainer left this file.

    >>> is_leftover("rng_state_0.pth"), is_leftover("pytorch_model.bin")
    (True, False)
    """
    return any(fnmatch(name, pattern) for pattern in LEFTOVERS)


def find_pickle(path: Path) -> str | None:
    """Return why a file counts as a pickle: by name, first bytes or members of an archive; None if it does not."""
    if path.suffix.lower() in PICKLES:
        return "is pickled"
    if path.suffix == ".safetensors":  # starts with a number, which may look like one
        return None
    with path.open("rb") as file:
        if _PICKLE_START.match(file.read(3)):
            return "is a pickle under another name"
    if path.suffix.lower() == ".tar":
        with tarfile.open(path) as archive:
            inside = next((member.name for member in archive if member.name.lower().endswith(PICKLES)), None)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive_zip:
            inside = next((name for name in archive_zip.namelist() if name.lower().endswith(PICKLES)), None)
    else:
        return None
    return f"holds the pickle {inside}" if inside else None
