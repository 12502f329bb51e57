"""What the service counts, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Begin at 0; `waiting` is how many pictures wait now."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("lsnet_requests_total", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram("lsnet_request_seconds", "From a request's head to its answer.", ["path"],
                                 buckets=SECONDS, registry=registry)
        self.pictures = Counter("lsnet_pictures_total", "Pictures looked at.", ["outcome"], registry=registry)
        self.batches = Histogram("lsnet_batch_pictures", "Pictures of each batch.", buckets=SIZES, registry=registry)
        Gauge("lsnet_waiting_pictures", "Pictures that wait.", registry=registry).set_function(waiting)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
