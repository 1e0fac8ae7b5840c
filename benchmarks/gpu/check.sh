#!/usr/bin/env bash
# All that only a GPU can show, in one run of a few minutes: steps in the 3B's shapes, the kernels' tests, every
# attention against the dense one, and short SFT and GRPO runs on the Aviary in bfloat16. Nothing is downloaded.
#
#   benchmarks/gpu/check.sh [--dry] [--only STAGE]... [FOLDER]
#
# --only runs the stage of that name and what it builds on, as often as it is given: --only grpo --only "step full". The
# stages are: drawing, step full, checkpointed full, fsdp2 full, step lora, fsdp2 lora, tests on a GPU, runs on a GPU, attention, tests on a CPU,
# sft float32, sft, grpo.
# FOLDER (default: $OUT, else the current one) gets figures.jsonl and log.txt as things are found, and at the end one
# table, DATE-DEVICE.md. A stage that fails or takes too long is said in the table, the next one goes on, and the
# script ends with status 1. Whatever is not done after 9 minutes is cut off.
# --dry walks through all of it on a CPU, with a tiny model. PYTHON names the interpreter, python3 by default.
#
# A bare machine needs Python 3.11 or newer with torch, transformers, lightning, jaxtyping, hypothesis, pytest and
# pytest-timeout, and besides, as wheels: jsonargparse, docstring_parser, typeshed_client, omegaconf, peft, webdataset,
# braceexpand, rapidfuzz, tenacity, beartype. flash-attn is used where it is there, and not needed.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
stages=("drawing" "step full" "checkpointed full" "step lora" "fsdp2 full" "fsdp2 lora" "tests on a GPU" "runs on a GPU" "attention" "tests on a CPU" "sft float32" "sft" "grpo")
dry='' only=()
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry) dry=1 ;;
        --only) only+=("${2:-}") && shift ;;
        *) echo "check.sh knows --dry and --only STAGE, not $1" >&2 && exit 2 ;;
    esac
    shift
done
for name in "${only[@]}"; do
    printf '%s\n' "${stages[@]}" | grep -qxF -- "$name" && continue
    echo "--only must name a stage, one of $(printf '%s, ' "${stages[@]}")but got '$name'" >&2 && exit 2
done
folder=$(mkdir -p "${1:-${OUT:-.}}" && cd "${1:-${OUT:-.}}" && pwd)
work=$(mktemp -d)
figures=$folder/figures.jsonl
trap 'rm -rf "$work"' EXIT
rm -f "$figures" "$folder/log.txt"
END=530 # seconds after which nothing goes on
export PYTHONPATH=$root:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
cd "$work" || exit 1 # data and runs go there

note() { "$python" "$root/benchmarks/gpu/figures.py" "$figures" "$@"; }
report() { "$python" "$root/benchmarks/gpu/report.py" "$figures" "$folder"; }

# wanted STAGE...: whether any of them is to be run
wanted() {
    local name
    [ ${#only[@]} = 0 ] && return
    for name in "$@"; do printf '%s\n' "${only[@]}" | grep -qxF -- "$name" && return; done
    return 1
}

# stage NAME SECONDS COMMAND...: runs it and writes down how it ended; the table is there after every stage
stage() {
    local name=$1 limit=$(($2 * patience)) log=$work/${1// /_}.log began=$SECONDS left=$((END * patience - SECONDS)) ended
    shift 2
    if [ $left -lt $limit ]; then limit=$((left > 1 ? left : 1)); fi
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
    # in one process, and without the plugins that only the options of pyproject.toml ask for
    stage "$name" "$limit" "$python" -m pytest -q -p no:cacheprovider --rootdir "$root" -c "$root/pyproject.toml" \
        -o addopts="--import-mode=importlib --strict-markers" "$@"
    note "$name" pytest "$(tail -n 1 "$work/${name// /_}.log")"
}

run() { # NAME SECONDS CONFIG ARGUMENTS...
    local name=$1 limit=$2 config=$3
    shift 3
    stage "$name" "$limit" "$python" -m fgvr fit --config "$root/configs/$config" \
        --config "$root/benchmarks/gpu/short.yaml" ${dry:+--trainer.limit_val_batches 1} "$@"
}

step() { # KIND TUNING SECONDS ARGUMENTS...
    local kind=$1 tuning=$2 limit=$3
    shift 3
    stage "$kind $tuning" "$limit" "$python" "$root/benchmarks/gpu/step.py" "$figures" --tuning "$tuning" "$@" \
        ${dry:+--shape tiny --device cpu}
}

if [ "$dry" ]; then
    hardware=() patience=3 sft_steps=2 grpo_steps=1
    gpu_tests=("$root/tests/kernels" "$root/tests/rollouts") cpu_tests=("$root/tests/kernels/test_packing.py")
else
    hardware=(--config "$root/configs/hardware/one_gpu.yaml") patience=1 sft_steps=600 grpo_steps=60
    gpu_tests=("$root/tests/kernels" "$root/tests/models" "$root/tests/rollouts")
    cpu_tests=("$root/tests/kernels" "$root/tests/models/test_shared_prefix.py")
fi

if wanted drawing sft "sft float32" grpo; then
    run drawing 150 quickstart.yaml --run.dir runs/drawing --trainer.max_steps 1 --trainer.limit_val_batches 0 &
fi
for tuning in full lora; do
    if wanted "step $tuning"; then step step "$tuning" 150; fi
    if [ "$tuning" = full ] && wanted "checkpointed full"; then step checkpointed full 90 --checkpointing true; fi
    if wanted "fsdp2 $tuning"; then step fsdp2 "$tuning" 90 --strategy fsdp2; fi
done
wait
{
    # CUDA graphs against eager decoding among them
    if wanted "tests on a GPU"; then tests "tests on a GPU" 120 -m gpu "${gpu_tests[@]}"; fi
    if wanted attention; then
        stage attention 120 "$python" "$root/benchmarks/gpu/attention.py" "$figures" ${dry:+--device cpu}
    fi
} &
if wanted "runs on a GPU" && [ ! "$dry" ]; then
    tests "runs on a GPU" 280 -m gpu "$root/tests/integration/test_gpu_runs.py"
fi &
if wanted "tests on a CPU"; then tests "tests on a CPU" 170 -m "not gpu and not slow" "${cpu_tests[@]}" & fi
if wanted "sft float32"; then
    run "sft float32" 100 quickstart.yaml "${hardware[@]}" --run.dir runs/float32 --trainer.max_steps $sft_steps \
        --trainer.precision 32-true
    note "sft float32" --run runs/float32
fi &
if wanted sft grpo; then
    run sft 100 quickstart.yaml "${hardware[@]}" --run.dir runs/quickstart --trainer.max_steps $sft_steps
    note sft --run runs/quickstart
    if wanted grpo; then
        # two steps of SFT teach no replies that can be read
        run grpo 150 aviary/grpo.yaml "${hardware[@]}" --run.dir runs/grpo --trainer.max_steps $grpo_steps \
            ${dry:+--model.init_args.max_start_failures 1.0}
        note grpo --run runs/grpo
    fi
fi &
wait
report
! grep -qE '"found": "(FAILED|CUT OFF)' "$figures"
