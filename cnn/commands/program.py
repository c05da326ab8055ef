"""Starts a command: parses its flags, shows its help, and answers what a user can mend in one line.

Exit status: 0 after success and help, 1 after an error, 2 after a mistake on the command line. After a signal, for
which a training run is saved first, 128 and its number: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 141
where what reads the output has ended; 75 where another process of the run was lost or failed
(`cnn.runtime.presence`).
"""

import os
import shutil
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, logging
from absl import flags as absl_flags

from cnn.commands import flags
from cnn.runs import config_files, defaults
from cnn.runtime import output, signals

# What a user can mend, if the message says how: a field, a file, a package that is missing, memory.
MENDABLE = (ValueError, OSError, FloatingPointError, MemoryError, ModuleNotFoundError)
HELP = ("-h", "-help", "--help", "-?", "--helpshort", "--helpfull")


def start(
    main: Callable[[], None],
    example: str,
    stopped: Callable[[], str] | None = None,
    take: Callable[[list[str]], None] | None = None,
) -> None:
    """Runs a command; called by its module where that is the program.

    Args:
      main: the function that does the command's work, once its flags are parsed. It raises `absl.app.UsageError` for
        flags that do not go together, and one of `MENDABLE` for what the user can mend.
      example: a flag of the command, to show an argument's form: "--workdir=DIR".
      stopped: the line that is printed after Ctrl-C; None: that the same command starts again.
      take: takes what stands on the command line beside flags, or raises `absl.app.UsageError`; None: nothing may.
    """

    def line() -> str:
        return stopped() if stopped else "stopped; the same command starts it again"

    watch = signals.begin(line)
    output.guard(lambda: watch.ask(signals.PIPE))

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not take:
            usage_error(f"unknown argument {argv[1]!r}; flags look like {example}")
        logging.set_verbosity(logging.get_verbosity() if absl_flags.FLAGS["verbosity"].present else logging.WARNING)
        try:
            if take and len(argv) > 1:
                take(argv[1:])
            main()
        except app.UsageError as error:
            _leave(2, f"error: {error}", error)
            usage_error(str(error))
        except KeyboardInterrupt as error:
            if not getattr(error, "together", False):
                _leave(128 + getattr(error, "signal", signal.SIGINT), _text(line), error, "it was stopped")
            raise
        except MENDABLE as error:
            # One line; anything else keeps its traceback, and -v=1 shows that of these too.
            logging.vlog(1, "%s", error, exc_info=True)
            if watch.first is None:
                _leave(1, f"error: {error}", error)
                watch.end(1)
                sys.exit(f"error: {error}")
            _leave(128 + watch.first, f"error: {error}", error)
            _say(f"error: {error}")  # what could not be saved is said; the status is the signal's
            raise signals.Stopped(watch.first) from error
        except Exception as error:
            if watch.first is None:
                _leave(1, "", error)
                raise
            _leave(128 + watch.first, _text(line), error, "it was stopped")
            raise signals.Stopped(watch.first) from error  # of a library that was interrupted

    try:
        app.run(guarded, flags_parser=_parse)
    except KeyboardInterrupt as error:
        watch.end()
        number = getattr(error, "signal", signal.SIGINT)
        if number != signals.PIPE or watch.noted:  # nothing is printed for a reader that closed the pipe early
            _say(_text(line))
        sys.exit(128 + number)
    finally:
        watch.end()


def _text(line: Callable[[], str]) -> str:
    """The line after a stop; before flags are parsed nothing is known."""
    try:
        return line()
    except Exception:
        return "stopped; the same command starts it again"


def _say(text: str) -> None:
    print("\n" * sys.stderr.isatty() + text, file=sys.stderr, flush=True)


def _leave(status: int, line: str, error: BaseException, why: str = "") -> None:
    """Ends one of several processes so that the others know of it; nothing is to be done for a process by itself.

    Args:
      status: its exit status.
      line: what it says; "": the traceback of the error.
      error: what ends it.
      why: what the others say; "": the line, or the error.
    """
    if "cnn.runtime.processes" not in sys.modules:
        return
    from cnn.runtime import presence, processes

    if processes.count() == 1:
        return
    if processes.is_loss(error):
        presence.wait_for_verdict()  # which names the process that was lost, and ends this one
    if line:
        print(line, file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    processes.leave(status, why or line or f"{type(error).__name__}: {error}")


def usage_error(message: str) -> NoReturn:
    """Ends the program with one line on what is wrong with its flags, and where help is.

    Args:
      message: the sentence that says what is wrong.
    """
    print(f"error: {message}\n{_name()} --help shows all flags", file=sys.stderr)
    sys.exit(2)


def _parse(argv: list[str]) -> list[str]:
    """For absl: parses the flags, the config's fields among them."""
    if any(argument in HELP for argument in argv[1:]):
        try:
            print(help_text(), flush=True)
        except BrokenPipeError:  # as of `--help | head`; nothing may be written when the process ends either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    try:
        argv = absl_flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
        for config in flags.CONFIG_FLAGS:
            argv = config.take(argv)
        absl_flags.FLAGS.set_gnu_getopt(True)  # flags after names of files are flags too
        rest = absl_flags.FLAGS(argv)
        flags.check_finite("nodata")
        for config in flags.CONFIG_FLAGS:
            config.finish()
    except (absl_flags.Error, FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        logging.vlog(1, "%s", error, exc_info=True)
        usage_error(" ".join(str(error).split()))
    return rest


def help_text() -> str:
    """The command's description, its flags, and the fields of its config.

    Returns:
      Text for a terminal as wide as this one, 100 columns at most.
    """
    width = min(100, shutil.get_terminal_size().columns)
    parts = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
    for config in flags.CONFIG_FLAGS:
        parts.append(_entry("--config", config.meaning, config.default, width))
    # Those of this project's modules alone: libraries define flags too.
    own = ("cnn.", "experiments.", "benchmarks.", sys.argv[0])
    found: dict[str, Any] = {}
    for module, defined in absl_flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(own):
            found |= {flag.name: flag for flag in defined}
    for name, flag in sorted(found.items()):
        parts.append(_entry(f"--{name}", flag.help, flag.default, width))
    if flags.CONFIG_FLAGS:
        parts += ["", "Fields of the config, each set by --config.FIELD=VALUE:"]
        for field in defaults.FIELDS:
            default = None if isinstance(field.default, type) else field.default
            parts.append(_entry(field.name, field.meaning, default, width))
        known = config_files.folder()
        if known:
            names = sorted(file[:-3] for file in os.listdir(known) if file.endswith(".py") and file != "__init__.py")
            parts += ["", *textwrap.wrap(f"Configs by name: {', '.join(names)}.", width)]
    return "\n".join(parts)


def _entry(name: str, meaning: str, default: Any, width: int) -> str:
    shown = "" if default in (None, "", [], {}) else f" [{default}]"
    lines = textwrap.wrap(" ".join(f"{meaning}{shown}".split()), max(20, width - 6))
    return "\n".join([f"  {name}", *(f"      {line}" for line in lines)])


def _name() -> str:
    """The command as it was started: "python main.py"."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {os.path.basename(sys.argv[0])}"
