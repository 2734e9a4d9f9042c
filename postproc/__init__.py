"""Refines and evaluates scores: numpy in, numpy out; distances everywhere, lower = same person.

Names load on first use, so that importing the package is quick.

Example:
    >>> from postproc import auc, eer
    >>> distances, labels = [0.1, 0.4, 0.3, 0.9, 0.8], [1, 1, 0, 0, 0]
    >>> round(eer(distances, labels, direction="distance").eer, 3)
    0.333
    >>> round(auc(distances, labels, direction="distance"), 3)
    0.833
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
