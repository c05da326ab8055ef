"""What Orbax logs of its own errors: hundreds of lines of traceback, beside the error that it raises as well."""

import logging

from absl import logging as absl_logging


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log says what is not raised, or is asked for (-v=1)."""
    of_orbax = "orbax" in record.pathname and record.levelno >= logging.ERROR
    return not of_orbax or absl_logging.get_verbosity() > absl_logging.INFO


def raised_alone() -> None:
    """Leaves Orbax's errors out of the log, as they are raised."""
    logging.getLogger("absl").addFilter(_is_news)  # once, however often it is called
