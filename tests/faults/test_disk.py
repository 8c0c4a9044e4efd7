"""Another program locks the history while things happen that belong in it."""

from pathlib import Path

from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.locks import locked
from tests.faults.server import fault_server
from tests.faults.watch import rows
from tests.running import Client, eventually, serving_command, target, write


async def test_what_happened_while_the_history_was_locked_is_in_it_once(tmp_path: Path) -> None:
    history = tmp_path / "r2-exporter.db"
    async with fault_server() as storage:
        probe = {"interval": "1s", "timeout": "500ms"}
        media = target("media", storage.endpoint, "bucket", probe=probe, breaker={"recovery_timeout": "1h"})
        async with serving_command(write(tmp_path / "exporter.yaml", media)) as exporter:
            client = Client(exporter.url)
            await eventually(lambda: client.has("r2_target_up"))
            with locked(history):
                storage.script.update(dict.fromkeys(Operation, KINDS["internal error"]))
                await eventually(lambda: client.has_value(1, "r2_circuit_breaker_state", state="open"))
                await eventually(lambda: client.has_value(1, "r2_alert_active", type="service_degraded"))
                await eventually(lambda: client.has_value(0, "r2_exporter_history_up"))
            await eventually(lambda: client.has_value(1, "r2_exporter_history_up"))

            async def alert_is_kept() -> bool:
                return bool(rows(history, "SELECT * FROM service_alerts WHERE type = 'service_degraded'"))

            await eventually(alert_is_kept)
            assert await exporter.end() == 0
    events = rows(history, "SELECT from_state, to_state, cause FROM circuit_breaker_events")
    assert events == [("closed", "open", "failure_threshold")]
    alerts = rows(history, "SELECT count(*) FROM service_alerts GROUP BY type")
    assert set(alerts) == {(1,)}
