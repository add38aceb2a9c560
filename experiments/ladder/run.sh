#!/usr/bin/env bash
# Makes everything in this folder but README.md; three CPU minutes, and what the reports of three runs take. SEED=1 makes another training seed.
set -euo pipefail
cd "$(dirname "$0")/../.."
wtl="${WTL:-.venv/bin/wtl}" python="${PYTHON:-.venv/bin/python}" root="${RUNS:-runs/ladder}"
$wtl graded ladder "directory=$root/episodes" "seed=${SEED:-0}"
runs=""
for cap in 0.4 0.6 0.8; do
    directory="$root/cap-$cap"
    if [ ! -d "$directory" ]; then # the same episodes for all caps
        mkdir -p "$directory"
        cp -r "$root/episodes/demonstrations" "$root/episodes/graded" "$directory/"
    fi
    caps=""
    for method in ladder ladder_random_order ladder_best_rung; do
        caps="$caps methods.$method.cap=$cap"
    done
    # shellcheck disable=SC2086
    $wtl run ladder "directory=$directory" "seed=${SEED:-0}" $caps
    runs="$runs $directory"
done
# shellcheck disable=SC2086
$python experiments/ladder/curves.py $runs
