package trial

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Formats are the ways Render knows.
var Formats = []string{"text", "markdown", "json", "junit"}

// Render returns r in one of Formats: json is one line, so that results can be kept as
// lines of one file. It panics on any other format.
func (r *Report) Render(format string) []byte {
	switch format {
	case "text":
		return r.text()
	case "markdown":
		return r.markdown()
	case "json":
		b, err := json.Marshal(r)
		if err != nil {
			panic("BUG: a report that is no JSON: " + err.Error())
		}
		return append(b, '\n')
	case "junit":
		return r.junit()
	}
	panic("BUG: no format " + format)
}

// ReadReport reads the last of the lines that Render has written as json.
func ReadReport(data []byte) (*Report, error) {
	data = bytes.TrimSpace(data)
	data = data[bytes.LastIndexByte(data, '\n')+1:]
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("expected a report as --format json writes it: %w", err)
	}
	if !slices.Contains([]string{Fine, Missed, Failed}, r.Verdict) {
		return nil, fmt.Errorf("expected a report as --format json writes it, got verdict %q", r.Verdict)
	}
	return r, nil
}

func (j *Judged) verdict() string {
	switch {
	case j.Met && j.Close:
		return "fine, closely"
	case j.Met:
		return "fine"
	case j.Close:
		return "MISSED, closely"
	}
	return "MISSED"
}

func ranged(low, high float64, unit string) string {
	if low == high {
		return ""
	}
	return amount(low, unit) + " to " + amount(high, unit)
}

// sentence is the verdict in words.
func (r *Report) sentence() string {
	missed := r.Missed()
	switch {
	case r.Verdict == Failed:
		return "failed: " + r.Error
	case len(missed) == 0:
		return "fine: " + plural(len(r.Judged), "threshold") + " met"
	}
	names := make([]string, len(missed))
	for i, j := range missed {
		names[i] = fmt.Sprintf("%s is %s, limit %s", j.Name, amount(j.Measured, j.Unit), amount(j.Limit, j.Unit))
	}
	return "missed: " + strings.Join(names, "; ")
}

func (r *Report) rateLine() string {
	if r.Rate == 0 {
		return r.Asked
	}
	if strings.HasSuffix(r.Asked, "capacity") {
		return fmt.Sprintf("%.0f requests/s (%s)", r.Rate, r.Asked)
	}
	return fmt.Sprintf("%.0f requests/s", r.Rate)
}

func (r *Report) settings() string {
	return fmt.Sprintf("%s of %s after %s, %s, latency at %s", plural(r.Rounds, "round"), r.Duration, r.WarmUp, plural(r.Connections, "connection"), r.rateLine())
}

func (r *Report) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %s\n\n", r.Profile, r.settings())
	if r.Verdict != Failed {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "threshold\tlimit\tmeasured\trange\tverdict") // into memory, as all below
		for i := range r.Judged {
			j := &r.Judged[i]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", j.Name, amount(j.Limit, j.Unit), amount(j.Measured, j.Unit), ranged(j.Low, j.High, j.Unit), j.verdict())
		}
		_ = w.Flush()
		_, _ = fmt.Fprintln(w, "\nfigure\tmedian\trange")
		for _, f := range r.Figures {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, amount(f.Median, f.Unit), ranged(f.Low, f.High, f.Unit))
		}
		_ = w.Flush()
		b.WriteByte('\n')
	}
	for _, s := range r.remarks() {
		fmt.Fprintf(&b, "%s: %s\n", s.Name, s.Value)
	}
	fmt.Fprintf(&b, "\n%s\n", r.sentence())
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return []byte(strings.Join(lines, "\n"))
}

// remarks are what a reader should know beside the figures.
func (r *Report) remarks() []Fact {
	var all []Fact
	for _, w := range r.Warnings {
		all = append(all, Fact{"warning", w})
	}
	if r.Failed > 0 {
		all = append(all, Fact{"failures", fmt.Sprintf("%d of %d requests: %s", r.Failed, r.Requests, r.FailedHow)})
	}
	for _, n := range r.Notes {
		all = append(all, Fact{"note", n})
	}
	const leftOutMax = 20
	for i, l := range r.LeftOut {
		if i == leftOutMax {
			all = append(all, Fact{"left out", fmt.Sprintf("and %d more; --format json has them all", len(r.LeftOut)-i)})
			break
		}
		all = append(all, Fact{"left out", "route " + l.Route + ": " + l.Reason})
	}
	all = append(all, Fact{"sluice", r.Build.String()})
	return append(all, r.Facts...)
}

// String is b in one line.
func (b Build) String() string {
	commit := b.Commit[:min(len(b.Commit), 12)]
	if commit == "" {
		commit = "unknown"
	}
	if b.Modified {
		commit += " with changes"
	}
	return fmt.Sprintf("%s, commit %s, %s", b.Version, commit, b.Go)
}

func (r *Report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "## Gateway trial: %s\n\n%s.\n\n", cell(r.Profile), cell(r.sentence()))
	if r.Verdict != Failed {
		b.WriteString("| threshold | limit | measured | range | verdict |\n|---|---:|---:|---|---|\n")
		for i := range r.Judged {
			j := &r.Judged[i]
			verdict := j.verdict()
			if !j.Met {
				verdict = "**" + verdict + "**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", j.Name, amount(j.Limit, j.Unit), amount(j.Measured, j.Unit), ranged(j.Low, j.High, j.Unit), verdict)
		}
		fmt.Fprintf(&b, "\n%s.\n\n| figure | median | range |\n|---|---:|---|\n", cell(r.settings()))
		for _, f := range r.Figures {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", f.Name, amount(f.Median, f.Unit), ranged(f.Low, f.High, f.Unit))
		}
		b.WriteByte('\n')
	}
	for _, f := range r.remarks() {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, cell(f.Value))
	}
	return b.Bytes()
}

// cell is text that cannot end a table's cell, a line or begin HTML.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\r", "", "\n", " ", "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`").Replace(text)
}

// JUnit's XML, as far as CI systems read it.
type (
	junitSuite struct {
		XMLName    xml.Name        `xml:"testsuite"`
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Error   *junitMessage `xml:"error,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

func (r *Report) junit() []byte {
	suite := junitSuite{Name: "sluice bench: " + r.Profile}
	for _, f := range r.remarks() {
		suite.Properties = append(suite.Properties, junitProperty(f))
	}
	for _, j := range r.Judged {
		c := junitCase{Name: j.Name, Class: "sluice.bench", Out: j.String()}
		if !j.Met {
			c.Failure = &junitMessage{j.String(), r.settings()}
			suite.Failures++
		}
		suite.Cases = append(suite.Cases, c)
	}
	if r.Verdict == Failed {
		suite.Errors = 1
		suite.Cases = append(suite.Cases, junitCase{Name: "measuring", Class: "sluice.bench", Error: &junitMessage{r.Error, r.Error}})
	}
	suite.Tests = len(suite.Cases)
	b, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		panic("BUG: a report that is no XML: " + err.Error())
	}
	return append([]byte(xml.Header), append(b, '\n')...)
}
