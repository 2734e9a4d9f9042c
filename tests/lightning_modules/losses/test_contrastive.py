"""The SCC loss against a hand-written loop, analytic values, SupConLoss, and one big batch under DDP."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from datamodules.schema import DataError
from lightning_modules.losses import contrastive
from lightning_modules.losses.contrastive import ContrastiveLoss
from tests.ranks import TwoRanks

OPTIONS = [
    {"direction": d, "same_identity": s}
    for d in ("voice_to_face", "face_to_voice", "both")
    for s in ("negative", "masked", "positive")
] + [{"direction": "joint", "same_identity": s} for s in ("negative", "masked")]


def batch(size: int = 9, dim: int = 6, people: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    voice, face = (F.normalize(torch.randn(size, dim, generator=generator), dim=1) for _ in range(2))
    return voice, face, torch.randint(people, (size,), generator=generator)


def by_hand(voice: Tensor, face: Tensor, identity: Tensor, tau: float, direction: str, same_identity: str) -> float:
    """Eq. 1 and its options in scalar arithmetic."""

    def one_way(anchors: Tensor, others: Tensor) -> float:
        total = 0.0
        for i in range(len(anchors)):
            terms = {j: math.exp(float(anchors[i] @ others[j]) / tau) for j in range(len(others))}
            same = [j for j in terms if identity[j] == identity[i]]
            if same_identity == "masked":
                terms = {j: e for j, e in terms.items() if j == i or j not in same}
            positives = same if same_identity == "positive" else [i]
            total += sum(-math.log(terms[j] / sum(terms.values())) for j in positives) / len(positives)
        return total / len(anchors)

    if direction == "joint":
        pairs = [(j, k) for j in range(len(voice)) for k in range(len(face)) if j != k]
        if same_identity == "masked":
            pairs = [(j, k) for j, k in pairs if identity[j] != identity[k]]
        wrong = sum(math.exp(float(voice[j] @ face[k]) / tau) for j, k in pairs)
        return sum(-float(voice[i] @ face[i]) / tau for i in range(len(voice))) / len(voice) + math.log(wrong)

    ways = {"voice_to_face": [(voice, face)], "face_to_voice": [(face, voice)]}
    ways["both"] = ways["voice_to_face"] + ways["face_to_voice"]
    return sum(one_way(a, b) for a, b in ways[direction]) / len(ways[direction])


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_a_hand_written_loop(options: dict[str, Any]) -> None:
    voice, face, identity = batch()
    got = ContrastiveLoss(tau=0.2, **options)(voice, face, identity)
    assert got.item() == pytest.approx(by_hand(voice, face, identity, tau=0.2, **options), rel=1e-5)


def test_options_agree_where_every_identity_occurs_once() -> None:
    voice, face, _ = batch()
    values = [
        ContrastiveLoss(same_identity=s)(voice, face, torch.arange(9)) for s in ("negative", "masked", "positive")
    ]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


def test_options_differ_where_an_identity_occurs_twice() -> None:
    values = {s: ContrastiveLoss(same_identity=s)(*batch()).item() for s in ("negative", "masked", "positive")}
    assert values["masked"] < values["negative"]  # fewer terms below the fraction line
    assert len({round(v, 5) for v in values.values()}) == 3


def test_a_model_that_knows_nothing_pays_log_n() -> None:
    same = F.normalize(torch.ones(8, 4), dim=1)
    assert ContrastiveLoss()(same, same, torch.arange(8)).item() == pytest.approx(math.log(8), rel=1e-6)


def test_perfect_embeddings_pay_the_analytic_rest() -> None:
    eye = torch.eye(5)
    expected = -math.log(math.exp(2) / (math.exp(2) + 4))  # tau 0.5: own pair at 1/tau, four others at 0
    assert ContrastiveLoss(tau=0.5)(eye, eye, torch.arange(5)).item() == pytest.approx(expected, rel=1e-6)


def test_positive_equals_supcon_of_pytorch_metric_learning() -> None:
    voice, face, identity = batch(12)
    oracle = SupConLoss(temperature=0.1)
    # .clone(): with the same tensor object it takes the labels for self-comparisons and returns 0
    expected = oracle(voice, identity, ref_emb=face, ref_labels=identity.clone())
    got = ContrastiveLoss(tau=0.1, same_identity="positive")(voice, face, identity)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert expected > 0


def by_autograd(v: Tensor, f: Tensor, y: Tensor, tau: Tensor, direction: str, same_identity: str) -> Tensor:
    """The whole matrix at once, for gradients."""
    if direction == "joint":
        logits, same = v @ f.T / tau, torch.eye(len(y), dtype=torch.bool)
        wrong = y[:, None] != y if same_identity == "masked" else ~same
        return logits[wrong].logsumexp(0) - logits.diagonal().mean()
    terms = []
    for logits in ({"voice_to_face": [v @ f.T], "face_to_voice": [f @ v.T], "both": [v @ f.T, f @ v.T]})[direction]:
        logits, same = logits / tau, y[:, None] == y
        positive = same if same_identity == "positive" else torch.eye(len(y), dtype=torch.bool)
        if same_identity == "masked":
            logits = logits.masked_fill(same & ~positive, -1e9)
        terms.append(-(logits.log_softmax(1) * positive / positive.sum(1, keepdim=True)).sum(1).mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("limit", [1 << 21, 23 * 5])  # one block; five, the last of 3 rows
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_equal_autograd_whatever_the_blocks(options: dict[str, Any], limit: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(contrastive, "LOGITS_AT_ONCE", limit)
    voice, face, identity = batch(23, people=6)
    loss_of = ContrastiveLoss(tau=0.1, learnable_tau=True, **options)
    inputs = [voice.clone().requires_grad_(), face.clone().requires_grad_()]
    got = torch.autograd.grad(3 * loss_of(*inputs, identity), [*inputs, loss_of.log_tau])
    expected = torch.autograd.grad(
        3 * by_autograd(*inputs, identity, loss_of.log_tau.exp(), **options), [*inputs, loss_of.log_tau]
    )
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


MEASURE = """
import torch
from pathlib import Path
from torch.nn import functional as F
from lightning_modules.losses.contrastive import ContrastiveLoss
torch.set_num_threads(1)
torch.manual_seed(0)
def peak_kib():  # of this program alone: ru_maxrss starts at the size of the process that forked it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
v, f = (F.normalize(torch.randn(8192, 32), dim=1).requires_grad_() for _ in range(2))
y = torch.arange(8192)
ContrastiveLoss()(v[:64], f[:64], y[:64]).backward()
before = peak_kib()
for loss_of in (ContrastiveLoss(), lambda v, f, y: F.cross_entropy(v @ f.T / 0.05, y)):
    v.grad = f.grad = None
    loss = loss_of(v, f, y)
    loss.backward()
    print(peak_kib() - before, loss.item(), v.grad.norm().item(), f.grad.norm().item())
