package main

import (
	"strings"
	"testing"
	"time"
)

// Output of wrk 4.1.0 for `wrk -t1 -c64 -d4s --latency`.
const wrkGood = `Running 4s test @ http://127.0.0.1:8000
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   831.21us  346.12us   9.14ms   90.12%
    Req/Sec    67.51k     3.20k   72.10k    75.00%
  Latency Distribution
     50%  777.00us
     75%    0.91ms
     90%    1.12ms
     99%    2.49ms
  268511 requests in 4.02s, 312.50MB read
Requests/sec:  66793.78
Transfer/sec:     77.74MB
`

const wrkErrorLines = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 7\n"

func TestParseWrk(t *testing.T) {
	f := func(text string, want load) {
		t.Helper()
		got, err := parseWrk(text)
		if err != nil {
			t.Error(err)
			return
		}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	}
	want := load{
		requests: 268511, duration: 4020 * time.Millisecond, bytesRead: 312.5 * 1024 * 1024,
		perSecond: 66793.78, p50: 777 * time.Microsecond, p99: 2490 * time.Microsecond,
	}
	f(wrkGood, want)
	want.socketErrors, want.badStatuses = 4321, 7
	f(strings.Replace(wrkGood, "Requests/sec", wrkErrorLines+"Requests/sec", 1), want)
	f(strings.NewReplacer("4.02s", "1.00m", "312.50MB", "1.20GB", "2.49ms", "1.05s").Replace(wrkGood), load{
		requests: 268511, duration: time.Minute, bytesRead: 1.2 * 1024 * 1024 * 1024,
		perSecond: 66793.78, p50: 777 * time.Microsecond, p99: 1050 * time.Millisecond,
	})
	f(strings.Replace(wrkGood, "312.50MB", "0.00B", 1), load{
		requests: 268511, duration: 4020 * time.Millisecond,
		perSecond: 66793.78, p50: 777 * time.Microsecond, p99: 2490 * time.Microsecond,
	})
}

func TestParseWrkRefuses(t *testing.T) {
	for _, cut := range []string{"Requests/sec:  66793.78\n", "     99%    2.49ms\n", "     50%  777.00us\n", "  268511 requests in 4.02s, 312.50MB read\n"} {
		if _, err := parseWrk(strings.Replace(wrkGood, cut, "", 1)); err == nil {
			t.Errorf("accepted without %q", cut)
		}
	}
	if _, err := parseWrk("unable to connect to 127.0.0.1:1 Connection refused\n"); err == nil || !strings.Contains(err.Error(), "Connection refused") {
		t.Errorf("want wrk's own words in the error, got %v", err)
	}
	if _, err := parseWrk(strings.Replace(wrkGood, "268511", "99999999999999999999", 1)); err == nil {
		t.Error("accepted a number that does not fit")
	}
	if _, err := parseWrk(strings.Replace(wrkGood, "2.49ms", "2.49xs", 1)); err == nil {
		t.Error("accepted an unknown unit")
	}
}

func TestLoadCheck(t *testing.T) {
	good := load{requests: 10, bytesRead: 10 * (usualBodyBytes + 150)}
	if err := good.check(usualBodyBytes); err != nil {
		t.Errorf("good load refused: %v", err)
	}
	f := func(want string, change func(*load)) {
		t.Helper()
		bad := good
		change(&bad)
		if err := bad.check(usualBodyBytes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
	f("socket errors", func(w *load) { w.socketErrors = 1 })
	f("not 2xx", func(w *load) { w.badStatuses = 1 })
	f("no request", func(w *load) { w.requests = 0 })
	f("bytes per answer", func(w *load) { w.bytesRead = 10 * 300 })
}

// FuzzParseWrk holds that no output makes the parser panic or accept a negative figure.
func FuzzParseWrk(f *testing.F) {
	f.Add(wrkGood)
	f.Add(strings.Replace(wrkGood, "Requests/sec", wrkErrorLines+"Requests/sec", 1))
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWrk(text)
		if err == nil && (w.requests < 0 || w.p99 < 0 || w.duration < 0 || w.bytesRead < 0 || w.perSecond < 0) {
			t.Errorf("negative figure: %+v", w)
		}
	})
}
