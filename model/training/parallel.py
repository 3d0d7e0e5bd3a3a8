"""Several processes that train one model, each on its part of every batch.

torchrun starts them and tells each by environment variables who it is. All draw the same batches,
negatives and views, take their parts, and add up what comes of them: gradients, figures, and the
GURs that the critic learns from. The weights are the same in all of them after every step. The
first process alone validates, writes and speaks; the others are told what it found.

Shapes: B users of a batch, b users of one process' part, D width.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

# Optimisers import it, and its functions hold whatever group there is by then: the group's threads
# would outlive it into the interpreter's end, which then aborts now and then. So it comes first.
import torch.distributed.nn
from torch import Tensor, nn

from model.errors import BadSettingError, LostProcessError, UnavailableDeviceError

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long one waits for the others. Whoever dies is noticed at once; this is for hosts that no
longer answer, and must outlast a validation on the first process."""
_TOLD_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training, as one of them sees them; alone, nothing is sent anywhere."""

    device: torch.device
    """Where this process computes."""
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> tuple[int, int]:
        """Return where the own part of `count` users begins and ends; it may be empty."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def shared_out(self, loss: Tensor) -> Tensor:
        """Return the own share of a loss that every process computes whole."""
        return loss / self.size

    def totals(self, shares: Mapping[str, Tensor]) -> dict[str, float]:
        """Add up scalars over the processes, by name."""
        if not shares:
            return {}
        sums = torch.stack([share.detach().double() for share in shares.values()])
        self._add(sums)
        return dict(zip(shares, sums.tolist(), strict=True))

    def gather(self, gurs: Tensor, count: int) -> Tensor:
        """Put the parts of a batch together -> (B, D), detached, in the order of the batch.

        Args:
            gurs: Those of the own part, (b, D); one to no purpose where the part is empty.
            count: B.
        """
        if self.size == 1:
            return gurs.detach()
        start, end = self.part(count)
        largest = -(-count // self.size)
        padded = gurs.new_zeros(largest, *gurs.shape[1:])
        padded[: end - start] = gurs.detach()[: end - start]
        ends = [count * (rank + 1) // self.size for rank in range(self.size)]
        sizes = [after - before for before, after in zip([0, *ends], ends, strict=False)]
        return torch.cat([all_[:n] for all_, n in zip(self._all(padded), sizes, strict=True)])

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of parameters over the processes, which all have the same ones.

        Dense gradients go in one message; of sparse ones only the rows that were looked up.
        """
        if self.size == 1:
            return
        learning = [each for each in parameters if each.grad is not None]
        gradients = [each.grad for each in learning if each.grad is not None]
        dense = [gradient for gradient in gradients if not gradient.is_sparse]
        if dense:
            flat = torch.cat([gradient.flatten() for gradient in dense])
            self._add(flat)
            pieces = torch.split(flat, [gradient.numel() for gradient in dense])
            for gradient, piece in zip(dense, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))
        for parameter, gradient in zip(learning, gradients, strict=True):
            if gradient.is_sparse:
                parameter.grad = self._sum_of_rows(gradient.coalesce())

    def spread(self, network: nn.Module) -> None:
        """Give every process the weights that the first one has."""
        if self.size > 1:
            for weight in network.state_dict().values():
                self._from_first(weight)

    def told(self, say: Callable[[], T]) -> T:
        """Let the first process find something out, and all know it.

        Args:
            say: Gives a value that JSON can hold; only the first process calls it.
        """
        if self.size == 1:
            return say()
        text = json.dumps(say()).encode() if self.leads else b""
        length = torch.tensor([len(text)], device=self.device)
        self._from_first(length)
        letters = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.leads:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self._from_first(letters)
        said: T = json.loads(bytes(letters.tolist()))
        return said

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.totals({"here": torch.zeros((), device=self.device)})

    @contextmanager
    def first_first(self) -> Iterator[None]:
        """Let the others do what is inside when the first process has done it, if it could."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def _sum_of_rows(self, gradient: Tensor) -> Tensor:
        """Add up gradients of a table that hold some of its rows each; rows may come twice."""
        rows, values = gradient.indices()[0], gradient.values()
        counts = [int(n) for n in self._all(torch.tensor([len(rows)], device=rows.device))]
        spare = max(counts) - len(rows)
        rows = nn.functional.pad(rows, (0, spare))
        values = nn.functional.pad(values, (0, 0, 0, spare))
        all_rows = zip(self._all(rows), counts, strict=True)
        all_values = zip(self._all(values), counts, strict=True)
        return torch.sparse_coo_tensor(
            torch.cat([each[:count] for each, count in all_rows]).unsqueeze(0),
            torch.cat([each[:count] for each, count in all_values]),
            gradient.shape,
            check_invariants=False,
        )

    def _add(self, values: Tensor) -> None:
        if self.size > 1:
            with _answered():
                dist.all_reduce(values)

    def _all(self, values: Tensor) -> list[Tensor]:
        places = [torch.empty_like(values) for _ in range(self.size)]
        with _answered():
            dist.all_gather(places, values.contiguous())
        return places

    def _from_first(self, values: Tensor) -> None:
        with _answered():
            dist.broadcast(values, src=0)


@contextmanager
def assemble(device: torch.device) -> Iterator[Team]:
    """Meet the other processes that torchrun has started, if it has; part from them at the end.

    Args:
        device: Where to compute; of the GPUs of a host each process takes its own.

    Raises:
        BadSettingError: If there are to be several processes, but torchrun did not start them.
        UnavailableDeviceError: If a host has fewer GPUs than processes.
        LostProcessError: If the others do not come.
    """
    size = _size()
    if size == 1:
        yield Team(device)
        return
    missing = [name for name in _TOLD_BY_TORCHRUN if name not in os.environ]
    if missing:
        raise BadSettingError(
            f"WORLD_SIZE asks for {size} processes, but {missing[0]} is not set; start them with "
            "torchrun, or unset WORLD_SIZE"
        )
    on_gpu = device.type == "cuda"
    device = _own_gpu() if on_gpu else device
    with _answered():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Team(device, _number("RANK"), size)
    finally:
        dist.destroy_process_group()


def leads() -> bool:
    """Say whether this process is the first of those torchrun started, or alone."""
    return _size() == 1 or os.environ.get("RANK") == "0"


def _size() -> int:
    return _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1


def _number(name: str) -> int:
    said = os.environ[name]
    if not said.isdecimal():
        raise BadSettingError(f"{name} is {said!r}, which is no number; start with torchrun")
    return int(said)


def _own_gpu() -> torch.device:
    place, there = _number("LOCAL_RANK"), torch.cuda.device_count()
    if place >= there:
        raise UnavailableDeviceError(
            f"process {place + 1} of this host has no GPU of its own, there are {there}; start "
            f"at most {there} a host, or use --device cpu"
        )
    device = torch.device("cuda", place)
    torch.cuda.set_device(device)
    return device


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise LostProcessError(
            "another process of this training ended or no longer answers; its own last line says "
            f"why, and --resume goes on from the newest checkpoint ({reason})"
        ) from error
