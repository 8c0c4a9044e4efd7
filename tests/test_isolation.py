"""Twenty targets, one of them a black hole: the other nineteen keep their interval."""

import socket
from contextlib import closing
from pathlib import Path

from tests.running import Client, Samples, demo_server, eventually, new_bucket, serving_command, target, write

HEALTHY = [f"healthy-{number:02}" for number in range(19)]
RUNS = 4


async def test_a_black_hole_delays_nobody_else(tmp_path: Path) -> None:
    # It takes connections (the kernel does) and never answers.
    with closing(socket.create_server(("127.0.0.1", 0))) as black_hole, demo_server() as storage:
        hole = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        bucket = new_bucket(storage)
        probe = {"interval": "1s", "timeout": "3s"}
        targets = [target(name, storage, bucket, probe=probe) for name in HEALTHY]
        config = write(tmp_path / "exporter.yaml", *targets, target("hole", hole, bucket, probe=probe))
        async with serving_command(config) as exporter:
            await eventually(lambda: enough(Client(exporter.url)))
            samples = await Client(exporter.url).metrics()

    assert samples("r2_exporter_schedule_lateness_max_seconds") < 0.5
    began = samples("r2_exporter_schedule_lateness_seconds_count")
    assert samples("r2_exporter_schedule_lateness_seconds_bucket", le="0.5") == began >= RUNS * len(HEALTHY)
    for name in HEALTHY:
        assert samples("r2_probes_total", target=name, result="failure") == 0
        assert samples("r2_probes_skipped_total", target=name) == 0
        assert samples("r2_target_up", target=name) == 1
    # Its own turns went by unserved while it hung, and nobody else's.
    assert samples("r2_probe_errors_total", target="hole", operation="put", reason="timeout") >= 1
    assert samples("r2_probes_skipped_total", target="hole", operation="put", reason="overrun") >= 1
    assert samples("r2_target_up", target="hole") == 0


async def enough(exporter: Client) -> bool:
    """Whether every healthy target had some runs and the hole its first timeout."""
    samples: Samples = await exporter.metrics()
    runs = [samples("r2_probes_total", target=name, operation="delete", result="success") for name in HEALTHY]
    failures = samples("r2_probes_total", target="hole", operation="put", result="failure")
    return min(runs) >= RUNS and failures >= 1
