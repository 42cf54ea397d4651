"""Which file an entry of the zoo wants, which hash it must have and where it lies in the cache. No torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segzoo import paths
from segzoo.errors import IntegrityError, UsageError
from segzoo.zoo.schema import Model, Weights

_EMBEDDED = "embedded:"
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})(?:\.[a-z0-9_]+)+$")
# Eight digits such as 20210831 are a date that happens to be hexadecimal.
_DATE = re.compile(r"(?:19|20)\d{6}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@-]")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of weights of one model: its mirrors, its hash and its place in the cache.

    Attributes:
        name: the model's name, for messages.
        weights: the manifest's words.
    """

    name: str
    weights: Weights

    @property
    def urls(self) -> list[str]:
        """The mirrors that need the network, in the order to try them."""
        return [url for url in self.weights.url if not url.startswith(_EMBEDDED)]

    @property
    def sha256(self) -> str | None:
        """The known hash or its first digits: the manifest's, else the one in a mirror's file name."""
        if self.weights.sha256:
            return self.weights.sha256.lower()
        return next((found for url in self.urls if (found := hash_in_name(url))), None)

    @property
    def targets(self) -> list[Path]:
        """Where the file may lie in the cache, one place a mirror; it is downloaded to the first."""
        return [cache_path(url) for url in self.urls]

    @property
    def embedded(self) -> Path | None:
        """The file inside the package, for an entry that has one.

        Raises:
            IntegrityError: the installation lacks the file.
        """
        for url in self.weights.url:
            if url.startswith(_EMBEDDED):
                path = paths.embedded_weights(url.removeprefix(_EMBEDDED))
                if not path.is_file():
                    raise IntegrityError(f"{self.name}: {path} is missing from the installation; reinstall segzoo")
                return path
        return None


def weights_source(name: str, model: Model, part: str = "model") -> Source:
    """The first weights of a model for a part, "model" or "backbone".

    Raises:
        UsageError: the entry has none.
    """
    for weights in model.weights:
        if weights.part == part and weights.url:
            return Source(name=name, weights=weights)
    other = sorted({weights.part for weights in model.weights})
    what = f"only weights of its {' and '.join(other)}" if other else "no published weights, it is architecture only"
    raise UsageError(f"{name} has {what}; give a file of your own with --checkpoint FILE")


def hash_in_name(url: str) -> str | None:
    """The first digits of the SHA-256 that a name such as "resnet50-19c8e357.pth" carries, else None."""
    match = _HASH_IN_NAME.search(file_name(url))
    return None if match is None or _DATE.fullmatch(match[1]) else match[1]


def cache_path(url: str) -> Path:
    """The file's place in the cache, after its address: host, folders, name; a query adds eight digits of its hash.

    Two entries with one address share one file, and two addresses never share one.
    """
    parts = urlsplit(url)
    folders = [_safe(unquote(part)) for part in parts.path.split("/")[:-1] if part not in ("", ".", "..")]
    name = _safe(file_name(url))
    if parts.query:
        stem, dot, suffix = name.partition(".")
        name = f"{stem}-q{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}{dot}{suffix}"
    return paths.weights_folder().joinpath(_safe(parts.netloc.rpartition("@")[2]), *folders, name)


def file_name(url: str) -> str:
    """The last part of an address."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1] or "weights"


def _safe(word: str) -> str:
    """`word` with only characters that every file system takes; never hidden, never a way out of the folder."""
    return _UNSAFE.sub("_", word).lstrip(".") or "_"
