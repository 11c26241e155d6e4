# Two commands from a fresh clone, with Python 3.11 or newer, make and git:
#
#   make book    set up, render the made corpus, train the demo model, run all chapters, build the book
#   make test    all that continuous integration checks, in its order
#
# Both work without a network once everything is installed.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready
BOOK    = _build/html/index.html

# Made sounds, cached spectrograms and the demo run live here, out of git's sight.
export MUSEVAE_HOME ?= $(CURDIR)/_data
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# one step after the other, whatever -j says: they share the cores and the cache
.NOTPARALLEL:
.PHONY: help book test look chromium data lint sync notebooks pytest prepare lab clean

help:             ## this list
	@awk -F ':.*## *' '/^[a-z]+:.*##/ { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: data        ## the book, ready to open
	@echo "== chapters"
	@$(BIN)/python nbs/_book/execute.py --jobs $(JOBS)
	@echo "== pages (warnings are errors)"
	@$(BIN)/jupyter-book build . -W -n -q --keep-going || { rm -rf _build/.doctrees; exit 1; }
	@test -f $(BOOK)
	@echo "The book: $(CURDIR)/$(BOOK)"

# the book runs every cell of every notebook, hidden ones too, and stops at the first chapter that fails: once is enough
test: look chromium lint sync book pytest   ## everything CI runs; pytest's closing line comes last

# first of all, while the environment may not stand yet: nobody should wait for minutes to hear what is missing
look:
	@$(PYTHON) tests/chromium.py look

chromium: $(READY) ## the browser of the page tests, found or installed
	@$(BIN)/python tests/chromium.py

data: $(READY)    ## the made corpus and the two runs of the book, made on first use (minutes)
	@echo "== made corpus, and the runs that the book shows and compares"
	@$(BIN)/python -c "from musevae.demo import demo_run; print('runs:', *(demo_run(name).path for name in ('demo', 'transform')), sep='\n')"

lint: $(READY)    ## ruff over the package, the notebooks and the tests; mypy over the package
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/mypy

sync: $(READY)    ## export and clean: nothing may change
	@echo "== export, clean"
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean && $(BIN)/python nbs/_book/clean.py
	@git diff --exit-code --stat -- nbs musevae || \
	  { echo "Notebooks and package differ from what git holds: run 'make prepare', then git add both." >&2; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard -- nbs musevae)" || \
	  { echo "Not in git: $$(git ls-files --others --exclude-standard -- nbs musevae | tr '\n' ' ')" >&2; exit 1; }

notebooks: data   ## every cell of every notebook, as nbdev runs it: without building the book
	@echo "== notebooks"
	@OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(JOBS) --do_print --timing

pytest: $(READY)  ## unit tests, gates, and the built book in a browser
	@echo "== tests"
	@$(BIN)/python -m pytest

prepare: $(READY) ## after editing notebooks: export, clean, lists of chapters, tidy
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean && $(BIN)/python nbs/_book/clean.py
	@$(BIN)/python nbs/_book/contents.py
	@$(BIN)/ruff check .

lab: $(READY)     ## JupyterLab in the chapters' folder
	@$(BIN)/jupyter lab nbs

clean:            ## remove what was built (not the environment, not _data)
	rm -rf _build

# torch first: with the lock's exact version, pip takes the build that suits this machine.
$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "musevae needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv is missing (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "== environment 1/3: build tools"
	@$(BIN)/pip install --quiet -c constraints.txt setuptools wheel
	@echo "== environment 2/3: torch"
	@$(BIN)/pip install -c constraints.txt torch
	@echo "== environment 3/3: the rest of the lock"
	@$(BIN)/pip install -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@
