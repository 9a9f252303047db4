"""Answers of the model: conversations in, texts with the log probability of each token out.

Many conversations go through `generate` at once, padded on the left. Decoding is greedy. Windows of a video are
answered under the grammar of tracking answers: fast (`WindowReader`), or by `generate`, which is the reference and
gives the same tokens; "plain" decodes without a grammar, and an answer may then be unreadable.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationMixin, LogitsProcessorList

from elysium.modeling_elysium.box_drafting_elysium import ShiftRate
from elysium.modeling_elysium.box_grammar_elysium import (
    NEARBY,
    AnswerState,
    BoxAnswerGrammar,
    BoxGrammarLogitsProcessor,
    nearby_log_probs,
)
from elysium.modeling_elysium.generation_elysium import BoxDecoder, BoxQuestion, Prefix, why_not_decodable
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence
from elysium.processing.boxes_elysium import ParsedBox, format_frames, norm_to_bin, parse_box, parse_frames
from elysium.processing.media_elysium import Frame

from .windows import Shown, WindowRequest, image_of

Conversation = list[dict[str, Any]]
# What a window shows of each frame, and the pixels a side of the image that the model gets of it.
Seen = tuple[tuple[Shown, ...], int]
# The tokens that a window's prompt begins with, what they stand for, and the classes that its text names: the visual
# tokens that show one of them are marked.
Beginning = tuple[tuple[int, ...], Seen, tuple[int, ...]]
Decoding = Literal["fast", "reference", "plain"]

DECODINGS = ("fast", "reference", "plain")
# The longest answer of a frame: every coordinate has two digits in both corners of the image.
_WIDEST_BOX_NORM = (0.11, 0.22, 0.88, 0.99)
_SPARE_TOKENS = 8


@dataclass(frozen=True, eq=False)
class Answer:
    """Hold one answer of the model.

    Args:
        text: without special tokens, blanks at the ends kept, so that the spans of parsed boxes hold.
        token_spans: for each generated token its first and last-plus-one character in `text`.
        token_log_probs (`np.ndarray` of shape `(L,)`): log probability of each generated token; of an integer that is
            one token, that of an integer at most `NEARBY` away (see `nearby_log_probs`).
    """

    text: str
    token_spans: tuple[tuple[int, int], ...]
    token_log_probs: NDArray[np.float64]

    def score(self, span: tuple[int, int] | None) -> float:
        """Return the confidence in the numbers of a span: exp of the mean log probability of the tokens with digits.

        Brackets and commas are left out, since they say nothing about where the object is.

        Args:
            span: first and last-plus-one character in `text`.

        Returns:
            0..1, or NaN where there is no span or no number in it.
        """
        if span is None:
            return math.nan
        start, stop = span
        chosen = [
            log_prob
            for (first, last), log_prob in zip(self.token_spans, self.token_log_probs, strict=True)
            if any(character.isdigit() for character in self.text[max(first, start) : min(last, stop)])
        ]
        return min(1.0, math.exp(math.fsum(chosen) / len(chosen))) if chosen else math.nan


def integer_ids(tokenizer: Any) -> torch.Tensor | None:
    """Return the ids (101,) of 0..100 where each is one token, else None (Llama's digits are tokens)."""
    tokens = [tokenizer.encode(str(number), add_special_tokens=False) for number in range(101)]
    return torch.tensor([ids[0] for ids in tokens]) if all(len(ids) == 1 for ids in tokens) else None


class Answerer:
    """Answer conversations and windows with a model and its processor.

    Args:
        model: anything with transformers' `generate`.
        processor: an `ElysiumProcessor`.
        batch_size: most conversations in one call of `generate`, most windows that are written at once.
        decoding: how windows are answered: "fast" (`BoxDecoder`), "reference" (`generate` under the same grammar: the
            same tokens, one forward pass for each) or "plain" (`generate` without a grammar).

    Attributes:
        decoding: what is used; not what was requested where that cannot be done with this model or tokenizer.
        fallback: why not, or None.

    Raises:
        ValueError: ``batch_size`` below 1, or no such decoding.
    """

    def __init__(self, model: Any, processor: Any, *, batch_size: int = 8, decoding: Decoding = "fast") -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}; 1 asks one question at a time")
        if decoding not in DECODINGS:
            raise ValueError(f"decoding must be one of {', '.join(DECODINGS)}, got {decoding!r}")
        self.model, self.processor, self.batch_size = model, processor, batch_size
        self.context: int | None = getattr(model.config.text_config, "max_position_embeddings", None)
        self.decoding, self.fallback = possible_decoding(model, processor, decoding)
        self._integers = integer_ids(processor.tokenizer)
        self._grammars: dict[tuple[int, float | None], BoxAnswerGrammar] = {}
        self._reader = WindowReader(bare_model(model), processor, batch_size) if self.decoding == "fast" else None

    def answer(self, conversations: Iterable[Conversation], *, max_new_tokens: int) -> list[Answer]:
        """Answer conversations without a grammar, at most ``batch_size`` at once, in their order.

        Args:
            conversations: as `processor.build_messages` gives them; taken batch by batch, so that a generator holds
                the images of one batch.
            max_new_tokens: an answer is cut after as many tokens.
        """
        waiting = iter(conversations)
        answers: list[Answer] = []
        while batch := list(itertools.islice(waiting, self.batch_size)):
            answers.extend(self._generate(batch, max_new_tokens))
        return answers

    def answer_windows(
        self, requests: Sequence[WindowRequest], *, upcoming: Sequence[Sequence[Frame]] = ()
    ) -> list[tuple[Answer, list[ParsedBox], list[float]]]:
        """Return for each window the model's answer, and a parsed box and a score for each of its frames.

        Args:
            requests: the windows.
            upcoming: frames of windows that will probably be requested next; those that are read together with
                the windows need not be read later. It changes no answer.
        """
        replies = []
        box_side = image_side(bare_model(self.model), False)  # those that come next are prompted by box
        expected: list[Seen] = [(tuple((frame, None) for frame in window), box_side) for window in upcoming]
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            later = [self._seen(request) for request in requests[start + self.batch_size :]] + expected
            for request, answer in zip(batch, self._answer_batch(batch, later), strict=True):
                parsed = parse_frames(answer.text, len(request), rounding=self.processor.box_rounding)
                replies.append((answer, parsed, [answer.score(box.span) for box in parsed]))
        return replies

    def forget(self) -> None:
        """Drop what earlier windows left: the next answers depend on their own images alone, to the last bit."""
        if self._reader is not None:
            self._reader.forget()

    def _seen(self, request: WindowRequest) -> Seen:
        return request.shown, image_side(bare_model(self.model), request.semantic)

    def check_window(self, text: str, num_frames: int) -> None:
        """Refuse a text that leaves no room in the model's context for a window's frames and answer.

        Args:
            text: text prompt.
            num_frames: frames of the window.

        Raises:
            ValueError: with both counts.
        """
        beginning, question = prompt_ids(self.processor, num_frames, self.processor.build_question("rsot", text=text))
        self._check_context(len(beginning) + len(question) + self.tracking_budget(num_frames))

    def _check_context(self, num_tokens: int) -> None:
        if self.context is not None and num_tokens > self.context:
            raise ValueError(
                f"text, frames and answer must have at most {self.context} tokens, the model's context, got "
                f"{num_tokens}; shorten the text, or give fewer frames"
            )

    def window_conversation(self, request: WindowRequest) -> Conversation:
        """Return the conversation that requests the boxes of one window."""
        return self.processor.build_messages(
            request.task, video=np.stack(request.images), text=request.text, box_xyxy_norm=request.box_xyxy_norm
        )

    def window_start(self, request: WindowRequest) -> AnswerState:
        """Return the start of a window's answer; a given box is that of its first frame."""
        box, key = request.box_xyxy_norm, (len(request), request.absent_log_odds)
        if key not in self._grammars:
            template = self.processor.answer_template(len(request))
            if request.absent_log_odds is not None:
                template["absent_log_odds"] = template["text_absent_log_odds"] = request.absent_log_odds
            self._grammars[key] = BoxAnswerGrammar(template)
        return self._grammars[key].start(None if box is None else norm_to_bin(box, self.processor.box_rounding))

    def read_box(self, answer: Answer) -> tuple[ParsedBox, float]:
        """Return the parsed box of a grounding answer, and its score."""
        parsed = parse_box(answer.text, rounding=self.processor.box_rounding)
        return parsed, answer.score(parsed.span)

    def tracking_budget(self, num_frames: int) -> int:
        """Return the number of tokens that an answer over so many frames can need."""
        longest = format_frames([_WIDEST_BOX_NORM] * num_frames, rounding=self.processor.box_rounding)
        return len(self.processor.tokenizer(longest, add_special_tokens=False)["input_ids"]) + _SPARE_TOKENS

    def _answer_batch(self, requests: Sequence[WindowRequest], later: Sequence[Seen]) -> list[Answer]:
        """Return one answer for each window, by the decoding in use."""
        states = [] if self.decoding == "plain" else [self.window_start(request) for request in requests]
        if self._reader is not None:
            return self._reader.answer(requests, states, later)
        answers: dict[int, Answer] = {}
        sides = [self._seen(request)[1] for request in requests]
        for side in dict.fromkeys(sides):
            places = [place for place, other in enumerate(sides) if other == side]
            conversations = [self.window_conversation(requests[place]) for place in places]
            alike = [states[place] for place in places] if states else []
            longest = max((state.grammar.longest for state in alike), default=None)
            budget = longest or self.tracking_budget(max(len(requests[place]) for place in places))
            answers |= zip(places, self._generate(conversations, budget, alike, side=side), strict=True)
        return [answers[place] for place in range(len(requests))]

    def _generate(
        self,
        conversations: list[Conversation],
        max_new_tokens: int,
        states: Sequence[AnswerState] = (),
        side: int | None = None,
    ) -> list[Answer]:
        """Return the answers of `generate`, under the grammar where states are given, on images of a side."""
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"} | ({"size": square(side)} if side else {}),
        )
        self._check_context(inputs["input_ids"].shape[1])
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        grammar = {"logits_processor": LogitsProcessorList([BoxGrammarLogitsProcessor(states)])} if states else {}
        output = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            output_logits=not states,
            output_scores=bool(states),  # logits behind the grammar: what is not allowed has no probability
            **grammar,
        )
        new_ids = output.sequences[:, inputs["input_ids"].shape[1] :]  # (B, L)
        log_probs = torch.stack(
            [
                nearby_log_probs(logits, chosen, self._integers, NEARBY)
                for logits, chosen in zip(output.scores if states else output.logits, new_ids.unbind(1), strict=True)
            ],
            dim=1,
        )  # (B, L)
        return [
            build_answer(self.processor.tokenizer, ids, values)
            for ids, values in zip(new_ids.tolist(), log_probs.double().cpu().numpy(), strict=True)
        ]


