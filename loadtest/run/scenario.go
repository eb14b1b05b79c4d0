package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// scenarioFile is what makes a folder a scenario.
const scenarioFile = "scenario.yaml"

// metricDefault is the trend of k6 that is judged unless the scenario names another.
const metricDefault = "http_req_duration"

// profileNames are the profiles there may be, in the order they are shown.
var profileNames = []string{"smoke", "load", "stress", "spike", "soak"}

// Scenario is what scenario.yaml says. It never changes after it was read.
type Scenario struct {
	About       string             `yaml:"about"`        // one line, for the list
	Generator   string             `yaml:"generator"`    // vegeta or k6
	Services    int                `yaml:"services"`     // stubs to start, 1 if not given
	Redis       bool               `yaml:"redis"`        // whether a Redis is started
	Generate    Generate           `yaml:"generate"`     // what is added to the document
	Repeat      int                `yaml:"repeat"`       // how often targets.txt is repeated, with ${N} from 0
	UploadBytes int                `yaml:"upload_bytes"` // size of the file ${UPLOAD} in targets.txt
	Metric      string             `yaml:"metric"`       // the trend of k6 that is judged, http_req_duration if not given
	Profiles    map[string]Profile `yaml:"profiles"`
	Thresholds  Thresholds         `yaml:"thresholds"`
	Checks      []Check            `yaml:"checks"`
	Counts      []Count            `yaml:"counts"`
	Events      []Event            `yaml:"events"`
	SlowClients *SlowClients       `yaml:"slow_clients"`
	Scrape      *Scrape            `yaml:"scrape"`

	name, dir string
}

// Generate is what is too long to be written by hand: a second document with Routes
// routes /r/0, /r/1 and so on of the service named Service, and Consumers consumers
// whose API keys are key-0, key-1 and so on.
type Generate struct {
	Service   string `yaml:"service"`
	Routes    int    `yaml:"routes"`
	Consumers int    `yaml:"consumers"`
}

// Profile is how hard and how long. One of Rates (requests, or iterations of k6, per
// second) and Percents (of the capacity that is found first) is given; each is a point.
type Profile struct {
	Duration    time.Duration `yaml:"duration"` // of each point
	Rates       []int         `yaml:"rates"`
	Percents    []int         `yaml:"percents"`
	Connections int           `yaml:"connections"`
	Thresholds  Thresholds    `yaml:"thresholds"` // those given go before the scenario's
}

// Thresholds fail a run when they are exceeded; nil ones are not judged.
type Thresholds struct {
	P95          *time.Duration `yaml:"p95"`
	P99          *time.Duration `yaml:"p99"`
	Failures     *float64       `yaml:"failures"`      // percent of requests
	Dropped      *int           `yaml:"dropped"`       // planned requests that were not sent
	UpTo         *int           `yaml:"up_to"`         // percent of capacity above which latency and drops are only reported
	MemoryGrowth *int           `yaml:"memory_growth"` // MiB of resident memory from the warm-up to the end
	ScrapeRatio  *float64       `yaml:"scrape_ratio"`  // p99 with scrapes / p99 without
	DirectRatio  *float64       `yaml:"direct_ratio"`  // rate without the gateway / rate with; below it is a warning
	ReloadTime   *time.Duration `yaml:"reload_time"`   // the slowest reload
	SlowFailures *int           `yaml:"slow_failures"` // slow clients that were not served to the end
}

// Check is a request of which everything is known. It is sent before, during and after
// the load; one wrong answer fails the run.
type Check struct {
	Method  string            `yaml:"method"` // GET if not given
	Path    string            `yaml:"path"`
	Headers map[string]string `yaml:"headers"`
	Status  int               `yaml:"status"` // 200 if not given
	SHA256  string            `yaml:"sha256"` // of the body
	Want    map[string]string `yaml:"want"`   // headers of the answer
}

// Count bounds, after the run, how many requests reached the services.
type Count struct {
	Prefix      string `yaml:"prefix"`
	MostPerPath int64  `yaml:"most_per_path"`
}

// Event is something that happens while each point runs: once when At percent of
// its duration have passed, or again and again.
type Event struct {
	At      int           `yaml:"at"`
	Every   time.Duration `yaml:"every"`
	Do      string        `yaml:"do"`
	Service int           `yaml:"service"`
}

// deeds are what an event may do.
var deeds = []string{"reload", "stop-service", "start-service", "stop-redis", "start-redis"}

// SlowClients are connections beside the load that send and read a few bytes at a time.
type SlowClients struct {
	Count int           `yaml:"count"`
	Path  string        `yaml:"path"`
	Bytes int           `yaml:"bytes"` // at a time
	Every time.Duration `yaml:"every"` // pause between them
}

// Scrape compares points with and without a scrape of /metrics, in turn.
type Scrape struct {
	Every  time.Duration `yaml:"every"`
	Rounds int           `yaml:"rounds"` // of one point with and one without
}

// readScenario reads the scenario in the folder dir. The error names every unknown
// field, or every fault of the values, with file and line.
func readScenario(dir string) (*Scenario, error) {
	file := filepath.Join(dir, scenarioFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &Scenario{name: filepath.Base(dir), dir: dir, Services: 1, Repeat: 1, Metric: metricDefault}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(s); err != nil && !errors.Is(err, io.EOF) {
		return nil, explainYAML(file, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, explainYAML(file, err)
	}
	c := &checker{file: file, root: &root}
	c.scenario(s)
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	return s, nil
}

// scenarios lists the folders of root that have a scenario, sorted by name.
func scenarios(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "*", scenarioFile))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.Base(filepath.Dir(f))
	}
	slices.Sort(names)
	return names, nil
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	yamlUnknown = regexp.MustCompile(`^field (\S+) not found in type main\.(\w+)$`)
)

// explainYAML says file:line before each fault of the reader, and which fields there are.
func explainYAML(file string, err error) error {
	faults := []string{err.Error()}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		faults = e.Errors
	}
	out := make([]error, len(faults))
	for i, text := range faults {
		out[i] = fmt.Errorf("%s: %s", file, text)
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			text = m[2]
			if u := yamlUnknown.FindStringSubmatch(text); u != nil {
				text = fmt.Sprintf("unknown field %q; there are: %s", u[1], strings.Join(fieldsOf(u[2]), ", "))
			}
			out[i] = fmt.Errorf("%s:%s: %s", file, m[1], text)
		}
	}
	return errors.Join(out...)
}

// fieldsOf lists the fields of one of the types a scenario is made of.
func fieldsOf(name string) []string {
	for _, t := range []reflect.Type{
		reflect.TypeFor[Scenario](), reflect.TypeFor[Generate](), reflect.TypeFor[Profile](),
		reflect.TypeFor[Thresholds](), reflect.TypeFor[Check](), reflect.TypeFor[Count](),
		reflect.TypeFor[Event](), reflect.TypeFor[SlowClients](), reflect.TypeFor[Scrape](),
	} {
		if t.Name() != name {
			continue
		}
		var names []string
		for f := range t.Fields() {
			if tag := f.Tag.Get("yaml"); tag != "" {
				names = append(names, tag)
			}
		}
		return names
	}
	return nil
}

// over returns t with the fields of base where t has none.
func (t Thresholds) over(base Thresholds) Thresholds {
	out, b := reflect.ValueOf(&t).Elem(), reflect.ValueOf(base)
	for i := range out.NumField() {
		if out.Field(i).IsNil() {
			out.Field(i).Set(b.Field(i))
		}
	}
	return t
}
