"""How processes come together: JAX's coordination service in a process of its own, and limits of what is given."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

AUTO = "auto"
JOIN_SECONDS = 300  # for all processes to start


@contextlib.contextmanager
def in_time(late: str) -> Iterator[None]:
    """Ends this process, with a line, where a block takes longer than all may: JAX would abort it, and say no more.

    Args:
      late: what is said then.
    """

    def give_up() -> None:
        os.write(2, f"error: {late}\n".encode())
        os._exit(1)

    timer = threading.Timer(JOIN_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    """Checks how a process is to join the others.

    Args:
      coordinator: address of the first process, "HOST:PORT".
      num_processes: number of processes.
      process_id: number of this one.

    Raises:
      ValueError: for an address or numbers that cannot be.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--coordinator={coordinator}: must be HOST:PORT, such as 10.0.0.1:8476, or {AUTO}")
    if num_processes is None or process_id is None:
        raise ValueError(
            f"--coordinator={coordinator} needs --num_processes=N and --process_id=I, from 0 to N - 1; or "
            f"--coordinator={AUTO} where SLURM, Open MPI, Kubernetes or a TPU pod know them"
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id}: must be from 0 to {num_processes - 1}, below --num_processes={num_processes}"
        )


class Service:
    """The coordination service in a process of its own (`cnn.runtime.coordinator`); JAX takes it for its own."""

    def __init__(self) -> None:
        self.port, self._child = 0, None

    def begin(self, address: str, processes: int, heartbeat_timeout: int, shutdown_timeout: int, **_: Any) -> "Service":
        """Starts it; the arguments are those that JAX gives its own."""
        command = [sys.executable, "-m", "cnn.runtime.coordinator"]
        command += [address, *map(str, (processes, heartbeat_timeout, shutdown_timeout))]
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is not for it
        )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self.shutdown()
            raise RuntimeError(f"nothing can listen at {address}: is the port taken?")
        self.port = int(json.loads(line)["port"])
        return self

    def shutdown(self) -> None:
        """Ends it."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            try:
                child.stdin.write("e")
                child.stdin.close()
            except OSError:  # it has ended by itself
                pass
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
