"""Learning rate, optimizer and loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastcore.train.config import TrainConfig


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """The learning rate of one step: number ``step`` of the ``steps`` of an epoch, both counted from 0.

    Place in the schedule is counted in epochs, t = epoch + step / steps of ``config.epochs``, so that it is the
    same when the number of rows changes between epochs; while it does not, that is the count of steps.

    - In the first ``warmup_epochs`` the rate rises in equal parts with each step, and the last of them has all
      of ``learning_rate``. A shorter training ends on the way.
    - "cosine" then falls as (1 + cos πx) / 2 from ``learning_rate`` to ``final_learning_rate``, where x is the
      share done of the epochs after warm-up: the step that would follow the last one has the final rate.
    - "step" multiplies by ``decay`` from each milestone on, a share of all epochs.
    """
    done = epoch + step / steps
    if done < config.warmup_epochs:
        return config.learning_rate * min(1.0, (done + 1 / steps) / config.warmup_epochs)
    if config.schedule == "cosine":
        share = (done - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
        height = config.learning_rate - config.final_learning_rate
        return config.final_learning_rate + height * (1 + math.cos(math.pi * share)) / 2
    if config.schedule == "step":
        passed = sum(done / config.epochs >= share for share in config.milestones)
        return config.learning_rate * config.decay**passed
    return config.learning_rate


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that take gradients. Raises ValueError when there are none."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    if not parameters:
        raise ValueError(
            f"network must have parameters that require gradients, {type(network).__name__} has none"
        )
    # One kernel for all parameters: deterministic, and a tenth of the calls.
    fused = all(each.is_floating_point() and each.device.type in ("cpu", "cuda") for each in parameters)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def training_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy of a batch: the mean, or Σ w ℓ / Σ w with weights (0 where all weights of the batch are 0)."""
    if weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
