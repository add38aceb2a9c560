#!/usr/bin/env bash
# As everything in this folder was made, with the code of commit 6b9d75d, whose preset ml45 trained another method; runs/ml45, runs/ml45-1 and runs/ml45-2 (experiments/ml45/run.sh) must be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
for family in push pick-place; do
    runs=""
    for seed in 0 1 2; do
        run=runs/ml45
        controls="[]"
        if [ "$seed" = 0 ]; then
            controls="[blind_retry,shuffled_trial,masked_reward]"
        else
            run="runs/ml45-$seed"
        fi
        .venv/bin/wtl evaluate pretrained "checkpoint=$run/trajectory_transfer/scorer-0/checkpoint" "seed=$seed" tasks.benchmark=ML1 \
            "tasks.family=$family-v3" tasks.test_goals_per_family=50 evaluation.entries_per_task=2 evaluation.attempts=3 \
            evaluation.control_attempt=2 "evaluation.controls=$controls" "evaluation.methods=[]" \
            "directory=runs/ml1-$family-$seed"
        cp "runs/ml1-$family-$seed/evaluation/episodes.csv" "experiments/ml1/$family-$seed.csv"
        runs="$runs runs/ml1-$family-$seed"
    done
    # shellcheck disable=SC2086
    .venv/bin/wtl report $runs --markdown
done
