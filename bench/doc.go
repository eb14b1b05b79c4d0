// Package bench holds the benchmarks that are published and the gates that keep
// their results. Nothing imports it.
//
//	*_test.go     micro-benchmarks of exported APIs, one file per group of rows in BENCHMARKS.md
//	allocs_test.go  allocations per operation, exact, without the race detector
//	baseline.txt  raw go test -bench output, the figures a change is compared with
//	gate/         compares runs with baselines: a new allocation fails, a new system call, and a ratio to the
//	              floor that grew beyond chance; microseconds never do
//	baseline.jsonl  the rows of wire that a change is compared with
//	compare/      two commits, folders or test binaries, interleaved, with a test of significance;
//	              or implementations beside each other in one run
//	workload/     keys, distributions and the CPU meter that benchmarks share
//	rivals/       a module of its own: routers, rings, limiters and stores beside others
//	wire/         CPU time per request of the whole gateway: a table for proxying, beside nginx, HAProxy,
//	              Caddy and a byte relay, one for cache hits, beside nginx, Varnish and a bare responder,
//	              and tables of how the cost grows; also memory and system calls
//	results/      raw output that BENCHMARKS.md quotes, a run's text, JSON lines and charts by one name
//
// # Allocations
//
// allocs/op is exact and the same on every machine, so it is what a gate may
// refuse a change for. ns/op depends on the machine and on what else runs there:
// compare it only within one job, interleaved, with a significance test: bench/compare.
//
//	go test -run '^$' -bench . -benchmem ./bench > result.txt
//	go run ./bench/gate -baseline bench/baseline.txt result.txt
//
// The baseline's rows of large rings and tables that are built (RingBuild, RouterBuild) are, of
// several runs, those with the most allocations: maps grow as their random seed will, and a
// row that runs once counts what the runtime does meanwhile.
//
// Every benchmark also runs once as a test, TestBenchmarksOnce, with -short: sizes above
// 10,000 are left out there.
//
// # Time
//
//	go run ./bench/compare -base HEAD~1 -run . -bench Router
//	go run ./bench/compare -run . -package ./bench/rivals -by ours -bench RouterRivals/static
//
// The first says whether the work tree differs from a commit, the second whether others do
// from ours. "~" stands where the difference may be chance.
//
// # Reading a result of wire
//
//	make bench-wire                       or: go run ./bench/wire -syscalls -idle 2000 -out bench/results/NAME.txt
//
//	subject        what was measured; its exact settings are listed under the table
//	CPU us/request CPU time that the subject's own processes were charged, divided by
//	               the requests wrk completed; median of the rounds and their range
//	x relay,       that figure over the floor's of the same round, median. The relay
//	x responder    only copies bytes, the responder only finds the blank line and sends
//	               stored ones, so 1.000 is what the sockets cost and the rest is
//	               what the program adds. Compare ratios, not microseconds: a ratio
//	               survives a change of machine far better
//	requests/s     throughput with the connections kept busy (closed loop)
//	p99 ms         latency under that full load; it says little about latency at a
//	               given rate, which is what loadtest measures
//	own CPU %      how busy the subject kept its CPU. Near 100: the subject set the
//	               pace. Well below: generator and service did, the subject woke up
//	               more often for fewer events at a time, and its CPU per request is
//	               if anything too high
//	other CPU %    what else ran on that CPU. More than a few per cent: another
//	               process disturbed the round; measure again
//	MiB            memory of the subject's processes at the end of the load (Pss: pages
//	               that several share are divided among them)
//
// Ranges that overlap do not show a difference. A warning line means what it says:
// if generator and service reach less than 1.5 times the fastest subject,
// requests/s and p99 are theirs, not the subject's. Interrupt work that the kernel
// charges to no process is missing from every subject's figure alike. In the second
// table no service takes part: capacity there is the rate at which wrk's own CPU time
// would fill its CPU, and a figure is refused if the service was asked even once.
//
// The system calls per request (-syscalls) are counted in separate runs, because
// tracing slows a program many times. They are nearly exact and explain most of
// the difference between two subjects.
//
// The tables of how a cost grows (plugins, bodies, connections, routes, consumers) have
// half the rounds of half the time: they show a trend. In new-conns the relay opens a
// connection to the service as well, where the others keep theirs.
//
// What wire does not measure: cache misses, revalidation and eviction, TLS, HTTP/2, slow
// services, several cores. Those belong to loadtest.
package bench
