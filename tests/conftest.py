"""What every test shares."""

from hypothesis import HealthCheck, settings

# Slow machines are not wrong examples: the suite runs in parallel on two cores.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("suite")
