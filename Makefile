PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A run has many processes: none is to compile what another has compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint docs

help:  ## What can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(INSTALLED)  ## Everything into .venv, once (2 to 5 minutes); TORCH_INDEX=<index> if no CPU torch is found
	@echo "$(VENV) has all that requirements-cpu.txt pins"

quickstart: $(INSTALLED)  ## The whole pipeline on this machine's CPU
	agentrm pipeline --preset quickstart

test: $(INSTALLED)  ## All tests, two files at a time; those that start clusters after the others
	pytest -n 2 --dist loadfile --ignore tests/integration
	pytest -n 2 --dist loadfile tests/integration

lint: $(INSTALLED)  ## ruff, mypy and the layers
	ruff check
	ruff format --check
	mypy
	lint-imports

docs: $(INSTALLED)  ## The documentation, into build/site
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

$(INSTALLED): requirements-cpu.txt pyproject.toml
	sh tools/system_packages.sh
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	DS_BUILD_OPS=0 $(VENV)/bin/python tools/install.py $(TORCH_INDEX)
	@touch $@
