from __future__ import annotations

from hypothesis import HealthCheck, settings

# A project of its own; test_pytest_plugin.py runs its tests.
collect_ignore = ["user_project"]

# Machines differ in speed, and are shared: no example has a deadline, and there are not many.
settings.register_profile(
    "tests",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tests")
