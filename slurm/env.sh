# shellcheck shell=bash
# The one place that a site edits, read by each of the jobs here before it starts anything. As it is, a job has the
# environment of the shell that submitted it. Keep secrets out: SLURM writes a job's script and variables to its disk.

# What fgvr and CUDA need on a node:
#   module load cuda
#   . /path/to/venv/bin/activate
#   export HF_HOME=/path/to/models HF_HUB_OFFLINE=1   # once python -m fgvr prefetch has filled it where there is a network

# The network that the processes of several nodes meet on:
#   export NCCL_SOCKET_IFNAME=ib0

# By which command fgvr is started, where that is another: in a container, say. SLURM's programs need not be in it.
#   FGVR=(apptainer exec --nv --bind "$PWD" /path/to/fgvr.sif python -m fgvr)
