#!/usr/bin/env bash
# One command for a laptop, a GPU machine, a TPU VM and a pod: the processes find each other where JAX recognises a
# cluster (--distributed auto, the default). On a Cloud TPU pod start it on every worker at once:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command \
#     "cd absum-sigsoftmax && bash experiments/run_pod.sh absum train --data cifar10 --data-dir ~/cifar10 \
#      --model resnet18 --batch-size 1024 --strength 0.01 --out gs://BUCKET/run"
# --out must be in a bucket (pip install '.[cloud]') or a directory that all workers see. The processes compare what
# they are about to do, and all end in one line where they differ or one of them fails.
set -euo pipefail
experiment=${1:?"usage: run_pod.sh absum|sigsoftmax [COMMAND] [FLAGS]"}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" # and stay here: paths among the flags are the caller's
exec python3 -m "experiments.$experiment" "$@"
