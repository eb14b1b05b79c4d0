package redis

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config is the redis block of a plugin, as in Kong's Enterprise plugins, with the
// names it had before 3.8. A plugin has it as
//
//	Redis *redis.Config `json:"redis" flat:"redis_"`
//
// and leaves it nil by default. Only Use and Settings read it.
type Config struct {
	config.Redis

	Name              string   `json:"name" len:"1" doc:"A connection of gateway.redis, in place of the other fields. Not in Kong."`
	Timeout           *int     `json:"timeout" min:"0" max:"2147483646" doc:"Older name for the three timeouts at once, in milliseconds."` // milliseconds
	SentinelAddresses []string `json:"sentinel_addresses" doc:"Older form of sentinel_nodes: host:port."`
	ClusterAddresses  []string `json:"cluster_addresses" doc:"Older form of cluster_nodes: host:port."`
	KeepaliveBacklog  *int     `json:"keepalive_backlog" min:"0" max:"2147483646" doc:"Accepted; the queue of a connection has a fixed bound."`
}

// SetDefaults implements config.Defaulter. The host has no default here: which one
// it is depends on the plugin and on gateway.redis.
func (c *Config) SetDefaults() {
	*c = Config{}
	c.Redis.SetDefaults()
}

// Check implements config.Checker.
func (c *Config) Check(r *config.Reporter) {
	if c.Name != "" && c.addressed() {
		r.Faultf("name", "name stands for a connection of gateway.redis and excludes 'host', 'sentinel_nodes' and 'cluster_nodes'")
	}
	if c.Timeout != nil {
		for _, name := range []string{"connect_timeout", "send_timeout", "read_timeout"} {
			if r.Has(name) {
				r.Faultf("timeout", "timeout is the older name of %s: set only one of them", name)
			}
		}
	}
	checkAddresses(r, "sentinel_addresses", c.SentinelAddresses, len(c.SentinelNodes))
	checkAddresses(r, "cluster_addresses", c.ClusterAddresses, len(c.ClusterNodes))
	sentinels, cluster := len(c.SentinelNodes)+len(c.SentinelAddresses), len(c.ClusterNodes)+len(c.ClusterAddresses)
	switch {
	case sentinels > 0 && cluster > 0:
		r.Faultf("cluster_nodes", "sentinel_nodes and cluster_nodes exclude each other")
	case sentinels > 0 && c.SentinelMaster == "":
		r.Faultf("sentinel_master", "required field missing")
	case sentinels == 0 && c.SentinelMaster != "":
		r.Faultf("sentinel_nodes", "required field missing")
	}
	if sentinels > 0 && c.SentinelRole != "" && c.SentinelRole != "master" {
		r.Warnf("sentinel_role", "only the master can be written to: %s is read as master", c.SentinelRole)
	}
	if cluster > 0 && c.Database != 0 {
		r.Warnf("database", "a cluster has only database 0")
	}
}

func checkAddresses(r *config.Reporter, field string, addresses []string, nodes int) {
	if len(addresses) > 0 && nodes > 0 {
		r.Faultf(field, "%s is the older name of %s_nodes: set only one of them", field, strings.TrimSuffix(field, "_addresses"))
	}
	for i, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if n, e := strconv.Atoi(port); err != nil || e != nil || host == "" || n < 1 || n > 65535 {
			r.Faultf(fmt.Sprintf("%s[%d]", field, i), "expected host:port, got %q", a)
		}
	}
}

// addressed reports whether the block says itself where its Redis is.
func (c *Config) addressed() bool {
	return c.Host != "" || len(c.SentinelNodes)+len(c.ClusterNodes)+len(c.SentinelAddresses)+len(c.ClusterAddresses) > 0
}

// Use returns the client for a plugin's redis block, opening it where no instance
// with the same settings has: see Settings for what the block and hostDefault mean.
// The client belongs to the gateway and is closed with the last snapshot that uses it.
func Use(env *pipeline.Env, c *Config, hostDefault string) (*Client, error) {
	s, err := c.Settings(&env.Document.Gateway, hostDefault)
	if err != nil {
		return nil, err
	}
	return pipeline.Keep(env, "redis/"+s.Key(), func() (*Client, error) {
		return Open(s, Options{Log: env.Log, Dial: env.Dial})
	})
}

// Settings completes the block, which may be nil, from gateway.redis: with a name,
// the connection of that name; with an address, the block itself; else the connection
// called default or the only one there is; else the block with hostDefault, which is
// empty for plugins that require a host.
func (c *Config) Settings(g *config.Gateway, hostDefault string) (Settings, error) {
	if c == nil {
		c = new(Config)
		c.SetDefaults()
	}
	named, ok := c.named(g)
	switch {
	case c.Name != "" && !ok:
		return Settings{}, fmt.Errorf("redis.name: gateway.redis has no connection %q, only %q", c.Name, slices.Sorted(maps.Keys(g.Redis)))
	case c.Name != "" || ok && !c.addressed():
		return newSettings(&named, g), nil
	}
	own := c.Redis
	if !c.addressed() {
		own.Host = hostDefault
		if hostDefault == "" {
			return Settings{}, errors.New("redis.host: required field missing, and gateway.redis has no connection default")
		}
	}
	if c.Timeout != nil {
		own.ConnectTimeout, own.SendTimeout, own.ReadTimeout = *c.Timeout, *c.Timeout, *c.Timeout
	}
	s := newSettings(&own, g)
	s.Sentinels = append(s.Sentinels, c.SentinelAddresses...)
	s.Cluster = append(s.Cluster, c.ClusterAddresses...)
	return s, nil
}

func (c *Config) named(g *config.Gateway) (config.Redis, bool) {
	name := c.Name
	if name == "" {
		name = "default"
		if len(g.Redis) == 1 {
			for name = range g.Redis {
				break
			}
		}
	}
	r, ok := g.Redis[name]
	return r, ok
}

func newSettings(r *config.Redis, g *config.Gateway) Settings {
	s := Settings{
		Host: r.Host, Port: r.Port, Username: r.Username, Password: r.Password, Database: r.Database,
		ConnectTimeout: milliseconds(r.ConnectTimeout), SendTimeout: milliseconds(r.SendTimeout), ReadTimeout: milliseconds(r.ReadTimeout),
		ConnectionsMax: r.KeepalivePoolSize,
		TLS:            r.SSL, Verify: r.SSLVerify, ServerName: r.ServerName, Trusted: g.LuaSSLTrustedCertificate,
		SentinelMaster: r.SentinelMaster, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword,
		RedirectsMax: r.ClusterMaxRedirections,
	}
	for _, n := range r.SentinelNodes {
		s.Sentinels = append(s.Sentinels, net.JoinHostPort(n.Host, strconv.Itoa(n.Port)))
	}
	for _, n := range r.ClusterNodes {
		s.Cluster = append(s.Cluster, net.JoinHostPort(n.Host, strconv.Itoa(n.Port)))
	}
	return s
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
