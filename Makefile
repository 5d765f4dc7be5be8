# Two commands are all: `make run` and `make test`. `make help` lists the rest.
export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X maas/internal/cli.Version=$(VERSION)
FUZZTIME ?= 30s
DATA     ?= ./data
LISTEN   ?= 127.0.0.1:8080
.DEFAULT_GOAL := help

.PHONY: help run build web test quick check race fuzz bench lint gen e2e clients bench-gateway soak-faults parity deps release clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

run: web build ## build, start on embedded parts with data in ./data, print URL, login and a curl that works
	./bin/maas serve --quickstart --data $(DATA) --listen $(LISTEN)

build: ## build the static binary into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/maas ./cmd/maas

web: ## build the console (needs Node 20); without it the binary shows a placeholder page
	@sh scripts/web.sh

test: ## everything that CI runs, cheap first (scripts/deps.sh installs what it needs)
	@sh scripts/test.sh

quick: ## vet, architecture rules and unit tests: under a minute
	go vet ./... && go test ./internal/archtest && go test -short ./...

check: lint quick ## what to run before a commit

race: ## tests with the race detector (needs gcc; tests only)
	CGO_ENABLED=1 go test -race -short ./internal/platform/... ./internal/gateway/... ./internal/inference/... ./internal/llm/run/... ./internal/user/... ./internal/model/...

fuzz: ## every fuzz target for FUZZTIME each
	go run ./tools/fuzz -time $(FUZZTIME)

bench: ## Go benchmarks with allocations
	go test -run '^$$' -bench . -benchmem ./internal/...

bench-gateway: build ## CPU, memory, features and keys of the gateway as ratios to nginx (three minutes; needs nginx-light)
	@sh bench/gateway/run.sh $(ARGS)

lint: ## golangci-lint, pinned, installed into .tools/
	@sh scripts/lint.sh

gen: ## rewrite golden files: API document, reference pages, kernels, TypeScript types
	@sh scripts/gen.sh

e2e: web build ## the real binary in a real browser
	cd web && MAAS_BIN=../bin/maas npm run e2e

soak-faults: build ## ten minutes of breaking upstreams against the built binary: answers, bills, memory (SOAK=20s for less)
	go run ./bench/faults -bin bin/maas -time $(or $(SOAK),10m)

clients: build ## stock OpenAI clients against the real binary
	@sh scripts/clients.sh

parity: ## logits, tokens and CPU time against llama.cpp
	@sh scripts/parity.sh

deps: ## install what `make test` needs on Debian (root)
	@sh scripts/deps.sh

release: web ## static binaries for the supported platforms with checksums
	@sh scripts/release.sh '$(LDFLAGS)'

clean: ## remove build output
	rm -rf bin .tools web/dist/assets coverage* && git checkout -q web/dist/index.html
