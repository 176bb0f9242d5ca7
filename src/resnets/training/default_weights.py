"""`--weights auto`, the default: ImageNet weights for small photograph data, where the cache has them already."""

from dataclasses import replace

import numpy as np

from resnets.data.dataset import Data
from resnets.networks.variants import variant
from resnets.training.config import TrainConfig, parse_size
from resnets.training.recipes import MANY_PICTURES, PHOTOGRAPHS, SMALL_PIXELS
from resnets.training.start import OnProgress, as_weights_ask
from resnets.weights.blank import outline
from resnets.weights.catalogue import for_any_use, is_cached


def with_default_weights(config: TrainConfig, data: Data, progress: OnProgress) -> tuple[TrainConfig, str | None]:
    """The config with `auto` decided, and the line that says what was, where there was a choice.

    Weights that may be used for anything and are in the cache are taken; nothing is downloaded but by name.
    """
    if config.weights not in (None, "auto"):
        return config, None
    scratch = replace(config, weights="none")
    choice = for_any_use(config.model or PHOTOGRAPHS)
    if not choice or not _are_few_photographs(config, data):
        return scratch, None
    about = f"{len(data.rows('train')):,} training photographs"
    for weights in choice:
        if is_cached(weights):
            line = f"starts from {weights.name} ({weights.licence}), which the cache has, for {about}"
            asked = as_weights_ask(replace(config, weights=weights.name), progress)
            return asked, f"{line}; --weights none starts from scratch"
    best = choice[0]
    tensors = outline(variant(best.network)).state_dict().values()
    megabytes = sum(tensor.nbytes for tensor in tensors) / 1e6
    exact = f"--weights {best.name} (about {megabytes:.0f} MB, {best.licence})"
    return scratch, f"starts from scratch: {exact} is not in the cache, and would suit {about} better"


def _are_few_photographs(config: TrainConfig, data: Data) -> bool:
    """Coloured pictures, fewer than many and larger than small, that are not known to be drawings."""
    rows = data.rows("train")
    if len(rows) >= MANY_PICTURES or not len(rows):
        return False
    if data.traits.drawings or config.resize == "ink" or set(data.channels) == {"grey"}:
        return False
    if config.stem not in (None, "own", variant(config.model or PHOTOGRAPHS).stem):
        return False
    widths, heights = (sides[rows] for sides in data.sizes)
    asked = parse_size(config.size) if config.size else ()
    return bool(min([np.median(np.minimum(widths, heights)), *asked]) > SMALL_PIXELS)
