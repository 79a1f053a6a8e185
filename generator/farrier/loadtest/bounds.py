"""The constants of a load test, each with its why and source; those of a plan stand in `farrier.policy`."""

LOADTEST_STEPS = 8
"""Steps of a load test: enough to see where latency bends, few enough that nobody minds the time."""

LOADTEST_FIRST_SHARE = 0.25
"""The first step as a share of the predicted capacity: there a request hardly waits for another one."""

LOADTEST_UP_TO = 1.3
"""The last one: clearly beyond, so that the queue fills and the refusals are seen."""

LOADTEST_SECONDS = 15
"""Measured time of a step: at 20 requests a second it has 300 requests, 15 of which lie beyond the p95."""

LOADTEST_WARM_SHARE = 0.2
"""... and this share of it comes before as warming: queues reach their length, connections exist."""

LOADTEST_PART = 0.15
"""Measured and predicted part when they differ by more than this share."""

LOADTEST_FAILED = 0.01
"""A rate is carried when at most this share of its requests fails ..."""

LOADTEST_BEHIND = 0.03
"""... and when the good answers of the window fall behind its arrivals by no more than this share, besides chance."""

LOADTEST_GIVE_UP = 0.5
"""A step in which less than this share gets a good answer is the last one: nothing new comes after it."""

GENERATOR_CPU = 0.85
"""CPU of one core from which on the generator's own work makes requests late."""

GENERATOR_LATE_SECONDS = 0.01
"""The generator may be this late in sending (p95) before it counts as the limit ..."""

GENERATOR_LATE_SHARE = 0.1
"""... or this share of the median latency, where that is more."""
