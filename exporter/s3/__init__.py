"""One signed S3 request: addressed, signed, sent, timed and explained."""
