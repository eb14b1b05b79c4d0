package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
)

// The parts of SARIF 2.1.0 that code hosts read (OASIS, section 3).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		Rule      string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		Line int `json:"startLine"`
		Col  int `json:"startColumn,omitempty"`
	}
)

// writeSARIF writes a report that code hosts show beside the lines it names.
func writeSARIF(w io.Writer, faults, warnings config.Faults) error {
	run := sarifRun{Results: []sarifResult{}, Tool: sarifTool{sarifDriver{
		Name: "sluice check", Version: buildVersion(), Rules: []sarifRule{
			{"document-fault", sarifText{"The document cannot be used."}},
			{"document-warning", sarifText{"The document is usable but may not mean what it says."}},
		},
	}}}
	for _, f := range slices.Concat(faults, warnings) {
		run.Results = append(run.Results, sarifOf(&f))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func sarifOf(f *config.Fault) sarifResult {
	r := sarifResult{Rule: "document-fault", Level: "error", Message: sarifText{f.Message}}
	if f.Warning {
		r.Rule, r.Level = "document-warning", "warning"
	}
	if f.Path != "" {
		r.Message.Text = f.Path + ": " + f.Message
	}
	if f.Near != "" {
		r.Message.Text += `; did you mean "` + f.Near + `"?`
	}
	if f.File == "" {
		return r
	}
	l := sarifPhysical{Artifact: sarifArtifact{filepath.ToSlash(f.File)}}
	if f.Line > 0 {
		l.Region = &sarifRegion{f.Line, f.Col}
	}
	r.Locations = []sarifLocation{{l}}
	return r
}
