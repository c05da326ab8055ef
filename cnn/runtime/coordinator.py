"""The process that all processes of a run meet in: JAX's coordination service, and who is still there.

It is a child of the first process and outlives it: were the service a part of the first process, as JAX has it, the
others would be aborted without a word on who was lost. Each process holds a connection to it. One that closes without a
goodbye, or is silent for `SILENCE` seconds, is lost, and all others are notified.

    python -m cnn.runtime.coordinator ADDRESS PROCESSES HEARTBEAT SHUTDOWN

Lines are JSON. From a process: {"hello": index}, {"beat": 1}, {"end": 1}, {"left": text}. To all: {"lost": index} or
{"left": text, "process": index}; to one that was silent for too long, before it is lost: {"silent": seconds}. The first
line on standard output is {"port": port}.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any

BEAT = 5.0  # seconds between two signs of life
SILENCE = 30.0  # seconds after which a silent process counts as lost: its machine, or the network, is gone
PATIENCE = 5.0  # seconds for the service of a run that was stopped to leave its port
FORGOTTEN = 120.0  # seconds that the service waits for processes that never say anything once its parent is gone


class Roll:
    """Who is there: the connections of all processes, and what is said about those that went."""

    def __init__(self, listening: socket.socket) -> None:
        """Takes a listening socket."""
        self.selector = selectors.DefaultSelector()
        self.listening = listening
        self.selector.register(listening, selectors.EVENT_READ)
        self.there: dict[socket.socket, dict[str, Any]] = {}
        self.said: list[dict[str, Any]] = []

    def turn(self) -> None:
        """Waits at most a second for something to happen, and passes on what did."""
        for key, _ in self.selector.select(1.0):
            if key.fileobj is self.listening:
                self._accept()
            elif isinstance(key.fileobj, socket.socket):
                self._read(key.fileobj)
        for connection, one in list(self.there.items()):
            if time.monotonic() > one["heard"] + SILENCE:
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps({"silent": SILENCE}).encode() + b"\n")
                self._gone(connection)

    def _accept(self) -> None:
        connection, _ = self.listening.accept()
        connection.settimeout(SILENCE)
        self.selector.register(connection, selectors.EVENT_READ)
        self.there[connection] = {"heard": time.monotonic(), "index": None, "rest": b""}
        for line in self.said:
            self._send(connection, line)

    def _read(self, connection: socket.socket) -> None:
        one = self.there.get(connection)
        if one is None:  # lost a moment ago, with another one
            return
        try:
            read = connection.recv(65536)
        except OSError:
            read = b""
        if not read:
            self._gone(connection)
            return
        one["heard"] = time.monotonic()
        *lines, one["rest"] = (one["rest"] + read).split(b"\n")
        for line in lines:
            try:
                self._take(connection, one, dict(json.loads(line)))
            except (ValueError, TypeError):  # no process of the run: whatever looks for open ports on a cluster
                self._forget(connection)
                return

    def _take(self, connection: socket.socket, one: dict[str, Any], line: dict[str, Any]) -> None:
        if "hello" in line:
            one["index"] = line["hello"]
        elif "end" in line:
            self._forget(connection)
        elif "left" in line:
            self._forget(connection)
            self._tell({"left": line["left"], "process": one["index"]})

    def _gone(self, connection: socket.socket) -> None:
        index = self.there[connection]["index"]
        self._forget(connection)
        if index is not None:
            self._tell({"lost": index})

    def _forget(self, connection: socket.socket) -> None:
        if self.there.pop(connection, None) is not None:
            self.selector.unregister(connection)
            connection.close()

    def _tell(self, line: dict[str, Any]) -> None:
        self.said.append(line)
        for connection in list(self.there):
            self._send(connection, line)

    def _send(self, connection: socket.socket, line: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(line).encode() + b"\n")
        except OSError:
            self._forget(connection)


def _listening(port: int) -> socket.socket:
    """A socket that listens at a port of all addresses; 0: at any."""
    both = socket.has_dualstack_ipv6()
    return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)


def _is_free(port: int) -> bool:
    """Whether nobody listens at a port, once those had time to end whose run was stopped.

    JAX's service does not ask: two of them share a port in silence, and mix the processes of two runs.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            _listening(port).close()
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)


def main() -> None:
    """Serves until the first process says goodbye, or is gone and so are all others."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the processes, which end this one
        signal.signal(number, signal.SIG_IGN)
    # Not the whole of JAX, which takes a second.
    runtime: Any = importlib.import_module("jaxlib._jax")
    address, processes, heartbeat, shutdown = sys.argv[1:]
    if not _is_free(int(address.rpartition(":")[2])):
        return
    service = runtime.get_distributed_runtime_service(
        address, int(processes), heartbeat_timeout=int(heartbeat), shutdown_timeout=int(shutdown)
    )
    roll = Roll(_listening(0))
    print(json.dumps({"port": roll.listening.getsockname()[1]}), flush=True)
    roll.selector.register(sys.stdin, selectors.EVENT_READ)
    orphaned = None
    while True:
        roll.turn()
        if orphaned is None and roll.selector.get_map() and _readable(roll):
            if os.read(sys.stdin.fileno(), 1):  # the first process ends, after all others
                service.shutdown()
                return
            roll.selector.unregister(sys.stdin)
            orphaned = time.monotonic()
        if orphaned is not None and (not roll.there or time.monotonic() > orphaned + FORGOTTEN):
            return


def _readable(roll: Roll) -> bool:
    """Whether standard input has a byte, or has ended."""
    return any(key.fileobj is sys.stdin for key, _ in roll.selector.select(0))


if __name__ == "__main__":
    main()
