"""What is measured, how long each part may take, and how large it is. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

RANDOM = "random"
SMOLLM2 = "smollm2"
TOTAL_SECONDS = 470.0
GRACE_SECONDS = 20.0
"""How far a part may overrun its seconds before its process is ended: a part looks at its clock between steps."""
DTYPES = ("float32", "bfloat16", "float16")
WIDTHS = (1, 2, 4, 8, 9, 16, 17, 33, 65)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: ``where`` is "module:function" of a function (setting, report)."""

    name: str
    where: str
    seconds: float


PARTS = (
    Part("machine", "gpu_parts.machine:measure", 60),
    Part("parity", "gpu_parts.parity:measure", 100),
    Part("replay", "gpu_parts.replay:measure", 70),
    Part("live", "gpu_parts.live:measure", 140),
    Part("passes", "gpu_parts.passes:measure", 90),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every part is told.

    dtype: of the speeds, and beside float32 of the replay. draft_length: of every drafter.
    """

    target: str
    device: str
    dtype: str
    quick: bool
    draft_length: int = 8

    @property
    def texts(self) -> int:
        return 2 if self.quick else 6

    @property
    def tokens(self) -> int:
        """Token budget of a text."""
        return 8 if self.quick else 64

    @property
    def repeats(self) -> int:
        return 2 if self.quick else 5

    @property
    def timed(self) -> int:
        """Passes timed at every width and context."""
        return 3 if self.quick else 12

    @property
    def contexts(self) -> tuple[int, ...]:
        return (32, 128) if self.quick else (128, 1024, 4096)
