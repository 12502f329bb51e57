#!/usr/bin/env bash
# Train on several GPUs of this machine.
#
#   bash run_multigpu_linux.sh [GPUS] [TRAINER.py] [flags of the trainer]
#   bash run_multigpu_linux.sh 2 --data-path artist_dataset --output-dir runs/lsnet_t --resume auto
#
# GPUS processes, one per GPU (default: as many as PyTorch sees), share train_artist_style.py unless another trainer is
# named. A process that dies ends the run; RESTARTS=3 in the environment lets it start again as often, which goes on
# where it stopped with --resume auto.
set -euo pipefail

example="for example: bash run_multigpu_linux.sh 2 --data-path artist_dataset"
refuse() {
    echo "$1; $example" >&2
    exit 2
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
gpus=""
case "${1:-}" in
    "" | -* | *.py) ;;
    *[!0-9]* | 0*) refuse "found $1; expected the number of GPUs, or flags" ;;
    *) gpus="$1" && shift ;;
esac
trainer=train_artist_style.py
case "${1:-}" in *.py) trainer="$1" && shift ;; esac
if [ ! -f "$here/$trainer" ]; then
    refuse "found no $here/$trainer; expected a trainer beside this script, such as train_artist_style.py"
fi
[ $# -gt 0 ] || refuse "found no flags for $trainer; expected --data-path and what else it needs"
[ -n "$gpus" ] || gpus=$("$python" -c "import torch; print(torch.cuda.device_count())")
[ "$gpus" != 0 ] || refuse "found no GPU that PyTorch sees; expected one, or the number of processes in front"

cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}"
exec "$python" -m torch.distributed.run --standalone --nproc_per_node="$gpus" --max-restarts="${RESTARTS:-0}" \
    "$here/$trainer" "$@"
