"""AAM: linear heads trained by one angular-margin classifier that voices and faces share."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor

from datamodules.io.text import shown
from datamodules.schema import DataError, PairBatch
from datamodules.training_set import TrainingSet
from lightning_modules.base import AssociationModule
from lightning_modules.losses.angular_margin import AngularMarginLoss
from lightning_modules.losses.contrastive import ContrastiveLoss
from lightning_modules.networks.heads import HeadPair
from lightning_modules.networks.weights import load_weights, other_classes
from lightning_modules.training.closed_form import CLIPS_AT_ONCE, start_fit_from_cca


class AAM(AssociationModule):
    """Classifies training identities from voices and from faces, by one cosine classifier with an angular margin.

    The recipe that the winners of the FAME 2026 challenge report: on each side dropout, one Linear and unit length; a
    classifier shared by both sides, so that voice and face of an identity meet at its class; Gaussian noise on the
    embeddings in training; then another dropout for each language. Their description leaves open what the noise is
    measured in and what the dropout of a language acts on. Here both act on the embeddings of the frozen encoders, and
    noise is a share of their root mean square. The SCC term and the start from CCA are not from them.

    Args:
        dims: input sizes (voice, face); commands take them from the data.
        num_identities: number of training identities; commands take it from the data.
        embedding_dim: width of the shared space.
        margin: see :class:`AngularMarginLoss`.
        scale: see :class:`AngularMarginLoss`.
        dropout: probability on the inputs of both sides; a mapping from language to probability gives each clip that of
            its language.
        noise: standard deviation of the Gaussian noise on the inputs, as a share of the root mean square of an
            embedding's numbers.
        classifier_weight: of the classifier's loss, the mean of voices and faces.
        contrastive_weight: of the loss of SCC between voices and faces (:class:`ContrastiveLoss`, both directions);
            0 = off.
        tau: temperature of that loss.
        mean_start: each class starts at the mean embedding of its clips, voices and faces alike, by the heads as they
            start. Identities that are alike then start near each other. Random classes are all equally far apart, and
            heads that map a few dozen identities onto them learn nothing of other people. Not from the winners.
        cca_start: the heads start from regularised CCA of the training clips with this shrinkage; None = random.
        weights: file with the weights of a whole model to start from; every key must fit. A classifier for another
            number of identities is skipped with a warning; scores do not depend on it.
        optimizer: see :class:`AssociationModule`.
        scheduler: see :class:`AssociationModule`.

    Raises:
        DataError: an option out of range, a training language without a dropout, or weights that do not fit.
    """

    sampling: ClassVar[str] = "identity"

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        num_identities: int | None = None,
        embedding_dim: int = 192,
        margin: float = 0.2,
        scale: float = 30.0,
        dropout: float | dict[str, float] = 0.5,
        noise: float = 0.1,
        classifier_weight: float = 1.0,
        contrastive_weight: float = 0.0,
        tau: float = 1.0,
        mean_start: bool = False,
        cca_start: float | None = None,
        weights: str | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(dims, optimizer, scheduler)
        if num_identities is None or num_identities < 2:
            raise DataError(f"model.num_identities is {num_identities}; AAM needs at least 2 training identities")
        rates = dropout.values() if isinstance(dropout, dict) else [dropout]
        if not all(0 <= rate < 1 for rate in rates):
            raise DataError(f"model.dropout is {dropout}; probabilities must be at least 0 and below 1")
        if not noise >= 0:
            raise DataError(f"model.noise is {noise}; it must be 0 or more")
        if min(classifier_weight, contrastive_weight) < 0 or not classifier_weight + contrastive_weight > 0:
            raise DataError(
                f"model.classifier_weight is {classifier_weight} and model.contrastive_weight {contrastive_weight}; "
                "neither may be negative, and one must be above 0"
            )
        if cca_start is not None and weights is not None:
            raise DataError("model.cca_start and model.weights are both set; the heads can start from only one of them")
        self.network = HeadPair(*self.dims, embedding_dim)
        self.classifier = AngularMarginLoss(num_identities, embedding_dim, margin, scale)
        self.contrastive = ContrastiveLoss(tau, direction="both")
        self.classifier_weight, self.contrastive_weight = classifier_weight, contrastive_weight
        self.dropout, self.noise = dropout, noise
        self.mean_start, self.cca_start = mean_start, cca_start
        self._rates = torch.empty(0)  # of each training clip, where languages have their own
        if weights is not None:
            left_out = other_classes(weights, "classifier.weight", num_identities)
            load_weights(self, weights, rename=lambda key: None if key in left_out else key, optional=left_out)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        data = cast(Any, self.trainer).datamodule
        if isinstance(self.dropout, dict):
            self._rates = torch.from_numpy(_rates(self.dropout, data.training_set())).to(self.device)
        if self.cca_start is not None:
            start_fit_from_cca(self, self.network, self.cca_start)
        if self.mean_start and self.trainer.ckpt_path is None:
            means = mean_embeddings(self.network, data.reference_set(), CLIPS_AT_ONCE)
            self.classifier.weight.data.copy_(self.trainer.strategy.broadcast(means))

    def embed_voice(self, x: Tensor) -> Tensor:
        return self.network.voice(x)

    def embed_face(self, x: Tensor) -> Tensor:
        return self.network.face(x)

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        voices, faces, identity, clip = (cast(Tensor, batch[name]) for name in ("voice", "face", "identity", "clip"))
        voice, face = self.embed("voice", self._spoil(voices, clip)), self.embed("face", self._spoil(faces, clip))
        terms = {}
        if self.classifier_weight:
            both = self.classifier(voice, identity), self.classifier(face, identity)
            terms["classifier"] = (both[0] + both[1]) / 2
        if self.contrastive_weight:
            terms["contrastive"] = self.contrastive(voice, face, identity)
        weights = {"classifier": self.classifier_weight, "contrastive": self.contrastive_weight}
        return {"loss": torch.stack([weights[name] * term for name, term in terms.items()]).sum(), **terms}

    def _spoil(self, x: Tensor, clip: Tensor) -> Tensor:
        """Inputs (B, d) with noise, and with numbers set to zero at the rate of their clip."""
        if self.noise:
            x = x + self.noise * x.square().mean(dim=1, keepdim=True).sqrt() * torch.randn_like(x)
        rate = self._rates[clip][:, None].to(x) if isinstance(self.dropout, dict) else self.dropout
        return x * (torch.rand_like(x) >= rate) / (1 - rate)


@torch.no_grad()
def mean_embeddings(network: HeadPair, train: TrainingSet, clips_at_once: int) -> Tensor:
    """Mean (C, d) of the unit embeddings of each identity's clips, voices and faces alike."""
    identity, device = torch.from_numpy(train.identity), next(network.parameters()).device
    total = torch.zeros(len(train.identities), network.embedding_dim)
    for clips in torch.arange(len(identity)).split(clips_at_once):
        voices, faces = train.voices.read(train.voice_rows[clips]), train.faces.read(train.face_rows[clips])
        both = network.voice(voices.to(device)) + network.face(faces.to(device))
        total.index_add_(0, identity[clips], both.cpu() / 2)
    return total / torch.bincount(identity, minlength=len(total))[:, None]


def _rates(dropout: dict[str, float], train: TrainingSet) -> NDArray[np.float32]:
    """The dropout (n,) of each training clip."""
    languages, code = np.unique(train.language, return_inverse=True)
    missing = [str(language) for language in languages if language not in dropout]
    if missing:
        raise DataError(
            f"model.dropout gives none for {shown(missing)}, but training clips have that language; "
            f"it names {shown(sorted(dropout))}"
        )
    return np.array([dropout[str(language)] for language in languages], dtype=np.float32)[code]
