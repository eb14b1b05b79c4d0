package canary

import (
	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// crowd tells callers apart: by the groups they are in, or by a bucket.
// Immutable but for the turns; safe for concurrent use.
type crowd struct {
	listed  bool            // groups decide
	allow   bool            // a member goes to the canary; else all others do
	members map[string]bool // ids of consumers in one of the groups

	hash   hashed
	header []byte // in canonical form
	steps  uint64
	turns  *turns
}

// hashed is what the bucket of a request is made of.
type hashed uint8

const (
	hashNone hashed = iota
	hashHeader
	hashConsumer
	hashIP
)

func newCrowd(c *Config, t *traffic, env *pipeline.Env) *crowd {
	k := &crowd{steps: uint64(c.Steps), turns: &t.turns}
	if k.listed, k.allow = c.listed(); k.listed {
		k.members = members(c.Groups, env)
		return k
	}
	switch c.Hash {
	case "header":
		k.hash, k.header = hashHeader, fasthttp.AppendNormalizedHeaderKey(nil, c.HashHeader)
	case "consumer":
		k.hash = hashConsumer
	case "ip":
		k.hash = hashIP
	}
	return k
}

// members returns the ids of the consumers in one of the groups.
func members(groups []string, env *pipeline.Env) map[string]bool {
	wanted := map[string]bool{}
	for _, g := range groups {
		wanted[g] = true
	}
	ids := map[string]bool{}
	for _, a := range env.Document.ACLs {
		if wanted[a.Group] {
			ids[a.Consumer] = true
		}
	}
	byID := make(map[string]*config.ConsumerGroup, len(env.Document.ConsumerGroups))
	for _, g := range env.Document.ConsumerGroups {
		byID[g.ID] = g
	}
	for _, m := range env.Document.ConsumerGroupMembers {
		if g := byID[m.ConsumerGroup]; g != nil && wanted[g.Name] {
			ids[m.Consumer] = true
		}
	}
	return ids
}

func (k *crowd) member(c *pipeline.Consumer) bool { return c != nil && k.members[c.ID] }

// below reports whether x is in one of the first limit buckets. A request that has
// nothing to hash takes its turn instead.
func (k *crowd) below(x *pipeline.Exchange, limit uint64) bool {
	if h, ok := k.hashOf(x); ok {
		return h%k.steps < limit
	}
	return k.turns.take(x.ConnID, limit, k.steps)
}

// hashOf returns the hash of what the settings name, else of the consumer, else of
// the address.
func (k *crowd) hashOf(x *pipeline.Exchange) (hash uint64, ok bool) {
	switch k.hash {
	case hashNone:
		return 0, false
	case hashHeader:
		if v := x.Ctx.Request.Header.PeekCanonical(k.header); len(v) > 0 {
			return xxhash.Sum64(v), true
		}
	}
	if x.Consumer != nil && (k.hash != hashIP || !x.ClientIP.IsValid()) {
		return xxhash.Sum64String(x.Consumer.ID), true
	}
	if !x.ClientIP.IsValid() {
		return 0, false
	}
	address := x.ClientIP.As16()
	return xxhash.Sum64(address[:]), true
}
