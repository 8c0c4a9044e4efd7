"""r2-exporter: signed probes of S3-compatible storage, measured for Prometheus."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("r2-exporter")
except PackageNotFoundError:  # a bare source tree that was never installed
    __version__ = "0.0.0+source"
