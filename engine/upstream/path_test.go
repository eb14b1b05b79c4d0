package upstream

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Kong's table of path handling: service path, whether the match is stripped,
// v0 and v1. The rows with a request of /f... match the prefix /f.
func TestAppendPath(t *testing.T) {
	f := func(service string, strip bool, match, path, v0, v1 string) {
		t.Helper()
		x := &pipeline.Exchange{Path: []byte(path), MatchLen: len(match)}
		for _, r := range []struct {
			rule pathRule
			want string
		}{{pathRule{service, strip, false}, v0}, {pathRule{service, strip, true}, v1}} {
			if got := string(r.rule.appendPath(nil, x)); got != r.want {
				t.Errorf("service %q strip %t v1 %t: %s gives %q, want %q", service, strip, r.rule.v1, path, got, r.want)
			}
		}
	}
	f("", true, "/f", "/f", "/", "/")
	f("", true, "/f", "/f/", "/", "/")
	f("", true, "/f", "/freq", "/req", "/req")
	f("", true, "/f", "/f/req", "/req", "/req")
	f("", true, "/", "/", "/", "/")
	f("", true, "/", "/req", "/req", "/req")
	f("/s", true, "/f", "/f", "/s", "/s")
	f("/s", true, "/f", "/f/", "/s/", "/s/")
	f("/s", true, "/f", "/freq", "/s/req", "/sreq")
	f("/s", true, "/f", "/f/req", "/s/req", "/s/req")
	f("/s", true, "/", "/", "/s", "/s")
	f("/s", true, "/f/", "/f/", "/s/", "/s")
	f("/s", true, "/f/", "/f/req", "/s/req", "/sreq")
	f("/s/", true, "/f", "/f", "/s", "/s/")
	f("/s/", true, "/f", "/f/", "/s/", "/s/")
	f("/s/", true, "/f", "/freq", "/s/req", "/s/req")
	f("/s/", true, "/f", "/f/req", "/s/req", "/s/req")
	f("/s/", true, "/f/", "/f/", "/s/", "/s/")
	f("", false, "/f", "/f/req", "/f/req", "/f/req")
	f("/s", false, "/f", "/f/req", "/s/f/req", "/sf/req")
	f("/s", false, "/", "/", "/s", "/s")
	f("/s/", false, "/f", "/f/req", "/s/f/req", "/s/f/req")
	// A match inside a segment must not climb out of the service's path.
	f("/s", true, "/a", "/a../b", "/s/b", "/sb")
	f("/s", true, "/a", "/a./b", "/s/b", "/sb")
	f("/s", true, "/a", "/a..", "/s", "/s")
}

// A Request hook may replace the path.
func TestAppendPathOverride(t *testing.T) {
	x := &pipeline.Exchange{Path: []byte("/f/a"), MatchLen: 2, UpstreamPath: []byte("/other")}
	r := pathRule{service: "/s", strip: true}
	if got := string(r.appendPath(nil, x)); got != "/other" {
		t.Errorf("got %q", got)
	}
}
