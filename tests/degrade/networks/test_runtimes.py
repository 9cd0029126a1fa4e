"""Other software leaves the process as it was."""

import subprocess
import sys

import pytest

# Two models are started, used, and given up in the same order; then Ctrl-C comes.
SESSION = """
import gc, os, signal, sys, torch
from onnx import TensorProto, helper
from degrade.networks.runtimes import start_runtime

value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
runs = [start_runtime(sys.argv[1], model.SerializeToString()) for _ in range(2)]
while runs:
    assert runs.pop(0)(x=torch.ones(1, 3))[0].tolist() == [[2.0, 2.0, 2.0]]
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("stopped by the user")
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_ctrl_c_stops_a_process_that_has_given_up_its_models(backend) -> None:
    for package in ("onnx", backend):
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, "-c", SESSION, backend], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "stopped by the user\n"), done.stderr