def prompt_ids(processor: Any, num_frames: int, question: str) -> tuple[tuple[int, ...], list[int]]:
    """Return the tokens of a window's prompt to the last frame, which no question changes, and those after it."""
    content = [{"type": "video"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    text = text.replace(processor.video_token, processor.expand_frames(num_frames), 1)
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    cut = len(ids) - ids[::-1].index(processor.video_token_id)
    return tuple(ids[:cut]), ids[cut:]


class WindowReader:
    """Answer windows by `BoxDecoder`: every image is encoded once, and windows of the same images are read once.

    Visual tokens of the last call's images are held, since the next windows open with one of them. An image is known
    by its `Frame`, which belongs to one stream, and its crop.

    Args:
        model: `ElysiumForConditionalGeneration` that `why_not_decodable` has nothing against.
        processor: its `ElysiumProcessor`.
        at_once: most windows that are read in one pass.
    """

    def __init__(self, model: Any, processor: Any, at_once: int = 8) -> None:
        self.model, self.processor, self.at_once = model, processor, at_once
        self.decoder = BoxDecoder(model)
        self._seen: dict[tuple[Shown, int], tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]] = {}
        self._prefixes: dict[Beginning, Prefix] = {}

    def answer(
        self,
        requests: Sequence[WindowRequest],
        states: Sequence[AnswerState],
        later: Sequence[Seen] = (),
    ) -> list[Answer]:
        """Return one answer for each window.

        Args:
            requests: the windows, written in the same passes.
            states: the start of each answer.
            later: what windows show that will probably be requested.
        """
        prompts = [prompt_ids(self.processor, len(each), self._words(each)) for each in requests]
        keys = [
            (beginning, (each.shown, image_side(self.model, each.semantic)), self._named(each, question))
            for each, (beginning, question) in zip(requests, prompts, strict=True)
        ]
        box_side = image_side(self.model, False)  # what words will name is not known here
        ahead = [seen for seen in later if seen[1] == box_side]
        self._read(keys, [(prompt_ids(self.processor, len(seen[0]), "?")[0], seen, ()) for seen in ahead])
        questions = [
            BoxQuestion(self._prefixes[key], question, state, state.first_box)
            for key, (_, question), state in zip(keys, prompts, states, strict=True)
        ]
        return [
            build_answer(self.processor.tokenizer, answer.token_ids, np.array(answer.log_probs))
            for answer in self.decoder.write(questions)
        ]

    def forget(self) -> None:
        """Drop all visual tokens, windows that were read, and how the decoder drafts answers."""
        self._seen, self._prefixes = {}, {}
        self.decoder.rate = ShiftRate()

    def _words(self, request: WindowRequest) -> str:
        return self.processor.build_question(request.task, text=request.text, box_xyxy_norm=request.box_xyxy_norm)

    def _named(self, request: WindowRequest, question: list[int]) -> tuple[int, ...]:
        """Return the classes of the semantic encoders that a question names."""
        if not request.semantic or self.model.config.semantic_config is None:
            return ()
        (named,) = self.model.model.semantic_projector.named_classes([question])
        return tuple(named.nonzero().squeeze(1).tolist())

    def _visual_tokens(self, seen: Seen, named: tuple[int, ...]) -> torch.Tensor:
        """Return the visual tokens of a window, marked where they show one of the named classes."""
        shown, side = seen
        tokens, evidence = zip(*(self._seen[each, side] for each in shown), strict=True)
        if not named:
            return torch.cat(tokens)
        stacked = SemanticEvidence(*map(torch.stack, zip(*evidence, strict=True)))
        columns = stacked.scores.new_zeros(len(shown), stacked.scores.shape[-1])
        columns[:, list(named)] = 1.0
        marks = self.model.model.semantic_projector.marks(stacked, columns)
        return (torch.stack(tokens) + marks).flatten(0, 1)

    def _read(self, keys: Sequence[Beginning], later: Sequence[Beginning]) -> None:
        """Read windows that were not read; where there are any, those that come later with them."""
        missing = list(dict.fromkeys(key for key in keys if key not in self._prefixes))
        if missing:
            more = [key for key in dict.fromkeys(later) if key not in self._prefixes and key not in missing]
            missing += more[: max(0, self.at_once - len(missing))]
        known = {key: self._prefixes[key] for key in (*keys, *later) if key in self._prefixes}
        self._encode([(each, side) for _, (shown, side), _ in missing for each in shown])
        beginnings = [self.decoder.embed(ids, self._visual_tokens(seen, named)) for ids, seen, named in missing]
        self._prefixes = known | dict(zip(missing, self.decoder.read(beginnings) if beginnings else (), strict=True))
        needed = {(each, side) for _, (shown, side), _ in self._prefixes for each in shown}
        self._seen = {each: tokens for each, tokens in self._seen.items() if each in needed}

    @torch.no_grad()
    def _encode(self, shown: Sequence[tuple[Shown, int]]) -> None:
        """Encode the images that were not seen, each at its number of pixels a side."""
        new = {key: image_of(key[0]) for key in shown if key not in self._seen}
        for (_, side), alike in itertools.groupby(new.items(), key=lambda item: (item[1].shape, item[0][1])):
            names, images = zip(*alike, strict=True)
            pixels = self.processor.video_processor(videos=[np.stack(images)], size=square(side), return_tensors="pt")
            values = pixels["pixel_values_videos"].to(self.model.device, self.model.dtype)
            output = self.model.get_video_features(values, return_dict=True)
            evidence = getattr(output, "semantic_evidence", None)
            by_image = itertools.repeat(None) if evidence is None else zip(*evidence, strict=True)  # (K, ...) each
            self._seen |= {
                name: (tokens, seen) for name, tokens, seen in zip(names, output.pooler_output, by_image, strict=False)
            }


def image_side(model: Any, semantic: bool) -> int:
    """Return the pixels a side of images that the semantic encoders, where the model has them, read or not."""
    return model.config.image_size if semantic else model.config.vision_config.image_size


def square(side: int) -> dict[str, int]:
    """Return a size as processors take it."""
    return {"height": side, "width": side}


def possible_decoding(model: Any, processor: Any, wanted: Decoding) -> tuple[Decoding, str | None]:
    """Return the decoding that can be done, and why it is not the requested one, or None where it is.

    Args:
        model: with `generate`.
        processor: its processor.
        wanted: "fast" needs an Elysium model; "reference" transformers' `generate`; both a tokenizer that writes
            numbers apart.
    """
    if wanted == "plain":
        return wanted, None
    bare = bare_model(model)
    if not isinstance(bare, GenerationMixin):
        return "plain", f"a {type(model).__name__} has no generate of transformers' that takes logits processors"
    try:
        processor.answer_template(1)
    except (ValueError, NotImplementedError) as error:
        return "plain", str(error)
    if wanted == "reference":
        return wanted, None
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return "reference", "the adapter puts tokens of its own into the prompt"
    reason = why_not_decodable(bare)
    return ("fast", None) if reason is None else ("reference", reason)


def bare_model(model: Any) -> Any:
    """Return the model itself where it is wrapped by PEFT, whose layers stand inside it."""
    return model.get_base_model() if callable(getattr(model, "get_base_model", None)) else model


def build_answer(tokenizer: Any, token_ids: Sequence[int], token_log_probs: NDArray[np.float64]) -> Answer:
    """Join generated tokens and their log probabilities; everything from the end-of-text token on is cut.

    Args:
        tokenizer: a transformers tokenizer.
        token_ids: L generated tokens, padded or not.
        token_log_probs (`np.ndarray` of shape `(L,)`): one for each.
    """
    ids = list(token_ids)
    ends = [position for position, token_id in enumerate(ids) if token_id == tokenizer.eos_token_id]
    ids = ids[: ends[0]] if ends else ids
    text = _decode(tokenizer, ids)
    pieces = {token: _decode(tokenizer, [token]) for token in set(ids)}
    edges = [0, *itertools.accumulate(len(pieces[token]) for token in ids)]
    if text != "".join(pieces[token] for token in ids):
        # The one way to a token's characters that holds for every tokenizer: the text of the first 1, 2, … tokens.
        edges = [0, *(len(_decode(tokenizer, ids[:stop])) for stop in range(1, len(ids) + 1))]
    return Answer(
        text=text,
        token_spans=tuple(zip(edges[:-1], edges[1:], strict=True)),
        token_log_probs=np.asarray(token_log_probs, dtype=np.float64)[: len(ids)],
    )


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
