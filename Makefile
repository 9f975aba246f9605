PYTHON ?= python3.11
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --no-deps --disable-pip-version-check --quiet
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint

help:  ## What can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(VENV)/.installed  ## Everything into .venv, once (2 to 5 minutes); TORCH_INDEX=<index> if pip finds no CPU torch

quickstart: install  ## The whole pipeline on this machine's CPU
	agentrm pipeline --preset quickstart

test: install  ## All tests: those that start clusters one after the other, the others two at a time
	pytest -n 2 --dist loadfile --ignore tests/integration
	pytest tests/integration

lint: install  ## ruff and mypy
	ruff check
	ruff format --check
	mypy

$(VENV)/.installed: requirements-cpu.txt pyproject.toml
	sh tools/system_packages.sh
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	DS_BUILD_OPS=0 $(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements-cpu.txt || { \
	  echo "If pip found no torch==...+cpu: look up PyTorch's CPU wheel index, then make install TORCH_INDEX=<index>"; exit 1; }
	$(PIP) --no-build-isolation -e .
	touch $@
