# make demo: the recipe on the embedded digits, with its report. make test: the tests. make bench: the benchmarks.
# PYTHON chooses the interpreter (3.11 or newer); EXTRAS adds to what the tests install, ORACLES=1 adds PyTorch.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 2

.PHONY: demo test lint bench sanitize test-abi lock clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(ORACLES),$(RUN) -m pip install --quiet --disable-pip-version-check "torch==2.13.0")
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(RUN) -m hpjax.tune --flagfile=experiments/digits_mlp.flags --budget=2min --study=runs/demo --overwrite

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The tests share one compile cache for the run: the same programs are compiled in many of them.
test: lint
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
	JAX_COMPILATION_CACHE_DIR="$$cache" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	$(RUN) -m pytest -n $(JOBS) --dist=loadgroup -q

bench: $(VENV)/installed-test
	$(RUN) -m benchmarks

# The native handlers under AddressSanitizer and UBSan, for SECONDS on random calls (kernels/tests; needs g++ or clang++).
SECONDS ?= 120
sanitize: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check cmake ninja
	PATH="$(abspath $(VENV))/bin:$$PATH" cmake -S kernels -B build/sanitize -G Ninja -DHPJAX_SANITIZE=ON \
	  -DPython_EXECUTABLE="$(abspath $(RUN))" >/dev/null
	$(VENV)/bin/ninja -C build/sanitize
	build/sanitize/sanitize $(SECONDS)

# Every handler called on the oldest supported jaxlib, whose headers the kernels are built with, and on the newest there is;
# NEWEST_PYTHON is one that the newest has wheels for.
OLDEST := $(shell sed -n 's/^requires .*"jaxlib==\([0-9.]*\)".*/\1/p' pyproject.toml)
NEWEST_PYTHON ?= python3.13
define called_on
	$(2) -m venv --clear build/abi/$(1)
	build/abi/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade $(3)
	build/abi/$(1)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/abi/$(1)/wheel .
	build/abi/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps build/abi/$(1)/wheel/*.whl
	build/abi/$(1)/bin/python kernels/tests/abi.py
endef
test-abi:
	$(call called_on,oldest,$(PYTHON),"jax==$(OLDEST)" "jaxlib==$(OLDEST)")
	$(call called_on,newest,$(NEWEST_PYTHON),"jax>$(OLDEST)" "jaxlib>$(OLDEST)")

# What CI ran with, names and versions only.
lock: $(VENV)/installed-test
	$(RUN) -m pip freeze --exclude-editable | grep -v ' @ ' | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
