"""Runs of a video through the model, many videos at once, and batches of which one item may fail without a loss."""

import dataclasses
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np

from elysium.processing.structures import TrackingResult
from elysium.processing.video_io import Frame

from .answer_log import AnswerLog
from .answering import Answerer
from .checkpoints import weights_fingerprint
from .refinement import Crop
from .session import FrameResult, TrackingSession
from .streams import FrameStream, bytes_of
from .windows import WindowRequest

Requested = tuple[TrackingSession, WindowRequest]
Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")

_NAMED = 5


@dataclass(frozen=True)
class WindowResult:
    """Hold one finished window of one object.

    Args:
        track_id: id of the object.
        window_idx: 0-based number of the window among the object's.
        task: "sot" where the window was prompted by a box, "rsot" where by text. Here and below: of the last pass.
        frame_indices: the frames that the model saw, in its order.
        answer: the model's answer, verbatim.
        frames: the frames that the window finished, in order.
        crops: crop of each frame that the model saw, None where it saw the whole frame.
    """

    track_id: int
    window_idx: int
    task: Literal["sot", "rsot"]
    frame_indices: tuple[int, ...]
    answer: str
    frames: tuple[FrameResult, ...]
    crops: tuple[Crop | None, ...]


class TrackingRun:
    """Track while it is iterated over: yield a `WindowResult` whenever a window of an object is finished.

    `result` gives what is finished at any time, also after an exception of any kind: a run that fails or is
    interrupted keeps its finished windows. Where the video cannot be read further, the frames before are finished
    first, and then the error is raised. Images are dropped after their window: memory does not grow with the length of
    the video.

        run = tracker.iter_track("video.mp4", text="the red car")
        try:
            for window in run:
                print(window.frames[-1])
        finally:
            run.result().save("boxes.json")  # "complete": false where it failed or was interrupted

    Args:
        answerer: the model.
        stream: the video.
        sessions: one for each object.
        model: name of the model, for the result.
        windows_ahead: windows whose frames are read before they are requested, so that the model reads several windows
            in one pass. It changes no result.

    Attributes:
        failure: the error of reading the video; the iteration raises it after the last finished window.
    """

    def __init__(
        self,
        answerer: Answerer,
        stream: FrameStream,
        sessions: list[TrackingSession],
        *,
        model: str,
        windows_ahead: int = 0,
    ) -> None:
        self.stream, self.sessions, self.model = stream, sessions, model
        self.windows_ahead = windows_ahead
        self._answerer = answerer
        self._answers: Answerer | AnswerLog = answerer
        self._frames = iter(stream)
        self._read_ahead: deque[Frame] = deque()
        self._exhausted = False
        self.failure: Exception | None = None
        self._stopped = False
        self._results: deque[WindowResult] = deque()

    def __iter__(self) -> Iterator[WindowResult]:
        return self

    def __next__(self) -> WindowResult:
        while not self._results and not self._stopped:
            # Until this step has gone well: a decoder that was interrupted must not be read again.
            self._stopped = True
            requested = self.pull()
            self._results.extend(answer_all(self._answers, requested, upcoming=self._upcoming(requested)))
            self._stopped = not requested
        if not self._results and self.failure is not None:
            raise self.failure
        if not self._results:
            raise StopIteration
        return self._results.popleft()

    def __enter__(self) -> "TrackingRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the video; the finished frames stay."""
        self._stopped = True
        self.stream.close()

    @property
    def complete(self) -> bool:
        """Return whether every frame of the video is finished for every object."""
        return self._exhausted and self.failure is None and all(session.num_waiting == 0 for session in self.sessions)

    @property
    def num_frames_finished(self) -> int:
        """Return the number of frames that are finished for all objects."""
        return min(session.num_finished for session in self.sessions)

    @property
    def num_frames_total(self) -> int | None:
        """Return the number of frames that the video declares, None where it does not."""
        return self.stream.num_frames

    @property
    def warnings(self) -> list[str]:
        """Return the warnings of decoding, such as a truncated file."""
        return self.stream.warnings

    def result(self) -> TrackingResult:
        """Return the tracks finished so far."""
        return TrackingResult(
            video=self.stream.name,
            fps=self.stream.fps,
            width=self.stream.width,
            height=self.stream.height,
            model=self.model,
            complete=self.complete,
            tracks=[session.track() for session in self.sessions],
        )

    def keep_answers(self, path: str | Path, *, resume: bool = False) -> int:
        """Keep the model's answers in a file as they come, so that the run can be resumed should it be stopped.

        A resumed run reads the video from its start and takes the file's answers, but for the last few, in place of
        the model's. On the same machine its boxes are those of a run that was never stopped; scores may differ by
        rounding. The file stays when the run is over.

        Args:
            path: the file; it is made with the first answer.
            resume: use the answers that it has; else it is written anew.

        Returns:
            The number of calls of the model that the file answers.

        Raises:
            ValueError: the file holds something else.
            OtherSettingsError: it has answers of another video, model, prompt or option.
        """
        self._answers = log = AnswerLog(self._answerer, Path(path), self._settings(), resume=resume)
        return log.num_replayed

    def _settings(self) -> dict[str, Any]:
        """Return what the model's answers depend on."""
        stream, model = self.stream, self._answerer.model
        first = self.sessions[0]
        texts = [session.text for session in self.sessions if session.text is not None]
        boxes = [session.init_box_xyxy_px for session in self.sessions if session.init_box_xyxy_px is not None]
        digits = [[np.format_float_positional(value, trim="-") for value in box] for box in boxes]
        return {
            "version": version("elysium-vlm"),
            "video": stream.name,
            "frame size": f"{stream.width}x{stream.height}",
            "fps": stream.fps,
            "number of frames": stream.num_frames,
            "bytes of the video": bytes_of(stream.name),
            "model": self.model,
            "weights": weights_fingerprint(self.model),
            "decoding": self._answerer.decoding,
            "batch size": self._answerer.batch_size,
            "device": str(model.device),
            "dtype": str(model.dtype),
            "text": " and ".join(json.dumps(text, ensure_ascii=False) for text in texts) or None,
            "box": " and ".join(map(",".join, digits)) or None,
            "absent objects": first.allow_absent,
            **dataclasses.asdict(first.options),
            "windows_ahead": self.windows_ahead,
        }

    def pull(self) -> list[Requested]:
        """Read frames until windows can be requested, and return those windows; none when all is finished.

        It waits until every object has a window, so that the model answers them in one batch; but not so long that an
        object whose windows fall at other frames holds more than two windows of frames.
        """
        while not self._exhausted:
            requested = self._requests(final=False)
            crowded = any(session.num_waiting >= 2 * session.options.window_frames for session in self.sessions)
            if len(requested) == len(self.sessions) or crowded:
                return requested
            self._exhausted = not self._feed_next()
        return self._requests(final=True)

    def _feed_next(self) -> bool:
        """Hand the next frame to every session; False where there is none, or none that can be used."""
        frame = self._read_ahead.popleft() if self._read_ahead else self._next_frame()
        if frame is None:
            return False
        try:
            for session in self.sessions:
                session.take(frame)
        except ValueError as error:  # an image of another size, which all sessions refuse
            self.failure = error
            return False
        return True

    def _next_frame(self) -> Frame | None:
        """Read a frame; None at the end, and where reading fails."""
        if self.failure is not None:
            return None
        try:
            return next(self._frames, None)
        except Exception as error:
            self.failure = error
            return None

    def _upcoming(self, requested: list[Requested]) -> list[tuple[Frame, ...]]:
        """Return the frames of the windows that come next, should every object stay visible."""
        if not self.windows_ahead or not requested:
            return []
        longest = max(session.options.window_frames - 1 for session, _ in requested)
        while len(self._read_ahead) < self.windows_ahead * longest and (frame := self._next_frame()) is not None:
            self._read_ahead.append(frame)
        windows = (session.expected_windows(self._read_ahead)[: self.windows_ahead] for session, _ in requested)
        return list(dict.fromkeys(itertools.chain.from_iterable(windows)))

    def _requests(self, *, final: bool) -> list[Requested]:
        requests = ((session, session.next_window(final=final)) for session in self.sessions)
        return [(session, request) for session, request in requests if request is not None]


