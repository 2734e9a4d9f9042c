"""Reads programs of torch: TorchScript files, and those of torch.export."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import weights_file


class Program(nn.Module):
    """A network read by :func:`read_program`.

    Args:
        network: of torch.
        path: its file, for errors.
    """

    def __init__(self, network: nn.Module, path: Path) -> None:
        super().__init__()
        self.network, self.path = network, path

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (b, ...) -> embeddings (b, d), the first of several outputs.

        Raises:
            DataError: the program cannot run on them, as one that was exported for another length, or gives no tensor.
        """
        try:
            output: Any = self.network(x)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise DataError(f"{self.path}: cannot run on {tuple(x.shape)}: {one_line(error, 200)}") from error
        while not isinstance(output, Tensor):
            if isinstance(output, dict):
                output = next(iter(output.values()), None)
            elif isinstance(output, list | tuple) and output:
                output = output[0]
            else:
                raise DataError(f"{self.path}: gives {type(output).__name__}, not a tensor of embeddings")
        return output


def read_program(program: str) -> Program:
    """The network of a file of ``torch.export.save`` (.pt2) or of TorchScript (``torch.jit.save``), on the CPU.

    Reading one is running one: a .pt2 may hold pickles, and operators of TorchScript read and write files. So only
    files of those whom you trust may be named here; folders of others cannot name one.

    Raises:
        DataError: no such file, or it is neither.
    """
    path = weights_file(program, "program of torch")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no program of torch; make one by torch.export.save or torch.jit.save")
    with zipfile.ZipFile(path) as archive:
        script = any(name.endswith("/constants.pkl") for name in archive.namelist())
        exported = any(name.endswith("archive_format") for name in archive.namelist())
    if not script and not exported:
        raise DataError(
            f"{path}: holds weights without their network; make a program by torch.export.save or torch.jit.save"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.load", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.load", category=DeprecationWarning)
            network: Any = (
                torch.jit.load(str(path), map_location="cpu") if script else torch.export.load(str(path)).module()
            )
    except Exception as error:  # damaged files fail in many ways, in C++ and in Python
        raise DataError(f"{path}: not readable as a program of torch ({one_line(error, 200)})") from error
    module: nn.Module = network
    for parameter in module.parameters():  # TorchScript has no requires_grad_
        parameter.requires_grad_(False)
    return Program(module, path)
