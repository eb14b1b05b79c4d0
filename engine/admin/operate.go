package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// retryAfterSeconds is when to try again after a change met another one.
const retryAfterSeconds = "1"

// begin claims the right to change the document and reports whether it was
// free; if not, ctx is answered. Kong: 429 with Retry-After.
func (a *API) begin(ctx *fasthttp.RequestCtx) bool {
	if a.changing.TryLock() {
		return true
	}
	ctx.Response.Header.Set("Retry-After", retryAfterSeconds)
	message(ctx, fasthttp.StatusTooManyRequests, "another change of the configuration is under way")
	return false
}

// postReload is POST /reload, ours: the operator's files are read again and
// applied, whether or not they changed.
func (a *API) postReload(ctx *fasthttp.RequestCtx) {
	if !a.begin(ctx) {
		return
	}
	defer a.changing.Unlock()
	if err := a.Configurer.Reload(); err != nil {
		answer(ctx, fasthttp.StatusBadRequest, describe(err, nil))
		return
	}
	answer(ctx, fasthttp.StatusOK, map[string]any{
		"message": "reloaded", "configuration_hash": a.Gateway.Document().Hash, "files": a.Files,
	})
}

// postConfig is POST /config: the posted document replaces the live one as a
// whole or, if anything is wrong with it, not at all. Files are left alone; the
// next change of a file, or a reload, replaces what was posted.
//
// Kong: check_hash answers 304 when the document is live already, flatten_errors
// lists faults by entity. Properties of the gateway block are no part of Kong's
// documents: without that block in the posted one, the live properties stay.
func (a *API) postConfig(ctx *fasthttp.RequestCtx) {
	if !a.begin(ctx) {
		return
	}
	defer a.changing.Unlock()
	p, err := postedIn(ctx)
	if err != nil {
		message(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	d, err := a.read(p.document)
	if err != nil {
		a.Configurer.Refuse(err)
		a.refuse(ctx, p, err)
		return
	}
	if p.checkHash && d.Hash == a.Gateway.Document().Hash {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	if err := a.Configurer.Apply(d); err != nil {
		a.refuse(ctx, p, err)
		return
	}
	answer(ctx, fasthttp.StatusCreated, entities(d))
}

func (a *API) refuse(ctx *fasthttp.RequestCtx, p *posted, err error) {
	var root *config.Node
	if p.flatten {
		if roots, _ := config.Parse(config.Source{Name: sourceName, Data: p.document}, false); len(roots) == 1 {
			root = roots[0] // of several documents the paths would not say which
		}
	}
	answer(ctx, fasthttp.StatusBadRequest, describe(err, root))
}

// posted is what a request to change the document holds.
type posted struct {
	document           []byte
	checkHash, flatten bool
}

var errNoDocument = errors.New("expected a declarative configuration")

// postedIn reads a request. Kong: the body is the document itself, or has it
// under config, as a form, as multipart or as a text in JSON.
func postedIn(ctx *fasthttp.RequestCtx) (*posted, error) {
	p := &posted{}
	p.flags(ctx.QueryArgs())
	media, _, _ := bytes.Cut(ctx.Request.Header.ContentType(), []byte{';'})
	body := ctx.PostBody()
	switch media = bytes.ToLower(bytes.TrimSpace(media)); string(media) {
	case "multipart/form-data":
		if err := p.multipart(ctx); err != nil {
			return nil, err
		}
	case "application/x-www-form-urlencoded":
		p.flags(ctx.PostArgs())
		// curl claims this type for any body: one without the argument is the
		// document itself.
		if p.document = ctx.PostArgs().Peek("config"); p.document == nil {
			p.document = body
		}
	default:
		if p.document = wrapped(body); p.document == nil {
			p.document = body
		}
	}
	if len(bytes.TrimSpace(p.document)) == 0 {
		return nil, errNoDocument
	}
	p.document = bytes.Clone(p.document) // the request's bytes are reused, a document's source is kept
	return p, nil
}

func (p *posted) flags(args *fasthttp.Args) {
	p.checkHash = p.checkHash || isTrue(args.Peek("check_hash"))
	p.flatten = p.flatten || isTrue(args.Peek("flatten_errors"))
}

func isTrue(b []byte) bool { return string(b) == "1" || string(b) == "true" }

func (p *posted) multipart(ctx *fasthttp.RequestCtx) error {
	form, err := ctx.MultipartForm()
	if err != nil {
		return errors.Join(errNoDocument, err)
	}
	if values := form.Value["config"]; len(values) > 0 {
		p.document = []byte(values[0])
		return nil
	}
	files := form.File["config"]
	if len(files) == 0 {
		return errNoDocument
	}
	f, err := files[0].Open()
	if err != nil {
		return errors.Join(errNoDocument, err)
	}
	p.document, err = io.ReadAll(f) // bounded by the body's limit
	return errors.Join(err, f.Close())
}

// wrapped is the text under config of a JSON object that holds nothing else
// but options, or nil.
func wrapped(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	var document []byte
	for d.More() {
		key, err := d.Token()
		if err != nil || key != "config" && key != "check_hash" && key != "flatten_errors" {
			return nil
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if text, ok := value.(string); ok && key == "config" {
			document = []byte(text)
		}
	}
	return document
}

// sourceName is how messages call a posted document.
const sourceName = "config"

// read reads a posted document. Without a gateway block of its own it is read
// under the live one's properties and takes them over.
func (a *API) read(document []byte) (*config.Document, error) {
	source, o := config.Source{Name: sourceName, Data: document}, a.Reading
	if hasGatewayBlock(source) {
		return config.Read([]config.Source{source}, o)
	}
	live := a.Gateway.Document().Gateway
	lookup := o.Env
	if lookup == nil {
		lookup = os.LookupEnv
	}
	// The only property that decides how entities are read.
	o.Env = func(name string) (string, bool) {
		if name == "SLUICE_ROUTER_FLAVOR" {
			return live.RouterFlavor, true
		}
		return lookup(name)
	}
	d, err := config.Read([]config.Source{source}, o)
	if err != nil {
		return nil, err
	}
	d.Gateway = live
	return d, nil
}

func hasGatewayBlock(s config.Source) bool {
	if !bytes.Contains(s.Data, []byte("gateway")) {
		return false // Fast path: nearly every document.
	}
	roots, _ := config.Parse(s, false) // faults are reported by the read that follows
	for _, root := range roots {
		if root.Get("gateway") != nil {
			return true
		}
	}
	return false
}

// getConfig is GET /config: the live document in canonical form, defaults left
// out. Kong: its secrets are in it, since what it answers can be posted again;
// that is one more reason to keep this listener on loopback.
func (a *API) getConfig(ctx *fasthttp.RequestCtx) {
	text, err := a.Gateway.Document().Dump(config.DumpOptions{Format: "yaml", Secrets: true, Catalog: a.Reading.Catalog})
	if err != nil {
		panic("BUG: yaml is a format of dumps: " + err.Error())
	}
	answer(ctx, fasthttp.StatusOK, map[string]string{"config": string(text)})
}