def answer_all(
    answerer: Answerer | AnswerLog, requested: list[Requested], *, upcoming: Sequence[Sequence[Frame]] = ()
) -> list[WindowResult]:
    """Answer windows of any sessions at once, and hand the answers to the sessions.

    A window of several passes is finished, and in the list, when its last answer is there.

    Args:
        answerer: the model.
        requested: sessions with their windows.
        upcoming: frames of windows that probably come next, which the model may read at the same time.
    """
    finished = []
    ahead = {"upcoming": upcoming} if upcoming else {}
    replies = answerer.answer_windows([request for _, request in requested], **ahead)
    for (session, request), (answer, parsed, scores) in zip(requested, replies, strict=True):
        window_idx = session.num_windows
        frames = tuple(session.accept(parsed, scores))
        if frames:
            seen, crops = request.frame_indices, request.crops
            finished.append(WindowResult(session.track_id, window_idx, request.task, seen, answer.text, frames, crops))
    return finished


def finish_together(
    answerer: Answerer,
    openers: Iterable[Callable[[], TrackingRun]],
    *,
    at_once: int,
    finished: Callable[[int, TrackingResult], object] | None = None,
) -> list[TrackingResult]:
    """Finish many runs, so many at once that their windows fill the model's batches; results in the runs' order.

    Args:
        answerer: the model.
        openers: each opens a run; called when there is room, so that not all videos are open at once.
        at_once: most runs that are open.
        finished: called with the number of a run (from 0) and its result when it has come to its end.

    Raises:
        BatchError: some videos could not be opened or read to their end; all others are finished.
        BaseException: what the model or an interrupt raises; its `finished` is a list of the results so far.
    """
    waiting = enumerate(openers)
    opened: dict[int, TrackingRun] = {}
    results: dict[int, TrackingResult] = {}
    errors: dict[int, Exception] = {}
    try:
        while True:
            while len(opened) < at_once and (more := next(waiting, None)) is not None:
                try:
                    opened[more[0]] = more[1]()
                except Exception as error:
                    errors[more[0]] = error
            if not opened:
                break
            requested = {number: run.pull() for number, run in opened.items()}
            answer_all(answerer, [window for windows in requested.values() for window in windows])
            for number in [number for number, windows in requested.items() if not windows]:
                run = opened.pop(number)
                results[number] = run.result()
                run.close()
                if run.failure is not None:
                    errors[number] = run.failure
                elif finished is not None:
                    finished(number, results[number])
    except BaseException as error:
        results |= {number: run.result() for number, run in opened.items()}
        keep_finished(error, [results.get(number) for number in range(max(results, default=-1) + 1)])
        raise
    finally:
        for run in opened.values():
            run.close()
    return results_in_order(results, errors)


