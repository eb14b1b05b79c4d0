package proxyretry

import (
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Config are the settings of proxy-retry.
type Config struct {
	Retries        int      `json:"retries" min:"0" max:"100" doc:"Attempts that may follow the first, in place of the service's retries."`
	RetryOn        []int    `json:"retry_on" min:"300" max:"999" doc:"Statuses of the service that count as failed attempts, beside faults of transport."`
	RetryOnTimeout bool     `json:"retry_on_timeout" doc:"Try again what timed out."`
	Methods        []string `json:"methods" doc:"Methods that are sent again, in upper case. Others only with an Idempotency-Key header, or if nothing was sent."`
	Backoff        Backoff  `json:"backoff"`
	Jitter         float64  `json:"jitter" min:"0" max:"1" doc:"Greatest random part of a wait that is added to it."`
	PerTryTimeout  int      `json:"per_try_timeout" min:"0" max:"2147483646" doc:"Milliseconds one attempt may take up to its response header, 0 for no bound."` // milliseconds
	MaxBodySize    int      `json:"max_body_size" min:"0" max:"16777216" doc:"Bytes of the largest request body that is kept to be sent again."`                 // bytes

	BudgetPercent      float64 `json:"budget_percent" min:"0" max:"1000" doc:"Retries that a service gets, as a percentage of its requests; 0 for no bound."`
	BudgetMinPerSecond float64 `json:"budget_min_per_second" min:"0" max:"1000000" doc:"Retries per second that a service gets whatever its traffic."`

	CountHeader bool `json:"count_header" doc:"Tell the client in X-Retry-Count how many attempts were made again."`
}

// Backoff says how long to wait between attempts.
type Backoff struct {
	Type string  `json:"type" enum:"exponential,linear,constant" doc:"How waits grow: base^n, base*n, or not."`
	Base float64 `json:"base" min:"0" max:"3600" doc:"Seconds before the second attempt, from which further waits are worked out."` // seconds
	Max  float64 `json:"max" min:"0" max:"3600" doc:"Seconds that no wait exceeds, and the longest Retry-After that is obeyed."`    // seconds
}

var defaults = Config{
	Retries:        3,
	RetryOn:        []int{500, 502, 503, 504},
	RetryOnTimeout: true,
	Methods:        []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"},
	Backoff:        Backoff{Type: "exponential", Base: 2, Max: 30},
	Jitter:         0.5,
	MaxBodySize:    1 << 20,

	BudgetPercent:      20,
	BudgetMinPerSecond: 10,

	CountHeader: true,
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	for i, m := range c.Methods {
		if m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			r.Faultf(fmt.Sprintf("methods[%d]", i), "expected a method in upper case such as GET, got '%s'", m)
		}
	}
	if r.Has("budget_min_per_second") && c.BudgetPercent == 0 {
		r.Warnf("budget_min_per_second", "has no effect: budget_percent is 0, so retries are not bounded")
	}
}

// Check reports what the fields' own rules cannot say.
func (b *Backoff) Check(r *config.Reporter) {
	if b.Type == "exponential" && b.Base < 1 {
		r.Faultf("base", "must be at least 1 with type exponential, got %g: attempt n waits base^(n-1) seconds, and powers of less than 1 shrink; "+
			"for shorter waits use type linear or constant", b.Base)
	}
}
