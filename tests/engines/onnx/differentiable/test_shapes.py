from __future__ import annotations

import multiprocessing
import resource
import time

import pytest
import torch

from tests.engines.onnx.differentiable.cases import PATH
from tests.engines.onnx.differentiable.hostile import REFUSED, chain
from tests.engines.onnx.differentiable.test_graph import RELU, read
from tests.engines.onnx.graphs import classifier
from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.errors import InputError

# What Python, torch and onnx take by themselves is counted by the kernel, too.
_MORE = 256 << 20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_shapes_for_a_batch(count):
    model = classifier(RELU)
    wanted = {"images": (count, 1, 2, 2), "x": (count, 4), "y": (count, 4), "w4": (4, 3), "logits": (count, 3)}
    assert shapes_of(model, signature_of(model, PATH), count, PATH) == wanted


def test_a_fixed_batch_is_that_of_the_file():
    model = classifier(RELU, batch=3)
    assert shapes_of(model, signature_of(model, PATH), 5, PATH)["y"] == (3, 4)


def _refused():
    """Reads every graph in little memory; what happened by name, where it was not a refusal in time."""
    torch.set_num_threads(1)
    read(classifier(RELU))
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MORE, used + _MORE))
    wrong = {}
    for name, model in REFUSED.items():
        start = time.process_time()
        try:
            read(model)(torch.zeros(1, 1, 2, 2, requires_grad=True)).sum().backward()
            wrong[name] = "is computed"
        except InputError as error:
            if "node" not in str(error) and "memory" not in str(error):
                wrong[name] = str(error)
        except BaseException as error:
            wrong[name] = repr(error)
        if time.process_time() - start > 3:
            wrong[name] = f"takes {time.process_time() - start} s"
    return wrong


def _run(queue):
    queue.put(_refused())


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs the limits of Linux")
def test_hostile_graphs_are_refused_in_little_memory_and_time():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_run, args=(queue,))
    process.start()
    assert queue.get(timeout=120) == {}
    process.join()


@pytest.mark.slow
def test_a_chain_of_20000_nodes_is_read():
    images = torch.ones(1, 1, 2, 2, requires_grad=True)
    read(chain())(images).sum().backward()
    assert images.grad.reshape(-1).tolist() == [1, 1, 1, 0]
