"""Options of the XLA compiler, and where compiled programs are kept."""

import functools
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.core

from cnn.runtime.programs import Programs

Options = dict[str, str | int]  # for `jax.jit(compiler_options=)`
_YNNPACK_FOR_SUMS_ALONE: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
_WIDE_VECTORS: Options = {"xla_cpu_prefer_vector_width": 512}
_FEW_OPTIMISATIONS: Options = {"xla_backend_optimization_level": 1}
LARGE_NET = 50_000_000  # multiply-adds for one example


def cache_compilations(folder: str = "auto") -> str | None:
    """Keeps compiled programs in a folder, for the next process that runs the same ones.

    benchmarks/results/startup.md has the time until the first training step with an empty and with a full folder.
    Compiled programs depend on the version of JAX, which is part of the key under which they are stored, and on the
    processor, of which each kind has a folder of its own. Nothing is ever removed from the folder; it may be deleted at
    any time.

    Args:
      folder: path of the folder; "auto": the one that JAX is set to already ($JAX_COMPILATION_CACHE_DIR), else
        `cnn-jax` in the user's cache directory ($XDG_CACHE_HOME, else ~/.cache); "": compiled programs are not kept.

    Returns:
      The folder that is used; None if programs are not kept, also where the folder cannot be made.
    """
    known = cast(Any, jax.config).jax_compilation_cache_dir
    if folder == "auto" and known:
        return str(known)
    if not folder:
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    if folder == "auto":
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.path.join(home, "cnn-jax")
    folder = os.path.join(folder, _processor())
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # else each program that is compiled would warn
            pass
    except OSError as error:
        print(f"compiled programs are not kept: {error}", file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", folder)
    # Small programs are kept too: a dozen of them run before the first step, and loading one is faster than compiling.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def _processor() -> str:
    """A short name that differs between processors with different instruction sets."""
    try:
        with open("/proc/cpuinfo") as file:
            features = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"


@functools.cache
def is_known(option: str, value: str | int) -> bool:
    """Whether the installed XLA accepts an option; experimental ones may be gone in a later version.

    Args:
      option: name of an XLA flag.
      value: its value.

    Returns:
      Whether a program compiles with it.
    """
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def options_for(platform: str, devices: int, multiply_adds: int) -> Options:
    """The compiler options with which a net, or its training step, is fastest on a CPU.

    By default XLA:CPU hands convolutions and matrix products to the library YNNPACK. For wide nets such as `vgg11` this
    is slower than XLA's own code, and on a single device it is slower for `full_cnn` too, whose step then takes much
    longer from some batch size on; for small nets on several devices the two are about equal. XLA also uses vectors of
    256 bits by default; on processors that have them, vectors of 512 bits are faster for nets with few channels and
    equal for wider ones.

    Args:
      platform: "cpu", "gpu" or "tpu".
      devices: number of devices that the program runs on.
      multiply_adds: multiply-adds of the net for one example (`cnn.geometry.table(...).macs`).

    Returns:
      For `jax.jit(compiler_options=...)`. On CPU, as far as the installed XLA knows them: vectors of 512 bits; and, for
      large nets and single devices, that YNNPACK computes sums only. Elsewhere empty.
    """
    if platform != "cpu":
        return {}
    own_products = multiply_adds >= LARGE_NET or devices == 1
    wanted = {**_WIDE_VECTORS, **(_YNNPACK_FOR_SUMS_ALONE if own_products else {})}
    return {option: value for option, value in wanted.items() if is_known(option, value)}


def _platform() -> str:
    """Platform of the first local device: "cpu", "gpu" or "tpu"."""
    return jax.local_devices()[0].platform


class Compiled:
    """A function under `jax.jit` with options of the compiler.

    XLA accepts options for whole programs only. Where the function is traced as a part of a larger program (inside
    another `jax.jit`, `jax.vmap` or `jax.grad`), it is compiled without them. The options may depend on the devices, so
    they are chosen at the first call and not at import. At most `cnn.runtime.programs.MOST_PROGRAMS` programs are kept,
    or as many more as one map takes (`room_for`).
    """

    def __init__(
        self, function: Callable[..., Any], options: Callable[[], Options], static_argnums: int | tuple[int, ...] = ()
    ) -> None:
        """Wraps a function.

        Args:
          function: the function to compile.
          options: called without arguments at the first call; returns the compiler's options.
          static_argnums: positions of arguments that are hashable Python values and not arrays.
        """
        functools.update_wrapper(self, function)
        self._statics = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
        jit = functools.partial(jax.jit, static_argnums=static_argnums)
        chosen = functools.cache(options)
        self._part = jit(function)
        self._whole = functools.cache(lambda: jit(function, compiler_options=chosen()))
        self._programs = Programs(function, lambda copied: jit(copied, compiler_options=chosen()))

    def __call__(self, *arguments: Any) -> Any:
        """Calls the compiled function."""
        leaves = jax.tree.leaves([value for i, value in enumerate(arguments) if i not in self._statics])
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._part(*arguments)
        statics = tuple(arguments[i] for i in self._statics)
        return self._programs.of(statics, tuple(getattr(leaf, "shape", None) for leaf in leaves))(*arguments)

    @property
    def whole(self) -> Any:
        """The function as `jax.jit` returns it, with the options: to be lowered."""
        return self._whole()

    def room_for(self, count: int) -> None:
        """Says that one piece of work takes so many programs (`cnn.runtime.programs.Programs.room_for`)."""
        self._programs.room_for(count)

    @property
    def programs(self) -> int:
        """Number of programs that are kept (`cnn.runtime.programs`)."""
        return len(self._programs)


def jit_net(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = 0) -> Compiled:
    """`jax.jit` for a function that runs a net on one device; a decorator.

    Args:
      function: the function to compile.
      static_argnums: positions of arguments that are hashable Python values and not arrays.

    Returns:
      The function, compiled with the options that `options_for` gives for a large net on one device.
    """
    return Compiled(function, lambda: options_for(_platform(), 1, LARGE_NET), static_argnums)


def jit_once(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = ()) -> Compiled:
    """`jax.jit` for a function of cheap operations that runs once; a decorator.

    Such a program, for example the one that makes a net's variables, takes longer to compile than to run. With few
    optimisations it compiles faster and gives the same bits.

    Args:
      function: the function to compile.
      static_argnums: positions of arguments that are hashable Python values and not arrays.

    Returns:
      The function, compiled with few optimisations on CPU.
    """

    def options() -> Options:
        on_cpu = _platform() == "cpu"
        return {name: value for name, value in _FEW_OPTIMISATIONS.items() if on_cpu and is_known(name, value)}

    return Compiled(function, options, static_argnums)
