"""A process that tests fork is as one that Python starts."""

import os
import subprocess
import sys

import pytest

from tests.helpers import commands

pytestmark = pytest.mark.slow

SCRIPTS = {
    "words": "import sys; print(sys.argv[1:], __name__, sys.path[0] + '/x.py' == sys.argv[0])",
    "folder": "import os; print(os.getcwd(), sorted(os.environ))",
    "status": "raise SystemExit(3)",
    "success": "raise SystemExit",
    "message": "raise SystemExit('what went wrong')",
    "error": "{}['a key']",
    "ctrl-c": "raise KeyboardInterrupt",
    "signal": "import os; os.kill(os.getpid(), 9)",
    "end": "import atexit, threading; atexit.register(print, 'last')\n"
    "threading.Timer(0.1, print, ['first']).start()",
    "streams": "import sys; print('told'); print('warned', file=sys.stderr)",
    "ranks": "import multiprocessing as m; print(m.current_process().name, m.parent_process())",
    "signals": "import signal; print([signal.getsignal(number) for number in (2, 15, 17)])",
    "mask": "import signal as s; print(s.pthread_sigmask(s.SIG_BLOCK, ()))",
    "files": "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:3])",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_gives_what_a_new_process_gives(tmp_path, name):
    script = tmp_path / "x.py"
    script.write_text(SCRIPTS[name])
    words = [sys.executable, script, "a word", "--flag"]
    place = {"cwd": tmp_path, "env": {"LANG": "C.UTF-8", "ONE": "1"}}
    new = subprocess.run(words, **place, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    forked = commands.run(words, **place)
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


def test_output_and_errors_may_be_one_stream(tmp_path):
    (tmp_path / "x.py").write_text("import os; os.write(2, b'one'); os.write(1, b'two')")
    done = commands.run([sys.executable, tmp_path / "x.py"], merged=True)
    assert (done.stdout, done.stderr) == ("onetwo", "")


def test_no_two_draw_the_same_numbers_unless_they_are_seeded(tmp_path):
    (tmp_path / "x.py").write_text(
        "import random, numpy, torch\n"
        "print(random.random(), numpy.random.rand(), torch.seed(), sep='\\n')"
    )
    draws = [commands.run([sys.executable, tmp_path / "x.py"]).stdout.split() for _ in range(2)]
    assert all(one != other for one, other in zip(*draws, strict=True))


def test_one_that_hangs_is_killed(tmp_path):
    (tmp_path / "x.py").write_text("import os, time; open('pid', 'w').write(str(os.getpid()))\n"
                                   "time.sleep(60)")  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        commands.run([sys.executable, tmp_path / "x.py"], cwd=tmp_path, timeout=1.0)
    process = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(process, 0)
            subprocess.run(["sleep", "0.05"])
