# Everything here works in a fresh clone on Debian 12 with git, make and Python 3.11: what else is needed is
# installed first, or named where that is not allowed.

.DEFAULT_GOAL := help
.PHONY: help demo demo-down check test bench bench-measure bench-sizing bench-threads clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## from the facts of a throw-away host to a served page, step by step
	@tools/bootstrap demo
	@tools/demo up

demo-down: ## remove all that `make demo` made
	@tools/demo down

check: ## lint, types, fast tests; under a minute
	@tools/bootstrap check
	@tools/check

test: ## everything: checks, tests on hosts, all Molecule scenarios
	@tools/bootstrap test
	@tools/test

bench: ## how fast `farrier plan` and `farrier generate` are
	@tools/bootstrap demo
	@.venv/bin/python tools/bench.py

bench-measure: ## how well five measurements of one application agree; five minutes
	@tools/bootstrap test
	@.venv/bin/python tools/bench_measure.py

bench-sizing: ## how close Farrier's sizes come to the best there are; two to three hours, can be stopped and continued
	@tools/bootstrap test
	@.venv/bin/python tools/bench_sizing.py

bench-threads: ## what threads do under the GIL, on one CPU; the figures behind policy.GIL_CEILING
	@tools/bootstrap check
	@.venv/bin/python tools/bench_threads.py

clean: ## remove hosts, their images, caches and the virtual environment
	@tools/demo down
	@if [ -d .cache/hosts ]; then python3 templates/molecule/shared/host.py clean; fi
	@rm -rf .venv .cache .ansible .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
