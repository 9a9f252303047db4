"""The pages in docs/: links lead somewhere, commands have the options that they name, code blocks run as printed.

A page of `RUN` is run from its first block to its last, in a folder like a clone. Blocks of other pages that hold
Python run too, unless `NOT_RUN` says why not, and so do their commands that ask the model about a file. The answers
are compared with the truth (`example_truth.py`). Lines of `elysium …`, `make …` and `python …` are looked at on all.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import typer
from code_blocks import CodeBlock, code_blocks
from example_truth import FITS_IOU, answers_noted, prompted
from markdown_it import MarkdownIt

from elysium import cli
from elysium.processing.boxes_elysium import parse_frames
from elysium.processing.overlap import paired_iou
from elysium.processing.prompts_elysium import TASKS
from elysium.processing.video_io import VideoReader, VideoWriter
from elysium.readers.elysium_track import sequence_of_row
from elysium.tracking.checkpoints import DEFAULT_MODEL, SHIPPED

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# Pages of which every block runs, and on them the commands that a test cannot run.
RUN = ("docs/quick_start.md", "docs/tasks.md", "docs/formats.md", "docs/architecture.md", "docs/publishing.md")
SLOW = ("docs/quick_start.md", "docs/tasks.md")  # they ask the model
INSTALLING = ("pip install", "python3 -m venv", ".venv/bin/pip install", "source .venv/bin/activate")
# The Space's README and wheel: tests/cards/ and tests/test_one_life.py run these.
OF_THE_SPACE = ("python -m elysium.cards.render_card space spaces_demo", "elysium publish spaces_demo")
# Blocks of Python on other pages that do not run here, by their page and first line.
NOT_RUN = {
    ("docs/ecosystem.md", "from peft import LoraConfig, get_peft_model"): "needs a model; test_ecosystem_elysium.py",
    ("docs/evaluation.md", "from pathlib import Path"): "needs LaSOT and results of a tracker",
    ("docs/fine_tuning.md", "import elysium"): "needs the runs of the page's commands; test_trl_sft_command.py",
    ("docs/public_weights.md", "import elysium"): "needs the 7B release; test_convert_elysium_weights.py",
    ("docs/public_weights.md", "import torch"): "needs the 7B release; test_quantized_elysium.py",
    ("docs/speed.md", 'tracker = Tracker.from_pretrained("elysium-small")  # decoding="fast"'): "test_decoding.py",
    ("docs/speed.md", "grammar = model.box_grammar(processor.answer_template(num_frames))"): "test_decoding.py",
}
# What stands for a file of the reader's, and the first frames of a video for it: short, since many commands track it.
CUP, CUP_FRAMES = "tests/fixtures/media/cup.mp4", 24
STANDS_FOR = {"VIDEO": "cup.mp4", "VIDEO_OR_IMAGE": "cup.mp4", **dict.fromkeys(("IMAGE", "PHOTO.jpg"), "cup.jpg")}


def first_line(block: CodeBlock) -> str:
    return block.text.splitlines()[0].rstrip()


def commands(block: CodeBlock) -> Iterator[str]:
    """The commands of a block of bash: one for each line, or for lines joined by backslashes."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def links(page: str) -> list[str]:
    """Where a page's links and pictures lead."""
    inline = [token for token in MarkdownIt().enable("table").parse(page) if token.type == "inline"]
    children = [child for token in inline for child in token.children or []]
    return [str(child.attrs[name]) for child in children for name in ("href", "src") if name in child.attrs]


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    tokens = MarkdownIt().parse(page)
    titles = [after.content for token, after in zip(tokens, tokens[1:], strict=False) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder that looks like a clone to what a page says, and is thrown away."""
    for name in ("benchmarks", "cards", "tests", "training"):
        (tmp_path / name).symlink_to(ROOT / name)
    copytree(SHIPPED / DEFAULT_MODEL, tmp_path / "checkpoints" / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(command: str) -> None:
    """One line of bash that a page shows, in this process."""
    words = shlex.split(command, comments=True)
    if words[0] == "elysium":
        assert cli.run(words[1:]) == 0, command
    else:
        assert words[:2] == ["python", "-m"] and words[2].startswith("elysium.cards."), command
        module = __import__(words[2], fromlist=["main"])
        module.main(words[3:])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RUN]
)
def test_a_page_runs_from_its_first_block_to_its_last_and_its_answers_are_right(name, clone) -> None:
    with answers_noted() as calls:
        names = run_page(name)
    for call in calls:
        call.check()
    assert calls or name not in SLOW
    if name == "docs/quick_start.md":  # by transformers alone, in frames 0, 5, 10 and 15
        boxes = [box.box_xyxy_norm for box in parse_frames(names["answer"], 4)]
        truth = prompted(clone / "clips" / "videos" / "000000.mp4", "the green circle").boxes_xyxy_px[::5]
        assert paired_iou(np.array(boxes) * [160, 120, 160, 120], truth).mean() >= FITS_IOU


def run_page(name: str) -> dict:
    """Run the blocks of a page, and return the names that its Python has in the end."""
    names: dict = {}
    for block in code_blocks((ROOT / name).read_text("utf-8")):
        if block.language == "python":
            if "clip.json" in block.text:
                shown = next(b for b in code_blocks((ROOT / name).read_text("utf-8")) if b.language == "json")
                Path("clip.json").write_text(shown.text)
            exec(compile(block.text, f"{name}:{block.line}", "exec"), names)
        elif block.language == "bash":
            for command in commands(block):
                if not command.startswith((*INSTALLING, *OF_THE_SPACE)):
                    run_command(command)
        else:
            assert block.language in ("json", "text"), f"{name}:{block.line} has {block.language!r}"
    return names


def questions_elsewhere() -> list[str]:
    """Commands of pages not in `RUN` that ask a shipped model about a file, each once, without their outputs."""
    found = []
    for name, page in zip(NAMES, PAGES, strict=True):
        for block in code_blocks(page.read_text("utf-8")) if name not in RUN else []:
            for command in commands(block) if block.language == "bash" else []:
                asks = re.match(r"elysium (track|ground|describe|ask) ", command) and "--model" not in command
                found += [re.sub(r" --(output|boxes|sheet) \S+| --resume|\s*#.*", "", command)] if asks else []
    return list(dict.fromkeys(found))


@pytest.mark.slow
@pytest.mark.parametrize("command", questions_elsewhere())
def test_a_command_of_another_page_that_asks_the_model_gets_a_right_answer(command, clone) -> None:
    with VideoReader(CUP) as reader, VideoWriter("cup.mp4", reader.info.fps, 640, 480) as writer:
        for frame in islice(reader, CUP_FRAMES):
            writer.write(frame.image)
    Path("cup.jpg").symlink_to(ROOT / "tests/fixtures/real_stills/cup.jpg")
    with answers_noted() as calls:
        run_command(" ".join(STANDS_FOR.get(word, word) for word in command.split(" ")))
    for call in calls:
        call.check()
    assert calls


def python_elsewhere() -> list[tuple[str, CodeBlock]]:
    pages = [(name, page) for name, page in zip(NAMES, PAGES, strict=True) if name not in RUN]
    blocks = [(name, block) for name, page in pages for block in code_blocks(page.read_text("utf-8"))]
    return [(name, block) for name, block in blocks if block.language == "python"]


@pytest.mark.slow
def test_python_on_other_pages_runs_or_is_named_with_a_reason(clone) -> None:
    found = {(name, first_line(block)) for name, block in python_elsewhere()}
    assert set(NOT_RUN) <= found, "NOT_RUN names blocks that are not there"
    with answers_noted() as calls:
        for name, block in python_elsewhere():
            if (name, first_line(block)) not in NOT_RUN:
                exec(compile(block.text, f"{name}:{block.line}", "exec"), {})
    for call in calls:
        call.check()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_that_are_there(name) -> None:
    page = ROOT / name
    text = page.read_text("utf-8")
    for link in links(text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{name} links to {link}"


def test_every_page_is_in_the_index() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in links((ROOT / "docs" / "README.md").read_text("utf-8"))}
    assert {page for page in PAGES if page.parent.name == "docs"} - {ROOT / "docs" / "README.md"} <= listed


@pytest.mark.parametrize("name", NAMES)
def test_commands_on_a_page_exist_with_their_options(name) -> None:
    app = typer.main.get_command(cli.app)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for block in code_blocks((ROOT / name).read_text("utf-8")):
        if block.language != "bash":
            continue
        for command in commands(block):
            words = []
            with suppress(ValueError):  # an open quote, as in a JSON body over several lines
                words = shlex.split(command, comments=True)
            if words[:1] == ["elysium"]:
                assert unknown_options(app, words[1:]) == [], command
            elif words[:1] == ["make"]:
                assert set(words[1:]) <= targets, command
            elif words[:1] == ["python"]:
                path = f"{words[2].replace('.', '/').removeprefix('elysium/')}.py" if words[1] == "-m" else words[1]
                assert (ROOT / path).is_file() or (ROOT / "package" / path).is_file(), command


def unknown_options(app, words: list[str]) -> list[str]:
    """Options that a command has not, or the command itself; fields of a recipe of training are its trainer's."""
    while words and not words[0].startswith("-") and hasattr(app, "commands"):
        if words[0] not in app.commands:
            return [words[0]]
        app, words = app.commands[words[0]], words[1:]
    if app.context_settings.get("ignore_unknown_options"):
        return []
    known = {option for parameter in app.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in known | {"--help"}]


def test_an_option_that_is_not_there_is_noticed() -> None:
    app = typer.main.get_command(cli.app)
    assert unknown_options(app, ["track", "a.mp4", "--colour", "red"]) == ["--colour"]
    assert unknown_options(app, ["data", "check", "x", "--source", "folder"]) == []
    assert unknown_options(app, ["trak"]) == ["trak"]


def test_the_row_on_the_page_of_formats_is_read() -> None:
    page = (ROOT / "docs" / "formats.md").read_text("utf-8")
    row = next(json.loads(block.text) for block in code_blocks(page) if '"object_class"' in block.text)
    sequence = sequence_of_row(row, Path())
    assert sequence.visible.tolist() == [True, False] and sequence.text == "the green circle"


def test_the_page_of_tasks_has_all_tasks() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    assert len(re.findall(r"^\| (?:REC|REG|SOT|RSOT|Video-REG|VideoQA)", page, re.MULTILINE)) == len(TASKS)


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch) -> None:
    notebook = json.loads((ROOT / "notebooks" / "fine_tuning.ipynb").read_text("utf-8"))
    assert notebook["nbformat"] == 4 and all(not cell.get("outputs") for cell in notebook["cells"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAST", "1")
    names: dict = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            exec(compile(source, f"cell {number}", "exec"), names)
    assert os.path.isfile("fine_tuning_work/adapter/adapter_model.safetensors") and len(names["losses"]) == 2
