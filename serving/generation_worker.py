"""Threads that prepare requests and generate answers, outside the event loop.

Two threads decode files and build model inputs, taking clients in turn; one thread runs the model on up to
`BATCH_SIZE` greedy requests at once. Sampled requests run alone, so that a seed gives the same answer under any load.
"""

import asyncio
import copy
import logging
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

from .fair_queue import FairQueue, Ticket
from .media_sources import MediaError, MediaSources
from .request_schema import MAX_FRAMES, ChatRequest, ImagePart, TextPart, VideoPart

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)

BATCH_SIZE = 8
PREPARING_THREADS = 2
DEFAULT_MAX_TOKENS = 1024
# Errors of the readers and the chat template for an invalid file or conversation.
_CLIENT_ERRORS = (ValueError, OSError, TemplateError, EOFError, SyntaxError, IndexError, OverflowError)


class RequestError(ValueError):
    """A request is invalid; the message is for the client.

    Args:
        message: rule, value and remedy.
        code: OpenAI's error code, None if there is none.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Started:
    """Event: the model starts on a request."""

    prompt_tokens: int


@dataclass(frozen=True)
class Delta:
    """Event: a piece of a streamed answer."""

    index: int
    text: str


@dataclass(frozen=True)
class Finished:
    """Event: a choice is complete, with its text, finish reason and number of tokens."""

    index: int
    text: str
    reason: str
    tokens: int


Event = Started | Delta | Finished | Exception


@dataclass(eq=False)
class Job:
    """Request in progress.

    Args:
        request: the validated request.
        ticket: released when the job ends.
        loop: event loop of `events`.
        events: progress for the handler; an exception is the last event.
        cancelled: set once the client has left.
        inputs: the model's inputs, once prepared.
    """

    request: ChatRequest
    ticket: Ticket
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)
    cancelled: bool = False
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def send(self, event: Event) -> None:
        """Send an event to the handler, from any thread."""
        with suppress(RuntimeError):  # the loop is closed, nobody waits for the event
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    @property
    def prompt_tokens(self) -> int:
        """Number of prompt tokens L."""
        return int(self.inputs["input_ids"].shape[1])


class _Choice:
    """One choice while it is generated."""

    def __init__(self, job: Job, indices: Sequence[int], tokenizer: Any, eos_ids: set[int], max_tokens: int) -> None:
        self.job, self.indices, self.max_tokens = job, indices, max_tokens
        self._tokenizer, self._eos_ids = tokenizer, eos_ids
        self._tokens: list[int] = []
        self._sent = 0
        self._stops = job.request.stop_strings
        self.is_done = False

    def add(self, token: int) -> bool:
        """Append a token; return whether the answer is complete or cancelled."""
        if self.is_done or self.job.cancelled:
            return True
        self._tokens.append(token)
        ended = token in self._eos_ids
        full = len(self._tokens) >= self.max_tokens
        if not (ended or full or self._stops or self.job.request.stream):
            return False
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        cut = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if cut is not None or ended or full:
            self._finish(text[:cut], "stop" if cut is not None or ended else "length")
        elif self.job.request.stream:
            # Hold back a possible beginning of a stop string, or part of a character.
            held = max((len(stop) - 1 for stop in self._stops), default=0)
            self._stream(text[: max(0, len(text.rstrip("\ufffd")) - held)])
        return self.is_done

    def _stream(self, text: str) -> None:
        if len(text) > self._sent:
            for index in self.indices:
                self.job.send(Delta(index, text[self._sent :]))
            self._sent = len(text)

    def _finish(self, text: str, reason: str) -> None:
        self.is_done = True
        if self.job.request.stream:
            self._stream(text)
        for index in self.indices:
            self.job.send(Finished(index, text, reason, len(self._tokens)))


class _Watch(StoppingCriteria):
    """Pass each new token to its choice, and stop rows that are complete or cancelled."""

    def __init__(self, choices: Sequence[_Choice]) -> None:
        self.choices = choices

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        done = [choice.add(token) for choice, token in zip(self.choices, input_ids[:, -1].tolist(), strict=True)]
        return torch.tensor(done, device=input_ids.device)  # (B,)


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
        self._processors = [copy.deepcopy(tracker.processor) for _ in range(PREPARING_THREADS)]
        self._tokenizer = copy.deepcopy(tracker.processor.tokenizer)
        self._ready: queue.Queue[Job] = queue.Queue(maxsize=BATCH_SIZE)
        self._threads = [
            threading.Thread(target=self._prepare_all, args=[each], daemon=True) for each in self._processors
        ]
        self._threads.append(threading.Thread(target=self._answer_all, daemon=True))
        self._started = False

    def submit(self, job: Job) -> None:
        """Queue a job."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        self.queue.put(job.ticket, job)

    def close(self) -> None:
        """Stop accepting requests from the queue."""
        self.queue.close()

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """Release a job's resources, and send an error to its handler."""
        self.queue.release(job.ticket)
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
                continue
            self._ready.put(job)

    def _prepare(self, request: ChatRequest, processor: Any) -> dict[str, torch.Tensor]:
        """Return the model's inputs of one conversation (B = 1)."""
        with tempfile.TemporaryDirectory(prefix="elysium-serve-") as folder:
            conversation: list[dict[str, Any]] = [
                {
                    "role": "system" if message.role == "developer" else message.role,
                    "content": self._content(message.content, request, Path(folder)),
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
        return dict(inputs)

    def _content(self, content: Any, request: ChatRequest, folder: Path) -> list[dict[str, Any]]:
        """Return the parts of a message in the chat template's form, with local files in place of URLs."""
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        parts: list[dict[str, Any]] = []
        for part in content:
            if isinstance(part, TextPart):
                parts.append({"type": "text", "text": part.text})
                continue
            place = Path(tempfile.mkdtemp(dir=folder))
            if isinstance(part, ImagePart):
                parts.append(
                    {"type": "image", "image": str(self.sources.open(part.image_url.url, "image", place).path)}
                )
            elif isinstance(part, VideoPart):
                opened = self.sources.open(part.video_url.url, "video", place)
                rate = request.chat_template_kwargs.fps
                if rate and opened.duration_s and math.ceil(opened.duration_s * rate) > MAX_FRAMES:
                    raise MediaError(
                        f"fps must give at most {MAX_FRAMES} frames, got {rate:g} for {opened.duration_s:.1f} s; "
                        "lower it"
                    )
                parts.append({"type": "video", "video": str(opened.path)})
        return parts

    # --- answers ---
    def _answer_all(self) -> None:
        held: Job | None = None
        while True:
            batch, held = self._next_batch(held or self._ready.get())
            try:
                self._answer([job for job in batch if not job.cancelled])
            except Exception as error:
                log.exception("generation failed")
                for job in batch:
                    job.send(error)
            for job in batch:
                self._end(job)

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
        if request.temperature is None and request.top_p is None:
            return bool(self.model.generation_config.do_sample)
        return not request.is_greedy

    def _answer(self, jobs: list[Job]) -> None:
        """Run the model on any number of greedy jobs, or on one that samples."""
        context = self.model.config.get_text_config().max_position_embeddings
        config = copy.deepcopy(self.model.generation_config)
        eos = config.eos_token_id
        eos_ids = set(eos if isinstance(eos, list) else [eos])
        jobs, choices = self._begin(jobs, context, eos_ids, config.max_new_tokens)
        if not jobs:
            return
        config.max_new_tokens = max(choice.max_tokens for choice in choices)
        config.do_sample = False
        request = jobs[0].request
        if self._samples(request):
            config.do_sample, config.num_return_sequences = True, request.n
            if request.temperature is not None or request.top_p is not None:
                config.top_k = 0
                config.temperature = 1.0 if request.temperature is None else request.temperature
                config.top_p = 1.0 if request.top_p is None else request.top_p
        self._generate(_collate([job.inputs for job in jobs], config.pad_token_id), config, choices, request.seed)

    def _begin(
        self, jobs: list[Job], context: int, eos_ids: set[int], default: int | None
    ) -> tuple[list[Job], list[_Choice]]:
        """Return the jobs that fit into the context, and a choice for each row of the output."""
        fitting, choices = [], []
        for job in jobs:
            room = context - job.prompt_tokens
            if room < 1:
                job.send(
                    RequestError(
                        f"a prompt must have fewer than {context} tokens, got {job.prompt_tokens}; use fewer "
                        "frames or a shorter text",
                        code="context_length_exceeded",
                    )
                )
                continue
            most = min(room, job.request.max_new_tokens or max(default or 0, DEFAULT_MAX_TOKENS))
            rows = [[index] for index in range(job.request.n)]
            if not self._samples(job.request):
                rows = [list(range(job.request.n))]  # the most likely answer, n times
            fitting.append(job)
            choices += [_Choice(job, indices, self._tokenizer, eos_ids, most) for indices in rows]
            job.send(Started(job.prompt_tokens))
        return fitting, choices

    def _generate(
        self, inputs: dict[str, torch.Tensor], config: GenerationConfig, choices: list[_Choice], seed: int | None
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
                stopping_criteria=StoppingCriteriaList([_Watch(choices)]),
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
