from .inference.model import LoadedModel as LoadedModel
from .inference.model import load as load
from .runs.results import Results as Results
