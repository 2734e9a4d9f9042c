"""The control of every association: learnt from voices and faces that do not belong together, tested as ever."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datamodules.feature_data import FeatureDataModule


class PermutedFeatureDataModule(FeatureDataModule):
    """Learns from the voice of one training clip with the face of another, drawn by ``seed``.

    Whatever is learnt so must score 50 % on people it never saw; validation and test are left as they are. Options are
    those of :class:`FeatureDataModule`.
    """

    @cached_property
    def learnt_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        voice, face = super().learnt_rows
        return np.random.default_rng(self.seed).permutation(voice), face
