# The one entry to everything: `make help` lists it. Needs make, Python 3.9+ and cargo; the rest is
# fetched into .venv, build and rust-core/target.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory --output-sync
export HOME ?= $(shell echo ~)
export PATH := $(HOME)/.cargo/bin:$(or $(PATH),/usr/local/bin:/usr/bin:/bin)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

PYTHON ?= python3
ROUNDS ?= 21
BIN := $(CURDIR)/.venv/bin
STAGE := $(CURDIR)/tools/stage
CARGO := cd rust-core && $(STAGE)
SOURCES := Makefile pyproject.toml setup.py build_ffi.py $(wildcard LICENSE-* THIRD-PARTY-NOTICES) \
    $(shell find rust-core include remotemedia -name target -prune -o -name _ffi.py -prune \
      -o -path remotemedia/include -prune -o -path remotemedia/_lib -prune \
      -o -type f -not -name '*.pyc' -print)
C_FILES = $(shell find tests examples benchmarks -name '*.[ch]' -o -name '*.cpp')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench header notices wheel lint rust python wheels clean

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: .venv/installed ## install everything and find the speech in three recordings
	@$(BIN)/python examples/speech/run.py

test: lint rust python wheels ## everything that CI runs
	@echo; echo 'All passed.'

lint: .venv/dev ## formats, linters, types, licences, header drift
	@echo; echo 'Lint'
	@$(CARGO) 'cargo fetch' cargo fetch --locked
	@$(CARGO) 'cargo fmt' cargo fmt --all --check
	@$(CARGO) 'cargo clippy' cargo clippy --quiet --workspace --all-targets --all-features --locked -- -D warnings
	@$(CARGO) 'header drift' cargo run --quiet --locked --package remotemedia-header -- --check
	@$(STAGE) 'ruff' $(BIN)/ruff check --quiet
	@$(STAGE) 'ruff format' $(BIN)/ruff format --check
	@$(STAGE) 'mypy' $(BIN)/mypy
	@$(STAGE) 'pyright' $(BIN)/pyright --pythonpath $(BIN)/python
	@$(STAGE) 'clang-format' $(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@$(STAGE) 'licences and notices' $(BIN)/python tools/notices.py --check

rust: ## the Rust tests
	@echo; echo 'Rust'
	@$(CARGO) 'cargo test' cargo test --quiet --workspace --all-features --locked

python: .venv/dev ## the Python and C tests, against the installed package
	@echo; echo 'Python and C'
	@cd tests && REMOTEMEDIA_WHEEL=$$(echo ../dist/*.whl) $(STAGE) 'pytest' $(BIN)/pytest

wheels: .venv/dev ## one wheel file under every Python on this machine
	@echo; echo 'One wheel, every Python'
	@$(BIN)/python tests/wheel_matrix.py dist/*.whl

bench: .venv/peers ## the benchmarks, side by side with others, into build/bench.md
	@$(BIN)/python benchmarks/compare.py --rounds $(ROUNDS)

header: ## write include/ and the node catalogue anew
	@cd rust-core && cargo run --quiet --package remotemedia-header

notices: .venv/dev ## write THIRD-PARTY-NOTICES anew
	@cd rust-core && cargo fetch --locked
	@$(BIN)/python tools/notices.py

wheel: build/wheel ## the wheel, in dist/
	@ls dist/*.whl

clean: ## remove everything that was built
	rm -rf .venv build dist rust-core/target *.egg-info .*_cache .hypothesis
	rm -rf remotemedia/_ffi.py remotemedia/_lib remotemedia/include

# What the targets above stand on. A file named like a step says when the step was last done.

.venv/bin/python:
	@tools/debian-packages gcc python3-venv
	@$(PYTHON) -m venv .venv

build/wheel: .venv/bin/python $(SOURCES)
	@mkdir -p build && rm -rf dist/*.whl build/lib* build/bdist*
	@$(STAGE) 'Building the wheel' $(BIN)/pip wheel --no-deps --wheel-dir dist .
	@touch $@

.venv/installed: build/wheel
	@rm -f .venv/dev
	@$(STAGE) 'Installing it' bash -c \
	  '$(BIN)/pip install --force-reinstall --no-deps dist/*.whl && $(BIN)/pip install "$$(echo dist/*.whl)[numpy]"'
	@touch $@

.venv/dev: .venv/installed
	@tools/debian-packages gcc g++ binutils valgrind pypy3 pypy3-venv
	@$(STAGE) 'Installing the test tools' bash -c '$(BIN)/pip install "$$(echo dist/*.whl)[dev]"'
	@touch $@

# What benchmarks compare with. What cannot be installed is named, and left out.
.venv/peers: .venv/dev $(wildcard benchmarks/*.txt) benchmarks/install.py
	@$(BIN)/python benchmarks/install.py
	@touch $@
