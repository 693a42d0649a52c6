#!/usr/bin/env bash
# Train by torchrun on one or several machines. A process that dies is started again with all others, and the run goes
# on where it was.
#
# All GPUs of this machine:
#   scripts/torchrun.sh fit --config configs/convnet_cifar10.yaml --config configs/with/ddp.yaml
# Two machines with a common file system: on each of them the same command, with NODE_RANK 0 and 1. A new RUN_ID begins
# a new run; with the same one, the run goes on.
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 RUN_ID=a scripts/torchrun.sh fit --config ... --config configs/with/ddp.yaml
#
# Variables: NPROC (processes a machine; default: one a GPU), NNODES (1), NODE_RANK, MASTER_ADDR (the machine of
# NODE_RANK 0), MASTER_PORT (29400), RUN_ID, MAX_RESTARTS (3), SHUTDOWN_SECONDS (120: from a signal to SIGKILL),
# LOCAL_ADDR (this machine's own address, if its host name is not the one that the others reach), PYTHON (python).
set -euo pipefail

refuse() {
    echo "error: $1" >&2
    exit 2
}

nodes=${NNODES:-1}
NODE_RANK=${NODE_RANK:-${SLURM_NODEID:-}}
processes=${NPROC:-gpu}
port=${MASTER_PORT:-29400}
if [[ $nodes == 1 ]]; then
    rendezvous=(--standalone)
else
    [[ -n $NODE_RANK && -n ${MASTER_ADDR:-} && -n ${RUN_ID:-} ]] ||
        refuse "NNODES is $nodes: set NODE_RANK (0 to $((nodes - 1))), MASTER_ADDR (the machine of NODE_RANK 0) and RUN_ID (the same on all)"
    is_host=false
    [[ $NODE_RANK != 0 ]] || is_host=true
    rendezvous=(
        "--nnodes=$nodes" "--rdzv-backend=c10d" "--rdzv-endpoint=$MASTER_ADDR:$port" "--rdzv-id=$RUN_ID"
        "--rdzv-conf=is_host=$is_host"
    )
    [[ -z ${LOCAL_ADDR:-} ]] || rendezvous+=("--local-addr=$LOCAL_ADDR")
    if [[ $is_host == false ]]; then # torchrun itself would print a traceback
        deadline=$((SECONDS + ${LEYDEN_JOIN_SECONDS:-50}))
        until timeout 5 bash -c ": < /dev/tcp/$MASTER_ADDR/$port" 2> /dev/null; do
            ((SECONDS < deadline)) ||
                refuse "cannot reach $MASTER_ADDR:$port: is NODE_RANK 0 started, MASTER_ADDR its address, and port $port open?"
            sleep 1
        done
    fi
fi

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # processes that are started again must not meet in the store of dead ones
exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" --nproc-per-node="$processes" \
    --max-restarts="${MAX_RESTARTS:-3}" --shutdown-timeout="${SHUTDOWN_SECONDS:-120}" \
    --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    -m leyden "$@" --trainer.num_nodes="$nodes" --trainer.devices="${processes/gpu/auto}"
