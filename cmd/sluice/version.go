package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases: -X main.version=v1.2.3.
var version = ""

// buildVersion is the version of this binary, "dev" when nobody gave it one.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

type buildFacts struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from changed files
	Time     string `json:"commit_time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func facts() *buildFacts {
	f := &buildFacts{Version: buildVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return f
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			f.Commit = s.Value
		case "vcs.time":
			f.Time = s.Value
		case "vcs.modified":
			f.Modified = s.Value == "true"
		}
	}
	return f
}

// String is f in one line.
func (f *buildFacts) String() string {
	commit := "unknown"
	if f.Commit != "" {
		commit = f.Commit[:min(len(f.Commit), 12)]
		if f.Modified {
			commit += " with changes"
		}
	}
	return fmt.Sprintf("sluice %s (commit %s, %s, %s)", f.Version, commit, f.Go, f.Platform)
}

func newVersion() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version and commit",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			f := facts()
			if format == "json" {
				return failed(json.NewEncoder(cmd.OutOrStdout()).Encode(f))
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), f)
			return failed(err)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}
