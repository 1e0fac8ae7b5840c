#!/usr/bin/env bash
# All that only a GPU can show, in one run of a few minutes: steps in the 3B's shapes, the kernels' tests, every
# attention against the dense one, and short SFT and GRPO runs on the Aviary in bfloat16. Nothing is downloaded.
#
#   benchmarks/gpu/check.sh [--dry] [FOLDER]
#
# FOLDER (default: $OUT, else the current one) gets figures.jsonl and log.txt as things are found, and at the end one
# table, DATE-DEVICE.md. A stage that fails or takes too long is said in the table, the next one goes on, and the
# script ends with status 1.
# --dry walks through all of it on a CPU, with a tiny model. PYTHON names the interpreter, python3 by default.
#
# A bare machine needs Python 3.11 or newer with torch, transformers, lightning, jaxtyping, hypothesis, pytest and
# pytest-timeout, and besides, as wheels: jsonargparse, docstring_parser, typeshed_client, omegaconf, peft, webdataset,
# braceexpand, rapidfuzz, tenacity, beartype. flash-attn is used where it is there, and not needed.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
dry=
if [ "${1:-}" = --dry ]; then dry=1 && shift; fi
folder=$(mkdir -p "${1:-${OUT:-.}}" && cd "${1:-${OUT:-.}}" && pwd)
work=$(mktemp -d)
figures=$folder/figures.jsonl
trap 'rm -rf "$work"' EXIT
rm -f "$figures" "$folder/log.txt"
export PYTHONPATH=$root:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
cd "$work" # data and runs go there

note() { "$python" "$root/benchmarks/gpu/figures.py" "$figures" "$@"; }
report() { "$python" "$root/benchmarks/gpu/report.py" "$figures" "$folder"; }

# stage NAME SECONDS COMMAND...: runs it and writes down how it ended; the table is there after every stage
stage() {
    local name=$1 limit=$(($2 * patience)) log=$work/${1// /_}.log began=$SECONDS ended
    shift 2
    timeout "$limit" "$@" >"$log" 2>&1
    ended=$?
    { echo "== $name" && cat "$log"; } >>"$folder/log.txt"
    case $ended in
        0) note "$name" ended "well, after $((SECONDS - began)) s" ;;
        124) note "$name" ended "CUT OFF after $limit s" ;;
        *) note "$name" ended "FAILED with status $ended after $((SECONDS - began)) s: $(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-300)" ;;
    esac
    report >/dev/null
}

tests() { # NAME SECONDS ARGUMENTS...
    local name=$1 limit=$2
    shift 2
    stage "$name" "$limit" "$python" -m pytest -q -p no:cacheprovider --rootdir "$root" -c "$root/pyproject.toml" "$@"
    note "$name" pytest "$(tail -n 1 "$work/${name// /_}.log")"
}

run() { # NAME SECONDS CONFIG ARGUMENTS...
    local name=$1 limit=$2 config=$3
    shift 3
    stage "$name" "$limit" "$python" -m fgvr fit --config "$root/configs/$config" \
        --config "$root/benchmarks/gpu/short.yaml" ${dry:+--trainer.limit_val_batches 1} "$@"
}

step() { # TUNING SECONDS
    stage "step $1" "$2" "$python" "$root/benchmarks/gpu/step.py" "$figures" --tuning "$1" ${dry:+--shape tiny --device cpu}
}

if [ "$dry" ]; then
    hardware=() patience=3 sft_steps=2 grpo_steps=1 cpu_tests=("$root/tests/kernels/test_prefix_attention.py")
else
    hardware=(--config "$root/configs/hardware/one_gpu.yaml") patience=1 sft_steps=200 grpo_steps=60
    cpu_tests=("$root/tests/kernels" "$root/tests/models/test_shared_prefix.py")
fi

run drawing 150 quickstart.yaml --run.dir runs/drawing --trainer.max_steps 1 --trainer.limit_val_batches 0 &
step full 120
step lora 120
wait
{
    tests "tests on a GPU" 100 -m gpu "$root/tests/kernels"
    stage attention 100 "$python" "$root/benchmarks/gpu/attention.py" "$figures" ${dry:+--device cpu}
} &
tests "tests on a CPU" 150 "${cpu_tests[@]}" &
{
    run "sft, float32" 150 quickstart.yaml "${hardware[@]}" --run.dir runs/float32 --trainer.max_steps $sft_steps \
        --trainer.precision 32-true
    note "sft, float32" --run runs/float32
} &
{
    run sft 150 quickstart.yaml "${hardware[@]}" --run.dir runs/quickstart --trainer.max_steps $sft_steps
    note sft --run runs/quickstart
    run grpo 150 aviary/grpo.yaml "${hardware[@]}" --run.dir runs/grpo --trainer.max_steps $grpo_steps
    note grpo --run runs/grpo
} &
wait
report
! grep -qE '"found": "(FAILED|CUT OFF)' "$figures"
