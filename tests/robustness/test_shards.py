import pytest
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import FGSM, PGD, ModelVictim, Replay, Square, Threat, evaluate
from tscnc_deploy.robustness.shards import evaluate_in_shards, join_stored

THREAT = Threat(epsilon=0.2)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    images = torch.rand(23, 1, 4, 4)
    labels = model(images).argmax(1)
    labels[::7] = (labels[::7] + 1) % 3
    return ModelVictim(model), images, labels


def same(first, second):
    return (
        torch.equal(first.robust_mask, second.robust_mask)
        and torch.equal(first.adversarial, second.adversarial)
        and all(torch.equal(first.standing[name], second.standing[name]) for name in first.standing)
        and first.robust == second.robust
    )


@pytest.mark.parametrize("shard_size", [1, 5, 23, 100])
def test_shards_change_nothing(linear, shard_size):
    victim, images, labels = linear
    attacks = [FGSM(), PGD(4), Square(20), Replay((images + 0.1).clamp(0, 1))]
    whole = evaluate(victim, images, labels, THREAT, attacks, seed=3)
    assert same(whole, evaluate_in_shards(victim, images, labels, THREAT, attacks, shard_size=shard_size, seed=3))


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
    assert same(first, run())
    assert len(calls) == 5
    sorted(tmp_path.iterdir())[2].write_bytes(b"truncated")
    assert same(first, run())
    assert len(calls) == 6
    run(seed=1)
    assert len(calls) == 11


def test_several_processes_share_the_work(linear, tmp_path):
    victim, images, labels = linear
    for rank in range(3):
        evaluate_in_shards(victim, images, labels, THREAT, [PGD(4)], shard_size=4, store=tmp_path, rank=rank, world=3)
    assert same(evaluate(victim, images, labels, THREAT, [PGD(4)]), join_stored(tmp_path))


def test_it_ends_when_the_question_is_settled(linear):
    victim, images, labels = linear
    result = evaluate_in_shards(
        victim, images, labels, THREAT, [FGSM()], shard_size=5, until=lambda known: known.clean.total >= 8
    )
    assert result.clean.total == 10


def test_a_store_of_two_evaluations_is_refused(linear, tmp_path):
    victim, images, labels = linear
    for seed in (0, 1):
        evaluate_in_shards(victim, images, labels, THREAT, [FGSM()], store=tmp_path, seed=seed)
    with pytest.raises(InputError, match="holds shards of 2 evaluations"):
        join_stored(tmp_path)


def test_a_rank_without_images_is_refused(linear):
    victim, images, labels = linear
    with pytest.raises(InputError, match="nothing to evaluate for process 3 of 4"):
        evaluate_in_shards(victim, images, labels, THREAT, [FGSM()], shard_size=10, rank=3, world=4)
