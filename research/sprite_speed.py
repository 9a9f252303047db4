"""How fast the world of sprites makes clips with exact boxes.

    python -m research.sprite_speed runs/sprites.npz --output research/results/sprite_speed.json

Clips of 8 frames at 224 x 224 (wanted: 2,000 a minute on two cores), by as many processes as are asked for. Processor
time is given beside that of the clock, because other work on the machine slows the clock alone. The last line is JSON.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from benchmarks.bench import hardware, write_record
from elysium.training.synthetic import SceneConfig, render_clip
from research.scenes.sprite_bank import SpriteBank
from research.scenes.sprite_world import SpriteWorld

CONFIG = SceneConfig(num_objects=(3, 6), side=(0.1, 0.5), share_leaving=0.3)


def make_clips(number: int, *, bank: Path, clips: int, frames: int, side: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor that one process takes for its clips."""
    cv2.setNumThreads(1)
    world = SpriteWorld(SpriteBank.load(bank), number)
    render_clip(world.sample(clips, CONFIG), frames, (side, side))
    clock, processor = time.perf_counter(), time.process_time()
    for seed in range(clips):
        render_clip(world.sample(seed, CONFIG), frames, (side, side))
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path, help=".npz of fetch_sprites")
    parser.add_argument("--clips", type=int, default=300, help="of each process")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON to write")
    options = parser.parse_args()
    work = partial(make_clips, bank=options.bank, clips=options.clips, frames=options.frames, side=options.side)
    with ProcessPoolExecutor(options.processes) as pool:
        times = list(pool.map(work, range(options.processes)))
    made = options.clips * options.processes
    figures = {
        "clips_per_min": round(60 * made / max(clock for clock, _ in times)),
        "clips_per_min_of_processor_time": round(60 * made / sum(processor for _, processor in times)),
        "processes": options.processes,
        "frames": options.frames,
        "side": options.side,
        "hardware": f"{hardware()}, {options.processes} processes of one thread",
    }
    print(
        f"{made} clips of {options.frames} frames at {options.side} px: {figures['clips_per_min']} a minute by the "
        f"clock, {figures['clips_per_min_of_processor_time']} a minute and core by processor time"
    )
    write_record(figures, options.output)


if __name__ == "__main__":
    main()
