"""The types of zoo.yaml: what an entry may say. Plain data, validated by msgspec; no torch."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from segzoo.protocol import Protocol


class Entry(msgspec.Struct, frozen=True):
    """What all entries share: unknown fields are an error, values never change."""


class LabelPolicy(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the values of a label file become class indices 0..num_classes-1.

    Attributes:
        first: file value of class 0; file value `first + i` is class i. Not used where `mapping` is given.
        ignore: file values that take no part in training and evaluation.
        mapping: file value -> class index, for data sets without a constant offset.
    """

    first: int = 0
    ignore: tuple[int, ...] = (255,)
    mapping: dict[int, int] | None = None


class Split(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Folders of one split below the data set's root.

    Attributes:
        names: a file with the name of one image a line.
        count: pairs in the published split; with another number a result is marked as partial.
        other_counts: numbers of pairs of other lists of the split that are in use.
    """

    images: str
    labels: str | None = None
    names: str | None = None
    count: int | None = None
    other_counts: tuple[int, ...] = ()


class Archive(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file that a data set is published as, and what of it becomes which folder.

    Attributes:
        name: the file's name.
        url: addresses to download it from; none where it is given only to people who have registered.
        page: where a person finds it.
        bytes: its published size; md5, sha1, sha256: its published hashes.
        unpacked_bytes: about how much it takes unpacked.
        take: folder in the archive -> folder below the data set's root. Nothing where `convert` reads it.
        splits: the splits that need it; all where empty.
    """

    name: str
    url: list[str] = []
    page: str | None = None
    bytes: int | None = None
    unpacked_bytes: int | None = None
    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None
    take: dict[str, str] = {}
    splits: tuple[str, ...] = ()


class Lookalike(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something else that is often taken for a data set.

    Attributes:
        has: files or folders, by any of which it is known.
        what: what it is, and what to do.
    """

    has: tuple[str, ...]
    what: str


class Dataset(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data set: where its files lie, its classes and its label policy.

    Attributes:
        layout: "folders" pairs images and labels by stem; "scenes" is drawn by segzoo itself.
        root: folder below the data folder (or --data-root itself, when that holds the split's folders).
        image_suffixes: file endings that count as images.
        label_suffix: what follows the image's stem in the label's file name.
        other_suffixes: endings of files among the labels that are none.
        label_coding: labels are indices (grey or palette), or pictures of the palette's "colours".
        ignore_colours: colours that take no part, where labels are colours.
        palette: one RGB colour a class.
        other_layouts: other folders in which the same files are in use, by split.
        published_ignore: the ignored values that the published files have, where `labels` knows more.
        archives: what the data set is published as.
        convert: the step that makes the folders of what was published, a file of segzoo/preparation/.
        lookalikes: what `segzoo data check` tells from it.
    """

    layout: Literal["folders", "scenes"] = "folders"
    root: str | None = None
    splits: dict[str, Split] = {}
    image_suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".png")
    label_suffix: str = ".png"
    other_suffixes: tuple[str, ...] = ()
    label_coding: Literal["indices", "colours"] = "indices"
    ignore_colours: list[tuple[int, int, int]] = []
    labels: LabelPolicy = LabelPolicy()
    classes: list[str]
    palette: list[tuple[int, int, int]] | None = None
    licence: str | None = None
    source: str | None = None
    other_layouts: list[dict[str, Split]] = []
    published_ignore: tuple[int, ...] | None = None
    archives: list[Archive] = []
    convert: Literal["pascal_context", "voc_augmented"] | None = None
    lookalikes: list[Lookalike] = []


class Weights(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of weights and all the places it can be had from.

    Attributes:
        url: mirrors in the order to try them; "embedded:NAME" is a file of the package.
        sha256: the whole hash or its first hex digits, where one is published.
        part: "model" is a trained segmentor, "backbone" a pretrained backbone to start training from.
    """

    url: list[str]
    sha256: str | None = None
    bytes: int | None = None
    layout: str = "native"
    part: Literal["model", "backbone"] = "model"


class Count(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published count of operations at a stated input shape (height, width).

    Attributes:
        unit: "macs" (one multiply-add counts 1) or "flops" (it counts 2), whatever the source calls it.
        rule: the counting rule that reproduces it, a name known to segzoo/profiling.
    """

    value: float
    shape: tuple[int, int]
    rule: str = "fvcore"
    unit: Literal["macs", "flops"] = "macs"


class Latency(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published latency with the device and the part of the model it was measured on."""

    value_ms: float
    device: str
    scope: str


class Published(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures of the authors, as printed, with their source.

    Attributes:
        params: number of parameters.
        miou: single-scale mean IoU in percent.
        miou_ms: multi-scale and flip mean IoU in percent.
        tolerance: largest difference in mIoU points that `--check` accepts.
        unreproduced: why a figure does not come out here, by metric ("params", "macs_by_rule").
    """

    params: float | None = None
    operations: Count | None = None
    miou: float | None = None
    miou_ms: float | None = None
    latency: Latency | None = None
    tolerance: float = 0.1
    unreproduced: dict[str, str] = {}
    source: str


class LayerDecay(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Learning rates that fall from the head towards the input: times rate**depth-from-the-top.

    Attributes:
        rate: factor from one layer to the one below it.
        layers: number of layers of the backbone that the rule counts.
        kind: "layer" counts transformer blocks, "stage" the groups of blocks of ConvNeXt's config.
    """

    rate: float
    layers: int
    kind: Literal["layer", "stage"] = "layer"


class Recipe(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model was trained; the fields follow the published configs.

    Attributes:
        lr: base learning rate for the whole batch.
        paramwise: substring of a parameter's name -> {"lr_mult", "decay_mult"}.
        layer_decay: how the learning rate falls with depth, where it does.
        schedule: {"policy": "poly", "power": ..., "min_lr": ...} and the like, per iteration.
        crop: training crop (height, width) in pixels.
        scale: limits (long, short) in pixels of the keep-ratio resize before `scale_range` is drawn.
        losses: weight of each output's loss.
        class_weights: "rarity" weights a class by (mean share / its share) ** 0.25 of the training pixels.
        clip_norm: largest norm of the whole gradient; a longer one is shortened to it.
        frozen_batch_norm: the backbone's batch norms stay in evaluation mode.
        settled_batch_norm: after this share of the iterations all batch norms keep fixed statistics, averaged anew
            over whole training pictures with the weights of then; evaluations before it average them anew too.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float
    betas: tuple[float, float] | None = None
    momentum: float | None = None
    weight_decay: float = 0.0
    paramwise: dict[str, dict[str, float]] = {}
    layer_decay: LayerDecay | None = None
    schedule: dict[str, Any] = {}
    warmup: dict[str, Any] = {}
    iterations: int
    batch_size: int
    crop: tuple[int, int]
    scale: tuple[int, int] | None = None
    scale_range: tuple[float, float] = (0.5, 2.0)
    category_max_ratio: float | None = 0.75
    flip: float = 0.5
    photometric: bool = True
    losses: dict[str, float] = msgspec.field(default_factory=lambda: {"logits": 1.0})
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    sync_batch_norm: bool = False
    class_weights: Literal["rarity"] | None = None
    clip_norm: float | None = None
    frozen_batch_norm: bool = False
    settled_batch_norm: float | None = None
    source: str | None = None


class Architecture(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parts of a model; each `type` is a file under segzoo/models.

    Attributes:
        segmentor: a whole that joins a backbone in its own way, instead of neck and heads.
        foreign: a model that another library builds, instead of all of these.
    """

    backbone: dict[str, Any] = {}
    neck: dict[str, Any] | None = None
    head: dict[str, Any] | None = None
    auxiliary_head: dict[str, Any] | None = None
    segmentor: dict[str, Any] | None = None
    foreign: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if bool(self.backbone) == (self.foreign is not None):
            raise ValueError("an architecture has a backbone, or is a foreign model and has nothing else")
        if self.segmentor is not None and (self.neck or self.head or self.auxiliary_head):
            raise ValueError("a segmentor stands in place of neck, head and auxiliary_head; it cannot be beside them")


class Model(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the zoo.

    Attributes:
        recipe: name of the training recipe.
        weights: absent means architecture only.
        notes: what a user should know about this row.
    """

    architecture: Architecture
    dataset: str
    num_classes: int
    protocol: str
    recipe: str | None = None
    weights: list[Weights] = []
    published: Published | None = None
    licence: str | None = None
    notes: list[str] = []


class Manifest(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """zoo.yaml and the user's manifests, merged."""

    datasets: dict[str, Dataset] = {}
    protocols: dict[str, Protocol] = {}
    recipes: dict[str, Recipe] = {}
    models: dict[str, Model] = {}
