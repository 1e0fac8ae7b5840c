# shellcheck shell=bash
# What the jobs of this folder share; each says under which name it speaks.

script=${script:-slurm}
say() { printf '%s: %s\n' "$script" "$1" >&2; }
stop() { # code, sentence
  say "$2"
  exit "$1"
}

# The shell that submits hands its variables to the job; what belongs to another launcher would mislead this one.
unset MASTER_ADDR MASTER_PORT RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE NODE_RANK GROUP_RANK "${!TORCHELASTIC_@}"
# shellcheck source=slurm/env.sh
if [ -f slurm/env.sh ]; then . slurm/env.sh; fi
declare -p FGVR >/dev/null 2>&1 || FGVR=(python -m fgvr)
set -u

# fgvr's codes of a run that the next job goes on with: it was told to end, or a process of it hung or was killed.
AGAIN=75 HUNG=50
# Starts at one step after a first one, by which a run must have come to a later checkpoint.
# shellcheck disable=SC2034
RESTARTS=3

# What is started again goes on, however it was begun.
# shellcheck disable=SC2034
again=(${SLURM_RESTART_COUNT:+--run.fresh false}) # not set in a job's first start

# srun gives the highest code of all ranks, and those that it ends because one has failed have a higher one (143). So
# the first that fails leaves its code as the target of a link. The shell around a rank outlives the signals sent to it.
first=$PWD/slurm-${SLURM_JOB_ID:-none}-code-${SLURM_RESTART_COUNT:-0}
# shellcheck disable=SC2016,SC2034
rank='
  told=0
  trap : USR1 USR2
  trap told=1 TERM
  "${@:2}"
  code=$?
  ((code == 137 && !told)) && code=50 # killed, as by a node that has no memory left
  ((code == 0 || told)) || ln -s "$code" "$1" 2>/dev/null
  exit "$code"'

code_of_first() { # srun's code
  if [ -L "$first" ]; then
    readlink "$first"
    rm -f "$first"
  else
    printf '%s\n' "$1"
  fi
}

leave() { # code; queues the job again, by the same id and with the same log, when its run is to go on
  if [ "$1" = "$AGAIN" ] || [ "$1" = "$HUNG" ]; then
    if scontrol requeue "$SLURM_JOB_ID"; then
      say "The run goes on when SLURM starts job $SLURM_JOB_ID again."
    else
      say "The job could not be queued again: submit the same line, and the run goes on."
    fi
  fi
  exit "$1"
}
