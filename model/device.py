"""Which device the networks run on."""

import torch

from model.errors import BadSettingError, UnavailableDeviceError


def torch_device(name: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into a device; `auto` takes a GPU where there is one.

    Raises:
        BadSettingError: If the name is none of the three.
        UnavailableDeviceError: If `cuda` is asked for and there is no usable GPU.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise BadSettingError(f"device {name!r} is unknown; choose auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UnavailableDeviceError(
            "device cuda was asked for, but torch sees no GPU; use --device cpu or auto"
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")
