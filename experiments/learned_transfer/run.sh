#!/usr/bin/env bash
# Makes everything in this folder and the checkpoint of the package: an hour and a half on two busy cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/learned_transfer
.venv/bin/wtl run $here/forty.yaml
cp runs/learned/evaluation/episodes.csv $here/validation.csv
cp runs/learned/evaluation/families.json $here/validation-families.json
.venv/bin/python $here/scaling.py $here/forty.yaml $here/scaling.csv 5 10 20 40
mkdir -p wtl/pretrained/ml45
cp runs/learned/learned_transfer/scorer-0/checkpoint/* wtl/pretrained/ml45/
# Further tasks (another benchmark seed): of the five held-out families, without and with noise, and of trained ones.
evaluate() {
    name=$1 families=$2 count=$3
    shift 3
    .venv/bin/wtl evaluate pretrained tasks.benchmark=custom "tasks.train=[reach-v3]" "tasks.test=[$families]" \
        tasks.seed=101 "tasks.test_goals_per_family=$count" "evaluation.variants=[told_goal, blind_search]" \
        "evaluation.methods=[transfer_told_goal, expert]" "directory=runs/learned-$name" "$@"
    cp "runs/learned-$name/evaluation/episodes.csv" "$here/$name.csv"
}
held_out="assembly-v3, coffee-pull-v3, pick-out-of-hole-v3, dial-turn-v3, peg-unplug-side-v3"
trained="pick-place-v3, push-v3, shelf-place-v3, basketball-v3, peg-insert-side-v3, coffee-push-v3, plate-slide-v3"
evaluate held-out "$held_out" 20
evaluate held-out-noise "$held_out" 20 protocol.action_noise=0.1 protocol.position_noise=0.005
evaluate trained "$trained, reach-wall-v3" 12
# The method on ML45's held-out families under several protocols: experiments/protocols/run.sh
