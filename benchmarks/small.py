"""Small pictures as the usual scripts have them: in memory, changed by torchvision in a DataLoader's workers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.base.machine import cores
from rounds import allow_torchvision


def pixels_of(data: str, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """uint8 (n, H, W, C) and int64 (n,): the pictures of `test`, or of `train` and those that would choose."""
    from resnets.data.batches import evaluation_batches, pictures_of
    from resnets.data.dataset import open_data
    from resnets.preprocess import Preprocess

    opened = open_data(data, for_training=False)
    parts = ("train", "val") if part == "train" else (part,)
    rows = np.sort(np.concatenate([opened.rows(one) for one in parts]))
    width, height = (int(numbers[rows[0]]) for numbers in opened.sizes)
    grey = set(opened.channels) == {"grey"}
    half = (0.5,) * (1 if grey else 3)  # nothing is normalised here
    preprocess = Preprocess(
        size=(height, width), crop=1.0, channels="grey" if grey else "rgb", mean=half, std=half
    )
    pictures = pictures_of(opened, rows, preprocess=preprocess)
    with evaluation_batches(pictures, batch=1000, threads=cores()) as batches:
        pixels = np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in batches])
    (head,) = opened.heads
    return np.ascontiguousarray(pixels), np.array(opened.labels(head)[rows])


def torchvision_loader(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], *, batch: int, training: bool = True
) -> Any:
    """A DataLoader with a worker a core: pad by an eighth and crop, flip, ToTensor, Normalize; or the last two."""
    allow_torchvision()
    import torch
    from PIL import Image
    from torchvision import transforms

    height, channels = pixels.shape[1], pixels.shape[3]
    augment = [transforms.RandomCrop(height, padding=height // 8), transforms.RandomHorizontalFlip()]
    change = transforms.Compose(
        [
            *(augment if training else []),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * channels, (0.25,) * channels),
        ]
    )

    class Small(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return change(Image.fromarray(pixels[index].squeeze())), int(labels[index])

    return torch.utils.data.DataLoader(Small(), batch_size=batch, shuffle=training, num_workers=cores())
