"""Every constant that a plan depends on: its name, why it has this value, and where it comes from."""

GIL_CEILING = 0.985
"""The share of one CPU that a process with several threads reaches under CPython's GIL, at most: handing the GIL around
leaves the CPU idle for moments that Erlang B does not know. `tools/bench_threads.py`: 0.97-0.99 with 4-48 threads."""

GIL_THREAD_OVERHEAD = 0.0015
"""CPU per request grows by this share for each thread that stands in line for the GIL: it wakes every 5 ms to ask for it.
`tools/bench_threads.py`: 8 ms of CPU and 8 ms of wait cost 1 % more with 16 threads than with 8, and 7 % more with 32."""

GIL_SWITCH_SECONDS = 0.005
"""How long a thread may keep the GIL while others want it: CPython's `sys.getswitchinterval()`."""

CONVOY_HOG_FACTOR = 5
"""A request whose longest stretch of computing is longer than that, and this many times the CPU of the mean one, makes a
convoy of the threads beside it. Where all compute alike, they wait for the CPU as long as for the GIL: with stretches of 8
to 15 ms, fewer threads for more memory carried no more in `make bench-sizing`, nor did they where the CPU of requests varies
with a Cs^2 of 3 (2 x 8 in 30 MB as much as 6 x 3 in 47 MB)."""

CONVOY_MEMORY_FACTOR = 1.5
"""To keep others out of a convoy, more processes of fewer threads are bought with up to this multiple of the
memory that the cheapest choice takes, if a slot may still grow as MEMORY_MAX_FACTOR says. Beyond it each further process
takes fewer threads away, and many that boot at once hold each other up."""

KNEE = 0.995
"""More workers or threads are bought only up to this share of the best capacity; the rest costs memory for nothing."""

MAX_WORKERS = 1024
"""Worker processes of one slot, at most; a workload that wants more is not one for Gunicorn's sync or gthread workers."""

MAX_THREADS = 64
"""Threads per worker, at most; beyond it another process is cheaper than handing the GIL around."""

GREENLET_MARGIN = 2.0
"""Requests that a gevent worker takes at once, as a multiple of those that Little's law finds in service at capacity: a few
cost little, and each wait that is longer than the mean one would otherwise leave the CPU idle."""

GREENLET_MB = 0.1
"""Memory of a greenlet with a request in it: its piece of stack, the request, its answer and an open connection.
`tests/host/test_gevent.py` sees 28 KB with the example application's plainest one; a query or a template takes more."""

GEVENT_POOL_THREADS = 10
"""Threads that gevent starts in each worker for what cannot wait otherwise, such as looking up names: its own default."""

MINIMUM_WORKERS = 2
"""While one worker is replaced (max_requests, a crash) another one answers."""

THREAD_MB = 0.5
"""Resident memory of one busy thread where the workload states none: the part of its 8 MB stack that is touched, and its
malloc arena."""

THREAD_MINIMUM_MB = 0.05
"""What a thread takes at least: its kernel stack and the pages of its own that it touches when it starts."""

SERVICE_SCV = 0.0
"""Squared coefficient of variation where the workload states none: every request costs what is stated, so a predicted p95
holds the waiting for others and nothing else."""

PROXY_CPU_SECONDS = 0.0003
"""CPU seconds per request of NGINX and the kernel outside Gunicorn, where the workload states none: about what
`farrier loadtest` shows for NGINX's own part with the example application. It names NGINX where that is far off."""

SLOTS_WHILE_SWITCHING = 2
"""During a deploy the old and the new slot run side by side."""

RESERVE_SHARE = 0.10
"""Share of a host's memory that is left to the kernel, the page cache and what runs now and then (apt, cron, SSH)."""

RESERVE_MINIMUM_MB = 64
"""The reserve is never smaller: one `apt-get` or `pip install` takes about this much."""

NGINX_PROCESS_MB = 16
"""Memory of one NGINX worker process: 6 MB at rest on Debian 12, and about 10 KB for each of a thousand connections."""

MEMORY_MAX_FACTOR = 2.0
"""MemoryMax of a slot is at most this multiple of what it should need: a leak ends in its own slot."""

