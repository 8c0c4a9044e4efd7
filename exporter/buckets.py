"""The edges of duration histograms, in seconds."""

DURATION_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)
"""Seconds of one operation, chosen for small objects in object storage.

A store on the same network answers in 2 to 20 ms, R2 and S3 read a small object in 20 to 200 ms, and
writes, listings and fresh TLS connections take 100 to 800 ms; so most edges lie between 10 ms and 1 s.
The edge at 2 s is the default slow threshold, so that the share of slow calls is exact; 5 s is the
default timeout and 10 s a patient one. A quantile is interpolated inside the bucket that holds it,
so between 20 ms and 5 s it is off by less than the widest ratio of neighbours there, 5/3, and by 1.5
or less at most edges; below and above, by less than a factor of 2.
"""

PHASE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0)
"""Seconds of one phase: about two edges a decade, for a target has five phases of each operation.

They tell which phase grew, from a resolver's cache (under 1 ms) over a round trip (1 to 200 ms) to the
default timeout (5 s); for a mean, divide the sum by the count.
"""

LATENESS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds a probe starts after it was due: a healthy schedule stays under the edge at 0.1."""
