"""A bucket behind a circuit breaker, seen through an outage.

Writes and reads a small object again and again, tells what became of each try, and serves the metrics of
the breaker and its calls. See README.md here for how to run it.
"""

import argparse
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import REGISTRY, start_http_server

from exporter.guard import CircuitOpenError, GuardedBucket, GuardMetrics, Policy, Transition

KEY = "guarded-bucket-example"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two tries")
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--metrics-port", type=int, default=8000, help="0 takes any free port")
    options = parser.parse_args()

    server, _ = start_http_server(options.metrics_port, addr="127.0.0.1")
    print(f"metrics: http://127.0.0.1:{server.server_port}/metrics", flush=True)
    # No retries and short timeouts: the breaker then learns of trouble at once, and callers do not hang.
    settings = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)
    bucket = GuardedBucket(
        boto3.client("s3", config=settings),
        options.bucket,
        policy=Policy(failure_threshold=3, recovery_timeout=3 * options.pause),
        metrics=GuardMetrics(REGISTRY),
    )
    bucket.breaker.listen(tell)
    for number in range(options.tries):
        print(attempt(bucket, f"try {number}".encode()), flush=True)
        time.sleep(options.pause)
    try:
        bucket.delete(KEY)
    except (CircuitOpenError, ClientError, BotoCoreError) as error:
        print(f"{KEY} stays in the bucket: {error}")


def attempt(bucket: GuardedBucket, content: bytes) -> str:
    try:
        bucket.put(KEY, content)
        return f"works: {bucket.get(KEY).decode()}"
    except CircuitOpenError as error:
        return f"not tried: {error}"
    except (ClientError, BotoCoreError) as error:
        return f"failed: {error}"


def tell(transition: Transition) -> None:
    print(f"--- {transition.from_state} -> {transition.to_state}: {transition.cause}", flush=True)


if __name__ == "__main__":
    main()
