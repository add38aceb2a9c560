#!/usr/bin/env bash
# Makes everything in this folder; more than two hours on two busy cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/ml10
.venv/bin/wtl run ml10
cp runs/ml10/evaluation/episodes.csv runs/ml10/evaluation/families.json runs/ml10/improvement.png $here/

# Other training seeds, on the same entries.
for seed in 1 2; do
    .venv/bin/wtl run ml10 seed=$seed demonstrations.own=runs/ml10/demonstrations "evaluation.methods=[]" \
        directory=runs/ml10-$seed
    cp runs/ml10-$seed/evaluation/episodes.csv $here/seed$seed.csv
done
.venv/bin/wtl report runs/ml10 runs/ml10-1 runs/ml10-2 --markdown

# The same without procedurally generated families.
.venv/bin/wtl run ml10 tasks.procedural_families=0 trials.first_round_tasks=null "evaluation.methods=[]" directory=runs/ml10-without
cp runs/ml10-without/evaluation/episodes.csv $here/without.csv

# Both on the 30 of ML45's training families that ML10 has neither for training nor for the test.
others=$(.venv/bin/python -c "from tasks.metaworld.splits import *
print(','.join(family for family in ML45_TRAIN if family not in ML10_TRAIN + ML10_TEST))")
for run in ml10 ml10-without; do
    .venv/bin/wtl evaluate pretrained "checkpoint=runs/$run/trajectory_transfer/scorer-0/checkpoint" tasks.benchmark=custom "tasks.train=[reach-v3]" \
        "tasks.test=[$others]" tasks.test_goals_per_family=10 "evaluation.methods=[]" "directory=runs/$run-others"
done
cp runs/ml10-others/evaluation/episodes.csv $here/others.csv
cp runs/ml10-without-others/evaluation/episodes.csv $here/others-without.csv
