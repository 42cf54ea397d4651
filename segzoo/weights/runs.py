"""Downloads as records: what came, from where, how long it took; one failure does not stop the others. No torch."""

from __future__ import annotations

from pathlib import Path

from segzoo.errors import SegzooError
from segzoo.registry import entry
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.weights.download import cached, obtain
from segzoo.weights.partial import Partial
from segzoo.weights.records import read_record, weights_sha256
from segzoo.weights.sources import Source, weights_source


def download_all(
    names: list[str], *, part: str = "model", force: bool = False, dry_run: bool = False, progress: bool = True
) -> tuple[list[Run], list[SegzooError]]:
    """(a record for each model, the errors of those that failed, in order).

    Args:
        names: models of the zoo.
        part: "model" or "backbone".
        force: download even what is cached.
        dry_run: say what would be done; nothing is written and the network is not used.
        progress: show a bar (on a terminal) and words on stderr.
    """
    runs: list[Run] = []
    errors: list[SegzooError] = []
    for name in names:
        watch = Stopwatch()
        try:
            source = weights_source(name, entry(name), part)
            run = _plan(source, force) if dry_run else _download(source, watch, force=force, progress=progress)
        except SegzooError as error:
            errors.append(error)
            run = _run(name, watch, {"part": part}, error=str(error))
        runs.append(run)
    return runs, errors


def without_weights(names: list[str], part: str) -> list[str]:
    """Those of the models that have no weights for a part ("model" or "backbone")."""
    return [name for name in names if not any(weights.part == part for weights in entry(name).weights)]


def _download(source: Source, watch: Stopwatch, *, force: bool, progress: bool) -> Run:
    before = None if force else source.embedded or cached(source)
    path = obtain(source, force=force, progress=progress)
    record = read_record(path)
    conditions = {
        "part": source.weights.part,
        "state": _state(source, path) if before else "downloaded",
        "path": str(path),
        "url": record.url if record else source.weights.url[0],
        "sha256": weights_sha256(path),
    }
    return _run(source.name, watch, conditions, size=path.stat().st_size)


def _plan(source: Source, force: bool) -> Run:
    path = source.embedded or cached(source)
    kept = 0 if path else Partial.beside(source.targets[0]).size
    would = "would be resumed" if kept else "would be downloaded"
    conditions = {
        "part": source.weights.part,
        "state": _state(source, path) if path and not force else would,
        "path": str(path or source.targets[0]),
        "url": source.weights.url[0],
        "sha256": weights_sha256(path) if path else source.sha256,
        "bytes_kept": kept,
    }
    return _run(source.name, None, conditions, size=path.stat().st_size if path else source.weights.bytes)


def _state(source: Source, path: Path) -> str:
    return "embedded" if path == source.embedded else "cached"


def _run(
    name: str, watch: Stopwatch | None, conditions: dict, *, size: int | None = None, error: str | None = None
) -> Run:
    seconds = watch.seconds if watch else None
    return Run(
        command="download",
        model={"name": name},
        metrics={} if error else {"bytes": size, "seconds": seconds},
        conditions=conditions,
        environment=environment(),
        command_line=command_line(),
        started=watch.started if watch else "",
        duration_s=seconds or 0.0,
        status="failed" if error else "ok",
        error=error,
    )
