"""The training loop most people write: DataLoader with workers, torchvision transforms on PIL images, FP32, SGD.

It follows the PyTorch documentation's image classification tutorials; nothing is made slower than it is there.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """uint8 images `(N, H, W, 3)` in memory, handed out through PIL and `transform` as torchvision's CIFAR10 does."""

    def __init__(self, images: NDArray[np.uint8], targets: NDArray[np.int64], transform: transforms.Compose) -> None:
        self.images, self.targets, self.transform = images, targets, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.targets[index])


def loader(
    images: NDArray[np.uint8],
    targets: NDArray[np.int64],
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = 128,
    workers: int = 2,
) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return the usual CIFAR training loader."""
    transform = transforms.Compose(
        [
            transforms.RandomCrop(images.shape[1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    dataset = ImageSet(images, targets, transform)
    return DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers, drop_last=True)


def epoch(module: nn.Module, data: DataLoader[tuple[torch.Tensor, int]], lr: float = 0.1) -> Iterator[int]:
    """Train `module` for one epoch; yield the number of images after every step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for inputs, labels in data:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(module(inputs), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # the running loss that every such script prints
        yield len(inputs)
