"""Evaluation of a model on a data set by a published protocol, as one record."""

from segzoo.evaluation.kept import keeping
from segzoo.evaluation.loop import evaluate
from segzoo.evaluation.named import Setup, evaluate_name, precision_report_name
from segzoo.evaluation.precision_report import precision_report
from segzoo.evaluation.published import check
from segzoo.evaluation.robustness import evaluations, robustness

__all__ = [
    "Setup",
    "check",
    "evaluate",
    "evaluate_name",
    "evaluations",
    "keeping",
    "precision_report",
    "precision_report_name",
    "robustness",
]
