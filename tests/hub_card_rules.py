"""The rules for the head of a README that the Hub's documentation states, for the stand-in of the Hub.

The Hub's own check runs on its server. This one starts with what its client checks (the head is YAML, and a
model-index has the form of evaluation results), and adds the values that the documentation lists.
"""

import re

from huggingface_hub import DatasetCard, ModelCard, SpaceCard

CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
LICENSES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "other"}
TASKS = {"video-text-to-text", "image-text-to-text", "visual-question-answering", "object-detection"}
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"}
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SDKS = {"gradio", "docker", "static"}
LONGEST_DESCRIPTION = 60


def card_errors(content: str, kind: str) -> list[str]:
    """What is wrong with the head of a README, a sentence for each."""
    if not content.startswith("---"):
        return []  # no head is a warning on the Hub
    try:
        head = CARDS[kind](content).data.to_dict()
    except (ValueError, TypeError) as error:
        return [str(error)]
    errors = [f'"license" must be one of {sorted(LICENSES)}'] if head.get("license", "mit") not in LICENSES else []
    for language in _listed(head.get("language")):
        if not re.fullmatch(r"[a-z]{2,3}", language):
            errors.append(f'"language" must be an ISO 639 code, got {language!r}')
    if kind == "model":
        errors += _model_errors(head)
    elif kind == "dataset":
        errors += [f'"size_categories" got {x!r}' for x in _listed(head.get("size_categories")) if x not in SIZES]
        errors += [f'"task_categories" got {x!r}' for x in _listed(head.get("task_categories")) if x not in TASKS]
    else:
        errors += _space_errors(head)
    return errors


def _model_errors(head: dict) -> list[str]:
    errors = [] if head.get("pipeline_tag", "object-detection") in TASKS else ['"pipeline_tag" is not known']
    for entry in head.get("model-index") or []:
        for result in entry["results"]:
            if result["task"]["type"] not in TASKS:
                errors.append(f'"model-index" has a task {result["task"]["type"]!r}')
            if not all(isinstance(metric["value"], int | float | str) for metric in result["metrics"]):
                errors.append('"model-index" has a metric without a value')
    return errors


def _space_errors(head: dict) -> list[str]:
    errors = [] if head.get("sdk") in SDKS else ['"sdk" must be gradio, docker or static']
    errors += [f'"{name}" is no colour' for name in ("colorFrom", "colorTo") if head.get(name, "red") not in COLORS]
    if not head.get("title"):
        errors.append('"title" is required')
    if len(head.get("short_description", "")) > LONGEST_DESCRIPTION:
        errors.append(f'"short_description" must have {LONGEST_DESCRIPTION} characters or fewer')
    return errors


def _listed(value: object) -> list[str]:
    return [] if value is None else [str(item) for item in (value if isinstance(value, list) else [value])]
