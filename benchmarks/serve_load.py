"""`elysium serve` under load: how soon `/health` answers while many clients are busy and long videos are decoded.

    python -m benchmarks.serve_load --seconds 60 --clients 20
    python -m benchmarks.serve_load --seconds 60 --output benchmarks/results/serve_load.json

The server runs in a process of its own with the default model. Every client posts one request after another: a short
video by path, the same one as a `data:` URL, a text, and every tenth time a video of 60 s. `/health` is asked for
every 50 ms on a connection of its own; the wanted longest answer is 200 ms. The last line is JSON.
"""

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.bench import ROOT, hardware
from elysium.processing.atomic_files import atomic_path
from elysium.processing.video_io import VideoWriter

SHAPES = ROOT / "tests" / "fixtures" / "media" / "shapes.mp4"
PORT = 7998
HEALTH_EVERY_S = 0.05
LONG_VIDEO_S, LONG_FPS, LONG_SIZE = 60, 25, (1280, 720)


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """Serve the default model while the block runs, with a folder that requests may name."""
    command = [sys.executable, "-m", "elysium.cli", "serve", "--port", str(PORT), "--allow-path", str(folder)]
    address = f"http://127.0.0.1:{PORT}"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stderr=errors) as process,
    ):
        try:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"the server must start, got {log.read_text()[-500:]}")
                try:
                    httpx.get(f"{address}/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def write_long_video(path: Path) -> None:
    """Write 60 s of noise that moves, 1280x720 at 25 frames per second: nothing that a decoder is quick with."""
    width, height = LONG_SIZE
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    frame = noise.repeat(8, axis=0).repeat(8, axis=1)
    with VideoWriter(path, LONG_FPS, width, height) as writer:
        for number in range(LONG_VIDEO_S * LONG_FPS):
            writer.write(np.roll(frame, 4 * number, axis=1))


def contents(long_video: Path, short_video: Path) -> list[Any]:
    """Return the content of each kind of request."""
    data = "data:video/mp4;base64," + base64.b64encode(SHAPES.read_bytes()).decode()
    text = {"type": "text", "text": "Track the red cross in the video."}
    videos = [[{"type": "video_url", "video_url": {"url": url}}, text] for url in (str(short_video), data)]
    return [*videos, "What is it?", [{"type": "video_url", "video_url": {"url": str(long_video)}}, text]]


class Load:
    """Clients that ask, and one that only asks for `/health`."""

    def __init__(self, address: str, asked: list[Any]) -> None:
        self.address, self.asked = address, asked
        self.end = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.waits_s: list[float] = []
        self.health_s: list[float] = []
        self.kinds: Counter[int] = Counter()

    def ask(self, seed: int) -> None:
        """Post one request after another until the end."""
        chance = random.Random(seed)
        with httpx.Client(timeout=600) as client:
            while not self.end.is_set():
                kind = 3 if chance.random() < 0.1 else chance.randrange(3)
                message = {"role": "user", "content": self.asked[kind]}
                body = {"messages": [message], "temperature": 0, "max_tokens": 60}
                start_s = time.perf_counter()
                answer = client.post(f"{self.address}/v1/chat/completions", json=body)
                self.waits_s.append(time.perf_counter() - start_s)
                self.statuses[answer.status_code] += 1
                self.kinds[kind] += 1

    def watch(self) -> None:
        """Ask for `/health` until the end."""
        with httpx.Client(timeout=60) as client:
            while not self.end.wait(HEALTH_EVERY_S):
                start_s = time.perf_counter()
                client.get(f"{self.address}/health").raise_for_status()
                self.health_s.append(time.perf_counter() - start_s)

    def run(self, clients: int, seconds: float) -> None:
        """Run all of them for a while; requests that are under way are waited for."""
        threads = [threading.Thread(target=self.ask, args=[seed]) for seed in range(clients)]
        watcher = threading.Thread(target=self.watch)
        for thread in (*threads, watcher):
            thread.start()
        time.sleep(seconds)
        self.end.set()
        for thread in (*threads, watcher):
            thread.join()


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """Return the median, 99th percentile and maximum in milliseconds."""
    values = np.quantile(seconds, (0.5, 0.99, 1.0)) * 1000
    return {name: round(float(value), 1) for name, value in zip(("median", "p99", "max"), values, strict=True)}


def main() -> None:
    """Print the figures, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, metavar="OUT.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "media"
        folder.mkdir()
        long_video, short_video = folder / "long.mp4", folder / "short.mp4"
        write_long_video(long_video)
        short_video.write_bytes(SHAPES.read_bytes())
        with served(folder, Path(place) / "log") as address:
            idle, busy = (Load(address, contents(long_video, short_video)) for _ in range(2))
            idle.run(0, 5)
            busy.run(args.clients, args.seconds)
    record = {
        "benchmark": "serve_load",
        "hardware": hardware(),
        "clients": args.clients,
        "seconds": args.seconds,
        "health_idle_ms": percentiles_ms(idle.health_s),
        "health_busy_ms": percentiles_ms(busy.health_s),
        "health_asked": len(busy.health_s),
        "answer_ms": percentiles_ms(busy.waits_s),
        "statuses": dict(busy.statuses),
        "long_videos": busy.kinds[3],
    }
    if args.output is not None:
        with atomic_path(args.output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
