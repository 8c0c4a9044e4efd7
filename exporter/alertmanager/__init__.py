"""Alerts, pushed to every member of an Alertmanager cluster by its v2 API."""

from exporter.alertmanager.ledger import Pace
from exporter.alertmanager.member import Attempt
from exporter.alertmanager.pushed import Pushed
from exporter.alertmanager.pusher import Pusher

__all__ = ["Attempt", "Pace", "Pushed", "Pusher"]
