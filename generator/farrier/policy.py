"""Every constant that a plan depends on: its name, why it has this value, and where it comes from."""

GIL_CEILING = 0.985
"""The largest share of one CPU that a process with several threads reaches under CPython's GIL: passing the GIL around leaves
the CPU idle at moments that Erlang B does not know about. `tools/bench_threads.py`: 0.97-0.99 with 4-48 threads."""

GIL_THREAD_OVERHEAD = 0.0015
"""CPU per request grows by this share for each thread waiting for the GIL: it wakes every 5 ms to ask for it.
`tools/bench_threads.py`: 8 ms of CPU and 8 ms of wait cost 1 % more with 16 threads than with 8, and 7 % more with 32."""

GIL_SWITCH_SECONDS = 0.005
"""How long a thread may keep the GIL while others want it: CPython's `sys.getswitchinterval()`."""

CONVOY_HOG_FACTOR = 5
"""A request whose longest stretch of computing exceeds that, and is this many times the mean CPU per request, holds up the
threads beside it in a convoy. Where all requests compute alike, they wait for the CPU as long as for the GIL: with stretches
of 8 to 15 ms, fewer threads for more memory carried no more in `make bench-sizing`, nor where the CPU of requests varies with
a Cs^2 of 3 (2 x 8 in 30 MB as much as 6 x 3 in 47 MB)."""

CONVOY_MEMORY_FACTOR = 1.5
"""To keep requests out of a convoy, more processes with fewer threads may take up to this multiple of the cheapest choice's
memory, as long as a slot may still grow by MEMORY_MAX_FACTOR. Beyond it each further process removes fewer threads, and many
that boot at once hold each other up."""

KNEE = 0.995
"""More workers or threads are added only up to this share of the best capacity; the rest would cost memory for nothing."""

MAX_WORKERS = 1024
"""Most worker processes of one slot; a workload that needs more is not one for Gunicorn's sync or gthread workers."""

MAX_THREADS = 64
"""Most threads per worker; beyond it another process is cheaper than passing the GIL around."""

GREENLET_MARGIN = 2.0
"""Requests that a gevent worker takes at once, as a multiple of those that Little's law finds in service at capacity: a few
cost little, and without them any wait longer than the mean would leave the CPU idle."""

GREENLET_MB = 0.1
"""Memory of a greenlet with a request in it: its stack, the request, the response and an open connection.
`tests/host/test_gevent.py` sees 28 KB for the example application's plainest request; a query or a template takes more."""

GEVENT_POOL_THREADS = 10
"""Threads that gevent starts in each worker for blocking calls, such as name lookups: its own default."""

MINIMUM_WORKERS = 2
"""While one worker is being replaced (max_requests, a crash), another one answers."""

THREAD_MB = 0.5
"""Resident memory of one busy thread if the workload states none: the part of its 8 MB stack that is touched, and its malloc
arena."""

THREAD_MINIMUM_MB = 0.05
"""The least a thread takes: its kernel stack and the pages of its own that it touches when it starts."""

SERVICE_SCV = 0.0
"""Squared coefficient of variation if the workload states none: every request costs exactly what is stated, so a predicted p95
contains only the time spent waiting for other requests."""

PROXY_CPU_SECONDS = 0.0003
"""CPU seconds per request of NGINX and the kernel outside Gunicorn, if the workload states none: about what `farrier loadtest`
shows for NGINX's own part with the example application. It reports NGINX if that is far off."""

SLOTS_WHILE_SWITCHING = 2
"""During a deploy the old and the new slot run side by side."""

RESERVE_SHARE = 0.10
"""Share of a host's memory left to the kernel, the page cache and occasional jobs (apt, cron, SSH)."""

RESERVE_MINIMUM_MB = 64
"""The reserve is never smaller: one `apt-get` or `pip install` takes about this much."""

NGINX_PROCESS_MB = 16
"""Memory of one NGINX worker process: 6 MB at rest on Debian 12, plus about 10 KB for each of a thousand connections."""

MEMORY_MAX_FACTOR = 2.0
"""MemoryMax of a slot is at most this multiple of what it should need, so that a leak is contained in its own slot."""

ASSUMED_MEMORY_FACTOR = 3.0
"""If the memory of a worker is only assumed, a slot may well take this multiple: workers and the switch are planned for it,
and MemoryMax is all that the host can spare. Of Wagtail, mailman-web, pretix, pgAdmin 4 and MLflow the largest worker took 219
MB, 2.7 times the 80 MB of `Workload`."""

ASSUMED_MEMORY_DIGITS = 5
"""Binary digits of such a MemoryMax: at most a sixteenth is given away, and hosts that differ by less mostly share a size."""

