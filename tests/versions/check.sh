#!/usr/bin/env bash
# Check one set of dependency versions in a fresh environment: the checkpoint answers by its own code, then the wheel
# imports and tracks. FOLDER holds the wheel and NAME.txt, a pip constraints file; results go to FOLDER/NAME.
#
#     PYTHON=python3.11 check.sh FOLDER NAME VIDEO TEXT
set -euo pipefail
folder=$(realpath "$1") name=$2 video=$(realpath "$3") text=$4
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
out=$folder/$name
export HF_HUB_OFFLINE=1 HF_HOME=$out/hf OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset PYTHONPATH

mkdir "$out"
"$PYTHON" -m venv "$out/venv"
python=$out/venv/bin/python
install() { "$python" -m pip install --quiet --disable-pip-version-check --constraint "$folder/$name.txt" "$@"; }

install torch transformers pillow av
cp -r "$root/checkpoints/elysium-small" "$root/tests/fresh_bundle/answer.py" "$out"
cd "$out"
"$python" -I answer.py elysium-small "$video" "$text"

install "$folder"/*.whl
"$python" -I -c "import elysium"
venv/bin/elysium track "$video" --text "$text" --boxes boxes.json --output video.mp4 --sheet sheet.png
"$python" -m pip list --disable-pip-version-check --format freeze \
	| grep -iE '^(torch|transformers|av|numpy|pillow|rich|supervision|typer)=='
rm -r venv hf
