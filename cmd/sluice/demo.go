package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
	"github.com/sluice-gateway/sluice/examples"
)

// demoEcho is where documents of the demo expect the echo service.
const demoEcho = "127.0.0.1:9999"

func newDemo() *cobra.Command {
	var (
		files              []string
		document, echoOnly bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve an example on this machine, with requests to try",
		Long: `Starts an echo service and a gateway with a small document on loopback, prints
requests to try, and serves until ^C. Ports that are taken are replaced by free
ones. With -c it serves another document, in which ` + demoEcho + ` is the echo service.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case document && echoOnly:
				return fmt.Errorf("--document and --echo-only exclude each other")
			case document:
				_, err := cmd.OutOrStdout().Write(examples.Quickstart)
				return failed(err)
			case echoOnly:
				return failed(serveEcho(cmd.OutOrStdout()))
			}
			return failed(demo(cmd.OutOrStdout(), cmd.ErrOrStderr(), files))
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&files, "config", "c", nil, "document to serve instead of the example; may be repeated")
	fl.BoolVar(&document, "document", false, "print the example and exit")
	fl.BoolVar(&echoOnly, "echo-only", false, "run the echo service alone, on "+demoEcho)
	return cmd
}

// demo serves files, or the example, and the echo service they lead to.
func demo(stdout, stderr io.Writer, files []string) error {
	echo, err := listenNear(demoEcho)
	if err != nil {
		return err
	}
	server := newEcho()
	go func() {
		if err := server.Serve(echo); err != nil {
			_, _ = fmt.Fprintln(stderr, "sluice: echo service:", err)
		}
	}()
	defer func() { _ = server.Shutdown() }()
	ports, err := demoPorts()
	if err != nil {
		return err
	}
	o := config.Options{Catalog: plugin.All, Env: func(name string) (string, bool) {
		if value, ok := os.LookupEnv(name); ok {
			return value, true
		}
		value, ok := ports[name]
		return value, ok
	}}
	src := &source{options: o, files: files, read: func() (*config.Document, error) {
		sources, err := demoSources(files, echo.Addr().String())
		if err != nil {
			return nil, err
		}
		return config.Read(sources, o)
	}}
	return run(stderr, src, &runOptions{drainTimeout: drainTimeoutDefault}, func(g *gateway) {
		if len(files) > 0 {
			_, _ = fmt.Fprintf(stdout, "The echo service is at http://%s, the gateway at http://%s.\n", echo.Addr(), addresses(g.proxy))
		}
		_, _ = io.WriteString(stdout, tryThese(g, files))
	})
}

// demoSources are the documents with the address the echo service has.
func demoSources(files []string, echo string) ([]config.Source, error) {
	point := func(data []byte) []byte { return bytes.ReplaceAll(data, []byte(demoEcho), []byte(echo)) }
	if len(files) == 0 {
		return []config.Source{{Name: "quickstart.yaml", Data: point(examples.Quickstart)}}, nil
	}
	sources := make([]config.Source, len(files))
	for i, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		sources[i] = config.Source{Name: file, Data: point(data)}
	}
	return sources, nil
}

// listenNear listens on address or, where that is taken, on any port of its host.
func listenNear(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	host, _, _ := net.SplitHostPort(address)
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// demoPorts are the listeners of the demo as the environment would give them:
// on loopback, and on free ports where the usual ones are taken.
func demoPorts() (map[string]string, error) {
	ports := map[string]string{}
	for _, p := range []struct{ name, address string }{
		{"SLUICE_PROXY_LISTEN", "127.0.0.1:8000"}, {"SLUICE_ADMIN_LISTEN", "127.0.0.1:8001"}, {"SLUICE_STATUS_LISTEN", "127.0.0.1:8007"},
	} {
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			// Port 0: the gateway's own listener picks, so nobody can come between.
			ports[p.name] = "127.0.0.1:0"
			continue
		}
		ports[p.name] = p.address
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// serveEcho runs the echo service until a signal to stop.
func serveEcho(stdout io.Writer) error {
	l, err := net.Listen("tcp", demoEcho)
	if err != nil {
		return err
	}
	s := newEcho()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, signals...)
	defer signal.Stop(caught)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	_, _ = fmt.Fprintf(stdout, "The echo service is at http://%s.\n", l.Addr())
	for {
		select {
		case err := <-done:
			return err
		case sig := <-caught:
			if sig != signalReload && sig != signalReopen {
				return s.Shutdown()
			}
		}
	}
}

// newEcho returns a service that answers every request with what it was.
func newEcho() *fasthttp.Server {
	return &fasthttp.Server{Handler: echo, Name: "sluice-echo", CloseOnShutdown: true, Logger: quiet{}}
}

type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(string, ...any) {}

func echo(ctx *fasthttp.RequestCtx) {
	headers := map[string][]string{}
	for name, value := range ctx.Request.Header.All() {
		headers[string(name)] = append(headers[string(name)], string(value))
	}
	body, err := json.MarshalIndent(map[string]any{
		"method": string(ctx.Method()), "path": string(ctx.URI().PathOriginal()), "query": string(ctx.URI().QueryString()),
		"headers": headers, "body_bytes": len(ctx.PostBody()),
	}, "", "  ")
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(append(body, '\n'))
}
