# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python

.PHONY: install demo bccd test test-slow lint check clean

install: $(VENV)/.installed

# The pinned set needs no resolver: --no-deps keeps opencv-python (which asks
# for system libraries) from being pulled in beside its headless form.
$(VENV)/.installed: constraints.txt setup.py
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --no-deps -r constraints.txt
	$(RUN) -m pip install --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(RUN) tools/draw_shapes.py configs/demo/dataset.py
	$(RUN) tools/from_scratch.py configs/demo/mtpd.py

bccd: install
	$(RUN) tools/from_scratch.py configs/bccd/mtpd.py

test: install
	$(RUN) -m pytest tests

test-slow: install
	$(RUN) -m pytest tests -m slow

# Beside the tested set, so that `make test` needs no more than it did.
$(VENV)/.linters: constraints-dev.txt $(VENV)/.installed
	$(RUN) -m pip install --no-deps -r constraints-dev.txt
	touch $@

lint: $(VENV)/.linters
	$(RUN) -m ruff check
	$(RUN) -m mypy

# All checks: what a change has to pass.
check: lint test

clean:
	rm -rf $(VENV) work_dirs build mtpd.egg-info .mypy_cache .ruff_cache
