#!/usr/bin/env bash
# Relabelled trials as data for the improvement operator; needs runs/learned, made by experiments/learned_transfer/run.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/hindsight
.venv/bin/python $here/operator_data.py runs/learned runs/hindsight-operator 800 played relabelled
evaluate() {
    for arm in played relabelled; do
        .venv/bin/wtl evaluate pretrained "checkpoint=runs/hindsight-operator/$arm/checkpoint" tasks.benchmark=custom \
            "tasks.train=[reach-v3]" "tasks.test=[$2]" tasks.seed=101 tasks.test_goals_per_family=20 \
            "evaluation.methods=[]" video=sketch "directory=runs/hindsight-operator/$arm-$1"
        cp "runs/hindsight-operator/$arm-$1/evaluation/episodes.csv" "$here/operator-$arm-$1.csv"
    done
}
trained="pick-place-v3, push-v3, shelf-place-v3, basketball-v3, peg-insert-side-v3, coffee-push-v3, plate-slide-v3"
evaluate trained "$trained, reach-wall-v3"
evaluate held-out "assembly-v3, coffee-pull-v3, pick-out-of-hole-v3, dial-turn-v3, peg-unplug-side-v3"
