"""Where cells run: in this process, one after another, or on a Ray cluster, side by side."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from cnn.runtime import own_code, signals
from experiments.ablation.cells import Done, Job, run_cell

EXECUTORS = ("local", "ray")
Outcome = tuple[Job, Done | Exception]


def run(jobs: Sequence[Job], executor: str = "local", **options: Any) -> Iterator[Outcome]:
    """Runs jobs and gives each one's result as it comes.

    Args:
      jobs: the cells to run.
      executor: "local": in this process; "ray": see `on_ray`.
      **options: further arguments of `on_ray`.

    Yields:
      (job, its result), or the error that a user can mend (a field, or a net that does not fit); others are raised.

    Raises:
      ValueError: for another executor.
      ModuleNotFoundError: if Ray is asked for and not installed; says how.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"--executor={executor}: must be one of {', '.join(EXECUTORS)}")
    return on_ray(jobs, **options) if executor == "ray" else here(jobs)


def here(jobs: Iterable[Job]) -> Iterator[Outcome]:
    """Runs jobs in this process, on all its devices, one after another.

    Args:
      jobs: the cells to run.

    Yields:
      As `run`.
    """
    for job in jobs:
        yield job, _try(job)


def on_ray(
    jobs: Sequence[Job], address: str = "", cpus: float = 1, gpus: float = 0, cpu_devices: int = 1
) -> Iterator[Outcome]:
    """Runs each job as a Ray task; a new local cluster is started where no address is given.

    Code and data are read on the cluster's machines: the project must lie at the same path on all of them, and
    `data.dir` be a folder that all of them see.

    Args:
      jobs: the cells to run.
      address: address of a running cluster ("auto": the one that this machine belongs to); "": a new local one.
      cpus, gpus: how many CPUs and GPUs of the cluster each job takes.
      cpu_devices: JAX devices of each worker that runs on CPU.

    Yields:
      As `run`, in the order in which jobs end.

    Raises:
      ModuleNotFoundError: if Ray is not installed; says how.
    """
    try:
        import ray.cloudpickle  # pyright: ignore[reportMissingImports]  optional: requirements-ray.txt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            '--executor=ray needs Ray: python -m pip install -r requirements-ray.txt (or the package\'s extra "ray")',
            name="ray",
        ) from error

    for module in own_code.loaded():  # the workers cannot import a study of the user's own by its name
        ray.cloudpickle.register_pickle_by_value(module)
    ray.init(address=address or "local", include_dashboard=False, log_to_driver=False)
    watch = signals.watch()
    if watch is not None:
        watch.install()  # Ray's own handler of SIGTERM ends with another status
    try:
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1)(_in_worker)
        waiting = {task.remote(job, cpu_devices): job for job in jobs}
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(ended[0]), ray.get(ended[0])
    finally:
        ray.shutdown()


def _in_worker(job: Job, cpu_devices: int) -> Done | Exception:
    """A job in a process of its own, which knows nothing of the driver's settings."""
    from cnn.runtime import compiler, process

    process.keep_memory()
    compiler.cache_compilations()
    process.use_cpu_devices(cpu_devices, job.configs[0].train.batch_size)
    return _try(job)


def _try(job: Job) -> Done | Exception:
    try:
        return run_cell(job)
    except (ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:  # the last: no memory left, mostly
        return error
