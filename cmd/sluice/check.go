package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

func newCheck() *cobra.Command {
	var (
		doc    documentFlags
		format string
	)
	cmd := &cobra.Command{
		Use:     "check [-c FILE]... [FILE...]",
		Aliases: []string{"validate"},
		Short:   "Say what is wrong with a document, all of it, and where",
		Long: `Reads a document as run would, compiles it without opening a socket or a file to
write, and prints every fault with its place. Exit code 1 if there is any;
warnings do not count. Among those is what the document asks for and this build
leaves out.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, "text", "json", "sarif"); err != nil {
				return err
			}
			doc.files = append(doc.files, args...)
			faults, warnings, err := check(&doc)
			if err != nil {
				return failed(err)
			}
			out := cmd.OutOrStdout()
			switch format {
			case "json":
				err = writeReport(out, faults, warnings)
			case "sarif":
				err = writeSARIF(out, faults, warnings)
			default:
				_, err = io.WriteString(out, text(faults, warnings))
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %s\n", strings.Join(doc.paths(), " "), count(len(faults), "fault"), count(len(warnings), "warning"))
			}
			if err == nil && len(faults) > 0 {
				err = errSaid
			}
			return failed(err)
		},
	}
	doc.register(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text, json or sarif")
	return cmd
}

// check returns what is wrong with a document and what is worth a warning. err
// is what kept it from finding out.
func check(doc *documentFlags) (faults, warnings config.Faults, err error) {
	d, err := doc.read()
	if err != nil {
		if all, ok := errors.AsType[config.Faults](err); ok {
			faults, warnings = all.Split()
			return faults, warnings, nil
		}
		return nil, nil, err
	}
	if err := compile(d); err != nil {
		faults = admin.FaultsOf(err)
	}
	return faults, slices.Concat(d.Warnings, limits(d)), nil
}

// compile compiles d as an Engine would and throws the snapshot away.
func compile(d *config.Document) error {
	trial := *d
	trial.Plugins = slices.DeleteFunc(slices.Clone(d.Plugins), func(p *config.Plugin) bool {
		spec, _, ok := plugin.All.Lookup(p.Name)
		return ok && spec.OpensFiles // left to a gateway that serves
	})
	env := pipeline.Env{
		Document: &trial, Trial: true, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Node: &pipeline.Node{Version: buildVersion()},
		// Nothing is resolved either.
		Dial: func(context.Context, string) (net.Conn, error) {
			return nil, errors.New("checking connects to nothing")
		},
	}
	s, err := snapshot.Compile(env, pipeline.NewKeeper(), plugin.All)
	if err != nil {
		return err
	}
	return s.Release()()
}

func text(faults, warnings config.Faults) string {
	var b strings.Builder
	for i := range warnings {
		b.WriteString(renderWarning(warnings[i]))
	}
	b.WriteString(faults.Render())
	return b.String()
}

// renderWarning is f.Render with the word that tells it from a fault.
func renderWarning(f config.Fault) string {
	f.Message = "warning: " + f.Message
	return f.Render()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// finding is a fault as check --format json prints it.
type finding struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Col      int    `json:"col,omitempty"`
	Path     string `json:"path,omitempty"`
	Message  string `json:"message"`
	Near     string `json:"did_you_mean,omitempty"`
}

func writeReport(w io.Writer, faults, warnings config.Faults) error {
	report := struct {
		Valid    bool      `json:"valid"`
		Findings []finding `json:"findings"`
	}{Valid: len(faults) == 0, Findings: []finding{}}
	for _, f := range slices.Concat(faults, warnings) {
		severity := "error"
		if f.Warning {
			severity = "warning"
		}
		report.Findings = append(report.Findings, finding{severity, f.File, f.Line, f.Col, f.Path, f.Message, f.Near})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(report)
}
