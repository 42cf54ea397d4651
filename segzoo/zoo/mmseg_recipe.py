"""mmsegmentation's training words (0.x and 1.x) -> a recipe of the zoo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segzoo.errors import UsageError


def recipe(config: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """The recipe in the manifest's words.

    Args:
        config: a whole config.
        gpus: number of devices that its images per device are for.

    Raises:
        UsageError: an optimiser or schedule that the zoo does not have.
    """
    return {
        **_optimizer(config),
        **_schedule(config),
        "iterations": _iterations(config),
        "batch_size": _images_per_device(config) * gpus,
        **_augmentation(config),
        "losses": _losses(config["model"]),
        "precision": "fp16" if _mixed_precision(config) else "fp32",
        "sync_batch_norm": any(words.get("type") == "SyncBN" for words in _dictionaries(config)),
    }


def find_steps(steps: list[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    """The pipeline's steps of these types, in order."""
    return [step for step in steps if step.get("type") in types]


def _optimizer(config: Mapping[str, Any]) -> dict[str, Any]:
    wrapper = config.get("optim_wrapper", {})
    words = dict(wrapper.get("optimizer") or config.get("optimizer") or {})
    kind = str(words.get("type", "")).lower()
    if kind not in ("adamw", "sgd"):
        raise UsageError(f"the optimizer {words.get('type')!r} is not known here; AdamW and SGD are")
    result: dict[str, Any] = {"optimizer": kind, "lr": words["lr"]}
    for key in ("betas", "momentum", "weight_decay"):
        if key in words:
            result[key] = list(words[key]) if key == "betas" else words[key]
    rules = words.get("paramwise_cfg") or wrapper.get("paramwise_cfg") or {}
    if rules.get("custom_keys"):
        result["paramwise"] = {name: dict(rule) for name, rule in rules["custom_keys"].items()}
    rate = rules.get("layer_decay_rate", rules.get("decay_rate"))
    if rate is not None:
        kind = "stage" if rules.get("decay_type") == "stage_wise" else "layer"
        result["layer_decay"] = {"rate": rate, "layers": rules["num_layers"], "kind": kind}
    return result


def _schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    if "param_scheduler" in config:
        return _scheduler_list(config["param_scheduler"])
    words = config.get("lr_config") or {}
    policy = words.get("policy")
    if policy == "poly":
        schedule = {"policy": "poly", "power": words.get("power", 1.0), "min_lr": words.get("min_lr", 0.0)}
    elif policy == "step":
        schedule = {"policy": "step", "step": words["step"], "gamma": words.get("gamma", 0.1)}
    else:
        raise UsageError(f"the learning rate policy {policy!r} is not known here; poly and step are")
    if not words.get("warmup"):
        return {"schedule": schedule}
    warmup = {
        "policy": words["warmup"],
        "iterations": words.get("warmup_iters", 0),
        "ratio": words.get("warmup_ratio", 0.1),
    }
    return {"schedule": schedule, "warmup": warmup}


def _scheduler_list(schedulers: list[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for words in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
        if words["type"] == "LinearLR":
            result["warmup"] = {"policy": "linear", "iterations": words["end"], "ratio": words["start_factor"]}
        elif words["type"] == "PolyLR":
            result["schedule"] = {
                "policy": "poly",
                "power": words.get("power", 1.0),
                "min_lr": words.get("eta_min", 0.0),
            }
        else:
            raise UsageError(f"the scheduler {words['type']!r} is not known here; LinearLR and PolyLR are")
    return result


def _iterations(config: Mapping[str, Any]) -> int:
    for words, key in ((config.get("runner"), "max_iters"), (config.get("train_cfg"), "max_iters")):
        if words and key in words:
            return words[key]
    if "total_iters" in config:
        return config["total_iters"]
    raise UsageError("no number of iterations in the config (runner.max_iters, train_cfg.max_iters, total_iters)")


def _images_per_device(config: Mapping[str, Any]) -> int:
    if "train_dataloader" in config:
        return config["train_dataloader"]["batch_size"]
    return config["data"]["samples_per_gpu"]


def _augmentation(config: Mapping[str, Any]) -> dict[str, Any]:
    steps = config.get("train_pipeline") or []
    result: dict[str, Any] = {"photometric": bool(find_steps(steps, "PhotoMetricDistortion"))}
    for step in find_steps(steps, "Resize", "RandomResize"):
        scale = step.get("img_scale") or step.get("scale")
        result["scale"] = list(scale) if scale else None
        result["scale_range"] = list(step.get("ratio_range") or (1.0, 1.0))
    for step in find_steps(steps, "RandomCrop"):
        result["crop"] = list(step["crop_size"])
        limit = step.get("cat_max_ratio", 1.0)
        result["category_max_ratio"] = limit if limit < 1.0 else None
    flips = find_steps(steps, "RandomFlip")
    result["flip"] = flips[0].get("prob", flips[0].get("flip_ratio", 0.0)) if flips else 0.0
    return result


def _losses(model: Mapping[str, Any]) -> dict[str, float]:
    if model.get("type") == "UN_EPT":
        # Its code has these factors; both terms of the segmentation take the config's own weight too.
        weight = (model.get("loss_decode") or {}).get("loss_weight", 1.0)
        return {"logits": 0.8 * weight, "mask_logits": 5.0, "direction_logits": 0.6, "refined_logits": weight}
    losses = {}
    for part, output in (("decode_head", "logits"), ("auxiliary_head", "aux_logits")):
        head = model.get(part)
        if head:
            losses[output] = (head.get("loss_decode") or {}).get("loss_weight", 1.0)
    return losses


def _mixed_precision(config: Mapping[str, Any]) -> bool:
    hook = config.get("optimizer_config") or {}
    wrapper = config.get("optim_wrapper") or {}
    named = hook.get("type") == "Fp16OptimizerHook" or wrapper.get("type") == "AmpOptimWrapper"
    return named or bool(hook.get("use_fp16"))


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dictionaries(item)
