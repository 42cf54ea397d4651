"""Brings published data sets to this machine: what to fetch, downloading, unpacking, converting. No torch."""

from segzoo.preparation.carry_out import planned, prepare
from segzoo.preparation.plan import Plan, make_plan

__all__ = ["Plan", "make_plan", "planned", "prepare"]
