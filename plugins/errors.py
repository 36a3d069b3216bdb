"""The one exception that tells a user what to change."""


class InputError(ValueError):
    """Bad input from outside: a config key, a file, a row, an argument.

    The message is one line: the culprit (file and line, or key), what was found, what was expected,
    and the nearest valid choice where there is one. The tools print it without a traceback; every
    other exception is a defect of ours and keeps its traceback.
    """
