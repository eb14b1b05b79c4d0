// Package examples holds documents to start from, and a profile for sluice bench.
package examples

import _ "embed" // they are part of the binary

// Quickstart is quickstart.yaml: what sluice demo serves.
//
//go:embed quickstart.yaml
var Quickstart []byte

// Profile is profile.yaml: what sluice bench --example prints.
//
//go:embed profile.yaml
var Profile []byte
