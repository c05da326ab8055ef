"""The checkpoints of a run on disk: written in the background, checked, read. The only module that imports Orbax.

A checkpoint has two parts, "variables" and "optimizer": a net is used without reading its optimiser's state.
"""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.options import MultiprocessingOptions

from cnn.runs import checksums, orbax_log, ranges, stopping
from cnn.runs.checksums import LATEST
from cnn.runtime import locks, processes, whole

_TRIES = 40  # times that the parts of a checkpoint that failed are removed
_OPENED = itertools.count()  # times that Orbax was opened; its barriers have names of their own by it

_WITHOUT_BEST = "; take the last one (--checkpoint=last), or train on without it (--config.checkpoint.best=False)"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; says which step, where, and what can be done."""


class Checkpoints:
    """The checkpoints in a workdir.

    Writing goes on in the background; a checkpoint appears under its name only when it is whole and has its checksums
    (`cnn.runs.checksums`), so a run killed at any moment finds the last complete one. Older ones are
    removed after that. Reading makes no folder.
    """

    def __init__(self, workdir: str, keep: int, folder: str = LATEST) -> None:
        """Opens a workdir's checkpoints.

        Args:
          workdir: directory of the run.
          keep: number of the latest checkpoints to keep.
          folder: name of their folder in the workdir; it is made with the first checkpoint.

        Raises:
          ValueError: if keep is below 1.
        """
        ranges.check_fields("checkpoint", {"keep": keep}, "keep")
        self.folder = os.path.abspath(os.path.join(workdir, folder))
        self._workdir, self._keep, self._copies = workdir, keep, folder == LATEST
        self._way_out = "; train again in another --workdir" if folder == LATEST else _WITHOUT_BEST
        self._writer: ocp.AsyncCheckpointer | None = None
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._publishing: tuple[int, Future[None]] | None = None
        self._right: set[int] = set()  # steps whose checksums were compared

    def latest_step(self) -> int | None:
        """Step of the latest complete checkpoint, one that is being written included; None if there is none."""
        return self._publishing[0] if self._publishing else checksums.latest(self.folder)

    def save(
        self, step: int, variables: Mapping[str, Any], optimizer: Any = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Saves a step, unless it is saved already.

        Args:
          step: number of steps done.
          variables: variables of the net.
          optimizer: the optimiser's state; None: the net is never trained on from here.
          facts: what else is known of the net, as JSON has it.

        Raises:
          OSError: if this one, or the one before it in the background, cannot be written; says where the run stands.
          Lost: if this process held a lock of the workdir, and has it no longer.
        """
        locks.check()
        if step == self.latest_step():
            return
        parts: dict[str, Any] = {"variables": ocp.args.StandardSave(variables)}
        if optimizer is not None:
            parts["optimizer"] = ocp.args.StandardSave(optimizer)
        if facts is not None:
            parts["facts"] = ocp.args.JsonSave(dict(facts))
        with stopping.kept():
            self._wait()
            copies = checksums.small_files(self._workdir) if self._copies else {}
            path = os.path.join(self.folder, f"{step}{checksums.WRITING}")
            with self._writes(step):
                self._probe()
                if self._writer is None:
                    orbax_log.raised_alone()
                    self._writer = ocp.AsyncCheckpointer(_handler(), **_by_itself())
                arguments = ocp.args.Composite(**parts)
                self._writer.save(path, args=arguments, force=True, custom_metadata=dict(checksums.MARK))
            self._publishing = step, self._publisher.submit(self._publish, self._writer, step, path, copies)

    def _publish(self, writer: ocp.AsyncCheckpointer, step: int, path: str, copies: Mapping[str, bytes]) -> None:
        """Gives a step its checksums and its name when all of it is written; then older ones may go."""
        writer.wait_until_finished()
        checksums.keep_copies(path, copies)
        checksums.write(path, step)
        checksums.sync(path)
        if os.path.lexists(os.path.join(self.folder, str(step))):  # damaged: else the step would not be saved again
            checksums.remove(self.folder, step)
        os.rename(path, os.path.join(self.folder, str(step)))
        checksums.sync(self.folder)
        whole = [one for one in checksums.steps(self.folder) if one <= step]
        whole = [one for one in whole if one == step or checksums.fault(self.folder, one, sizes_only=True) is None]
        for older in whole[self._keep :]:
            checksums.remove(self.folder, older)

    def _wait(self) -> None:
        """Waits for the checkpoint that is being written."""
        if self._publishing:
            step, published = self._publishing
            self._publishing = None
            with self._writes(step):
                published.result()

    @contextlib.contextmanager
    def _writes(self, step: int) -> Iterator[None]:
        """Raises one line for a step that cannot be written, and removes its unfinished files."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # Orbax and the libraries below it raise many kinds where a disk is full
            self._discard()
            last = checksums.latest(self.folder)
            before = "there is none before it" if last is None else f"that of step {last:,} stays"
            said = whole.cannot_write(f"the checkpoint of step {step:,} in {self.folder}", error)
            failed = OSError(f"{said}; {before}")
            failed.errno = said.errno
            raise failed from error

    def _probe(self) -> None:
        """Makes the folder, and raises at once what Orbax would find out in the background after minutes."""
        os.makedirs(self.folder, exist_ok=True)
        probe = os.path.join(self.folder, f".{os.getpid()}")
        try:
            os.mkdir(probe)
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(probe)

    def _discard(self) -> None:
        """Removes what was begun and never finished: threads that have not failed yet write to it for a moment more."""
        for _ in range(_TRIES):
            checksums.remove_unfinished(self.folder)
            if not checksums.unfinished(self.folder) or not os.access(self.folder, os.W_OK):
                return
            time.sleep(0.05)

    def restore(self, step: int, **parts: Any) -> dict[str, Any]:
        """Loads parts of a checkpoint.

        Args:
          step: number of the step that was saved.
          **parts: the parts wanted, "variables" and "optimizer", each a tree of arrays or `jax.ShapeDtypeStruct`s of
            the shapes, dtypes and shardings to load.

        Returns:
          The parts by name.

        Raises:
          CheckpointError: if it is not as it was written, cannot be read, or does not fit.
        """
        return self._restore(step, _arrays(parts))

    def _restore(self, step: int, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Loads parts, each by its arguments for Orbax."""
        self._wait()
        where = os.path.join(self.folder, str(step))
        fault = None if step in self._right else checksums.fault(self.folder, step)
        if fault:
            raise CheckpointError(f"the checkpoint of step {step:,} cannot be read: {where}: {fault}")
        self._right.add(step)
        try:
            with ocp.Checkpointer(_handler(), **_by_itself()) as reader:
                restored = reader.restore(where, args=ocp.args.Composite(**parts))
            return {name: restored[name] for name in parts}
        except MemoryError:
            raise
        except Exception as error:  # Orbax and the libraries below it raise whatever a damaged byte leads them to
            raise CheckpointError(
                f"the checkpoint of step {step:,} cannot be read: {where}: {_in_a_line(error)}"
            ) from error

    def restore_latest(self, **parts: Any) -> tuple[int, dict[str, Any]] | None:
        """Loads parts of the latest checkpoint that is as it was written; nothing is written or removed.

        Args:
          **parts: see `restore`.

        Returns:
          (step, the parts by name), after a line on standard error for each later one that cannot be read; None if
          there are no checkpoints.

        Raises:
          CheckpointError: if there are checkpoints, and none can be read.
        """
        return self._restore_latest(_arrays(parts))

    def latest_facts(self) -> tuple[int, dict[str, Any]] | None:
        """Loads the facts that were saved with the latest checkpoint that is as it was written.

        Returns:
          (step, the facts), as `restore_latest`.

        Raises:
          CheckpointError: if there are checkpoints, and none can be read.
        """
        found = self._restore_latest({"facts": ocp.args.JsonRestore()})
        return None if found is None else (found[0], found[1]["facts"])

    def _restore_latest(self, parts: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        self._wait()
        unread: list[CheckpointError] = []
        for step in checksums.steps(self.folder):
            try:
                found = self._restore(step, parts)
            except CheckpointError as error:
                unread.append(error)
                continue
            for error in unread:
                print(f"warning: {error}; step {step:,} before it is used", file=sys.stderr, flush=True)
            return step, found
        if unread:
            raise CheckpointError(f"{unread[0]}; no other checkpoint of the run can be read{self._way_out}")
        return None

    def drop_after(self, step: int) -> None:
        """Removes checkpoints beyond a step, and what was left of unfinished ones: they would stand in the way.

        Args:
          step: the latest step to keep.
        """
        self._wait()
        checksums.remove_unfinished(self.folder)
        for later in checksums.steps(self.folder):
            if later > step:
                checksums.remove(self.folder, later)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        """Waits until everything is on the disk; an error of the block is raised in place of one of writing."""
        failed: OSError | None = None
        with stopping.kept():
            try:
                self._wait()
            except OSError as error:
                failed = error
            self._publisher.shutdown()
            if self._writer is not None:
                with contextlib.suppress(Exception):  # it raises again what was raised above
                    self._writer.close()
            if failed and kind is None:
                raise failed


def _handler() -> ocp.CompositeCheckpointHandler:
    """What Orbax reads and writes the parts of a checkpoint by."""
    return ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**_by_itself()))


