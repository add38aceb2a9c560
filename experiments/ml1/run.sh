#!/usr/bin/env bash
# Makes everything in this folder with the operator that comes with the package; some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
for family in push pick-place; do
    .venv/bin/wtl evaluate pretrained tasks.benchmark=ML1 "tasks.family=$family-v3" tasks.test_goals_per_family=50 \
        evaluation.entries_per_task=2 evaluation.attempts=3 evaluation.control_attempt=2 \
        "evaluation.controls=[blind_retry,shuffled_trial,masked_reward]" "directory=runs/ml1-$family"
    cp "runs/ml1-$family/evaluation/episodes.csv" "experiments/ml1/$family.csv"
    .venv/bin/wtl report "runs/ml1-$family" --markdown
done
