from __future__ import annotations

from hypothesis import HealthCheck, settings

# Machines differ in speed, and the whole of tests/core is to take seconds.
settings.register_profile(
    "core",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("core")
