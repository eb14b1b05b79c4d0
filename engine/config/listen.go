package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Listener is one address to accept connections on, in Kong's spelling
// `host:port [ssl] [http2] [proxy_protocol] [reuseport] [deferred] [bind] [ipv6only=…]
// [so_keepalive=…] [backlog=N]`, or `unix:/path`.
type Listener struct {
	Host          string // address or name; "" for a Unix socket
	Port          int    // 0 for a Unix socket
	Unix          string // path, "" for TCP
	SSL           bool
	HTTP2         bool
	ProxyProtocol bool
	ReusePort     bool
	Deferred      bool
	Bind          bool   // accepted: every listener here has a socket of its own
	IPv6Only      string // "on", "off" or ""
	SoKeepalive   string // nginx's spelling, or ""
	Backlog       int    // 0 for the system's
}

// ParseListener reads one listener.
func ParseListener(text string) (Listener, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Listener{}, errors.New("empty listener")
	}
	var l Listener
	if err := l.address(words[0]); err != nil {
		return Listener{}, err
	}
	for _, w := range words[1:] {
		if err := l.flag(w); err != nil {
			return Listener{}, err
		}
	}
	return l, nil
}

func (l *Listener) address(text string) error {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return errors.New("unix: needs a path")
		}
		l.Unix = path
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not host:port", text)
	}
	l.Port, err = strconv.Atoi(port)
	if err != nil || l.Port < 0 || l.Port > 65535 {
		return fmt.Errorf("port %q should be between 0 and 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !isHostName(host) {
		return fmt.Errorf("%q is neither an address nor a host name", host)
	}
	l.Host = host
	return nil
}

var listenerFlags = []string{
	"ssl", "http2", "proxy_protocol", "reuseport", "deferred", "bind", "backlog=", "ipv6only=", "so_keepalive=",
}

func (l *Listener) flag(word string) error {
	name, value, valued := strings.Cut(word, "=")
	switch {
	case word == "ssl":
		l.SSL = true
	case word == "http2":
		l.HTTP2 = true
	case word == "proxy_protocol":
		l.ProxyProtocol = true
	case word == "reuseport":
		l.ReusePort = true
	case word == "deferred":
		l.Deferred = true
	case word == "bind":
		l.Bind = true
	case name == "ipv6only" && (value == "on" || value == "off"):
		l.IPv6Only = value
	case name == "so_keepalive" && value != "":
		l.SoKeepalive = value
	case name == "backlog" && valued:
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("backlog %q must be greater than 0", value)
		}
		l.Backlog = n
	default:
		if near := Nearest(word, listenerFlags); near != "" {
			return fmt.Errorf("unknown listener flag %q; did you mean %q?", word, near)
		}
		return fmt.Errorf("unknown listener flag %q", word)
	}
	return nil
}

// String is the listener in Kong's spelling.
func (l Listener) String() string {
	words := make([]string, 0, 8)
	if l.Unix != "" {
		words = append(words, "unix:"+l.Unix)
	} else {
		words = append(words, net.JoinHostPort(l.Host, strconv.Itoa(l.Port)))
	}
	flags := []struct {
		on   bool
		word string
	}{
		{l.SSL, "ssl"}, {l.HTTP2, "http2"}, {l.ProxyProtocol, "proxy_protocol"}, {l.ReusePort, "reuseport"},
		{l.Deferred, "deferred"}, {l.Bind, "bind"}, {l.IPv6Only != "", "ipv6only=" + l.IPv6Only},
		{l.SoKeepalive != "", "so_keepalive=" + l.SoKeepalive}, {l.Backlog > 0, "backlog=" + strconv.Itoa(l.Backlog)},
	}
	for _, f := range flags {
		if f.on {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, " ")
}

// Listeners is a list of listeners. Nil means not written; empty means `off`.
type Listeners []Listener

// UnmarshalNode reads a list of listeners, one comma-separated text, or `off`.
func (ls *Listeners) UnmarshalNode(n *Node) error {
	var texts []string
	switch {
	case n.Kind == List:
		for _, item := range n.Items {
			if item.Kind != Scalar || item.Type != String {
				return errors.New("expected a string")
			}
			texts = append(texts, item.Value)
		}
	case n.Kind == Scalar && n.Type == String:
		texts = strings.Split(n.Value, ",")
	case n.Kind == Scalar && n.Type == Bool && n.Value == "false":
		texts = []string{"off"}
	default:
		return errors.New("expected a string or an array of strings")
	}
	out := Listeners{}
	for _, text := range texts {
		if strings.TrimSpace(text) == "off" {
			if len(texts) > 1 {
				return errors.New("off excludes other listeners")
			}
			break
		}
		l, err := ParseListener(text)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(out, func(o Listener) bool {
			return o.Host == l.Host && o.Port == l.Port && o.Unix == l.Unix && l.Port != 0
		}) {
			return fmt.Errorf("%s is listed twice", text)
		}
		out = append(out, l)
	}
	*ls = out
	return nil
}

// MarshalNode is the list as Kong writes it.
func (ls Listeners) MarshalNode() *Node {
	if ls == nil {
		return nil
	}
	if len(ls) == 0 {
		return stringNode("off")
	}
	n := &Node{Kind: List}
	for _, l := range ls {
		n.Items = append(n.Items, stringNode(l.String()))
	}
	return n
}

// Size is a number of bytes, written like nginx writes it: 8192, 8k, 8m or 1g.
type Size int64

// UnmarshalNode reads a size.
func (s *Size) UnmarshalNode(n *Node) error {
	if n.Kind != Scalar || n.Type != Int && n.Type != String {
		return errors.New("expected a size such as 8m")
	}
	text, shift := n.Value, 0
	if text != "" {
		switch text[len(text)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		}
	}
	if shift > 0 {
		text = text[:len(text)-1]
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 0 || v > 1<<(62-shift) {
		return fmt.Errorf("invalid value: %s; expected a size such as 8m", n.Value)
	}
	*s = Size(v << shift)
	return nil
}

// MarshalNode is the size in the largest unit that divides it.
func (s Size) MarshalNode() *Node {
	for _, u := range []struct {
		shift int
		unit  string
	}{{30, "g"}, {20, "m"}, {10, "k"}} {
		if s > 0 && s&(1<<u.shift-1) == 0 {
			return stringNode(strconv.FormatInt(int64(s>>u.shift), 10) + u.unit)
		}
	}
	return &Node{Type: Int, Value: strconv.FormatInt(int64(s), 10)}
}

func stringNode(text string) *Node { return &Node{Type: String, Value: text} }
