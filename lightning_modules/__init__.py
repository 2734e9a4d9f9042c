"""Face-voice association methods, their networks, losses and frozen encoders.

Names load on first use, so that importing the package is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