ASSUMED_MEMORY_FACTOR = 3.0
"""Where the memory of a worker is only assumed, a slot may well take this multiple: workers and the switch are decided for
it, and MemoryMax is all that the host can spare. Of Wagtail, mailman-web, pretix, pgAdmin 4 and MLflow the largest worker
took 219 MB, 2.7 times the 80 MB of `Workload`."""

ASSUMED_MEMORY_DIGITS = 5
"""Binary digits of such a MemoryMax: at most a sixteenth is given away, and hosts that differ by less mostly share a size."""

MEMORY_HIGH_SHARE = 0.9
"""MemoryHigh as a share of MemoryMax: the kernel slows a slot down and reclaims before it kills."""

MARGIN_SECONDS = 2
"""Between two layers of the timeout chain: Gunicorn's arbiter looks once a second, a kill and an answer take the rest."""

STOP_MARGIN_SECONDS = 5
"""systemd waits this much longer than Gunicorn's graceful_timeout before it kills the control group."""

PROXY_CONNECT_SECONDS = 2
"""A unix socket accepts or refuses at once; this only bounds a stalled kernel."""

GTHREAD_LIVENESS_SECONDS = 30
"""Gunicorn's own default `timeout`; for gthread it limits no request, it only notices a worker that stands still."""

BOOT_FACTOR = 3
"""A worker that imports the application beats no heart; `timeout` allows it this multiple of its usual boot time."""

PRELOADED_BOOT_SECONDS = 0.2
"""What a recycled worker costs when the application is already imported by the master: a fork and its first request."""

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
"""Beyond this many waiting requests a queue is a fault, not a buffer; older kernels keep the value in 16 bits."""

NGINX_CONNECTIONS_MINIMUM = 1024
"""worker_connections of NGINX is never set lower; idle connections cost about 250 bytes each."""

NGINX_SPREAD = 1.5
"""NGINX's worker processes do not share connections evenly; each gets this multiple of an even part."""

NGINX_KEEPALIVE_SECONDS = 65
"""How long an idle client connection is kept: NGINX's shipped value, longer than the 60 s of common load balancers."""

NGINX_CLIENT_SECONDS = 20
"""How long a client may pause while it sends header or body: slow clients cost a connection each, not a worker."""

REQUEST_HEADER_BUFFER = 8192
"""Longest request line and header field: NGINX's own value, and the longest line that Gunicorn can be told to read (8,190
bytes and its end). Proxies and browsers on the way hold about as much."""

REQUEST_LINE_END = 2
"""A carriage return and a line feed, which NGINX counts into its buffer and Gunicorn not into the line."""

REQUEST_FIELD_GROWS = 1
"""NGINX passes a header field on with a space behind the colon, also where the client left it out."""

GUNICORN_REQUEST_LINE_MAXIMUM = 8190
"""Gunicorn's limit_request_line goes no further; beyond it there is only 0, any length."""

REQUEST_FIELDS = 128
"""Header fields of a request: the 100 that Gunicorn (and Apache) allow by themselves, and room for those that NGINX adds."""

ANSWER_HEADER_BUFFER = 16384
"""Largest header of an answer: three cookies of the 4 KB that browsers keep, and a long Content-Security-Policy. NGINX's own
4 KB turn a page that sets two such cookies into a 502."""

FILES_PER_THREAD = 8
"""Open files one request may hold: its connection, database, cache, an upload, a template."""

FILES_PER_WORKER = 256
"""Open files of a worker besides requests: libraries, logs, sockets, the interpreter."""

LIMIT_NOFILE_MINIMUM = 1024
"""The file limit that programs expect to find."""

TASKS_FACTOR = 2
"""TasksMax as a multiple of Gunicorn's own processes and threads: the application may start some, a fork bomb may not."""

TASKS_BASE = 64
"""Tasks beyond that, for subprocesses and libraries' helper threads."""

TASKS_POOLS = 2
"""Libraries in one process that start a thread for each CPU that they see, whatever the quota: NumPy and SciPy each bring an
OpenBLAS of their own. Where such a thread cannot be started, the import fails, and with it the worker."""

GUNICORN_VERSION = "27.0.1"
"""Installed where the requirements bring no Gunicorn; the newest of which the role's tests have shown that it serves one inherited
socket with two slots."""

SLOT_BOOT_SECONDS = 120
"""From a slot's start until all its workers are ready, at most: a slow application boots in 30 s, and four times that ends the
wait for one that never will."""

