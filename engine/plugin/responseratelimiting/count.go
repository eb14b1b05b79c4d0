package responseratelimiting

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// table counts one resource in this process: what outlives a snapshot.
type table struct {
	windows   *limiter.Windows
	names     maphash.Seed
	addresses maphash.Seed
}

func keepTable(name string, periods []limiter.Period, c *Config, env *pipeline.Env) (*table, error) {
	key := fmt.Sprintf("response-ratelimiting/%s/%s/%v/%s/%d", env.Plugin.ID, name, periods, c.LimitBy, c.KeysMax)
	return pipeline.Keep(env, key, func() (*table, error) {
		return &table{limiter.NewWindows(periods, c.KeysMax), maphash.MakeSeed(), maphash.MakeSeed()}, nil
	})
}

// key is what the request is counted under. Addresses have a hash of their own, so that
// no name equals one.
func (t *table) key(x *pipeline.Exchange, identify identifier) uint64 {
	if identify != nil {
		if _, id := identify(x); id != "" {
			return maphash.String(t.names, id)
		}
	}
	address := x.ClientIP.As16()
	return maphash.Bytes(t.addresses, address[:])
}

// identifier names the caller and what kind of name that is; an empty id stands for the
// client's address.
type identifier func(x *pipeline.Exchange) (kind, id string)

func identifierOf(limitBy string) identifier {
	switch limitBy {
	case "consumer":
		return consumerID
	case "credential":
		return credentialID
	}
	return nil
}

func consumerID(x *pipeline.Exchange) (kind, id string) {
	if x.Consumer != nil {
		return "/consumer:", x.Consumer.ID
	}
	return credentialID(x)
}

func credentialID(x *pipeline.Exchange) (kind, id string) {
	if x.Credential != nil {
		return "/credential:", x.Credential.ID
	}
	return "", ""
}

// costMax is the most that one answer uses.
const costMax = 1 << 40

// readValue reads "videos=2, images=1" into costs. What is not a name of limits with a
// whole number is passed over, as in Kong.
func (l *limit) readValue(value []byte, costs []int64) {
	for more := true; more; {
		var part []byte
		part, value, more = bytes.Cut(value, []byte{','})
		name, count, found := bytes.Cut(part, []byte{'='})
		if !found {
			continue
		}
		name, count = bytes.TrimSpace(name), bytes.TrimSpace(count)
		for i := range l.resources {
			if l.resources[i].name == string(name) {
				if n, ok := whole(count); ok {
					costs[i] = n
				}
				break
			}
		}
	}
}

// whole reads a decimal number, up to costMax.
func whole(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), costMax)
	}
	return n, len(text) > 0
}
