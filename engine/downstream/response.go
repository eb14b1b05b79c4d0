package downstream

import (
	"net/http"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// responseWriter writes responses as the fast lane sends them: fasthttp's own
// encoder would replace the service's Date field with its own.
type responseWriter struct {
	dst      []byte
	x        *pipeline.Exchange
	closing  bool
	noLength bool
	bare     bool // no body may follow: the service's Content-Length stays
	visit    func(key, value []byte) bool
}

// statusLines has the whole status line of the usual statuses, by status.
var statusLines = func() (lines [600]string) {
	for code := 100; code < len(lines); code++ {
		if text := http.StatusText(code); text != "" {
			lines[code] = "HTTP/1.1 " + strconv.Itoa(code) + " " + text + "\r\n"
		}
	}
	return lines
}()

// append appends the response to r to dst, head and, unless it is a stream,
// body.
func (w *responseWriter) append(dst []byte, r *Request, closing bool) []byte {
	ctx := r.Ctx
	resp := &ctx.Response
	h := &resp.Header
	status := resp.StatusCode()
	dst = appendStatusLine(dst, status, h.StatusMessage())
	w.noLength = status == http.StatusNoContent || status < 200 // RFC 9110 section 8.6
	forbidden := status == http.StatusNoContent || status == http.StatusNotModified || status < 200
	w.bare, w.closing = forbidden || ctx.IsHead(), closing
	w.dst, w.x = dst, r.Exchange
	h.All()(w.visit)
	dst = w.x.AppendStaged(w.dst)
	w.dst, w.x = nil, nil
	stream := resp.IsBodyStream()
	var body []byte
	if !stream {
		body = resp.Body()
	}
	switch {
	case w.bare && len(body) == 0:
	case stream && h.ContentLength() < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case stream:
		dst = appendLength(dst, h.ContentLength())
	default:
		dst = appendLength(dst, len(body))
	}
	if closing {
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = append(dst, '\r', '\n')
	if !w.bare {
		dst = append(dst, body...)
	}
	return dst
}

func appendStatusLine(dst []byte, status int, message []byte) []byte {
	if status > 0 && status < len(statusLines) && statusLines[status] != "" {
		return append(dst, statusLines[status]...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, message...)
	return append(dst, '\r', '\n')
}

func appendLength(dst []byte, n int) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// field writes one field, but for those that frame the message.
func (w *responseWriter) field(key, value []byte) bool {
	switch string(key) {
	case "Content-Length":
		if !w.bare || w.noLength {
			return true
		}
	case "Transfer-Encoding":
		return true
	case "Connection": // of a reply of the gateway: the service's are removed
		if w.closing {
			return true
		}
	}
	if w.x.Staged(key) {
		return true
	}
	w.dst = append(append(append(append(w.dst, key...), ": "...), value...), '\r', '\n')
	return true
}
