"""Threads that prepare requests and generate answers, outside the event loop.

Two threads decode files and build model inputs, taking clients in turn; one thread runs the model on up to
`BATCH_SIZE` greedy requests at once. Sampled requests run alone, so that a seed gives the same answer under any load.
"""

import asyncio
import copy
import math
import queue
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2.exceptions import TemplateError
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from .fair_queue import FairQueue
from .media_sources import MediaSources
from .request_schema import MAX_FRAMES, ChatRequest, Message, RequestError, TextPart, VideoPart

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

BATCH_SIZE = 8
PREPARING_THREADS = 2
DEFAULT_MAX_TOKENS = 1024
# Errors of the readers and the chat template for an invalid file or conversation.
_CLIENT_ERRORS = (ValueError, OSError, TemplateError, EOFError, SyntaxError, IndexError, OverflowError)


@dataclass(frozen=True)
class Delta:
    """Event: a piece of the answer, to be streamed; the first, empty one says that the model starts."""

    text: str


@dataclass(frozen=True)
class Finished:
    """Event: the answer is complete, with its finish reason and numbers of tokens."""

    text: str
    reason: str
    prompt_tokens: int
    tokens: int


@dataclass(eq=False)
class Job:
    """Request in progress.

    Args:
        request: the validated request.
        client: the client, whose place in the queue is released when the job ends.
        loop: event loop of `events`.
        events: progress for the handler; a `Finished` or an exception is the last event.
        cancelled: set once the client has left.
        inputs: the model's inputs, once prepared.
    """

    request: ChatRequest
    client: str
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[Delta | Finished | Exception]" = field(default_factory=asyncio.Queue)
    cancelled: bool = False
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def send(self, event: Delta | Finished | Exception) -> None:
        """Send an event to the handler, from any thread."""
        with suppress(RuntimeError):  # the loop is closed, nobody waits for the event
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class _Answers(StoppingCriteria):
    """Answers of a batch while they are generated; stops the rows that are complete or cancelled."""

    def __init__(self, jobs: Sequence[Job], max_tokens: Sequence[int], tokenizer: Any, eos_ids: set[int]) -> None:
        self.answers = [_Answer(job, most, tokenizer, eos_ids) for job, most in zip(jobs, max_tokens, strict=True)]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        done = [answer.add(token) for answer, token in zip(self.answers, input_ids[:, -1].tolist(), strict=True)]
        return torch.tensor(done, device=input_ids.device)  # (B,)


class _Answer:
    """One answer while it is generated."""

    def __init__(self, job: Job, max_tokens: int, tokenizer: Any, eos_ids: set[int]) -> None:
        self.job, self.max_tokens = job, max_tokens
        self._prompt_tokens = int(job.inputs["input_ids"].shape[1])
        self._tokenizer, self._eos_ids = tokenizer, eos_ids
        self._tokens: list[int] = []
        self._num_sent = 0
        self._is_done = False

    def add(self, token: int) -> bool:
        """Append a token; return whether the answer is complete or cancelled."""
        if self._is_done or self.job.cancelled:
            return True
        self._tokens.append(token)
        stops, streams = self.job.request.stop, self.job.request.stream
        ended, full = token in self._eos_ids, len(self._tokens) >= self.max_tokens
        if not (ended or full or stops or streams):
            return False
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        cut = min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)
        self._is_done = ended or full or cut is not None
        # Hold back a possible beginning of a stop string, or part of a character.
        held = max((len(stop) - 1 for stop in stops), default=0)
        end = cut if self._is_done else max(0, len(text.rstrip("\ufffd")) - held)
        if streams and len(text[:end]) > self._num_sent:
            self.job.send(Delta(text[self._num_sent : end]))
            self._num_sent = len(text[:end])
        if self._is_done:
            reason = "stop" if cut is not None or ended else "length"
            self.job.send(Finished(text[:cut], reason, self._prompt_tokens, len(self._tokens)))
        return self._is_done


