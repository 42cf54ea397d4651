"""What an exported file says about itself: classes, normalisation, protocol, and what its output means."""

from __future__ import annotations

import json

import msgspec

from segzoo import __version__
from segzoo.export.program import Program
from segzoo.protocol import Protocol
from segzoo.registry import class_names, entry

OUTPUT = (
    "logits [batch, classes, h, w] at the network's own resolution; resize them to the image (bilinear), then argmax"
)


def metadata(name: str, protocol: Protocol, program: Program, *, weights: str) -> dict[str, str]:
    """Texts by key; lists and structures are JSON.

    Args:
        name: a name of the zoo.
        protocol: its test protocol.
        program: what is written.
        weights: what the parameters are ("random", a hash).
    """
    model = entry(name)
    return {
        "segzoo": __version__,
        "model": name,
        "weights": weights,
        "licence": model.licence or "unknown",
        "dataset": model.dataset,
        "classes": json.dumps(class_names(name)),
        "input": "image [batch, 3, height, width], RGB, float32, (pixel - mean) / std with pixels in 0..255",
        "mean": json.dumps(protocol.mean),
        "std": json.dumps(protocol.std),
        "protocol": json.dumps(msgspec.to_builtins(protocol)),
        "shape": json.dumps(program.shape),
        "sizes": program.sizes,
        "output": OUTPUT,
    }
