// Command sluice is an API gateway that runs a Kong declarative file as it
// stands.
//
// Each file of this package is one command: flags become a Document, the
// Document goes to the Engine, nothing else lives here. Shared pieces:
//
//	main.go      the tree of commands, exit codes
//	document.go  the flags that name documents, and reading them
//	control.go   a running gateway as engine/admin sees it
//	limits.go    what a document asks for and this build leaves out
//	missing.go   noticing that a watched file is gone
//	listen.go    the sockets of the Admin and status listeners
//	remote.go    talking to a running gateway
//	try.go       requests that sluice demo proposes
//	bench_part.go what sluice bench starts this program as, for one part of a trial
//	signal_*.go  which signals mean what
//	explain/     what would become of a request
//
// Output meant for machines goes to standard output, everything else to
// standard error. Flags override the environment, which overrides the file.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1  // invalid, or failed
	exitUsage  = 64 // the command line is wrong (EX_USAGE of sysexits.h)
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// failure is an error of a command that was called rightly. What a command
// returns otherwise is a fault of the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// failed wraps err, nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

// errSaid ends a command with exitFailed when it has already said why.
var errSaid = errors.New("failed")

// execute runs one command line and returns its exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	misuse := checkHelp(root)
	cmd, err := root.ExecuteC()
	if err == nil {
		err = *misuse
	}
	if err == nil {
		return exitFine
	}
	if _, ok := errors.AsType[failure](err); !ok {
		if cmd.Name() == "help" {
			cmd = root
		}
		_, _ = fmt.Fprintf(stderr, "sluice: %s (see %q)\n", oneLine(err), cmd.CommandPath()+" --help")
		return exitUsage
	}
	if !errors.Is(err, errSaid) {
		tell(stderr, err)
	}
	return exitFailed
}

// oneLine folds cobra's suggestions, which it sets on lines of their own.
func oneLine(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n\nDid you mean this?\n", "; did you mean")
	return strings.Join(strings.Fields(text), " ")
}

// tell writes why a command failed: faults of a document with their source
// lines, anything else in one line each.
func tell(w io.Writer, err error) {
	for _, f := range admin.FaultsOf(err) {
		switch {
		case f.Warning:
			_, _ = io.WriteString(w, renderWarning(f))
		case f.File == "":
			_, _ = fmt.Fprintf(w, "sluice: %s\n", f.Error())
		default:
			_, _ = io.WriteString(w, f.Render())
		}
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "An API gateway that runs a Kong declarative file as it stands",
		Long: `Sluice is an API gateway in one binary: it runs a Kong declarative file as it
stands, and costs about as much CPU per request as a plain proxy.

Exit codes: 0 fine, 1 invalid or failed, 2 differs, 64 usage.`,
		Version:       facts().String(),
		SilenceErrors: true, SilenceUsage: true,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	configuration := &cobra.Command{
		Use:   "config",
		Short: "Work on documents",
		Args:  noSuchCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parse := newCheck()
	parse.Use, parse.Aliases, parse.Hidden = "parse [FILE...]", nil, true // Kong's name of check
	configuration.AddCommand(newDump(), newRender(), newSchema(), parse)
	root.AddCommand(newRun(), newDemo(), newCheck(), newExplain(), newBench(), newBenchPart(), newReload(), newHealth(), newVersion(), configuration)
	return root
}

// checkHelp makes a request for help on a command that does not exist the fault
// of the command line it is, instead of help on something else. The result is
// that fault, once the command line has been executed.
func checkHelp(root *cobra.Command) *error {
	var misuse error
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasSubCommands() {
			if misuse = noSuchCommand(cmd, cmd.Flags().Args()); misuse != nil {
				return
			}
		}
		help(cmd, args)
	})
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && found.HasSubCommands() {
					err = noSuchCommand(found, rest)
				}
				return err
			}
		}
	}
	return &misuse
}

// noSuchCommand refuses arguments of a command that only has subcommands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		known = append(append(known, c.Name()), c.Aliases...)
	}
	if near := config.Nearest(args[0], known); near != "" {
		return fmt.Errorf("unknown command %q; did you mean %q?", args[0], near)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// checkFormat checks the value of --format.
func checkFormat(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--format: unknown value %q, expected one of: %s", value, strings.Join(allowed, ", "))
}
