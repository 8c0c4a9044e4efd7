"""The demo: an S3 server on this machine that plays a short story of good and bad days."""

from exporter.demo.storage import DemoError, DemoStorage
from exporter.demo.story import BUCKETS, STORY, Scene, scene_at

__all__ = ["BUCKETS", "STORY", "DemoError", "DemoStorage", "Scene", "scene_at"]
