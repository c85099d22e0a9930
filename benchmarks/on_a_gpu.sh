#!/bin/bash
# Everything that waits for a GPU, most wanted first, in one command of at most SECONDS_LEFT seconds (default 570): the
# tests of tests/gpu, the speed of a training step, and peak memory against the plan with and without sharing. What is
# measured lands in OUT (default: benchmarks/results). A step that fails or runs out of time does not stop the others.
#
#     PYTHON=python3 OUT=/tmp/found bash benchmarks/on_a_gpu.sh
set -u
cd "$(dirname "$0")/.." || exit
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}src HF_HUB_OFFLINE=1
PYTHON=${PYTHON:-python}
OUT=${OUT:-benchmarks/results}
FOLDER=${FOLDER:-$(mktemp -d)}
end=$((SECONDS + ${SECONDS_LEFT:-570}))
mkdir -p "$OUT"

run() {
    local left=$((end - SECONDS)) began=$SECONDS code=0
    if [ "$left" -lt 20 ]; then echo "left out for lack of time: $*"; return; fi
    echo "=== $*"
    timeout "$left" "$PYTHON" "$@" || code=$?
    echo "=== exit $code after $((SECONDS - began)) s"
}

run -m pytest tests/gpu -m gpu -q
run benchmarks/train_step.py --device cuda --model qwen2_5_vl_3b --parts forward --results "$OUT"
run benchmarks/train_step.py --device cuda --model qwen2_5_vl_3b --parts step --shapes 1024,256 --results "$OUT"
for shared in auto off; do
    run benchmarks/memory.py --model qwen2_5_vl_3b --method qlora --shared-prefix "$shared" --folder "$FOLDER" --results "$OUT"
done
run benchmarks/memory.py --model qwen2_5_vl_3b --method lora --folder "$FOLDER" --results "$OUT"
run benchmarks/memory.py --model qwen2_5_vl_7b --method qlora --folder "$FOLDER" --results "$OUT"
run benchmarks/train_step.py --device cuda --model qwen2_5_vl_3b --parts growth --results "$OUT"
run benchmarks/train_step.py --device cuda --model qwen2_5_vl_3b --parts step --shapes 128,64 128,256 512,64 512,256 1024,64 --results "$OUT"
