package trial

import (
	"context"
	"errors"
	"io"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Options are what a trial needs.
type Options struct {
	Profile     *Profile
	ProfileName string
	// Document is what the gateway serves. Run changes it: see Redirect.
	Document *config.Document
	// Command starts this program as a part of a trial: it is given the part's name,
	// "relay", "service" or "gateway", and its arguments. The part prints the address it
	// listens on as its first line. Gateway are arguments that only the gateway gets.
	Command []string
	Gateway []string
	Build   Build
	// Progress is told about every measurement; nil for nobody.
	Progress io.Writer
}

// Build says what was measured.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from changed files
	Go       string `json:"go"`
}

// Names of the parts.
const (
	PartRelay   = "relay"
	PartService = "service"
	PartGateway = "gateway"
)

var errNothingToAsk = errors.New("no request to send: the profile has none, and none could be derived from the document")

// Run carries out a trial and reports on it. Everything it starts is stopped when it
// returns, which it does soon after ctx ends. With an error the report, which is never
// nil, has no figures and says why.
func Run(ctx context.Context, o *Options) (*Report, error) {
	r := newReport(o)
	requests := o.Profile.Requests
	if len(requests) == 0 {
		requests, r.LeftOut = Derive(o.Document)
		r.note("%s from the document's routes, %s left out", plural(len(requests), "request"), plural(len(r.LeftOut), "route"))
	}
	r.Notes = append(r.Notes, Redirect(o.Document, "").Notes...)
	err := errNothingToAsk
	if len(requests) > 0 {
		err = conduct(ctx, o, requests, r)
	}
	if err != nil {
		r.fail(err)
		return r, err
	}
	r.judge(&o.Profile.Thresholds)
	return r, nil
}
