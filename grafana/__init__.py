"""The Grafana dashboards: made by this code, kept as JSON in `dashboards/`."""
