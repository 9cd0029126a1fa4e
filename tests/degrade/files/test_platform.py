import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from degrade.files.platform import lock, process_lives, sync_folder
from degrade.images.codec import encode_image

ROOT = Path(__file__).parents[3]
POSIX_ONLY = re.compile(
    r"\b(import (fcntl|resource|pwd|grp|termios)|pthread_sigmask|sigwait|SIGKILL|SIGHUP|SIGALRM|os\.(kill|fork|pread|"
    r"pwrite|link|getuid|geteuid|killpg|setsid|O_DIRECTORY|mkfifo|sched_getaffinity|uname)\b)|[\"']/proc\b"
)
WINDOWS = """
import sys, signal, os
sys.modules.update(fcntl=None, resource=None, pwd=None, grp=None)
for name in ("pthread_sigmask", "sigwait", "SIGKILL", "SIGHUP"):
    delattr(signal, name)
for name in ("fork", "pread", "pwrite", "getuid", "geteuid", "mkfifo", "sched_getaffinity"):
    delattr(os, name)
opened = os.open
def no_folders(path, *rest, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return opened(path, *rest, **options)
os.open = no_folders
if __name__ == "__main__":
    sys.argv[0] = "degrade"
    from degrade.__main__ import main
    main()
"""


def test_a_data_set_is_made_without_the_calls_that_windows_lacks(tmp_path):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    (tmp_path / "in/a.png").write_bytes(encode_image(image, "png"))
    (tmp_path / "windows.py").write_text(WINDOWS)  # a file, which worker processes run again
    options = ["synth", "-i", "in", "-o", "out", "--crop-size", "64", "--preset", "bicubic", "--degrader", "none"]
    done = subprocess.run(
        [sys.executable, "windows.py", *options, "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "4 pairs in 4 shards" in done.stdout, done.stderr
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_only_the_module_for_it_makes_calls_that_windows_lacks():
    found = {}
    for package in ("degrade", "upsample", "pipelines", "cli"):
        for path in (ROOT / package).rglob("*.py"):
            if match := POSIX_ONLY.search(path.read_text()):
                found[path.relative_to(ROOT).as_posix()] = match[0]
    assert found.keys() == {"degrade/files/platform.py"}


def test_a_system_without_locks_says_so_by_an_error_number(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "a").open("w") as file, pytest.raises(OSError) as error:
        lock(file.fileno())
    assert error.value.errno == errno.ENOSYS


def test_a_lock_is_held_until_the_file_is_closed(tmp_path):
    with (tmp_path / "a").open("w") as one, (tmp_path / "a").open("w") as other:
        lock(one.fileno())
        with pytest.raises(BlockingIOError):
            lock(other.fileno())
        one.close()
        lock(other.fileno())


def test_who_lives_is_asked_without_a_signal_and_not_at_all_on_windows(monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert process_lives(os.getpid()) and process_lives(1) and not process_lives(dead.pid)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", None)
    assert process_lives(dead.pid)


BLOCKED_SIGNALS = """
import os, signal, threading, time
from degrade.files.platform import sigterm_as_ctrl_c, stop_signals_blocked, wait_for_sigterm

before = signal.getsignal(signal.SIGTERM)
with sigterm_as_ctrl_c():
    try:
        with stop_signals_blocked():
            os.kill(os.getpid(), signal.SIGTERM)
            print("after the signal")
        print("after the block")
    except KeyboardInterrupt:
        print("stopped at the end of the block")
    with stop_signals_blocked():
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # it inherits the block
        os.kill(os.getpid(), signal.SIGTERM)
        print("waited:", wait_for_sigterm())
print("restored:", signal.getsignal(signal.SIGTERM) == before)
"""


def test_signals_wait_until_the_block_ends():
    # In a process of its own: a thread that was started before the block, as torch starts some, would take the signal.
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_SIGNALS], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.stdout.splitlines() == [
        "after the signal",
        "stopped at the end of the block",
        "waited: True",
        "restored: True",
    ], done.stderr


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path):
    sync_folder(tmp_path)
    sync_folder(tmp_path / "gone")
