#!/usr/bin/env bash
# As everything in this folder was made, with the code of commit 6b9d75d, whose preset ml45 trained another method; runs/ml45, runs/ml45-1 and runs/ml45-2 (experiments/ml45/run.sh) must be there.
# An hour on two busy cores; SEEDS="0 1 2" adds training seeds (and subsets), three times as long.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
lean="evaluation.controls=[] evaluation.methods=[]"
runs="runs/ml45 runs/ml45-1 runs/ml45-2"
for seed in ${SEEDS:-0}; do
    for count in 5 10 20; do
        directory="runs/scaling/families-$count-$seed"
        subset=$(.venv/bin/python experiments/scaling/scaling.py subset "$count" "$seed")
        # shellcheck disable=SC2086
        .venv/bin/wtl run ml45 $lean $subset "directory=$directory"
        runs="$runs $directory"
    done
    from=runs/ml45
    own=""
    if [ "$seed" != 0 ]; then
        from="runs/ml45-$seed"
        own="demonstrations.own=runs/ml45/demonstrations"
    fi
    for width in 12 24 96; do
        directory="runs/scaling/width-$width-$seed"
        # The first trials are those of the misled controller: they do not depend on the scorer.
        mkdir -p "$directory/trajectory_transfer"
        cp -r "$from/demonstrations" "$directory/"
        cp -r "$from/trajectory_transfer/trials-0" "$directory/trajectory_transfer/"
        # shellcheck disable=SC2086
        .venv/bin/wtl run ml45 $lean seed="$seed" $own "methods.trajectory_transfer.scorer.width=$width" "directory=$directory"
        runs="$runs $directory"
    done
done
# shellcheck disable=SC2086
.venv/bin/python experiments/scaling/scaling.py gather $runs
