// Command fasthttpd answers every request with the same status, headers and body, from
// a handler of fasthttp and nothing else: what the library and the Go runtime cost
// before a gateway does anything.
//
//	fasthttpd 127.0.0.1:8000 ANSWER_FILE        (the file is an HTTP/1.1 answer, head and body)
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"

	"github.com/valyala/fasthttp"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fasthttpd ADDRESS ANSWER_FILE")
		os.Exit(64)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "fasthttpd:", err)
		os.Exit(1)
	}
}

func serve(address, answerPath string) error {
	raw, err := os.ReadFile(answerPath)
	if err != nil {
		return err
	}
	s, err := newServer(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", answerPath, err)
	}
	return s.ListenAndServe(address)
}

// newServer returns a server that gives the answer raw, but for the date and the order
// of the headers, which are fasthttp's. Its settings are fasthttp's defaults.
func newServer(raw []byte) (*fasthttp.Server, error) {
	var answer fasthttp.Response
	if err := answer.Read(bufio.NewReader(bytes.NewReader(raw))); err != nil {
		return nil, err
	}
	status, body, contentType := answer.StatusCode(), answer.Body(), answer.Header.ContentType()
	return &fasthttp.Server{
		Name: string(answer.Header.Server()),
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetStatusCode(status)
			ctx.SetContentTypeBytes(contentType)
			// fasthttp leaves it out where HTTP/1.1 implies it; the service does not.
			ctx.Response.Header.Set(fasthttp.HeaderConnection, "keep-alive")
			ctx.Response.SetBodyRaw(body)
		},
	}, nil
}
