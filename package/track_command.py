"""`elysium track`: checks everything that is cheap to check, tracks, and writes what was asked for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .console import (
    INTERRUPTED,
    Box,
    check_boxes,
    check_output,
    check_words,
    frame_progress,
    load_tracker,
    open_info,
    say,
    summary,
)

if TYPE_CHECKING:
    from elysium.processing.structures import TrackingResult
    from elysium.tracking.answering import Decoding
    from elysium.tracking.tracker import Tracker

BOXES_SUFFIXES = (".json", ".csv", ".txt")


@dataclass(frozen=True)
class Outputs:
    """The files of one run; None where one is not wanted.

    Args:
        video: annotated video.
        boxes: JSON, CSV or MOTChallenge text.
        sheet: contact sheet.
    """

    video: Path | None
    boxes: Path | None
    sheet: Path | None

    @classmethod
    def choose(cls, source: Path, outputs: "Outputs", *, as_json: bool) -> "Outputs":
        """What was asked for; where nothing was, a video and a JSON file in the working directory."""
        if as_json or outputs != cls(None, None, None):
            return outputs
        name = source.resolve().stem
        return cls(Path(f"{name}.tracked.mp4"), Path(f"{name}.boxes.json"), None)

    def check(self, source: Path) -> None:
        """All of them can be written.

        Raises:
            typer.BadParameter: a wrong suffix, a folder, or the input itself.
            OutputError: a folder that cannot be written.
        """
        from elysium.processing.video_writer import SUFFIXES

        for path, suffixes, option in (
            (self.video, SUFFIXES, "--output"),
            (self.boxes, BOXES_SUFFIXES, "--boxes"),
            (self.sheet, (".png",), "--sheet"),
        ):
            if path is not None:
                check_output(path, suffixes, option=option, source=source)

    @property
    def after_interrupt(self) -> Path | None:
        """Where an interrupted run keeps its boxes: always JSON, the one format that says it is not complete."""
        path = self.boxes or self.video or self.sheet
        return None if path is None else path.with_suffix(".json")


def run_track(
    video: Path,
    texts: list[str],
    boxes: list[str],
    outputs: Outputs,
    *,
    model: str,
    device: str | None,
    zoom: float | None,
    reground: bool,
    decoding: "Decoding",
    as_json: bool,
) -> int:
    """The whole command; returns its exit code.

    Raises:
        typer.BadParameter: words, boxes or output names that cannot be used.
        VideoError: the video cannot be read.
        CheckpointError: the model cannot be loaded.
        OutputError: an output cannot be written.
    """
    info = open_info(video)
    prompts_px = check_boxes(boxes, info)
    words = check_words(texts, "--text")
    if not words and not prompts_px:
        raise typer.BadParameter(
            'there must be an object to track, got neither words nor a box; give --text "the red car" or '
            "--box x1,y1,x2,y2"
        )
    if words and prompts_px and len(words) != len(prompts_px):
        raise typer.BadParameter(
            f"words and boxes given together must be of the same objects, got {len(words)} and {len(prompts_px)}; "
            "give one --text for each --box, or track them in two runs"
        )
    if reground and not words:
        raise typer.BadParameter("--reground asks by words, got a box alone; give --text too, or leave --reground out")
    outputs = Outputs.choose(video, outputs, as_json=as_json)
    outputs.check(video)
    tracker = load_tracker(model, device, decoding)
    result, interrupted = _follow(tracker, video, words, prompts_px, info.num_frames, zoom=zoom, reground=reground)
    if interrupted:
        return _keep_finished(result, outputs, as_json=as_json)
    _write(result, video, outputs, as_json=as_json)
    return 0


def _follow(
    tracker: "Tracker",
    video: Path,
    words: list[str],
    boxes_xyxy_px: list[Box],
    num_frames: int | None,
    *,
    zoom: float | None,
    reground: bool,
) -> "tuple[TrackingResult, bool]":
    """Tracks to the end of the video or to Ctrl-C; what is finished, and whether it was interrupted."""
    interrupted = False
    boxes = boxes_xyxy_px or None
    with tracker.iter_track(video, words or None, box_xyxy_px=boxes, zoom=zoom, reground=reground) as run:
        try:
            with frame_progress("Tracking", num_frames) as progress:
                for _ in run:
                    progress(run.num_frames_finished)
        except KeyboardInterrupt:
            interrupted = True
        for warning in run.warnings:
            say(f"Warning: {warning}")
        return run.result(), interrupted


def _keep_finished(result: "TrackingResult", outputs: Outputs, *, as_json: bool) -> int:
    """Keeps the boxes of the finished windows after Ctrl-C."""
    num_frames = max(len(track) for track in result.tracks)
    if num_frames == 0:
        say("Interrupted before the first window was finished; nothing was written.")
        return INTERRUPTED
    path = outputs.after_interrupt
    if path is not None:
        result.save(path)
        say(f"Interrupted: the boxes of the first {num_frames} frames are in {path}, marked as not complete.")
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
    return INTERRUPTED


def _write(result: "TrackingResult", video: Path, outputs: Outputs, *, as_json: bool) -> None:
    """Writes the files, the boxes first, and says where they are."""
    written = []
    if outputs.boxes is not None:
        result.save(outputs.boxes)
        written.append(f"Boxes: {outputs.boxes}")
    if outputs.video is not None:
        from elysium.visualization.annotate import annotate_video

        longest = max(len(track) for track in result.tracks)
        with frame_progress("Drawing", longest) as progress:
            annotate_video(video, result, outputs.video, on_frame=progress)
        written.append(f"Video: {outputs.video}")
    if outputs.sheet is not None:
        from elysium.visualization.contact_sheet import contact_sheet

        contact_sheet(video, result, outputs.sheet)
        written.append(f"Sheet: {outputs.sheet}")
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
    else:
        print("\n".join([*summary(result), *written]))