KEEP_RELEASES = 3
"""Releases kept on a host: the one that serves, the one before, and one more to go back to."""

SCENARIO_MAX_CPUS = 2.0
"""A Molecule host gets at most this many CPUs, so that a scenario runs on a small developer's machine."""

SCENARIO_MAX_MEMORY_MB = 2048
"""A Molecule host gets at most this much memory, for the same reason."""

SCENARIO_MAX_HOSTS = 3
"""Test hosts per scenario: one for each size of the environment's hosts, up to this many."""

SCENARIO_SYSTEM_MB = 64
"""Memory that systemd, the journal and SSH of a test host take; it is sized for the rest of its limit."""

SCENARIO_NOFILE = 20_000
"""Open files that a container engine grants a test host on a machine that cannot raise its own limits."""

NOTICEABLE_SHARE = 0.01
"""A gain in capacity below this share is not worth naming: no load test could tell it from chance."""

SEARCHED_CPUS = 64
"""What would meet an objective is looked for up to this many CPUs of one host, and this many hosts."""

MEMORY_STEPS = (2, 4)
"""Whether memory is the limit is found by planning with these multiples of it; twice is not enough where it buys the
second slot instead of a worker."""

MEASURE_SECONDS = 60
"""Time of a measurement for requests; the boots and Ansible's steps come on top."""

MEASURE_MOST_SECONDS = 3600
"""No measurement is longer."""

MEASURE_PHASES = {"plain": 0.6, "preload": 0.15, "threads": 0.25}
"""How that time is divided: most for CPU and wait, the rest for memory with preload and with threads."""

ASKED_NAMES = 10
"""Kinds of path that are taken from an access log or a Locust file; each more leaves every other one fewer requests."""

ASKED_VARIANTS = 5
"""Paths of one kind that are asked for, so that not one thing alone, with all caches warm, stands for many."""

ASKED_REMEMBERED = 50_000
"""Different paths that are counted at a time, whatever the size of a log: about 30 MB."""

MEASURE_THREADS = 32
"""Requests that are under way at once, at most, to see what one costs a busy worker. Each may take a connection to the
database: of `database_connections`, the half that only a deploy takes is free for them."""

MEASURE_MINIMUM_REQUESTS = 5
"""Answers of one path below which a mean says nothing."""

MEASURE_MISSING = 0.1
"""Share of the requests, by weight, of whose paths none may be missing for a plan: what a tenth costs moves the mean by about as
much as a machine's speed does from minute to minute, and more of it could be all that matters."""

MEASURE_OTHER_SHARE = 0.05
"""What another service computes for a request counts from this share of the request's own CPU on: below, the service manager
and the journal are seen, whose work is no request's, and a plan would not change."""

MEASURE_OTHER_STEADY = 0.5
"""... and where it is more than this share of what the service computes by itself in the same time, which varies by that."""

MEASURE_UNCERTAIN = 0.05
"""Standard error of the CPU per request, as a share of it, above which a plan may come out differently next time."""

MEASURE_UNKNOWN = 0.125
"""Standard error of the CPU, or of CPU and wait, above which nothing is written: the mean is then known to ±25 % only, and
so are the workers and threads that follow from it."""

REFERENCE_COMPARABLE = 1.5
"""Speeds of a host that differ by more than this factor are no drift: it has become another machine, and begins anew."""

REFERENCE_NOTICEABLE = 0.05
"""A difference in speed from which on a measurement tells of it."""

REFERENCE_FOLLOWED = 0.5
"""Work of which surely less than this share follows the machine's speed computes by the clock, and is left as it is."""

MEASURE_BUSY = 0.1
"""Share of the time without a CPU from which on others disturb a measurement."""

MEASURE_IO_BOUND = 2.0
"""Waiting per CPU second from which on threads matter most."""

MEASURE_CPU_BOUND = 0.25
"""Waiting per CPU second up to which threads have next to nothing to do."""

MEASURE_LEAK_MB = 8
"""Growth of both workers below which nobody speaks of a leak: allocators keep that much."""

MEASURE_LEAK_SHARE = 0.1
"""... and the same as a share of what they had after warming."""

MEASURE_LEAK_PERSISTS = 0.6
"""A leak grows as fast in the second half as in the first; what fills up slows down."""
