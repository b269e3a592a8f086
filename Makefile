# make demo: train on the embedded digits. make test: the tests. make bench: the benchmarks.
# PYTHON chooses the interpreter (3.11 or newer); EXTRAS adds to what the tests install, ORACLES=1 adds PyTorch.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 2

.PHONY: demo test lint bench sanitize lock clean

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
	$(RUN) -m hpjax.train --flagfile=experiments/digits_mlp.flags --run_dir=runs/demo --overwrite

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

# What CI ran with, names and versions only.
lock: $(VENV)/installed-test
	$(RUN) -m pip freeze --exclude-editable | grep -v ' @ ' | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
