"""`elysium track`: check everything that is cheap to check, track, and write the outputs."""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.processing.atomic_files import fit_name, free_name, free_names
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import TrackingOptions

from .arguments import (
    RUNNING,
    DecodingOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    ProgressOption,
    VideoArgument,
)
from .console import (
    ProgressMode,
    check_boxes,
    check_output,
    check_words,
    frame_progress,
    load_tracker,
    open_info,
    print_json,
    said_warnings,
    say,
)
from .interruptions import signals_wait

if TYPE_CHECKING:
    from elysium.processing.structures import TrackingResult
    from elysium.processing.video_io import VideoInfo
    from elysium.tracking.run import TrackingRun

BOXES_SUFFIXES = (".json", ".csv", ".txt")


@dataclass(frozen=True)
class Outputs:
    """Output files of one run; None where one is not requested.

    Args:
        video: annotated video.
        boxes: JSON, CSV or MOTChallenge text.
        sheet: contact sheet.
    """

    video: Path | None
    boxes: Path | None
    sheet: Path | None

    def check(self, source: Path, info: "VideoInfo") -> None:
        """Make sure that all of them can be written, before the work.

        Raises:
            typer.BadParameter: a wrong suffix, a folder, the input itself, or a frame rate that no video has.
            OutputError: a folder that cannot be written.
        """
        from elysium.processing.video_writer import SUFFIXES, VideoFormat

        for path, suffixes, option in (
            (self.video, SUFFIXES, "--output"),
            (self.boxes, BOXES_SUFFIXES, "--boxes"),
            (self.sheet, (".png",), "--sheet"),
        ):
            if path is not None:
                check_output(path, suffixes, option=option, source=source)
        if self.video is not None:
            try:
                VideoFormat(info.width, info.height, info.fps)
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint="--output") from None

    def partial(self) -> Path | None:
        """Return the file for the model's answers of an unfinished run, which `--resume` reads."""
        path = self.boxes or self.video or self.sheet
        return None if path is None else fit_name(path.parent, path.name, ".partial")

    def unfinished_boxes(self) -> Path | None:
        """Return the file for the boxes of an unfinished run: always JSON, which says whether it is complete.

        It is the requested file, or else one beside it, which is removed when the run is finished.
        """
        path = self.boxes or self.video or self.sheet
        if path is None or (path == self.boxes and path.suffix.lower() == ".json"):
            return path
        return fit_name(path.parent, path.name, ".stopped.json")

    def of_stopped_run(self) -> list[Path]:
        """Return the files that a stopped run leaves and a finished one has not: of its answers, and of its boxes."""
        return [path for path in (self.partial(), self.unfinished_boxes()) if path is not None and path != self.boxes]


