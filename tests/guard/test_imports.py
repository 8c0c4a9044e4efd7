"""An application that imports the guard gets nothing of the exporter with it."""

import subprocess
import sys


def test_it_loads_nothing_of_the_exporter() -> None:
    program = "import sys, exporter.guard; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    unwanted = {"aiohttp", "pydantic", "structlog", "yaml", "sqlite3"}
    unwanted |= {f"exporter.{name}" for name in ("web", "app", "probe", "config", "metrics", "s3.client")}
    assert {"exporter.guard.bucket", "botocore.client", "prometheus_client"} <= loaded
    assert loaded & unwanted == set()
