package pipeline

import (
	"net"
	"time"
)

// This file is what plugins may say about how a request is delivered.

// Timeouts are those of one attempt; zero leaves the service's own.
type Timeouts struct {
	Connect, Write, Read time.Duration
}

// Destination is where requests can be sent. Immutable, safe for concurrent use.
type Destination interface {
	// Forward sends x's request and makes the answer x's response.
	Forward(x *Exchange)
	// Healthy reports whether a target is likely to take a request now.
	Healthy() bool
}

// RetryPolicy says when a request is sent again. Immutable but for its budget;
// safe for concurrent use.
type RetryPolicy struct {
	// Retries is how many attempts may follow the first.
	Retries int
	// Statuses are answers that count as failed attempts, sorted.
	Statuses []int
	// Methods may be sent again though bytes of them were sent: upper-case names.
	Methods []string
	// Keyed lets any method be sent again that has an Idempotency-Key field.
	Keyed bool
	// Timeouts says whether an attempt that timed out may be sent again.
	Timeouts bool
	// PerTry bounds one attempt up to its response header, 0 for no bound.
	PerTry time.Duration
	// BodyBytesMax is the largest request body that is kept to be sent again; a
	// request with a larger one has one attempt.
	BodyBytesMax int64
	// Wait returns how long to wait before attempt n, which is 2 or more.
	Wait func(n int) time.Duration
	// AfterMax bounds what is waited because a Retry-After field says so.
	AfterMax time.Duration
	// Budget is asked before each retry; nil for no limit.
	Budget RetryBudget
	// Counted says that the answer gets X-Retry-Count where there were retries.
	Counted bool
}

// RetryBudget bounds retries by the traffic, so that a service which fails for all
// gets no more than a share on top. Safe for concurrent use.
type RetryBudget interface {
	// Deposit counts a first attempt at now; shard spreads what many cores write.
	Deposit(shard uint64, now int64)
	// Withdraw takes one retry at now and reports whether there was one to take.
	Withdraw(now int64) bool
}

// Tunnel is the service's side of a connection that has changed its protocol.
type Tunnel struct {
	// Conn belongs to whoever runs the tunnel.
	Conn net.Conn
	// Pending was read from Conn already and goes to the client first.
	Pending []byte
	// Idle is how long both sides may be silent.
	Idle time.Duration
	// End is called once, when Conn is closed.
	End func()
}
