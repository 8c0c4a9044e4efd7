"""Which exporter of several has which targets. Pure.

Replicas that are told their number and how many they are agree without a word on who probes what, as
kube-state-metrics' do (https://github.com/kubernetes/kube-state-metrics#horizontal-sharding).
"""

from dataclasses import dataclass
from hashlib import blake2b

from exporter.config import Settings

_MULTIPLIER = 2862933555777941757
_MASK = (1 << 64) - 1
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `total`, by its number from 0; on its own it has every target."""

    number: int = 0
    total: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a number that is none of them."""
        if self.total < 1:
            raise ValueError(f"there cannot be {self.total} shards: at least 1")
        if not 0 <= self.number < self.total:
            raise ValueError(f"there is no shard {self.number} of {self.total}: from 0 to {self.total - 1}")

    def __str__(self) -> str:
        return f"shard {self.number} of {self.total}"

    @property
    def is_whole(self) -> bool:
        """Whether there is no other."""
        return self.total == 1

    def has(self, target: str) -> bool:
        """Whether it is this one that probes the target."""
        return self.is_whole or shard_of(target, self.total) == self.number

    def unknown(self, target: str) -> str:
        """What to tell somebody who asks for a target that is not here."""
        shown = target if len(target) <= _LONGEST_NAME else f"{target[:_LONGEST_NAME]}..."
        listed = f"No target is named {shown!r}; /sd lists the targets"
        if self.is_whole:
            return f"{listed}."
        return (
            f"{listed} of {self}. If there is one of that name, shard {shard_of(target, self.total)} has it."
        )

    def part_of(self, settings: Settings) -> Settings:
        """The settings with the targets of this shard alone; there may be none."""
        if self.is_whole:
            return settings
        mine = tuple(target for target in settings.targets if self.has(target.name))
        return settings.model_copy(update={"targets": mine})


WHOLE = Shard()
"""An exporter on its own."""


def shard_of(target: str, total: int) -> int:
    """The number of the shard that has a target, by its name alone.

    One shard more takes its targets from all others, in equal parts, and no target moves between those:
    jump consistent hash (Lamping and Veach, https://arxiv.org/abs/1406.2294) of the name's BLAKE2b digest.
    """
    key = int.from_bytes(blake2b(target.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
    shard, jump = 0, 0
    while jump < total:
        shard = jump
        key = (key * _MULTIPLIER + 1) & _MASK
        jump = int((shard + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return shard


def ordinal(host_name: str) -> int:
    """The number of a StatefulSet's pod, with which its host name ends. Raises ValueError."""
    number = host_name.partition(".")[0].rpartition("-")[2]
    if not (number.isascii() and number.isdigit()):
        raise ValueError(
            f"the host name {host_name} does not end in a number, as those of a StatefulSet's pods do"
        )
    return int(number)
