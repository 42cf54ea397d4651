"""Which numbers of a Run stand in a command's table, under which heading and rounded how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from segzoo.results import Run


class Column(NamedTuple):
    """A heading, the value of a run under it, and how the value is written."""

    heading: str
    value: Callable[[Run], Any]
    write: Callable[[Any], str] = str


def metric(name: str) -> Callable[[Run], Any]:
    """The value of one metric of a run."""
    return lambda run: run.metrics.get(name)


def bounds(low: str, high: str) -> Callable[[Run], Any]:
    """Two metrics of a run as one value; None where either is missing."""

    def value(run: Run) -> Any:
        pair = run.metrics.get(low), run.metrics.get(high)
        return None if None in pair else pair

    return value


def condition(name: str) -> Callable[[Run], Any]:
    """The value of one condition of a run."""
    return lambda run: run.conditions.get(name)


def model_name(run: Run) -> str:
    """The model's name, marked with * where the run has notes and with ! where it failed."""
    mark = "!" if run.status == "failed" else "*" if run.notes else ""
    return f"{run.model.get('name', '')}{mark}"


def data_split(run: Run) -> str:
    """The data set and its split."""
    return f"{run.conditions.get('dataset')} {run.conditions.get('split')}"


def decimals(places: int) -> Callable[[Any], str]:
    """Writes a number with a fixed number of decimals."""
    return lambda value: f"{value:.{places}f}"


def interval(value: Any) -> str:
    """Writes two bounds with two decimals."""
    return f"{value[0]:.2f} to {value[1]:.2f}"


def signed_interval(value: Any) -> str:
    """Writes two bounds of a difference."""
    return f"{value[0]:+.2f} to {value[1]:+.2f}"


def thousands(value: Any) -> str:
    """Writes a count with its digits in groups of three."""
    return f"{value:,}"


def millions(value: Any) -> str:
    """Writes a count in millions."""
    return f"{value / 1e6:.2f} M"


def billions(value: Any) -> str:
    """Writes a count in units of 10^9."""
    return f"{value / 1e9:.1f} G"


def printed_millions(value: Any) -> str:
    """Writes a published count in millions, with the digits it was printed with."""
    return f"{value / 1e6:g} M"


def printed_billions(value: Any) -> str:
    """Writes a published count in units of 10^9, with the digits it was printed with."""
    return f"{value / 1e9:g} G"


def mebibytes(value: Any) -> str:
    """Writes bytes in MiB."""
    return f"{value / 2**20:.0f} MiB"


def part(name: str, key: str) -> Callable[[Run], Any]:
    """The count `key` of one part of the model."""

    def value(run: Run) -> Any:
        return next((row[key] for row in run.breakdown.get("part", []) if row["part"] == name), None)

    return value


def expected(key: str, index: int = 0) -> Callable[[Run], Any]:
    """A field of the published figure that the run was compared with."""
    return lambda run: getattr(run.expected[index], key) if len(run.expected) > index else None


def of_metric(name: str, key: str) -> Callable[[Run], Any]:
    """A field of the comparison of one metric; "relative" is (measured - published) / published."""

    def value(run: Run) -> Any:
        item = next((item for item in run.expected if item.metric == name), None)
        if item is None or key != "relative":
            return None if item is None else getattr(item, key)
        return None if item.difference is None else item.difference / item.value

    return value


def relative_difference(run: Run) -> float | None:
    """(measured - published) / published of the run's first comparison."""
    first = run.expected[0] if run.expected else None
    return None if first is None or first.difference is None else first.difference / first.value


def percent(value: Any) -> str:
    """Writes a signed ratio in percent."""
    return f"{100 * value:+.2f} %"


def verdict(value: Any) -> str:
    """Writes whether a figure is within its tolerance."""
    return "ok" if value else "OFF"


def by_times(value: Any) -> str:
    """Writes a shape such as 1x3x512x2048."""
    return "x".join(map(str, value))


def short_hash(value: Any) -> str:
    """Writes the first digits of a hash."""
    return str(value)[:12]


def megabytes(value: Any) -> str:
    """Writes bytes in MB (10^6)."""
    return f"{value / 1e6:.1f} MB"


NAME = Column("model", model_name)

