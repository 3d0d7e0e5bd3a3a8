"""The device that is asked for is the one that is used, or there is an error."""

import pytest
import torch

from model.device import torch_device
from model.errors import BadSettingError, UnavailableDeviceError


def test_cpu_is_always_there() -> None:
    assert torch_device("cpu") == torch.device("cpu")


def test_auto_takes_a_gpu_only_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert torch_device("auto").type == expected


def test_cuda_without_a_gpu_is_an_error_and_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on any machine
    with pytest.raises(UnavailableDeviceError) as caught:
        torch_device("cuda")
    expected = "device cuda was asked for, but torch sees no GPU; use --device cpu or auto"
    assert str(caught.value) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_cuda_is_taken_where_it_is_asked_for() -> None:
    assert torch_device("cuda").type == "cuda"


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:1", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        torch_device(name)
    assert str(caught.value) == f"device {name!r} is unknown; choose auto, cpu or cuda"
