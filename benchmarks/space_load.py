"""The demo page under load: start, many visitors at once, one with 200 jobs, memory over time, hostile requests.

    python -m benchmarks.space_load --output benchmarks/results/space_load.json
    python -m benchmarks.space_load --only visitors

The page runs in a process of its own, with the default model and the limits of `spaces_demo`. Memory is that process's
resident memory. A page is there when its Track button can be pressed, in headless Chromium, asked for as soon as the
port answers: the model loads meanwhile. The last line is JSON.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file

from benchmarks.bench import ROOT, hardware
from benchmarks.space_hostile import folder_mb, measure_hostile
from elysium.processing.atomic_files import atomic_path
from elysium.processing.video_io import VideoWriter, read_video
from elysium.tracking.checkpoints import DEFAULT_MODEL

MEDIA = ROOT / "tests" / "fixtures" / "media"
SHAPES, BOX = MEDIA / "shapes.mp4", [249, 146, 335, 233]
PARTS = ("page", "frames", "visitors", "crowd", "memory", "hostile")


@dataclass(frozen=True)
class Served:
    """A page in a process of its own.

    Args:
        address: of the page.
        process: that serves it.
        folder: where it keeps visitors' files.
        up_s: seconds from its start to its first answer.
    """

    address: str
    process: "subprocess.Popen[str]"
    folder: Path
    up_s: float

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)


@contextmanager
def served(folder: Path, log: Path) -> Iterator[Served]:
    """Serves the page while the block runs."""
    command = [sys.executable, "-m", "elysium.cli", "demo", "--public", "--model", "elysium-tiny", "--port", "7999"]
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    start_s = time.perf_counter()
    with log.open("w") as errors, subprocess.Popen(command, env=environment, stderr=errors, text=True) as process:
        try:
            while (found := re.search(r"http://\S+", log.read_text())) is None:
                if process.poll() is not None:
                    raise RuntimeError(f"the page must start, got {log.read_text()[-500:]}")
                time.sleep(0.05)
            yield Served(found[0], process, folder, round(time.perf_counter() - start_s, 2))
        finally:
            process.terminate()  # a shell starts programs behind it deaf to SIGINT
            process.wait(timeout=60)


def measure_page(page: Served) -> dict[str, Any]:
    """How soon the page is there, first while the model loads, then again."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise RuntimeError("the page's time needs chromium, got none on the path; install it, or leave `page` out")
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(2):
            view = browser.new_page()
            start_s = time.perf_counter()
            view.goto(page.address)
            view.locator("#track").wait_for(state="visible")
            seconds.append(round(time.perf_counter() - start_s, 2))
            if len(seconds) == 1:
                view.locator(".state.ready").wait_for(timeout=120_000)
                ready_s = round(time.perf_counter() - start_s, 2)
            view.close()
        browser.close()
    return {"server_up_s": page.up_s, "page_s": seconds[0], "page_again_s": seconds[1], "model_ready_s": ready_s}


def new_client(page: Served) -> Client:
    """A visitor."""
    return Client(page.address, verbose=False, analytics_enabled=False)


def measure_frames(page: Served) -> dict[str, Any]:
    """When the first frames of a video come, beside the time that a window of 8 frames takes on the average."""
    client = new_client(page)
    firsts, windows, wholes = [], [], []
    for _ in range(3):
        job = client.submit(video=handle_file(str(SHAPES)), boxes=[BOX], api_name="/track")
        start_s, times_s = time.perf_counter(), []
        for update in job:
            if update[0].get("frames"):
                times_s.append(time.perf_counter() - start_s)
        wholes.append(time.perf_counter() - start_s)
        firsts.append(times_s[0])
        windows.append((times_s[-1] - times_s[0]) / (len(times_s) - 1))
    names = ("first_frames_s", "window_s", "whole_s")
    return {name: round(statistics.median(x), 2) for name, x in zip(names, (firsts, windows, wholes), strict=True)}


def measure_visitors(page: Served, video: Path, count: int) -> dict[str, Any]:
    """So many visitors at once: who is answered, who is told to wait, who is lost."""
    clients = [new_client(page) for _ in range(count)]
    together = threading.Barrier(count)

    def visit(client: Client) -> tuple[str, float]:
        together.wait()
        start_s = time.perf_counter()
        try:
            answer = client.predict(video=handle_file(str(video)), boxes=[BOX], api_name="/track")
        except Exception as error:
            return ("told" if "Queue is full" in str(error) else f"lost: {error}"), time.perf_counter() - start_s
        complete = json.loads(Path(answer[-1][0]).read_text())["complete"]
        return ("answered" if complete else "lost: not complete"), time.perf_counter() - start_s

    with ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(visit, clients))
    said = [outcome for outcome, _ in outcomes]
    waited_s = sorted(seconds for outcome, seconds in outcomes if outcome == "answered")
    return {
        "visitors": count,
        "answered": said.count("answered"),
        "told_to_wait": said.count("told"),
        "lost": [outcome for outcome in said if outcome.startswith("lost")],
        "shortest_s": round(waited_s[0], 1),
        "longest_s": round(waited_s[-1], 1),
    }


