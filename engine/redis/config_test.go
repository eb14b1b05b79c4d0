package redis

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// using is a plugin with a redis block.
type using struct {
	Redis *Config `json:"redis" flat:"redis_"`
}

var spec = pipeline.Define("using", using{}, func(using, *pipeline.Env) (pipeline.Hooks, error) { return pipeline.Hooks{}, nil })

func read(t *testing.T, gateway, block string) (*config.Document, *Config, error) {
	t.Helper()
	text := "_format_version: \"3.0\"\n" + gateway + "\nplugins:\n- name: using\n  config: {" + block + "}\n"
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}}, config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{spec}}})
	if err != nil {
		return nil, nil, err
	}
	var c using
	config.Decode(d.Plugins[0].Config, &c)
	return d, c.Redis, nil
}

func TestSettings(t *testing.T) {
	f := func(gateway, block, host string, want Settings) {
		t.Helper()
		d, c, err := read(t, gateway, block)
		if err != nil {
			t.Errorf("{%s}: %v", block, err)
			return
		}
		got, err := c.Settings(&d.Gateway, host)
		if err != nil {
			t.Errorf("{%s}: %v", block, err)
			return
		}
		want.Trusted = []string{"system"}
		two := 2 * time.Second
		if want.ReadTimeout == 0 {
			want.ConnectTimeout, want.SendTimeout, want.ReadTimeout = two, two, two
		}
		want.ConnectionsMax, want.RedirectsMax = 256, 5
		if !reflect.DeepEqual(got, want) {
			t.Errorf("{%s}:\n got %+v\nwant %+v", block, got, want)
		}
	}
	named := "gateway: {redis: {default: {host: d}, other: {host: o, port: 7, password: p, ssl: true}}}"
	f("", "redis: {host: h, port: 1, username: u, password: p, database: 2, ssl: true, ssl_verify: true, server_name: s}", "",
		Settings{Host: "h", Port: 1, Username: "u", Password: "p", Database: 2, TLS: true, Verify: true, ServerName: "s"})
	f("", "redis_host: h, redis_timeout: 100", "", Settings{Host: "h", Port: 6379,
		ConnectTimeout: 100 * time.Millisecond, SendTimeout: 100 * time.Millisecond, ReadTimeout: 100 * time.Millisecond})
	f("", "redis: {sentinel_master: m, sentinel_nodes: [{host: a}, {host: b, port: 2}], sentinel_password: q}", "",
		Settings{Port: 6379, SentinelMaster: "m", SentinelPassword: "q", Sentinels: []string{"a:6379", "b:2"}})
	f("", "redis: {sentinel_master: m, sentinel_addresses: [\"a:1\", \"b:2\"]}", "", Settings{Port: 6379, SentinelMaster: "m", Sentinels: []string{"a:1", "b:2"}})
	f("", "redis: {cluster_nodes: [{ip: a, port: 1}]}", "", Settings{Port: 6379, Cluster: []string{"a:1"}})
	f("", "redis: {cluster_addresses: [\"[::1]:1\"]}", "", Settings{Port: 6379, Cluster: []string{"[::1]:1"}})
	f("", "", "127.0.0.1", Settings{Host: "127.0.0.1", Port: 6379})
	f("", "redis: {port: 5}", "127.0.0.1", Settings{Host: "127.0.0.1", Port: 5})
	f(named, "", "127.0.0.1", Settings{Host: "d", Port: 6379})
	f(named, "redis: {name: other}", "", Settings{Host: "o", Port: 7, Password: "p", TLS: true})
	f(named, "redis: {host: h}", "", Settings{Host: "h", Port: 6379})
	f("gateway: {redis: {only: {host: x}}}", "", "", Settings{Host: "x", Port: 6379})
}

func TestSettingsRefused(t *testing.T) {
	f := func(gateway, block, want string) {
		t.Helper()
		d, c, err := read(t, gateway, block)
		if err == nil {
			_, err = c.Settings(&d.Gateway, "")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", block, err, want)
		}
	}
	f("", "", "redis.host: required field missing")
	f("gateway: {redis: {a: {host: x}, b: {host: y}}}", "", "redis.host: required field missing")
	f("gateway: {redis: {a: {host: x}}}", "redis: {name: b}", `redis.name: gateway.redis has no connection "b", only ["a"]`)
	f("", "redis: {name: b, host: x}", "name stands for a connection")
	f("", "redis: {host: x, timeout: 5, read_timeout: 6}", "timeout is the older name of read_timeout")
	f("", "redis: {sentinel_nodes: [{host: a}]}", "sentinel_master: required field missing")
	f("", "redis: {sentinel_master: a}", "sentinel_nodes: required field missing")
	f("", "redis: {sentinel_master: a, sentinel_addresses: [a]}", `sentinel_addresses[0]: expected host:port, got "a"`)
	f("", "redis: {cluster_addresses: [\"a:1\"], cluster_nodes: [{host: b}]}", "cluster_addresses is the older name of cluster_nodes")
	f("", "redis: {cluster_addresses: [\"a:1\"], sentinel_master: m, sentinel_addresses: [\"b:1\"]}", "exclude each other")
	f("", "redis: {hots: a}", `did you mean "host"?`)
	f("", "redis: {host: a, port: 70000}", "port: value should be between")
}

func TestKeyHidesPasswords(t *testing.T) {
	s := Settings{Host: "h", Password: "hush", SentinelPassword: "hush2"}
	key := s.Key()
	if strings.Contains(key, "hush") {
		t.Errorf("key %s", key)
	}
	for _, change := range []func(*Settings){
		func(s *Settings) { s.Password = "x" }, func(s *Settings) { s.Database = 1 }, func(s *Settings) { s.TLS = true },
		func(s *Settings) { s.Cluster = []string{"a:1"} }, func(s *Settings) { s.ReadTimeout = 1 },
	} {
		other := s
		change(&other)
		if other.Key() == key {
			t.Errorf("the same key for %+v", other)
		}
	}
}

// TestUseSharesAndKeeps is one client for equal settings, over a reload, closed with
// the last snapshot.
func TestUseSharesAndKeeps(t *testing.T) {
	s := redistest.Start(t)
	keeper := pipeline.NewKeeper()
	use := func(database int) (*Client, *pipeline.Holder) {
		t.Helper()
		h := keeper.Hold()
		env := pipeline.NewEnv(*pipelinetest.NewEnv(t, "_format_version: \"3.0\"\n", spec), h)
		c := new(Config)
		c.SetDefaults()
		c.Host, c.Port, c.Database = "127.0.0.1", s.Port, database
		client, err := Use(env, c, "")
		if err != nil {
			t.Fatal(err)
		}
		return client, h
	}
	first, h1 := use(0)
	again, h2 := use(0)
	other, h3 := use(1)
	if first != again || first == other {
		t.Error("clients are not shared by settings")
	}
	if err := h1.Release(); err != nil {
		t.Error(err)
	}
	mustAdd(t, first, "k", 1, 1)
	if err := h2.Release(); err != nil {
		t.Error(err)
	}
	if _, err := add(first, "k", 1); err == nil {
		t.Error("the client is open after the last snapshot")
	}
	if err := h3.Release(); err != nil {
		t.Error(err)
	}
	noneLeft(t)
}
