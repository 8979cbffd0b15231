# `make` prints what there is. Settings: make pretrain-tiny DUMP=... BOOKS=... VOCAB=... MODEL=... STEPS_128=... STEPS_512=... BATCH=... OUT=... ARGS='--prepare.masked_lm_prob=0.2 --task mrpc=DIR'
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A file's tests run in one process, so that what a file or a session makes once is made once.
PYTEST = $(BIN)/python -m pytest --numprocesses=$(or $(WORKERS),2) --dist=loadfile --no-loadscope-reorder
# Only the files that hold such tests: to collect all would load TensorFlow beside JAX.
ON_JAX = KERAS_BACKEND=jax $(BIN)/python -m pytest $$(grep -rl --include='test_*.py' 'mark[.]jax' tests)
FLAGS = --out='$(OUT)' $(if $(DUMP),--dump='$(DUMP)') $(if $(BOOKS),--books='$(BOOKS)') $(if $(VOCAB),--vocab='$(VOCAB)') \
	$(if $(MODEL),--model='$(MODEL)') $(if $(STEPS_128),--steps_128=$(STEPS_128)) $(if $(STEPS_512),--steps_512=$(STEPS_512)) \
	$(if $(BATCH),--batch=$(BATCH)) $(ARGS)
SETTINGS = PYTHON VENV OUT DUMP BOOKS VOCAB MODEL STEPS_128 STEPS_512 BATCH RECIPE ARGS WORKERS
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(SETTINGS) -%,$(GIVEN))
$(if $(UNKNOWN),$(error unknown setting $(UNKNOWN); known: $(SETTINGS)))

.PHONY: help install test test-all lint pretrain-base pretrain-tiny pretrain lineage compile bench docs

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(READY) ## make the environment and install bertline into it

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

pretrain-base: install ## dump and books to a scored BERT-Base, on this machine
	@$(BIN)/bertline run base $(FLAGS)

pretrain-tiny: install ## the same with BERT-Tiny
	@$(BIN)/bertline run tiny $(FLAGS)

pretrain: install ## by a recipe on text of your own: RECIPE=paper|budget MODEL=... DUMP=... VOCAB=... (docs/recipes.md)
	@$(BIN)/bertline run $(or $(RECIPE),budget) $(FLAGS)

lineage: install ## the page of all artifacts in OUT
	@$(BIN)/bertline lineage --store='$(OUT)/store' --out='$(OUT)/lineage.html'

compile: install ## the pipeline's files for kfp.local, Kubeflow and Vertex, into build/pipelines
	@$(BIN)/bertline compile

test: install ## every promise in its smallest form, on 2 cores
	@$(PYTEST) -m "not slow"
	@$(ON_JAX) -m "jax and not slow"

test-all: install ## these, and kills, several hosts, whole pipelines and many more examples; shows the slowest 20
	@$(PYTEST) --hypothesis-profile=many --durations=20
	@$(ON_JAX) -m jax

bench: install ## claims of speed, measured in pairs (benchmarks/README.md); settings go through ARGS
	@$(BIN)/python benchmarks/datagen.py $(ARGS)

docs: install ## the pages of docs/ as a site, into build/docs; the reference is made from the code
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: install ## style, types and floors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
