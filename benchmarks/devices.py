"""What benchmarks ask of a torch device."""

import torch


def wait(device: torch.device) -> None:
    """Wait until a device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