"""


@pytest.mark.perf
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_batch_of_8192_takes_less_than_a_third_of_the_memory() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", MEASURE]
    out = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=root).stdout
    ours, plain = ([float(x) for x in line.split()] for line in out.splitlines())
    assert ours[0] < plain[0] / 3
    assert ours[1:] == pytest.approx(plain[1:], rel=1e-4)


def test_autocast_changes_nothing() -> None:
    voice, face, identity = batch()
    expected = ContrastiveLoss()(voice, face, identity)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ContrastiveLoss()(voice, face, identity)
        from_half = ContrastiveLoss()(voice.bfloat16(), face.bfloat16(), identity)
    assert got.dtype == from_half.dtype == torch.float32
    assert torch.equal(got, expected)


def test_learnt_tau_moves_and_stops_at_its_floor() -> None:
    voice, face, identity = batch()
    loss_of = ContrastiveLoss(tau=0.05, learnable_tau=True)
    loss_of(voice, face, identity).backward()
    assert loss_of.log_tau.grad.abs() > 0
    with torch.no_grad():
        loss_of.log_tau.fill_(-20.0)
    assert loss_of.tau.item() == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tau": 0.0}, "tau"),
        ({"tau": math.nan}, "tau"),
        ({"direction": "sideways"}, "voice_to_face"),
        ({"same_identity": "friend"}, "masked"),
        ({"direction": "joint", "same_identity": "positive"}, "masked"),
    ],
)
def test_bad_options_name_themselves(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match=word):
        ContrastiveLoss(**options)


def test_bad_batches_are_refused() -> None:
    voice, face, identity = batch()
    with pytest.raises(ValueError, match=r"\(9, 6\).*\(8, 6\)"):
        ContrastiveLoss()(voice, face[:8], identity)
    with pytest.raises(ValueError, match="identity"):
        ContrastiveLoss()(voice, face, identity[:8])
    with pytest.raises(DataError, match="2 pairs"):
        ContrastiveLoss()(voice[:1], face[:1], identity[:1])


class Net(nn.Module):
    """A network and its loss in one, as DDP sees them."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.voice, self.face = nn.Linear(6, 5), nn.Linear(6, 5)
        self.loss = ContrastiveLoss(tau=0.1, learnable_tau=True, **options)

    def forward(self, voice: Tensor, face: Tensor, identity: Tensor) -> Tensor:
        return self.loss(F.normalize(self.voice(voice), dim=1), F.normalize(self.face(face), dim=1), identity)


def loss_and_gradients(options: dict[str, Any], ranks: int, limit: int) -> tuple[float, list[Tensor]]:
    contrastive.LOGITS_AT_ONCE, before = limit, contrastive.LOGITS_AT_ONCE
    net = Net(options)
    rows = slice(None)
    model: nn.Module = net
    if ranks > 1:
        rank = torch.distributed.get_rank()
        rows = slice(rank * 6, (rank + 1) * 6)
        model = DistributedDataParallel(net)
    loss = model(*(x[rows] for x in batch(12)))
    loss.backward()
    contrastive.LOGITS_AT_ONCE = before
    return loss.item(), [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("limit", [1 << 21, 30])
@pytest.mark.parametrize("options", [*OPTIONS[::4], OPTIONS[7], *OPTIONS[-2:]])
def test_two_ranks_equal_one_big_batch(two_ranks: TwoRanks, options: dict[str, Any], limit: int) -> None:
    # joint: one sum over 132 terms of e^10 and less, in float32; its gradients are about 5
    tolerance = 1e-5 if options["direction"] == "joint" else 1e-6
    expected_loss, expected = loss_and_gradients(options, ranks=1, limit=1 << 21)
    results = two_ranks.run(loss_and_gradients, options, 2, limit)
    assert sum(loss for loss, _ in results) / 2 == pytest.approx(expected_loss, abs=tolerance)
    for _, gradients in results:
        for got, want in zip(gradients, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=tolerance)
