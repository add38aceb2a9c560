#!/usr/bin/env bash
# As everything in this folder was made, with the code of commit 6b9d75d; the preset's own run takes 28 minutes of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/ml45

.venv/bin/wtl run ml45
cp runs/ml45/evaluation/episodes.csv runs/ml45/evaluation/families.json runs/ml45/improvement.png $here/

# Other training seeds, on the same entries. Demonstrations have no noise, so they are the same for all seeds.
for seed in 1 2; do
    .venv/bin/wtl run ml45 seed=$seed demonstrations.own=runs/ml45/demonstrations "evaluation.methods=[]" \
        directory=runs/ml45-$seed
    cp runs/ml45-$seed/evaluation/episodes.csv $here/seed$seed.csv
done
.venv/bin/wtl report runs/ml45 runs/ml45-1 runs/ml45-2 --markdown

# The method of seed 0 elsewhere: up to attempt 10; in regime `goal`; after noisy demonstrations; at home.
evaluate() {
    name=$1
    shift
    .venv/bin/wtl evaluate pretrained "evaluation.methods=[]" "directory=runs/ml45-$name" "$@"
    cp "runs/ml45-$name/evaluation/episodes.csv" "$here/$name.csv"
}
evaluate ten tasks.test_goals_per_family=50 evaluation.attempts=10
# Without box-close: from another start its expert misses some goals, so there is nothing to show.
evaluate goal tasks.test_goals_per_family=50 regime=goal tasks.benchmark=custom "tasks.train=[reach-v3]" \
    "tasks.test=[bin-picking-v3,hand-insert-v3,door-lock-v3,door-unlock-v3]"
evaluate noisy tasks.test_goals_per_family=50 demonstrations.noise=0.3
evaluate training-families evaluation.split=validation "demonstrations.splits=[validation]" tasks.validation_goals_per_family=6
