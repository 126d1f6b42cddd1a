# A new user needs only two commands: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python

.PHONY: install demo bccd test test-slow test-gpu lint check clean

install: $(VENV)/.installed

# All versions are pinned, so pip has nothing to resolve. --no-deps prevents it
# from also installing opencv-python, which needs system libraries; the pinned
# headless OpenCV does not.
$(VENV)/.installed: constraints.txt setup.py $(wildcard startup/*)
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --no-deps -r constraints.txt
	$(RUN) -m pip install --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(RUN) tools/draw_shapes.py configs/demo/few_labels/student.py
	$(RUN) tools/from_scratch.py configs/demo/few_labels/progression.py

bccd: install
	$(RUN) tools/from_scratch.py configs/bccd/progression.py

# All cores; every worker computes with one thread, and on the CPU even where
# there is a GPU.
test: install
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests -n auto --dist worksteal \
		--durations 25

test-slow: install
	$(RUN) -m pytest tests -m slow

test-gpu: install
	MTPD_TEST_GPU=1 $(RUN) -m pytest tests -m gpu -rs

# The linters are installed only for `make lint`; `make test` does not need
# them.
$(VENV)/.linters: constraints-dev.txt $(VENV)/.installed
	$(RUN) -m pip install --no-deps -r constraints-dev.txt
	touch $@

lint: $(VENV)/.linters
	$(RUN) -m ruff check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) -m vulture
	$(RUN) benchmarks/measures.py --check

# All checks that a change has to pass.
check: lint test

clean:
	rm -rf $(VENV) work_dirs build mtpd.egg-info .mypy_cache .ruff_cache
