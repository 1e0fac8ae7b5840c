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

# SLURM's own name for the job: an array bears the number of its last task, and what is done to that is done to all.
job=${SLURM_JOB_ID:-none}
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

# SIGTERM comes to the script too: at the limit, where a run that was warned is still to be queued again, and by scancel,
# where it is not.
told=
trap told=1 TERM

# Codes of a run that the next job goes on with: it was told to end, a process of it hung or was killed, or it was warned
# before it could listen (SIGUSR1, SIGUSR2).
AGAIN=" 75 50 138 140 "
# Starts at one step after a first one, by which a run must have come to a later checkpoint.
# shellcheck disable=SC2034
RESTARTS=3

# What is started again goes on, however it was begun.
# shellcheck disable=SC2034
again=(${SLURM_RESTART_COUNT:+--run.again true}) # not set in a job's first start

# srun gives the highest code of all ranks, and those that it ends because one has failed have a higher one (143). So
# the first that fails leaves its code as the target of a link. The shell around a rank outlives the signals sent to it.
first=$PWD/slurm-$job-code-${SLURM_RESTART_COUNT:-0}
rm -f "$first" # of another job of that number
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

over() { [[ $(scontrol show job --oneliner "$job") = *" Reason=TimeLimit "* ]]; } # whether the job's time is

leave() { # code; queues the job again, by the same id and with the same log, when its run is to go on
  if [[ $AGAIN = *" $1 "* ]] && { [ -z "$told" ] || over; }; then
    if scontrol requeue "$job"; then
      say "The run goes on when SLURM starts job $job again."
    else
      say "The job could not be queued again: submit the same line, and the run goes on."
    fi
  fi
  exit "$1"
}
