"""Several processes that train or measure together, on one machine or on many, on JAX's own runtime.

With one process, which is the rule, everything here is free: nothing is started, agreed on or waited for.
"""

import atexit
import base64
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

import jax
import numpy as np
from jax._src import distributed  # its client is public in no other way; Orbax takes it from here, too

from cnn.runtime import joining, lock_files, locks, presence, signals
from cnn.runtime.joining import AUTO
from cnn.runtime.shares import WHOLE, Share

HEARTBEAT_SECONDS = 100  # of JAX's own watch, which aborts: the last resort, long after `cnn.runtime.presence`
SHUTDOWN_SECONDS = 30
SEEN_SECONDS = 60.0  # after which a file that one process has made is seen by all: file systems of networks may wait
WAIT_MILLISECONDS = 24 * 3600 * 1000  # nothing is waited for in vain: whoever is lost ends all
LOST = presence.LOST
_NUMBERS = itertools.count()  # of what is exchanged; all processes count alike


def start(coordinator: str, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes; call it before JAX is used, but for its settings.

    Args:
      coordinator: "HOST:PORT" of the first process, where PORT is free; "auto" where SLURM, Open MPI, Kubernetes or a
        TPU pod say who is who; "" for a process by itself.
      num_processes: number of processes; None with "auto".
      process_id: number of this one, from 0; None with "auto".

    Raises:
      ValueError: if these do not go together, or the port is taken. Where the processes do not find each other in
        time, this one ends with a line and the exit status 1.
    """
    numbers = (num_processes, process_id)
    if not coordinator:
        if numbers != (None, None):
            raise ValueError(
                f"--num_processes={num_processes} and --process_id={process_id} need --coordinator=HOST:PORT, the "
                "first process's address"
            )
        return
    if coordinator != AUTO:
        joining.check(coordinator, num_processes, process_id)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `cnn.runs.stopping`
    options: dict[str, Any] = {
        "initialization_timeout": joining.JOIN_SECONDS + 60,
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
    }
    options["shutdown_timeout_seconds"] = SHUTDOWN_SECONDS
    given = (
        {} if coordinator == AUTO else {"coordinator_address": coordinator, "cluster_detection_method": "deactivate"}
    )
    service = joining.Service()
    runtime: Any = vars(distributed)["_jax"]
    several, seconds = "all" if num_processes is None else f"all {num_processes}", joining.JOIN_SECONDS
    late = (
        f"--coordinator={coordinator}: the processes did not find each other within {seconds} s; start {several} "
        "with the same --coordinator, each with a --process_id of its own, where the port of the first is open to them"
    )
    with mock.patch.object(runtime, "get_distributed_runtime_service", service.begin), joining.in_time(late):
        try:
            jax.distributed.initialize(num_processes=num_processes, process_id=process_id, **given, **options)
        except (RuntimeError, ValueError) as error:
            service.shutdown()
            text = " ".join(str(error).split())[:300]
            way = "name it by --coordinator=HOST:PORT --num_processes=N --process_id=I" if coordinator == AUTO else ""
            way = way or f"start all {num_processes} processes with the same --coordinator within {seconds} s"
            raise ValueError(
                f"--coordinator={coordinator}: the processes did not find each other: {text}; {way}"
            ) from error
    if is_first():
        client().key_value_set("cnn/presence", json.dumps([service.port, count()]))
    port, all_of_them = json.loads(client().blocking_key_value_get("cnn/presence", joining.JOIN_SECONDS * 1000))
    address = str(distributed.global_state.coordinator_address)
    signals.at_sudden_end(lambda: presence.leave("it was stopped"))
    presence.join(address.rpartition(":")[0].strip("[]"), port, index(), count())
    atexit.register(finish)
    if all_of_them != count():
        raise ValueError(
            f"--num_processes={count()} in process {index()}, and {all_of_them} in process 0; start all with the same "
            "number"
        )
    jax.devices()  # all wait here for each other's
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what is said is said once, by the first process


def client() -> Any:
    """JAX's client of the coordination service."""
    return distributed.global_state.client


def next_number() -> int:
    """A number for what is exchanged next; all processes count alike."""
    return next(_NUMBERS)


def count() -> int:
    """Number of processes that work together; 1 if none was joined."""
    return distributed.global_state.num_processes or 1


def index() -> int:
    """Number of this process, from 0."""
    return distributed.global_state.process_id or 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return index() == 0


def share() -> Share:
    """This process's share of a data set's examples: those that its devices hold, each device as many.

    Returns:
      The share; the whole with one process.

    Raises:
      ValueError: if the devices of processes do not lie one after another, which no runtime of JAX does.
    """
    if count() == 1:
        return WHOLE
    places = [i for i, device in enumerate(jax.devices()) if device.process_index == index()]
    if not places or places[-1] - places[0] != len(places) - 1:
        raise ValueError(f"process {index()} has the devices {places} of {jax.device_count()}, not neighbouring ones")
    return Share(places[0], places[-1] + 1, jax.device_count())


def barrier(name: str) -> None:
    """Waits until all processes are here.

    Args:
      name: what they wait for; the same in all.
    """
    if count() > 1:
        client().wait_at_barrier(f"cnn/{next(_NUMBERS)}/{name}", WAIT_MILLISECONDS)


def gather(value: Any) -> list[Any]:
    """What each process has, in all of them.

    Args:
      value: a small value that JSON can hold; all processes call this alike.

    Returns:
      The values by number of the process, as JSON has them: lists for tuples.
    """
    text = json.dumps(value)
    if count() == 1:
        return [json.loads(text)]
    number = next(_NUMBERS)
    client().key_value_set(f"cnn/{number}/{index()}", text)
    return [json.loads(client().blocking_key_value_get(f"cnn/{number}/{i}", WAIT_MILLISECONDS)) for i in range(count())]


def total(numbers: np.ndarray) -> np.ndarray:
    """The sum over all processes of whole numbers, exact.

    Args:
      numbers: int64, of the same shape in all processes; some thousand at most.

    Returns:
      int64 of that shape.
    """
    if count() == 1:
        return numbers
    mine = np.ascontiguousarray(numbers, np.int64)
    parts = gather(base64.b64encode(mine.tobytes()).decode())
    arrays = [np.frombuffer(base64.b64decode(part), np.int64).reshape(mine.shape) for part in parts]
    return np.sum(arrays, axis=0)


def from_first(compute: Callable[[], Any]) -> Any:
    """What the first process finds, in all of them: for what lies in files that it alone reads.

    Args:
      compute: called in the first process alone.

    Returns:
      Its value as JSON has it; with one process, the value itself.

    Raises:
      ValueError: with the same text in all processes, where it raises one, or an OSError, in the first.
    """
    if count() == 1:
        return compute()
    found, failed = None, None
    if is_first():
        try:
            found = compute()
        except (ValueError, OSError) as error:
            failed = error
    value, text = gather([found, None if failed is None else str(failed)])[0]
    if failed is not None:
        raise failed
    if text is not None:
        raise ValueError(text)
    return value


@contextlib.contextmanager
def alone(folder: str, what: str, *, seen: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, for all processes: the first one takes it (`cnn.runtime.locks.alone`).

    Args:
      folder: the folder.
      what: what is locked, at the beginning of messages: "--workdir=runs/mnist".
      seen: whether all processes must see the folder, because all write there.

    Raises:
      Taken: if a process that is none of these holds it; a ValueError in all but the first.
      OSError: if the lock cannot be written.
      ValueError: in all processes, if one of them does not see the folder; names it.
    """
    path = os.path.join(folder, locks.NAME)
    with contextlib.ExitStack() as held:

        def take() -> None:
            held.enter_context(locks.alone(path, what))

        from_first(take)
        if seen:
            check_seen(path, what)
        yield


def check_seen(path: str, what: str) -> None:
    """Makes sure that all processes see a lock that the first one has just taken, and so the place that it locks.

    Args:
      path: the lock's file.
      what: what is locked, at the beginning of the message.

    Raises:
      ValueError: in all processes, if one of them does not see it; names it.
    """
    if count() == 1:
        return

    def content() -> str:
        found = lock_files.read(path)
        return found.content.decode() if found else ""

    wanted, end = from_first(content), time.monotonic() + SEEN_SECONDS
    while not (sees := content() == wanted) and time.monotonic() < end:
        time.sleep(0.5)
    blind = [i for i, one in enumerate(gather(sees)) if not one]
    if blind:
        raise ValueError(
            f"{what}: process {', '.join(map(str, blind))} of {count()} does not see this place as process 0 does: "
            f"{path} is not there, or another; all write to one place, on a file system that all of them see"
        )


def agree(what: str, fields: dict[str, Any]) -> None:
    """Checks that all processes were given the same.

    Args:
      what: what is compared, for the message: "config".
      fields: values that JSON can hold, by name.

    Raises:
      ValueError: in all processes, with the first field that differs, its values and the processes that have them.
    """
    if count() == 1:
        return
    all_of_them = gather(fields)
    first = all_of_them[0]
    for i, other in enumerate(all_of_them):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"the processes have different {what}: {name} is {_short(first.get(name))} in process 0 and "
                    f"{_short(other.get(name))} in process {i}; start all with the same command, code and data"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_loss(error: BaseException) -> bool:
    """Whether an error is what is felt where another process is lost: of JAX's runtime, or its sums over processes."""
    return count() > 1 and (isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error))


def leave(status: int, text: str) -> NoReturn:
    """Ends this process before its work is done, and lets the others know why.

    Args:
      status: its exit status.
      text: why, in a line, which the others say.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    presence.leave(text)
    os._exit(status)  # JAX's own goodbye would wait for processes that wait for this one


def finish() -> None:
    """Says goodbye, once the work of all is done; with one process nothing is to be done."""
    if count() == 1 or client() is None:
        return
    error = getattr(sys, "last_value", None)
    if error is not None:  # of a program of the user's own, which ends by it
        if is_loss(error):
            presence.wait_for_verdict()
        leave(1, f"{type(error).__name__}: {error}")
    watch = signals.watch()
    with watch.kept() if watch else contextlib.nullcontext():  # all end now, whichever was asked to
        barrier("end")
    presence.end()
    jax.distributed.shutdown()
