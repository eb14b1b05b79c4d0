// Package trial measures what a document costs and whether it keeps its promises, on one
// machine, with nothing but this program: sluice bench is its command.
//
// # The parts
//
// Run starts three child processes on loopback, each this program in another role:
//
//	relay_linux.go     a byte relay, the floor that CPU time is compared with
//	service_linux.go   the service that answers for all of the document's
//	gateway.go         the gateway, with what is changed of its document
//
// and drives them from a generator on a thread of its own (generate_linux.go), closed for
// capacity and CPU time, and at a fixed rate for latency. profile.go is what the operator
// asks for, derive.go makes requests of routes where he asks for none, round_linux.go is
// the order of measurements, report.go judges them and render.go writes them down.
//
// # What is measured
//
// In every round the relay and the gateway are loaded one after the other, every second
// round in the other order, and the ratio of their CPU times per request is taken within
// the round: both met the same machine. Figures are medians of the rounds with the range
// in which the true median lies. CPU time is that of all threads of the process, from
// the kernel's scheduler statistics in nanoseconds. Relay and gateway have GOMAXPROCS=1
// and a CPU of their own where there are two.
//
// At the rate every request has a planned time of sending. Its latency counts from then,
// so a gateway that stalls is charged for all the requests that were due meanwhile, and
// every planned request is answered or counted as failed.
//
// # The floor
//
// The relay is written in Go on raw epoll, without Go's network poller, so that users need
// no C compiler. Beside a relay in C of the same design, bench/wire/relay.c, it takes 1.17
// times the CPU: 12.4 against 10.5 us a request, medians of nine interleaved pairs of 2 s,
// with 64 connections, 1 KiB and wrk, on a busy machine with two CPUs of kernel 6.18. Ratios
// to this relay are that much smaller than those of bench/wire.
//
// Everything but reading profiles and rendering reports needs Linux.
package trial
