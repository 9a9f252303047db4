"""Find files that must not be published: texts with secrets, and pickles, whatever their names."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
_CHUNK_BYTES, _OVERLAP_BYTES, _ROWS = 1 << 20, 1 << 10, 64
_PICKLE_START = re.compile(rb"\x80[\x02-\x05][ -~\x80-\xff]")  # protocol 2 and later, and an opcode


def find_secret(path: Path) -> str | None:
    """Return the kind of secret in a file and its place, never the secret itself; None without one.

    Texts are searched, the texts in the columns of Parquet, and those in tar shards; other files are not looked into.

    Raises:
        DatasetError: a Parquet file or a tar shard is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _find_secret_in_parquet(path)
    if suffix == ".tar":
        return _find_secret_in_tar(path)
    if suffix not in TEXTS:
        return None
    with path.open("rb") as file:
        held, line = b"", 1
        while chunk := file.read(_CHUNK_BYTES):
            held += chunk
            if found := _ANY.search(held):
                line += held[: found.start()].count(b"\n")
                return f"{_kind(found)} in line {line}"
            line += held[:-_OVERLAP_BYTES].count(b"\n")
            held = held[-_OVERLAP_BYTES:]
    return None


def _kind(found: re.Match[bytes]) -> str:
    return list(SECRETS)[(found.lastindex or 1) - 1]


def _find_secret_in_parquet(path: Path) -> str | None:
    """Search the texts of all columns, at any depth."""
    for batch in parquet_batches(path, rows=_ROWS):
        for name, value in ((name, value) for row in batch for name, value in row.items()):
            if found := _ANY.search("\n".join(texts_in(value)).encode()):
                return f"{_kind(found)} in the column {name}"
    return None


def texts_in(value: Any) -> Iterator[str]:
    """Yield all strings of a row, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def _find_secret_in_tar(path: Path) -> str | None:
    with _whole(path), tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if Path(member.name).suffix.lower() in TEXTS else None
            if file is not None and (found := _ANY.search(file.read())):
                return f"{_kind(found)} in {member.name}"
    return None


def find_pickle(path: Path) -> str | None:
    """Return why a file counts as a pickle: by name, first bytes or members of an archive; None if it does not.

    Raises:
        DatasetError: an archive is damaged.
    """
    if path.suffix.lower() in PICKLES:
        return "is pickled"
    if path.suffix == ".safetensors":  # starts with a number, which may look like one
        return None
    with path.open("rb") as file:
        if _PICKLE_START.match(file.read(3)):
            return "is a pickle under another name"
    if path.suffix.lower() == ".tar":
        with _whole(path), tarfile.open(path) as archive:
            inside = next((member.name for member in archive if member.name.lower().endswith(PICKLES)), None)
    elif zipfile.is_zipfile(path):
        with _whole(path), zipfile.ZipFile(path) as archive_zip:
            inside = next((name for name in archive_zip.namelist() if name.lower().endswith(PICKLES)), None)
    else:
        return None
    return f"holds the pickle {inside}" if inside else None


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raise `DatasetError` where an archive cannot be read to its end."""
    # Damaged headers and streams raise more than the libraries' own errors.
    odd = (EOFError, LookupError, OSError, OverflowError, ValueError, NotImplementedError)
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, *odd) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"an archive must be readable to its end, got {path} ({reason}); write it anew") from error
