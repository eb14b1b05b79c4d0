package quota

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// plan is who may have how much, as one snapshot says. Immutable, safe for concurrent
// use.
type plan struct {
	name      string // of the instance, else its id
	periods   []limiter.Period
	limits    []int64
	groups    map[string]int64 // by the group's id; nil without
	listed    []*config.Consumer
	consumers *pipeline.Consumers
}

func newPlan(c *Config, env *pipeline.Env) *plan {
	p := &plan{name: env.Plugin.InstanceName, listed: env.Document.Consumers, consumers: env.Consumers}
	if p.name == "" {
		p.name = env.Plugin.ID
	}
	p.periods, p.limits = c.Quota.limits()
	for _, g := range c.ConsumerGroups {
		found := false
		for _, e := range env.Document.ConsumerGroups {
			if e.Name == g.Name || e.ID == g.Name {
				if p.groups == nil {
					p.groups = map[string]int64{}
				}
				p.groups[e.ID] = max(p.groups[e.ID], g.Quota)
				found = true
			}
		}
		if !found {
			env.Log.Warn("quota: a group of consumer_groups does not exist in the document, so nobody has its quota", "plugin", p.name, "consumer_group", g.Name)
		}
	}
	return p
}

// longest is the index of the longest period.
func (p *plan) longest() int { return len(p.periods) - 1 }

// limitOf is the limit of the longest period for c, who may be nil: the highest of his
// groups', else that of everyone.
func (p *plan) limitOf(c *pipeline.Consumer) int64 {
	everyone := p.limits[p.longest()]
	if p.groups == nil || c == nil {
		return everyone
	}
	highest := int64(0)
	for _, g := range c.Groups {
		highest = max(highest, p.groups[g.ID])
	}
	if highest == 0 {
		return everyone
	}
	return highest
}
