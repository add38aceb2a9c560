#!/usr/bin/env bash
# Makes everything in this folder: rewards from a noise ladder on twelve families, and what they are worth.
# Some twenty minutes of one core. What was stopped goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
run=${RUN:-runs/drex}
for stage in demonstrations graded drex/train ssrr/train shuffled_drex/train; do
    .venv/bin/wtl stage drex "$stage" "directory=$run"
done
for arm in suboptimal none ranked true; do
    .venv/bin/python experiments/drex/measure.py play "$run" "$arm"
done
.venv/bin/python experiments/drex/measure.py gather "$run"
