# Everything a newcomer needs; `make` alone lists it. Python 3.11 or newer is found by itself, or
# named: make setup PYTHON=/path/to/python3.12

PYTHON =
ARGS =
CASES = 24000
ONCE =
PORT =
SCENARIO =
WORKERS = 3
DURATION_S = 120
RATE = 50
SEED =

CANDIDATES := .venv/bin/python python3 python3.13 python3.12 python3.11 python
COMPILE := .venv/bin/python service/bootstrap.py uv pip compile --quiet --universal \
	--generate-hashes --python-version 3.11 --custom-compile-command "make lock"
ANSIBLE_LINT = PATH="$(CURDIR)/.venv/bin:$$PATH" ANSIBLE_HOME="$(CURDIR)/.cache/ansible" \
	.venv/bin/ansible-lint --offline -q
PINNED := ^(\#.*|-r .*|[A-Za-z0-9._-]+(\[[A-Za-z0-9,._-]+\])?==[0-9][^ ;*]*( ; .+)?)?$$

# Tests and the demo start hundreds of processes: without compiled modules each compiles them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# What the help lists.
.PHONY: help setup demo test chaos fuzz audit compose molecule lint bench variables lock check-lock
.PHONY: lint-python lint-ansible lint-molecule

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

# First a Python that can do it, else one that is too bare or too old: bootstrap.py says what it lacks.
setup: ## Make .venv with the service, tests, linters and Ansible (PYTHON= names the Python)
	@for can in \
		'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
		'import sys; sys.exit(sys.version_info < (3, 11))' \
		'pass'; \
	do \
		for python in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
			if "$$python" -c "$$can" >/dev/null 2>&1; then \
				exec "$$python" service/bootstrap.py; \
			fi; \
		done; \
	done; \
	echo 'Install Python 3.11 or newer: apt-get install python3 python3-venv'; \
	echo '($(if $(PYTHON),PYTHON=$(PYTHON) does not run,no Python was found).)'; \
	exit 1

demo: setup ## Try the whole service on this machine, without accounts (ONCE=1: one round, then end; PORT=8001)
	@.venv/bin/python -m service demo $(if $(filter-out 0,$(ONCE)),--once) \
		$(if $(PORT),--port $(PORT))

# Slow tests come first by their folders, quick ones last: all workers end at about the same time.
test: setup ## Run the tests with a real Redis and PostgreSQL (ARGS= goes to pytest, WORKERS=0: one process)
	@HORIZON_REQUIRE_SERVERS=1 .venv/bin/python -m pytest \
		-n $(WORKERS) --no-loadscope-reorder $(ARGS)

chaos: setup ## Break the service under load and check what it promised (DURATION_S=600 RATE=50 SEED="1 2 3")
	@.venv/bin/python -m tests.chaos --duration $(DURATION_S) --rate $(RATE) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: setup ## Send 24,000 odd requests and values and more (CASES= how many, SEED= which; 3 minutes)
	@HORIZON_REQUIRE_SERVERS=1 FUZZ_CASES=$(CASES) $(if $(SEED),FUZZ_SEED=$(SEED)) \
		.venv/bin/python -m pytest tests/fuzz $(ARGS)

audit: setup ## Look up known vulnerabilities of the locked packages; UNAUDITED where nobody can say
	@.venv/bin/python -m tests.security.audit

compose: setup ## Start compose.yml in a fresh checkout with Docker, and see what it keeps
	@HORIZON_REQUIRE_DOCKER=1 .venv/bin/python -m pytest -n 0 tests/compose $(ARGS)

molecule: setup ## Install, deploy and break real systemd machines in Docker (SCENARIO="deploy light": these)
	@molecule/run $(SCENARIO)

bench: setup ## Print the figures that the README quotes (half an hour on a quiet machine; needs wrk)
	@for name in acknowledge answers turns in_flight bots history backlog fairness stores figures; do \
		.venv/bin/python -m benchmarks.$$name || exit 1; \
	done
	@HORIZON_WHOLE_TABLES=1 .venv/bin/python -m pytest -q tests/integration/test_capacity_tables.py

# `make -j 3 lint` runs its parts beside each other; each part can be run alone.
lint: lint-python lint-ansible lint-molecule check-lock ## Check style, format, types, playbooks and the lock

lint-python: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/yamllint --strict .

lint-ansible: setup
	@$(ANSIBLE_LINT) --exclude molecule/

lint-molecule: setup
	@$(ANSIBLE_LINT) molecule/

variables: setup ## Write docs/variables.md anew from the argument specs of the roles
	@.venv/bin/python ansible/variables.py

lock: setup ## Write requirements.txt anew from requirements.in (ARGS= goes to uv pip compile)
	@$(COMPILE) $(ARGS) service/requirements.in -o service/requirements.txt
	@$(COMPILE) $(ARGS) requirements.in -c service/requirements.txt -o requirements.txt

check-lock: setup ## Check that the lock fits requirements.in and that everything there is pinned
	@if grep -nEv '$(PINNED)' service/requirements.in requirements.in; then \
		echo 'Pin the lines above with == and one version.'; exit 1; \
	fi
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	cp service/requirements.txt "$$folder/service.txt" && \
	cp requirements.txt "$$folder/all.txt" && \
	$(COMPILE) service/requirements.in -o "$$folder/service.txt" && \
	$(COMPILE) requirements.in -c service/requirements.txt -o "$$folder/all.txt" && \
	{ diff -u service/requirements.txt "$$folder/service.txt" && \
	diff -u requirements.txt "$$folder/all.txt"; } || \
	{ echo 'The lock could not be confirmed: see above; `make lock` writes it anew.'; exit 1; }
