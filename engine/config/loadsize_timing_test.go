package config

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// million writes a document of 100,000 routes and n consumers with a key each.
func million(routes, consumers int) []byte {
	var b bytes.Buffer
	b.WriteString("_format_version: \"3.0\"\nservices:\n  - name: api\n    url: http://api.internal:8001\nroutes:\n")
	for i := range routes {
		fmt.Fprintf(&b, "  - name: route-%06d\n    service: api\n    paths:\n      - /v1/resource-%06d\n", i, i)
	}
	b.WriteString("consumers:\n")
	for i := range consumers {
		fmt.Fprintf(&b, "  - username: consumer-%07d\n    keyauth_credentials:\n      - key: key-%07d-abcdef0123456789\n", i, i)
	}
	return b.Bytes()
}

// peakMB is the largest resident set of the process so far, in MiB; 0 where the system
// does not tell.
func peakMB() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return 0
			}
			return kb / 1024
		}
	}
	return 0
}

func benchmarkLoad(b *testing.B, routes, consumers int) {
	data := million(routes, consumers)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		d, err := Read([]Source{{Name: "big.yaml", Data: data}}, Options{Env: noEnv})
		if err != nil {
			b.Fatal(err)
		}
		if len(d.Routes) != routes || len(d.Consumers) != consumers || len(d.KeyAuthCredentials) != consumers {
			b.Fatalf("read %d routes, %d consumers, %d keys", len(d.Routes), len(d.Consumers), len(d.KeyAuthCredentials))
		}
	}
	b.ReportMetric(peakMB(), "peak-MB")
}

func BenchmarkLoad100kRoutes(b *testing.B)       { benchmarkLoad(b, 100_000, 0) }
func BenchmarkLoadMillionConsumers(b *testing.B) { benchmarkLoad(b, 100_000, 1_000_000) }

func noEnv(string) (string, bool) { return "", false }
