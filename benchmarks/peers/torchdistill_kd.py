"""Plain distillation with torchdistill, as its sample configurations for CIFAR-10 have it.

Its `DistillationBox`, `KDLoss`, data loaders with workers and torchvision transforms; only what names files, networks
and the device is ours. Its `alpha` weighs the labels.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision import transforms

from benchmarks.peers.plain_pytorch import ImageSet


def distill(
    teacher: nn.Module,
    student: nn.Module,
    images: NDArray[np.uint8],
    targets: NDArray[np.int64],
    mean: Sequence[float],
    std: Sequence[float],
    epochs: int,
    lr: float = 0.1,
    batch: int = 128,
    weight_decay: float = 5e-4,
    temperature: float = 4.0,
    labels: float = 0.1,
    workers: int = 2,
) -> float:
    """Train `student` in place, with a cosine schedule per epoch; return the seconds it took, loaders included."""
    from torchdistill.core.distillation import get_distillation_box

    torch.manual_seed(0)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(images.shape[1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sets = {"train": ImageSet(images, targets, transform), "val": ImageSet(images[:batch], targets[:batch], transform)}
    config = _config(epochs, lr, batch, weight_decay, temperature, labels, workers)
    begin = time.perf_counter()
    box = get_distillation_box(
        teacher.to(device), student.to(device), sets, config, device, [0] if device.type == "cuda" else None, False, 1
    )
    for epoch in range(epochs):
        box.pre_epoch_process(epoch=epoch)
        for inputs, given, more in box.train_data_loader:
            inputs, given = inputs.to(device), given.to(device)
            loss = box.forward_process(inputs, given, more)
            box.post_forward_process(loss=loss)
            if not torch.isfinite(loss):  # its own example looks at every loss, too
                raise ArithmeticError(f"the loss became {loss.item()}")
        box.post_epoch_process()
    box.clean_modules()
    return time.perf_counter() - begin


def _config(
    epochs: int, lr: float, batch: int, weight_decay: float, temperature: float, labels: float, workers: int
) -> dict[str, Any]:
    def loader(name: str, sampler: Any) -> dict[str, Any]:
        kwargs = {
            "batch_size": batch,
            "num_workers": workers,
            "pin_memory": torch.cuda.is_available(),
            "drop_last": False,
        }
        return {"dataset_id": name, "sampler": {"class_or_func": sampler, "kwargs": None}, "kwargs": kwargs}

    kd = {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
        "temperature": temperature,
        "alpha": labels,
        "reduction": "batchmean",
    }
    network = {"forward_proc": "forward_batch_only", "sequential": [], "frozen_modules": []}
    return {
        "log_freq": 1000,
        "num_epochs": epochs,
        "train_data_loader": loader("train", torch.utils.data.RandomSampler),
        "val_data_loader": loader("val", torch.utils.data.SequentialSampler),
        "teacher": {**network, "requires_grad": False},
        "student": {**network, "adaptations": None, "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": {"lr": lr, "momentum": 0.9, "weight_decay": weight_decay}},
        "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": epochs}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": kd}, "weight": 1.0}}},
        },
    }
