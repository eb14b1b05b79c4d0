package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/examples"
	"github.com/sluice-gateway/sluice/loadtest/trial"
)

// benchFlags are those of sluice bench beside the document's.
type benchFlags struct {
	profile, format, out, from string
	example, quiet             bool
}

func newBench() *cobra.Command {
	var (
		doc documentFlags
		f   benchFlags
	)
	cmd := &cobra.Command{
		Use:   "bench [-c FILE]... --profile FILE",
		Short: "Measure a document under load, and judge what it costs",
		Long: `Starts a service, a byte relay and the gateway with the document on loopback, sends
the requests of a profile through them in turn, and holds the profile's thresholds
against what came out: CPU time per request in that of the relay, latency at a rate,
failures, memory. Nothing but this binary is needed, and Linux.

The document is not changed and none of its services is called: one on loopback
answers for all of them. What else it names, such as Redis and log files, is used as
the document says.

Exit code 1 if a threshold is missed or nothing could be measured.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.example {
				_, err := cmd.OutOrStdout().Write(examples.Profile)
				return failed(err)
			}
			if err := checkFormat(f.format, trial.Formats...); err != nil {
				return err
			}
			if f.from != "" {
				return failed(renderAgain(cmd, &f))
			}
			if f.profile == "" {
				return errors.New("--profile is missing: it says what to send and what must hold; sluice bench --example prints a first one")
			}
			if slices.Contains(append(doc.paths(), doc.overlays...), "-") {
				return errors.New("the document of a trial cannot come from standard input: name a file with -c")
			}
			return failed(bench(cmd, &doc, &f))
		},
	}
	doc.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.profile, "profile", "", "what to send, and what must hold")
	fl.StringVar(&f.format, "format", "text", "text, markdown, json (one line) or junit")
	fl.StringVar(&f.out, "out", "", "write the report to a file, in place of standard output")
	fl.StringVar(&f.from, "from", "", "measure nothing: render the last report of a file that --format json wrote")
	fl.BoolVar(&f.example, "example", false, "print a profile to start from, and exit")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "do not tell about every measurement")
	_ = cmd.MarkFlagFilename("profile", "yaml", "yml", "json") // fails only for a flag that does not exist
	return cmd
}

// bench carries out one trial and writes its report.
func bench(cmd *cobra.Command, doc *documentFlags, f *benchFlags) (err error) {
	stderr := cmd.ErrOrStderr()
	p, err := trial.ReadProfileFile(f.profile)
	if err != nil {
		return err
	}
	d, err := doc.read()
	if err != nil {
		return err
	}
	if err := compile(d); err != nil {
		return err
	}
	out, err := openReport(cmd, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the path of this program: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := facts()
	o := &trial.Options{
		Profile: p, ProfileName: f.profile, Document: d,
		Command: []string{self, partCommand}, Gateway: doc.arguments(),
		Build: trial.Build{Version: b.Version, Commit: b.Commit, Modified: b.Modified, Go: b.Go},
	}
	if !f.quiet {
		o.Progress = stderr
	}
	report, err := trial.Run(ctx, o)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if _, werr := out.Write(report.Render(f.format)); werr != nil {
		return errors.Join(err, werr)
	}
	if err != nil {
		if f.format == "text" && f.out == "" {
			return errSaid // the report has said it
		}
		return err
	}
	if missed := report.Missed(); len(missed) > 0 {
		for _, j := range missed {
			_, _ = fmt.Fprintf(stderr, "sluice: %s\n", j)
		}
		return errSaid
	}
	return nil
}

// openReport opens where the report goes, before anything is measured in vain.
func openReport(cmd *cobra.Command, f *benchFlags) (io.WriteCloser, error) {
	if f.out == "" {
		return unclosed{cmd.OutOrStdout()}, nil
	}
	w, err := os.OpenFile(f.out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // a report is for whoever may read the folder
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return w, nil
}

// unclosed is a Writer that somebody else closes.
type unclosed struct{ io.Writer }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }

// renderAgain writes an earlier report in another format.
func renderAgain(cmd *cobra.Command, f *benchFlags) (err error) {
	data, err := os.ReadFile(f.from)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	report, err := trial.ReadReport(data)
	if err != nil {
		return fmt.Errorf("--from: %s: %w", f.from, err)
	}
	out, err := openReport(cmd, f)
	if err != nil {
		return err
	}
	_, err = out.Write(report.Render(f.format))
	return errors.Join(err, out.Close())
}

// arguments are the flags that read the same document in another process.
func (f *documentFlags) arguments() []string {
	var args []string
	for _, p := range f.paths() {
		args = append(args, "--config="+p)
	}
	for _, p := range f.overlays {
		args = append(args, "--overlay="+p)
	}
	if f.strict {
		args = append(args, "--strict")
	}
	return args
}
