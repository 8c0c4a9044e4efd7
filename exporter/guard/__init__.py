"""A circuit breaker for an application's own storage calls; works without the exporter running.

from exporter.guard import CircuitOpenError, GuardedBucket

bucket = GuardedBucket(boto3.client("s3", ...), "media")
try:
    bucket.put("report.pdf", content)
except CircuitOpenError as error:
    print(f"R2 is down; again in {error.retry_after:.0f} s")
"""

import logging

from exporter.breaker import Cause, Policy, State, Status, Transition
from exporter.guard.bucket import GuardedBucket
from exporter.guard.circuit import CircuitBreaker, Listener
from exporter.guard.client import guard_client, judge_storage_error
from exporter.guard.metrics import GuardMetrics
from exporter.guard.verdict import CircuitOpenError, Verdict
from exporter.window import Counts

# An application that has not set up logging sees nothing of ours.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "Cause",
    "CircuitBreaker",
    "CircuitOpenError",
    "Counts",
    "GuardMetrics",
    "GuardedBucket",
    "Listener",
    "Policy",
    "State",
    "Status",
    "Transition",
    "Verdict",
    "guard_client",
    "judge_storage_error",
]
