package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// Sizes of a chart, in pixels.
const (
	chartWidth  = 720
	chartLeft   = 130 // of the bars: names stand before them
	chartRight  = 80  // figures stand behind them
	chartTop    = 46
	chartRow    = 26
	chartBottom = 34
)

// chart draws a table as SVG: a bar for the median ratio to the floor of every row, and a
// line from the least to the greatest round. It stands on light and dark pages.
func (r *report) chart(g *group, names []string) []byte {
	floor := r.of(g.floor(), (*sample).cpuMicros)
	ratios := make([][]float64, len(names))
	most := 1.0
	for i, name := range names {
		ratios[i] = stats.Ratios(r.of(name, (*sample).cpuMicros), floor)
		most = max(most, slices.Max(ratios[i]))
	}
	step := axisStep(most)
	most = math.Ceil(most/step) * step
	x := func(ratio float64) float64 { return chartLeft + ratio/most*(chartWidth-chartLeft-chartRight) }
	height := chartTop + chartRow*len(names) + chartBottom
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="%s">
<rect width="100%%" height="100%%" fill="#ffffff" rx="6"/>
<text x="12" y="20" fill="#1a1a1a" font-weight="600">%s</text>
<text x="12" y="37" fill="#666666" font-size="11">CPU time per request, times %s; bar: median of the rounds, line: least to greatest; %s</text>
`, chartWidth, height, chartWidth, height, html.EscapeString(g.name), html.EscapeString(g.about), html.EscapeString(g.subjects[0].name),
		html.EscapeString(r.fact("commit")))
	bottom := chartTop + chartRow*len(names)
	for tick := 0.0; tick <= most+step/2; tick += step {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" fill="#666666" font-size="11" text-anchor="middle">%g</text>
`, x(tick), chartTop, x(tick), bottom, x(tick), bottom+16, math.Round(tick*100)/100)
	}
	for i, name := range names {
		y := chartTop + chartRow*i
		row := mustRow(name)
		colour := "#b8bfc6"
		if row.status {
			colour = "#2f7fd1"
		}
		median := stats.Median(ratios[i])
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#1a1a1a" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`,
			chartLeft-8, y+17, html.EscapeString(row.subject.name), chartLeft, y+4, x(median)-chartLeft, chartRow-8, colour)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#1a1a1a"/><text x="%.1f" y="%d" fill="#1a1a1a">%.2f</text>
`, x(slices.Min(ratios[i])), y+13, x(slices.Max(ratios[i])), y+13, x(slices.Max(ratios[i]))+6, y+17, median)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// axisStep is the distance of the lines of an axis: a round number, about six of them.
func axisStep(most float64) float64 {
	for _, step := range []float64{0.25, 0.5, 1, 2, 5, 10, 20, 50} {
		if most/step <= 7 {
			return step
		}
	}
	return 100
}
