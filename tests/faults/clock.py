"""The clocks of processes, moved by libfaketime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Clock:
    """The clocks of the processes that have `env`, the monotonic one too unless it is `wall_only`."""

    file: Path
    wall_only: bool = False
    ahead: float = 0.0

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": "/usr/$LIB/faketime/libfaketime.so.1",
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_RESET": "1",
            **({"FAKETIME_DONT_FAKE_MONOTONIC": "1"} if self.wall_only else {}),
        }

    def set(self, seconds: float) -> None:
        """So far ahead of the machine's, or behind it."""
        self.move(seconds - self.ahead)

    def move(self, seconds: float) -> None:
        self.ahead += seconds
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(f"{self.ahead:+.0f}\n")
        fresh.replace(self.file)  # who reads it meanwhile reads the one or the other
