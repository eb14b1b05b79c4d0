package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Kind is what went wrong on the way to a service.
type Kind uint8

// Kinds of faults, each counted under its String in sluice_upstream_faults_total.
const (
	kindNone         Kind = iota
	KindConnect           // refused, reset or unreachable while connecting
	KindConnectTime       // connect_timeout passed
	KindTLS               // handshake failed or the certificate was not accepted
	KindResolve           // the target's name has no address
	KindWriteTime         // write_timeout passed
	KindReadTime          // read_timeout passed before the response header
	KindClosed            // the service closed or reset before its response header
	KindMalformed         // what came back is not an HTTP response we may pass on
	KindTooLarge          // the response body is larger than what may be buffered
	KindNoTarget          // no target to pick
	KindClientBody        // the client's body broke off or was malformed
	KindClientTooBig      // the client's body passed client_max_body_size
	KindDeadline          // the time for the whole request passed
	KindStatus            // the status is one to try again at another target
	KindUpgrade           // 101 that was not asked for, or for another protocol
	KindFull              // every target, or the service, is at its limit
	KindOpen              // the circuit is open
	KindNoneLeft          // no target to pick for another attempt
	kindCount
)

var kindNames = [kindCount]string{
	"none", "connect", "connect_timeout", "tls", "resolve", "write_timeout", "read_timeout",
	"closed", "malformed", "too_large", "no_target", "client_body", "client_body_too_large",
	"deadline", "status", "upgrade", "full", "circuit_open", "none_left",
}

// String returns the kind as it appears in metrics.
func (k Kind) String() string { return kindNames[k] }

// fault is one failed attempt. The zero value is success.
type fault struct {
	kind Kind
	// sent tells whether any byte of the request may have reached the service:
	// if not, any request may be sent again.
	sent bool
	// stale marks a kept connection that the service had closed: the attempt
	// does not count.
	stale bool
	// misnamed marks a host that the client asked for and the service has no
	// certificate for, which says nothing of the service's health.
	misnamed bool
	// slowClient marks an attempt whose time passed while the client still sent its body.
	slowClient bool
	err        error
}

// Replies of Kong, rendered once.
var (
	replyBad      = pipeline.NewFault(502, "An invalid response was received from the upstream server")
	replyTimeout  = pipeline.NewFault(504, "The upstream server is timing out")
	replyNoTarget = pipeline.NewReply(503, "failure to get a peer from the ring-balancer")
	replyNoneLeft = pipeline.NewReply(503, replyNoneLeftText)
	replyResolve  = pipeline.NewReply(503, "name resolution failed")
	replyBody     = pipeline.NewFault(400, "Bad request")
	replyTooBig   = pipeline.NewFault(413, "Payload too large")
)

const replyNoneLeftText = "The upstream server is currently unavailable"

// timeoutReplies say which limit passed, beside Kong's body.
var timeoutReplies = func() (replies [kindCount]*pipeline.Reply) {
	for kind, name := range map[Kind]string{
		KindConnectTime: "connect_timeout", KindWriteTime: "write_timeout", KindReadTime: "read_timeout", KindDeadline: "request-timeout",
	} {
		replies[kind] = replyTimeout.With("X-Upstream-Timeout", name)
	}
	return replies
}()

// reply returns what the client sees of a fault. This is the only place where
// a fault becomes a status.
func (k Kind) reply() *pipeline.Reply {
	switch k {
	case KindConnectTime, KindWriteTime, KindReadTime, KindDeadline:
		return timeoutReplies[k]
	case KindNoTarget:
		return replyNoTarget
	case KindFull, KindOpen, KindNoneLeft:
		return replyNoneLeft
	case KindResolve:
		return replyResolve
	case KindClientBody:
		return replyBody
	case KindClientTooBig:
		return replyTooBig
	}
	return replyBad
}

// client reports whether the fault is the client's: no other attempt can help.
func (k Kind) client() bool { return k == KindClientBody || k == KindClientTooBig }

// connectFault classifies an error of dialing.
func connectFault(err error) fault {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout:
		return fault{kind: KindResolve, err: err}
	case isTimeout(err):
		return fault{kind: KindConnectTime, err: err}
	}
	return fault{kind: KindConnect, err: err}
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// unknownName reports whether TLS failed over the name that was asked for.
func unknownName(err error) bool {
	var mismatch x509.HostnameError
	var op *net.OpError
	return errors.As(err, &mismatch) || refusedByTLS(err) && errors.As(err, &op) && op.Err.Error() == "tls: unrecognized name"
}

// refusedByTLS reports whether err is an alert of the other side's TLS.
func refusedByTLS(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // as crypto/tls has it, in lack of a type
}

// brokenByPeer reports whether err says that the other side went away.
func brokenByPeer(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

// Faults counts failed attempts by kind. Safe for concurrent use.
type Faults struct {
	counters [kindCount]*metrics.Counter
}

// NewFaults returns the counters of set: sluice_upstream_faults_total{kind}.
func NewFaults(set *metrics.Set) *Faults {
	f := &Faults{}
	for k := kindNone + 1; k < kindCount; k++ {
		f.counters[k] = set.GetOrCreateCounter(fmt.Sprintf("sluice_upstream_faults_total{kind=%q}", k))
	}
	return f
}

func (f *Faults) count(k Kind) { f.counters[k].Inc() }
