# Everything lives in .venv; as root on Debian the missing packages are installed and named, else the line to type is.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PREFIX ?= /usr/local
LIBRARY := $(PREFIX)/lib/wgdisco
UNIT := $(PREFIX)/lib/systemd/system/wgdisco@.service
MANUAL := $(PREFIX)/share/man/man1/wgdisco.1
COMPLETE_BASH := $(PREFIX)/share/bash-completion/completions/wgdisco
COMPLETE_ZSH := $(PREFIX)/share/zsh/site-functions/_wgdisco
COMPLETE_FISH := $(PREFIX)/share/fish/vendor_completions.d/wgdisco.fish

.PHONY: help demo test lint lab soak kernel bench fuzz contrib install install-files uninstall clean

help:
	@echo "make demo     two hosts behind NAT find each other and ping through WireGuard"
	@echo "make test     unit tests, backends against real servers, the smoke subset of the network lab"
	@echo "make lint     ruff and mypy --strict"
	@echo "make lab      the whole network lab: every pair of NAT profiles"
	@echo "make soak     an hour of random faults (SECONDS=300 SEED=1: five minutes, and those of the seed that was printed)"
	@echo "make kernel   the same code on Debian's kernel WireGuard, in QEMU"
	@echo "make bench    the figures"
	@echo "make fuzz     the Hypothesis tests with many more examples"
	@echo "make contrib  completions and manual page anew, after a command or an option has changed"
	@echo "make install  a virtual environment and one command in $(PREFIX), with unit, manual page and completions"
	@echo "make uninstall  removes what make install made"

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
	sh tests/setup.sh lab servers contrib
	$(BIN)/python -m pytest -m "not full" -n 2 --dist loadgroup

lint: $(VENV)/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(VENV)/stamp
	sh tests/setup.sh lab servers
	$(BIN)/python -m pytest tests/lab

soak: $(VENV)/stamp
	sh tests/setup.sh lab servers
	$(BIN)/python -m tests.lab.soak $(or $(SECONDS),3600) $(SEED)

kernel: $(VENV)/stamp
	sh tests/setup.sh lab kernel
	sh tests/kernel/run.sh

bench: $(VENV)/stamp
	sh tests/setup.sh lab servers
	for bench in tests/bench/bench_*.py; do echo "== $$bench"; PYTHONPATH=. $(BIN)/python $$bench || exit 1; done

fuzz: $(VENV)/stamp
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit tests/attacks -n 2

contrib: $(VENV)/stamp
	$(BIN)/python contrib/generate.py

install: install-files
	sh tests/setup.sh venv
	$(PYTHON) -m venv $(DESTDIR)$(LIBRARY)
	$(DESTDIR)$(LIBRARY)/bin/python -m pip install --quiet ".[all]"
	@# a program names its Python by the full path, which is another one without DESTDIR
	test -z "$(DESTDIR)" || grep -lI "^#!$(DESTDIR)/" $(DESTDIR)$(LIBRARY)/bin/* | xargs sed -i "1s|^#!$(DESTDIR)|#!|"
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	ln -sf ../lib/wgdisco/bin/wgdisco $(DESTDIR)$(PREFIX)/bin/wgdisco
	test -n "$(DESTDIR)" -o ! -d /run/systemd/system || systemctl daemon-reload
	@echo "installed: $(PREFIX)/bin/wgdisco; remove with: make uninstall"

install-files:
	install -D -m 644 contrib/systemd/wgdisco@.service $(DESTDIR)$(UNIT)
	sed -i "s|/usr/local/|$(PREFIX)/|" $(DESTDIR)$(UNIT)
	install -D -m 644 contrib/man/wgdisco.1 $(DESTDIR)$(MANUAL)
	install -D -m 644 contrib/completions/wgdisco.bash $(DESTDIR)$(COMPLETE_BASH)
	install -D -m 644 contrib/completions/_wgdisco $(DESTDIR)$(COMPLETE_ZSH)
	install -D -m 644 contrib/completions/wgdisco.fish $(DESTDIR)$(COMPLETE_FISH)

uninstall:
	rm -rf $(DESTDIR)$(LIBRARY)
	rm -f $(addprefix $(DESTDIR),$(PREFIX)/bin/wgdisco $(UNIT) $(MANUAL) $(COMPLETE_BASH) $(COMPLETE_ZSH) $(COMPLETE_FISH))
	@echo "removed; configuration in /etc/wgdisco and state in /var/lib/wgdisco are left"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .kernel
