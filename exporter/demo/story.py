"""The demo's story: which scene plays when, and what it does to a request."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import floor

TROUBLED_BUCKET = "media"
HEALTHY_BUCKET = "backups"
BUCKETS = (TROUBLED_BUCKET, HEALTHY_BUCKET)


@dataclass(frozen=True, slots=True)
class Fault:
    """An S3 error answer, with code and status as the S3 API reference lists them.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
    """

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One part of the story. `duration` and `delay` are in seconds.

    Every request to the troubled bucket waits for `delay`; the share `share` of them is then
    answered with `fault` instead of being served.
    """

    name: str
    description: str
    duration: float
    delay: float = 0.0
    fault: Fault | None = None
    share: Fraction = Fraction(0)

    def fault_for(self, request: int) -> Fault | None:
        """The fault that the request with this number (from 0) gets, or None if it is served.

        Of the first n requests exactly floor(n * share) are faulted, evenly spread.
        """
        return self.fault if floor((request + 1) * self.share) > floor(request * self.share) else None


SLOW_DOWN = Fault(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = Fault(500, "InternalError", "An internal error occurred. Try again.")

STORY = (
    Scene("healthy", "both buckets answer at once", duration=45),
    Scene("slow", "media answers, but every request takes 0.8 s longer", duration=40, delay=0.8),
    Scene(
        "throttled",
        "media refuses 3 of 10 requests with 503 SlowDown",
        duration=40,
        fault=SLOW_DOWN,
        share=Fraction(3, 10),
    ),
    Scene(
        "failing",
        "media answers every request with 500 InternalError; its circuit breaker opens",
        duration=45,
        fault=INTERNAL_ERROR,
        share=Fraction(1),
    ),
    Scene("back", "media is well again; its breaker closes", duration=40),
)
LOOP_SECONDS = sum(scene.duration for scene in STORY)
SCENES = {scene.name: scene for scene in STORY}


def scene_at(elapsed: float) -> Scene:
    """The scene that plays `elapsed` seconds after the story's start; the story loops for ever."""
    return _position(elapsed)[0]


def seconds_left(elapsed: float) -> float:
    """How long the scene at `elapsed` seconds still plays; always more than zero."""
    return _position(elapsed)[1]


def _position(elapsed: float) -> tuple[Scene, float]:
    moment = elapsed % LOOP_SECONDS
    for scene, end in zip(STORY, accumulate(scene.duration for scene in STORY), strict=True):
        if moment < end:
            return scene, end - moment
    # Only a negative time closer to zero than float resolution gets here: % rounds it up to the end.
    return STORY[0], STORY[0].duration
