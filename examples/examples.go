// Package examples holds documents to start from.
package examples

import _ "embed" // the documents are part of the binary

// Quickstart is quickstart.yaml: what sluice demo serves.
//
//go:embed quickstart.yaml
var Quickstart []byte