class GenerationWorker:
    """Answer requests with one model.

    Args:
        tracker: provides the model and the processor.
        sources: allowed sources of files.
        num_frames: default number of frames of each video; None uses the processor's default.
        waiting: maximum number of open requests; one client may have half of them.
    """

    def __init__(self, tracker: "Tracker", sources: MediaSources, *, num_frames: int | None, waiting: int) -> None:
        self.model, self.sources, self.num_frames = tracker.model, sources, num_frames
        self.queue: FairQueue[Job] = FairQueue(waiting, max(1, waiting // 2))
        # Tokenizers are not thread-safe, so each thread has its own.
        processors = [copy.deepcopy(tracker.processor) for _ in range(PREPARING_THREADS)]
        self._tokenizer = copy.deepcopy(tracker.processor.tokenizer)
        self._ready: queue.Queue[Job] = queue.Queue(maxsize=BATCH_SIZE)
        for processor in processors:
            threading.Thread(target=self._prepare_all, args=[processor], daemon=True).start()
        threading.Thread(target=self._answer_all, daemon=True).start()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self.queue.put(job.client, job)

    def close(self) -> None:
        """Stop accepting requests from the queue."""
        self.queue.close()

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """Release a job's resources, and send an error to its handler."""
        self.queue.release(job.client)
        job.inputs = {}
        if error is not None:
            job.send(error)

    # --- files and prompts ---
    def _prepare_all(self, processor: Any) -> None:
        while (job := self.queue.take()) is not None:
            if job.cancelled:
                self._end(job)
                continue
            try:
                job.inputs = self._prepare(job.request, processor)
            except Exception as error:
                self._end(job, error)
            else:
                self._ready.put(job)

    def _prepare(self, request: ChatRequest, processor: Any) -> dict[str, torch.Tensor]:
        """Return the model's inputs of one conversation (B = 1).

        Raises:
            RequestError: a file or the conversation cannot be used.
        """
        with tempfile.TemporaryDirectory(prefix="elysium-serve-") as folder:
            conversation: list[dict[str, Any]] = [
                {
                    "role": "system" if message.role == "developer" else message.role,
                    "content": self._content(message, request.chat_template_kwargs.fps, Path(folder)),
                }
                for message in request.messages
            ]
            sampling = request.chat_template_kwargs.model_dump(exclude_none=True)
            if not sampling and self.num_frames is not None:
                sampling = {"num_frames": self.num_frames}
            has_video = any(part["type"] == "video" for message in conversation for part in message["content"])
            kwargs = {"processor_kwargs": sampling | {"do_sample_frames": True}} if has_video and sampling else {}
            try:
                inputs = processor.apply_chat_template(
                    conversation,
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    **kwargs,
                )
            except _CLIENT_ERRORS as error:
                raise RequestError(str(error).replace(folder, "the request")) from error
        self._check_context(inputs["input_ids"].shape[1])
        return dict(inputs)

    def _content(self, message: Message, fps: float | None, folder: Path) -> list[dict[str, Any]]:
        """Return the parts of a message in the chat template's form, with local files in place of URLs."""
        parts: list[dict[str, Any]] = []
        for part in message.content:
            if isinstance(part, TextPart):
                parts.append({"type": "text", "text": part.text})
                continue
            kind, url = ("video", part.video_url.url) if isinstance(part, VideoPart) else ("image", part.image_url.url)
            path, info = self.sources.open(url, kind, Path(tempfile.mkdtemp(dir=folder)))
            if kind == "video" and fps and info.duration_s and math.ceil(info.duration_s * fps) > MAX_FRAMES:
                raise RequestError(
                    f"fps must give at most {MAX_FRAMES} frames, got {fps:g} for {info.duration_s:.1f} s; lower it"
                )
            parts.append({"type": kind, kind: str(path)})
        return parts

    def _room(self, prompt_tokens: int) -> int:
        return self.model.config.get_text_config().max_position_embeddings - prompt_tokens

    def _check_context(self, prompt_tokens: int) -> None:
        if (room := self._room(prompt_tokens)) < 1:
            raise RequestError(
                f"a prompt must have fewer than {room + prompt_tokens} tokens, got {prompt_tokens}; use fewer frames "
                "or a shorter text",
                code="context_length_exceeded",
            )

    # --- answers ---
    def _answer_all(self) -> None:
        held: Job | None = None
        while True:
            batch, held = self._next_batch(held or self._ready.get())
            failure: Exception | None = None
            try:
                self._answer([job for job in batch if not job.cancelled])
            except Exception as error:
                failure = error
            for job in batch:
                self._end(job, failure)

    def _next_batch(self, first: Job) -> tuple[list[Job], Job | None]:
        """Return jobs to run together, and one that was taken but cannot run with them."""
        batch = [first]
        while len(batch) < BATCH_SIZE and not self._samples(first.request):
            try:
                job = self._ready.get_nowait()
            except queue.Empty:
                break
            if self._samples(job.request):
                return batch, job
            batch.append(job)
        return batch, None

    def _samples(self, request: ChatRequest) -> bool:
        """Return whether a request is sampled rather than greedy."""
        if request.temperature is None:
            return bool(self.model.generation_config.do_sample) or request.top_p is not None
        return request.temperature >= 0.01

    def _answer(self, jobs: list[Job]) -> None:
        """Run the model on any number of greedy jobs, or on one that samples."""
        if not jobs:
            return
        config, request = copy.deepcopy(self.model.generation_config), jobs[0].request
        eos = config.eos_token_id
        rooms = [self._room(job.inputs["input_ids"].shape[1]) for job in jobs]
        default = max(config.max_new_tokens or 0, DEFAULT_MAX_TOKENS)
        wanted = [job.request.max_completion_tokens or job.request.max_tokens or default for job in jobs]
        max_tokens = [min(pair) for pair in zip(rooms, wanted, strict=True)]
        answers = _Answers(jobs, max_tokens, self._tokenizer, set(eos if isinstance(eos, list) else [eos]))
        for job in jobs:
            job.send(Delta(""))
        config.max_new_tokens = max(max_tokens)
        config.do_sample = self._samples(request)
        if config.do_sample and (request.temperature is not None or request.top_p is not None):
            config.top_k = 0
            config.temperature = 1.0 if request.temperature is None else request.temperature
            config.top_p = 1.0 if request.top_p is None else request.top_p
        self._generate(_collate([job.inputs for job in jobs], config.pad_token_id), config, answers, request.seed)

    def _generate(
        self, inputs: dict[str, torch.Tensor], config: GenerationConfig, answers: _Answers, seed: int | None
    ) -> None:
        device = self.model.device
        devices = [device] if device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):  # a seed affects only its own request
            if seed is None:
                torch.seed()
            else:
                torch.manual_seed(seed)
            self.model.generate(
                **{name: tensor.to(device) for name, tensor in inputs.items()},
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([answers]),
            )


def _collate(batch: Sequence[dict[str, torch.Tensor]], pad_id: int) -> dict[str, torch.Tensor]:
    """Concatenate inputs of single conversations: tokens (B, L) padded on the left, images and frames in order."""
    if len(batch) == 1:
        return batch[0]
    longest = max(inputs["input_ids"].shape[1] for inputs in batch)
    joined: dict[str, list[torch.Tensor]] = {}
    for inputs in batch:
        for name, tensor in inputs.items():
            if name in ("input_ids", "attention_mask"):
                fill = pad_id if name == "input_ids" else 0
                tensor = torch.nn.functional.pad(tensor, (longest - tensor.shape[1], 0), value=fill)
            joined.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in joined.items()}
