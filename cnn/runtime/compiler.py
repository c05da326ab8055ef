"""What the compiler is told, and where its programs are kept."""

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.core

Options = dict[str, str | int]  # for `jax.jit(compiler_options=)`
_YNNPACK_FOR_SUMS_ALONE: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
_WIDE_VECTORS: Options = {"xla_cpu_prefer_vector_width": 512}
_FEW_OPTIMISATIONS: Options = {"xla_backend_optimization_level": 1}
LARGE_NET = 50_000_000  # multiply-adds for one example


def cache_compilations(folder: str = "auto") -> str | None:
    """Keeps compiled programs in a folder, for the next process that runs the same ones.

    On two cores, beside other work, `full_cnn` was at its first step after 4 seconds instead of 13 or more. Programs
    depend on the versions of JAX (which are part of their keys) and on the processor (each has a folder of its own).
    Nothing is ever removed from the folder; it may be deleted at any time.

    Args:
      folder: where; "auto": what JAX was told already ($JAX_COMPILATION_CACHE_DIR), else `cnn-jax` in the user's cache
        directory ($XDG_CACHE_HOME, else ~/.cache); "": nowhere.

    Returns:
      The folder; None if there is none, also if it cannot be made.
    """
    told = cast(Any, jax.config).jax_compilation_cache_dir
    if folder == "auto" and told:
        return str(told)
    if not folder:
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    if folder == "auto":
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.path.join(home, "cnn-jax")
    folder = os.path.join(folder, _processor())
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        print(f"compiled programs are not kept: {error}", file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", folder)
    # Small programs too: a dozen run before the first step, each compiled in 15 ms and loaded in 2.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def _processor() -> str:
    """A short name that differs between processors with different instructions."""
    try:
        with open("/proc/cpuinfo") as file:
            told = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        told = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


@functools.cache
def _is_known(option: str, value: str | int) -> bool:
    """Whether this XLA takes an option; some are experimental, and later versions may have none."""
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def options_for(platform: str, devices: int, multiply_adds: int) -> Options:
    """What `jax.jit` is told when it compiles a net, or its training step, for a CPU.

    XLA:CPU hands convolutions and products to YNNPACK, which is slower than XLA's own where they are wide: on two
    cores and devices `vgg11` on 64x64 images trains 1.2 to 1.4 times as fast without it, `full_cnn` and `qa_net`
    alike, `lenet5` 5 to 8 % slower. On one device `full_cnn` is 1.35 times as fast without it, and with it a step
    of 512 examples takes four times as long as one of 256.

    XLA uses vectors of 256 bits unless told otherwise; with 512, where the processor has them, `qa_net` trains 1.2
    times as fast, wider nets alike.

    Args:
      platform: "cpu", "gpu" or "tpu".
      devices: how many the program runs on.
      multiply_adds: of the net, for one example (`cnn.geometry.table(...).macs`).

    Returns:
      On CPU, and if this XLA knows the options: wide vectors; for large nets and single devices, that YNNPACK
      computes nothing but sums. Else nothing.
    """
    if platform != "cpu":
        return {}
    own_products = multiply_adds >= LARGE_NET or devices == 1
    wanted = {**_WIDE_VECTORS, **(_YNNPACK_FOR_SUMS_ALONE if own_products else {})}
    return {option: value for option, value in wanted.items() if _is_known(option, value)}


def _platform() -> str:
    """Of the first local device."""
    return jax.local_devices()[0].platform


class Compiled:
    """A function as `jax.jit` makes it with options of the compiler.

    XLA takes options for whole programs alone: where the function is a part of one (another `jax.jit`, `jax.vmap` or
    `jax.grad` around it), it is `jax.jit` without them. The devices are looked at in the first call, not at import.
    """

    def __init__(
        self, function: Callable[..., Any], options: Callable[[], Options], static_argnums: int | tuple[int, ...] = ()
    ) -> None:
        """Wraps a function.

        Args:
          function: what to compile.
          options: gives those of the compiler.
          static_argnums: arguments that are hashable and no arrays.
        """
        functools.update_wrapper(self, function)
        jit = functools.partial(jax.jit, function, static_argnums=static_argnums)
        self._part = jit()
        self._whole = functools.cache(lambda: jit(compiler_options=options()))

    def __call__(self, *arguments: Any) -> Any:
        """Calls it, compiled."""
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return (self._part if traced else self.whole)(*arguments)

    @property
    def whole(self) -> Any:
        """What `jax.jit` returned, with the options."""
        return self._whole()


def jit_net(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = 0) -> Compiled:
    """`jax.jit` for a function that runs a net on one device; a decorator.

    Args:
      function: what to compile.
      static_argnums: arguments that are hashable and no arrays.

    Returns:
      The function, compiled as `options_for` has it.
    """
    return Compiled(function, lambda: options_for(_platform(), 1, LARGE_NET), static_argnums)


def jit_once(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = ()) -> Compiled:
    """`jax.jit` for a function of cheap operations that runs once; a decorator.

    Compiling takes longer than running such a program, as the one that makes a net's variables; few optimisations
    shorten it and give the same bits.

    Args:
      function: what to compile.
      static_argnums: arguments that are hashable and no arrays.

    Returns:
      The function, compiled with few optimisations on CPU.
    """

    def options() -> Options:
        on_cpu = _platform() == "cpu"
        return {name: value for name, value in _FEW_OPTIMISATIONS.items() if on_cpu and _is_known(name, value)}

    return Compiled(function, options, static_argnums)
