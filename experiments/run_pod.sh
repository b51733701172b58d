#!/usr/bin/env bash
# One command for one device or a pod. On a Cloud TPU pod, start it on every worker at once:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command \
#     "cd absum-sigsoftmax && bash experiments/run_pod.sh absum train --data cifar10 --data-dir ~/cifar10 --model resnet18 --batch-size 1024"
# --out must then be on storage that all workers share. On one machine leave out the gcloud line.
set -euo pipefail
experiment=$1
shift
cd "$(dirname "$0")/.."
flags=()
if [ "${TPU_WORKER_HOSTNAMES:-}" != "${TPU_WORKER_HOSTNAMES/,/}" ]; then
  flags+=(--distributed)  # more than one host name: this is a worker of a pod
fi
exec python3 -m "experiments.$experiment" "$@" ${flags[@]+"${flags[@]}"}
