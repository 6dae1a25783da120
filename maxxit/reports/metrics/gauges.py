"""Make a gauge for Prometheus."""

from collections.abc import Mapping

from prometheus_client.core import GaugeMetricFamily


def gauge(name: str, what: str, values: Mapping[str, float], label: str = "") -> GaugeMetricFamily:
    """Make a gauge with one sample, or with one for each value of `label`."""
    gauge = GaugeMetricFamily(f"maxxit_{name}", what, labels=[label] if label else None)
    for key, value in values.items():
        gauge.add_metric([key] if label else [], value)
    return gauge
