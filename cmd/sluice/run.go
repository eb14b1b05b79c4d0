package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// runOptions are what serving needs beside a document.
type runOptions struct {
	noWatch      bool
	drainDelay   time.Duration
	drainTimeout time.Duration
	bodyBytesMax int
	dial         func(ctx context.Context, address string) (net.Conn, error) // see engine.Options; nil outside of trials
}

const drainTimeoutDefault = 10 * time.Second

func newRun() *cobra.Command {
	var (
		doc documentFlags
		o   runOptions
	)
	cmd := &cobra.Command{
		Use:     "run [-c FILE]...",
		Aliases: []string{"start"},
		Short:   "Serve a document",
		Long: `Serves a document until TERM or INT, and then lets the requests under way finish;
a second signal cuts them. HUP reads the files again, USR1 opens log files again.
A file that changes is read by itself. What is wrong with a new document is
logged, and the old one stays.

GOMAXPROCS and GOMEMLIMIT work as in any Go program.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return failed(run(cmd.ErrOrStderr(), &source{read: doc.read, files: doc.watched(), options: doc.options()}, &o, nil))
		},
	}
	doc.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&o.noWatch, "no-watch", false, "do not reload when a file changes")
	fl.DurationVar(&o.drainTimeout, "drain-timeout", drainTimeoutDefault, "how long requests under way may take after a signal to stop")
	fl.DurationVar(&o.drainDelay, "drain-delay", 0, "how long to go on accepting after a signal to stop, not ready, so that load balancers notice")
	fl.IntVar(&o.bodyBytesMax, "admin-body-max", 0, "largest document POST /config takes, in bytes (default 256 MiB)")
	return cmd
}

// source is where the document of a gateway comes from, now and later.
type source struct {
	read    func() (*config.Document, error)
	files   []string // that may change
	options config.Options
}

// gateway is everything of one process that serves.
type gateway struct {
	control *control
	proxy   []net.Addr
	admin   *listeners
	status  *listeners
	quit    chan struct{}
}

// run serves src until a signal says to stop. ready, if not nil, is called once
// all sockets are open.
func run(stderr io.Writer, src *source, o *runOptions, ready func(*gateway)) error {
	d, err := src.read()
	if err != nil {
		return err
	}
	// Signals count from here on: one that comes while sockets open is not lost.
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, signals...)
	defer signal.Stop(caught)
	g, err := open(stderr, d, src, o)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stderr, "sluice %s ready: proxy=%s status=%s admin=%s\n",
		buildVersion(), addresses(g.proxy), addresses(g.status.addrs()), addresses(g.admin.addrs()))
	if ready != nil {
		ready(g)
	}
	for s := range caught {
		switch s {
		case signalReload:
			_ = g.control.reload("signal " + s.String()) // reported there
		case signalReopen:
			g.control.log.Info("opening log files again")
			g.control.Reopen()
		default:
			g.control.log.Info("stopping", "by", "signal "+s.String(), "timeout", o.drainTimeout)
			g.drain(caught, o)
			return nil
		}
	}
	return nil
}

// open starts a gateway for d. On error nothing is left open.
func open(stderr io.Writer, d *config.Document, src *source, o *runOptions) (*gateway, error) {
	gw := &d.Gateway
	if len(gw.ProxyListen)+len(gw.AdminListen)+len(gw.StatusListen) == 0 {
		return nil, errNoListener
	}
	log, level := newLog(stderr)
	adminAt, err := listenOn("admin_listen", gw.AdminListen, certificates{"admin_ssl_cert", gw.AdminSSLCert, gw.AdminSSLCertKey})
	if err != nil {
		return nil, err
	}
	statusAt, err := listenOn("status_listen", gw.StatusListen, certificates{"status_ssl_cert", gw.StatusSSLCert, gw.StatusSSLCertKey})
	if err != nil {
		adminAt.close()
		return nil, err
	}
	fail := func(e *engine.Engine, err error) (*gateway, error) {
		adminAt.close()
		statusAt.close()
		if e != nil {
			_ = e.Shutdown(context.Background()) // nothing was served
		}
		return nil, err
	}
	c := &control{log: log, level: level, told: map[string]bool{}}
	api := newAPI(c, src, o)
	e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Version: buildVersion(), Log: log, Builtin: builtin(api), Dial: o.dial})
	if err != nil {
		return fail(nil, err)
	}
	c.Engine, c.loader = e, engine.NewLoader(e, src.files, src.read)
	c.follow(d)
	g := &gateway{control: c, admin: adminAt, status: statusAt, quit: make(chan struct{})}
	if g.proxy, err = e.Listen(); err != nil {
		return fail(e, err)
	}
	if !o.noWatch && len(src.files) > 0 {
		if err := c.loader.Watch(g.quit, func(err error) { c.report("a changed file", err) }); err != nil {
			log.Warn("changes of the files will not be noticed", "error", err)
		}
		go warnMissing(log, src.files, g.quit)
	}
	failed := func(err error) { log.Error("listener failed", "error", err) }
	adminAt.serve(api.AdminServer(), failed)
	statusAt.serve(api.StatusServer(), failed)
	return g, nil
}

// newAPI returns what answers on the Admin and status listeners. It is asked
// only once c has its Engine.
func newAPI(c *control, src *source, o *runOptions) *admin.API {
	names := make([]string, len(plugin.All.All))
	for i := range plugin.All.All {
		names[i] = plugin.All.All[i].Name
	}
	files := slices.Clone(src.files)
	for i, f := range files {
		if absolute, err := filepath.Abs(f); err == nil { // who asks may stand elsewhere
			files[i] = absolute
		}
	}
	return admin.New(admin.Options{
		Gateway: c, Configurer: c, Observer: c, Fleet: c, Caches: c, Reading: src.options, Files: files,
		Plugins: names, Version: buildVersion(), BodyBytesMax: o.bodyBytesMax,
	})
}

// builtin are the services a gateway has itself, for routes that lead to them.
func builtin(api *admin.API) map[string]func(*fasthttp.RequestCtx) {
	return map[string]func(*fasthttp.RequestCtx){
		"prometheus-service": api.Metrics, "kong-status-service": api.Status,
	}
}

// drain stops a gateway: not ready at once, after the delay no more
// connections, and at the timeout, or at another signal, no more requests.
func (g *gateway) drain(caught <-chan os.Signal, o *runOptions) {
	g.control.draining.Store(true)
	close(g.quit)
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-caught:
				if s != signalReload && s != signalReopen {
					g.control.log.Warn("cutting what is left", "by", "signal "+s.String())
					cut()
					return
				}
			case <-done:
				return
			}
		}
	}()
	select {
	case <-time.After(o.drainDelay):
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, o.drainTimeout)
	defer cancel()
	err := shutdown(ctx, g.control)
	// Status and Admin go last: readiness is asked for until the end.
	if e := errors.Join(g.status.shutdown(ctx), g.admin.shutdown(ctx)); e != nil && !errors.Is(e, context.DeadlineExceeded) && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	if err != nil {
		logFaults(g.control.log, slog.LevelWarn, err)
	}
	g.control.log.Info("stopped")
}

// cutGrace is how long cutting may take before the process ends regardless.
const cutGrace = 2 * time.Second

var errStuck = errors.New("requests under way could not be cut in time")

// shutdown closes the gateway, and returns soon after ctx is done whatever hangs.
func shutdown(ctx context.Context, c *control) error {
	done := make(chan error, 1)
	go func() { done <- c.Shutdown(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(cutGrace):
		return errStuck
	}
}
