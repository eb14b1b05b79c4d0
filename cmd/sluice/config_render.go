package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
)

func newRender() *cobra.Command {
	return newPrint("render", "Print the document as one plain Kong file",
		`Prints the merged document in canonical form, as any gateway of the format reads
it: variables replaced, overlays merged, looser spellings set right, defaults
left out.`,
		config.DumpOptions{})
}
