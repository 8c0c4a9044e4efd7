"""The JSON API. An endpoint that is listed here is served, and stands in the OpenAPI document."""

from exporter.web.api import alerts, breaker, checking, config, health, history, metrics, steering
from exporter.web.api.openapi import document_route

endpoints = (
    health.health,
    checking.check,
    history.history,
    metrics.metrics,
    breaker.circuit_breaker,
    steering.reset,
    steering.start,
    steering.stop,
    alerts.alerts,
    alerts.resolve_alert,
    alerts.webhook,
    config.config,
    config.change_config,
    config.config_changes,
    config.revert_config,
)

routes = (*(endpoint.route for endpoint in endpoints), document_route(endpoints))
