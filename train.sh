#!/usr/bin/env bash
# Train plain LSNet by the published recipe, whose values are the defaults of main.py:
#   ./train.sh MODEL IMAGENET [flags]         MODEL: lsnet_t, lsnet_s, lsnet_b, lsnet_t_distill, lsnet_s_distill, lsnet_b_distill
#   ./train.sh lsnet_t_distill imagenet --teacher-path regnety_160.pth --output-dir runs/lsnet_t_distill
# GPUS (8) processes share the work, one per GPU; PYTHON names another Python than the one on the path. With fewer,
# keep 8 x 256 pictures per update: GPUS=2 ./train.sh lsnet_t imagenet --accumulation-steps 4
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "train.sh: found too few arguments; expected MODEL IMAGENET [flags]; see the head of this file" >&2
    exit 2
fi
model=$1 data=$2
shift 2
case $model in
    lsnet_t | lsnet_s) recipe=(--weight-decay 0.025) ;;
    lsnet_b) recipe=(--weight-decay 0.05) ;;
    lsnet_t_distill | lsnet_s_distill) recipe=(--weight-decay 0.025 --distillation-type hard --teacher-model regnety_160) ;;
    lsnet_b_distill) recipe=(--weight-decay 0.05 --distillation-type hard --teacher-model regnety_160) ;;
    *)
        echo "train.sh: found the model $model; expected lsnet_t, _s or _b, or one with _distill; use main.py" >&2
        exit 2
        ;;
esac
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${GPUS:-8}" "$(dirname "$0")/main.py" \
    --model "$model" --data-path "$data" --dist-eval "${recipe[@]}" "$@"
