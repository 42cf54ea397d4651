"""Evaluation of a model on a data set by a published protocol, as one record."""

from segzoo.evaluation.kept import keeping
from segzoo.evaluation.loop import evaluate
from segzoo.evaluation.named import evaluate_name
from segzoo.evaluation.published import check

__all__ = ["check", "evaluate", "evaluate_name", "keeping"]
