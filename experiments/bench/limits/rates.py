"""The rates that limit everything else: copies in memory, and products of matrices."""

from __future__ import annotations

from functools import partial

import torch

from experiments.bench.limits.setting import Case, Measured, Setting, seconds_of


def cases(setting: Setting) -> dict[str, Case]:
    """Copy rates of the device and the host, bytes read and written; matrix products by precision."""
    made: dict[str, Case] = {"copy": partial(_copy, setting, setting.device)}
    made["host copy"] = partial(_copy, setting, "cpu")
    made |= {name: partial(_product, setting, name) for name in ("bf16", "tf32", "fp32")}
    if setting.device == "cpu":
        del made["tf32"]  # a format of GPUs
    if setting.precision != "bf16":
        del made["bf16"]
    return made


def _copy(setting: Setting, device: str) -> Measured:
    count = min(setting.bytes, 1 << 30) if device == "cpu" else setting.bytes
    source = torch.ones(count // 4, device=device)
    target = torch.empty_like(source)
    return Measured(seconds_of(lambda: target.copy_(source), setting), 2.0 * source.numel() * 4, "B")


def _product(setting: Setting, name: str) -> Measured:
    side = setting.side if name != "fp32" else min(setting.side, 8192)
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    with tensor_cores(name == "tf32"):
        return Measured(seconds_of(lambda: torch.mm(a, b, out=out), setting), 2.0 * side**3, "FLOP")


class tensor_cores:
    """Products of float32 matrices in tf32 inside the block, where ``on``."""

    def __init__(self, on: bool) -> None:
        self.on, self.before = on, torch.backends.cuda.matmul.allow_tf32

    def __enter__(self) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.on

    def __exit__(self, *error: object) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.before