def track(
    video: VideoArgument,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text prompt of an object; repeat it for several objects.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="x1,y1,x2,y2", help="Box of an object in frame 0, in pixels; repeat it for several."),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    output: Annotated[Path | None, typer.Option(metavar="OUT.mp4", help="Annotated video to write.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(metavar="OUT.json|.csv|.txt", help="File of boxes to write; .txt is MOTChallenge.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Contact sheet to write.")] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Frame rate of a folder of images. Default: 10; files have their own.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    device: DeviceOption = None,
    decoding: DecodingOption = "fast",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume a stopped run with the same arguments, from the .partial file beside its output.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    progress: ProgressOption = "auto",
    as_json: JsonOption = False,
    *,
    options: TrackingOptions,
) -> int:
    """Track objects through a video from a text prompt, a first-frame box, or both.

    Without --output, --boxes, --sheet and --json it writes VIDEO.tracked.mp4 and VIDEO.boxes.json here, with a number
    where these exist already. A run that was stopped in any way is resumed by --resume.
    """
    info = open_info(video, fps)
    prompts_px = check_boxes(box or [], info)
    words = check_words(text or [], "--text")
    if not words and not prompts_px:
        raise typer.BadParameter(
            'there must be an object to track, got neither text nor box; give --text "the red car" or '
            "--box x1,y1,x2,y2"
        )
    if words and prompts_px and len(words) != len(prompts_px):
        raise typer.BadParameter(
            f"texts and boxes given together must be of the same objects, got {len(words)} and {len(prompts_px)}; "
            "give one --text for each --box, or track them in two runs"
        )
    if options.reground and not words:
        raise typer.BadParameter(
            "--reground must have a text prompt, got a box alone; give --text too, or leave --reground out"
        )
    if not (output or boxes or sheet or as_json):
        output, boxes = _default_outputs(video, resume=resume)
    outputs = Outputs(output, boxes, sheet)
    outputs.check(video, info)
    partial = outputs.partial()
    if partial is None and resume:
        raise typer.BadParameter(
            "--resume must have the file of a stopped run, got --json alone; name --boxes", param_hint="--resume"
        )
    tracker = load_tracker(model, device, decoding)
    run = tracker.iter_track(video, words or None, box_xyxy_px=prompts_px or None, fps=fps, options=options)
    if partial is not None:
        _keep_answers(run, outputs, partial, resume=resume)
    written: list[str] = []
    with _finished_work_is_kept(run, outputs, written, as_json=as_json):
        _track_to_the_end(run, info.num_frames, progress)
        _write(run.result(), video, outputs, written, progress)
    for path in outputs.of_stopped_run():
        path.unlink(missing_ok=True)
    if as_json:
        print_json(run.result().to_dict())
    else:
        print("\n".join([*(track.summary() for track in run.result().tracks), *written]))
    return 0


def _default_outputs(video: Path, *, resume: bool) -> list[Path]:
    """Return names for the annotated video and the boxes: free ones, or those of the run that is resumed."""
    stem, endings = video.resolve().stem, (".tracked.mp4", ".boxes.json")
    video_out, boxes = (fit_name(Path(), stem, ending) for ending in endings)
    partial = Outputs(video_out, boxes, None).partial()
    if resume and partial is not None and partial.exists():
        return [video_out, boxes]
    return free_names(Path(), stem, *endings)


def _keep_answers(run: "TrackingRun", outputs: Outputs, partial: Path, *, resume: bool) -> None:
    """Keep the run's answers in a file; what a stopped run left, and this one does not resume, is set aside.

    Raises:
        ValueError: the file is not of such a run.
        typer.BadParameter: the stopped run had other settings.
    """
    from elysium.tracking.answer_log import OtherSettingsError

    found = partial.exists()
    try:
        run.keep_answers(partial, resume=resume)
    except OtherSettingsError as error:
        remedy = "give the same, or leave out --resume"
        raise typer.BadParameter(f"{error.fault}; {remedy}", param_hint="--resume") from None
    if resume and found:
        return
    if resume:
        say(f"Note: no stopped run has left {partial}; tracking starts at the first frame.")
    for path in filter(Path.exists, outputs.of_stopped_run()):
        aside = path.rename(free_name(path))
        say(f"Note: {path} of a stopped run is now {aside}.")
        if path == partial:
            back = shlex.join(["mv", str(aside), str(path)])
            say(f"To resume that run in place of this one: {back}, then its command with --resume.")


def _track_to_the_end(run: "TrackingRun", num_frames: int | None, shown: ProgressMode) -> None:
    """Track, and say what was met while decoding."""
    with run, said_warnings():
        try:
            with frame_progress("Tracking", num_frames, shown=shown, unit="frames") as progress:
                for _ in run:
                    progress(run.num_frames_finished)
        finally:
            for warning in run.warnings:
                say(f"Warning: {warning}")


@contextmanager
def _finished_work_is_kept(
    run: "TrackingRun", outputs: Outputs, written: list[str], *, as_json: bool
) -> Iterator[None]:
    """Keep the boxes of the finished windows, whatever stops the block, and say where they are.

    Args:
        run: that the block iterates over.
        outputs: requested files.
        written: lines about the files that are written already; the boxes come first.
        as_json: print the boxes, too.
    """
    try:
        yield
    except BaseException as error:
        with signals_wait():
            cause = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Stopped by an error"
            for line in written:
                say(line)
            result = run.result()
            if outputs.boxes is None or not written:
                _keep_boxes(result, outputs, cause)
            if as_json and any(map(len, result.tracks)):
                with suppress(OSError):
                    print_json(result.to_dict())
        raise


def _keep_boxes(result: "TrackingResult", outputs: Outputs, cause: str) -> None:
    """Save the boxes of the finished windows; where their disk is full, in the system's temporary folder."""
    num_frames = max(len(track) for track in result.tracks)
    if num_frames == 0:
        say(f"{cause} before the first window was finished; nothing was written.")
        return
    path = outputs.unfinished_boxes()
    if path is None:
        return
    some, mark = ("all", "") if result.complete else ("the first", ", marked as not complete")
    for place in (path, free_name(Path(tempfile.gettempdir(), path.with_suffix(".json").name))):
        try:
            result.save(place)
        except OSError as failure:
            say(f"Warning: the boxes cannot be kept in {place.parent}: {failure}")
        else:
            say(f"{cause}: the boxes of {some} {num_frames} frames are in {place}{mark}.")
            partial = outputs.partial()
            if partial is not None and partial.exists():
                say("The same command with --resume resumes this run.")
            return


def _write(result: "TrackingResult", video: Path, outputs: Outputs, written: list[str], shown: ProgressMode) -> None:
    """Write the files, the boxes first; a line about each that is done goes into ``written``."""
    if outputs.boxes is not None:
        result.save(outputs.boxes)
        written.append(f"Boxes: {outputs.boxes}")
    if outputs.video is not None:
        from elysium.visualization.annotate import annotate_video

        longest = max(len(track) for track in result.tracks)
        with said_warnings(), frame_progress("Drawing", longest, shown=shown, unit="frames") as progress:
            annotate_video(video, result, outputs.video, on_frame=progress)
        written.append(f"Video: {outputs.video}")
    if outputs.sheet is not None:
        from elysium.visualization.contact_sheet import contact_sheet

        with said_warnings():
            contact_sheet(video, result, outputs.sheet)
        written.append(f"Sheet: {outputs.sheet}")
