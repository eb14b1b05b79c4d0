package trial

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Duration is a time as a profile writes it: 500ms, 2s.
type Duration time.Duration

// UnmarshalNode implements config.Unmarshaler.
func (d *Duration) UnmarshalNode(n *config.Node) error {
	v, err := time.ParseDuration(n.Value)
	if n.Kind != config.Scalar || err != nil || v < 0 {
		return fmt.Errorf("expected a duration with its unit such as 500ms or 2s, got %s", written(n))
	}
	*d = Duration(v)
	return nil
}

// Rate is how many requests are sent a second: a number, or a percentage of the capacity
// that was measured. Exactly one is not zero, unless nothing was asked for.
type Rate struct {
	PerSecond float64
	Percent   float64
}

// UnmarshalNode implements config.Unmarshaler.
func (r *Rate) UnmarshalNode(n *config.Node) error {
	const expected = `expected requests per second such as 2000, or a share of the measured capacity such as "70%"`
	if n.Kind != config.Scalar {
		return fmt.Errorf("%s, got %s", expected, written(n))
	}
	text, percent := strings.CutSuffix(n.Value, "%")
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return fmt.Errorf("%s, got %s", expected, written(n))
	case percent && !(v >= 1 && v <= 200):
		return fmt.Errorf("a share of the capacity should be between 1%% and 200%%, got %s", written(n))
	case percent:
		*r = Rate{Percent: v}
	case !(v >= 1 && v <= ratePerSecondMax):
		return fmt.Errorf("requests per second should be between 1 and %d, got %s", ratePerSecondMax, written(n))
	default:
		*r = Rate{PerSecond: v}
	}
	return nil
}

// String is r as a profile writes it.
func (r Rate) String() string {
	if r.Percent > 0 {
		return strconv.FormatFloat(r.Percent, 'f', -1, 64) + "% of capacity"
	}
	return strconv.FormatFloat(r.PerSecond, 'f', -1, 64) + "/s"
}

// Share is a part of a whole, 0 to 1; a profile writes 0.001 or 0.1%.
type Share float64

// UnmarshalNode implements config.Unmarshaler.
func (s *Share) UnmarshalNode(n *config.Node) error {
	text, percent := strings.CutSuffix(n.Value, "%")
	v, err := strconv.ParseFloat(text, 64)
	if percent {
		v /= 100
	}
	if n.Kind != config.Scalar || err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("expected a share between 0 and 1 such as 0.001, or 0.1%%, got %s", written(n))
	}
	*s = Share(v)
	return nil
}

// written is what stands at n, for messages.
func written(n *config.Node) string {
	switch n.Kind {
	case config.List:
		return "a list"
	case config.Map:
		return "a map"
	default:
		return strconv.Quote(n.Value)
	}
}
