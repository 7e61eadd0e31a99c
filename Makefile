# `make demo` and `make test` are all that a fresh machine needs (Python 3.11+ with venv, and make).
PYTHON ?= python3
VENV := .venv
CLIENTS := .venv-clients
BIN := $(VENV)/bin
UV := $(BIN)/uv
TORCH_BACKEND ?=
FILES ?=
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell echo $$(($(CORES) < 4 ? 2 * $(CORES) : 8)))
NO_TESTS := 5
# else every start of the service compiles its libraries anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo serve test test-ray check fuzz soak audit bench format lock clients clean

help:
	@echo "make demo    set up, start the service on the embedded demo models, transcribe a conversation"
	@echo "make serve   set up and start the service (PORT, default 9000; settings from the environment and .env)"
	@echo "make test    set up, check and test (FILES=tests/unit/engine: a part; WORKERS: processes side by side)"
	@echo "make test-ray  the tests of the service on Ray (installs requirements-ray.lock)"
	@echo "make check   lint, format check, types"
	@echo "make fuzz    thousands of hostile requests and tens of thousands of damaged files (FUZZ_SCALE, FUZZ_SEED)"
	@echo "make soak    mixed load for SOAK_MINUTES (default 30), and what the service keeps of it"
	@echo "make audit   published advisories of the locked packages (needs internet)"
	@echo "make bench   measure against the bare libraries (BENCH='--help' lists the options)"
	@echo "make clients install LiveKit Agents and Pipecat (650 MB), which tests/service/test_live_clients.py runs"
	@echo "make format  rewrite the sources in the project's format"
	@echo "make lock    write the lock files anew"
	@echo "TORCH_BACKEND=cpu make demo    CPU-only PyTorch wheels (smaller; versions locked, hashes not checked)"

demo: $(VENV)/.run
	$(BIN)/whisperx-asr demo

serve: $(VENV)/.run
	$(BIN)/whisperx-asr serve

# Two processes for each core, since many tests wait for the most part; each model of theirs has one thread,
# or those of several servers get into each other's way. No test may be in FILES for one of the two.
test: check
	OMP_NUM_THREADS=1 CPU_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not serial" $(FILES) \
		|| [ $$? -eq $(NO_TESTS) ]
	$(BIN)/python -m pytest -m serial $(or $(FILES),$(shell grep -rl --include=*.py mark.serial tests)) \
		|| [ $$? -eq $(NO_TESTS) ]

# One cluster for all: a part of its own, so that nobody without Ray pays for it. Its processes and
# those of the tests would get into each other's way if they ran side by side.
test-ray: $(VENV)/.ray
	OMP_NUM_THREADS=1 CPU_THREADS=1 $(BIN)/python -m pytest --through-ray \
		$(or $(FILES),tests/service/test_contract.py tests/service/test_openai_sdk.py \
		tests/service/test_stream.py tests/ray)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.dev
	FUZZ_SCALE=$(or $(FUZZ_SCALE),10) FUZZ_SEED=$(or $(FUZZ_SEED),1) \
		$(BIN)/python -m pytest -s tests/unit/audio/test_corpus.py tests/unit/test_properties.py \
		tests/service/test_damaged_files.py tests/service/test_api_fuzz.py

soak: $(VENV)/.dev
	$(BIN)/python -m tests.support.soak --minutes $(or $(SOAK_MINUTES),30)

# strict: a package that the database does not know, or a database that does not answer, is a failure
audit: $(VENV)/.dev
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock \
		$$(sed -n 's/^\([A-Z][^ ]*\).*/--ignore-vuln \1/p' accepted-advisories.txt)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(BENCH)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.uv
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --extra postgresql --extra s3 --extra urls \
		--extra wyoming -o requirements.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" -c requirements.lock --extra dev \
		-o requirements-dev.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" -c requirements-dev.lock --extra postgresql \
		--extra s3 --extra urls --extra wyoming --extra ray \
		-o requirements-ray.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" -o requirements-clients.lock \
		tests/service/live_clients/requirements.in

clients: $(CLIENTS)/.ready

clean:
	rm -rf $(VENV) $(CLIENTS)

$(VENV)/.uv:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ": try make PYTHON=python3.12") if not (3, 11) <= sys.version_info < (3, 14) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5.4'
	@touch $@

# Both stamps depend on the lock they install from, so that a pull that changes it updates the environment.
$(VENV)/.run: $(VENV)/.uv requirements.lock pyproject.toml
	$(call install,requirements.lock,.)
	@touch $@

$(VENV)/.dev: $(VENV)/.uv requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock,.[dev])
	@touch $@ $(VENV)/.run

# Of their own: they need other versions of packages than we do.
$(CLIENTS)/.ready: $(VENV)/.uv requirements-clients.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(CLIENTS)
	VIRTUAL_ENV=$(CURDIR)/$(CLIENTS) $(UV) pip install --quiet --require-hashes -r requirements-clients.lock
	@touch $@

$(VENV)/.ray: $(VENV)/.dev requirements-ray.lock
	$(call install,requirements-ray.lock,.[dev,ray])
	@touch $@

ifeq ($(TORCH_BACKEND),)
define install
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --require-hashes -r $(1)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps -e '.'
endef
else
define install
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --torch-backend $(TORCH_BACKEND) --no-verify-hashes -c $(1) -e '$(2)'
endef
endif
