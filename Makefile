# The only commands; the README and CI use the same ones. Each sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

.PHONY: demo test check format bench docs sanitize

demo: $(READY)
	$(BIN)/elman demo text

# One process a core, each with one thread: most tests are too small to share.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests benchmarks examples docs/*.py docs/*.ipynb
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror native/*.cpp native/*.h

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format src tests benchmarks examples docs/*.py docs/*.ipynb
	$(BIN)/clang-format -i native/*.cpp native/*.h

# The peers go into .venv too; one that cannot be installed here is left out and named.
bench: $(READY)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/layers.py --all --peers all --json build/layers.json --picture build/layers.png
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/scaling.py

# The quotes and the figures of docs/how-it-works.md, from the source and from models that are trained for it.
docs: $(READY)
	$(BIN)/python docs/make.py

# The kernels' tests under address and undefined-behaviour sanitizers. python -S: without it, the installed build is used.
SANITIZED := build/sanitize
sanitize: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cmake ninja nanobind
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(SANITIZED) -G Ninja -DELMAN_SANITIZE=ON -DELMAN_WIDE=ON \
	    -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -Dnanobind_DIR="$$($(BIN)/python -m nanobind --cmake_dir)"
	PATH="$(CURDIR)/$(BIN):$$PATH" ninja -C $(SANITIZED)
	rm -rf $(SANITIZED)/site && mkdir $(SANITIZED)/site && cp -r src/elman $(SANITIZED)/site && cp $(SANITIZED)/_native*.so $(SANITIZED)/site/elman
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	    PYTHONPATH="$(SANITIZED)/site:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    $(BIN)/python -S -m pytest tests/test_kernels.py tests/test_products.py tests/test_program_ops.py tests/test_layer_stream.py

# ELMAN_WIDE: the AVX-512 source also for narrower CPUs, for the tests.
$(READY): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --config-settings=cmake.define.ELMAN_WIDE=ON --editable ".[train,explain,tune,tensorboard,demo,keras,dev]"
	touch $@
