package rules

import (
	"math"
	"testing"
)

func cacheStatus(t *testing.T, s Status, want string) {
	t.Helper()
	got := string(AppendCacheStatus(nil, &s))
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// RFC 9211 2: it is a List; what is a member there is one of a Dictionary, too.
	if d, ok := dictionary([]byte(got)); !ok {
		t.Errorf("%q holds nothing", got)
	} else if _, ok := d.member(); !ok || len(d.rest) > 0 {
		t.Errorf("%q does not parse", got)
	}
}

// RFC 9211 2.1, 2.4: hit and the time left, negative if stale.
func TestCacheStatusHit(t *testing.T) {
	cacheStatus(t, Status{Hit: true}, "sluice; hit")
	cacheStatus(t, Status{Hit: true, HasTTL: true, TTL: 376}, "sluice; hit; ttl=376")
	cacheStatus(t, Status{Hit: true, HasTTL: true, TTL: -412}, "sluice; hit; ttl=-412")
	cacheStatus(t, Status{Hit: true, HasTTL: true, TTL: math.MinInt64}, "sluice; hit; ttl=-999999999999999")
	cacheStatus(t, Status{}, "sluice")
}

// RFC 9211 2.2, 2.3, 2.5, 2.6: why it was forwarded, and what came of it.
func TestCacheStatusForward(t *testing.T) {
	cacheStatus(t, Status{Forward: URIMiss, ForwardStatus: 200, Stored: true}, "sluice; fwd=uri-miss; fwd-status=200; stored")
	cacheStatus(t, Status{Forward: Stale, ForwardStatus: 304, HasTTL: true, TTL: 60}, "sluice; fwd=stale; fwd-status=304; ttl=60")
	cacheStatus(t, Status{Forward: URIMiss, Collapsed: true}, "sluice; fwd=uri-miss; collapsed")
	for f, want := range map[Forward]string{
		Bypass: "bypass", ByMethod: "method", VaryMiss: "vary-miss", Miss: "miss", ByRequest: "request", Partial: "partial",
	} {
		cacheStatus(t, Status{Forward: f}, "sluice; fwd="+want)
	}
	if s := Forward(99).String(); s != "unknown" {
		t.Error(s)
	}
}

// RFC 9211 2.2, 2.5, 2.6: hit and fwd exclude each other, and stored and collapsed
// need fwd.
func TestCacheStatusHitExcludesForward(t *testing.T) {
	cacheStatus(t, Status{Hit: true, Forward: Stale, ForwardStatus: 200, Stored: true, Collapsed: true}, "sluice; hit")
	cacheStatus(t, Status{ForwardStatus: 200, Stored: true, Collapsed: true}, "sluice")
}

// RFC 9211 2.7, 2.8, RFC 9651 3.3.3: key is a String whatever it holds, detail a Token
// or a String.
func TestCacheStatusKeyAndDetail(t *testing.T) {
	cacheStatus(t, Status{Hit: true, Key: []byte("GET /a?b=c")}, `sluice; hit; key="GET /a?b=c"`)
	cacheStatus(t, Status{Hit: true, Key: []byte("a\"b\\c\r\nd\x00\xff")}, `sluice; hit; key="a\"b\\c%0d%0ad%00%ff"`)
	cacheStatus(t, Status{Hit: true, Key: []byte{}}, `sluice; hit; key=""`)
	cacheStatus(t, Status{Forward: Bypass, Detail: "no-store"}, "sluice; fwd=bypass; detail=no-store")
	cacheStatus(t, Status{Forward: Bypass, Detail: "two words"}, `sluice; fwd=bypass; detail="two words"`)
	cacheStatus(t, Status{Forward: Bypass, Detail: "1st\n"}, `sluice; fwd=bypass; detail="1st%0a"`)
}
