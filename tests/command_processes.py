"""Commands on two processes that find each other as those of a cluster do."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Processes:
    """A command on one or several processes of two devices each, which are killed at the end of the context.

    Args:
        arguments: of each process; one that is alone joins no cluster.
        directory: where the output of each is kept.
    """

    def __init__(self, arguments, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self._outputs = [directory / f"output{rank}" for rank in range(len(arguments))]
        job = _free_job()
        self._processes = []
        for rank, (each, output) in enumerate(zip(arguments, self._outputs, strict=True)):
            # What Open MPI tells its processes, and JAX looks for.
            cluster = {
                "OMPI_MCA_orte_hnp_uri": f"{job * 2**12}.0;tcp://127.0.0.1:1",
                "OMPI_COMM_WORLD_SIZE": str(len(arguments)),
                "OMPI_COMM_WORLD_RANK": str(rank),
                "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
            }
            cluster = cluster if len(arguments) > 1 else {}
            devices = {"NPROC": "16", "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
            environment = os.environ | cluster | devices | {"PYTHONPATH": str(ROOT)}
            with output.open("w") as file:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *each], env=environment, stdout=file, stderr=subprocess.STDOUT
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        for process in self._processes:
            process.kill()
            process.wait()

    def send_signal(self, number, rank):
        self._processes[rank].send_signal(number)

    def lines(self, rank):
        """What a process has printed so far, but for what the library of its collectives says."""
        lines = self._outputs[rank].read_text().splitlines()
        return [line for line in lines if not ("[Gloo]" in line or "peer ranks" in line)]

    def are_running(self):
        """Whether none has ended."""
        return all(process.poll() is None for process in self._processes)

    def wait(self, seconds):
        """The status of each process; none may take longer."""
        return [process.wait(seconds) for process in self._processes]


def run(arguments, directory, seconds=300):
    """The status and the lines of each process."""
    with Processes(arguments, directory) as processes:
        statuses = processes.wait(seconds)
        return statuses, [processes.lines(rank) for rank in range(len(arguments))]


def _free_job():
    """The number of a job whose port, which JAX takes from it, is free."""
    for job in random.SystemRandom().sample(range(2**12), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", 2**16 - 2**12 + job))
            except OSError:
                continue
            return job
    raise RuntimeError("no port is free")