def _by_itself() -> dict[str, Any]:
    """Options with which Orbax asks no other process: the first one alone writes, and whoever reads is alone."""
    if processes.count() == 1:
        return {}
    own = processes.index()
    name = f"{own}-{next(_OPENED)}"
    alone = MultiprocessingOptions(primary_host=own, active_processes={own}, barrier_sync_key_prefix=name)
    return {"multiprocessing_options": alone}


def _arrays(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a checkpoint that are trees of arrays, as Orbax is asked for them."""
    return {name: ocp.args.StandardRestore(tree) for name, tree in parts.items()}


def _in_a_line(error: Exception) -> str:
    """The kind of an error and the beginning of its text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def latest_step(workdir: str, folder: str = LATEST) -> int | None:
    """Step of the latest complete checkpoint of a run, without reading what is in it.

    Args:
      workdir: directory of the run.
      folder: name of the checkpoints' folder in it.

    Returns:
      The latest step whose files are all there, in their sizes; None if there is none.
    """
    return checksums.latest(os.path.join(workdir, folder))


def fault(workdir: str, step: int) -> str | None:
    """What is wrong with a checkpoint, whose every byte is read.

    Args:
      workdir: directory of the run.
      step: number of the step.

    Returns:
      The end of a sentence about the step; None if it is as it was written.
    """
    return checksums.fault(os.path.join(workdir, LATEST), step)
