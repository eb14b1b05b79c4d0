package redis

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/rueidis"
)

// link is one life of the connection to Redis: from a successful try until it is lost.
type link struct {
	client rueidis.Client
	values valueClient
	use    sync.RWMutex // read by lanes that use it, written to retire it
	lost   chan struct{}
	proven atomic.Bool // a call has been answered

	mu    sync.Mutex
	conns map[*conn]struct{}
	over  bool
}

// valueClient is what values are carried by, nil until there is one. Its connections
// are its own: the library takes any that is idle, and one that Redis has closed over a
// value, such as one larger than its proto-max-bulk-len, must not be found by a script.
type valueClient struct {
	mu     sync.Mutex // held while it is being opened
	client rueidis.Client
}

// conn is a connection that its link can cut.
type conn struct {
	net.Conn
	link *link
}

// Close implements net.Conn.
func (n *conn) Close() error {
	n.link.mu.Lock()
	delete(n.link.conns, n)
	n.link.mu.Unlock()
	return n.Conn.Close()
}

// WriteString implements io.StringWriter, with which the library's buffer lets a value
// through that is longer than itself.
func (n *conn) WriteString(s string) (int, error) {
	return n.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

const (
	// bufferBytes is of each direction of a connection: some hundred answers.
	bufferBytes = 8 << 10
	// ringScale is for the one connection of each node that is not a lane's: it only
	// learns the state of a cluster, or is the first login.
	ringScale = 3
	// pingEvery is how often an idle connection is tried by the library.
	pingEvery = 15 * time.Second
	// topologyEvery is how often the Sentinels, or the nodes of a cluster, are asked
	// who has which role, beside what they tell by themselves.
	topologyEvery = 5 * time.Second
	clientName    = "sluice"
)

// openLink connects, logs in and asks for an answer.
func (c *Client) openLink() (*link, error) {
	l := &link{lost: make(chan struct{}), conns: map[*conn]struct{}{}}
	unwatch := context.AfterFunc(c.ctx, l.cut)
	defer unwatch()
	client, err := rueidis.NewClient(c.options(l))
	if client == nil && err == nil {
		err = rueidis.ErrNoAddr
	}
	if err == nil {
		l.client = client
		err = c.greet(l)
	}
	if err == nil {
		return l, nil
	}
	if client != nil {
		l.cut()
		client.Close()
	}
	l.cut()
	kind, _ := classify(err)
	return nil, describe(kind, err)
}

// clientOf returns what carries the calls of a track. For the first value it connects.
func (c *Client) clientOf(l *link, t *track) (rueidis.Client, error) {
	if !t.values {
		return l.client, nil
	}
	v := &l.values
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.client != nil {
		return v.client, nil
	}
	client, err := rueidis.NewClient(c.options(l))
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, err
	}
	v.client = client
	return client, nil
}

// greet asks for any answer: an error is one too, unless it says that this Redis is
// not ready or not for us.
func (c *Client) greet(l *link) error {
	if len(c.settings.Cluster) > 0 {
		return nil // its slots have just been read
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.settings.ReadTimeout)
	defer cancel()
	err := l.client.Do(ctx, l.client.B().Ping().Build()).Error()
	if err == nil {
		return nil
	}
	if _, gone := classify(err); !gone {
		return nil
	}
	return err
}

// options are those of the library. It pools connections and pipelines nothing by
// itself: lanes do, which lets a caller leave when his time is up.
func (c *Client) options(l *link) rueidis.ClientOption {
	s := &c.settings
	dialer := net.Dialer{Timeout: s.ConnectTimeout, KeepAlive: pingEvery}
	connections := s.ConnectionsMax + s.valueLanes() // one for each lane, also while that of a value greets
	o := rueidis.ClientOption{
		InitAddress: s.addresses(), TLSConfig: c.tls, Dialer: dialer,
		DialCtxFn: func(ctx context.Context, address string, _ *net.Dialer, t *tls.Config) (net.Conn, error) {
			return c.dialLink(ctx, l, address, t)
		},
		Username: s.Username, Password: s.Password, SelectDB: s.Database,
		ClientName: clientName, ClientSetInfo: rueidis.DisableClientSetInfo,
		RingScaleEachConn: ringScale, ReadBufferEachConn: bufferBytes, WriteBufferEachConn: bufferBytes,
		BlockingPoolSize: connections, PipelineMultiplex: -1,
		ConnWriteTimeout: max(s.SendTimeout, s.ReadTimeout),
		DisableRetry:     true, DisableCache: true, DisableAutoPipelining: true,
	}
	switch {
	case len(s.Sentinels) > 0:
		o.Sentinel = rueidis.SentinelOption{
			Dialer: dialer, TLSConfig: c.tls, MasterSet: s.SentinelMaster,
			Username: s.SentinelUsername, Password: s.SentinelPassword, ClientName: clientName,
			TopologyRefreshInterval: topologyEvery,
		}
	case len(s.Cluster) > 0:
		o.SelectDB = 0
		o.ClusterOption = rueidis.ClusterOption{MaxMovedRedirections: s.RedirectsMax, ShardsRefreshInterval: topologyEvery}
	default:
		o.ForceSingleClient = true
	}
	return o
}

// dialLink connects for the library. The connection is one of the link's.
func (c *Client) dialLink(ctx context.Context, l *link, address string, t *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.settings.ConnectTimeout)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	raw, err := c.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	n := &conn{Conn: raw, link: l}
	if !l.add(n) {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	if t == nil {
		return n, nil
	}
	if t.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			_ = n.Close()
			return nil, err
		}
		t = t.Clone()
		t.ServerName = host
	}
	secure := tls.Client(n, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = n.Close()
		return nil, err
	}
	return secure, nil
}

// add makes n one of the connections that cut closes, unless it has.
func (l *link) add(n *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.conns[n] = struct{}{}
	}
	return !l.over
}

// cut closes every connection, which ends whatever waits for one.
func (l *link) cut() {
	l.mu.Lock()
	l.over = true
	conns := l.conns
	l.conns = map[*conn]struct{}{}
	l.mu.Unlock()
	for n := range conns {
		_ = n.Conn.Close()
	}
}

// retire closes the link when the pipelines under way on it are over.
func (l *link) retire() {
	l.use.Lock()
	defer l.use.Unlock()
	l.cut()
	l.client.Close()
	if l.values.client != nil {
		l.values.client.Close()
	}
}
