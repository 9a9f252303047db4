"""transformers' own shared tests on our classes, by `make test-transformers` only: their source is fetched first.

Every test that does not run must stand in skips.yaml with the reason. A session in which another test is skipped, or a
listed one is not, fails.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
import yaml

HERE = Path(__file__).parent
FETCHED = HERE.parent.parent / "build" / "transformers-tests" / transformers.__version__
WANTED = os.environ.get("ELYSIUM_SHARED_TESTS") == "1"

if WANTED:
    sys.path[:0] = [str(FETCHED), str(HERE / "stand_ins")]
else:
    collect_ignore_glob = ["test_*.py"]


def listed_skips() -> dict[str, str]:
    """Name of each test that may not run, as `Class::test`, and why."""
    groups = yaml.safe_load((HERE / "skips.yaml").read_text("utf-8"))
    return {
        f"{name}::{test}": group["reason"] for group in groups for name in group["classes"] for test in group["tests"]
    }


def pytest_configure(config: pytest.Config) -> None:
    flash = ("flash_attn_test", "flash_attn_3_test", "flash_attn_4_test")
    for mark in (*flash, "accelerate_tests", "slow", "torch_compile_test"):
        config.addinivalue_line("markers", f"{mark}: transformers' own")


def _name(nodeid: str) -> str:
    return "::".join(nodeid.split("::")[1:])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = listed_skips()
    for item in items:
        if _name(item.nodeid) in reasons:
            item.add_marker(pytest.mark.skip(reason=reasons[_name(item.nodeid)]))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Fails a whole run in which other tests were skipped than those that are listed."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not WANTED or hasattr(session.config, "workerinput") or session.config.option.keyword or reporter is None:
        return
    skipped = {_name(report.nodeid) for report in reporter.stats.get("skipped", [])}
    listed = set(listed_skips())
    for title, names in (("skipped and not listed", skipped - listed), ("listed and not skipped", listed - skipped)):
        for name in sorted(names):
            reporter.write_line(f"{title}: {name}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
