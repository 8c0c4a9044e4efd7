"""Functions behind a circuit breaker: what a page shows while its storage is down.

Fetches an object by its presigned URL, three times at once and again each second; the last good answer
stands in while the breaker is open. See README.md here for how to run it.
"""

import asyncio
import sys

import aiohttp
import boto3

from exporter.guard import CircuitBreaker, Policy, Verdict


def judge(error: Exception) -> Verdict:
    """A 404 is an answer: the storage works. 5xx, 429, timeouts and lost connections are failures."""
    if isinstance(error, aiohttp.ClientResponseError) and error.status < 500 and error.status != 429:
        return Verdict.SUCCESS
    return Verdict.FAILURE


breaker = CircuitBreaker("pages", Policy(failure_threshold=3, recovery_timeout=10), failures=judge)
last_good: dict[str, int] = {}


async def from_before(session: aiohttp.ClientSession, url: str) -> str:
    return f"{last_good.get(url, 'no')} bytes (from before: the storage is down)"


@breaker.or_else(from_before)
async def fetch(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        response.raise_for_status()
        last_good[url] = len(await response.read())
        return f"{last_good[url]} bytes"


async def main(bucket: str, key: str, seconds: int) -> None:
    where = {"Bucket": bucket, "Key": key}
    url = boto3.client("s3").generate_presigned_url("get_object", where, ExpiresIn=3600)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        for _ in range(seconds):
            ends = await asyncio.gather(*(fetch(session, url) for _ in range(3)), return_exceptions=True)
            for end in ends:
                print(end if isinstance(end, str) else f"{type(end).__name__}: {end}", flush=True)
            await asyncio.sleep(1)
    print(f"the breaker is {breaker.status().state}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: guarded_function.py BUCKET KEY SECONDS")
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
