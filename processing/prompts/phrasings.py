"""Read and check `questions.yaml`: further phrasings of each task's prompt, for training.

>>> load_phrasings()["rsot"][0].format(text="the red car")
'Track the red car in the video.'
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from types import MappingProxyType

import yaml

from elysium.processing.prompts_elysium import TASKS

# Placeholders of each task; a phrasing holds each of them exactly once. `video_caption` has none: within the task
# video_qa it requests a description of the whole video.
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    **{name: frozenset({task.needs}) for name, task in TASKS.items()},
    "video_caption": frozenset(),
}
MIN_PHRASINGS = 8


@cache
def load_phrasings() -> Mapping[str, tuple[str, ...]]:
    """Return the phrasings by task: the prompt of inference (see `TASKS`), then those of `questions.yaml`.

    Raises:
        ValueError: the file breaks a rule of [`check_phrasings`].
    """
    text = files("elysium.processing.prompts").joinpath("questions.yaml").read_text(encoding="utf-8")
    phrasings = {
        task: [*([TASKS[task].prompt] if task in TASKS else []), *others]
        for task, others in yaml.safe_load(text).items()
    }
    return MappingProxyType(check_phrasings(phrasings))  # read-only: every caller gets this one


def check_phrasings(phrasings: object) -> dict[str, tuple[str, ...]]:
    """Check phrasings by task.

    Args:
        phrasings: a mapping from each task of `PLACEHOLDERS` to its phrasings.

    Returns:
        The same phrasings, a tuple of strings for each task.

    Raises:
        ValueError: not exactly the tasks of `PLACEHOLDERS`; fewer than `MIN_PHRASINGS` for a task; one that is no
            text, stands twice, has white space at an end, lacks a placeholder of its task, or holds another.
    """
    if not isinstance(phrasings, Mapping) or set(phrasings) != set(PLACEHOLDERS):
        found = list(phrasings) if isinstance(phrasings, Mapping) else type(phrasings).__name__
        raise ValueError(f"phrasings must map the tasks {', '.join(PLACEHOLDERS)}, got {found}")
    return {task: _check_task(task, phrasings[task]) for task in PLACEHOLDERS}


def _check_task(task: str, templates: object) -> tuple[str, ...]:
    if not isinstance(templates, (list, tuple)) or len(templates) < MIN_PHRASINGS:
        raise ValueError(f"{task} must have at least {MIN_PHRASINGS} phrasings, got {templates!r}")
    for index, template in enumerate(templates):
        if not isinstance(template, str) or not template or template != template.strip():
            raise ValueError(f"{task}[{index}] must be text without white space at its ends, got {template!r}")
        if template in templates[:index]:
            raise ValueError(f"{task}[{index}] stands twice: {template!r}; leave one out")
        expected = sorted(PLACEHOLDERS[task])
        found = _placeholders(template)
        if found != expected:
            raise ValueError(f"{task}[{index}] must hold the placeholders {expected}, got {found} in {template!r}")
    return tuple(templates)


def _placeholders(template: str) -> list[str]:
    """Return the names in braces, sorted, with their format if they have one."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        return ["(braces that do not match)"]
    return sorted(
        name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        for _, name, spec, conversion in fields
        if name is not None
    )
