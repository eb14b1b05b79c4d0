# make prints the targets. A change is ready when `make lint test race allocs` passes.

GO            ?= go
GOLANGCI_LINT ?= v2.15.0
FUZZTIME      ?= 20s
BENCHTIME     ?= 0.3s
PREFIX        ?= /usr/local
WIRE_BASELINE ?= bench/baseline.jsonl
export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= local

.DEFAULT_GOAL := help

PGO_ROWS := plain,full,full-redis,cached,plugins/5,plugins/20,body-10k/plain,body-100k/plain,conns-1/full,conns-512/full,new-conns/full,routes/100000,consumers/100000

.PHONY: help build install run test race fuzz lint allocs bench bench-rivals bench-wire pgo gate load tools clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sluice, one static binary
	$(GO) build -trimpath -ldflags '-s -w' -o bin/sluice ./cmd/sluice

install: build ## copy it to PREFIX/bin (/usr/local/bin)
	install -D -m 755 bin/sluice $(DESTDIR)$(PREFIX)/bin/sluice

run: build ## serve examples/quickstart.yaml against a built-in echo service
	./bin/sluice demo -c examples/quickstart.yaml

test: tools ## run every test, shuffled; installs what the tests need
	$(GO) test -shuffle=on ./...
	cd bench/rivals && $(GO) test -shuffle=on ./...

race: ## run every test under the race detector
	CGO_ENABLED=1 $(GO) test -race -shuffle=on ./...

allocs: ## the allocation gate: every plugin and the whole pipeline at zero
	$(GO) test -count=1 -run 'Alloc' ./...

fuzz: ## fuzz what parses bytes from outside, FUZZTIME each
	./.ci/fuzz $(FUZZTIME)

lint: ## golangci-lint, built from source at a pinned version when missing
	./.ci/lint $(GOLANGCI_LINT)

bench: ## micro-benchmarks, compared with bench/baseline.txt
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./bench | tee /tmp/sluice-bench.txt
	$(GO) run ./bench/gate -baseline bench/baseline.txt /tmp/sluice-bench.txt

bench-rivals: tools ## routers, rings, limiters and stores beside others, a module of its own
	cd bench/rivals && $(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) .

bench-wire: tools ## CPU per request beside nginx, HAProxy, Caddy, Varnish and bare floors, in bench/results/wire.* (under 10 minutes)
	$(GO) run ./bench/wire -syscalls -idle 2000 -out bench/results/wire.txt

pgo: tools ## refresh cmd/sluice/default.pgo from every row of sluice under load (about 4 minutes)
	$(GO) run ./bench/wire -rounds 1 -seconds 4 -profile cmd/sluice/default.pgo -subjects $(PGO_ROWS)

gate: bench ## as bench; with WIRE=FILE (JSON lines of bench/wire) also system calls and ratios to the floor, against WIRE_BASELINE
	$(if $(WIRE),$(GO) run ./bench/gate -baseline $(WIRE_BASELINE) $(WIRE))

load: tools ## every load scenario in profile smoke, reports in loadtest/results; then the driver's tests with k6 there
	@failed=; for s in loadtest/*/scenario.yaml; do ./loadtest/run.sh $$(basename $$(dirname $$s)) smoke || failed="$$failed $$(basename $$(dirname $$s))"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi
	$(GO) -C loadtest/run test -run 'Scripts|Scenario' ./...

tools: ## install nginx, HAProxy, Varnish, wrk and what else the tests use, where missing
	./.ci/tools

clean: ## remove what was built
	rm -rf bin
