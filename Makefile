# Everything lives in .venv; as root on Debian the missing packages are installed and named, else the line to type is.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PREFIX ?= /usr/local

.PHONY: help demo test lint lab kernel bench fuzz install clean

help:
	@echo "make demo     two hosts behind NAT find each other and ping through WireGuard"
	@echo "make test     unit tests, backends against real servers, the smoke subset of the network lab"
	@echo "make lint     ruff and mypy --strict"
	@echo "make lab      the whole network lab: every pair of NAT profiles"
	@echo "make kernel   the same code on Debian's kernel WireGuard, in QEMU"
	@echo "make bench    the figures"
	@echo "make fuzz     the Hypothesis tests with many more examples"
	@echo "make install  a virtual environment and one command in $(PREFIX)"

$(VENV)/stamp: pyproject.toml tests/setup.sh
	sh tests/setup.sh venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group test --group lint
	touch $@

demo: $(VENV)/stamp
	sh tests/setup.sh lab
	$(BIN)/python -m tests.lab.demo

test: lint
	sh tests/setup.sh lab servers
	$(BIN)/python -m pytest -m "not full" -n 2 --dist loadgroup

lint: $(VENV)/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(VENV)/stamp
	sh tests/setup.sh lab servers
	$(BIN)/python -m pytest tests/lab

kernel: $(VENV)/stamp
	sh tests/setup.sh lab kernel
	sh tests/kernel/run.sh

bench: $(VENV)/stamp
	sh tests/setup.sh lab servers
	for bench in tests/bench/bench_*.py; do echo "== $$bench"; PYTHONPATH=. $(BIN)/python $$bench || exit 1; done

fuzz: $(VENV)/stamp
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit tests/attacks -n 2

install:
	sh tests/setup.sh venv
	$(PYTHON) -m venv $(PREFIX)/lib/wgdisco
	$(PREFIX)/lib/wgdisco/bin/python -m pip install --quiet ".[all]"
	mkdir -p $(PREFIX)/bin
	ln -sf ../lib/wgdisco/bin/wgdisco $(PREFIX)/bin/wgdisco
	@echo "installed: $(PREFIX)/bin/wgdisco; remove with: rm -r $(PREFIX)/lib/wgdisco $(PREFIX)/bin/wgdisco"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .kernel
