import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from tests.robustness.agreement import assert_same_evaluation
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import FGSM, PGD, ModelVictim, Replay, Square, Threat, evaluate
from tscnc_deploy.robustness.sharding.shards import evaluate_in_shards
from tscnc_deploy.robustness.sharding.workers import InProcess, Joblib

THREAT = Threat(epsilon=0.2)


def make_linear():
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(16, 3)
    layer.weight.data = torch.rand(3, 16, generator=generator) - 0.5
    layer.bias.data.zero_()
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    images = torch.rand(23, 1, 4, 4, generator=generator)
    labels = model(images).argmax(1)
    labels[::7] = (labels[::7] + 1) % 3
    return ModelVictim(model), images, labels


def open_linear(device):
    assert device == "cpu"
    return make_linear()[0]


@pytest.fixture
def linear():
    return make_linear()


@pytest.mark.parametrize("shard_size", [1, 5, 23, 100])
def test_shards_change_nothing(linear, shard_size):
    victim, images, labels = linear
    attacks = [FGSM(), PGD(4), Square(20), Replay((images + 0.1).clamp(0, 1))]
    whole = evaluate(victim, images, labels, THREAT, attacks, seed=3)
    parts = evaluate_in_shards(victim, images, labels, THREAT, attacks, shard_size=shard_size, seed=3)
    assert_same_evaluation(parts, whole)


def test_finished_shards_are_not_repeated(linear, tmp_path):
    victim, images, labels = linear
    calls = []

    class Counting(FGSM):
        def run(self, *arguments):
            calls.append(1)
            return super().run(*arguments)

    def run(seed=0):
        return evaluate_in_shards(
            victim, images, labels, THREAT, [Counting()], shard_size=5, store=tmp_path, identity="linear", seed=seed
        )

    first = run()
    assert len(calls) == 5
    assert_same_evaluation(run(), first)
    assert len(calls) == 5
    sorted(tmp_path.iterdir())[2].write_bytes(b"truncated")
    assert_same_evaluation(run(), first)
    assert len(calls) == 6
    run(seed=1)
    assert len(calls) == 11