COLUMNS: dict[str, list[Column]] = {
    "list": [
        NAME,
        Column("data set", condition("dataset")),
        Column("params", metric("params_published"), printed_millions),
        Column("MACs", metric("macs_published"), printed_billions),
        Column("at", condition("macs_shape")),
        Column("mIoU", metric("miou_percent_published"), "{:g}".format),
        Column("mIoU ms+flip", metric("miou_ms_percent_published"), "{:g}".format),
        Column("weights", condition("weights")),
    ],
    "download": [
        NAME,
        Column("state", condition("state")),
        Column("size", metric("bytes"), megabytes),
        Column("seconds", metric("seconds"), decimals(1)),
        Column("sha256", condition("sha256"), short_hash),
        Column("path", condition("path")),
        Column("url", condition("url")),
    ],
    "cache": [
        NAME,
        Column("state", condition("state")),
        Column("size", metric("bytes"), megabytes),
        Column("sha256", condition("sha256"), short_hash),
        Column("date", condition("date")),
        Column("path", condition("path")),
    ],
    "convert": [
        NAME,
        Column("from", condition("from")),
        Column("to", condition("to")),
        Column("tensors", metric("tensors")),
        Column("size", metric("bytes"), megabytes),
        Column("sha256", condition("sha256"), short_hash),
        Column("path", condition("path")),
    ],
    "params": [
        NAME,
        Column("params", metric("params"), millions),
        Column("published", expected("value"), millions),
        Column("difference", relative_difference, percent),
        Column("verdict", expected("within"), verdict),
        Column("backbone", part("backbone", "params"), millions),
        Column("neck", part("neck", "params"), millions),
        Column("head", part("decode_head", "params"), millions),
        Column("auxiliary head", part("auxiliary_head", "params"), millions),
        Column("buffers", metric("buffers"), millions),
    ],
    "flops": [
        NAME,
        Column("input", condition("shape"), by_times),
        Column("rule", condition("rule")),
        Column("MACs by rule", metric("macs_by_rule"), billions),
        Column("published", expected("value"), billions),
        Column("difference", relative_difference, percent),
        Column("verdict", expected("within"), verdict),
        Column("backbone", part("backbone", "macs_by_rule"), billions),
        Column("neck", part("neck", "macs_by_rule"), billions),
        Column("head", part("decode_head", "macs_by_rule"), billions),
        Column("MACs", metric("macs"), billions),
        Column("FLOPs", metric("flops"), billions),
    ],
    "flops explained": [
        NAME,
        Column("input", condition("shape"), by_times),
        Column("published", metric("macs_published"), printed_billions),
        Column("its rule", condition("rule")),
    ],
    "flops of a protocol": [
        NAME,
        Column("protocol", condition("protocol")),
        Column("picture", condition("shape"), by_times),
        Column("network inputs", metric("network_inputs")),
        Column("rule", condition("rule")),
        Column("MACs by rule", metric("macs_by_rule"), billions),
        Column("MACs", metric("macs"), billions),
        Column("FLOPs", metric("flops"), billions),
    ],
    "eval": [
        NAME,
        Column("data set", data_split),
        Column("protocol", condition("protocol")),
        Column("corruption", condition("corruption")),
        Column("images", metric("images")),
        Column("mIoU", metric("miou_percent"), decimals(2)),
        Column("95 % interval", bounds("miou_low_percent", "miou_high_percent"), interval),
        Column("mAcc", metric("macc_percent"), decimals(2)),
        Column("aAcc", metric("aacc_percent"), decimals(2)),
        Column("boundary mIoU", metric("boundary_miou_percent"), decimals(2)),
        Column("boundary F", metric("boundary_f_percent"), decimals(2)),
        Column("ECE", metric("ece_percent"), decimals(2)),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
        Column("images/s", metric("images_per_second"), "{:.3g}".format),
    ],
    "data prepare": [
        Column("data set", model_name),
        Column("folder", condition("root")),
        Column("pairs", metric("pairs")),
        Column("archives", metric("archives")),
        Column("licence", condition("licence")),
    ],
    "robustness": [
        NAME,
        Column("data set", data_split),
        Column("protocol", condition("protocol")),
        Column("images", metric("images")),
        Column("mIoU, clean", metric("miou_percent"), decimals(2)),
        Column("mean, corrupted", metric("corrupted_miou_percent"), decimals(2)),
        Column("of clean", metric("relative_percent"), "{:.1f} %".format),
        Column("corruptions", metric("corruptions")),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
    ],
    "precision": [
        NAME,
        Column("data set", data_split),
        Column("protocol", condition("protocol")),
        Column("images", metric("images")),
        Column("mIoU, fp32", metric("miou_percent"), decimals(2)),
        Column("formats", metric("formats")),
        Column("device", condition("device")),
    ],
    "data check": [
        Column("data set", model_name),
        Column("split", condition("split")),
        Column("images", metric("images")),
        Column("published", condition("published")),
        Column("problems", metric("problems")),
        Column("warnings", metric("warnings")),
        Column("classes", condition("classes")),
        Column("present", metric("classes_present")),
        Column("pixels", metric("pixels"), thousands),
        Column("ignored pixels", metric("ignored_pixels"), thousands),
    ],
    "latency": [
        NAME,
        Column("scope", condition("scope")),
        Column("input", condition("shape"), by_times),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
        Column("threads", condition("threads")),
        Column("median ms", metric("latency_ms_median"), decimals(2)),
        Column("p10", metric("latency_ms_p10"), decimals(2)),
        Column("p90", metric("latency_ms_p90"), decimals(2)),
        Column("p99", metric("latency_ms_p99"), decimals(2)),
        Column("images/s", metric("images_per_second"), decimals(2)),
        Column("peak memory", metric("peak_memory_bytes"), mebibytes),
        Column("samples", condition("samples")),
    ],
    "bench": [
        NAME,
        Column("scope", condition("scope")),
        Column("input", condition("shape"), by_times),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
        Column("threads", condition("threads")),
        Column("params", metric("params"), millions),
        Column("MACs", metric("macs"), billions),
        Column("median ms", metric("latency_ms_median"), decimals(2)),
        Column("p10", metric("latency_ms_p10"), decimals(2)),
        Column("p90", metric("latency_ms_p90"), decimals(2)),
        Column("x ResNet-50", metric("yardstick_ratio"), decimals(2)),
        Column("images/s", metric("images_per_second"), decimals(2)),
        Column("best images/s", metric("best_images_per_second"), decimals(2)),
        Column("at batch", metric("best_batch_size")),
        Column("peak memory", metric("peak_memory_bytes"), mebibytes),
        Column("J/image", metric("energy_joules_per_image"), decimals(3)),
        Column("rounds", condition("rounds")),
    ],
    "compare": [
        Column("evaluations", model_name),
        Column("images", metric("images")),
        Column("first", metric("first_miou_percent"), decimals(2)),
        Column("second", metric("second_miou_percent"), decimals(2)),
        Column("difference", metric("difference_percent"), "{:+.2f}".format),
        Column("95 % interval", bounds("difference_low_percent", "difference_high_percent"), signed_interval),
        Column("p", metric("p_value"), "{:.2g}".format),
        Column("better", condition("better")),
        Column("classes: first", metric("classes_first_wins")),
        Column("second", metric("classes_second_wins")),
        Column("undecided", metric("classes_undecided")),
    ],
    "diff": [
        Column("records", model_name),
        Column("compared", metric("records")),
        Column("better", metric("better")),
        Column("worse", metric("worse")),
        Column("same", metric("same")),
    ],
    "export": [
        NAME,
        Column("format", condition("format")),
        Column("input", condition("shape"), by_times),
        Column("sizes", condition("sizes")),
        Column("checked at", condition("sizes_checked")),
        Column("largest error", metric("largest_error"), "{:.1e} std".format),
        Column("labels that differ", metric("labels_different_percent"), "{:.3f} %".format),
        Column("size", metric("bytes"), megabytes),
        Column("path", condition("path")),
    ],
    "predict": [
        NAME,
        Column("protocol", condition("protocol")),
        Column("images", metric("images")),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
        Column("images/s", metric("images_per_second"), decimals(2)),
        Column("folder", condition("folder")),
    ],
    "train": [
        NAME,
        Column("data set", condition("dataset")),
        Column("iterations", metric("iterations")),
        Column("mIoU", metric("miou_percent"), decimals(2)),
        Column("best mIoU", metric("best_miou_percent"), decimals(2)),
        Column("at", metric("best_iteration")),
        Column("loss", metric("loss"), decimals(4)),
        Column("device", condition("device")),
        Column("dtype", condition("dtype")),
        Column("images/s", metric("images_per_second"), "{:.3g}".format),
        Column("folder", condition("work_dir")),
    ],
    "pretrain": [
        NAME,
        Column("data set", condition("dataset")),
        Column("iterations", metric("iterations")),
        Column("top-1", metric("top1_percent"), decimals(2)),
        Column("best top-1", metric("best_top1_percent"), decimals(2)),
        Column("at", metric("best_iteration")),
        Column("loss", metric("loss"), decimals(4)),
        Column("device", condition("device")),
        Column("images/s", metric("images_per_second"), "{:.3g}".format),
        Column("folder", condition("work_dir")),
    ],
    "verify": [
        NAME,
        Column("params", metric("params"), millions),
        Column("published", of_metric("params", "value"), millions),
        Column("difference", of_metric("params", "relative"), percent),
        Column("input", condition("shape"), by_times),
        Column("rule", condition("rule")),
        Column("MACs by rule", metric("macs_by_rule"), billions),
        Column("published", of_metric("macs_by_rule", "value"), billions),
        Column("difference", of_metric("macs_by_rule", "relative"), percent),
        Column("verdict", condition("verdict")),
    ],
}

WITH_COMPARISON = frozenset({"eval"})
"""Commands whose published figures stand in a table of their own, tolerance and source included."""
