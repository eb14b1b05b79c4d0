// Command run runs one load scenario: it starts what the scenario's folder asks for on
// loopback, loads it, checks the answers, judges what came out, and stores a report.
//
//	loadtest/run.sh --list
//	loadtest/run.sh SCENARIO [smoke|load|stress|spike|soak] [--out DIR]
//
// The journey of a run is the function campaign.run: direct load, capacity, points,
// verdict. The files:
//
//	scenario.go scenario_check.go   what scenario.yaml may say; faults with file and line
//	tool.go       the programs that are built for the run
//	process.go    children: pinned, logged, always stopped
//	lab.go        services, Redis, gateway, started on loopback
//	check.go      answers known by their digest, sent beside the load
//	disturb.go    reloads, failures, slow clients while the load runs
//	vegeta.go     open and closed loops by vegeta
//	k6.go         scripts of k6
//	point.go      what one load came to; latency from the planned send time
//	campaign.go   the order of it all
//	judge.go      thresholds
//	hdr.go        percentile plots and texts
//	report.go     the JSON line, the text, the machine
//
// The exit status is 0 when every threshold was met, 1 when one was not or anything
// failed, 64 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

var (
	errUsage  = errors.New("wrong usage")
	errFailed = errors.New("the run failed")
)

// options are what the command line says.
type options struct {
	root, out         string
	scenario, profile string
	list              bool
}

func main() { os.Exit(status(os.Args[1:], os.Stdout, os.Stderr)) }

// status runs the program and says with which status it should exit.
func status(args []string, stdout, stderr io.Writer) int {
	err := drive(args, stdout)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		_, _ = fmt.Fprint(stdout, usage)
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "loadtest:", err)
	if errors.Is(err, errUsage) {
		_, _ = fmt.Fprint(stderr, usage)
		return 64
	}
	return 1
}

const usage = `usage: loadtest/run.sh SCENARIO [smoke|load|stress|spike|soak] [--out DIR]
       loadtest/run.sh --list
`

func drive(args []string, stdout io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	home := filepath.Join(o.root, "loadtest")
	if o.list {
		return list(home, stdout)
	}
	sc, err := find(home, o.scenario)
	if err != nil {
		return err
	}
	profile, ok := sc.Profiles[o.profile]
	if !ok {
		return fmt.Errorf("%w: scenario %s has no profile %q; it has: %s", errUsage, sc.name, o.profile, strings.Join(profilesOf(sc), ", "))
	}
	cpus, err := place()
	if err != nil {
		return err
	}
	if len(cpus.rest) > 0 {
		if err := machine.PinProcess(cpus.rest); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A closed pipe must be an error of Write, not the end before the children are stopped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := &campaign{o: o, sc: sc, profile: &profile, cpus: cpus, stdout: stdout}
	return c.run(ctx)
}

func parse(args []string) (*options, error) {
	o := &options{profile: "smoke"}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.root, "root", ".", "the repository")
	flags.StringVar(&o.out, "out", "", "where results go")
	flags.BoolVar(&o.list, "list", false, "list the scenarios")
	var words []string
	for len(args) > 0 { // flags may stand before, between and behind the words
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if o.list && len(words) == 0 {
		return o, absolute(o)
	}
	if o.list || len(words) < 1 || len(words) > 2 {
		return nil, fmt.Errorf("%w: want a scenario and at most one profile, got %q", errUsage, words)
	}
	o.scenario = words[0]
	if len(words) == 2 {
		o.profile = words[1]
	}
	return o, absolute(o)
}

// absolute makes the paths independent of where children run.
func absolute(o *options) error {
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	o.root = root
	if o.out == "" {
		o.out = filepath.Join(root, "loadtest", "results")
	}
	o.out, err = filepath.Abs(o.out)
	return err
}

func list(home string, stdout io.Writer) error {
	names, err := scenarios(home)
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		s, err := readScenario(filepath.Join(home, name))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		_, err = fmt.Fprintf(stdout, "%-20s %-7s %s\n%28s profiles: %s\n", name, s.Generator, s.About, "", strings.Join(profilesOf(s), " "))
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// find reads the scenario of that name.
func find(home, name string) (*Scenario, error) {
	names, err := scenarios(home)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("%w: no scenario %q; there are: %s", errUsage, name, strings.Join(names, ", "))
	}
	return readScenario(filepath.Join(home, name))
}

// timeLimit bounds a whole run: twice what the points take and what surrounds them.
func (c *campaign) timeLimit() time.Duration {
	points := len(c.profile.Rates) + len(c.profile.Percents)
	if c.sc.Scrape != nil {
		points = 2 * c.sc.Scrape.Rounds
	}
	return buildMax + 10*time.Minute + 2*time.Duration(points)*c.profile.Duration
}
