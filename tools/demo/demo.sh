#!/usr/bin/env bash
# From nothing to a trained model: generate shapes, train a small QuadMamba from scratch, test it,
# draw curves and predictions. Run it again after an interruption: it continues with the last
# checkpoint.
#
# usage: [WORK_DIR=...] [DATA_ROOT=...] [PYTHON=python] tools/demo/demo.sh [TASK] [options of train.py]
#
# TASK   detection (default), segmentation or classification
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
configs=$tools/../configs
task=detection
if [[ ${1:---} != -* ]]; then
  task=$1
  shift
fi

# images: of one step, over all processes
case $task in
  detection)
    config=$configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py
    format=coco images=4 work_dir=work_dirs/demo metrics=(coco/bbox_mAP coco/segm_mAP)
    ;;
  segmentation)
    config=$configs/mmseg/quadmamba/upernet_quadmamba-demo_shapes.py
    format=ade20k images=8 work_dir=work_dirs/demo_segmentation metrics=(mIoU)
    ;;
  classification)
    config=$configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py
    format=imagenet images=32 work_dir=work_dirs/demo_classification metrics=(accuracy/top1)
    ;;
  *)
    echo "TASK must be detection, segmentation or classification, got: '$task'" >&2
    exit 2
    ;;
esac
: "${WORK_DIR:=$work_dir}" "${DATA_ROOT:=data/shapes_${format%20k}}" "${PYTHON:=python}"
export PYTHON PYTHONPATH="${tools%/tools}${PYTHONPATH:+:$PYTHONPATH}"

# Two processes on CPUs and on several GPUs, one on a single GPU.
gpus=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
processes=$((gpus == 1 ? 1 : 2))

"$PYTHON" "$tools/dataset_tools/generate_shapes.py" --format "$format" --root "$DATA_ROOT"

bash "$tools/dist_train.sh" "$config" "$processes" --work-dir "$WORK_DIR" \
  --data-root "$DATA_ROOT" --resume auto "$@" \
  --cfg-options train_dataloader.batch_size=$((images / processes))

# The last one: picking the best on the test images would flatter the result.
checkpoint=$(<"$WORK_DIR/last_checkpoint")
results=$WORK_DIR/results.pkl
[[ $task != segmentation ]] || results=$WORK_DIR/predictions # label maps
bash "$tools/dist_test.sh" "$config" "$checkpoint" "$processes" --work-dir "$WORK_DIR/test" \
  --data-root "$DATA_ROOT" --out "$results"

sheet=$WORK_DIR/${task}_sheet.png
case $task in
  detection) draw=("$results" "$DATA_ROOT/annotations/instances_val2017.json") ;;
  segmentation) draw=("$DATA_ROOT" "$results") ;;
  classification) draw=("$results") ;;
esac
"$PYTHON" "$tools/analysis_tools/draw_${task}_sheet.py" "${draw[@]}" --out "$sheet"
"$PYTHON" "$tools/analysis_tools/draw_training_curves.py" "$WORK_DIR" --metrics "${metrics[@]}" \
  --out "$WORK_DIR/training_curves.png"

runs=("$WORK_DIR"/test/*/) # named by time
run=${runs[-1]%/}
"$PYTHON" - "$run/${run##*/}.json" <<'PYTHON_CODE'
import json
import sys

NAMES = {
    "coco/bbox_mAP": "box AP {:.3f}",
    "coco/segm_mAP": "mask AP {:.3f}",
    "mIoU": "mIoU {:.1f} %",
    "accuracy/top1": "top-1 accuracy {:.1f} %",
}
metrics = json.load(open(sys.argv[1]))
found = [text.format(metrics[name]) for name, text in NAMES.items() if name in metrics]
print(f"\non held-out images: {', '.join(found)}")
PYTHON_CODE
echo "checkpoint   $checkpoint"
echo "curves       $WORK_DIR/training_curves.png"
echo "predictions  $sheet"
