package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

func newHealth() *cobra.Command {
	var (
		doc             documentFlags
		address, format string
	)
	cmd := &cobra.Command{
		Use:   "health [--status ADDRESS]",
		Short: "Ask a running gateway whether it is ready",
		Long:  "Asks the status listener of a running gateway. Exit code 0 if it is ready, else 1.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			r, err := listenerOf("status", address, &doc, func(g *config.Gateway) config.Listeners { return g.StatusListen })
			if err != nil {
				return failed(err)
			}
			return failed(health(cmd, r, format))
		},
	}
	doc.registerWhere(cmd, "status_listen")
	cmd.Flags().StringVar(&address, "status", "", "status listener, host:port or URL (default from the document, else 127.0.0.1:8007)")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

func health(cmd *cobra.Command, r *remote, format string) error {
	code, body, err := r.call(http.MethodGet, "/status/ready")
	if err != nil {
		return err
	}
	var ready struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &ready); err != nil {
		return fmt.Errorf("%s answered %d, not as a gateway does", r.base, code)
	}
	_, body, err = r.call(http.MethodGet, "/status")
	if err != nil {
		return err
	}
	var s admin.StatusReport
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the answer of %s/status is not a status: %w", r.base, err)
	}
	out := cmd.OutOrStdout()
	if format == "json" {
		_, err = fmt.Fprintf(out, "%s\n", body)
	} else {
		_, err = fmt.Fprintf(out, "%s: version %s, up %d s, %d requests, %d connections, configuration %s\n",
			ready.Message, s.Sluice.Version, s.Sluice.UptimeSeconds, s.Server.Requests, s.Server.Active, s.Hash)
		if re := s.Sluice.Reload; err == nil && !re.Success {
			_, err = fmt.Fprintf(out, "the last reload was refused at %s: %s\n", re.Failed, re.Error)
		}
	}
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("not ready: %s", ready.Message)
	}
	return err
}
