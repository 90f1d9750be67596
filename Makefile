# `make` lists the targets. `make demo` shows what this is; `make test` is everything that must hold for a change.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := node bin/glovebox.js
SUPERVISOR := images/supervisor/build/supervisor-$(shell uname -m)

.PHONY: help demo test soak check fix bench docs build engine supervisor images doctor fuzz clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: build engine ## the main job on real input: a scripted agent in a sealed box; its diff, verdict, commit, and the way back
	@$(BIN) image build --missing base
	@bash scripts/demo.sh

test: build images ## everything that must hold for a change, engine tests included
	@bash scripts/test.sh

soak: build images ## the long ones: 1,000 sandboxes, 50 runs at once over HTTP, deaths at every failpoint, real projects
	@npx vitest run --project soak

check: node_modules/.stamp ## types, lint, format, dead code
	@npx tsc -p tsconfig.json
	@npx oxlint --type-aware src test bench scripts examples
	@npx oxfmt --check src test bench scripts examples *.ts
	@npx knip

fix: node_modules/.stamp ## format and mend what the linter can
	@npx oxfmt src test bench scripts examples *.ts
	@npx oxlint --type-aware --fix src test bench scripts examples

bench: build images ## side by side with peers in one run; ROWS=echo-in-process,cold-open runs some
	@node --expose-gc --import tsx bench/bench.ts $(if $(ROWS),--rows $(ROWS))

fuzz: ## the supervisor under sanitizers and a fuzzer
	@bash images/supervisor/test.sh

build: node_modules/.stamp supervisor ## compile the runner and the supervisor
	@bash scripts/build.sh

supervisor: ## compile PID 1 (static, about 90 KB)
	@bash images/supervisor/build.sh

engine: ## find a container engine; as root on Debian or Ubuntu, install and start one
	@bash scripts/engine.sh

images: build engine ## build the sandbox images that are missing
	@$(BIN) image build --missing base node python

doctor: build ## what this machine's engine is and can enforce
	@$(BIN) doctor

docs: node_modules/.stamp ## write the pages that are made from the code
	@npx tsx scripts/docs.ts

clean: ## remove what was built here, and every sandbox that was left behind
	@-[ -f dist/main.js ] && $(BIN) gc
	rm -rf dist .demo node_modules/.stamp images/supervisor/build

node_modules/.stamp: package-lock.json package.json
	@bash scripts/npm-install.sh
	@touch $@
