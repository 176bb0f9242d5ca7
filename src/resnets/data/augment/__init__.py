"""Augmentation: chance from the streams (numpy), pixels as batch tensors on the device (torch).

`settings` holds the resolved settings and their defaults, `geometry` draws boxes and shifts and needs no
torch, `batch` changes uint8 pixels and normalises them, `policy` is RandAugment and TrivialAugment,
`warp` distorts writing, `mixing` is mixup and cutmix.
"""
