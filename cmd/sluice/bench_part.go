package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/loadtest/trial"
)

// partCommand is the hidden command that sluice bench starts this program with, once
// for each part of a trial.
const partCommand = "bench-part"

const partUsage = "relay SERVICE, service BYTES LATENCY STATUS, or gateway SERVICE"

// partDrain is how long the gateway of a trial lets requests finish.
const partDrain = time.Second

func newBenchPart() *cobra.Command {
	var doc documentFlags
	cmd := &cobra.Command{
		Use:    partCommand + " PART ARGUMENT...",
		Short:  "One part of a trial: " + partUsage,
		Long:   "Started by sluice bench. Ends when its standard input does.",
		Hidden: true,
		Args:   cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ready := func(address string) { _, _ = fmt.Fprintln(cmd.OutOrStdout(), address) }
			switch {
			case args[0] == trial.PartRelay && len(args) == 2:
				go endWithInput()
				return failed(trial.Relay(args[1], ready))
			case args[0] == trial.PartService && len(args) == 4:
				return serveTrial(args[1:], ready)
			case args[0] == trial.PartGateway && len(args) == 2:
				go endWithInput()
				return failed(runTrial(cmd.ErrOrStderr(), &doc, args[1], ready))
			}
			return fmt.Errorf("unknown part or wrong number of arguments: %q; expected %s", args, partUsage)
		},
	}
	doc.register(cmd)
	return cmd
}

// endWithInput ends the process when its standard input does: whoever started it holds
// the other end, and loses it however it dies.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end, too
	os.Exit(exitFailed)
}

// serveTrial is the service: size of the body, latency and status.
func serveTrial(args []string, ready func(string)) error {
	size, err := strconv.Atoi(args[0])
	if err != nil || size < 0 {
		return fmt.Errorf("expected a number of bytes, got %q", args[0])
	}
	latency, err := time.ParseDuration(args[1])
	if err != nil {
		return fmt.Errorf("expected a latency: %w", err)
	}
	status, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("expected a status, got %q", args[2])
	}
	go endWithInput()
	return failed(trial.Serve(&trial.Service{BodyBytes: size, Latency: trial.Duration(latency), Status: status}, ready))
}

// runTrial is the gateway: what sluice run does, on loopback and with service in place of
// the document's. The files are read once.
func runTrial(stderr io.Writer, doc *documentFlags, service string, ready func(string)) error {
	d, err := doc.read()
	if err != nil {
		return err
	}
	r := trial.Redirect(d, service)
	src := &source{options: doc.options(), read: func() (*config.Document, error) { return d, nil }}
	o := &runOptions{noWatch: true, drainTimeout: partDrain, dial: r.Dial}
	return run(stderr, src, o, func(g *gateway) { ready(addresses(g.proxy)) })
}
