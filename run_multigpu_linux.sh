#!/usr/bin/env bash
# Train on several GPUs of this machine.
#
#   bash run_multigpu_linux.sh GPUS [TRAINER.py] [flags of the trainer]
#   bash run_multigpu_linux.sh 2 --data-path artist_dataset --output-dir runs/lsnet_t --resume auto
#
# GPUS processes, one per GPU, share train_artist_style.py unless another trainer is named. A process that dies ends the
# run; RESTARTS=3 in the environment lets it start again as often, which goes on where it stopped with --resume auto.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
gpus="${1:-}"
case "$gpus" in
    "" | *[!0-9]* | 0)
        echo "found ${gpus:-no number}; expected the number of GPUs; for example: bash run_multigpu_linux.sh 2" \
            "--data-path artist_dataset" >&2
        exit 2
        ;;
esac
shift
trainer=train_artist_style.py
case "${1:-}" in *.py) trainer="$1" && shift ;; esac
if [ ! -f "$here/$trainer" ]; then
    echo "found no $here/$trainer; expected a trainer beside this script; for example train_artist_style.py" >&2
    exit 2
fi

python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}"
exec "$python" -m torch.distributed.run --standalone --nproc_per_node="$gpus" --max-restarts="${RESTARTS:-0}" \
    "$here/$trainer" "$@"
