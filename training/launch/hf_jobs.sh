#!/usr/bin/env bash
# One machine of 8 GPUs at Hugging Face Jobs. Not run here; a test has `hf jobs run --dry-run` read it.
#   pip wheel --no-deps --wheel-dir dist .
#   bash training/launch/hf_jobs.sh OWNER/RUNS OWNER/DATA stage2a_instruct --namespace OWNER
# RUNS is a bucket (`hf buckets create`), DATA a data set repository with the folders that the recipes call data/…;
# what follows the recipe's name are options of `hf jobs run`, as --detach, --dry-run, or --secrets HF_TOKEN for a
# recipe that pushes.
set -euo pipefail

runs=${1:?give a bucket for checkpoints, OWNER/NAME}
data=${2:?give a data set repository, OWNER/NAME}
recipe=${3:?give the name of a recipe, such as stage2a_instruct}
shift 3

# The package comes as its wheel, which holds recipes and launch files too. Checkpoints go to the bucket, so that
# another attempt goes on from the last one, and the next stage finds them as runs/….
# shellcheck disable=SC2016
inside='set -e
pip install --quiet "$(ls /wheel/elysium_vlm-*.whl)[train]"
mkdir -p /job && cd /job && ln -sfn /runs runs && ln -sfn /data data
files=$(python -c "import elysium.training as t; print(t.__path__[0])")
exec accelerate launch --config_file "$files/launch/fsdp2.yaml" \
    -m elysium.training.sft --config "$files/recipes/$RECIPE.yaml"'

options=(
    --name "elysium-$recipe"
    --flavor h200x8  # 8 GPUs of 141 GB; h200x4, a100x8 and others: `hf jobs hardware`. num_processes must fit
    --timeout 24h    # the default is 30 minutes
    --attempts 3     # with the first one
    --env "RECIPE=$recipe"
    --volume "hf://buckets/$runs:/runs"        # read and written
    --volume "hf://datasets/$data:/data"       # read only
    --volume "${WHEEL_DIR:-./dist}:/wheel"     # copied to a bucket first
)
# torch from PyPI brings its own CUDA libraries, so plain Python is enough.
exec hf jobs run "${options[@]}" "$@" python:3.12 bash -c "$inside"
