from .base import VoiceFaceDataModule as VoiceFaceDataModule
from .datasets.mavceleb.module import MAVCelebDataModule as MAVCelebDataModule
from .datasets.synthetic.embeddings import SyntheticDataModule as SyntheticDataModule
from .datasets.synthetic.media import SyntheticMediaDataModule as SyntheticMediaDataModule
from .datasets.voxceleb.module import VoxCelebDataModule as VoxCelebDataModule
from .datasets.voxceleb.module import VoxCelebFeatureDataModule as VoxCelebFeatureDataModule
from .evaluation.conditions import CellSpec as CellSpec
from .features.module import FeatureDataModule as FeatureDataModule
from .features.module import PermutedFeatureDataModule as PermutedFeatureDataModule
from .io.feature_files import FeatureFile as FeatureFile
from .media.manifest import ManifestDataModule as ManifestDataModule
from .media.module import MediaOptions as MediaOptions

Pack = FeatureFile