def measure_crowd(page: Served, video: Path, count: int) -> dict[str, Any]:
    """How long a visitor waits beside a client that submitted many jobs, once it has left and while it listens.

    A visitor who is told that the queue is full tries again after a second.
    """
    alone_s, _ = visit_until_answered(page, video)
    record: dict[str, Any] = {"jobs": count, "visitor_alone_s": alone_s}
    for name in ("left", "listening"):
        with submitting(page, count, listening=name == "listening") as accepted:
            waited_s, refused = visit_until_answered(page, video)
        record[name] = {"accepted_jobs": accepted, "visitor_waited_s": waited_s, "visitor_told_to_wait": refused}
        deadline_s = time.monotonic() + 600
        while time.monotonic() < deadline_s and visit_until_answered(page, video)[0] > 3 * alone_s:
            pass  # what is left of the jobs
    return record


def visit_until_answered(page: Served, video: Path) -> tuple[float, int]:
    """Return the seconds until a new visitor's track is complete, and how often they were told to come back."""
    client, refused, start_s = new_client(page), 0, time.perf_counter()
    while True:
        try:
            client.predict(video=handle_file(str(video)), boxes=[BOX], api_name="/track")
            return round(time.perf_counter() - start_s, 1), refused
        except Exception as error:
            if "queue" not in str(error).lower() and "busy" not in str(error).lower():
                raise
            refused += 1
            time.sleep(1)


@contextmanager
def submitting(page: Served, count: int, *, listening: bool) -> Iterator[int]:
    """Submit jobs in one session; listen for answers while the block runs, or leave. Give how many were taken."""
    session = f"crowd-{listening}"
    with httpx.Client(base_url=page.address, timeout=600) as http:
        sent = http.post("/gradio_api/upload", files={"files": ("shapes.mp4", SHAPES.read_bytes())}).json()[0]
        file = {"path": sent, "meta": {"_type": "gradio.FileData"}}
        named = http.get("/config").json()["dependencies"]
        number = next(entry["id"] for entry in named if entry["api_name"] == "track")
        body = {"data": [file, None, "", [BOX], DEFAULT_MODEL], "fn_index": number, "session_hash": session}
        accepted = sum(http.post("/gradio_api/queue/join", json=body).status_code == 200 for _ in range(count))
        if not listening:
            yield accepted
            return
        with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}):
            yield accepted


def measure_memory(page: Served, video: Path, count: int) -> dict[str, Any]:
    """Resident memory over many requests, each by a new visitor; the first tenth warms up."""
    given = {"video": handle_file(str(video))}
    asks: list[dict[str, Any]] = [
        given | {"boxes": [BOX], "api_name": "/track"},
        given | {"words": "the red cross", "api_name": "/ground"},
        given | {"boxes": [BOX], "api_name": "/describe"},
        given | {"question": "What is this?", "api_name": "/ask"},
    ]
    marks = []
    for number in range(count):
        new_client(page).predict(**asks[number % len(asks)])
        if (number + 1) % (count // 10) == 0:
            marks.append(page.memory_mb)
            print(f"  {number + 1:>4} requests {marks[-1]:>8.1f} MB", flush=True)
    return {
        "requests": count,
        "memory_mb": marks,
        "growth": round(marks[-1] / marks[0], 3),
        "growth_second_half": round(marks[-1] / marks[len(marks) // 2 - 1], 3),
        "kept_files_mb": folder_mb(page.folder),
    }


def short_clip(folder: Path) -> Path:
    """The first 8 frames of shapes.mp4."""
    path = folder / "short.mp4"
    found = read_video(SHAPES, max_frames=8)
    with VideoWriter(path, found.fps, found.width, found.height) as writer:
        for frame in found.frames:
            writer.write(frame)
    return path


def main() -> None:
    """Prints every part's figures, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="once for each part; all by default")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--output", type=Path, metavar="OUT.json")
    args = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "space_load", "hardware": hardware()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "visitors"
        folder.mkdir()
        video = short_clip(Path(place))
        with served(folder, Path(place) / "log") as page:
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "page": lambda: measure_page(page),
                "frames": lambda: measure_frames(page),
                "visitors": lambda: measure_visitors(page, video, args.visitors),
                "crowd": lambda: measure_crowd(page, video, args.jobs),
                "memory": lambda: measure_memory(page, video, args.requests),
                "hostile": lambda: measure_hostile(page.address, Path(place), video),
            }
            for name in args.only or PARTS:
                record[name] = parts[name]()
                print(f"{name}: {json.dumps(record[name], indent=2)}", flush=True)
        record["folders_left"] = len(list(folder.glob("elysium-demo-*")))
    if args.output is not None:
        with atomic_path(args.output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
