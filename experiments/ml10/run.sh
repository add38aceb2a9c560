#!/usr/bin/env bash
# Makes everything in this folder; some three hours on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/ml10
.venv/bin/wtl run ml10
cp runs/ml10/evaluation/episodes.csv runs/ml10/evaluation/families.json runs/ml10/improvement.png $here/

# Other training seeds, on the same entries.
for seed in 1 2; do
    .venv/bin/wtl run ml10 seed=$seed own_demonstrations=runs/ml10/demos "evaluation.baselines=[]" \
        directory=runs/ml10-$seed
    cp runs/ml10-$seed/evaluation/episodes.csv $here/seed$seed.csv
done
.venv/bin/wtl report runs/ml10 runs/ml10-1 runs/ml10-2 --markdown

# The same without made-up families.
none="tasks.sketches=0 trials.first_round_tasks=null"
# shellcheck disable=SC2086
.venv/bin/wtl run ml10 $none "evaluation.baselines=[]" directory=runs/ml10-without
cp runs/ml10-without/evaluation/episodes.csv $here/without.csv

# What made-up families are worth on families held out of the ten training families.
for fold in 0 1 2; do
    for sketches in 120 0; do
        directory="runs/ml10-fold-$fold-$sketches"
        settings="tasks.sketches=120"
        [ "$sketches" != 0 ] || settings=$none
        # shellcheck disable=SC2046,SC2086
        .venv/bin/wtl run ml10 "evaluation.baselines=[]" "evaluation.controls=[]" $settings \
            $(.venv/bin/python $here/folds.py $fold) "directory=$directory"
        cp "$directory/evaluation/episodes.csv" "$here/fold-$fold-$sketches.csv"
    done
done
