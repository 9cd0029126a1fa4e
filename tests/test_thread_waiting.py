"""Threads of the commands wait asleep, unless the user wants them awake."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["degrade", "upsample"])
@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_a_command_lets_threads_sleep_before_torch_is_there_unless_told_otherwise(command, given, policy) -> None:
    program = f"""
import os, sys
from {command} import __main__ as command
chosen = command.wait_asleep
def spy():
    chosen()
    print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
command.wait_asleep = spy
sys.argv = [{command!r}, "--help"]
command.main()
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[0] == f"{policy} False"
