# install  make .venv with everything that CI uses
# demo     run the quickstart recipe to a finished bundle and report
# check    lint, format, types, import walls
# fix      mend what the linter can, and format
# test     check, then the tests, two files at a time, and where there is a GPU its own tests
# slow     the tests that take minutes
# device   install only what a device needs, and try the quickstart's bundle there
# bench    the benchmarks (they take their time; run nothing else meanwhile)

PYTHON ?= python3
# Of what is installed most is never imported, and what is gets compiled then.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := -m pip install --quiet --no-compile --constraint constraints.txt
VENV := .venv
BIN := $(VENV)/bin
DEVICE := .venv-device

.PHONY: install demo check fix test slow device bench

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python $(PIP_INSTALL) --editable '.[train,demo,dev]'
	touch $@

demo: install
	$(BIN)/tledge run recipes/quickstart.yaml

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile
	if $(BIN)/python -c "import torch; raise SystemExit(not torch.cuda.is_available())"; then $(BIN)/python -m pytest -m gpu; fi

slow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

device:
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/python $(PIP_INSTALL) .
	$(DEVICE)/bin/tledge verify runs/quickstart
	$(DEVICE)/bin/tledge predict runs/quickstart/bundle "turn the lights off in the kitchen"
	$(DEVICE)/bin/tledge bench runs/quickstart/bundle --for 50
	$(DEVICE)/bin/tledge gate runs/quickstart --budget docs/ci/budget.yaml

bench: install
	for script in percentiles bench_overhead startup probe graph_form freed_memory zoo gate training; do $(BIN)/python benchmarks/$$script.py || exit 1; done
