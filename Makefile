# `make` lists the targets. Everything slow to make is kept in $(POLICYOPS_CACHE), outside the tree.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
POLICYOPS_CACHE ?= $(HOME)/.cache/policy-operator
export POLICYOPS_CACHE
BIN := $(POLICYOPS_CACHE)/venv-dev/bin
export PYTHONPATH := api:cli:examples:models:operator:records:server_image:trainer_image
CLUSTER_PY := python3 hack/cluster/cluster.py

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The whole story on a real cluster: train, gate, canary, promote, roll back.
	@python3 hack/demo/demo.py

.PHONY: test
test: tools test-unit test-trainer test-integration test-e2e ## Everything that this machine can run.

.PHONY: setup
setup: ## Make the development environment.
	@hack/setup.sh >/dev/null

.PHONY: tools
tools: ## Build the programs that the tests need into the cache.
	@$(CLUSTER_PY) binaries --tests

.PHONY: trainer-env
trainer-env: ## Make the CPU trainer environment (torch, TRL, DeepSpeed).
	@hack/cpu/setup.sh

.PHONY: test-unit
test-unit: setup ## All that needs neither torch nor a cluster: functions, servers as processes, databases.
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not integration and not e2e and not trainer"

.PHONY: test-trainer
test-trainer: setup trainer-env ## Recipes, checkpoints and the server, with torch on CPU.
	@# The examples take longest: they come first, or one process would do them alone at the end.
	$(POLICYOPS_CACHE)/venv-trainer/bin/python -m pytest -q -n 2 --dist loadfile -m trainer \
		--no-loadscope-reorder tests/cli tests/trainer tests/server tests/models

.PHONY: test-integration
test-integration: setup tools ## The operator against a real API server; crashes after every write.
	$(BIN)/pytest -q -m integration tests/integration

.PHONY: test-e2e
test-e2e: setup ## Both stories of the demo, with assertions, on a real cluster.
	$(BIN)/pytest -q -m e2e tests/e2e

.PHONY: lint
lint: setup ## ruff, mypy --strict, import-linter, generated files, docs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy api cli examples models operator records server_image trainer_image
	cd hack/cluster && MYPYPATH=. $(BIN)/mypy --strict ./*.py
	cd hack/demo && MYPYPATH=. $(BIN)/mypy --strict ./*.py
	$(BIN)/lint-imports
	$(BIN)/python -m policy_api.crdgen --check
	$(BIN)/mkdocs build --strict --quiet --site-dir $(POLICYOPS_CACHE)/site

.PHONY: crds
crds: setup ## Generate crds/ from api/policy_api.
	$(BIN)/python -m policy_api.crdgen

.PHONY: docs
docs: setup ## Build the documentation into the cache's site/.
	$(BIN)/mkdocs build --strict --site-dir $(POLICYOPS_CACHE)/site

.PHONY: bench
bench: setup tools ## Measure latency, throughput and memory side by side with a floor.
	$(BIN)/python benchmarks/run.py

.PHONY: bench-serving
bench-serving: setup tools ## Measure the policy server beside uvicorn with the arithmetic alone (needs wrk).
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/log.py

.PHONY: bench-training
bench-training: setup trainer-env ## Measure recipes beside the libraries' plain scripts.
	$(POLICYOPS_CACHE)/venv-trainer/bin/python benchmarks/recipes.py
	$(POLICYOPS_CACHE)/venv-trainer/bin/python -W ignore benchmarks/offline.py
	$(POLICYOPS_CACHE)/venv-trainer/bin/python benchmarks/prepare.py

.PHONY: bench-seeds
bench-seeds: setup trainer-env ## Train every example with twenty seeds: hours (SEEDS, THREADS).
	$(POLICYOPS_CACHE)/venv-trainer/bin/python benchmarks/seeds.py \
		--seeds $(or $(SEEDS),1-20) --threads $(or $(THREADS),1)

.PHONY: clean
clean: ## Remove the local cluster and everything that the demo installed; keep the cache.
	@$(CLUSTER_PY) down

.PHONY: clean-cache
clean-cache: clean ## Remove the cache as well: binaries, images, environments, artifacts.
	rm -rf "$(POLICYOPS_CACHE)"
