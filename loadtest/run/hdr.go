package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// series is one curve of a plot.
type series struct {
	name string
	h    *hdrhistogram.Histogram
}

// hgrm writes the percentile distribution of h in the usual text form, in milliseconds.
func hgrm(out io.Writer, h *hdrhistogram.Histogram) error {
	_, err := h.PercentilesPrint(out, 5, 1000)
	return err
}

// Measures of the plot, in pixels.
const (
	plotWidth, plotHeight = 900, 480
	plotLeft, plotRight   = 80, 190
	plotTop, plotBottom   = 40, 60
	innerWidth            = plotWidth - plotLeft - plotRight
	innerHeight           = plotHeight - plotTop - plotBottom
	ticksPerHalf          = 5
	ninesMax              = 6 // the axis ends at 99.9999 % at most
)

var plotColours = []string{"#1b6ca8", "#c8553d", "#3c8d40", "#8a4fa3", "#b8860b", "#00868b", "#6b4226", "#5f6b7a"}

// plot draws the percentile distributions of all series into one SVG: the share of
// requests from left to right, each nine as wide as the one before, the latency upwards.
func plot(title string, all []series) []byte {
	top, nines := 0.001, 1.0
	for _, s := range all {
		if n := s.h.TotalCount(); n > 0 {
			top = max(top, float64(s.h.Max())/1000)
			nines = max(nines, math.Log10(float64(n)))
		}
	}
	nines = min(math.Ceil(nines), ninesMax)
	step := niceStep(top)
	top = math.Ceil(top/step) * step
	x := func(percentile float64) float64 {
		left := max(1-percentile/100, math.Pow(10, -nines))
		return plotLeft + innerWidth*-math.Log10(left)/nines
	}
	y := func(ms float64) float64 { return plotTop + innerHeight*(1-ms/top) }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="24" font-size="15">%s</text>`+"\n", plotLeft, html.EscapeString(title))
	for i := 0.0; i <= nines; i++ {
		p := 100 * (1 - math.Pow(10, -i))
		label := fmt.Sprintf("%.*f %%", int(max(i-2, 0)), p)
		fmt.Fprintf(&b, `<path d="M%.1f %dv%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x(p), plotTop, innerHeight, x(p), plotHeight-plotBottom+18, label)
	}
	for ms := 0.0; ms <= top+step/2; ms += step {
		fmt.Fprintf(&b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g ms</text>`+"\n",
			plotLeft, y(ms), innerWidth, plotLeft-6, y(ms)+4, math.Round(ms*1e4)/1e4)
	}
	for i, s := range all {
		colour := plotColours[i%len(plotColours)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.8" points="%s"/>`+"\n", colour, curve(s.h, x, y))
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotWidth-plotRight+12, plotTop+14+18*i, colour, html.EscapeString(s.name))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">share of requests, latency from the planned send time</text></svg>`+"\n", plotLeft, plotHeight-16)
	return b.Bytes()
}

// curve is the points of one series.
func curve(h *hdrhistogram.Histogram, x, y func(float64) float64) string {
	var b strings.Builder
	for _, p := range h.CumulativeDistributionWithTicks(ticksPerHalf) {
		fmt.Fprintf(&b, "%.1f,%.1f ", x(p.Quantile), y(float64(p.ValueAt)/1000))
	}
	return strings.TrimSpace(b.String())
}

// niceStep returns the distance of about six lines up to top: 1, 2 or 5 times a power of ten.
func niceStep(top float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(top/6)))
	for _, f := range []float64{1, 2, 5} {
		if f*power*6 >= top {
			return f * power
		}
	}
	return 10 * power
}
