"""What people run: commands, run folders, reports; and ``load`` for trained models. Names load on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
