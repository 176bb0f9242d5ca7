"""Compare every network of ours with its counterpart at full depth, and print the table of the documentation.

    python -m tests.peers.table [NAME...]

It takes about a quarter of an hour on two cores, and 6 GiB. Exits with 1 where a difference is too large.
"""

import gc
import sys

import torch

from resnets.networks.resnet import build
from tests.peers.references import compare, counterpart, names_assembled, names_in_timm, names_in_torchvision

FLOAT64, FLOAT32 = 1e-8, 5e-4  # largest relative differences allowed
COUNTERPARTS = {
    "torchvision": names_in_torchvision,
    "timm": names_in_timm,
    "assembled": names_assembled,
}
HOW = {
    "torchvision": "torchvision",
    "timm": "timm",
    "assembled": "put together from torchvision's or timm's parts",
}


def main(chosen: list[str]) -> int:
    print("| network | counterpart | parameters | float64: outputs, gradients | float32: outputs |")
    print("| --- | --- | ---: | ---: | ---: |")
    failed = 0
    for library, names in COUNTERPARTS.items():
        for name in names():
            if chosen and name not in chosen:
                continue
            torch.manual_seed(0)
            ours, theirs = build(name), counterpart(library, name)
            counts = [sum(parameter.numel() for parameter in each.parameters()) for each in (ours, theirs)]
            difference = compare(ours, theirs, library)
            figures = f"{difference.largest():.1e} | {difference.float32_output:.1e}"
            print(f"| {name} | {HOW[library]} | {counts[0]:,} | {figures} |", flush=True)
            same = counts[0] == counts[1] and difference.largest() <= FLOAT64
            failed += not (same and difference.float32_output <= FLOAT32)
            del ours, theirs
            gc.collect()
    print(f"\n{failed} of them differ too much", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
