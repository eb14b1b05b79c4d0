package requesttransformer

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// bodyKind is a kind of body that can be changed.
type bodyKind uint8

const (
	otherBody bodyKind = iota
	jsonBody
	formBody
	multipartBody
)

func kindOf(contentType []byte) bodyKind {
	media, _, _ := bytes.Cut(contentType, []byte{';'})
	media = bytes.TrimSpace(media)
	switch {
	case bytes.EqualFold(media, []byte("application/json")):
		return jsonBody
	case bytes.EqualFold(media, []byte("application/x-www-form-urlencoded")):
		return formBody
	case bytes.EqualFold(media, []byte("multipart/form-data")):
		return multipartBody
	}
	return otherBody
}

func encoded(r *fasthttp.Request) bool {
	coding := r.Header.ContentEncoding()
	return len(coding) > 0 && !bytes.EqualFold(coding, []byte("identity"))
}

// transformBody changes a body of a known kind; a malformed one stays as it is.
func (t *transformer) transformBody(x *pipeline.Exchange, v *edit.Values) {
	r := &x.Ctx.Request
	kind := kindOf(r.Header.ContentType())
	if kind == otherBody || encoded(r) || t.jsonOnly && kind != jsonBody {
		return
	}
	body, changed := r.Body(), false
	switch kind {
	case jsonBody:
		if len(t.allow) > 0 && len(body) > 0 {
			if out, ok := edit.Keep(body, t.allow, v); ok {
				body, changed = out, true
			}
		}
		if out, ok := edit.JSON(body, t.body, v); ok {
			body, changed = out, true
		}
	case formBody:
		body, changed = edit.Args(body, t.body, v)
	case multipartBody:
		if boundary := r.Header.MultipartFormBoundary(); len(boundary) > 0 {
			body, changed = editParts(body, boundary, t.body, v)
		}
	}
	if changed {
		r.SetBody(body)
		r.Header.SetContentLength(len(body))
	}
}
