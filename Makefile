# Each target sets up what it needs by itself: a private uv, then the environment in .venv.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin/
PYTHON ?= python3

.PHONY: run test test-slow check docs bench release-check clean setup ray
run: setup  ## the main job: hidden-goal reach from nothing to an improvement curve, into runs/quick
	@$(RUN)wtl run quick

test: setup  ## the fast tests, offline
	@$(RUN)pytest -q -n 2 -m "not slow"

test-slow: ray  ## the long tests: learning on the toy, kill -9 and resume, a Ray cluster, all 50 families
	@$(RUN)pytest -q -m slow

check: setup docs  ## lint, format, types, layers, docs
	@$(RUN)ruff check .
	@$(RUN)ruff format --check .
	@$(RUN)mypy
	@$(RUN)lint-imports

docs: setup  ## the pages of docs/ as HTML, into docs/_build; a warning, or a generated page that is stale, is an error
	@$(RUN)python -m docs.make_results --check
	@$(RUN)python -m docs.make_configuration --check
	@$(RUN)python -m docs.make_evidence --check
	@$(RUN)sphinx-build -W -q -b html docs docs/_build

bench: setup  ## stock, fast and EnvPool stepping, collection, training, acting, memory: ratios, into runs/bench
	@$(RUN)python experiments/speed/bench.py

# Each environment has a PyTorch of its own: a few GB, most of which uv links from its cache.
release-check: setup  ## the wheel in fresh environments of Python 3.11, 3.12 and 3.13, from another directory; the preset toy in each
	@WTL_PYTHONS="3.11 3.12 3.13" $(RUN)pytest -q -m slow tests/test_wheel.py

ray: .venv/.with-ray  ## the environment with Ray in it, for executor=ray

clean:  ## remove everything that was set up; runs/ stays
	rm -rf .venv .tools

# An environment holds the place of its checkout: in a copy it would run the code of the original, so it is made anew.
ifneq ($(shell cat .venv/.complete 2>/dev/null),$(CURDIR))
$(shell test -s .venv/.complete && rm -rf .venv)
endif

setup: .venv/.complete

.venv/.complete: pyproject.toml | $(UV)
	@printf '#include <Python.h>\nint main(void){return 0;}\n' > .header-check.c; \
	$(CC) -fsyntax-only -I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" .header-check.c 2>/dev/null \
	  || { rm -f .header-check.c; echo "wtl needs a C compiler and Python's headers (Debian, Ubuntu: apt install build-essential python3-dev)"; exit 1; }; \
	rm -f .header-check.c
	@echo "setting up the environment in .venv (PyTorch is large; half a minute on a fast line)"
	@$(UV) sync --quiet --python $(PYTHON) --extra maml
	@printf '%s' '$(CURDIR)' > $@

# Ray is an extra that most users never need; with it missing, its tests would only be skipped.
.venv/.with-ray: .venv/.complete
	@$(UV) sync --quiet --python $(PYTHON) --extra maml --extra ray
	@touch $@

.tools/bin/uv:
	@echo "uv is not installed; fetching a private copy into .tools"
	@$(PYTHON) -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv
