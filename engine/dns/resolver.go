package dns

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	timeoutDefault   = 2 * time.Second
	cacheSizeDefault = 10000
	minTTLDefault    = time.Second
)

// Settings say how names are resolved. The zero value asks the servers of
// /etc/resolv.conf in Kong's order and serves nothing stale.
type Settings struct {
	// Servers are IP addresses with an optional port. Empty: those of ResolvConf,
	// whose search domains and options hold in either case.
	Servers    []string
	ResolvConf string // path; empty: /etc/resolv.conf
	HostsFile  string // path; empty: /etc/hosts

	// Order are the types to ask in turn: LAST, SRV, A, AAAA, CNAME, where LAST is
	// the type that last worked for the name. Empty: LAST, SRV, A, CNAME. Types
	// that are not in it are not used, also for the targets of SRV; of the hosts
	// file, the first family that is in Order.
	Order []string
	// SRVOnlyForServiceNames asks SRV for names such as _http._tcp.example.com,
	// nothing else for those, and SRV for no others.
	SRVOnlyForServiceNames bool

	Timeout time.Duration // of one try; 0: that of ResolvConf, or 2 s
	MinTTL  time.Duration // nothing is asked again sooner; 0: 1 s

	ValidTTL    time.Duration // overrides the TTL of answers when > 0
	StaleTTL    time.Duration // how long after its TTL an answer is used while DNS fails
	NotFoundTTL time.Duration // how long it is believed that a name has no address
	ErrorTTL    time.Duration // how long a failure is kept

	CacheSize int  // names kept; watched names are kept beyond it; 0: 10,000
	NoSync    bool // lookups of one name do not share a question

	Log *slog.Logger // nil: none
}

// Record is one address of a name.
type Record struct {
	Addr   netip.Addr // IPv4 is never mapped into IPv6
	Port   uint16     // 0: the caller's
	Weight int        // 0: the caller's; of SRV, where 0 counts as 1
	Name   string     // that the SRV record leads to; empty: the caller's
}

// Answer is what is known of a name. It may be copied; its Records are shared
// and must not be changed.
type Answer struct {
	Records []Record  // at least one; sorted by address and port, each pair once
	Stale   bool      // its TTL is over
	Expires time.Time // zero: not before the hosts file changes
}

var (
	// ErrNotFound says that a name does not exist or has no address.
	ErrNotFound = errors.New("no such name or no address")
	// ErrClosed says that the resolver was closed.
	ErrClosed = errors.New("resolver is closed")
	// ErrNoReply says that no server answered in time.
	ErrNoReply = errors.New("no server answers")
)

// Resolver resolves names. Safe for concurrent use.
type Resolver struct {
	settings Settings
	order    []uint16
	policy   policy
	log      *slog.Logger
	exchange exchange

	conf  atomic.Pointer[conf]
	hosts atomic.Pointer[hosts]
	files [2]*file
	turn  atomic.Uint32 // rotates the servers

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{}
	alone  chan struct{} // slots of lookups that share nothing, see NoSync

	counts counts

	mu      sync.Mutex // guards all below and every entry
	closed  bool
	entries map[string]*entry
	recent  list.List // entries that may be dropped, the last used first
	lanes   [laneCount]lane
	watches int

	generation uint64 // of the files
}

// Open reads resolv.conf and the hosts file and starts the resolver. A missing
// file is no error: without resolv.conf 127.0.0.1 is asked.
func Open(s Settings) (*Resolver, error) { return open(s, nil) }

