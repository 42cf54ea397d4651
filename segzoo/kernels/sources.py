"""What each compiled operator is made of. Adding one is adding an entry here and a folder in csrc/."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segzoo import paths

_AVX2 = ("-mavx2", "-mfma")
CUDA = "cuda"
CPU = "cpu"
_AVX512 = ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One object file: a source in the operator's folder and the flags it needs beside the general ones.

    A source that ends in .cu is for nvcc.
    """

    source: str
    name: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A shared library that registers an operator when it is loaded.

    Attributes:
        name: the folder of the sources.
        title: for messages.
        units: object files. Variants of one source for unlike processors are chosen between at run time,
            so that one library serves every node that shares a cache.
        device: "cpu" or "cuda", the dispatch key that the library registers at.
        defines: preprocessor words of every unit, such as "SEGZOO_HEAD_DIM=32", for a library that holds one
            instantiation of many; the key follows them.
        place: where the folder is: "csrc", or "benchmarks" for what kernels are only compared with.
    """

    name: str
    title: str
    units: tuple[Unit, ...] = field(default_factory=tuple)
    device: str = CPU
    defines: tuple[str, ...] = ()
    place: Literal["csrc", "benchmarks"] = "csrc"

    @property
    def library(self) -> str:
        """The stem of the library's file, and of the function that names its variant."""
        return self.name if self.device == CPU else f"{self.name}_{self.device}"

    @property
    def has_variants(self) -> bool:
        """Whether it holds variants for unlike processors, and a function that says which one is in use."""
        return len(self.units) > 1

    @property
    def folder(self) -> Path:
        """The folder with the sources."""
        return (paths.kernel_sources() if self.place == "csrc" else paths.benchmark_sources()) / self.name


def _variant(name: str, *flags: str) -> Unit:
    return Unit(source="cpu_variant.cpp", name=f"cpu_{name}", flags=(f"-DSEGZOO_VARIANT={name}", "-O3", *flags))


def neighborhood_attention() -> Operator:
    """The CPU library of segzoo::neighborhood_attention_2d for this machine's architecture."""
    return Operator(name="neighborhood_attention", title="neighborhood attention", units=_units())


def deformable_attention() -> Operator:
    """The CPU library of segzoo::deformable_attention for this machine's architecture."""
    return Operator(name="deformable_attention", title="deformable attention", units=_units())


def training_crop() -> Operator:
    """The CPU library of segzoo::training_crop for this machine's architecture."""
    # OpenCV multiplies and adds in two steps, and so must we to give its bytes; without traps loops become vectors.
    units = _units("-ffp-contract=off", "-fno-trapping-math")
    return Operator(name="training_crop", title="training crops", units=units)


def png_rows() -> Operator:
    """The CPU library of segzoo::png_rows, the same for every processor."""
    return Operator(name="png_rows", title="PNG labels", units=(Unit(source="cpu.cpp", name="cpu", flags=("-O3",)),))


def segmentation_tail() -> Operator:
    """The CPU library of segzoo::segmentation_tail for this machine's architecture."""
    return Operator(name="segmentation_tail", title="the evaluation tail", units=_units())


def operators(device: str = CPU) -> tuple[Operator, ...]:
    """All that is compiled for a kind of device; nothing for one that has no compiled operators."""
    if device == CUDA:
        return (
            cuda_operator("neighborhood_attention", "neighborhood attention on CUDA", _neighborhood_units()),
            cuda_operator("deformable_attention", "deformable attention on CUDA"),
            cuda_operator("segmentation_tail", "the evaluation tail on CUDA"),
        )
    if device != CPU:
        return ()
    return neighborhood_attention(), deformable_attention(), segmentation_tail(), training_crop(), png_rows()


def cuda_operator(name: str, title: str, further: tuple[Unit, ...] = (), defines: tuple[str, ...] = ()) -> Operator:
    """The CUDA library of csrc/<name>/cuda.cu and the `further` units."""
    units = (Unit(source="cuda.cu", name="cuda"), *further)
    return Operator(name=name, title=title, units=units, device=CUDA, defines=defines)


def _neighborhood_units() -> tuple[Unit, ...]:
    """One object file for each padded head dimension on tensor cores, and one without; they compile side by side."""
    padded = [
        Unit(source="cuda_matrix.cu", name=f"cuda_matrix_{size}", flags=(f"-DSEGZOO_HEAD_DIM={size}",))
        for size in (16, 32, 64, 128)
    ]
    return (Unit(source="cuda_plain.cu", name="cuda_plain"), *padded)


def rivals() -> Operator:
    """What `segzoo kernel bench` compares with, under the same flags; it registers nothing."""
    return Operator(name="rivals", title="the rivals of the benchmark", units=_units(), place="benchmarks")


def cuda_rivals() -> Operator:
    """What `segzoo kernel bench --device cuda` compares with."""
    units = (Unit(source="deformable_classic.cu", name="deformable_classic"),)
    return Operator(name="rivals", title="the rivals on CUDA", units=units, device=CUDA, place="benchmarks")


def _units(*flags: str) -> tuple[Unit, ...]:
    units = [Unit(source="cpu.cpp", name="cpu", flags=("-O2",)), _variant("portable", *flags)]
    if platform.machine() in ("x86_64", "AMD64"):
        units += [_variant("avx2", *_AVX2, *flags), _variant("avx512", *_AVX512, *flags)]
    return tuple(units)
