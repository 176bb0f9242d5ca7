"""Changes of colour and form on batches of uint8 pictures (B, C, H, W), each picture by its own amount.

Amounts are (B, 1, 1, 1) tensors. What Pillow has too (ImageOps, ImageEnhance) gives Pillow's pictures, up
to rounding; contrast has its grey level from the unrounded mean.
"""

import torch
import torch.nn.functional as F

from resnets.data.augment.transfer import numbers

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L
GREY = 128  # what a moved picture leaves behind, as in RandAugment's code


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    """Rounded and clamped to uint8, channels last."""
    return images.round().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def as_floats(images: torch.Tensor) -> torch.Tensor:
    """fp32 from 0 to 255, one channel after the other in memory: planes are faster to compute on."""
    return images.to(torch.float32, memory_format=torch.contiguous_format)


def blend(base: torch.Tensor, images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """base + factor * (images - base) on floats, clamped to 0 to 255."""
    return (base + factor * (images - base)).clamp_(0, 255)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Luma (B, 1, H, W) of float pictures with 1 or 3 channels."""
    if images.shape[1] == 1:
        return images
    return (images * numbers(LUMA, images)[:, None, None]).sum(dim=1, keepdim=True)


def brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Floats times `factor`; 0 is black, 1 the picture."""
    return (images * factor).clamp_(0, 255)


def contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Floats; 0 is the picture's mean grey everywhere, 1 the picture."""
    return blend(grey(images).mean(dim=(2, 3), keepdim=True), images, factor)


def saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Floats; 0 is the picture in grey, 1 the picture."""
    return blend(grey(images), images, factor)


def sharpness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Floats; 0 is the picture smoothed (all but its border), 1 the picture."""
    if min(images.shape[2:]) < 3:
        return images
    smooth = images.clone()
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.copy_(
        (9 * F.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    )  # Pillow's SMOOTH: 5 in the middle, else 1
    return blend(smooth, images, factor)


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """uint8 with only the highest `bits` (0 to 8) of each value kept."""
    return images & (256 - 2 ** (8 - bits)).to(torch.uint8)


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """uint8 with values of at least `threshold` inverted."""
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """uint8 with each channel stretched to 0 to 255; a channel of one value stays."""
    values = as_floats(images)
    low, high = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    span = high - low
    stretched = ((values - low) * (255 / span.clamp(min=1))).floor()
    return torch.where(span > 0, stretched, values).to(torch.uint8)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """uint8 with each channel's histogram made level; a channel that is nearly one value stays."""
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, height * width).long()
    offsets = 256 * torch.arange(count * channels, device=images.device)[:, None]
    histogram = torch.bincount((planes + offsets).flatten(), minlength=256 * count * channels).view(-1, 256)
    last = histogram.gather(1, planes.amax(dim=1, keepdim=True))  # how many pixels have the highest value
    step = (height * width - last) // 255
    before = histogram.cumsum(dim=1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    level = torch.where(step > 0, table.gather(1, planes), planes)
    return level.view(images.shape).to(torch.uint8)


def move(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """uint8 sampled at matrix (B, 2, 3) times the output's (x, y, 1), in pixels from the centre, bilinear."""
    height, width = images.shape[2:]
    # from pixels to the -1 to 1 of either side
    across = matrix[:, 0] * numbers([1, height / width, 2 / width], matrix)
    down = matrix[:, 1] * numbers([width / height, 1, 2 / height], matrix)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(as_floats(images) - GREY, grid, padding_mode="zeros", align_corners=False)
    return as_bytes(moved + GREY)