// open lets tests stand in for the network.
func open(s Settings, x exchange) (*Resolver, error) {
	order, err := parseOrder(s.Order)
	servers, serr := parseServers(s.Servers)
	if err = errors.Join(err, serr); err != nil {
		return nil, err
	}
	s.ResolvConf = cmp.Or(s.ResolvConf, "/etc/resolv.conf")
	s.HostsFile = cmp.Or(s.HostsFile, "/etc/hosts")
	s.CacheSize = cmp.Or(max(s.CacheSize, 0), cacheSizeDefault)
	s.MinTTL = cmp.Or(max(s.MinTTL, 0), minTTLDefault)
	r := &Resolver{
		settings: s,
		order:    order,
		policy:   policy{minTTL: s.MinTTL, stale: s.StaleTTL, notFound: s.NotFoundTTL, failed: s.ErrorTTL, spread: spread},
		log:      s.Log,
		exchange: x,
		wake:     make(chan struct{}, 1),
		alone:    make(chan struct{}, urgentMax),
		entries:  map[string]*entry{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.exchange == nil {
		r.exchange = (&wire{&r.counts}).exchange
	}
	for i, n := range [laneCount]int{urgentMax, regularMax, failingMax} {
		r.lanes[i].max = n
	}
	r.recent.Init()
	r.files = [2]*file{
		{path: s.ResolvConf, use: func(b []byte) { r.useResolvConf(b, servers) }},
		{path: s.HostsFile, use: r.useHosts},
	}
	for _, f := range r.files {
		f.open(r.log)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.schedule)
	r.wg.Go(r.watchFiles)
	return r, nil
}

// Close stops all work and waits for it. Lookups under way fail with ErrClosed,
// watchers are told nothing more. It must not be called by a watcher.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
	return nil
}

// Lookup returns what name resolves to. What is known it returns at once: an
// expired answer too, Stale, while DNS is asked again in the background. Else it
// waits for DNS until ctx is done; lookups of the same name share one question.
// The error wraps ErrNotFound, ErrNoReply, ErrClosed or that of ctx.
func (r *Resolver) Lookup(ctx context.Context, name string) (Answer, error) {
	r.counts.lookups.Add(1)
	if a, ok := literal(name); ok {
		return Answer{Records: []Record{{Addr: a}}}, nil
	}
	key, err := canonical(name)
	if err != nil {
		return Answer{}, err
	}
	now := time.Now()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return Answer{}, fmt.Errorf("dns: %s: %w", key, ErrClosed)
	}
	e := r.entry(key, now)
	if a, err, known := e.view(now, &r.policy); known {
		r.touch(e, now)
		r.mu.Unlock()
		r.counts.hits.Add(1)
		if a.Stale {
			r.counts.stale.Add(1)
		}
		return a, err
	}
	if r.settings.NoSync {
		last, sticky := e.last, e.usable(now, &r.policy)
		r.place(e, now)
		r.mu.Unlock()
		return r.lookupAlone(ctx, key, last, sticky)
	}
	f := r.join(e, now)
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.ctx.Done():
		err = ErrClosed
	}
	r.mu.Lock()
	r.leave(e, f)
	r.mu.Unlock()
	return Answer{}, fmt.Errorf("dns: %s: %w", key, err)
}

// lookupAlone asks in the caller's goroutine and shares only the outcome.
func (r *Resolver) lookupAlone(ctx context.Context, key string, last uint16, sticky bool) (Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	select {
	case r.alone <- struct{}{}:
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("dns: %s: %w", key, ctx.Err())
	}
	out := r.resolve(ctx, key, last, sticky)
	<-r.alone
	if r.ctx.Err() != nil {
		return Answer{}, fmt.Errorf("dns: %s: %w", key, ErrClosed)
	}
	if ctx.Err() != nil && out.err != nil {
		return Answer{}, fmt.Errorf("dns: %s: %w", key, ctx.Err())
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(key, now)
	e.settle(now, out, &r.policy)
	r.place(e, now)
	a, err, _ := e.view(now, &r.policy)
	return a, err
}

// literal returns the address that name is the text of, with or without the
// brackets of a URL.
func literal(name string) (netip.Addr, bool) {
	if n := len(name); n > 2 && name[0] == '[' && name[n-1] == ']' {
		name = name[1 : n-1]
	}
	a, err := netip.ParseAddr(name)
	return a.Unmap(), err == nil
}

// canonical returns name in lower case if it can be a name of DNS. The dot at
// its end is kept, it says that no search domain is to be tried.
func canonical(name string) (string, error) {
	labels := strings.TrimSuffix(name, ".")
	if labels == "" || len(labels) > nameBytesMax {
		return "", fmt.Errorf("dns: %.300q: not a host name", name)
	}
	for label := range strings.SplitSeq(labels, ".") {
		if label == "" || len(label) > labelBytesMax || strings.IndexFunc(label, notInNames) >= 0 {
			return "", fmt.Errorf("dns: %.300q: not a host name", name)
		}
	}
	return strings.ToLower(name), nil
}

const (
	nameBytesMax  = 253
	labelBytesMax = 63
)

func notInNames(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		return false
	}
	return true
}
