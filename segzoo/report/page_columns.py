"""The columns of the report's table: key, heading, how a value is written, and which direction is better."""

from __future__ import annotations

from typing import Any, NamedTuple

from segzoo.report.entries import Entry


class PageColumn(NamedTuple):
    """One column; `divisor` and `decimals` are how a number is shown, `hint` what the heading means."""

    key: str
    heading: str
    hint: str
    divisor: float = 1.0
    decimals: int | None = None

    def write(self, value: Any) -> str:
        """A value as the table shows it; "" where it is not known."""
        if value is None:
            return ""
        if self.decimals is None or not isinstance(value, (int, float)):
            return str(value)
        return f"{value / self.divisor:,.{self.decimals}f}"


PAGE_COLUMNS = (
    PageColumn("model", "model", "name in the zoo"),
    PageColumn("miou_percent", "mIoU", "measured, single-scale, %", 1, 2),
    PageColumn("miou_published", "mIoU publ.", "published, single-scale, %", 1, 2),
    PageColumn("miou_ms_percent", "mIoU ms", "measured, several scales and flip, %", 1, 2),
    PageColumn("miou_ms_published", "mIoU ms publ.", "published, several scales and flip, %", 1, 2),
    PageColumn("dataset", "data set", "data the scores are on"),
    PageColumn("protocol", "protocol", "test protocol of the measured score"),
    PageColumn("params", "params, M", "counted parameters, 10^6", 1e6, 2),
    PageColumn("params_published", "params publ., M", "published parameters, 10^6", 1e6, 2),
    PageColumn("macs", "MACs, G", "multiply-adds of one image, 10^9", 1e9, 1),
    PageColumn("flops", "FLOPs, G", "operations of one image, two a multiply-add, 10^9", 1e9, 1),
    PageColumn("macs_input", "MACs at", "input height x width of the count"),
    PageColumn("device", "device", "where it was timed"),
    PageColumn("machine", "machine", "processor or GPU"),
    PageColumn("dtype", "dtype", "number format"),
    PageColumn("input", "input", "height x width of the timing"),
    PageColumn("batch", "batch", "images in a timed call", 1, 0),
    PageColumn("scope", "scope", "the network alone, or the whole protocol"),
    PageColumn("threads", "threads", "of PyTorch on the CPU", 1, 0),
    PageColumn("backend", "backend", "what runs the network"),
    PageColumn("compile", "compile", "run through torch.compile"),
    PageColumn("channels_last", "channels last", "channels innermost in memory"),
    PageColumn("fused", "fused", "batch norms folded"),
    PageColumn("latency_ms_median", "median ms", "median latency of a call", 1, 2),
    PageColumn("latency_ms_p10", "p10 ms", "a tenth of the calls is quicker", 1, 2),
    PageColumn("latency_ms_p90", "p90 ms", "a tenth of the calls is slower", 1, 2),
    PageColumn("yardstick_ratio", "× ResNet-50", "median over that of a ResNet-50 at 224x224 in the same run", 1, 2),
    PageColumn("images_per_second", "images/s", "at this batch", 1, 2),
    PageColumn("best_images_per_second", "best images/s", "at the best batch", 1, 2),
    PageColumn("best_batch_size", "best batch", "images in a call with the highest rate", 1, 0),
    PageColumn("peak_memory_bytes", "memory, MiB", "peak memory", 2**20, 0),
    PageColumn("energy_joules_per_image", "J/image", "energy of one image", 1, 3),
    PageColumn("status", "status", "failed and partial results"),
)


def used_columns(rows: list[Entry]) -> list[PageColumn]:
    """The columns that have a value in some row."""
    return [
        column
        for column in PAGE_COLUMNS
        if column.key == "model" or any(row.values.get(column.key) is not None for row in rows)
    ]