def in_batches(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    answer: Callable[[list[Prepared]], Sequence[Result]],
    *,
    batch_size: int,
) -> list[Result]:
    """Answer items batch by batch; an item that cannot be prepared is left out until the others are answered.

    Args:
        items: taken one by one, so that the images of one batch are held.
        prepare: from an item to its request, such as by opening a file.
        answer: from a batch of it to as many results.
        batch_size: most items in a batch.

    Raises:
        BatchError: some items could not be prepared.
        BaseException: what ``answer`` or an interrupt raises; its `finished` is a list of the results so far.
    """
    results: dict[int, Result] = {}
    errors: dict[int, Exception] = {}
    numbered = enumerate(items)
    try:
        while taken := list(itertools.islice(numbered, batch_size)):
            prepared: dict[int, Prepared] = {}
            for number, item in taken:
                try:
                    prepared[number] = prepare(item)
                except Exception as error:
                    errors[number] = error
            if prepared:
                results.update(zip(prepared, answer(list(prepared.values())), strict=True))
    except BaseException as error:
        keep_finished(error, [results.get(number) for number in range(max(results, default=-1) + 1)])
        raise
    return results_in_order(results, errors)


class BatchError(ValueError):
    """Some items of a batch failed; all others are finished.

    Attributes:
        finished: the result of each item in their order; of one that failed None, or what was finished of it.
        errors: by the number of the item (from 0) what it failed with.
    """

    def __init__(self, finished: Sequence[Any], errors: Mapping[int, Exception]) -> None:
        self.finished, self.errors = list(finished), dict(errors)
        named = [f"item {number}: {error}" for number, error in itertools.islice(sorted(self.errors.items()), _NAMED)]
        more = [] if len(self.errors) <= _NAMED else [f"and {len(self.errors) - _NAMED} more"]
        super().__init__(
            f"every item must be usable, got {len(self.errors)} of {len(self.finished)} that failed ("
            f"{'; '.join(named + more)}); the others are finished, in `finished` of this error"
        )


def keep_finished(error: BaseException, finished: Any) -> None:
    """Let an error carry what was finished before it, as ``error.finished``."""
    error.finished = finished  # type: ignore[attr-defined]
    error.add_note("What was finished before is in `finished` of this error.")


def results_in_order(results: Mapping[int, Any], errors: Mapping[int, Exception]) -> list[Any]:
    """Return the results of all items, once every item has a result or an error.

    Raises:
        BatchError: some items failed. The error of an only item is raised as it is.
    """
    finished = [results.get(number) for number in range(max([*results, *errors, -1]) + 1)]
    if errors and len(finished) == 1:
        raise errors[0]
    if errors:
        raise BatchError(finished, errors)
    return finished