def rewritten(path, change, metadata=None):
    """The stored shard with other tensors, in a file that can be read."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        kept = dict(file.metadata())
    change(tensors)
    path.write_bytes(safetensors.torch.save(tensors, kept if metadata is None else metadata))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "a tensor less": lambda path: rewritten(path, lambda tensors: tensors.pop("correct")),
    "other shapes": lambda path: rewritten(path, lambda tensors: tensors.update(correct=torch.ones(2, 3).byte())),
    "fewer images": lambda path: rewritten(
        path, lambda tensors: tensors.update({name: tensor[:2].clone() for name, tensor in tensors.items()})
    ),
    "no facts": lambda path: rewritten(path, lambda tensors: None, {}),
    "facts of another kind": lambda path: rewritten(path, lambda tensors: None, {"facts": "[]", "sha256": ""}),
    "facts that are no JSON": lambda path: rewritten(path, lambda tensors: None, {"facts": "{", "sha256": ""}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_computed_again(linear, tmp_path, damage):
    victim, images, labels = linear

    def run():
        before = victim.queries
        result = evaluate_in_shards(victim, images, labels, THREAT, [FGSM()], shard_size=8, store=tmp_path)
        return result, victim.queries - before

    first, _ = run()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    damage(paths[1])
    second, queries = run()
    assert_same_evaluation(second, first)
    # The eight images of the second shard alone: asked twice, clean, and attacked.
    assert 8 < queries < 60
    third, queries = run()
    assert_same_evaluation(third, first)
    assert queries == 0


@pytest.mark.slow
def test_several_processes_share_the_work(linear):
    victim, images, labels = linear
    attacks = [PGD(4), Square(20)]
    workers = Joblib(open_linear, 2)
    result = evaluate_in_shards(victim, images, labels, THREAT, attacks, shard_size=4, workers=workers)
    assert_same_evaluation(result, evaluate(victim, images, labels, THREAT, attacks))
    assert result.queries["square-20"] == evaluate(victim, images, labels, THREAT, attacks).queries["square-20"]


@pytest.mark.slow
def test_torchrun_processes_share_the_work(tmp_path, linear):
    victim, images, labels = linear
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, pathlib, torch\n"
        "from tests.robustness.sharding.test_shards import THREAT, make_linear\n"
        "from tscnc_deploy.robustness import PGD\n"
        "from tscnc_deploy.robustness.sharding.shards import evaluate_in_shards\n"
        "from tscnc_deploy.robustness.sharding.workers import Torchrun\n"
        "workers = Torchrun()\n"
        "asked = []\n"
        "def until(known):\n"
        "    asked.append(known.clean.total)\n"
        "    return workers.rank == 0 and known.clean.total >= 16\n"
        "result = evaluate_in_shards(*make_linear(), THREAT, [PGD(4)], shard_size=4, workers=workers, until=until)\n"
        "waits = workers._group._get_backend(torch.device('cpu')).options._timeout\n"
        "facts = [asked, result.robust_mask, waits.days]\n"
        "torch.save(facts, pathlib.Path(sys.argv[1]) / f'{workers.rank}.pt')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, program, tmp_path], env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    whole = evaluate(victim, images, labels, THREAT, [PGD(4)]).robust_mask
    for rank in range(2):
        asked, mask, days = torch.load(tmp_path / f"{rank}.pt")
        assert days == 30
        assert asked == [8, 16]
        assert torch.equal(mask, whole[:16])


def test_it_ends_when_the_question_is_settled(linear):
    victim, images, labels = linear
    result = evaluate_in_shards(
        victim, images, labels, THREAT, [FGSM()], shard_size=5, until=lambda known: known.clean.total >= 8
    )
    assert result.clean.total == 10


@pytest.mark.parametrize("count", [1, 2])
def test_rounds_of_limited_sizes_change_nothing_but_where_they_end(linear, count):
    victim, images, labels = linear
    seen, limits = [], [1, 3, 100, None, 2, None]

    def round_size(known):
        seen.append(0 if known is None else known.clean.total)
        return limits[len(seen) - 1]

    class Several(InProcess):
        def __init__(self):
            self.count = count

    result = evaluate_in_shards(
        victim, images, labels, THREAT, [FGSM()], shard_size=8 // count, workers=Several(), round_size=round_size
    )
    assert seen == [0, 1, 4, 8, 16, 18]
    assert_same_evaluation(result, evaluate(victim, images, labels, THREAT, [FGSM()]))


def test_shards_of_limited_rounds_are_found_again(linear, tmp_path):
    victim, images, labels = linear

    def run():
        before, sizes = victim.queries, iter([1, 3, None, None, None, None])
        result = evaluate_in_shards(
            victim, images, labels, THREAT, [FGSM()], shard_size=8, store=tmp_path, round_size=lambda known: next(sizes)
        )
        return result, victim.queries - before

    first, queries = run()
    assert queries > 0
    second, queries = run()
    assert queries == 0
    assert_same_evaluation(second, first)


def test_progress_is_of_the_whole_evaluation(linear):
    victim, images, labels = linear
    seen = []

    def progress(name, done, total, known):
        event = (name, done, total, known and known.clean.total)
        # Of the reports within an attack, the last one.
        if name and seen and seen[-1][0] == name:
            seen.pop()
        seen.append(event)

    evaluate_in_shards(victim, images, labels, THREAT, [FGSM(), Square(97)], shard_size=10, progress=progress)
    # A query of the clean image, a gradient (2) and 97 queries: of 100 passes, 1, 3 and 100 are done.
    assert seen == [
        ("clean", 0, 23, None),
        ("fgsm", 0, 23, None),
        ("square-97", 10, 23, None),
        ("", 10, 23, 10),
        ("clean", 10, 23, 10),
        ("fgsm", 10, 23, 10),
        ("square-97", 20, 23, 10),
        ("", 20, 23, 20),
        ("clean", 20, 23, 20),
        ("fgsm", 20, 23, 20),
        ("square-97", 23, 23, 20),
        ("", 23, 23, 23),
    ]


@pytest.mark.parametrize(("count", "backend"), [(0, "loky"), (2, "threads")])
def test_workers_that_cannot_be_are_refused(count, backend):
    with pytest.raises(InputError, match="use at least 1, and the backend 'loky' or 'ray'"):
        Joblib(open_linear, count, backend=backend)
