package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
)

func newReload() *cobra.Command {
	var (
		doc     documentFlags
		address string
	)
	cmd := &cobra.Command{
		Use:   "reload [--admin ADDRESS]",
		Short: "Make a running gateway read its files again",
		Long: `Asks the Admin listener of a running gateway to read its own files again, those
it was started with, and prints which they are. If they are at fault, says where,
and the gateway goes on with what it had.

No file is sent: -c only says where the Admin listener is. To give a running
gateway another document, post it: curl --data-binary @FILE ADMIN/config.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := listenerOf("Admin", address, &doc, func(g *config.Gateway) config.Listeners { return g.AdminListen })
			if err != nil {
				return failed(err)
			}
			status, body, err := r.call(http.MethodPost, "/reload")
			if err != nil {
				return failed(err)
			}
			var got struct {
				Message string    `json:"message"`
				Hash    string    `json:"configuration_hash"`
				Files   []string  `json:"files"`
				Faults  []finding `json:"faults"`
			}
			if err := json.Unmarshal(body, &got); err != nil {
				return failed(fmt.Errorf("%s answered %d, not as a gateway does", r.base, status))
			}
			if status == http.StatusOK {
				from := ""
				if len(got.Files) > 0 {
					from = ", read from " + strings.Join(got.Files, " ")
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "reloaded, configuration hash %s%s\n", got.Hash, from)
				return failed(err)
			}
			if len(got.Faults) > 0 {
				return failed(faultsIn(got.Faults))
			}
			return failed(fmt.Errorf("%s answered %d: %s", r.base, status, got.Message))
		},
	}
	doc.registerWhere(cmd, "admin_listen")
	cmd.Flags().StringVar(&address, "admin", "", "Admin listener, host:port or URL (default from the document, else 127.0.0.1:8001)")
	return cmd
}

// faultsIn are the faults a gateway answered with.
func faultsIn(list []finding) config.Faults {
	faults := make(config.Faults, len(list))
	for i, f := range list {
		faults[i] = config.Fault{File: f.File, Line: f.Line, Col: f.Col, Path: f.Path, Message: f.Message, Near: f.Near}
	}
	return faults
}
