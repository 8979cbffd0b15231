# `make` prints what there is. Settings: make pretrain-tiny DUMP=... BOOKS=... VOCAB=... MODEL=... STEPS_128=... STEPS_512=... BATCH=... OUT=... ARGS='--prepare.masked_lm_prob=0.2 --task mrpc=DIR'
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
# LIGHT=yes leaves out what needs TensorFlow: 1.2 GB in place of 4.0. A full environment serves as a light one, too.
LIGHT_ONLY := $(and $(filter-out no,$(LIGHT)),$(if $(wildcard $(VENV)/.ready),,yes))
READY := $(VENV)/.ready$(if $(LIGHT_ONLY),-light)
LOCK := requirements$(if $(LIGHT_ONLY),-light).lock
SIZE := $(if $(LIGHT_ONLY),0.25 GB to download and 1.2 GB on disk (without TensorFlow: no training),1.1 GB to download and 4.0 GB on disk (LIGHT=yes: 0.25 and 1.2 GB))
# A file's tests run in one process, so that what a file or a session makes once is made once.
PYTEST = $(BIN)/python -m pytest --numprocesses=$(or $(WORKERS),2) --dist=loadfile --no-loadscope-reorder
# Only the files that hold such tests: to collect all would load TensorFlow beside JAX.
ON_JAX = KERAS_BACKEND=jax $(BIN)/python -m pytest $$(grep -rl --include='test_*.py' 'mark[.]jax' tests)
quoted = '$(subst ','\'',$(1))'
FLAGS = --out=$(call quoted,$(OUT)) $(if $(DUMP),--dump=$(call quoted,$(DUMP))) $(if $(BOOKS),--books=$(call quoted,$(BOOKS))) \
	$(if $(VOCAB),--vocab=$(call quoted,$(VOCAB))) $(if $(MODEL),--model=$(call quoted,$(MODEL))) $(if $(STEPS_128),--steps_128=$(STEPS_128)) $(if $(STEPS_512),--steps_512=$(STEPS_512)) \
	$(if $(BATCH),--batch=$(BATCH)) $(ARGS)
SETTINGS = PYTHON VENV LIGHT OUT DUMP BOOKS VOCAB MODEL STEPS_128 STEPS_512 BATCH RECIPE ARGS WORKERS
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(SETTINGS) -%,$(GIVEN))
$(if $(UNKNOWN),$(error unknown setting $(UNKNOWN); known: $(SETTINGS)))
$(if $(filter-out yes no,$(LIGHT)),$(error LIGHT is $(LIGHT); it is yes or no))

.PHONY: help install infra-check test test-all lint pretrain-base pretrain-tiny pretrain lineage compile bench docs

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(READY) ## make the environment and install bertline into it; LIGHT=yes: for data, compile and inspect alone

# While pip works, how far it is: in place on a terminal, a line every 30 s elsewhere.
$(READY): pyproject.toml $(LOCK)
	@echo "Installing $(LOCK) into $(VENV): $$(wc -l < $(LOCK)) packages, $(SIZE); it takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@if [ -t 1 ]; then every=3 end='\r'; else every=30 end='\n'; fi; log=$(VENV)/install.log; : > $$log; \
	(while sleep $$every && kill -0 $$$$ 2> /dev/null; do \
		if grep -q '^Installing' $$log; then printf "  all downloaded, %s MB unpacked        $$end" "$$(du -sm $(VENV) | cut -f 1)"; \
		else printf "  %s of %s packages downloaded  $$end" "$$(grep -c 'from -r requirements' $$log)" "$$(wc -l < $(LOCK))"; fi; \
	done) & look=$$!; \
	$(BIN)/python -m pip install --disable-pip-version-check -r $(LOCK) > $$log 2>&1; code=$$?; kill $$look; \
	if [ $$code != 0 ]; then tail -n 15 $$log; echo "pip failed; all it said is in $$log"; exit $$code; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Installed: $(BIN)/bertline --help                    "

pretrain-base: install ## dump and books to a scored BERT-Base, on this machine
	@$(BIN)/bertline run base $(FLAGS)

pretrain-tiny: install ## the same with BERT-Tiny
	@$(BIN)/bertline run tiny $(FLAGS)

pretrain: install ## by a recipe on text of your own: RECIPE=paper|budget MODEL=... DUMP=... VOCAB=... (docs/recipes.md)
	@$(BIN)/bertline run $(or $(RECIPE),budget) $(FLAGS)

lineage: install ## the page of all artifacts in OUT
	@$(BIN)/bertline lineage --store=$(call quoted,$(OUT)/store) --out=$(call quoted,$(OUT)/lineage.html)

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

infra-check: ## images, terraform's files and manifests of infra/, without a cloud; its tools go to build/infra (docs/guides/infrastructure.md)
	@$(PYTHON) -m infra.check $(ARGS)

lint: install ## style, types and floors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
