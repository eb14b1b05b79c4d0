package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

func newDump() *cobra.Command {
	return newPrint("dump", "Print the document with every default filled in",
		`Prints the merged document as the gateway understands it: variables replaced,
overlays merged, ids given, every default written.`,
		config.DumpOptions{Defaults: true, IDs: true})
}

// newPrint returns a command that prints the document in one of its forms.
func newPrint(use, short, long string, o config.DumpOptions) *cobra.Command {
	var doc documentFlags
	cmd := &cobra.Command{
		Use: use + " [-c FILE]...", Short: short, Long: long + "\n\nSecrets are left out unless --secrets is given.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(o.Format, "yaml", "json"); err != nil {
				return err
			}
			d, err := doc.read()
			if err != nil {
				return failed(err)
			}
			printed := o
			printed.Catalog = plugin.All
			b, err := d.Dump(printed)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(b)
			}
			return failed(err)
		},
	}
	doc.register(cmd)
	cmd.Flags().StringVar(&o.Format, "format", "yaml", "yaml or json")
	cmd.Flags().BoolVar(&o.Secrets, "secrets", false, "print secrets too")
	return cmd
}
