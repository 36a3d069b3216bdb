"""The one exception that tells a user what to change."""

import functools
import sys
from collections.abc import Callable

import torch


class InputError(ValueError):
    """Bad input from outside: a config key, a file, a row, an argument.

    The message is one line: the culprit (file and line, or key), what was found, what was expected,
    and the nearest valid choice where there is one. The tools print it without a traceback; every
    other exception is a defect of ours and keeps its traceback.
    """


def user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main``: an InputError becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def reporting(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            # A loader's worker puts its traceback before the message.
            message = str(error).strip().splitlines()[-1]
            prefix = f"{InputError.__module__}.{InputError.__name__}: "
            sys.stderr.write(f"error: {message.removeprefix(prefix)}\n")
            sys.exit(2)
        except torch.multiprocessing.ProcessExitedException as error:
            sys.exit(error.exit_code)

    return reporting
