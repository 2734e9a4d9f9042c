"""Public names of lightning_modules, for YAML and for Python code.

Methods: ``SCC``, ``FOP``, ``FAA``, ``AAM`` and ``RegularisedCCA``, with the base class ``AssociationModule``.
Networks: ``CAVMAE`` with its ``FrontEnd``, ``EncoderPair``, ``HeadPair``, ``SharedHeads``; ``MatchingEncoder`` of FAA.
Losses: ``AngularMarginLoss``, ``ContrastiveLoss``, ``MatchingLoss``, ``MultiSimilarityLoss``,
``OrthogonalProjectionLoss``, ``gather_rows``.
Frozen encoders of voices: ``OnnxVoice``, ``ProgramVoice``, ``ResemblyzerVoice``, ``SpeechBrainVoice``,
``TorchaudioVoice``, ``TransformersVoice``, with ``FilterBank``; of faces: ``DlibFace``, ``OnnxFace``, ``OpenClipFace``,
``ProgramFace``, ``TimmFace``; around others ``AlignedFace``, ``AgeGenderFace``, ``AgeGenderVoice``,
``JoinedEncoders``; their base is ``FrozenEncoder``. Face detectors: ``DlibDetector``, ``CenterFaceDetector``,
``YuNetDetector``; their base is ``FaceDetector``.
Training: ``LayerwiseAdamW``, ``WarmupCosine``, ``AveragedWeights``; ``NonFiniteError`` stops a fit.
Weights: ``load_weights``; ``WeightsError`` for files that do not fit.
"""

from .aam import AAM as AAM
from .base import AssociationModule as AssociationModule
from .cca import RegularisedCCA as RegularisedCCA
from .encoders.base import FrozenEncoder as FrozenEncoder
from .encoders.faces.age_gender import AgeGenderFace as AgeGenderFace
from .encoders.faces.aligned import AlignedFace as AlignedFace
from .encoders.faces.detectors.base import FaceDetector as FaceDetector
from .encoders.faces.detectors.centerface import CenterFaceDetector as CenterFaceDetector
from .encoders.faces.detectors.dlib import DlibDetector as DlibDetector
from .encoders.faces.detectors.yunet import YuNetDetector as YuNetDetector
from .encoders.faces.dlib import DlibFace as DlibFace
from .encoders.faces.onnx import OnnxFace as OnnxFace
from .encoders.faces.open_clip import OpenClipFace as OpenClipFace
from .encoders.faces.program import ProgramFace as ProgramFace
from .encoders.faces.timm import TimmFace as TimmFace
from .encoders.joined import JoinedEncoders as JoinedEncoders
from .encoders.pair import EncoderPair as EncoderPair
from .encoders.voices.age_gender import AgeGenderVoice as AgeGenderVoice
from .encoders.voices.filter_bank import FilterBank as FilterBank
from .encoders.voices.onnx import OnnxVoice as OnnxVoice
from .encoders.voices.program import ProgramVoice as ProgramVoice
from .encoders.voices.resemblyzer import ResemblyzerVoice as ResemblyzerVoice
from .encoders.voices.speechbrain import SpeechBrainVoice as SpeechBrainVoice
from .encoders.voices.torchaudio import TorchaudioVoice as TorchaudioVoice
from .encoders.voices.transformers import TransformersVoice as TransformersVoice
from .faa import FAA as FAA
from .fop import FOP as FOP
from .losses.angular_margin import AngularMarginLoss as AngularMarginLoss
from .losses.contrastive import ContrastiveLoss as ContrastiveLoss
from .losses.gather import gather_rows as gather_rows
from .losses.matching import MatchingLoss as MatchingLoss
from .losses.multi_similarity import MultiSimilarityLoss as MultiSimilarityLoss
from .losses.orthogonal import OrthogonalProjectionLoss as OrthogonalProjectionLoss
from .networks.cavmae import CAVMAE as CAVMAE
from .networks.frontend import FrontEnd as FrontEnd
from .networks.heads import HeadPair as HeadPair
from .networks.heads import SharedHeads as SharedHeads
from .networks.matching import MatchingEncoder as MatchingEncoder
from .networks.weights import WeightsError as WeightsError
from .networks.weights import load_weights as load_weights
from .scc import SCC as SCC
from .training.optim import AveragedWeights as AveragedWeights
from .training.optim import LayerwiseAdamW as LayerwiseAdamW
from .training.optim import WarmupCosine as WarmupCosine
from .training.safety import NonFiniteError as NonFiniteError
