package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/cmd/sluice/explain"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

func newExplain() *cobra.Command {
	var (
		doc     documentFlags
		format  string
		headers []string
		answers []string
		r       explain.Request
	)
	cmd := &cobra.Command{
		Use:   "explain [-c FILE]... METHOD URL",
		Short: "Say what would become of a request, and why",
		Long: `Says which route takes a request and why its neighbours do not, which plugins run
and where each of their settings was written, and what is sent where. Nothing is
sent to a service.`,
		Example: `  sluice explain -c kong.yaml GET https://api.example.com/orders/7 -H 'X-Version: beta' --consumer alice
  sluice explain -c kong.yaml GET http://api.example.com/prices --answer 'Cache-Control: private'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			var err error
			if r.Header, err = parseHeaders("-H", headers); err != nil {
				return err
			}
			if r.Answer, err = parseHeaders("--answer", answers); err != nil {
				return err
			}
			if len(answers) > 0 && r.Status == 0 {
				r.Status = http.StatusOK
			}
			if r.Status != 0 && (r.Status < 200 || r.Status > 999) {
				return fmt.Errorf("--status %d: expected a status from 200 to 999", r.Status)
			}
			r.Method, r.URL = args[0], args[1]
			d, err := doc.read()
			if err != nil {
				return failed(err)
			}
			e, err := explain.Explain(d, plugin.All, &r)
			if err != nil {
				return failed(err)
			}
			if format == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return failed(enc.Encode(e))
			}
			return failed(writeExplanation(cmd.OutOrStdout(), e))
		},
	}
	doc.register(cmd)
	fl := cmd.Flags()
	fl.StringArrayVarP(&headers, "header", "H", nil, "request header, 'Name: value'; may be repeated")
	fl.StringVar(&r.ClientIP, "ip", "", "address of the client (default 127.0.0.1)")
	fl.StringVar(&r.Consumer, "consumer", "", "caller, once authenticated: username, custom id or id")
	fl.IntVar(&r.Status, "status", 0, "status that the service is assumed to answer, for what plugins say of it")
	fl.StringArrayVar(&answers, "answer", nil, "header of that answer, 'Name: value'; may be repeated")
	fl.StringVar(&format, "format", "text", "text or json")
	return cmd
}

func parseHeaders(flag string, lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%s %q: expected 'Name: value'", flag, line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// writeExplanation writes e for people.
func writeExplanation(out io.Writer, e *explain.Explanation) error {
	var b strings.Builder
	line := func(label, text, at string) {
		if at != "" {
			at = "  (" + at + ")"
		}
		fmt.Fprintf(&b, "%-8s %s%s\n", label, text, at)
	}
	line("request", e.Request.Method+" "+e.Request.Path+", host "+e.Request.Host, "")
	if e.Route != nil {
		line("route", nameOf(e.Route)+": "+strings.Join(e.Route.Why, ", "), e.Route.At)
	} else {
		line("route", "none", "")
	}
	for i := range e.Losers {
		line("  not", nameOf(&e.Losers[i])+": "+strings.Join(e.Losers[i].Why, ", "), e.Losers[i].At)
	}
	label := "plugins"
	for i := range e.Chain {
		c := &e.Chain[i]
		line(label, fmt.Sprintf("%d. %s, %s", i+1, c.Name, c.Scope), c.At)
		for _, s := range c.Settings {
			line("", "   "+s.Path+": "+s.Value, s.At)
		}
		for _, text := range c.Says {
			line("", "   → "+text, "")
		}
		for _, h := range c.Hidden {
			line("", "   instead of the one at "+h.Scope, h.At)
		}
		label = ""
	}
	if u := e.Upstream; u != nil {
		line("service", u.Service+", "+u.Protocol, u.At)
		target := u.Target
		if u.Algorithm != "" {
			target += fmt.Sprintf(", one of %d, by %s", len(u.Targets), u.Algorithm)
			if len(u.HashOn) > 0 {
				target += " on " + strings.Join(u.HashOn, ", else ")
			}
		}
		line("target", target, "")
		for _, t := range u.Targets {
			line("", fmt.Sprintf("   %s, weight %d", t.Address, t.Weight), t.At)
		}
		line("path", u.Path, "")
	}
	for _, n := range e.Notes {
		line("note", n, "")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func nameOf(r *explain.Route) string {
	if r.Name != "" {
		return r.Name
	}
	return r.ID
}
