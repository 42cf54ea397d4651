"""Brings published data sets to this machine: what to fetch, downloading, unpacking, converting. No torch."""

from segzoo.preparation.carry_out import planned, prepare
from segzoo.preparation.plan import Plan, make_plan
from segzoo.preparation.train_ids import write_train_ids

__all__ = ["Plan", "make_plan", "planned", "prepare", "write_train_ids"]
