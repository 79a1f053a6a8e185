"""The constants of a load test, each with its why and source; those of a plan stand in `farrier.policy`."""

LOADTEST_STEPS = 8
"""Steps of a load test: enough to see where latency rises, few enough to take little time."""

LOADTEST_FIRST_SHARE = 0.25
"""The first step as a share of the predicted capacity: low enough that requests hardly wait for one another."""

LOADTEST_UP_TO = 1.3
"""The last one: clearly beyond, so that the queue fills and rejections show."""

LOADTEST_SECONDS = 15
"""Measured time of a step: at 20 requests a second it has 300 requests, 15 of which lie beyond the p95."""

LOADTEST_WARM_SHARE = 0.2
"""... preceded by this share of it as a warm-up: queues reach their length, connections are open."""

LOADTEST_PART = 0.15
"""Measurement and prediction disagree if they differ by more than this share."""

LOADTEST_FAILED = 0.01
"""A rate is carried when at most this share of its requests fails ..."""

LOADTEST_BEHIND = 0.03
"""... and when the good responses of the window fall behind its arrivals by no more than this share, apart from chance."""

LOADTEST_GIVE_UP = 0.5
"""A step in which less than this share gets a good response is the last one: nothing new would follow."""

GENERATOR_CPU = 0.85
"""CPU of one core from which on the generator's own work makes requests late."""

GENERATOR_LATE_SECONDS = 0.01
"""The generator may be this late in sending (p95) before it counts as the limit ..."""

GENERATOR_LATE_SHARE = 0.1
"""... or this share of the median latency, where that is more."""