MEMORY_HIGH_SHARE = 0.9
"""MemoryHigh as a share of MemoryMax: the kernel throttles and reclaims before it kills."""

MARGIN_SECONDS = 2
"""Between two layers of the timeout chain: Gunicorn's arbiter checks once a second; a kill and a response take the rest."""

STOP_MARGIN_SECONDS = 5
"""systemd waits this much longer than Gunicorn's graceful_timeout before it kills the control group."""

PROXY_CONNECT_SECONDS = 2
"""A unix socket accepts or refuses at once; this only bounds a stalled kernel."""

GTHREAD_LIVENESS_SECONDS = 30
"""Gunicorn's own default `timeout`; for gthread it does not limit requests, it only detects a stalled worker."""

BOOT_FACTOR = 3
"""A worker that is importing the application sends no heartbeat; `timeout` allows this multiple of its usual boot time."""

PRELOADED_BOOT_SECONDS = 0.2
"""What replacing a worker costs when the master has already imported the application: a fork and the first request."""

RECYCLE_SHARE = 0.01
"""max_requests is set so that replacing workers takes at most this share of capacity."""

RECYCLE_JITTER_SHARE = 0.2
"""Jitter as a share of max_requests, so that workers that started together do not stop together."""

MINIMUM_MAX_REQUESTS = 1000
"""Workers are not recycled more often than this, however cheap it is."""

DEFAULT_SOMAXCONN = 4096
"""The kernel's own default since Linux 5.4; a host's value is never lowered below it."""

NGINX_LISTEN_BACKLOG = 511
"""NGINX's own default. With a backlog of 5, bursts of 50 new clients were held up for 1-14 s by dropped SYNs; with 511 none."""

MAX_BACKLOG = 65535
"""Beyond this many waiting requests a queue is a fault, not a buffer; older kernels store the value in 16 bits."""

NGINX_CONNECTIONS_MINIMUM = 1024
"""NGINX's worker_connections is never set lower; idle connections cost about 250 bytes each."""

NGINX_SPREAD = 1.5
"""NGINX's worker processes do not share connections evenly; each gets this multiple of an even share."""

NGINX_KEEPALIVE_SECONDS = 65
"""How long an idle client connection is kept: the value NGINX ships with, longer than the 60 s of common load balancers."""

NGINX_CLIENT_SECONDS = 20
"""How long a client may take to send the header, and pause while it sends the body: slow clients cost a connection each, not a worker."""

REQUEST_HEADER_BUFFER = 8192
"""Longest request line and header field: NGINX's own value, and the longest line that Gunicorn can be set to read (8,190 bytes
and the line end). Proxies and browsers on the way allow about as much."""

REQUEST_LINE_END = 2
"""A carriage return and a line feed, which NGINX counts as part of the line and Gunicorn does not."""

REQUEST_FIELD_GROWS = 1
"""NGINX passes a header field on with a space after the colon, even if the client left it out."""

GUNICORN_REQUEST_LINE_MAXIMUM = 8190
"""The largest limit_request_line that Gunicorn accepts; the only other choice is 0, unlimited."""

REQUEST_FIELDS = 128
"""Header fields of a request: the 100 that Gunicorn (and Apache) allow by default, plus room for those that NGINX adds."""

ANSWER_HEADER_BUFFER = 16384
"""Largest response header: three cookies of the 4 KB that browsers keep, and a long Content-Security-Policy. NGINX's own 4 KB
turn a page that sets two such cookies into a 502."""

FILES_PER_THREAD = 8
"""Open files per request: its connection, database, cache, an upload, a template."""

FILES_PER_WORKER = 256
"""Open files of a worker besides requests: libraries, logs, sockets, the interpreter."""

LIMIT_NOFILE_MINIMUM = 1024
"""The file limit that programs expect."""

TASKS_FACTOR = 2
"""TasksMax as a multiple of Gunicorn's own processes and threads: the application may start some, a fork bomb may not."""

TASKS_BASE = 64
"""Tasks beyond that, for subprocesses and libraries' helper threads."""

TASKS_POOLS = 2
"""Libraries in one process that start a thread for each CPU they see, whatever the quota: NumPy and SciPy each bring their own
OpenBLAS. If such a thread cannot be started, the import fails, and the worker with it."""

GUNICORN_VERSION = "27.0.1"
"""Installed where the requirements bring no Gunicorn; the newest of which the role's tests have shown that it serves one inherited
socket with two slots."""

SLOT_BOOT_SECONDS = 120
"""From a slot's start until all its workers are ready, at most: longer than applications take that import a lot and warm up, and
an end to the wait for one that never boots."""

