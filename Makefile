# every habit has one word; PYTHON=python3.12 make … picks another interpreter
PYTHON ?= python3
PY := .venv/bin/python
INSTALL := .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench lab clean

demo: .venv/demo.done  ## train the example, report on its checkpoints, print the verdicts
	$(PY) -m trainlab demo demo

test: .venv/test.done  ## the whole suite
	$(PY) -m pytest -q -n 2 --dist loadgroup $(PYTEST)

check: .venv/test.done  ## formatting, lint, types, import laws
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports

bench: .venv/test.done  ## the long studies, beside the peers; prints their tables
	$(PY) -m benchmarks.variation_study
	$(PY) -m benchmarks.panel_latency
	$(PY) -m benchmarks.checkpoints
	$(PY) -m benchmarks.audit_corpus
	$(PY) -m benchmarks.resume_ablations
	$(PY) -m benchmarks.dtypes_study
	$(PY) -m benchmarks.dtypes_rehearsal
	$(PY) -m benchmarks.dtypes_forecast
	$(PY) -m benchmarks.dtypes_cost
	$(PY) -m benchmarks.runlog_reading
	$(PY) -m benchmarks.runlog_formats
	$(PY) -m benchmarks.curves_study
	$(PY) -m benchmarks.comparison_study
	$(PY) -m benchmarks.timesteps_study
	$(PY) -m benchmarks.timesteps_cost
	$(PY) -m benchmarks.rollout_study
	$(PY) -m benchmarks.attention_maps
	$(PY) -m benchmarks.attention_cost
	$(PY) -m benchmarks.attention_study
	$(PY) -m benchmarks.attention_page

lab: .venv/lab.done  ## JupyterLab on the pages
	.venv/bin/jupyter lab notebooks

clean:
	rm -rf .venv demo dist

# torch is asked for first and by its pinned version, so that no dependency brings a larger build of it
.venv/base.done: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(INSTALL) torch
	touch $@

.venv/demo.done: .venv/base.done
	$(INSTALL) -e '.[demo]'
	touch $@

.venv/lab.done: .venv/base.done
	$(INSTALL) -e '.[demo,lab]'
	touch $@

.venv/test.done: .venv/base.done
	$(INSTALL) -e '.[test]'
	touch $@
