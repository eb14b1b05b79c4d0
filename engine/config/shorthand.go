package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// expandURL replaces a service's `url` with protocol, host, port and path. Fields that
// are written out themselves win, with a warning where they differ.
func (r *reader) expandURL(it *item) {
	at := slices.IndexFunc(it.node.Entries, func(e Entry) bool { return e.Key == "url" })
	if at < 0 {
		return
	}
	e := it.node.Entries[at]
	it.node.Entries = slices.DeleteFunc(it.node.Entries, func(e Entry) bool { return e.Key == "url" }) // a second one is reported
	path := it.path() + ": url"
	if e.Value.IsNull() {
		return
	}
	if e.Value.Kind != Scalar || e.Value.Type != String {
		f := e.Value.fault(path, "expected a string")
		f.Got = e.Value.described(false)
		r.fault(f)
		e.Value = &Node{Type: String, broken: true, file: e.Value.file, Line: e.Value.Line, Col: e.Value.Col}
	}
	parts, err := splitURL(e.Value.Value)
	if err != nil {
		if !e.Value.broken {
			r.fault(e.Value.fault(path, err.Error()))
		}
		parts = [4]string{"http", "invalid", "80", ""} // keeps further faults about host away
	}
	for i, field := range [4]string{"protocol", "host", "port", "path"} {
		v := &Node{Type: String, Value: parts[i], Line: e.Value.Line, Col: e.Value.Col, file: e.Value.file}
		switch {
		case field == "port":
			v.Type = Int
		case parts[i] == "":
			v.Type = Null
		}
		own := it.node.Get(field)
		if field == "port" && own.IsNull() && parts[0] != "https" && slices.Contains(protocolsOverTLS, parts[0]) && withoutPort(e.Value.Value) {
			r.warn(e.Value.fault(path, fmt.Sprintf("no port: read as 80, as in Kong, also for %s; write the port", parts[0])))
		}
		if own.IsNull() {
			it.node.set(field, v)
		} else if !own.Equal(v) && !v.IsNull() {
			r.warn(own.fault(it.path()+": "+field, fmt.Sprintf("differs from url, which says %s", parts[i])))
		}
	}
}

func withoutPort(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Port() == ""
}

// splitURL is protocol, host, port and path of a service URL. Kong: a missing port is 443
// for https and 80 otherwise.
func splitURL(text string) ([4]string, error) {
	u, err := url.Parse(text)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return [4]string{}, fmt.Errorf("invalid url: %w", err)
	}
	if u.Scheme == "" || u.Hostname() == "" {
		return [4]string{}, fmt.Errorf("invalid url: %s; expected protocol://host:port/path", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return [4]string{}, errors.New("invalid url: only protocol, host, port and path have a meaning here")
	}
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n > 65535 {
		return [4]string{}, fmt.Errorf("invalid url: port %s should be between 0 and 65535", port)
	}
	return [4]string{strings.ToLower(u.Scheme), u.Hostname(), port, u.EscapedPath()}, nil
}
