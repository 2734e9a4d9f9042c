"""Runs ONNX files: one session for each file, process and kind of device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.io.text import shown
from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import optional, weights_file

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
COUNTS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
QUANTISED = b"DynamicQuantize"  # such layers scale by the largest number of the batch, so items would change each other


class OnnxNetwork:
    """One input and one output of an ONNX file. An ONNX file is data: it names operators and runs nothing else.

    A second input of whole numbers gets the length of the first one's last axis, as NeMo's exports take it.

    Args:
        weights: the file.
        output: name of the output; None = the first.

    Attributes:
        shape: of the input; None where an axis is free.
        alone: whether items change each other in a batch, so that each must be run for itself.

    Raises:
        DataError: no such file, no ONNX file, unknown output, or other inputs.
    """

    def __init__(self, weights: str, output: str | None = None) -> None:
        self.path = weights_file(weights, "ONNX file")
        session = _session(str(self.path), "cpu")
        inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
        self.output = outputs[0] if output is None else output
        if self.output not in outputs:
            raise DataError(f"{self.path}: has no output {output}; it has {shown(outputs)}")
        numbers = [value for value in inputs if value.type in TYPES]
        counts = [value for value in inputs if value.type in COUNTS and len(value.shape) <= 1]
        if len(numbers) != 1 or len(numbers) + len(counts) != len(inputs):
            kinds = [f"{value.name} {value.type[7:-1]}{value.shape}" for value in inputs]
            raise DataError(f"{self.path}: takes {shown(kinds)}; one input of floats and its lengths are supported")
        self.name, self.type = numbers[0].name, TYPES[numbers[0].type]
        self.counts = [(value.name, COUNTS[value.type], value.shape) for value in counts]
        self.shape = tuple(size if isinstance(size, int) else None for size in numbers[0].shape)
        self.alone = QUANTISED in self.path.read_bytes()

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (b, ...) -> outputs (b, width), on the same device.

        A fixed batch axis is filled by repeating the last item. An output with more axes of size 1 loses them.

        Raises:
            DataError: the file does not take inputs of this shape.
        """
        fixed = self.shape[0] if self.shape else None
        parts = []
        for part in x.split(fixed or len(x)):
            filled = part if fixed is None else torch.cat([part, part[-1:].expand(fixed - len(part), *part.shape[1:])])
            parts.append(self._run(filled)[: len(part)])
        y = torch.cat(parts)
        return y.reshape(len(y), -1) if y.ndim > 2 and max(y.shape[1:]) * len(y) == y.numel() else y

    def _run(self, x: Tensor) -> Tensor:
        wanted = self.shape
        if (wanted and len(wanted) != x.ndim) or any(a not in (None, b) for a, b in zip(wanted, x.shape, strict=False)):
            free = ["any" if size is None else size for size in wanted]
            raise DataError(f"{self.path}: takes inputs of shape {tuple(free)}, got {tuple(x.shape)}")
        session = _session(str(self.path), x.device.type)
        feed = {self.name: x.cpu().numpy().astype(self.type)}
        for name, kind, shape in self.counts:
            feed[name] = np.full([len(x)] if shape else [], x.shape[-1], dtype=kind)
        try:
            (found,) = session.run([self.output], feed)
        except Exception as error:  # onnxruntime raises its own classes, and RuntimeError
            raise DataError(f"{self.path}: cannot run on {tuple(x.shape)}: {one_line(error, 200)}") from error
        return torch.from_numpy(np.asarray(found, dtype=np.float32)).to(x.device)


@lru_cache(maxsize=16)
def _session(path: str, device: str) -> Any:
    """The session of a file. It is not part of a module, because it cannot be pickled."""
    runtime = optional("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors only
    cuda = device == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers()
    providers = [*["CUDAExecutionProvider"] * cuda, "CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime raises its own classes, and RuntimeError
        raise DataError(f"{path}: not readable as ONNX ({one_line(error, 200)})") from error
