package main

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// defaultFile is the document without -c and SLUICE_CONFIG.
const defaultFile = "sluice.yaml"

// documentFlags say which files make the document and how they are read.
type documentFlags struct {
	files    []string
	overlays []string
	strict   bool
	stdin    atomic.Bool // standard input has been read
}

func (f *documentFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "config", "c", nil, "document to read, - for standard input; may be repeated (default $SLUICE_CONFIG, else ./"+defaultFile+")")
	fl.StringArrayVar(&f.overlays, "overlay", nil, "document merged over the others field by field; may be repeated")
	fl.BoolVar(&f.strict, "strict", false, "read by Kong's own rules, without the looser spellings")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json") // fails only for a flag that does not exist
	_ = cmd.MarkFlagFilename("overlay", "yaml", "yml", "json")
}

// registerWhere registers the flags of a command that asks a running gateway: of
// a document it only wants to know where the gateway listens.
func (f *documentFlags) registerWhere(cmd *cobra.Command, property string) {
	cmd.Flags().StringArrayVarP(&f.files, "config", "c", nil,
		"document whose gateway block says "+property+"; read for nothing else (default $SLUICE_CONFIG, else ./"+defaultFile+")")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json") // fails only for a flag that does not exist
}

// paths are the documents to read.
func (f *documentFlags) paths() []string {
	if len(f.files) > 0 {
		return f.files
	}
	if file := os.Getenv("SLUICE_CONFIG"); file != "" {
		return []string{file}
	}
	return []string{defaultFile}
}

// watched are the files that may change: all but standard input.
func (f *documentFlags) watched() []string {
	all := append(slices.Clone(f.paths()), f.overlays...)
	return slices.DeleteFunc(all, func(p string) bool { return p == "-" })
}

var errStdinTwice = errors.New("the document came from standard input, which cannot be read again; name a file with -c to reload")

func (f *documentFlags) options() config.Options {
	return config.Options{Strict: f.strict, Catalog: plugin.All}
}

// read reads the document. Its error is a failure.
func (f *documentFlags) read() (*config.Document, error) {
	paths := f.paths()
	if slices.Contains(paths, "-") && f.stdin.Swap(true) {
		return nil, errStdinTwice
	}
	d, err := config.ReadFiles(paths, f.overlays, f.options())
	if err != nil && len(f.files) == 0 && os.Getenv("SLUICE_CONFIG") == "" && !exists(defaultFile) {
		return nil, errors.New("no document: name one with -c FILE or SLUICE_CONFIG, or put one into ./" + defaultFile + " (sluice demo --document prints a first one)")
	}
	return d, err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
