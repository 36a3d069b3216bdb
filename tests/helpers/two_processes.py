"""Run a function in two real gloo processes."""

import socket

from plugins.engine import launch


def in_two_processes(worker, *args) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    launch(worker, 2, 1, 0, url, "cpu", args)
