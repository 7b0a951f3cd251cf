"""Everything of the CXR PEFT Explorer that works without a screen.

``core`` never imports ``explorer`` or gradio. ``spec``, ``errors`` and ``stats`` import no other
layer; ``data`` and ``models`` never import each other; ``runs`` imports only ``spec`` and
``errors``; ``train``, ``evaluate``, ``saliency``, ``export`` and ``paper`` sit above them.
"""

__version__ = "0.1.0"
