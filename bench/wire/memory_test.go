package main

import "testing"

func TestParsePss(t *testing.T) {
	if n, err := parsePss("55f0 ---p 0 00:00 0 [rollup]\nRss:    9000 kB\nPss:    8192 kB\nPss_Dirty:  10 kB\n"); err != nil || n != 8<<20 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "Rss: 1 kB\n", "Pss: x kB\n", "Pss: 12\n", "Pss: 12 MB\n"} {
		if n, err := parsePss(bad); err == nil {
			t.Errorf("%q: accepted as %d", bad, n)
		}
	}
}
