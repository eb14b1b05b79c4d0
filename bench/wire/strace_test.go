package main

import (
	"slices"
	"testing"
)

const straceSummary = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 55.01    0.012345           5      2001           sendto
 44.00    0.010000           4      2010        12 recvfrom
  0.99    0.000100          20         5           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.022445           5      4016        12 total
`

func TestParseStrace(t *testing.T) {
	got, err := parseStrace(straceSummary)
	want := []callCount{{"recvfrom", 2010}, {"sendto", 2001}, {"epoll_wait", 5}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "strace: attach: Operation not permitted\n", straceSummary[:300], "1 2 3 x read\n"} {
		if _, err := parseStrace(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
