"""Further phrasings of each task's prompt, for training, from `questions.yaml`.

>>> load_phrasings()["rsot"][0].format(text="the red car")
'Track the red car in the video.'
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml

from elysium.processing.prompts_elysium import TASKS


@cache
def load_phrasings() -> Mapping[str, tuple[str, ...]]:
    """Return the phrasings by task: the prompt of inference (see `TASKS`), then those of `questions.yaml`.

    A phrasing holds the placeholder of its task once. Those of `video_caption` have none: within the task video_qa
    they request a description of the whole video.
    """
    text = files("elysium.processing.prompts").joinpath("questions.yaml").read_text(encoding="utf-8")
    phrasings = {
        task: (*([TASKS[task].prompt] if task in TASKS else []), *others)
        for task, others in yaml.safe_load(text).items()
    }
    return MappingProxyType(phrasings)  # read-only: every caller gets this one