KEEP_RELEASES = 3
"""Releases kept on a host: the active one, the previous one, and one more to roll back to."""

ASSUMED_RELEASE_MB = 500
"""Free disk that a release with its virtual environment is assumed to need on a host that holds none yet; later ones are held
against the largest so far."""

SAME_MEMORY_SHARE = 0.95
"""A host that still has this share of the memory it was sized for counts as the same host."""

SCENARIO_MAX_CPUS = 2.0
"""Most CPUs of a Molecule host, so that a scenario runs on a small development machine."""

SCENARIO_MAX_MEMORY_MB = 2048
"""Most memory of a Molecule host, for the same reason."""

SCENARIO_MAX_HOSTS = 3
"""Test hosts per scenario: one for each size of the environment's hosts, up to this many."""

SCENARIO_SYSTEM_MB = 64
"""Memory used by systemd, the journal and SSH on a test host, which is sized for the rest of its limit."""

SCENARIO_NOFILE = 20_000
"""Open files that a container engine grants a test host on a machine that cannot raise its own limits."""

NOTICEABLE_SHARE = 0.01
"""A gain in capacity below this share is not reported: no load test could tell it from noise."""

SEARCHED_CPUS = 64
"""The search for what would meet an objective goes up to this many CPUs on one host, and this many hosts."""

MEMORY_STEPS = (2, 4)
"""Whether memory is the bottleneck is found by planning with these multiples of it; twice is not enough if that only buys the
second slot instead of a worker."""

MEASURE_SECONDS = 60
"""Time that a measurement spends on requests; starting workers and Ansible's own steps come on top."""

MEASURE_MOST_SECONDS = 3600
"""Longest measurement."""

MEASURE_PHASES = {"plain": 0.6, "preload": 0.15, "threads": 0.25}
"""How that time is split: most for CPU and wait, the rest for memory with preload and with threads."""

ASKED_NAMES = 10
"""Kinds of path taken from an access log or a Locust file; each one more leaves fewer requests for all the others."""

ASKED_VARIANTS = 5
"""Paths of one kind that are requested, so that a single object, with all caches warm, does not stand for many."""

ASKED_REMEMBERED = 50_000
"""Different paths counted at a time, whatever the size of a log: about 30 MB."""

MEASURE_THREADS = 32
"""Most concurrent requests used to see what one costs a busy worker. Each may take a connection to the database: of
`database_connections`, the half that only a deploy needs is free for them."""

MEASURE_MINIMUM_REQUESTS = 5
"""Responses of one path below which a mean is meaningless."""

MEASURE_MISSING = 0.1
"""Share of the requests, by weight, that a plan can do without: a tenth moves the mean by about as much as a machine's speed
does from minute to minute, and beyond that the missing ones could dominate."""

MEASURE_OTHER_SHARE = 0.05
"""CPU of another service counts from this share of the request's own CPU on: below it, only the service manager and the
journal show up, which work for no request, and a plan would not change."""

MEASURE_OTHER_STEADY = 0.5
"""... and only if it exceeds this share of what the service computes by itself in the same time, which varies by that."""

MEASURE_UNCERTAIN = 0.05
"""Standard error of the CPU per request, as a share of it, above which the next measurement may lead to another plan."""

MEASURE_UNKNOWN = 0.125
"""Standard error of the CPU, or of CPU and wait, above which nothing is written: the mean is then only known to ±25 %, and so
are the workers and threads derived from it."""

REFERENCE_COMPARABLE = 1.5
"""Speeds of a host that differ by more than this factor are not drift: it has become another machine, and starts afresh."""

REFERENCE_NOTICEABLE = 0.05
"""A measurement reports differences in speed from this size on."""

REFERENCE_FOLLOWED = 0.5
"""Work of which clearly less than this share follows the machine's speed runs for a fixed time, and is left as it is."""

MEASURE_BUSY = 0.1
"""Share of the time spent waiting for a CPU from which on other processes disturb a measurement."""

MEASURE_IO_BOUND = 2.0
"""Wait per CPU second from which on threads matter most."""

MEASURE_CPU_BOUND = 0.25
"""Wait per CPU second up to which threads gain next to nothing."""

MEASURE_LEAK_MB = 8
"""Growth of both workers below which it does not count as a leak: allocators keep that much."""

MEASURE_LEAK_SHARE = 0.1
"""... and the same as a share of what they had after warming up."""

MEASURE_LEAK_PERSISTS = 0.6
"""A leak grows as fast in the second half as in the first; a filling cache slows down."""
