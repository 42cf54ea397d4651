"""Every option of every command: what `segzoo replay` must give back, and why it must not give back the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

HOW_IT_IS_SHOWN = {
    **dict.fromkeys(("format", "json", "output"), "where and how the record is written"),
    **dict.fromkeys(("quiet", "no_progress"), "what is said on the way"),
}
JUDGEMENT = "an exit code drawn from the record, which is compared with the old one instead"
FILES = "writes files of a user's beside the record; a replay must not overwrite them"


@dataclass(frozen=True, kw_only=True)
class Command:
    """The options of a command: those that a replay gives back, with words that are not their default, and the rest.

    Attributes:
        calls: parameters and words of each call that is tried; what cannot go together is in different calls.
        measures: functions that are given what the options say, as "module.function".
        not_given_back: parameter -> why a replay must not take it up.
    """

    calls: list[dict[str, list[str]]]
    measures: list[str]
    not_given_back: dict[str, str] = field(default_factory=dict)


SIZE = ["--shape", "64x96"]
ON_ONE_CORE = {"device": ["--device", "cpu"], "threads": ["--threads", "1"]}
TIMING = {
    **ON_ONE_CORE,
    "shape": SIZE,
    "dtype": ["--dtype", "bf16"],
    "repetitions": ["--repetitions", "3"],
    "compile": ["--compile"],
    "channels_last": ["--channels-last"],
    "fuse": ["--fuse"],
    "batch_size": ["-b", "2"],
}
EVALUATING = {
    "names": ["tiny-nat"],
    "aug_test": ["--aug-test"],
    "dataset": ["--dataset", "two"],
    "data_root": ["--data-root", "elsewhere"],
    "split": ["--split", "train"],
    "protocol": ["--protocol", "smaller"],
    "checkpoint": ["--checkpoint=weights.pth"],
    "no_strict": ["--no-strict"],
    "fuse": ["--fuse"],
    "limit": ["--limit", "1"],
    "device": ["--device", "cpu"],
    "compile": ["--compile"],
    "batch_size": ["--batch-size", "3"],
    "workers": ["-j", "2"],
}
MEASURING = {"dtype": ["--dtype", "bf16"], "boundary": ["--boundary"], "calibration": ["--calibration"]}

COMMANDS = {
    "params": Command(
        calls=[{"names": ["nat-pico"]}],
        measures=["segzoo.profiling.records.params_run"],
        not_given_back={**HOW_IT_IS_SHOWN, "check": JUDGEMENT},
    ),
    "flops": Command(
        calls=[
            {"names": ["tiny-nat"], "shape": SIZE, "rule": ["--rule", "thop"], "batch_size": ["-b", "2"]},
            {"names": ["tiny-nat"], "shape": SIZE, "rule": ["--rule", "fvcore"], "tree": ["--tree", "2"]},
            {"names": ["tiny-nat"], "shape": SIZE, "explain": ["--explain"]},
            {
                "names": ["tiny-nat"],
                "shape": SIZE,
                "scope": ["--scope", "protocol"],
                "rule": ["--rule", "multiply-add"],
            },
        ],
        measures=[
            "segzoo.profiling.records.flops_run",
            "segzoo.profiling.explain.explain_run",
            "segzoo.profiling.explain.protocol_run",
        ],
        not_given_back={**HOW_IT_IS_SHOWN, "check": JUDGEMENT, "by": "which table of the record is shown"},
    ),
    "verify": Command(
        calls=[{"names": ["nat-pico"]}],
        measures=["segzoo.profiling.verify.verify_run"],
        not_given_back=HOW_IT_IS_SHOWN,
    ),
    "latency": Command(
        calls=[
            {"names": ["nat-pico"], **TIMING},
            {
                "names": ["nat-pico"],
                **ON_ONE_CORE,
                "scope": ["--scope", "protocol"],
                "repetitions": ["--repetitions=4"],
            },
        ],
        measures=["segzoo.profiling.latency_record.latency_run", "segzoo.profiling.latency_record.measure_latency"],
        not_given_back=HOW_IT_IS_SHOWN,
    ),
    "bench": Command(
        calls=[
            {
                "names": ["nat-pico"],
                **TIMING,
                "rounds": ["--rounds", "2"],
                "throughput": ["--throughput"],
                "timeout": ["--timeout", "900"],
            },
            {"names": ["nat-pico"], **ON_ONE_CORE, "scope": ["--scope", "protocol"]},
            {"names": ["nat-pico"], **ON_ONE_CORE, "backend": ["--backend", "onnxruntime"]},
        ],
        measures=["segzoo.bench.run.run_job"],
        not_given_back={
            **HOW_IT_IS_SHOWN,
            "suite": "a list of measurements; each has a record of its own with all that was chosen for it",
            "resume": "which measurements were there already",
        },
    ),
    "eval": Command(
        calls=[
            {**EVALUATING, **MEASURING},
            {**EVALUATING, **MEASURING, "corrupt": ["--corrupt", "fog:3", "--corrupt=jpeg:2"]},
            {**EVALUATING, "precision_report": ["--precision-report"]},
        ],
        measures=["segzoo.evaluation.evaluate_name", "segzoo.evaluation.precision_report_name"],
        not_given_back={
            **HOW_IT_IS_SHOWN,
            "check": JUDGEMENT,
            "per_class": "which table of the record is shown",
            "save_predictions": FILES,
            "analysis": FILES + "; the measures that come with it are given back",
            "nproc": "the figures are the same with any number of processes",
            "resume": "which images were counted already",
            "offline": "a matter of the machine and the day",
        },
    ),
}
NOT_REPLAYED = {
    "train": "hours or days, and the same command in the same work directory is how a training is gone on with",
    "pretrain": "as train",
    "predict": "labels pictures: there are no figures to compare",
    "list": "what the manifest says",
    "info": "what the manifest says",
    "export": "writes a file; its check is of that file",
    "convert": "writes a file",
    "import": "writes a manifest",
    "download": "fetches files",
    "cache": "what is on this disk",
    "data": "what is on this disk",
    "doctor": "of this machine at this moment",
    "kernel": "of this machine; `kernel bench` takes the rivals along and is run again by the same words",
    **dict.fromkeys(("report", "compare", "diff", "replay"), "made of records; their files are needed anew"),
}
