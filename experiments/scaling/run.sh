#!/usr/bin/env bash
# Makes everything in this folder; runs/ml45 (experiments/ml45/run.sh) must be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
lean="evaluation.controls=[] evaluation.baselines=[]"
runs="runs/ml45"
for count in 5 10 20; do
    directory="runs/scaling/families-$count"
    # shellcheck disable=SC2046,SC2086
    .venv/bin/wtl run ml45 $lean $(.venv/bin/python experiments/scaling/scaling.py subset "$count" 0) "directory=$directory"
    runs="$runs $directory"
done
for width in 12 24 96; do
    directory="runs/scaling/width-$width"
    mkdir -p "$directory"
    cp -r runs/ml45/demos runs/ml45/trials-0 "$directory/"
    # shellcheck disable=SC2086
    .venv/bin/wtl run ml45 $lean "following.shift.width=$width" "directory=$directory"
    runs="$runs $directory"
done
# shellcheck disable=SC2086
.venv/bin/python experiments/scaling/scaling.py gather $runs
